//! The figures are the truth, as far as they say they are.

use super::*;
use crate::measure::{Load, Phase};
use crate::stats::Verdict;

#[test]
fn without_noise_every_figure_is_exact() {
    let mut machine = Machine::ideal(vec![truth(0.01, 0.2), truth(0.002, 0.05)]);
    machine.idle = Watts(10.0);
    let results = run(&machine, &Plan::default()).unwrap();
    for (i, (latency, energy)) in [(0.01, 0.2), (0.002, 0.05)].into_iter().enumerate() {
        let m = results[i].as_ref().unwrap();
        let e = m.energy.as_ref().unwrap();
        assert_eq!((e.kind, e.meter.as_str(), e.scope), (Kind::Simulated, "simulation", Scope::Package));
        near(e.gross.value, (energy + 10.0 * latency) / 2.0);
        near(e.net.unwrap().value, energy / 2.0);
        near(e.ratio.unwrap().value, (energy + 10.0 * latency) / 0.3);
        for t in [m.latency.p50, m.latency.p90, m.latency.p99, Seconds(m.latency.mean.value)] {
            near(t.0, latency / 2.0);
        }
        near(m.latency.ratio.unwrap().value, latency / 0.01);
        near(m.throughput_per_s, 2.0 / latency);
        let runs_per_window = (0.5 / latency).round() as u64;
        assert_eq!((m.processes, m.windows, m.inferences), (5, 20, 20 * runs_per_window * BATCH));
        assert_eq!((m.peak_rss, m.rss_before_load), (Bytes(3_000_000 + i as u64), Bytes(1_000_000)));
        assert!(m.invalid_windows.is_empty() && m.warnings.is_empty(), "{m:?}");
    }
}

#[test]
fn a_subject_is_also_compared_with_another_than_the_reference() {
    let mut machine = Machine::rapl(vec![truth(0.01, 0.2), truth(0.004, 0.08), truth(0.002, 0.04), truth(0.01, 0.1)]);
    let plan = Plan { pairs: vec![(2, 1), (3, 1)], ..Plan::default() };
    let results = run(&machine, &plan).unwrap();
    let beside = |i: usize| results[i].as_ref().unwrap().beside;
    assert_eq!((beside(0), beside(1)), (None, None));
    let (energy, latency) = (beside(2).unwrap().energy.unwrap(), beside(2).unwrap().latency.unwrap());
    assert!(energy.ratio.contains(0.5) && energy.ratio.hi < 0.6 && energy.verdict == Verdict::Better, "{energy:?}");
    assert!((latency.ratio.value - 0.5).abs() < 0.01 && latency.verdict == Verdict::Better, "{latency:?}");
    assert_eq!(beside(3).unwrap().latency.unwrap().verdict, Verdict::Worse);
    // The other one may die: what is left is the comparison with the reference.
    machine.subjects[1].dies_at = Some(10);
    let results = run(&machine, &plan).unwrap();
    assert_eq!(results[2].as_ref().unwrap().beside, None);
    assert!(results[2].as_ref().unwrap().energy.as_ref().unwrap().ratio.is_some());
}

#[test]
fn requests_from_outside_carry_the_idle_energy_between_them() {
    let machine = Machine { idle: Watts(10.0), ..Machine::ideal(vec![truth(0.01, 0.2), truth(0.002, 0.05)]) };
    let results = run(&machine, &Plan { load: Load::Open { rate: 20.0 }, ..Plan::default() }).unwrap();
    for (m, energy) in results.iter().map(|m| m.as_ref().unwrap()).zip([0.2, 0.05]) {
        let e = m.energy.as_ref().unwrap();
        // 50 ms of idle power for each request of two samples.
        near(e.gross.value, (energy + 10.0 / 20.0) / 2.0);
        near(e.net.unwrap().value, energy / 2.0);
        assert_eq!((m.load, m.inferences), (Load::Open { rate: 20.0 }, 20 * 10 * BATCH));
        assert!(m.warnings.is_empty(), "{:?}", m.warnings);
    }
    let swamped = run(&machine, &Plan { load: Load::Open { rate: 200.0 }, ..Plan::default() }).unwrap();
    assert!(swamped[0].as_ref().unwrap().warnings[0].starts_with("200 requests per second are more"));
    assert!(swamped[1].as_ref().unwrap().warnings.is_empty());
}

#[test]
fn cold_starts_are_measured_from_process_to_answer() {
    let machine = Machine { idle: Watts(10.0), ..Machine::ideal(vec![truth(0.01, 0.2)]) };
    let m = one(&machine, &Plan { load: Load::Cold, ..Plan::default() });
    near(m.energy.as_ref().unwrap().gross.value, 0.3 / 2.0);
    near(m.latency.p50.0, 0.01 / 2.0);
    near(m.cold.unwrap().first.0, 0.01);
    assert_eq!((m.load, m.inferences), (Load::Cold, 20 * 50 * BATCH));
}

#[test]
fn a_linear_thermal_drift_does_not_change_a_ratio() {
    for seed in 0..20 {
        let mut machine = Machine::ideal(vec![truth(0.01, 0.2), truth(0.005, 0.08), truth(0.0025, 0.02)]);
        machine.drift = 0.02;
        let plan = Plan { seed, ..Plan::default() };
        let results = run(&machine, &plan).unwrap();
        let energy = |i: usize| results[i].as_ref().unwrap().energy.clone().unwrap();
        near(energy(1).ratio.unwrap().value, 0.4);
        near(energy(2).ratio.unwrap().value, 0.1);
        assert!(energy(0).gross.value > 0.12, "the drift is there: one sample takes 0.1 J at first");
    }
}

/// The order of windows, as numbers of subjects.
fn order(seed: u64) -> Vec<usize> {
    let machine = Machine::ideal(vec![truth(0.01, 0.1); 4]);
    let mut order = Vec::new();
    let mut note = |p: &Progress<'_>| {
        if p.phase == Phase::Window {
            order.push(p.subject[1..].parse().unwrap());
        }
    };
    simulate_batches(&machine, &Plan { seed, ..Plan::default() }, BATCH as usize, &mut note).unwrap();
    order
}

#[test]
fn every_block_has_every_subject_and_the_order_depends_on_the_seed_alone() {
    let first = order(1);
    assert_eq!(first, order(1));
    assert_ne!(first, order(2));
    assert_eq!(first.len(), 5 * 4 * 4);
    for pair in first.chunks(8) {
        let mut sorted = pair[..4].to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3]);
        assert!(pair[..4].iter().eq(pair[4..].iter().rev()), "{pair:?}");
    }
}

#[test]
fn cold_processes_are_warmed_up_first() {
    let mut machine = Machine::ideal(vec![truth(0.001, 0.1)]);
    machine.cold = (3.0, Seconds(0.3));
    let results = run(&machine, &Plan::default()).unwrap();
    let m = results[0].as_ref().unwrap();
    near(m.latency.p99.0, 0.0005);
    assert_eq!(m.inferences, 20 * 500 * BATCH);
    assert!(m.warnings.is_empty());
}

#[test]
fn a_process_that_never_settles_is_a_warning() {
    let mut machine = Machine::ideal(vec![truth(0.001, 0.1)]);
    machine.restless = 1.0;
    let m = one(&machine, &Plan::default());
    assert!(m.warnings.iter().any(|w| w.starts_with("latency did not become steady in 5 of 5 processes")), "{:?}", m.warnings);
}

#[test]
fn when_time_is_over_two_rounds_count_and_the_reader_is_told() {
    let machine = Machine::ideal(vec![truth(0.01, 0.1)]);
    let plan = Plan { max_time: Some(Seconds(1.0)), ..Plan::default() };
    let m = one(&machine, &plan);
    assert_eq!(m.processes, 2);
    assert!(m.warnings[0].starts_with("time was over after 2 of 5 processes"), "{:?}", m.warnings);
}
