#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::samples::run;
use super::*;

fn saved(runs: impl IntoIterator<Item = Run>) -> Vec<Saved> {
    runs.into_iter().zip(1..).map(|(run, number)| Saved { number, run }).collect()
}

fn history(n: u64) -> Vec<Saved> {
    saved((0..n).map(|seed| run(seed, 1.0)))
}

fn verdict(outcome: &Outcome, metric: Metric) -> (Verdict, Basis) {
    let f = outcome.findings.iter().find(|f| f.metric == metric && f.key.model == "models/a.onnx").unwrap();
    (f.verdict, f.basis)
}

#[test]
fn nothing_changed_and_much_changed() {
    let rules = Rules::default();
    let same = judge("main", &history(10), &[run(77, 1.0)], &rules).unwrap();
    assert!(same.passed(), "{}", same.sentence());
    assert_eq!(verdict(&same, Metric::Size), (Verdict::Same, Basis::Exact));
    assert_eq!(verdict(&same, Metric::Accuracy), (Verdict::Same, Basis::Samples));
    assert!(same.sentence().starts_with("No regression in 10 gated metrics against `main`"), "{}", same.sentence());
    let worse = judge("main", &history(10), &[run(77, 1.08)], &rules).unwrap();
    for metric in [Metric::Energy, Metric::Latency, Metric::P99] {
        let (verdict, basis) = verdict(&worse, metric);
        assert_eq!(verdict, Verdict::Worse);
        assert!(matches!(basis, Basis::History { runs: 10, degrees: 9, noise } if noise > 0.001 && noise < 0.01), "{basis:?}");
    }
    assert!(!worse.passed() && worse.sentence().starts_with("Regression: a.onnx energy +"), "{}", worse.sentence());
    // Recorded metrics are called too, and fail nothing.
    assert_eq!(verdict(&worse, Metric::P50).0, Verdict::Worse);
    assert!(worse.regressions().all(|f| f.metric != Metric::P50));
    let better = judge("main", &history(10), &[run(77, 0.9)], &rules).unwrap();
    assert!(better.passed() && verdict(&better, Metric::Energy).0 == Verdict::Better);
}

#[test]
fn a_floor_makes_small_increases_no_regressions() {
    let with = |floor: f64| {
        let rules = Rules { max_increase: floor, ..Rules::default() };
        verdict(&judge("main", &history(20), &[run(77, 1.04)], &rules).unwrap(), Metric::Energy).0
    };
    assert_eq!((with(0.01), with(0.1)), (Verdict::Worse, Verdict::Same));
    let rules = Rules { max_increase_of: [(Metric::Energy, 0.1)].into(), ..Rules::default() };
    let outcome = judge("main", &history(20), &[run(77, 1.04)], &rules).unwrap();
    assert_eq!((verdict(&outcome, Metric::Energy).0, verdict(&outcome, Metric::Latency).0), (Verdict::Same, Verdict::Worse));
}

#[test]
fn with_few_runs_only_large_increases_are_called() {
    for n in 1..=4 {
        let of = |factor: f64| verdict(&judge("main", &history(n), &[run(77, factor)], &Rules::default()).unwrap(), Metric::Energy);
        let degrees = n as usize - 1;
        assert_eq!(of(1.1), (Verdict::Undecided, Basis::Provisional { runs: n as usize, degrees }));
        assert_eq!(of(1.3).0, Verdict::Worse);
    }
    assert!(matches!(
        verdict(&judge("main", &history(5), &[run(77, 1.1)], &Rules::default()).unwrap(), Metric::Energy).1,
        Basis::History { .. }
    ));
}

/// A new model keeps what was learnt of the noise, but is compared with the runs of the last one alone.
#[test]
fn the_noise_outlives_a_change_of_the_model() {
    let changed = |seed: u64, factor: f64| {
        let mut run = run(seed, factor);
        run.cases.iter_mut().for_each(|c| c.model_sha256 = "new".into());
        run
    };
    let runs = (0..6).map(|seed| run(seed, 1.0)).chain((6..8).map(|seed| changed(seed, 0.7)));
    let outcome = judge("main", &saved(runs), &[run(77, 1.0)], &Rules::default()).unwrap();
    let (verdict, basis) = verdict(&outcome, Metric::Energy);
    assert_eq!(verdict, Verdict::Worse);
    assert!(matches!(basis, Basis::History { runs: 2, degrees: 6, .. }), "{basis:?}");
    assert!(outcome.notes.iter().any(|n| n.contains("changed since the baseline: the model")), "{:?}", outcome.notes);
}

#[test]
fn what_may_not_be_compared_is_refused_and_named() {
    let mut other = run(77, 1.0);
    other.environment.cpu.model_name = "Epyc".into();
    other.cases[1].measurement.energy.as_mut().unwrap().kind = Kind::Estimated;
    let error = judge("main", &history(3), &[other.clone()], &Rules::default()).unwrap_err();
    let text = error.to_string();
    for words in [
        "baseline `main`",
        "a.onnx: CPU (baseline: Xeon",
        "this run: Epyc",
        "b.onnx",
        "kind of energy (baseline: simulated, this run: estimated)",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let begun = judge("main", &history(3), &[other.clone()], &Rules { begin: true, ..Rules::default() }).unwrap();
    assert!(begun.passed() && begun.findings.iter().all(|f| f.basis == Basis::New));
    // Runs of others in the same baseline are left out, with a remark.
    let mixed = saved((0..3).map(|s| run(s, 1.0)).chain([other.clone()]).chain((4..7).map(|s| run(s, 1.0))));
    let outcome = judge("main", &mixed, &[run(77, 1.0)], &Rules::default()).unwrap();
    assert!(outcome.notes.iter().any(|n| n.contains("1 of 7 earlier runs")), "{:?}", outcome.notes);
    assert!(matches!(verdict(&outcome, Metric::Energy).1, Basis::History { runs: 6, .. }));
    // As repetitions of one thing they are no good either.
    let error = judge("main", &history(3), &[run(1, 1.0), other], &Rules::default()).unwrap_err();
    assert!(error.to_string().contains("differ in a.onnx: CPU"), "{error}");
}

#[test]
fn repetitions_make_it_sharper() {
    let limit = |n: u64| {
        let runs: Vec<Run> = (100..100 + n).map(|seed| run(seed, 1.0)).collect();
        let outcome = judge("main", &history(20), &runs, &Rules { max_increase: 0.001, ..Rules::default() }).unwrap();
        outcome.findings.iter().find(|f| f.metric == Metric::Energy).and_then(|f| f.limit).unwrap()
    };
    assert!(limit(4) < 0.6 * limit(1));
}

#[test]
fn accuracy_and_size() {
    let with = |right: u64, bytes: u64| {
        let mut run = run(77, 1.0);
        for case in &mut run.cases {
            case.accuracy.as_mut().unwrap().right = right;
            case.model_bytes = crate::units::Bytes(bytes);
            case.model_sha256 = "new".into();
        }
        let outcome = judge("main", &history(6), &[run], &Rules::default()).unwrap();
        (verdict(&outcome, Metric::Accuracy).0, verdict(&outcome, Metric::Size).0)
    };
    // Not much worse, but a point less is not ruled out.
    assert_eq!(with(9180, 312_030), (Verdict::Undecided, Verdict::Same));
    assert_eq!(with(9250, 312_030), (Verdict::Same, Verdict::Same));
    assert_eq!(with(9000, 330_000), (Verdict::Worse, Verdict::Worse));
    assert_eq!(with(9500, 200_000), (Verdict::Better, Verdict::Better));
    assert_eq!(with(9150, 312_040), (Verdict::Undecided, Verdict::Same));
}

#[test]
fn a_case_without_a_figure_is_not_measured_and_a_new_one_is_new() {
    let mut now = run(77, 1.0);
    now.cases[0].measurement.energy = None;
    now.cases[1].key.threads = 2;
    let outcome = judge("main", &history(6), &[now], &Rules::default()).unwrap();
    assert_eq!(verdict(&outcome, Metric::Energy), (Verdict::Undecided, Basis::NotMeasured));
    assert!(outcome.findings.iter().filter(|f| f.key.threads == 2).all(|f| f.basis == Basis::New));
    assert!(judge("main", &[], &[], &Rules::default()).is_err());
}

#[test]
fn a_machine_that_changes_under_the_runs_is_remarked() {
    let rising = saved((0..10).map(|seed| run(seed, 1.02f64.powi(seed as i32))));
    let outcome = judge("main", &rising, &[run(77, 1.2)], &Rules::default()).unwrap();
    assert!(outcome.notes.iter().any(|n| n.contains("energy rose by")), "{:?}", outcome.notes);
}

fn disturb(mut run: Run) -> Run {
    run.cases.iter_mut().for_each(|c| c.measurement.disturbed_windows = c.measurement.windows / 2);
    run
}

#[test]
fn what_others_disturbed_is_no_evidence_but_size_and_accuracy_are() {
    let slower = disturb(run(77, 1.5));
    let mut larger = slower.clone();
    larger.cases[0].model_bytes.0 *= 2;
    let rules = Rules::default();
    let outcome = judge("main", &history(10), std::slice::from_ref(&slower), &rules).unwrap();
    assert!(outcome.passed());
    assert_eq!(verdict(&outcome, Metric::Energy), (Verdict::Undecided, Basis::Disturbed));
    assert_eq!(verdict(&outcome, Metric::Size), (Verdict::Same, Basis::Exact));
    assert!(outcome.sentence().contains("4 not judged, for others used the machine"), "{}", outcome.sentence());
    assert!(outcome.notes.iter().any(|n| n.contains("a.onnx: it was measured while others used the machine")), "{:?}", outcome.notes);
    assert!(!judge("main", &history(10), &[larger], &rules).unwrap().passed());
    // A quiet repetition is judged, and the disturbed one is not mixed into it.
    let both = judge("main", &history(10), &[slower, run(78, 1.0)], &rules).unwrap();
    assert!(both.passed() && matches!(verdict(&both, Metric::Energy).1, Basis::History { runs: 10, .. }));
    assert!(!judge("main", &history(10), &[disturb(run(77, 1.0)), run(78, 1.2)], &rules).unwrap().passed());
}

#[test]
fn disturbed_runs_of_a_baseline_teach_neither_level_nor_noise() {
    let mut runs: Vec<Run> = (0..10).map(|seed| run(seed, 1.0)).collect();
    runs.extend((10..15).map(|seed| disturb(run(seed, 1.4))));
    let outcome = judge("main", &saved(runs), &[run(77, 1.08)], &Rules::default()).unwrap();
    assert_eq!(verdict(&outcome, Metric::Energy).0, Verdict::Worse);
    assert!(outcome.notes.iter().any(|n| n.contains("5 of 15 runs of the baseline were disturbed")), "{:?}", outcome.notes);
    let all = judge("main", &saved((0..10).map(|seed| disturb(run(seed, 1.0)))), &[run(77, 2.0)], &Rules::default()).unwrap();
    assert_eq!(verdict(&all, Metric::Energy), (Verdict::Undecided, Basis::Disturbed));
}
