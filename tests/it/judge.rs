//! Variants before the judge: `onnx.checker`, ONNX Runtime, and, where there is no judge, our own reference execution.

use crate::pruning::{distance, run};
use crate::support::{calibration, judge_python, model, repository};
use joulefront::compress::{
    Amount, ChannelShare, Factorization, Pruned, Quantization, Sparsity, cut_channels, factorize, prune_connections, quantize,
    quantize_weights,
};
use joulefront::data::Dataset;
use joulefront::engine::{LoadOptions, Source, by_name};
use joulefront::onnx::Model;
use joulefront::recipe::{Distribution, FactorForm, Pattern, PruneMethod, WeightGranularity};
use joulefront::stats::top_classes;
use joulefront::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

const FASHION: [&str; 5] = ["fashion-resnet8", "fashion-resnet8-bn", "fashion-dscnn", "fashion-mlp", "fashion-vit"];

fn test_images(count: usize) -> Tensor {
    Dataset::open(repository("models/fashion-mnist")).unwrap().split("test").unwrap().batch(0..count).unwrap()
}

/// What `judge_pairs.py` says of the models in `folder`; `None` where there is no judge.
fn judge(folder: &Path, x: &Tensor) -> Option<serde_json::Value> {
    let mut python = judge_python()?;
    std::fs::write(folder.join("x.f32"), x.as_f32().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    let output = python.arg(repository("tests/fixtures/scripts/judge_pairs.py")).arg(folder).arg("1,28,28").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Structurally pruned and repaired variants against the full-size graph that carries their weights.
#[test]
fn pruned_variants_equal_the_full_graph_with_channels_zeroed() {
    let folder = tempfile::tempdir().unwrap();
    let (samples, x) = (calibration(128), test_images(64));
    for name in FASHION {
        let original = Model::load(model(name)).unwrap();
        for share in [0.3, 0.5] {
            let pruned: Pruned = cut_channels(&original, ChannelShare::OfMacs(share), 4, Some(&samples)).unwrap();
            let embedded = pruned.embedded().unwrap();
            let far = distance(&run(&pruned.model, &x), &run(&embedded, &x));
            assert!(far <= 1e-4, "{name} at {share}: {far}");
            let file = |end: &str| folder.path().join(format!("{name}-{share}.{end}.onnx"));
            pruned.model.save(file("small")).unwrap();
            embedded.save(file("full")).unwrap();
        }
    }
    let Some(verdict) = judge(folder.path(), &x) else { return };
    let pairs: BTreeMap<String, f64> = serde_json::from_value(verdict["pairs"].clone()).unwrap();
    assert_eq!(pairs.len(), 2 * FASHION.len());
    assert!(pairs.values().all(|&far| far <= 1e-4), "{pairs:?}");
}

/// Classes as tract, the engine that ships, predicts them.
fn tract_classes(bytes: &[u8], x: &Tensor) -> Vec<u32> {
    let batch = 100;
    let options = LoadOptions { batch, ..LoadOptions::default() };
    let mut session = by_name("tract").unwrap().load(Source::Bytes(bytes), &options).unwrap();
    let size = x.len() / x.shape()[0];
    let chunks = x.as_f32().unwrap().chunks_exact(batch * size);
    let logits = chunks.flat_map(|part| {
        let part = Tensor::f32([batch, 1, 28, 28], part.to_vec()).unwrap();
        session.infer(&[part]).unwrap()[0].as_f32().unwrap().to_vec()
    });
    top_classes(&logits.collect::<Vec<_>>(), 10).unwrap()
}

#[test]
fn quantized_and_sparse_variants_are_the_same_model_to_tract_and_onnx_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let x = test_images(1000);
    let load = |name: &str| Model::load(model(name)).unwrap();
    let mut variants: Vec<(String, Model)> =
        (2..=8).map(|bits| (format!("resnet8-w{bits}"), quantize_weights(&load("fashion-resnet8"), bits).unwrap().0)).collect();
    for name in ["fashion-resnet8-bn", "fashion-dscnn", "fashion-mlp", "fashion-vit"] {
        variants.push((format!("{name}-w4"), quantize_weights(&load(name), 4).unwrap().0));
    }
    for (how, word) in [(Distribution::Global, "global"), (Distribution::PerLayer, "per-layer")] {
        let half = Sparsity { amount: Amount::Share(0.5, how), method: PruneMethod::Magnitude };
        let (sparse, _) = prune_connections(&load("fashion-resnet8"), &half, Some(&calibration(64))).unwrap();
        variants.push((format!("resnet8-half-w8-{word}"), quantize_weights(&sparse, 8).unwrap().0));
        variants.push((format!("resnet8-half-{word}"), sparse));
    }
    let samples = calibration(64);
    let how = Quantization { weight_bits: 3, granularity: WeightGranularity::Channel, activations: None, fit: Some(&samples) };
    variants.push(("dscnn-fitted-w3".into(), quantize(&load("fashion-dscnn"), &how).unwrap().0));
    let pattern = Sparsity::pattern(Pattern { keep: 2, of: 4 });
    variants.push(("resnet8-2-of-4".into(), prune_connections(&load("fashion-resnet8"), &pattern, Some(&samples)).unwrap().0));
    variants.push((
        "resnet8-low-rank".into(),
        factorize(&load("fashion-resnet8"), &Factorization { macs: 0.3, form: FactorForm::LowRank, round_to: 8 }, &samples).unwrap().0,
    ));
    let mut tract = BTreeMap::new();
    for (name, variant) in &variants {
        let bytes = variant.to_bytes().unwrap();
        let classes = tract_classes(&bytes, &x);
        let reference = top_classes(&run(variant, &x), 10).unwrap();
        let same = classes.iter().zip(&reference).filter(|(a, b)| a == b).count();
        assert!(same >= 999, "{name}: tract and the reference execution agree on {same} of 1000");
        std::fs::write(folder.path().join(format!("{name}.onnx")), bytes).unwrap();
        tract.insert(name.clone(), classes);
    }
    let Some(verdict) = judge(folder.path(), &x) else { return };
    let judged: BTreeMap<String, Vec<u32>> = serde_json::from_value(verdict["predicted"].clone()).unwrap();
    assert!(judged.keys().eq(tract.keys()));
    for (name, classes) in &judged {
        let same = classes.iter().zip(&tract[name]).filter(|(a, b)| a == b).count();
        assert!(same >= 999, "{name}: tract and ONNX Runtime agree on {same} of 1000");
    }
}
