//! Accuracy that compression must keep on the shipped models: 4,000 validation images, 512 calibration images.

use crate::pruning::run;
use crate::support::{calibration, model, repository};
use joulefront::compress::Calibration;
use joulefront::data::{Dataset, Split};
use joulefront::make::make;
use joulefront::onnx::Model;
use joulefront::recipe::{Recipe, Step};
use joulefront::stats::top_classes;

fn accuracy(name: &str, step: Option<Step>, samples: &Calibration, split: &Split) -> f64 {
    let bytes = std::fs::read(model(name)).unwrap();
    let original = Model::from_bytes(&bytes, name).unwrap();
    let variant = make(&original, &bytes, &Recipe { steps: step.into_iter().collect() }, Some(samples)).unwrap();
    let scores = run(&Model::from_bytes(&variant.bytes, name).unwrap(), &split.batch(0..split.len()).unwrap());
    let right = top_classes(&scores, 10).unwrap().iter().zip(split.labels().unwrap()).filter(|(a, b)| a == b).count();
    right as f64 / split.len() as f64
}

#[test]
fn accuracy_stays_above_its_floors() {
    let split = Dataset::open(repository("models/fashion-mnist")).unwrap().split("validation").unwrap();
    let samples = calibration(512);
    let channels = |macs| Some(Step::PruneChannels { macs: Some(macs), channels: None, round_to: 4 });
    let connections = Some(Step::prune_connections(0.5));
    let bits = |weight_bits| Some(Step::quantize_weights(weight_bits));
    let cases = [
        ("fashion-resnet8", channels(0.3), 0.905),
        ("fashion-resnet8", channels(0.5), 0.885),
        ("fashion-resnet8", connections, 0.91),
        ("fashion-resnet8", bits(8), 0.918),
        ("fashion-resnet8", bits(4), 0.885),
        ("fashion-dscnn", channels(0.3), 0.9),
    ];
    let mut low = Vec::new();
    for (name, step, floor) in cases {
        let what = format!("{name}, {}", step.as_ref().map_or("original".into(), Step::to_string));
        let reached = accuracy(name, step, &samples, &split);
        if reached < floor {
            low.push(format!("{what}: {reached} instead of at least {floor}"));
        }
    }
    assert!(low.is_empty(), "{low:#?}");
}

#[test]
fn eight_bits_cost_next_to_nothing() {
    let split = Dataset::open(repository("models/fashion-mnist")).unwrap().split("validation").unwrap();
    let samples = calibration(128);
    for name in ["fashion-resnet8", "fashion-resnet8-bn", "fashion-dscnn", "fashion-mlp", "fashion-vit"] {
        let before = accuracy(name, None, &samples, &split);
        for step in [Step::quantize_weights(8), Step::quantize_all()] {
            let what = step.to_string();
            let after = accuracy(name, Some(step), &samples, &split);
            assert!(after >= before - 0.003, "{name}, {what}: {before} became {after}");
        }
    }
}
