//! Multiply–adds against tract's own cost model, shapes against ONNX's.

use crate::support::{model, repository};
use crate::zoo;
use joulefront::engine::{LoadOptions, Source, cost};
use joulefront::model::{Facts, Graph, layers};
use joulefront::onnx::Model;

const SHIPPED: [&str; 6] = ["fashion-resnet8", "fashion-resnet8-bn", "fashion-dscnn", "fashion-mlp", "fashion-vit", "cifar-resnet8"];

fn shipped() -> impl Iterator<Item = (String, Model)> {
    SHIPPED.into_iter().map(|n| (n.to_owned(), Model::load(model(n)).unwrap()))
}

/// tract renames, merges and splits nodes, but what it counts per layer must be there in the same numbers.
#[test]
fn multiply_adds_of_each_layer_are_tracts() {
    for (name, model) in shipped().chain(zoo::all().into_iter().map(|a| (a.name.to_owned(), a.model))) {
        let facts = Facts::infer(&model, 1).unwrap();
        let mut ours: Vec<u64> =
            layers(&Graph::new(&model), &facts).unwrap().iter().map(|l| l.macs.clone().unwrap()).filter(|&n| n > 0).collect();
        let bytes = model.to_bytes().unwrap();
        let products = ["Conv", "EinSum", "MatMul", "DepthWiseConv"];
        let nodes = cost(Source::Bytes(&bytes), &LoadOptions::default()).unwrap();
        let mut theirs: Vec<u64> = nodes.iter().filter(|n| products.iter().any(|p| n.op.contains(p))).map(|n| n.macs).collect();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs, "{name}: {nodes:?}");
    }
}

/// `tests/fixtures/scripts/shapes.py` wrote what ONNX Runtime computes for batches of 1 and 3.
#[test]
fn every_tensor_of_the_shipped_models_has_the_shape_that_onnx_runtime_computes() {
    let text = std::fs::read_to_string(repository("tests/fixtures/shapes.json")).unwrap();
    let fixture: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (name, model) in shipped() {
        for batch in [1, 3] {
            let facts = Facts::infer(&model, batch).unwrap();
            assert!(facts.unknown().is_empty(), "{name}: {:?}", facts.unknown());
            let expected = fixture[&name][batch.to_string()].as_object().unwrap();
            assert!(expected.len() >= model.graph().node.iter().filter(|n| n.op_type() != "Constant").count());
            for (tensor, shape) in expected {
                let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
                assert_eq!(facts.shape(tensor), Some(shape.as_slice()), "{name}, batch {batch}: `{tensor}`");
            }
        }
    }
}
