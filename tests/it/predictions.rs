//! tract's predictions through our runner are ONNX Runtime's on every image of the test set.

use crate::support::{Judged, all_scores, model, repository, synthetic};
use joulefront::data::Dataset;
use joulefront::engine::{LoadOptions, Predict};
use joulefront::runner::Program;
use joulefront::stats::top_classes;
use joulefront::tensor::Tensor;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

fn predicted(name: &str, count: usize, inputs: &(dyn Fn(Range<usize>) -> joulefront::Result<Vec<Tensor>> + Sync)) -> Vec<f32> {
    let cancel = AtomicBool::new(false);
    let what = Predict {
        model: model(name),
        engine: "tract".into(),
        options: LoadOptions::default(),
        count,
        workers: 0,
        timeout: Duration::from_secs(600),
        cancel: &cancel,
    };
    all_scores(&Program::at(env!("CARGO_BIN_EXE_joulefront")), &what, inputs).unwrap()
}

fn agree(name: &str, scores: &[f32]) {
    let judged = Judged::load(name);
    let top = top_classes(scores, 10).unwrap();
    assert_eq!(top.len(), judged.predicted.len());
    judged.assert_same_classes(&top, 1e-4);
    judged.assert_close_logits(&scores[..160], 1e-3);
}

#[test]
fn fashion_models_on_all_10000_test_images() {
    let test = Dataset::open(repository("models/fashion-mnist")).unwrap().split("test").unwrap();
    assert_eq!(test.len(), 10_000);
    for name in ["fashion-resnet8", "fashion-resnet8-bn", "fashion-dscnn", "fashion-mlp", "fashion-vit"] {
        agree(name, &predicted(name, test.len(), &|range| Ok(vec![test.batch(range)?])));
    }
}

#[test]
fn cifar_resnet8_on_synthetic_inputs() {
    let inputs = synthetic();
    let each = 3 * 32 * 32;
    let batch = |r: Range<usize>| Ok(vec![Tensor::f32([r.len(), 3, 32, 32], inputs[r.start * each..r.end * each].to_vec())?]);
    agree("cifar-resnet8", &predicted("cifar-resnet8", inputs.len() / each, &batch));
}
