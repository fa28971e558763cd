//! Faults that other tools have published, each as a test that this one does not have it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use super::*;
use crate::sys::Host;
use crate::units::{Joules, Seconds};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MAX: &str = "262143328850";

/// A tree of zones: id, name, microjoules.
fn zones(zones: &[(&str, &str, &str)]) -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    for (id, name, energy) in zones {
        let zone = dir.path().join("class/powercap").join(id);
        std::fs::create_dir_all(&zone).unwrap();
        for (file, text) in [("name", *name), ("energy_uj", *energy), ("max_energy_range_uj", MAX)] {
            std::fs::write(zone.join(file), text).unwrap();
        }
    }
    let tree = Tree::at(dir.path());
    (dir, tree)
}

fn open(tree: &Tree) -> Powercap {
    Powercap::open(tree, &Host::at("/nowhere")).unwrap()
}

fn counted(meter: &dyn Meter) -> Vec<String> {
    meter.info().domains.iter().filter(|d| d.counted).map(|d| d.name.clone()).collect()
}

/// CodeCarbon #117: power sampled every 10 ms gave 0.035 Wh for 2.2 Wh. A counter is read at the edges and not between them,
/// so that what happened in between is in it, however short it was.
#[test]
fn codecarbon_117_energy_is_a_difference_and_not_sampled_power() {
    let (_dir, tree) = zones(&[("intel-rapl:0", "package-0", "0")]);
    let (value, reads) = (Arc::new(AtomicU64::new(1_000_000)), Arc::new(AtomicU64::new(0)));
    let (shown, counted) = (Arc::clone(&value), Arc::clone(&reads));
    let tree = tree.with_reader(move |path: &Path| match path.ends_with("energy_uj") {
        true => {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(shown.load(Ordering::Relaxed).to_string())
        }
        false => std::fs::read_to_string(path),
    });
    let mut meter = open(&tree);
    let me = Target::this_process();
    // The thread that watches for wraps reads once when it starts, and then once a minute.
    let begin = Instant::now();
    let start = loop {
        let reading = meter.read(me);
        if !nothing_followed(&meter) || begin.elapsed() > Duration::from_secs(60) {
            break reading;
        }
    };
    let before = reads.load(Ordering::Relaxed);
    // A burst of 100 W for a millisecond.
    value.fetch_add(100_000, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(50));
    let between = reads.load(Ordering::Relaxed) - before;
    let end = meter.read(me);
    assert_eq!(between, 0, "the counter was polled in the window");
    assert!(matches!(meter.energy(&start, &end), WindowEnergy::Valid { total, .. } if (total.0 - 0.1).abs() < 1e-9));
}

/// The thread's first reading is done.
fn nothing_followed(meter: &Powercap) -> bool {
    meter.bank.latest(1).is_empty()
}

/// CodeCarbon #788, "almost twice as high": psys contains the packages and is not added to them.
#[test]
fn codecarbon_788_psys_is_not_added() {
    let (_dir, tree) = zones(&[("intel-rapl:0", "package-0", "5"), ("intel-rapl:1", "psys", "9"), ("intel-rapl:0:0", "core", "3")]);
    assert_eq!(counted(&open(&tree)), ["package-0"]);
}

/// CodeCarbon: a file that could not be read counted as 0, and the next reading as a wrap: a phantom of 262 kJ.
#[test]
fn codecarbon_an_unreadable_file_is_no_phantom_of_262_kilojoules() {
    let (_dir, tree) = zones(&[("intel-rapl:0", "package-0", "0")]);
    let value = Arc::new(AtomicU64::new(200_000_000_000));
    let shown = Arc::clone(&value);
    let tree = tree.with_reader(move |path: &Path| match (path.ends_with("energy_uj"), shown.load(Ordering::Relaxed)) {
        (true, u64::MAX) => Err(io::ErrorKind::PermissionDenied.into()),
        (true, n) => Ok(n.to_string()),
        _ => std::fs::read_to_string(path),
    });
    let mut meter = open(&tree);
    let mut at = |n: u64| {
        value.store(n, Ordering::Relaxed);
        meter.read(Target::this_process())
    };
    let readings = [at(200_000_000_000), at(u64::MAX), at(200_000_000_100), at(0), at(200_000_000_200)];
    for (a, b) in [(0, 1), (1, 2), (0, 2), (2, 3), (3, 4)] {
        let energy = meter.energy(&readings[a], &readings[b]);
        assert!(matches!(energy, WindowEnergy::Invalid(_)), "{a} {b}: {energy:?}");
    }
}

/// energymon #53: with a unit of 15.3 µJ a 32-bit counter wraps after 234 s at 280 W. Long windows are sums of short ones.
#[test]
fn energymon_53_a_counter_that_wraps_every_four_minutes() {
    let counter = Counter::new(Some(u64::from(u32::MAX)), Joules(15.3e-6));
    let wrap = counter.modulus().unwrap().0 / 280.0;
    assert!((wrap - 234.0).abs() < 1.0, "{wrap}");
    let at = |seconds: f64| ((seconds * 280.0 / 15.3e-6) as u128 % (1u128 << 32)) as u64;
    // Ten minutes in one step cannot be told; as often as it is read here (four times per wrap at 1 kW) they can.
    assert!(matches!(counter.energy(at(0.0), at(600.0), Duration::from_secs(600)), WindowEnergy::Invalid(_)));
    let step = counter.longest_gap().unwrap().0 / 4.0;
    let (mut sum, mut t) = (0.0, 0.0);
    while t < 600.0 {
        let next = f64::min(t + step, 600.0);
        match counter.energy(at(t), at(next), Duration::from_secs_f64(next - t)) {
            WindowEnergy::Valid { total, .. } => sum += total.0,
            WindowEnergy::Invalid(why) => panic!("{why}"),
        }
        t = next;
    }
    assert!((sum - 280.0 * 600.0).abs() < 0.01, "{sum}");
}

/// EnergiBridge #17: −250,769 J, and a panic.
#[test]
fn energibridge_17_no_energy_is_negative() {
    for max in [None, Some(262_143_328_850)] {
        let counter = Counter::new(max, Joules(1e-6));
        let energy = counter.energy(250_769_000_000, 0, Duration::from_secs(1));
        assert!(matches!(energy, WindowEnergy::Invalid(_)), "{energy:?}");
    }
}

/// EnergiBridge unwraps a domain that is not there, and scaphandre panics on what it cannot read.
#[test]
fn energibridge_and_scaphandre_what_is_missing_or_garbage_does_not_panic() {
    let (_dir, tree) = zones(&[("intel-rapl:0", "package-0", "5"), ("intel-rapl:0:0", "dram", "\u{0}\u{1}"), ("intel-rapl:1", "", "5")]);
    let meter = open(&tree);
    assert_eq!((counted(&meter), meter.info().scope), (vec!["package-0".to_owned()], Scope::Package));
    let (_dir, garbage) = zones(&[("intel-rapl:0", "package-0", "five\n")]);
    assert!(Powercap::open(&garbage, &Host::at("/nowhere")).unwrap_err().reason.contains("is not a number"));
}

/// papi #53: zones are numbered as they come; `intel-rapl:1` may be psys and the second socket `intel-rapl:2`.
#[test]
fn papi_53_zones_are_known_by_their_names() {
    let (_dir, tree) = zones(&[("intel-rapl:0", "package-0", "5"), ("intel-rapl:1", "psys", "5"), ("intel-rapl:2", "package-1", "5")]);
    assert_eq!(counted(&open(&tree)), ["package-0", "package-1"]);
}

/// carbontracker #93: memory without a counter was taken for 0 J. Here the scope says that it is not in the figure.
#[test]
fn carbontracker_93_absent_memory_is_unknown_and_not_nothing() {
    let (_dir, tree) = zones(&[("intel-rapl:0", "package-0", "5")]);
    let meter = open(&tree);
    assert_eq!((meter.info().scope, meter.info().scope.name()), (Scope::Package, "package"));
    assert!(meter.info().domains.iter().all(|d| !d.name.contains("dram")));
}

/// Per-core counters of dual EPYC 7702 were seen aberrant: parts of a package never reach the headline.
#[test]
fn epyc_7702_cores_are_shown_beside_only() {
    let (dir, tree) = zones(&[("intel-rapl:0", "package-0", "5"), ("intel-rapl:0:0", "core", "999"), ("intel-rapl:1", "package-1", "5")]);
    let mut meter = open(&tree);
    let me = Target::this_process();
    let start = meter.read(me);
    for (zone, energy) in [("intel-rapl:0", "1000005"), ("intel-rapl:0:0", "1"), ("intel-rapl:1", "1000005")] {
        std::fs::write(dir.path().join("class/powercap").join(zone).join("energy_uj"), energy).unwrap();
    }
    let end = meter.read(me);
    assert!(matches!(meter.energy(&start, &end), WindowEnergy::Valid { total, .. } if (total.0 - 2.0).abs() < 1e-9));
    let each = meter.domains_energy(&start, &end);
    let core = each.iter().find(|(name, _)| name == "package-0/core").unwrap();
    assert!(matches!(core.1, WindowEnergy::Invalid(_)), "{core:?}");
}

/// Windows of any length on a counter that wraps while they last: three wraps here, of which two readings alone show none.
#[test]
fn a_window_over_several_wraps_is_the_sum_of_its_parts() {
    use super::simulate::Ticker;
    use crate::units::Watts;
    const POWER: Watts = Watts(50.0);
    let ticker = Ticker { max_uj: 74_999_999, ..Ticker::default() };
    let sim = ticker.start(|t| POWER * Seconds::from(t)).unwrap();
    let mut meter = open(&Tree::at(sim.root()));
    assert!(meter.longest_window().unwrap().0 > 60.0);
    let me = Target::this_process();
    let start = meter.read(me);
    std::thread::sleep(Duration::from_millis(4700));
    let end = meter.read(me);
    match meter.energy(&start, &end) {
        WindowEnergy::Valid { total, .. } => {
            let truth = sim.truth(end.at()) - sim.truth(start.at());
            let tolerance = POWER.0 * 2.0 * (sim.longest_lag().as_secs_f64() + 0.05);
            assert!((total.0 - truth.0).abs() <= tolerance, "{total} for {truth}");
        }
        // The thread did not get to run for longer than a wrap could take: that is said, and no figure is given.
        WindowEnergy::Invalid(why) => assert!(why.contains("can wrap twice") || why.contains("can have used"), "{why}"),
    }
}
