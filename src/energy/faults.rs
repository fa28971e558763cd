//! Every fault at every reading of every meter: the window is invalid with its reason, and the next one is valid again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use super::*;
use crate::sys::Host;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What the file of a counter does instead of showing its value.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Error(io::ErrorKind),
    Os(i32),
    Text(&'static str),
    /// It shows less than before (a battery: more).
    Backwards,
}

const FAULTS: [Fault; 13] = [
    Fault::Error(io::ErrorKind::PermissionDenied),
    Fault::Error(io::ErrorKind::NotFound),
    Fault::Error(io::ErrorKind::UnexpectedEof),
    Fault::Os(libc::EIO),
    Fault::Os(libc::ENODEV),
    Fault::Os(libc::ENODATA),
    Fault::Os(libc::EAGAIN),
    Fault::Text(""),
    Fault::Text("garbage"),
    Fault::Text("-5"),
    Fault::Text("1.5e3"),
    Fault::Text("99999999999999999999999999"),
    Fault::Backwards,
];

/// What the file shows now.
struct Shown {
    value: AtomicU64,
    /// Per reading; a battery loses.
    step: i64,
    fault: Mutex<Option<Fault>>,
}

impl Shown {
    fn new(value: u64, step: i64) -> Arc<Self> {
        Arc::new(Shown { value: AtomicU64::new(value), step, fault: Mutex::default() })
    }

    fn read(&self) -> io::Result<String> {
        let value = self.value.fetch_add(self.step as u64, Ordering::Relaxed);
        match *self.fault.lock().unwrap() {
            None => Ok(value.to_string()),
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::Os(code)) => Err(io::Error::from_raw_os_error(code)),
            Some(Fault::Text(text)) => Ok(text.to_owned()),
            Some(Fault::Backwards) => Ok((value as i64 - 5_000_000 * self.step.signum()).to_string()),
        }
    }
}

struct Rig {
    what: &'static str,
    meter: Box<dyn Meter>,
    shown: Arc<Shown>,
    /// A step backwards shows in it.
    counts: bool,
    _dir: tempfile::TempDir,
}

/// A tree with these files, one of which shows what `shown` does.
fn tree(files: &[(&str, &str)], scripted: &'static str, shown: &Arc<Shown>) -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join("class").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let shown = Arc::clone(shown);
    let tree = Tree::at(dir.path()).with_reader(move |path: &Path| match path.ends_with(scripted) {
        true => shown.read(),
        false => std::fs::read_to_string(path),
    });
    (dir, tree)
}

fn powercap(max: &'static str) -> Rig {
    let shown = Shown::new(1_000_000_000, 1000);
    let zone = "powercap/intel-rapl:0";
    let files = [
        (format!("{zone}/name"), "package-0"),
        (format!("{zone}/energy_uj"), "0"),
        (format!("{zone}/max_energy_range_uj"), max),
        ("powercap/intel-rapl:1/name".into(), "package-1"),
        ("powercap/intel-rapl:1/energy_uj".into(), "7"),
        ("powercap/intel-rapl:1/max_energy_range_uj".into(), max),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), *t)).collect();
    let (dir, tree) = tree(&files, "intel-rapl:0/energy_uj", &shown);
    Rig { what: "powercap", meter: Box::new(Powercap::open(&tree, &Host::at("/nowhere")).unwrap()), shown, counts: true, _dir: dir }
}

fn hwmon(what: &'static str, files: &[(&str, &str)], scripted: &'static str, step: i64) -> Rig {
    let shown = Shown::new(5_000_000, step);
    let (dir, tree) = tree(files, scripted, &shown);
    Rig { what, meter: Box::new(Hwmon::open(&tree, &[]).unwrap()), shown, counts: step != 0, _dir: dir }
}

fn battery(what: &'static str, files: &[(&str, &str)], scripted: &'static str) -> Rig {
    let shown = Shown::new(400_000_000, -1000);
    let (dir, tree) = tree(files, scripted, &shown);
    Rig { what, meter: Box::new(Battery::open(&tree).unwrap()), shown, counts: true, _dir: dir }
}

fn perf() -> Rig {
    let shown = Shown::new(1 << 40, 1 << 20);
    let dir = tempfile::tempdir().unwrap();
    let pmu = dir.path().join("sys/bus/event_source/devices/power");
    std::fs::create_dir_all(pmu.join("events")).unwrap();
    let files = [("type", "9"), ("cpumask", "0"), ("events/energy-pkg", "event=0x02")];
    let more = [("events/energy-pkg.scale", "2.3283064365386962890625e-10"), ("events/energy-pkg.unit", "Joules")];
    files.iter().chain(&more).for_each(|(path, text)| std::fs::write(pmu.join(path), text).unwrap());
    let reader = Arc::clone(&shown);
    let opener = |_, _| {
        let reader = Arc::clone(&reader);
        let count = move || reader.read()?.parse().map_err(|_| io::ErrorKind::InvalidData.into());
        Ok(Box::new(count) as ReadCount)
    };
    let meter = Perf::open_with(&Host::at(dir.path()), Kind::Simulated, opener).unwrap();
    Rig { what: "perf", meter: Box::new(meter), shown, counts: true, _dir: dir }
}

fn rigs() -> Vec<Rig> {
    let charge = [("power_supply/B/type", "Battery"), ("power_supply/B/status", "Discharging"), ("power_supply/B/voltage_now", "4000000")];
    let charge: Vec<_> = charge.into_iter().chain([("power_supply/B/charge_now", "400000000")]).collect();
    vec![
        perf(),
        powercap("262143328850"),
        powercap("garbage"),
        hwmon(
            "energy",
            &[("hwmon/hwmon0/name", "ina228"), ("hwmon/hwmon0/energy1_label", "VIN"), ("hwmon/hwmon0/energy1_input", "5")],
            "energy1_input",
            1000,
        ),
        hwmon(
            "power",
            &[("hwmon/hwmon0/name", "ina226"), ("hwmon/hwmon0/power1_label", "VIN"), ("hwmon/hwmon0/power1_input", "5")],
            "power1_input",
            0,
        ),
        hwmon(
            "current",
            &[
                ("hwmon/hwmon0/name", "ina3221"),
                ("hwmon/hwmon0/in1_label", "VDD_IN"),
                ("hwmon/hwmon0/in1_input", "5000"),
                ("hwmon/hwmon0/curr1_input", "5"),
            ],
            "curr1_input",
            0,
        ),
        battery(
            "battery",
            &[("power_supply/B/type", "Battery"), ("power_supply/B/status", "Discharging"), ("power_supply/B/energy_now", "5")],
            "energy_now",
        ),
        battery("charge", &charge, "charge_now"),
    ]
}

/// Readings of which those for which `faulty` is true meet the fault.
fn read(rig: &mut Rig, fault: Fault, faulty: [bool; 3]) -> Vec<Reading> {
    let me = Target::this_process();
    let mut readings = Vec::new();
    for faulty in faulty {
        *rig.shown.fault.lock().unwrap() = faulty.then_some(fault);
        readings.push(rig.meter.read(me));
        *rig.shown.fault.lock().unwrap() = None;
    }
    readings
}

#[test]
fn a_fault_at_any_reading_takes_the_window_and_nothing_else() {
    for mut rig in rigs() {
        let counts = rig.counts;
        for fault in FAULTS.into_iter().filter(|f| counts || *f != Fault::Backwards) {
            // At the start, in the middle (as another window's edge, or the thread that follows, may meet it), at the end.
            for faulty in [[true, false, false], [false, true, false], [false, false, true]] {
                let readings = read(&mut rig, fault, faulty);
                let case = format!("{} {fault:?} {faulty:?}", rig.what);
                // A counter without a fault between two readings has gone its whole way, whatever it showed to others; where it
                // starts too low it only seems to have gone further.
                let harmless = fault == Fault::Backwards && (faulty == [false, true, false] || faulty == [true, false, false]);
                match rig.meter.energy(&readings[0], &readings[2]) {
                    WindowEnergy::Invalid(reason) => assert!(!reason.is_empty(), "{case}"),
                    WindowEnergy::Valid { total, .. } => assert!(harmless && total.0 > 0.0, "{case}: {total}"),
                }
            }
            // Afterwards all is well.
            let readings = read(&mut rig, fault, [false; 3]);
            let (_, energy) = rig.meter.domains_energy(&readings[0], &readings[2]).swap_remove(0);
            assert!(matches!(energy, WindowEnergy::Valid { total, .. } if total.0 > 0.0), "{} after {fault:?}: {energy:?}", rig.what);
        }
    }
}

#[test]
fn a_counter_that_stands_still_is_no_energy() {
    for mut rig in rigs().into_iter().filter(|rig| rig.counts) {
        let me = Target::this_process();
        let reading = rig.meter.read(me);
        let energy = rig.meter.energy(&reading, &reading);
        assert!(matches!(energy, WindowEnergy::Invalid(_)), "{}: {energy:?}", rig.what);
    }
}

#[test]
fn a_vanished_folder_is_a_fault() {
    let rig = powercap("262143328850");
    let Rig { mut meter, _dir: dir, .. } = rig;
    let me = Target::this_process();
    let start = meter.read(me);
    std::fs::remove_dir_all(dir.path().join("class/powercap/intel-rapl:1")).unwrap();
    let end = meter.read(me);
    assert!(matches!(meter.energy(&start, &end), WindowEnergy::Invalid(reason) if reason.contains("intel-rapl:1/energy_uj")));
}
