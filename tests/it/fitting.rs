//! Sequential least squares from outside: integers and supports fitted to what the original gives.

use crate::pruning::{distance, run};
use crate::support::{calibration, model, repository};
use crate::zoo::{self, At, Build};
use joulefront::compress::{
    Action, Activations, Amount, Calibration, Factorization, Note, Quantization, Sparsity, factorize, prune_connections, quantize,
    quantize_weights,
};
use joulefront::data::Dataset;
use joulefront::model::{Facts, Format, Graph, layers, totals};
use joulefront::onnx::Model;
use joulefront::recipe::{ActivationRange, Distribution, FactorForm, Pattern, PruneMethod, WeightGranularity};
use joulefront::tensor::{Data, Tensor};

const SHIPPED: [&str; 4] = ["fashion-resnet8", "fashion-dscnn", "fashion-mlp", "fashion-vit"];

fn load(name: &str) -> Model {
    Model::load(model(name)).unwrap()
}

fn test_images(count: usize) -> Tensor {
    Dataset::open(repository("models/fashion-mnist")).unwrap().split("test").unwrap().batch(0..count).unwrap()
}

fn fitted(model: &Model, weight_bits: u32, granularity: WeightGranularity, samples: &Calibration) -> (Model, Vec<Note>) {
    let (variant, notes) = quantize(model, &Quantization { weight_bits, granularity, activations: None, fit: Some(samples) }).unwrap();
    (Model::from_bytes(&variant.to_bytes().unwrap(), "the variant").unwrap(), notes)
}

/// Root of the mean squared difference.
fn apart(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    (a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>() / a.len() as f64).sqrt()
}

#[test]
fn fitted_integers_come_nearer_to_the_original_than_rounded_ones() {
    let (samples, seen) = (calibration(128), test_images(200));
    for name in SHIPPED {
        let original = load(name);
        let expected = run(&original, &seen);
        let rounded = apart(&expected, &run(&quantize_weights(&original, 3).unwrap().0, &seen));
        let (variant, notes) = fitted(&original, 3, WeightGranularity::Channel, &samples);
        let error = apart(&expected, &run(&variant, &seen));
        assert!(error < 0.7 * rounded, "{name}: {error} instead of {rounded}");
        for note in notes.iter().filter(|n| n.action == Action::Changed) {
            assert!(note.error.is_some_and(|e| (0.0..1.0).contains(&e)), "{name}: {note:?}");
        }
    }
}

#[test]
fn every_granularity_stays_on_its_grid() {
    let (samples, original) = (calibration(64), load("fashion-vit"));
    for (granularity, bits) in [(WeightGranularity::Tensor, 4), (WeightGranularity::Block32, 2), (WeightGranularity::Channel, 2)] {
        let (variant, notes) = fitted(&original, bits, granularity, &samples);
        let graph = Graph::new(&variant);
        let mut seen = 0;
        for layer in layers(&graph, &Facts::infer(&variant, 1).unwrap()).unwrap() {
            let Some(weight) = layer.weight.filter(|w| matches!(w.format, Format::Integer { .. })) else { continue };
            let Some(Data::I8(q)) = graph.constant(&weight.name).unwrap().map(Tensor::into_data) else { panic!("{}", layer.name) };
            let half = 1i8 << (bits - 1);
            assert!(q.iter().all(|v| (-half..half).contains(v)), "{}", layer.name);
            seen += 1;
        }
        assert_eq!(seen, notes.iter().filter(|n| n.action == Action::Changed).count());
        assert!(notes.iter().all(|n| !n.detail.contains("rounded to nearest:")), "{notes:?}");
    }
}

#[test]
fn grouped_and_depthwise_layers_and_those_without_bias_are_fitted_too() {
    let mut b = Build::new(13, &[8, 8, 8]);
    let y = b.conv("x", 4, 8, 2);
    let y = b.relu(&y);
    let y = b.conv(&y, 1, 8, 8);
    let y = b.relu(&y);
    let y = b.node("GlobalAveragePool", &[&y], &[]);
    let y = b.node("Flatten", &[&y], &[("axis", At::I(1))]);
    // A product without an addition.
    let w = b.weight(&[8, 4]);
    let y = b.node("MatMul", &[&y, &w], &[]);
    let original = b.finish(&y, &[4]);
    let samples = Calibration::new("x", &zoo::inputs(64, &[8, 8, 8])).unwrap();
    let x = zoo::inputs(32, &[8, 8, 8]);
    let (variant, notes) = fitted(&original, 3, WeightGranularity::Channel, &samples);
    assert_eq!(notes.iter().filter(|n| n.error.is_some()).count(), 3, "{notes:?}");
    let rounded = quantize_weights(&original, 3).unwrap().0;
    let expected = run(&original, &x);
    let (fit, nearest) = (apart(&expected, &run(&variant, &x)), apart(&expected, &run(&rounded, &x)));
    assert!(fit < nearest, "{fit} {nearest}");
}

#[test]
fn what_cannot_be_fitted_is_rounded_and_named() {
    let mut b = Build::new(13, &[16]);
    let (w, c) = (b.weight(&[16, 8]), b.weight(&[8]));
    let y = b.node("Gemm", &["x", &w, &c], &[("alpha", At::F(0.5))]);
    let y = b.gemm(&y, 8, 4, true);
    let samples = Calibration::new("x", &zoo::inputs(32, &[16])).unwrap();
    let (_, notes) = fitted(&b.finish(&y, &[4]), 4, WeightGranularity::Channel, &samples);
    assert!(notes[0].detail.ends_with("rounded to nearest: it scales its product"), "{notes:?}");
    assert!(notes[1].error.is_some(), "{notes:?}");
}

#[test]
fn pruned_weights_stay_zero_when_the_rest_is_quantized() {
    let samples = calibration(64);
    let (sparse, _) = prune_connections(&load("fashion-resnet8"), &Sparsity::share(0.5), Some(&samples)).unwrap();
    let (variant, _) = fitted(&sparse, 4, WeightGranularity::Channel, &samples);
    let sparsity = |model: &Model| {
        let graph = Graph::new(model);
        totals(&graph, &layers(&graph, &Facts::infer(model, 1).unwrap()).unwrap()).unwrap().sparsity
    };
    assert!(sparsity(&variant) >= sparsity(&sparse));
}

#[test]
fn the_share_is_exact_with_samples_too_and_patterns_hold_in_every_layer_they_fit() {
    let samples = calibration(64);
    for method in [PruneMethod::LeastSquares, PruneMethod::Wanda, PruneMethod::Magnitude] {
        let original = load("fashion-resnet8");
        let all: usize = layers(&Graph::new(&original), &Facts::infer(&original, 1).unwrap())
            .unwrap()
            .iter()
            .map(|l| l.weight.as_ref().unwrap().len())
            .sum();
        for distribution in [Distribution::Global, Distribution::PerLayer] {
            let how = Sparsity { amount: Amount::Share(0.7, distribution), method };
            let (variant, _) = prune_connections(&original, &how, Some(&samples)).unwrap();
            let graph = Graph::new(&variant);
            let share = totals(&graph, &layers(&graph, &Facts::infer(&variant, 1).unwrap()).unwrap()).unwrap().sparsity;
            assert!((share * all as f64 - 0.7 * all as f64).abs() <= 6.0, "{method:?} {distribution:?}: {share}");
        }
        let how = Sparsity { amount: Amount::Pattern(Pattern { keep: 2, of: 4 }), method };
        let (variant, notes) = prune_connections(&original, &how, Some(&samples)).unwrap();
        assert!(notes.iter().any(|n| n.action == Action::Skipped && n.detail.contains("1 input channels do not divide into groups of 4")));
        let graph = Graph::new(&variant);
        for layer in layers(&graph, &Facts::infer(&variant, 1).unwrap()).unwrap().iter().skip(1) {
            let weight = layer.weight.as_ref().unwrap();
            let value = graph.constant(&weight.name).unwrap().unwrap();
            let w = value.as_f32().unwrap();
            let (channels, taps) = (weight.shape[1], weight.shape[2..].iter().product::<usize>());
            for output in w.chunks(channels * taps) {
                for group in 0..channels / 4 {
                    for tap in 0..taps {
                        let zeros = (0..4).filter(|c| output[(group * 4 + c) * taps + tap] == 0.0).count();
                        assert!(zeros >= 2, "{method:?} {}", layer.name);
                    }
                }
            }
        }
    }
}

#[test]
fn lower_ranks_save_what_was_asked_and_stay_near() {
    let samples = calibration(128);
    for name in ["fashion-resnet8", "fashion-mlp", "fashion-vit"] {
        let original = load(name);
        let (variant, notes) =
            factorize(&original, &Factorization { macs: 0.3, form: FactorForm::LowRank, round_to: 8 }, &samples).unwrap();
        let variant = Model::from_bytes(&variant.to_bytes().unwrap(), "the variant").unwrap();
        let macs = |m: &Model| {
            let graph = Graph::new(m);
            totals(&graph, &layers(&graph, &Facts::infer(m, 1).unwrap()).unwrap()).unwrap().macs.exact().unwrap() as f64
        };
        assert!(macs(&variant) <= 0.7 * macs(&original), "{name}");
        assert!(notes.iter().any(|n| n.detail.starts_with("split in two of rank")), "{name}: {notes:?}");
        let x = test_images(100);
        let (expected, given) = (run(&original, &x), run(&variant, &x));
        let far = apart(&expected, &given) / apart(&expected, &vec![0.0; expected.len()]);
        assert!(far < 0.45, "{name}: {far}");
    }
    let e = factorize(&load("fashion-resnet8"), &Factorization { macs: 0.99, form: FactorForm::Best, round_to: 8 }, &samples)
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(e.contains("save at most"), "{e}");
}

#[test]
fn the_same_bytes_come_out_on_one_core_and_on_all() {
    let original = load("fashion-dscnn");
    let samples = calibration(100);
    let bytes = || {
        let (sparse, _) = prune_connections(&original, &Sparsity::share(0.5), Some(&samples)).unwrap();
        let activations = Some(Activations { range: ActivationRange::MinMax, samples: &samples });
        let how = Quantization { weight_bits: 4, granularity: WeightGranularity::Channel, activations, fit: Some(&samples) };
        (quantize(&original, &how).unwrap().0.to_bytes().unwrap(), sparse.to_bytes().unwrap())
    };
    let free = bytes();
    let pinned = std::thread::scope(|scope| {
        let one = scope.spawn(|| {
            let cpus = joulefront::sys::allowed_cpus().unwrap();
            joulefront::sys::pin_current_thread(&cpus[..1]).unwrap();
            bytes()
        });
        one.join().unwrap()
    });
    assert!(free == pinned, "one core made other bytes");
}

#[test]
fn odd_samples_are_survived_or_refused() {
    let original = load("fashion-mlp");
    let of = |values: Vec<f32>| Calibration::new("input", &Tensor::f32([values.len() / 784, 1, 28, 28], values).unwrap()).unwrap();
    let sparsity = Sparsity::share(0.5);
    // One sample, and many that are all alike: the weights are all that is known.
    for samples in [of((0..784).map(|i| (i % 9) as f32).collect()), of(vec![0.5; 8 * 784])] {
        let (variant, _) = fitted(&original, 8, WeightGranularity::Channel, &samples);
        let x = test_images(50);
        let far = distance(&run(&original, &x), &run(&variant, &x));
        assert!(far < 0.2, "{far}");
        prune_connections(&original, &sparsity, Some(&samples)).unwrap();
    }
    let mut values = vec![0.5; 8 * 784];
    values[5000] = f32::NAN;
    let bad = of(values.clone());
    values[5000] = f32::MAX;
    let large = of(values);
    let how = |samples| Quantization { weight_bits: 4, granularity: WeightGranularity::Channel, activations: None, fit: Some(samples) };
    for (samples, why) in [(&bad, "hold a value that is NaN"), (&large, "not finite on the calibration samples")] {
        for e in [
            quantize(&original, &how(samples)).map(drop).unwrap_err(),
            prune_connections(&original, &sparsity, Some(samples)).map(drop).unwrap_err(),
        ] {
            assert!(e.to_string().contains(why), "{e}");
        }
    }
}
