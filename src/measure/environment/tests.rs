//! The record of a described host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use super::*;
use EnvironmentWarning as W;

fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let host = Host::at(dir.path());
    (dir, host)
}

const LAPTOP: &[(&str, &str)] = &[
    ("proc/cpuinfo", "vendor_id : GenuineIntel\ncpu family : 6\nmodel : 158\nmodel name : Core i7\nflags : fpu avx2 fma sgx\n"),
    ("proc/loadavg", "1.50 1.00 0.50 1/100 4242\n"),
    ("sys/devices/system/cpu/online", "0-11\n"),
    ("sys/devices/system/cpu/smt/active", "1\n"),
    ("sys/devices/system/cpu/intel_pstate/no_turbo", "0\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "intel_pstate\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq", "800000\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "4700000\n"),
    ("sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw", "45000000\n"),
    ("sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n"),
    ("sys/class/thermal/thermal_zone0/temp", "61500\n"),
];

#[test]
fn everything_that_the_host_says() {
    let (_dir, host) = host(LAPTOP);
    let engines = vec![EngineVersion { name: "tract".into(), version: "0.23".into(), library: None }];
    let e = Environment::collect_from(&host, engines);
    assert_eq!((e.cpu.smt, e.cpu.boost, e.cpu.sgx), (Some(true), Some(true), true));
    assert_eq!((e.cpu.features.as_slice(), e.cpu.logical_cores), (["avx2".to_owned(), "fma".to_owned()].as_slice(), 12));
    assert_eq!(e.cpu.frequency_limits_khz, Some((800_000, 4_700_000)));
    assert_eq!(e.cpu.power_limit, Some(Watts(45.0)));
    assert_eq!(e.moment.temperatures, [Temperature { sensor: "x86_pkg_temp".into(), celsius: 61.5 }]);
    assert_eq!((e.moment.load_average, e.moment.other_cpus), (Some(1.5), None));
    assert!(!e.virtual_machine && e.memory.is_none_or(|m| m.0 > 0) && e.build.target.contains('-'));

    let back: Environment = serde_json::from_str(&serde_json::to_string(&e).unwrap()).unwrap();
    assert_eq!(back, e);
}

#[test]
fn a_host_that_says_nothing_leaves_things_out() {
    let (_dir, host) = host(&[]);
    let e = Environment::collect_from(&host, Vec::new());
    assert_eq!((e.cpu.governor.as_ref(), e.cpu.boost, e.moment.load_average), (None, None, None));
    assert!(e.moment.temperatures.is_empty() && !e.virtual_machine);
}

#[test]
fn the_key_is_the_class_of_machine() {
    let (_dir, host) = host(LAPTOP);
    let e = Environment::collect_from(&host, Vec::new());
    let mut later = e.clone();
    later.moment.load_average = Some(9.0);
    later.moment.temperatures.clear();
    assert_eq!(e.key(), later.key());
    assert_eq!(e.key().len(), 16);
    later.cpu.governor = Some("performance".into());
    assert_ne!(e.key(), later.key());
    let mut other = e.clone();
    // A library on the machine is no other machine.
    other.engines.push(EngineVersion { name: "ort".into(), version: "1.32.0".into(), library: Some("/lib/libonnxruntime.so".into()) });
    assert_eq!((e.key(), other.engine_version("ort")), (other.key(), Some("1.32.0")));
    other.engines.push(EngineVersion { name: "tract".into(), version: "0.23".into(), library: None });
    assert_ne!(e.key(), other.key());
}

#[test]
fn each_disturbance_has_its_warning() {
    let (_dir, host) = host(LAPTOP);
    let mut e = Environment::collect_from(&host, Vec::new());
    e.build.opt_level = "0".into();
    e.build.target_features = vec!["fma".into()];
    e.moment.other_cpus = Some(0.7);
    e.moment.steal_cpus = Some(0.1);
    e.moment.swap_used = Some(Bytes(4096));
    e.virtual_machine = true;
    let expect = [
        W::DebugBuild { opt_level: "0".into() },
        W::PortableBuild { missing: vec!["avx2".into()] },
        W::OthersBusy { cpus: 0.7 },
        W::Steal { cpus: 0.1 },
        W::SwapInUse { used: Bytes(4096) },
        W::SlowGovernor { governor: "powersave".into() },
        W::Boost,
        W::VirtualMachine,
        W::EnergyFiltering,
    ];
    assert_eq!(e.warnings(), expect);

    e.build.opt_level = "3".into();
    e.build.target_features.push("avx2".into());
    e.moment =
        Moment { load_average: None, other_cpus: Some(0.01), steal_cpus: Some(0.0), swap_used: Some(Bytes(0)), temperatures: Vec::new() };
    e.cpu.governor = Some("performance".into());
    (e.cpu.boost, e.cpu.sgx, e.virtual_machine) = (Some(false), false, false);
    assert_eq!(e.warnings(), []);
}
