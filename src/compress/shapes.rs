//! Shapes that a graph works out while it runs, written down where they are the same each time.
//!
//! Exporters read sizes off activations and put the targets of Reshapes together from them. Such a graph says the same as
//! one with numbers, but nobody can see that a target holds a number of heads.

use crate::Result;
use crate::model::clean::remove_dead;
use crate::model::{Facts, Graph};
use crate::onnx::Model;
use crate::tensor::Tensor;

/// Integer operands that say sizes or places: operator and input.
const OPERANDS: [(&str, usize); 6] = [("Reshape", 1), ("Expand", 1), ("Slice", 1), ("Slice", 2), ("Split", 1), ("Resize", 3)];

/// Writes down what does not depend on the number of samples; of a Reshape's target one entry may, which becomes −1.
/// Returns how many operands were written.
pub(super) fn write_down(model: &mut Model) -> Result<usize> {
    let open = operands(&Graph::new(model));
    if open.is_empty() {
        return Ok(0);
    }
    let (one, two) = (Facts::infer(model, 1)?, Facts::infer(model, 2));
    // A batch that the file fixes is the only one there is.
    let other = two.as_ref().unwrap_or(&one);
    let mut written = 0;
    for (node, input) in open {
        let name = model.graph().node[node].input[input].clone();
        let values = |f: &Facts| f.value(&name).and_then(|v| Some((v.as_i64().ok()?.to_vec(), v.shape().len())));
        let (Some((mut value, 1)), Some((same, 1))) = (values(&one), values(other)) else { continue };
        let varies: Vec<usize> = (0..value.len().min(same.len())).filter(|&i| value[i] != same[i]).collect();
        match varies.as_slice() {
            _ if value.len() != same.len() => continue,
            [] => {}
            [entry] if model.graph().node[node].op_type() == "Reshape" && value.iter().all(|&v| v > 0) => value[*entry] = -1,
            _ => continue,
        }
        let name = model.add_initializer(&format!("{name}__value"), &Tensor::i64s(value));
        model.graph_mut().node[node].input[input] = name;
        written += 1;
    }
    if written > 0 {
        remove_dead(model);
    }
    Ok(written)
}

/// Those that no constant gives.
fn operands(graph: &Graph<'_>) -> Vec<(usize, usize)> {
    let nodes = graph.nodes().iter().enumerate();
    nodes
        .flat_map(|(index, node)| {
            let open = |(op, input): &&(&str, usize)| {
                node.op_type() == *op && node.input.get(*input).is_some_and(|name| !name.is_empty() && !graph.is_constant(name))
            };
            OPERANDS.iter().filter(open).map(move |&(_, input)| (index, input)).collect::<Vec<_>>()
        })
        .collect()
}
