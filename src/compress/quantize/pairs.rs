//! QuantizeLinear → DequantizeLinear behind the tensors that are quantized.

use super::placement::Placement;
use crate::Result;
use crate::model::{Graph, Quantized};
use crate::onnx::{Model, pb};
use crate::tensor::{Data, Tensor};
use std::collections::HashMap;

/// Puts a pair behind each site of `placement`, with its group's code, and takes away the activations that saturation stands for.
pub(super) fn insert(model: &mut Model, placement: &Placement, codes: &[Quantized]) -> Result<()> {
    let mut numbers: HashMap<usize, [String; 2]> = HashMap::new();
    let mut behind: HashMap<Option<usize>, Vec<pb::NodeProto>> = HashMap::new();
    for site in &placement.sites {
        let stem = &site.tensor;
        let [scale, zero] = match numbers.get(&site.group) {
            Some(names) => names.clone(),
            None => {
                let [scale, zero] = constants(&codes[site.group])?;
                let names = [("scale", scale), ("zero", zero)].map(|(end, t)| model.add_initializer(&format!("{stem}__{end}"), &t));
                numbers.entry(site.group).or_insert(names).clone()
            }
        };
        let source = site.activation.map_or_else(|| stem.clone(), |a| model.graph().node[a].input[0].clone());
        let quantized = model.free_name(&format!("{stem}__quantized"));
        let given = model.free_name(&format!("{stem}__dequantized"));
        let place = Graph::new(model).producer(&source);
        for u in &site.readers {
            model.graph_mut().node[u.node].input[u.input].clone_from(&given);
        }
        let node = |op: &str, end: &str, input: &str, output: &str| {
            let mut node = pb::NodeProto::new();
            node.set_op_type(op.into());
            node.set_name(format!("{stem}__{end}"));
            node.input = vec![input.to_owned(), scale.clone(), zero.clone()];
            node.output = vec![output.to_owned()];
            node
        };
        behind
            .entry(place)
            .or_default()
            .extend([node("QuantizeLinear", "quantize", &source, &quantized), node("DequantizeLinear", "dequantize", &quantized, &given)]);
    }
    let gone = |index: usize| placement.sites.iter().any(|s| s.activation == Some(index));
    let nodes = std::mem::take(&mut model.graph_mut().node);
    let mut made = behind.remove(&None).unwrap_or_default();
    for (index, node) in nodes.into_iter().enumerate() {
        if !gone(index) {
            made.push(node);
        }
        made.extend(behind.remove(&Some(index)).unwrap_or_default());
    }
    model.graph_mut().node = made;
    Ok(())
}

/// Scale and zero point of a whole tensor.
fn constants(code: &Quantized) -> Result<[Tensor; 2]> {
    let zeros = code.zero_points().iter().map(|&z| z as u8).collect();
    Ok([Tensor::f32([], code.scales().to_vec())?, Tensor::new(Vec::new(), Data::U8(zeros))?])
}
