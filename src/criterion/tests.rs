#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::energy::simulate::Ticker;
use crate::energy::{Powercap, Tree};
use crate::units::Watts;

/// 50 W, whatever the machine does, on a counter with that period.
fn fifty_watts(period_ms: u64) -> (crate::energy::simulate::Ticking, Energy) {
    let ticker = Ticker { period: Duration::from_millis(period_ms), ..Ticker::default() };
    let ticking = ticker.start(|t| Watts(50.0) * Seconds::from(t)).unwrap();
    let meter = Powercap::open(&Tree::at(ticking.root()), &Host::default()).unwrap();
    let energy = Energy::on(Box::new(meter)).disturbance(1.0);
    (ticking, energy)
}

fn spin(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[test]
fn a_sample_is_the_energy_of_its_iterations_whatever_their_number() {
    let (ticking, energy) = fifty_watts(1);
    assert!(energy.window() >= Duration::from_millis(200));
    assert_eq!(
        energy
            .to_string()
            .split(';')
            .next()
            .unwrap()
            .matches("simulated counter, meter powercap, scope package, isolation in_process")
            .count(),
        1
    );
    for iterations in [3, 50, 400] {
        let (mut runs, begin) = (0u32, Instant::now());
        let sample = energy.sample(iterations, || {
            runs += 1;
            spin(Duration::from_millis(1));
        });
        let per_run = sample.nanojoules().unwrap() / iterations as f64;
        // A run took as long as it took: its energy is 50 W times that, but for what the counter was behind.
        let (wall, lag) = (begin.elapsed().as_secs_f64(), ticking.longest_lag().as_secs_f64());
        let truth = 50e9 * wall / f64::from(runs);
        let error = 2.0 * (lag + 0.003) / wall + 0.02;
        assert!((per_run / truth - 1.0).abs() < error, "{iterations}: {per_run} nJ instead of {truth}, {error}");
        assert!(begin.elapsed() >= energy.window() && u64::from(runs) % iterations == 0);
    }
}

#[test]
fn no_sample_is_zero_also_while_criterion_warms_up() {
    let (_ticking, energy) = fifty_watts(20);
    let mut quick = 0;
    for iterations in [1, 2, 4, 8] {
        let begin = Instant::now();
        assert!(energy.sample(iterations, || ()).nanojoules().unwrap() > 0.0);
        quick += usize::from(begin.elapsed() < energy.window());
    }
    // A window of this counter is four seconds long; a doubling need not fill one.
    assert_eq!(quick, 4);
    assert!(energy.window() > Duration::from_secs(2));
}

#[test]
fn criterions_doubling_is_told_from_samples() {
    let (_ticking, energy) = fifty_watts(1);
    let warm = |calls: &[u64]| calls.iter().map(|n| energy.warms_up(*n)).collect::<Vec<_>>();
    assert_eq!(warm(&[1, 2, 4, 7, 7, 8]), [true, true, true, false, false, false]);
    assert_eq!(warm(&[1, 1, 1, u64::MAX]), [true, false, true, false]);
}

#[test]
fn what_is_not_known_is_said_when_it_is_used_and_not_before() {
    let (ticking, energy) = fifty_watts(1);
    let edge = energy.start();
    std::fs::remove_file(ticking.root().join("class/powercap/intel-rapl:0/name")).unwrap();
    drop(ticking);
    let sample = energy.end(edge);
    let reason = sample.nanojoules().unwrap_err().to_string();
    assert!(reason.contains("not known") && reason.contains("`Energy::iter`"), "{reason}");
    let sum = energy.add(&energy.zero(), &sample);
    assert_eq!(sum, sample);
    let used = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| energy.to_f64(&sum)));
    assert!(used.is_err());
    let failed = energy.sample(1000, || ()).nanojoules().unwrap_err().to_string();
    assert!(failed.contains("not known"), "{failed}");
}
