//! Boards, their rails, and energy from samples of power.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use super::*;
use crate::energy::{Meter, Target, WindowEnergy};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join("class/hwmon").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let tree = Tree::at(dir.path());
    (dir, tree)
}

#[track_caller]
fn check(files: &[(&str, &str)], wanted: &[&str], expect: &[&str], scope: Scope) {
    let (_dir, tree) = tree(files);
    let meter = Hwmon::open(&tree, &wanted.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()).unwrap();
    let shown: Vec<String> = meter.info().domains.iter().map(|d| format!("{}{}", if d.counted { "+" } else { "" }, d.name)).collect();
    assert_eq!((shown, meter.info().scope, meter.info().kind), (expect.iter().map(|e| (*e).into()).collect(), scope, Kind::Simulated));
}

/// As on a Jetson: voltages and currents of three rails, and the sum of the shunts.
const JETSON: &[(&str, &str)] = &[
    ("hwmon1/name", "ina3221\n"),
    ("hwmon1/in1_label", "VDD_IN\n"),
    ("hwmon1/in1_input", "5000\n"),
    ("hwmon1/curr1_input", "1200\n"),
    ("hwmon1/in2_label", "VDD_CPU_GPU_CV\n"),
    ("hwmon1/in2_input", "5000\n"),
    ("hwmon1/curr2_input", "400\n"),
    ("hwmon1/in3_label", "VDD_SOC\n"),
    ("hwmon1/in3_input", "5000\n"),
    ("hwmon1/curr3_input", "300\n"),
    ("hwmon1/in7_label", "sum of shunt voltages\n"),
    ("hwmon1/in7_input", "9\n"),
    ("hwmon1/curr7_input", "9\n"),
    ("hwmon0/name", "cpu_thermal\n"),
    ("hwmon0/temp1_input", "45000\n"),
];

#[test]
fn the_input_is_the_headline_and_its_parts_stand_beside() {
    check(JETSON, &[], &["+ina3221/VDD_IN", "ina3221/VDD_CPU_GPU_CV", "ina3221/VDD_SOC"], Scope::Board);
    check(JETSON, &["VDD_SOC"], &["ina3221/VDD_IN", "ina3221/VDD_CPU_GPU_CV", "+ina3221/VDD_SOC"], Scope::Rail);
    check(JETSON, &["ina3221/VDD_IN"], &["+ina3221/VDD_IN", "ina3221/VDD_CPU_GPU_CV", "ina3221/VDD_SOC"], Scope::Board);
}

#[test]
fn two_inputs_are_one_board_and_sockets_add_up() {
    check(
        &[
            ("hwmon2/name", "power_meter"),
            ("hwmon2/power1_average", "90000000"),
            ("hwmon3/name", "ina226"),
            ("hwmon3/power1_label", "VDD_IN"),
            ("hwmon3/power1_input", "80000000"),
        ],
        &[],
        &["+power_meter/power1"],
        Scope::Board,
    );
    check(
        &[
            ("hwmon2/name", "amd_energy"),
            ("hwmon2/energy1_label", "Ecore000"),
            ("hwmon2/energy1_input", "5"),
            ("hwmon2/energy2_label", "Esocket0"),
            ("hwmon2/energy2_input", "50"),
            ("hwmon2/energy3_label", "Esocket1"),
            ("hwmon2/energy3_input", "60"),
            // A graphics card's energy is not the processor's.
            ("hwmon1/name", "i915"),
            ("hwmon1/energy1_input", "7"),
        ],
        &[],
        &["amd_energy/Ecore000", "+amd_energy/Esocket0", "+amd_energy/Esocket1"],
        Scope::Package,
    );
}

#[test]
fn what_is_not_known_is_asked_and_not_guessed() {
    let why = |files: &[(&str, &str)], wanted: &[&str]| {
        let (_dir, tree) = tree(files);
        Hwmon::open(&tree, &wanted.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()).unwrap_err()
    };
    assert!(why(&[("hwmon0/name", "coretemp")], &[]).reason.contains("no sensor of energy or power"));
    let unlabelled = why(&[("hwmon0/name", "ina226"), ("hwmon0/power1_input", "5000000")], &[]);
    assert!(unlabelled.reason.contains("`ina226/power1`") && unlabelled.fix.contains("--meter hwmon:LABEL"), "{unlabelled:?}");
    assert!(why(JETSON, &["VDD_GPU"]).fix.contains("`ina3221/VDD_IN`"));
    let (_dir, tree) = tree(JETSON);
    let denied = tree.with_reader(|path: &Path| match path.ends_with("curr1_input") {
        true => Err(std::io::ErrorKind::PermissionDenied.into()),
        false => std::fs::read_to_string(path),
    });
    let denied = Hwmon::open(&denied, &[]).unwrap_err();
    assert!(denied.reason.contains("curr1_input") && denied.fix.contains("SUBSYSTEM==\"hwmon\""), "{denied:?}");
}

#[test]
fn a_constant_power_is_integrated_exactly() {
    let (_dir, tree) = tree(JETSON);
    let mut meter = Hwmon::open(&tree, &[]).unwrap();
    assert!(meter.info().systematic.source.contains("simulated") && meter.info().update_period.unwrap().0 >= 0.05);
    let me = Target::this_process();
    let start = meter.read(me);
    std::thread::sleep(Duration::from_millis(130));
    let end = meter.read(me);
    let length = end.since(&start).as_secs_f64();
    match meter.energy(&start, &end) {
        WindowEnergy::Valid { total, resolution } => {
            assert!((total.0 - 6.0 * length).abs() < 1e-9 * length, "{total} in {length} s");
            assert!(resolution.0 < 1e-5);
        }
        // Only a machine that stood still for half a second is excused.
        WindowEnergy::Invalid(reason) => assert!(reason.contains("no sample was taken"), "{reason}"),
    }
    let each = meter.domains_energy(&start, &end);
    assert_eq!(each.len(), 3);
}

#[test]
fn a_fault_between_the_edges_is_noticed_and_a_counter_is_a_counter() {
    let (_dir, tree) = tree(&[("hwmon0/name", "ina228"), ("hwmon0/energy1_label", "VIN"), ("hwmon0/energy1_input", "0")]);
    let count = Arc::new(AtomicU64::new(1_000_000));
    let shown = Arc::clone(&count);
    let tree = tree.with_reader(move |path: &Path| match (path.ends_with("energy1_input"), shown.load(Ordering::Relaxed)) {
        (true, u64::MAX) => Err(std::io::ErrorKind::NotFound.into()),
        (true, n) => Ok(n.to_string()),
        _ => std::fs::read_to_string(path),
    });
    let mut meter = Hwmon::open(&tree, &[]).unwrap();
    let me = Target::this_process();
    let mut at = |n: u64| {
        count.store(n, Ordering::Relaxed);
        meter.read(me)
    };
    let readings = [at(1_000_000), at(3_500_000), at(u64::MAX), at(4_000_000), at(2_000_000)];
    let energy = |a: usize, b: usize| meter.energy(&readings[a], &readings[b]);
    assert!(matches!(energy(0, 1), WindowEnergy::Valid { total, .. } if (total.0 - 2.5).abs() < 1e-9));
    assert!(matches!(energy(1, 3), WindowEnergy::Invalid(r) if r.contains("energy1_input")));
    assert!(matches!(energy(3, 4), WindowEnergy::Invalid(r) if r.contains("backwards")));
}
