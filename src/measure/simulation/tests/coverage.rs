//! How often the intervals hold the truth. (With a ticking counter, drift, and beside weaker methods: tests/it/protocol.rs.)

use super::*;

/// Share of `runs` seeds whose intervals of energy and ratio hold the truth; checks each result with `check`.
fn coverage(runs: u64, plan: &Plan, check: &dyn Fn(&Measurement)) -> (f64, f64) {
    let (mut energy, mut ratio) = (0, 0);
    for seed in 0..runs {
        let noisy = Machine { process_noise: 0.01, window_noise: 0.02, seed, ..Machine::ideal(vec![truth(0.05, 0.2), truth(0.05, 0.1)]) };
        let results = run(&noisy, &Plan { seed, ..plan.clone() }).unwrap();
        let m = results[1].as_ref().unwrap();
        check(m);
        let e = m.energy.as_ref().unwrap();
        energy += u64::from(e.gross.contains(0.05));
        ratio += u64::from(e.ratio.unwrap().contains(0.5));
    }
    (energy as f64 / runs as f64, ratio as f64 / runs as f64)
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let (energy, ratio) = coverage(1000, &Plan::default(), &|_| ());
    // 95 % less three standard errors of 1,000 draws.
    assert!(energy > 0.929 && ratio > 0.929, "{energy} {ratio}");
}

#[test]
fn a_precision_is_reached_and_its_interval_still_holds() {
    let precise = Plan { precision: Some(0.01), ..Plan::default() };
    let reached = |m: &Measurement| {
        let gross = m.energy.as_ref().unwrap().gross;
        let half = (gross.hi - gross.lo) / 2.0 / gross.value;
        assert!(half <= 0.0105, "{half} after {} processes", m.processes);
        assert!(m.processes >= 8, "the pilot");
    };
    let (energy, _) = coverage(500, &precise, &reached);
    assert!(energy > 0.92, "{energy}");
}
