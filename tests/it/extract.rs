//! Parts of a graph as models of their own, run beside the whole.

use crate::support::{model, uniform};
use crate::zoo::{Build, creatures};
use joulefront::exec::Executor;
use joulefront::model::{Dims, Facts, Graph, extract, fused, layers};
use joulefront::onnx::{Model, tensor_to_proto};
use joulefront::tensor::Tensor;

/// The models that ship, by name.
pub(crate) const SHIPPED: [&str; 6] =
    ["cifar-resnet8", "fashion-dscnn", "fashion-mlp", "fashion-resnet8", "fashion-resnet8-bn", "fashion-vit"];

/// Runs `part` on tensors of the whole, and fails unless it gives the whole's tensors bit for bit.
#[track_caller]
fn assert_gives_the_same(whole: &Executor, feeds: &[(&str, &Tensor)], part: &Model, what: &str) {
    let (inputs, outputs): (Vec<&str>, Vec<&str>) =
        (part.graph().input.iter().map(|i| i.name()).collect(), part.graph().output.iter().map(|o| o.name()).collect());
    let fed = |name: &str| feeds.iter().find(|(n, _)| *n == name).map(|(_, t)| (*t).clone());
    let inner: Vec<&str> = inputs.iter().copied().filter(|name| fed(name).is_none()).chain(outputs.iter().copied()).collect();
    let expect = whole.run(feeds, &inner).unwrap_or_else(|e| panic!("{what}: the whole: {e}"));
    let given: Vec<Tensor> = inputs.iter().map(|name| fed(name).unwrap_or_else(|| expect[*name].clone())).collect();
    for (input, t) in part.graph().input.iter().zip(&given) {
        let stated: Vec<i64> = input.type_.tensor_type.shape.dim.iter().map(|d| d.dim_value()).collect();
        assert_eq!(stated, t.shape().iter().map(|&d| d as i64).collect::<Vec<_>>(), "{what}: input `{}`", input.name());
    }
    let given: Vec<(&str, &Tensor)> = inputs.into_iter().zip(&given).collect();
    let again = Model::from_bytes(&part.to_bytes().unwrap(), what).unwrap();
    let got = Executor::new(&again).unwrap().run(&given, &outputs).unwrap_or_else(|e| panic!("{what}: the part: {e}"));
    for name in outputs {
        // As bytes: a NaN is the same as itself.
        assert!(tensor_to_proto("", &got[name]) == tensor_to_proto("", &expect[name]), "{what}: `{name}` differs");
    }
}

#[test]
fn every_layer_of_every_shipped_model_gives_the_whole_models_tensor() {
    for name in SHIPPED {
        let whole = Model::load(model(name)).unwrap();
        let facts = Facts::infer(&whole, 3).unwrap();
        let graph = Graph::new(&whole);
        let input = graph.inputs().next().unwrap().name();
        let shape = facts.shape(input).unwrap();
        let x = Tensor::f32(shape.to_vec(), uniform(shape.iter().product())).unwrap();
        let executor = Executor::new(&whole).unwrap();
        let found = layers(&graph, &facts).unwrap();
        assert!(found.len() >= 3, "{name}");
        for layer in found {
            let nodes = fused(&graph, layer.node.unwrap());
            let part = extract(&whole, &facts, nodes.iter().copied()).unwrap();
            let what = format!("{name}, {}", layer.name);
            assert_eq!(part.graph().input.len(), if layer.weight.is_some() { 1 } else { 2 }, "{what}");
            assert_gives_the_same(&executor, &[(input, &x)], &part, &what);
        }
        // A range that is no layer: everything but the first node.
        let rest = extract(&whole, &facts, 1..graph.nodes().len()).unwrap();
        assert_gives_the_same(&executor, &[(input, &x)], &rest, name);
    }
}

/// Every node of the zoo, with what runs in one go with it: bodies, functions, sparse and packed constants, integers.
#[test]
fn parts_of_the_zoo_give_the_wholes_tensors() {
    let (mut ran, mut refused) = (0, Vec::new());
    for creature in creatures() {
        let Ok(whole) = Model::from_bytes(&creature.bytes, creature.name) else { continue };
        let shape = |t: &Tensor| t.shape().iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let dims = creature.inputs.iter().filter(|(_, t)| !t.shape().is_empty());
        let dims = dims.fold(Dims::batch(1), |dims, (name, t)| dims.with(format!("{name}={}", shape(t)).parse().unwrap()));
        let facts = Facts::infer_with(&whole, &dims).unwrap_or_else(|e| panic!("{}: {e}", creature.name));
        let graph = Graph::new(&whole);
        let executor = Executor::new(&whole).unwrap();
        let feeds: Vec<(&str, &Tensor)> = creature.inputs.iter().map(|(name, t)| (name.as_str(), t)).collect();
        for node in 0..graph.nodes().len() {
            let what = format!("{}, {}", creature.name, graph.label(node));
            match extract(&whole, &facts, fused(&graph, node)) {
                Ok(part) => {
                    assert_gives_the_same(&executor, &feeds, &part, &what);
                    ran += 1;
                }
                Err(e) => refused.push(format!("{what}: {e}")),
            }
        }
    }
    let unexplained: Vec<&String> =
        refused.iter().filter(|e| !e.contains("is not known") && !e.contains("give nothing that depends on data")).collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    assert!(ran > 500 && refused.len() < ran / 2, "{ran} ran, {} were refused", refused.len());
}

#[test]
fn what_is_missing_is_named() {
    let whole = Model::load(model("fashion-mlp")).unwrap();
    let facts = Facts::infer(&whole, 1).unwrap();
    let refused = |facts: &Facts, nodes: &[usize]| extract(&whole, facts, nodes.iter().copied()).unwrap_err().to_string();
    assert_eq!(refused(&facts, &[2, 6]), "there is no node 6 to extract: the graph has 6");
    assert!(refused(&facts, &[]).contains("give nothing"), "{}", refused(&facts, &[]));
    let nothing = refused(&Facts::default(), &[1]);
    assert!(nothing.starts_with("the shape of `/f/f.0/Flatten_output_0`, which is read by `/f/f.1/Gemm`, is not known"), "{nothing}");
}

#[test]
fn what_runs_in_one_go_stops_where_others_read() {
    let mut b = Build::new(13, &[4, 8, 8]);
    let conv = b.conv("x", 4, 4, 1);
    let normal = b.batch_norm(&conv, 4);
    let relu = b.relu(&normal);
    let half = b.scalar(0.5);
    let scaled = b.node("Mul", &[&half, &relu], &[]);
    let sum = b.node("Add", &[&scaled, &relu], &[]);
    let whole = b.head(&sum, 4);
    let graph = Graph::new(&whole);
    let operators = |nodes: Vec<usize>| nodes.iter().map(|&n| graph.node(n).op_type().to_owned()).collect::<Vec<_>>().join(" ");
    let at = |op: &str| graph.nodes().iter().position(|n| n.op_type() == op).unwrap();
    // The activation has two readers; a sum of two activations belongs to neither.
    assert_eq!(operators(fused(&graph, at("Conv"))), "Conv BatchNormalization Relu");
    assert_eq!(operators(fused(&graph, at("Mul"))), "Mul");
}
