//! Golden trees, faults and a ticking counter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use super::*;
use crate::energy::simulate::Ticker;
use crate::energy::{Meter, Reading, Target, WindowEnergy};
use crate::units::{Seconds, Watts};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MAX: &str = "262143328850\n";

/// A tree of zones: folder under `class/powercap`, `name`, `energy_uj`, `max_energy_range_uj` (`None`: no such file).
fn tree(zones: &[(&str, &str, Option<&str>, Option<&str>)]) -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    for (id, name, energy, max) in zones {
        let zone = dir.path().join("class/powercap").join(id);
        std::fs::create_dir_all(&zone).unwrap();
        std::fs::write(zone.join("name"), name).unwrap();
        for (file, text) in [("energy_uj", energy), ("max_energy_range_uj", max)] {
            if let Some(text) = text {
                std::fs::write(zone.join(file), text).unwrap();
            }
        }
    }
    let tree = Tree::at(dir.path());
    (dir, tree)
}

fn open(tree: &Tree) -> Result<Powercap, Unavailable> {
    Powercap::open(tree, &Host::at("/nowhere"))
}

/// Names of the domains, those in the headline sum marked with `+`.
#[track_caller]
fn check(zones: &[(&str, &str, Option<&str>, Option<&str>)], expect: &[&str], scope: Scope) {
    let (_dir, tree) = tree(zones);
    let meter = open(&tree).unwrap();
    let shown: Vec<String> = meter.info().domains.iter().map(|d| format!("{}{}", if d.counted { "+" } else { "" }, d.name)).collect();
    assert_eq!(shown, expect);
    assert_eq!((meter.info().scope, meter.info().kind, meter.info().attributes_idle), (scope, Kind::Simulated, true));
}

const E: Option<&str> = Some("100\n");
const M: Option<&str> = Some(MAX);

#[test]
fn one_socket_of_a_client() {
    check(
        &[
            ("intel-rapl:0", "package-0\n", E, M),
            ("intel-rapl:0:0", "core\n", E, M),
            ("intel-rapl:0:1", "uncore\n", E, M),
            ("intel-rapl:0:2", "dram\n", E, M),
        ],
        &["+package-0", "package-0/core", "package-0/uncore", "+package-0/dram"],
        Scope::PackageDram,
    );
}

#[test]
fn psys_at_one_and_the_second_socket_at_two() {
    check(
        &[
            ("intel-rapl:0", "package-0\n", E, M),
            ("intel-rapl:0:0", "dram\n", E, M),
            ("intel-rapl:1", "psys\n", E, M),
            ("intel-rapl:2", "package-1\n", E, M),
            ("intel-rapl:2:0", "dram\n", E, M),
        ],
        &["+package-0", "+package-0/dram", "psys", "+package-1", "+package-1/dram"],
        Scope::PackageDram,
    );
}

#[test]
fn dies_are_packages_and_ten_sorts_after_two() {
    check(
        &[
            ("intel-rapl:10", "package-1-die-1", E, M),
            ("intel-rapl:2", "package-1-die-0", E, M),
            ("intel-rapl:0", "package-0-die-0", E, M),
            ("intel-rapl:1", "package-0-die-1", E, M),
        ],
        &["+package-0-die-0", "+package-0-die-1", "+package-1-die-0", "+package-1-die-1"],
        Scope::Package,
    );
}

#[test]
fn mmio_repeats_a_package_and_is_not_added() {
    check(
        &[
            ("intel-rapl-mmio:0", "package-0\n", E, M),
            ("intel-rapl-mmio:0:0", "dram\n", E, M),
            ("intel-rapl:0", "package-0\n", E, M),
            ("intel-rapl:0:0", "dram\n", E, M),
        ],
        &["+package-0", "+package-0/dram"],
        Scope::PackageDram,
    );
    let (_dir, tree) = tree(&[("intel-rapl-mmio:0", "package-0", Some("1"), M), ("intel-rapl:0", "package-0", Some("2"), M)]);
    assert_eq!(open(&tree).unwrap().read(Target::this_process()).values(), [Ok(2)]);
}

#[test]
fn mmio_alone_is_better_than_nothing() {
    check(&[("intel-rapl-mmio:0", "package-0\n", E, M)], &["+package-0"], Scope::Package);
}

#[test]
fn amd_has_no_dram() {
    check(&[("intel-rapl:0", "package-0\n", E, M), ("intel-rapl:0:0", "core\n", E, M)], &["+package-0", "package-0/core"], Scope::Package);
}

#[test]
fn dram_of_one_socket_only_is_not_counted() {
    check(
        &[("intel-rapl:0", "package-0", E, M), ("intel-rapl:0:0", "dram", E, M), ("intel-rapl:1", "package-1", E, M)],
        &["+package-0", "package-0/dram", "+package-1"],
        Scope::Package,
    );
    // The same when the second socket's dram holds garbage.
    check(
        &[
            ("intel-rapl:0", "package-0", E, M),
            ("intel-rapl:0:0", "dram", E, M),
            ("intel-rapl:1", "package-1", E, M),
            ("intel-rapl:1:0", "dram", Some("n/a"), M),
        ],
        &["+package-0", "package-0/dram", "+package-1"],
        Scope::Package,
    );
}

#[test]
fn zones_inside_zones_and_unknown_ones() {
    check(
        &[
            ("intel-rapl/intel-rapl:0", "package-0\n", E, M),
            ("intel-rapl/intel-rapl:0/intel-rapl:0:0", "dram\n", E, M),
            ("intel-rapl/intel-rapl:0/power", "package-7\n", E, M),
            ("intel-rapl/intel-rapl:1", "package-\n", E, M),
            ("dtpm:0", "soc\n", E, M),
            ("dtpm:1", "", E, M),
        ],
        &["+package-0", "+package-0/dram"],
        Scope::PackageDram,
    );
}

#[test]
fn nothing_usable_says_what() {
    let reason = |zones: &[_]| {
        let (_dir, tree) = tree(zones);
        open(&tree).unwrap_err().reason
    };
    assert!(reason(&[]).contains("no zone named `package-N`"));
    assert!(reason(&[("intel-rapl:1", "psys", E, M)]).contains("no zone named `package-N`"));
    for bad in ["", "garbage\n", "-5", "1.5"] {
        assert!(reason(&[("intel-rapl:0", "package-0", Some(bad), M)]).contains("is not a number"), "{bad:?}");
    }
    assert!(reason(&[("intel-rapl:0", "package-0", None, M)]).contains("is missing"));
    // A socket that cannot be read must not silently halve the sum.
    assert!(reason(&[("intel-rapl:0", "package-0", E, M), ("intel-rapl:1", "package-1", Some("x"), M)]).contains("intel-rapl:1"));
}

#[test]
fn a_denied_counter_names_the_cve_and_a_group() {
    let (_dir, tree) = tree(&[("intel-rapl:0", "package-0", E, M)]);
    let tree = tree.with_reader(|path: &Path| match path.ends_with("energy_uj") {
        true => Err(io::ErrorKind::PermissionDenied.into()),
        false => std::fs::read_to_string(path),
    });
    let unavailable = open(&tree).unwrap_err();
    assert!(unavailable.reason.contains("CVE-2020-8694") && unavailable.reason.contains("0400"));
    assert!(unavailable.fix.contains("chgrp") && !unavailable.fix.contains("a+r"));
}

/// Energy of a window whose counter goes from `start` to `end`; `Err` is a fault of the second reading.
fn window(max: Option<&str>, start: &str, end: io::Result<&str>) -> WindowEnergy {
    let (_dir, tree) = tree(&[("intel-rapl:0", "package-0", Some(start), max)]);
    let faults: Arc<Mutex<HashMap<&str, io::Result<String>>>> = Arc::default();
    let shared = faults.clone();
    let tree = tree.with_reader(move |path: &Path| match shared.lock().unwrap().get("energy_uj") {
        Some(Ok(text)) if path.ends_with("energy_uj") => Ok(text.clone()),
        Some(Err(e)) if path.ends_with("energy_uj") => Err(e.kind().into()),
        _ => std::fs::read_to_string(path),
    });
    let mut meter = open(&tree).unwrap();
    let me = Target::this_process();
    let before = meter.read(me);
    faults.lock().unwrap().insert("energy_uj", end.map(str::to_owned));
    let after = meter.read(me);
    meter.energy(&before, &after)
}

#[test]
fn forward_wrapped_and_backwards() {
    let joules = |energy| match energy {
        WindowEnergy::Valid { total, .. } => (total.0 * 1e6).round() as u64,
        WindowEnergy::Invalid(reason) => panic!("{reason}"),
    };
    assert_eq!(joules(window(M, "100", Ok("350"))), 250);
    assert_eq!(joules(window(M, "262143328800", Ok("49"))), 100);
    for no_maximum in [None, Some(""), Some("garbage"), Some("0")] {
        assert_eq!(joules(window(no_maximum, "100", Ok("350"))), 250);
        assert!(matches!(window(no_maximum, "350", Ok("100")), WindowEnergy::Invalid(r) if r.contains("backwards")));
    }
}

#[test]
fn a_fault_in_the_middle_of_a_run_makes_the_window_invalid() {
    for kind in [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied, io::ErrorKind::Other] {
        assert!(matches!(window(M, "1", Err(kind.into())), WindowEnergy::Invalid(r) if r.contains("energy_uj")), "{kind:?}");
    }
    assert!(matches!(window(M, "1", Ok("garbage")), WindowEnergy::Invalid(r) if r.contains("garbage")));
    assert!(matches!(window(M, "1", Ok("1")), WindowEnergy::Invalid(r) if r.contains("stood still")));
}

/// Reads the meter, and how long that took.
fn timed(meter: &mut Powercap) -> (Reading, Duration) {
    let begin = Instant::now();
    let reading = meter.read(Target::this_process());
    (reading, begin.elapsed())
}

/// The truth is known; the counter may lag behind it by as long as the ticking thread was kept waiting, and by no more.
#[test]
fn a_ticking_counter_gives_its_truth_back_across_a_wrap() {
    const POWER: Watts = Watts(50.0);
    // At 50 W it wraps 20 ms after its start, before the first reading or in the window, and then not for 200 s.
    let ticker = Ticker { start_uj: 9_999_000_000, max_uj: 9_999_999_999, ..Ticker::default() };
    let sim = ticker.start(|t| POWER * Seconds::from(t)).unwrap();
    let mut meter = open(&Tree::at(sim.root())).unwrap();
    let (start, first) = timed(&mut meter);
    std::thread::sleep(Duration::from_millis(60));
    let (end, last) = timed(&mut meter);
    // The lag is known for ticks that have ended: let two more go by.
    let mut latest = end.clone();
    for _ in 0..2 {
        let before = latest.clone();
        while latest.values() == before.values() {
            assert!(latest.since(&end) < Duration::from_secs(60), "the counter stopped");
            latest = timed(&mut meter).0;
        }
    }
    if end.since(&start).as_secs_f64() > 9.0 {
        return; // a machine so slow that the meter must refuse the window
    }
    let energy = meter.energy(&start, &end);
    let WindowEnergy::Valid { total, resolution } = energy else { panic!("{energy:?}") };
    let truth = sim.truth(end.at()) - sim.truth(start.at());
    let tolerance = POWER * Seconds::from(sim.longest_lag() + first + last) + Joules(2e-6);
    assert!((total.0 - truth.0).abs() <= tolerance.0, "{total} for {truth}, tolerance {tolerance}");
    assert!(resolution.0 > 0.0 && resolution.0 <= total.0);
}
