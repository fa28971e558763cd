//! The measurement protocol on a simulated machine with a ticking counter, correlated noise and drift: a thousand runs of the whole
//! of it, beside methods that do worse. `cargo bench --bench protocol` prints more, and draws the picture in docs/.

use crate::methods::{bootstrap, energy, machine, one_after_the_other, plan, protocol, rounds, until_found};
use joulefront::measure::Plan;
use joulefront::measure::simulation::{Machine, simulate};
use joulefront::units::Seconds;
use statrs::distribution::{Binomial, DiscreteCDF};

const RUNS: u64 = 1000;

/// Whether `hits` of `runs` are too few, were each to happen with probability `p`: it would be so in one of a thousand sound tests.
fn too_few(hits: u64, runs: u64, p: f64) -> bool {
    Binomial::new(p, runs).unwrap().cdf(hits) < 0.001
}

/// The stopping rule is on: as many processes as 1 % needs.
#[test]
fn figures_are_unbiased_and_intervals_hold_and_are_not_wide() {
    let (mut bias, mut ratio_bias, mut holds, mut ratio_holds) = (0.0, 0.0, 0, 0);
    let (mut width, mut plain_width) = (0.0, 0.0);
    for seed in 0..RUNS {
        let outcome = simulate(&machine(seed, 0.1), &Plan { precision: Some(0.01), ..plan(seed, 5) }).unwrap();
        let (e, truth) = (energy(&outcome).unwrap(), outcome.truth[1].0);
        let true_ratio = truth / outcome.truth[0].0;
        bias += e.gross.value / truth - 1.0;
        ratio_bias += e.ratio.unwrap().value / true_ratio - 1.0;
        holds += u64::from(e.gross.contains(truth));
        ratio_holds += u64::from(e.ratio.unwrap().contains(true_ratio));
        width += (e.gross.hi - e.gross.lo) / truth;
        // As many processes, fixed beforehand.
        let processes = outcome.results[1].as_ref().unwrap().processes as usize;
        let fixed = simulate(&machine(seed + RUNS, 0.1), &plan(seed, processes)).unwrap();
        let gross = energy(&fixed).unwrap().gross;
        plain_width += (gross.hi - gross.lo) / fixed.truth[1].0;
    }
    let mean = |sum: f64| sum / RUNS as f64;
    assert!(mean(bias).abs() <= 0.002 && mean(ratio_bias).abs() <= 0.002, "bias {} and {}", mean(bias), mean(ratio_bias));
    for (what, hits) in [("energy", holds), ("ratio", ratio_holds)] {
        assert!(!too_few(hits, RUNS, 0.94), "{what}: {hits} of {RUNS} intervals hold the truth");
    }
    assert!(width <= 1.3 * plain_width, "{} times as wide", width / plain_width);
}

#[test]
fn no_difference_is_called_where_there_is_none_and_weaker_methods_do() {
    let calls = |found: joulefront::stats::Interval| u64::from(!found.contains(1.0));
    let (mut ours, mut percentile, mut peeking, mut sequential) = (0, 0, 0, 0);
    for seed in 0..RUNS {
        let machine = machine(seed, 0.0);
        ours += u64::from(protocol(&machine, &plan(seed, 5)).unwrap().1);
        let rounds = rounds(&machine, &plan(seed, 24)).unwrap();
        percentile += calls(bootstrap(&rounds[..5], seed).unwrap());
        peeking += calls(until_found(&rounds).unwrap());
        // Two minutes after it was switched on, a machine grows warm faster.
        let warming = Machine { drift: 1e-3, ..machine };
        sequential += calls(one_after_the_other(&warming, &plan(seed, 16)).unwrap().unwrap());
    }
    assert!(Binomial::new(0.05, RUNS).unwrap().sf(ours) > 0.001, "{ours} of {RUNS} A/A runs call a difference");
    // The test of the test: each of these is wrong more often than it says, beyond chance.
    for (what, calls) in [("percentile bootstrap", percentile), ("stopping when found", peeking), ("one after the other", sequential)] {
        assert!(Binomial::new(0.05, RUNS).unwrap().sf(calls) < 1e-6, "{what}: {calls} of {RUNS}");
    }
}

#[test]
fn three_percent_are_found_within_three_minutes() {
    let runs = 300;
    let (mut found, mut longest) = (0, Seconds(0.0));
    for seed in 0..runs {
        let (ratio, called, took) = protocol(&machine(seed, 0.03), &plan(seed, 16)).unwrap();
        found += u64::from(called && ratio.value < 1.0);
        longest = Seconds(longest.0.max(took.0));
    }
    assert!(longest.0 <= 180.0, "{longest}");
    assert!(!too_few(found, runs, 0.95), "{found} of {runs}");
}

/// The second uses 1 % less than the first, and the machine grows warm by 0.2 % in each second.
#[test]
fn drift_that_fools_a_sequence_does_not_change_a_ranking() {
    let (mut ours, mut sequential) = (0, 0);
    let runs = 100;
    for seed in 0..runs {
        let warming = Machine { drift: 2e-3, ..machine(seed, 0.01) };
        ours += u64::from(protocol(&warming, &plan(seed, 32)).unwrap().0.value < 1.0);
        sequential += u64::from(one_after_the_other(&warming, &plan(seed, 32)).unwrap().unwrap().value < 1.0);
    }
    assert!(ours > 90, "{ours} of {runs} rankings are right");
    assert!(sequential < 10, "the drift fools nobody: {sequential} of {runs}");
}
