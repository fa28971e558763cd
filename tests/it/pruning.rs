//! Channel pruning from outside: the smaller graph computes what the full-size graph computes without the removed channels.

use crate::support::{calibration, model};
use crate::zoo::{self, Animal};
use joulefront::compress::{Calibration, Change, ChannelShare, Groups, Pruned, cut_channels, prepare};
use joulefront::exec::Executor;
use joulefront::model::clean::fold_batch_norms;
use joulefront::model::{Facts, Graph, layers, totals};
use joulefront::onnx::Model;
use joulefront::tensor::Tensor;

/// The shipped models that have groups to prune, with one sample's shape.
fn shipped() -> Vec<Animal> {
    let sample = |name: &str| if name.starts_with("cifar") { vec![3, 32, 32] } else { vec![1, 28, 28] };
    ["fashion-resnet8", "fashion-resnet8-bn", "fashion-dscnn", "fashion-mlp", "fashion-vit", "cifar-resnet8"]
        .into_iter()
        .map(|name| Animal { name, model: Model::load(model(name)).unwrap(), sample: sample(name), frozen: None, prunable: true })
        .collect()
}

pub(crate) fn run(model: &Model, x: &Tensor) -> Vec<f32> {
    let graph = model.graph();
    let (input, output) = (Graph::new(model).inputs().next().unwrap().name().to_owned(), graph.output[0].name());
    Executor::new(model).unwrap().run_batched(&[(&input, x)], &[output]).unwrap()[output].as_f32().unwrap().to_vec()
}

/// Largest difference, as a share of the largest value (at least 1).
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let size = a.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).map(|(x, y)| if (x - y).is_nan() { f32::INFINITY } else { (x - y).abs() / size }).fold(0.0, f32::max)
}

fn macs(model: &Model) -> u64 {
    let (graph, facts) = (Graph::new(model), Facts::infer(model, 1).unwrap());
    totals(&graph, &layers(&graph, &facts).unwrap()).unwrap().macs.exact().unwrap()
}

/// Both graphs load again and agree; the smaller one has less to do.
#[track_caller]
fn check(animal: &Animal, pruned: &Pruned, tolerance: f32) {
    let embedded = pruned.embedded().unwrap();
    let x = zoo::inputs(5, &animal.sample);
    for m in [&pruned.model, &embedded] {
        Model::from_bytes(&m.to_bytes().unwrap(), animal.name).unwrap();
    }
    let far = distance(&run(&pruned.model, &x), &run(&embedded, &x));
    assert!(far <= tolerance, "{}: outputs differ by {far}", animal.name);
    assert!(!pruned.cuts.is_empty(), "{}: nothing was removed", animal.name);
    assert!(macs(&pruned.model) < macs(&animal.model), "{}", animal.name);
    assert_eq!(macs(&embedded), macs(&pruned.full), "{}", animal.name);
}

#[test]
fn a_smaller_graph_equals_the_full_one_with_the_channels_zeroed() {
    for animal in zoo::cuttable().into_iter().chain(shipped()).filter(|a| a.prunable) {
        for (share, round_to) in [(ChannelShare::OfChannels(0.5), 4), (ChannelShare::OfMacs(0.3), 1)] {
            check(&animal, &cut_channels(&animal.model, share, round_to, None).unwrap(), 1e-4);
        }
    }
}

#[test]
fn so_it_does_after_the_repair() {
    for animal in zoo::cuttable().into_iter().filter(|a| a.prunable) {
        let samples = Calibration::new("x", &zoo::inputs(40, &animal.sample)).unwrap();
        let pruned = cut_channels(&animal.model, ChannelShare::OfChannels(0.5), 4, Some(&samples)).unwrap();
        check(&animal, &pruned, 1e-4);
        for note in &pruned.notes {
            assert!(note.error.is_none_or(|e| (0.0..=1.0 + 1e-6).contains(&e)), "{}: {note:?}", animal.name);
        }
    }
}

#[test]
fn models_of_a_fixed_batch_are_repaired_in_their_own_portions() {
    let sample = vec![3, 8, 8];
    let animal = Animal { name: "fixed batch", model: zoo::fixed_batch(), sample: sample.clone(), frozen: None, prunable: true };
    let cut = |samples: usize, sample: &[usize]| {
        let samples = Calibration::new("x", &zoo::inputs(samples, sample)).unwrap();
        cut_channels(&animal.model, ChannelShare::OfChannels(0.5), 4, Some(&samples))
    };
    let pruned = cut(50, &sample).unwrap();
    assert!(pruned.notes.iter().any(|n| n.error.is_some()));
    let x = zoo::inputs(8, &sample);
    assert!(distance(&run(&pruned.model, &x), &run(&pruned.embedded().unwrap(), &x)) <= 1e-4);
    for (samples, sample, expect) in [(3, &sample[..], "takes 4 samples at once"), (50, &[3, 8, 9], "do not fit the input [4, 3, 8, 8]")] {
        let e = cut(samples, sample).unwrap_err().to_string();
        assert!(e.contains(expect), "{e}");
    }
}

#[test]
fn channels_that_cannot_go_stay_and_say_why() {
    for animal in zoo::cuttable() {
        let (model, _) = prepare(&animal.model).unwrap();
        let (graph, facts) = (Graph::new(&model), Facts::infer(&model, 1).unwrap());
        let groups = Groups::find(&graph, &facts, &layers(&graph, &facts).unwrap()).unwrap();
        let reasons: Vec<&str> = groups.groups.iter().filter_map(|g| g.frozen.as_deref()).collect();
        if let Some(expect) = animal.frozen {
            assert!(reasons.iter().any(|r| r.contains(expect)), "{}: {reasons:?}", animal.name);
        } else {
            let known = ["it is the model's input", "it is the model's output"];
            assert!(reasons.iter().all(|r| known.contains(r)), "{}: {reasons:?}", animal.name);
        }
        assert_eq!(groups.prunable().next().is_some(), animal.prunable, "{}", animal.name);
        match cut_channels(&animal.model, ChannelShare::OfChannels(0.5), 4, None) {
            Err(e) => {
                assert!(!animal.prunable, "{}: {e}", animal.name);
                assert!(animal.frozen.is_none_or(|why| e.to_string().contains(why)), "{e}");
            }
            Ok(pruned) => {
                // Every entry that went belongs to a group that is open.
                let open: Vec<usize> = groups.prunable().map(|(g, _)| g).collect();
                for cut in &pruned.cuts {
                    let change = Change::Slice { constant: cut.constant.clone(), axis: cut.axis };
                    let edit = groups.edits.iter().find(|e| e.change == change).unwrap();
                    let gone = (0..edit.channels.len()).filter(|e| !cut.kept.contains(e));
                    gone.for_each(|e| assert!(open.contains(&edit.channels[e].group), "{}: {change:?}", animal.name));
                }
            }
        }
    }
}

#[test]
fn counts_are_multiples_and_one_tile_stays() {
    for animal in zoo::cuttable().into_iter().chain(shipped()).filter(|a| a.prunable) {
        for share in [0.1, 0.5, 0.9, 0.999] {
            for (share, round_to) in
                [(ChannelShare::OfChannels(share), 8), (ChannelShare::OfMacs(share), 4), (ChannelShare::OfMacs(share), 1)]
            {
                let pruned = cut_channels(&animal.model, share, round_to, None).unwrap();
                let (graph, facts) = (Graph::new(&pruned.full), Facts::infer(&pruned.full, 1).unwrap());
                let groups = Groups::find(&graph, &facts, &layers(&graph, &facts).unwrap()).unwrap();
                for cut in &pruned.cuts {
                    let change = Change::Slice { constant: cut.constant.clone(), axis: cut.axis };
                    let channels = &groups.edits.iter().find(|e| e.change == change).unwrap().channels;
                    // Of each group that loses some, a multiple stays.
                    for g in channels.iter().map(|c| c.group).collect::<std::collections::BTreeSet<_>>() {
                        let all = channels.iter().filter(|c| c.group == g).count();
                        let kept = cut.kept.iter().filter(|&&e| channels[e].group == g).count();
                        let fits = kept == all || kept % round_to == 0;
                        assert!(kept > 0 && fits, "{}: {change:?} keeps {kept} of {all}", animal.name);
                    }
                    assert!(cut.kept.is_sorted_by(|a, b| a < b));
                }
            }
        }
    }
}

#[test]
fn the_share_of_multiply_adds_is_reached_within_a_step() {
    for animal in shipped().into_iter().filter(|a| a.name != "fashion-vit") {
        let before = macs(&animal.model) as f64;
        for share in [0.2, 0.35, 0.5, 0.65] {
            let pruned = cut_channels(&animal.model, ChannelShare::OfMacs(share), 1, None).unwrap();
            let reached = 1.0 - macs(&pruned.model) as f64 / before;
            // One channel of the smallest group is the largest step.
            let (graph, facts) = (Graph::new(&pruned.full), Facts::infer(&pruned.full, 1).unwrap());
            let groups = Groups::find(&graph, &facts, &layers(&graph, &facts).unwrap()).unwrap();
            let step = 1.0 / groups.prunable().map(|(_, g)| g.channels).min().unwrap() as f64;
            assert!((reached - share).abs() <= step / 2.0, "{}: {reached} instead of {share}", animal.name);
        }
    }
}

#[test]
fn the_same_bytes_come_out_on_any_number_of_cores() {
    let original = Model::load(model("fashion-resnet8-bn")).unwrap();
    let samples = calibration(96);
    let bytes = || cut_channels(&original, ChannelShare::OfMacs(0.4), 4, Some(&samples)).unwrap().model.to_bytes().unwrap();
    let free = bytes();
    assert!(free == bytes(), "a second run made other bytes");
    let pinned = std::thread::scope(|scope| {
        let one = scope.spawn(|| {
            let cpus = joulefront::sys::allowed_cpus().unwrap();
            joulefront::sys::pin_current_thread(&cpus[..1]).unwrap();
            assert_eq!(std::thread::available_parallelism().unwrap().get(), 1);
            bytes()
        });
        one.join().unwrap()
    });
    assert!(free == pinned, "one core made other bytes");
}

#[test]
fn preparation_changes_no_bit_of_the_outputs() {
    for animal in zoo::cuttable().into_iter().chain(shipped()) {
        let (prepared, _) = prepare(&animal.model).unwrap();
        let x = zoo::inputs(3, &animal.sample);
        assert_eq!(run(&animal.model, &x), run(&prepared, &x), "{}", animal.name);
    }
}

#[test]
fn folded_normalisation_computes_the_same() {
    let mut folded = 0;
    for animal in zoo::cuttable().into_iter().chain(shipped()) {
        let (prepared, _) = prepare(&animal.model).unwrap();
        let mut model = prepared.clone();
        let notes = fold_batch_norms(&mut model).unwrap();
        Model::from_bytes(&model.to_bytes().unwrap(), animal.name).unwrap();
        let x = zoo::inputs(3, &animal.sample);
        let far = distance(&run(&prepared, &x), &run(&model, &x));
        assert!(far <= 1e-5, "{}: {far}", animal.name);
        let norms = |m: &Model| m.graph().node.iter().filter(|n| n.op_type() == "BatchNormalization").count();
        assert_eq!(norms(&model) < norms(&prepared), !notes.is_empty());
        folded += norms(&prepared) - norms(&model);
    }
    assert!(folded >= 9, "{folded} were folded");
}
