//! A described PMU with counts from a file descriptor that the test writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use super::*;
use crate::energy::{Meter, Target, WindowEnergy};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

const SCALE: &str = "2.3283064365386962890625e-10\n";

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A host with the given events, one package per CPU of the mask.
fn host(events: &[(&str, &str)], cpus: &[(usize, u32, u32)]) -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &format!("{PMU}/type"), "9\n");
    let mask: Vec<String> = cpus.iter().map(|(cpu, ..)| cpu.to_string()).collect();
    write(dir.path(), &format!("{PMU}/cpumask"), &mask.join(","));
    for (cpu, package, die) in cpus {
        write(dir.path(), &format!("sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"), &package.to_string());
        write(dir.path(), &format!("sys/devices/system/cpu/cpu{cpu}/topology/die_id"), &die.to_string());
    }
    for (event, config) in events {
        write(dir.path(), &format!("{PMU}/events/{event}"), config);
        write(dir.path(), &format!("{PMU}/events/{event}.scale"), SCALE);
        write(dir.path(), &format!("{PMU}/events/{event}.unit"), "Joules\n");
    }
    let host = Host::at(dir.path());
    (dir, host)
}

/// Reads a count as `read(2)` on a perf descriptor gives it.
fn from_file(mut file: File) -> ReadCount {
    Box::new(move || {
        file.rewind()?;
        let mut bytes = [0; 8];
        file.read_exact(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    })
}

fn simulated(host: &Host, opener: impl FnMut(Event, usize) -> Result<ReadCount, OpenError>) -> Result<Perf, Unavailable> {
    Perf::open_with(host, Kind::Simulated, opener)
}

fn fixed() -> Result<ReadCount, OpenError> {
    Ok(Box::new(|| Ok(0)))
}

const ALL: &[(&str, &str)] =
    &[("energy-pkg", "event=0x02\n"), ("energy-ram", "event=0x03\n"), ("energy-cores", "event=0x01\n"), ("energy-psys", "event=0x05\n")];

#[test]
fn one_counter_per_domain_and_package() {
    let (_dir, host) = host(ALL, &[(0, 0, 0), (32, 1, 0)]);
    let mut opened = Vec::new();
    let meter = simulated(&host, |event, cpu| {
        opened.push((event.pmu, event.config, cpu));
        fixed()
    })
    .unwrap();
    assert_eq!(opened, [(9, 2, 0), (9, 2, 32), (9, 3, 0), (9, 3, 32), (9, 1, 0), (9, 1, 32), (9, 5, 0), (9, 5, 32)]);
    let counted: Vec<&str> = meter.info().domains.iter().filter(|d| d.counted).map(|d| d.name.as_str()).collect();
    assert_eq!(counted, ["package-0", "package-1", "package-0/dram", "package-1/dram"]);
    assert_eq!((meter.info().scope, meter.info().unit), (Scope::PackageDram, Joules((-32f64).exp2())));
}

#[test]
fn dies_of_one_package_and_no_dram() {
    let (_dir, host) = host(&ALL[..1], &[(0, 0, 0), (16, 0, 1)]);
    let meter = simulated(&host, |_, _| fixed()).unwrap();
    let names: Vec<&str> = meter.info().domains.iter().map(|d| d.name.as_str()).collect();
    assert_eq!((names.as_slice(), meter.info().scope), (["package-0-die-0", "package-0-die-1"].as_slice(), Scope::Package));
}

#[test]
fn counts_become_joules_and_a_short_read_an_invalid_window() {
    let (_dir, host) = host(&ALL[..1], &[(0, 0, 0)]);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&7u64.to_ne_bytes()).unwrap();
    let reader = file.try_clone().unwrap();
    let mut meter = simulated(&host, |_, _| Ok(from_file(reader.try_clone().unwrap()))).unwrap();
    let me = Target::this_process();
    let mut show = |bytes: &[u8]| {
        let start = meter.read(me);
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(bytes).unwrap();
        let end = meter.read(me);
        meter.energy(&start, &end)
    };
    let three_joules = 7 + 3 * (1u64 << 32);
    assert!(matches!(show(&three_joules.to_ne_bytes()), WindowEnergy::Valid { total, .. } if (total.0 - 3.0).abs() < 1e-12));
    assert!(matches!(show(&5u64.to_ne_bytes()), WindowEnergy::Invalid(r) if r.contains("backwards")));
    assert!(matches!(show(&[1, 2, 3]), WindowEnergy::Invalid(r) if r.contains("perf counter")));
}

#[test]
fn each_reason_has_its_own_fix() {
    let (dir, host) = host(ALL, &[(0, 0, 0)]);
    write(dir.path(), "proc/sys/kernel/perf_event_paranoid", "4\n");
    let why = |error: fn() -> OpenError| simulated(&host, |_, _| Err(error())).unwrap_err();
    let paranoid = why(|| OpenError::Paranoid);
    assert!(paranoid.reason.contains("perf_event_paranoid` is 4") && paranoid.fix.contains("cap_perfmon"));
    assert!(why(|| OpenError::Forbidden).reason.contains("seccomp"));
    assert!(why(|| OpenError::NoEvent).reason.contains("energy-pkg"));
    assert!(why(|| OpenError::NoDevice).reason.contains("device"));
    assert!(why(|| OpenError::NoSyscall).fix.contains("CONFIG_PERF_EVENTS"));
    // Only the packages are needed; a refused memory event is memory unknown.
    let meter = simulated(&host, |event, _| if event.config == 2 { fixed() } else { Err(OpenError::NoEvent) }).unwrap();
    assert_eq!((meter.info().domains.len(), meter.info().scope), (1, Scope::Package));
}

#[test]
fn a_dead_real_counter_and_a_missing_pmu() {
    let (_dir, described) = host(ALL, &[(0, 0, 0)]);
    let dead = Perf::open_with(&described, Kind::Measured, |_, _| fixed()).unwrap_err();
    assert!(dead.reason.contains("does not move"));

    let empty = tempfile::tempdir().unwrap();
    write(empty.path(), "proc/cpuinfo", "flags : fpu hypervisor\n");
    let missing = simulated(&Host::at(empty.path()), |_, _| fixed()).unwrap_err();
    assert!(missing.reason.contains("virtual machine"));

    let (dir, odd) = host(ALL, &[(0, 0, 0)]);
    write(dir.path(), &format!("{PMU}/events/energy-pkg.unit"), "Furlongs\n");
    assert!(simulated(&odd, |_, _| fixed()).unwrap_err().reason.contains("energy-pkg"));
}
