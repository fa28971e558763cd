//! Batteries, their states, and gauges that change seldom.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use super::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join("class/power_supply").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let tree = Tree::at(dir.path());
    (dir, tree)
}

const LAPTOP: &[(&str, &str)] = &[
    ("AC/type", "Mains\n"),
    ("AC/online", "0\n"),
    ("BAT0/type", "Battery\n"),
    ("BAT0/status", "Discharging\n"),
    ("BAT0/energy_now", "40000000\n"),
    ("hidpp_battery_0/type", "Battery\n"),
    ("hidpp_battery_0/scope", "Device\n"),
    ("hidpp_battery_0/status", "Discharging\n"),
    ("hidpp_battery_0/energy_now", "1\n"),
];

const PHONE: &[(&str, &str)] = &[
    ("battery/type", "Battery\n"),
    ("battery/status", "Discharging\n"),
    ("battery/charge_now", "3000000\n"),
    ("battery/voltage_now", "4000000\n"),
];

#[test]
fn a_battery_that_is_not_discharged_says_what_to_do() {
    let why = |files: &[(&str, &str)]| {
        let (_dir, tree) = tree(files);
        Battery::open(&tree).unwrap_err()
    };
    assert!(why(&[]).reason.contains("no battery"));
    for status in ["Charging", "Full", "Not charging", "Unknown"] {
        let plugged = why(&[("BAT0/type", "Battery"), ("BAT0/status", status), ("BAT0/energy_now", "5")]);
        assert!(plugged.reason.contains(&format!("`BAT0` is {status}")) && plugged.fix.contains("unplug"), "{plugged:?}");
    }
    assert!(why(&[("BAT0/type", "Battery"), ("BAT0/status", "Discharging")]).reason.contains("energy_now` is missing"));
    assert!(why(&[("BAT0/type", "Battery"), ("BAT0/status", "Discharging"), ("BAT0/energy_now", "x")]).reason.contains("not a number"));
}

/// A meter whose gauge shows what `shown` holds, and the state that goes with it.
fn scripted(files: &[(&str, &str)], gauge: &'static str) -> (tempfile::TempDir, Battery, Arc<AtomicU64>) {
    let (dir, tree) = tree(files);
    let shown = Arc::new(AtomicU64::new(40_000_000));
    let read = Arc::clone(&shown);
    let tree = tree.with_reader(move |path: &Path| match read.load(Ordering::Relaxed) {
        0 if path.ends_with("status") => Ok("Charging\n".into()),
        n if path.ends_with(gauge) => Ok(n.to_string()),
        _ => std::fs::read_to_string(path),
    });
    let meter = Battery::open(&tree).unwrap();
    (dir, meter, shown)
}

#[test]
fn energy_is_what_the_gauge_lost_once_it_has_changed_often_enough() {
    let (_dir, mut meter, shown) = scripted(LAPTOP, "energy_now");
    assert_eq!((meter.info().scope, meter.info().domains.len(), meter.info().kind), (Scope::Battery, 1, Kind::Simulated));
    let me = Target::this_process();
    let start = meter.read(me);
    shown.fetch_sub(1000, Ordering::Relaxed);
    let end = meter.read(me);
    let short = meter.energy(&start, &end);
    assert!(matches!(&short, WindowEnergy::Invalid(r) if r.contains("changed 1 times") && r.contains("use windows of")), "{short:?}");
    // Every domain's own difference is exact all the same.
    let each = meter.domains_energy(&start, &end);
    assert!(matches!(each[0].1, WindowEnergy::Valid { total, .. } if (total.0 - 3.6).abs() < 1e-9), "{each:?}");
    assert!(matches!(meter.energy(&start, &start), WindowEnergy::Invalid(_)));
}

#[test]
fn plugging_the_charger_in_ends_the_window() {
    let (_dir, mut meter, shown) = scripted(LAPTOP, "energy_now");
    let me = Target::this_process();
    let start = meter.read(me);
    let level = shown.swap(0, Ordering::Relaxed);
    let plugged = meter.read(me);
    shown.store(level + 5000, Ordering::Relaxed);
    let unplugged = meter.read(me);
    shown.store(level + 9000, Ordering::Relaxed);
    let up = meter.read(me);
    assert!(matches!(meter.energy(&start, &plugged), WindowEnergy::Invalid(r) if r.contains("is Charging")));
    assert!(matches!(meter.energy(&start, &unplugged), WindowEnergy::Invalid(r) if r.contains("is Charging")));
    assert!(matches!(meter.energy(&unplugged, &up), WindowEnergy::Invalid(r) if r.contains("went up")));
}

#[test]
fn charge_times_voltage() {
    let (_dir, mut meter, shown) = scripted(PHONE, "charge_now");
    let me = Target::this_process();
    let start = meter.read(me);
    shown.fetch_sub(1000, Ordering::Relaxed);
    let end = meter.read(me);
    // 1 mAh at 4 V: 14.4 J.
    let each = meter.domains_energy(&start, &end);
    assert!(matches!(each[0].1, WindowEnergy::Valid { total, .. } if (total.0 - 14.4).abs() < 1e-5), "{each:?}");
}

#[test]
fn changes_and_their_period() {
    let me = Target::this_process();
    let mut readings = Vec::new();
    for value in [5, 5, 6, 6, 7, 7, 7, 8] {
        readings.push(Reading::take(me, || vec![Ok(value)]));
        std::thread::sleep(Duration::from_millis(1));
    }
    let (seen, period) = changes(readings.iter());
    let expect = readings[7].since(&readings[2]).as_secs_f64() / 2.0;
    assert!(seen == 3 && (period.unwrap().0 - expect).abs() < 1e-9);
    assert_eq!(changes(readings[..3].iter()), (1, None));
}
