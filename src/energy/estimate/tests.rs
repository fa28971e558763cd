//! Watts of families and of profiles; what cannot be told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
use super::*;

fn reading(pid: u32, value: Result<u64, String>) -> Reading {
    Reading::take(Target { pid }, || vec![value])
}

#[test]
fn one_busy_second_is_the_familys_watts() {
    let cpu = CpuInfo { vendor: "AuthenticAMD".into(), family: Some(25), model: Some(17), ..CpuInfo::default() };
    let meter = Estimator::for_cpu(&cpu);
    let WindowEnergy::Valid { total, .. } = meter.energy(&reading(1, Ok(5)), &reading(1, Ok(1_000_000_005))) else { panic!() };
    assert!((total.0 - 2.28).abs() < 1e-9);
    assert_eq!((meter.info().systematic.low, meter.info().systematic.high), LOAD_CURVE);
    assert!(meter.info().systematic.source.contains("Genoa"));
}

#[test]
fn an_unknown_cpu_is_wider_than_a_known_one() {
    let meter = Estimator::for_cpu(&CpuInfo::default());
    let systematic = &meter.info().systematic;
    assert!(systematic.low < LOAD_CURVE.0 && systematic.high > LOAD_CURVE.1, "{systematic:?}");
    assert!((systematic.low - 0.244).abs() < 0.01 && (systematic.high - 4.46).abs() < 0.1, "{systematic:?}");
    assert_eq!(meter.watts(), AVERAGE);
}

#[test]
fn what_cannot_be_told_is_invalid() {
    let meter = Estimator::for_cpu(&CpuInfo::default());
    let gone = || Err("gone".to_owned());
    for (start, end) in [
        (reading(1, Ok(1)), reading(2, Ok(2))),
        (reading(1, Ok(2)), reading(1, Ok(1))),
        (reading(1, gone()), reading(1, Ok(1))),
        (reading(1, Ok(1)), reading(1, gone())),
    ] {
        assert!(matches!(meter.energy(&start, &end), WindowEnergy::Invalid(_)));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_has_ended_makes_the_window_invalid() {
    let mut meter = Estimator::open().unwrap();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let target = Target { pid: child.id() };
    let start = meter.read(target);
    child.wait().unwrap();
    let end = meter.read(target);
    assert!(matches!(meter.energy(&start, &end), WindowEnergy::Invalid(reason) if reason.contains("no such process")));
}

/// A reading of process 1 with the times of its threads.
fn with_threads(process: u64, threads: &[(u64, u64)]) -> Reading {
    let times = threads.iter().flat_map(|(thread, time)| [Ok(*thread), Ok(*time)]);
    Reading::take(Target { pid: 1 }, || std::iter::once(Ok(process)).chain(times).collect())
}

#[test]
fn with_a_profile_a_second_thread_costs_what_the_second_core_does() {
    const S: u64 = 1_000_000_000;
    let profile = crate::energy::profile::tests::concave();
    let meter = Estimator::profiled(&profile, &CpuInfo::default());
    assert_eq!((meter.info().kind, meter.warnings().len(), meter.watts()), (Kind::Estimated, 0, Watts(12.0)));
    let joules = |start: &Reading, end: &Reading| match meter.energy(start, end) {
        WindowEnergy::Valid { total, .. } => total.0,
        WindowEnergy::Invalid(why) => panic!("{why}"),
    };
    let start = with_threads(S, &[(1, S), (2, 0)]);
    // One thread alone; two for as long; one that is half as busy; the same with times that are a little behind.
    assert!((joules(&start, &with_threads(2 * S, &[(1, 2 * S), (2, 0)])) - 12.0).abs() < 1e-9);
    assert!((joules(&start, &with_threads(3 * S, &[(1, 2 * S), (2, S)])) - 18.0).abs() < 1e-9);
    assert!((joules(&start, &with_threads(5 * S / 2, &[(1, 2 * S), (2, S / 2)])) - 15.0).abs() < 1e-9);
    assert!((joules(&start, &with_threads(2 * S, &[(1, S + S * 95 / 100), (2, 0)])) - 12.0).abs() < 1e-9);
    // A thread that began and one that has ended in the window: the readings are microseconds apart, so its time is many short ones.
    assert!(joules(&start, &with_threads(S + 500, &[(3, 250)])) > 0.0);
}

#[test]
fn a_profile_of_another_cpu_or_of_a_simulation_says_so() {
    let mut profile = crate::energy::profile::tests::concave();
    let other = CpuInfo { model_name: "Other".into(), ..CpuInfo::default() };
    let meter = Estimator::profiled(&profile, &other);
    assert!(meter.warnings()[0].contains("this is `Other`; calibrate on"), "{:?}", meter.warnings());
    assert!(meter.info().systematic.source.contains("the range does not hold here"));
    profile.kind = Kind::Simulated;
    assert_eq!(Estimator::profiled(&profile, &other).info().kind, Kind::Simulated);
}

#[cfg(target_os = "linux")]
#[test]
fn threads_of_a_real_process_are_seen() {
    let mut meter = Estimator::profiled(&crate::energy::profile::tests::concave(), &CpuInfo::default());
    let me = Target::this_process();
    let start = meter.read(me);
    let sum: u64 = (0..3_000_000u64).map(std::hint::black_box).sum();
    let end = meter.read(me);
    assert!(sum > 0 && threads(&end).any(|(thread, _)| thread == u64::from(me.pid)));
    assert!(matches!(meter.energy(&start, &end), WindowEnergy::Valid { total, .. } if total.0 > 0.0));
}
