//! Structured pruning of graphs that nobody drew: random ones, on every engine, and repairs that do harm.

use crate::engines::{engines, job, program};
use crate::pruning::{distance, run};
use crate::support::{calibration, model};
use crate::zoo::{self, At, Build};
use joulefront::ErrorKind;
use joulefront::compress::{Calibration, ChannelPruning, ChannelShare, cut_channels, cut_channels_by};
use joulefront::engine::LoadOptions;
use joulefront::model::{Facts, Graph, layers};
use joulefront::onnx::Model;
use joulefront::runner::Runner;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A graph on images [3, 8, 8] that grows by one structure for each choice: which, and what it reads.
fn grown(choices: &[(u8, u8, u8)]) -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let mut known: Vec<(String, usize)> = vec![(b.conv("x", 3, 12, 1), 12)];
    for &(what, first, second) in choices {
        let at = |i: u8| known[known.len() - 1 - usize::from(i) % known.len().min(3)].clone();
        let ((y, c), (z, d)) = (at(first), at(second));
        let made = match what % 13 {
            0 => (b.conv(&y, c, 8 + 4 * usize::from(second % 4), 1), 8 + 4 * usize::from(second % 4)),
            1 => (b.conv(&y, 1, c, c as i64), c),
            2 => (b.pointwise(&y, c, 16), 16),
            3 => (b.batch_norm(&y, c), c),
            4 if c == d => (b.node("Add", &[&y, &z], &[]), c),
            4 => {
                let z = b.pointwise(&z, d, c);
                (b.node("Add", &[&z, &y], &[]), c)
            }
            5 => (b.node("Concat", &[&y, &z], &[("axis", At::I(1))]), c + d),
            6 => {
                let sizes = b.list(&[4, c as i64 - 4]);
                let parts = b.nodes("Split", &[&y, &sizes], 2, &[("axis", At::I(1))]);
                known.push((parts[0].clone(), 4));
                (parts[1].clone(), c - 4)
            }
            7 => {
                let s = b.node("GlobalAveragePool", &[&y], &[]);
                let s = b.pointwise(&s, c, c);
                let s = b.node("Sigmoid", &[&s], &[]);
                (b.node("Mul", &[&y, &s], &[]), c)
            }
            8 if c % 4 == 0 => (b.conv(&y, 4, c, c as i64 / 4), c),
            9 => {
                let (from, to, axis) = (b.list(&[2]), b.list(&[i64::MAX]), b.list(&[1]));
                (b.node("Slice", &[&y, &from, &to, &axis], &[]), c - 2)
            }
            10 => {
                let w = b.weight(&[c, 1, 1]);
                (b.node("Mul", &[&w, &y], &[]), c)
            }
            11 => {
                let w = b.weight(&[c, 8, 1, 1]);
                (b.node("ConvTranspose", &[&y, &w], &[]), 8)
            }
            12 if c % 4 == 0 => {
                let (apart, back) = (b.list(&[0, 4, c as i64 / 4, 8, 8]), b.list(&[0, c as i64, 8, 8]));
                let y = b.node("Reshape", &[&y, &apart], &[]);
                let y = b.node("Transpose", &[&y], &[("perm", At::Is(&[0, 2, 1, 3, 4]))]);
                (b.node("Reshape", &[&y, &back], &[]), c)
            }
            _ => (b.relu(&y), c),
        };
        known.push(made);
        // Widths stay between 5 and 64.
        known.retain(|(_, c)| (5..=64).contains(c));
    }
    let last: Vec<(String, usize)> = known.iter().rev().take(3).cloned().collect();
    let names: Vec<&str> = last.iter().map(|(n, _)| n.as_str()).collect();
    let y = b.node("Concat", &names, &[("axis", At::I(1))]);
    b.head(&y, last.iter().map(|(_, c)| c).sum())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the graph: channels that went were zeros of the full graph, or there is a reason why none went.
    #[test]
    fn pruning_commutes_with_masking(choices in prop::collection::vec(any::<(u8, u8, u8)>(), 1..12)) {
        let original = grown(&choices);
        let x = zoo::inputs(3, &[3, 8, 8]);
        for (share, round_to) in [(ChannelShare::OfChannels(0.5), 4), (ChannelShare::OfMacs(0.4), 1)] {
            match cut_channels(&original, share, round_to, None) {
                Err(e) => assert!(e.kind() == ErrorKind::BadInput && e.to_string().contains("no channels of this model"), "{e}"),
                Ok(pruned) => {
                    Model::from_bytes(&pruned.model.to_bytes().unwrap(), "variant").unwrap();
                    let far = distance(&run(&pruned.model, &x), &run(&pruned.embedded().unwrap(), &x));
                    assert!(far <= 1e-4, "{far}: {choices:?}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn so_it_does_with_the_repair(choices in prop::collection::vec(any::<(u8, u8, u8)>(), 1..10)) {
        let original = grown(&choices);
        let samples = Calibration::new("x", &zoo::inputs(40, &[3, 8, 8])).unwrap();
        if let Ok(pruned) = cut_channels(&original, ChannelShare::OfMacs(0.4), 4, Some(&samples)) {
            let x = zoo::inputs(3, &[3, 8, 8]);
            let far = distance(&run(&pruned.model, &x), &run(&pruned.embedded().unwrap(), &x));
            assert!(far <= 1e-4, "{far}: {choices:?}");
        }
    }
}

/// What an engine loads it loads without the channels too, and it answers as the full graph with zeros does.
#[test]
fn every_engine_runs_the_smaller_graphs() {
    let folder = tempfile::tempdir().unwrap();
    for engine in engines() {
        let mut ran = 0;
        for animal in zoo::cuttable().into_iter().filter(|a| a.prunable) {
            let pruned = cut_channels(&animal.model, ChannelShare::OfChannels(0.5), 4, None).unwrap();
            let path = |name: &str, m: &Model| {
                let path = folder.path().join(format!("{name}.onnx"));
                std::fs::write(&path, m.to_bytes().unwrap()).unwrap();
                path
            };
            let x = zoo::inputs(2, &animal.sample);
            let answer = |path| {
                let mut runner = Runner::spawn(&program(), &job(path, engine, LoadOptions { batch: 2, ..LoadOptions::default() }))?;
                runner.infer(std::slice::from_ref(&x))
            };
            if answer(path("original", &animal.model)).is_err() {
                continue;
            }
            let what = format!("{} {}", engine.name(), animal.name);
            let got = answer(path("variant", &pruned.model)).unwrap_or_else(|e| panic!("{what}: {e}"));
            let far = distance(got[0].as_f32().unwrap(), &run(&pruned.embedded().unwrap(), &x));
            assert!(far <= 1e-4, "{what}: {far}");
            ran += 1;
        }
        // rten takes no convolution that leaves its strides out, as most of these do.
        let least = if engine.name() == "rten" { 5 } else { 25 };
        assert!(ran >= least, "{} ran {ran}", engine.name());
    }
}

#[test]
fn costs_are_data() {
    let original = Model::load(model("fashion-resnet8")).unwrap();
    let samples = calibration(96);
    let facts = Facts::infer(&original, 1).unwrap();
    let names: Vec<(String, usize)> = layers(&Graph::new(&original), &facts)
        .unwrap()
        .iter()
        .map(|l| (l.name.clone(), l.weight.as_ref().map_or(0, |w| w.len())))
        .collect();
    let cut = |costs: Option<BTreeMap<String, f64>>| {
        let how = ChannelPruning { share: ChannelShare::OfMacs(0.3), round_to: 8, costs };
        cut_channels_by(&original, &how, Some(&samples))
    };
    let weights = |m: &Model| {
        let facts = Facts::infer(m, 1).unwrap();
        layers(&Graph::new(m), &facts).unwrap().iter().map(|l| l.params as f64).sum::<f64>()
    };
    let by_size: BTreeMap<String, f64> = names.iter().map(|(n, w)| (n.clone(), *w as f64)).collect();
    let (by_macs, by_bytes) = (cut(None).unwrap(), cut(Some(by_size.clone())).unwrap());
    let left = weights(&by_bytes.model) / weights(&original);
    assert!((left - 0.7).abs() < 0.05, "{left}");
    assert!(weights(&by_macs.model) > weights(&by_bytes.model));
    let refused = |costs: BTreeMap<String, f64>, expect: &str| {
        let e = cut(Some(costs)).unwrap_err().to_string();
        assert!(e.contains(expect), "{e}");
    };
    refused(BTreeMap::new(), "there is no cost for");
    refused(by_size.into_keys().map(|n| (n, f64::NAN)).collect(), "is not possible");
}

#[test]
fn shares_out_of_range_and_nothing_to_prune_are_errors() {
    let animal = |name: &str| zoo::cuttable().into_iter().find(|a| a.name == name).unwrap().model;
    for share in [1.0, -0.1, f64::NAN, f64::INFINITY, 17.0] {
        for share in [ChannelShare::OfMacs(share), ChannelShare::OfChannels(share)] {
            let e = cut_channels(&animal("residual"), share, 8, None).unwrap_err();
            assert!(e.kind() == ErrorKind::BadInput && e.to_string().contains("is not between 0 and 1"), "{e}");
        }
    }
    let e = cut_channels(&animal("computed bias"), ChannelShare::OfMacs(0.5), 8, None).unwrap_err();
    assert!(e.to_string().contains("no channels of this model can be removed"), "{e}");
}
