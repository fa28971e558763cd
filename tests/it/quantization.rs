//! Quantized weights and pruned connections, seen in the files that come out.

use crate::support::model;
use crate::zoo;
use joulefront::compress::{Action, Amount, Sparsity, prune_connections, quantize_weights};
use joulefront::model::{Facts, Format, Graph, Layer, LayerKind, layers, totals};
use joulefront::onnx::Model;
use joulefront::recipe::{Distribution, PruneMethod};
use joulefront::tensor::{Data, Tensor};

fn layer_list(model: &Model) -> Vec<Layer> {
    layers(&Graph::new(model), &Facts::infer(model, 1).unwrap()).unwrap()
}

/// All models whose operator set allows it.
fn models() -> impl Iterator<Item = (String, Model)> {
    let shipped =
        ["fashion-resnet8", "fashion-dscnn", "fashion-mlp", "fashion-vit"].map(|n| (n.to_owned(), Model::load(model(n)).unwrap()));
    shipped.into_iter().chain(zoo::all().into_iter().map(|a| (a.name.to_owned(), a.model))).filter(|(_, m)| m.opset() >= 13)
}

#[test]
fn integers_stay_within_their_range_and_scales_follow_the_output_channels() {
    for (name, original) in models() {
        for bits in [2, 3, 4, 8] {
            let (variant, notes) = quantize_weights(&original, bits).unwrap();
            let (graph, list) = (Graph::new(&variant), layer_list(&variant));
            let changed = notes.iter().filter(|n| n.action == Action::Changed).count();
            let with_weights = list.iter().filter_map(|l| l.weight.as_ref());
            assert_eq!(with_weights.clone().count(), changed, "{name}");
            for w in with_weights {
                let Some(Data::I8(q)) = graph.constant(&w.name).unwrap().map(Tensor::into_data) else { panic!("{name}: {w:?}") };
                let half = 1i32 << (bits - 1);
                assert!(q.iter().all(|&v| (-half..half).contains(&i32::from(v))), "{name}: {bits} bits");
                assert!(matches!(w.format, Format::Integer { bits: b, .. } if b <= bits));
                let reader = graph.consumers(&w.name)[0].node;
                let [_, scale, zero] = graph.node(reader).input.as_slice() else { panic!("{name}") };
                for name in [scale, zero] {
                    assert_eq!(graph.constant_shape(name).unwrap(), [w.shape[w.output_axis]]);
                }
            }
        }
    }
}

/// Rounded to nearest: no weight is further from its number than half a step, unless the grid ends before it.
#[test]
fn rounding_errors_are_at_most_half_a_step() {
    for (name, original) in models() {
        for bits in [2, 4, 8] {
            let (variant, _) = quantize_weights(&original, bits).unwrap();
            let (before, after) = (Graph::new(&original), Graph::new(&variant));
            for (old, new) in layer_list(&original).iter().zip(layer_list(&variant)) {
                let (Some(old), Some(new)) = (&old.weight, &new.weight) else { continue };
                let (Some(w), Some(Data::I8(q))) =
                    (before.constant(&old.name).unwrap(), after.constant(&new.name).unwrap().map(Tensor::into_data))
                else {
                    continue;
                };
                let dequantize = after.node(after.consumers(&new.name)[0].node);
                let scales = after.constant(&dequantize.input[1]).unwrap().unwrap();
                let inner: usize = old.shape[old.output_axis + 1..].iter().product();
                let outputs = old.shape[old.output_axis];
                let half = 1i32 << (bits - 1);
                // Weights behind other nodes may be laid out in another way than their constant.
                if w.shape() != old.shape {
                    continue;
                }
                for (i, (w, q)) in w.as_f32().unwrap().iter().zip(&q).enumerate() {
                    let scale = scales.as_f32().unwrap()[i / inner % outputs];
                    let error = (w - scale * f32::from(*q)).abs();
                    let at_an_end = i32::from(*q) == half - 1 || i32::from(*q) == -half;
                    assert!(at_an_end || error <= scale * 0.500_01, "{name}, {bits} bits: {w} became {q} steps of {scale}");
                }
            }
        }
    }
}

/// What DequantizeLinear gives back is as near as the note says.
#[test]
fn the_noted_error_is_the_error_of_the_dequantized_weights() {
    let original = Model::load(model("fashion-resnet8")).unwrap();
    let (variant, notes) = quantize_weights(&original, 4).unwrap();
    let executor = joulefront::exec::Executor::new(&variant).unwrap();
    for (old, new) in layer_list(&original).iter().zip(layer_list(&variant)) {
        let name = &old.weight.as_ref().unwrap().name;
        let before = Graph::new(&original).constant(name).unwrap().unwrap();
        let given = &variant.graph().node[new.node.unwrap()].input[1];
        let after = executor.run(&[], &[given]).unwrap().remove(given).unwrap();
        let (mut error, mut norm) = (0.0f64, 0.0f64);
        for (a, b) in before.as_f32().unwrap().iter().zip(after.as_f32().unwrap()) {
            error += f64::from(a - b).powi(2);
            norm += f64::from(*a).powi(2);
        }
        let expect = format!("weight error {:.2} %", 100.0 * (error / norm).sqrt());
        let note = notes.iter().find(|n| n.layer == old.name).unwrap();
        assert!(note.detail.ends_with(&expect), "{note:?} instead of {expect}");
    }
}

#[test]
fn what_is_not_quantized_says_why() {
    let vit = Model::load(model("fashion-vit")).unwrap();
    let (variant, notes) = quantize_weights(&vit, 8).unwrap();
    let skipped = |part: &str| notes.iter().filter(|n| n.action == Action::Skipped && n.detail.contains(part)).count();
    assert_eq!(skipped("multiplies two activations"), 6);
    let e = quantize_weights(&variant, 4).unwrap_err().to_string();
    assert!(e.contains("no layer of this model has constant float32 weights"), "{e}");
    let old = zoo::all().into_iter().find(|a| a.model.opset() < 13).unwrap();
    let (converted, notes) = quantize_weights(&old.model, 8).unwrap();
    assert_eq!(converted.opset(), 13);
    assert!(notes.iter().any(|n| n.detail.starts_with("operator set 11 converted to 13")), "{notes:?}");
    for bits in [0, 1, 9, 33] {
        assert!(quantize_weights(&vit, bits).is_err());
    }
}

#[test]
fn the_share_of_zeros_is_exact() {
    for (name, original) in models() {
        for ratio in [0.01, 0.5, 0.9] {
            let (global, _) = prune_connections(&original, &Sparsity::share(ratio), None).unwrap();
            let (graph, list) = (Graph::new(&global), layer_list(&global));
            let all: usize = list.iter().filter_map(|l| l.weight.as_ref()).map(|w| w.len()).sum();
            let pruned: usize =
                list.iter().filter(|l| l.kind != LayerKind::DepthwiseConv).filter_map(|l| l.weight.as_ref()).map(|w| w.len()).sum();
            let share = totals(&graph, &list).unwrap().sparsity;
            assert_eq!((share * all as f64).round(), (ratio * pruned as f64).round(), "{name}");

            let each = Sparsity { amount: Amount::Share(ratio, Distribution::PerLayer), method: PruneMethod::LeastSquares };
            let (per_layer, _) = prune_connections(&original, &each, None).unwrap();
            let graph = Graph::new(&per_layer);
            for w in layer_list(&per_layer).iter().filter(|l| l.kind != LayerKind::DepthwiseConv).filter_map(|l| l.weight.as_ref()) {
                let zeros = graph.constant(&w.name).unwrap().unwrap().as_f32().unwrap().iter().filter(|v| **v == 0.0).count();
                // The largest weight of a layer stays.
                assert_eq!(zeros, ((ratio * w.len() as f64).round() as usize).min(w.len() - 1), "{name}: {}", w.name);
            }
        }
    }
}

#[test]
fn one_threshold_empties_no_layer() {
    for (name, original) in models() {
        let (variant, _) = prune_connections(&original, &Sparsity::share(0.99), None).unwrap();
        let graph = Graph::new(&variant);
        for w in layer_list(&variant).iter().filter_map(|l| l.weight.as_ref()) {
            let value = graph.constant(&w.name).unwrap().unwrap();
            assert!(value.as_f32().unwrap().iter().any(|v| *v != 0.0), "{name}: `{}` is empty", w.name);
        }
    }
}
