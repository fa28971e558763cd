//! Meters from outside: the real program against counters whose truth is known.

use crate::support::{Ran, joulefront, ran, repository, skipped};
use joulefront::energy::simulate::{Ticker, Ticking, Zone};
use joulefront::energy::{Estimator, Meter, PowerProfile, Target, WindowEnergy};
use joulefront::sys::process_cpu_time;
use joulefront::units::{Joules, Seconds, Watts};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MODEL: &str = "models/fashion-mlp.onnx";
/// What all packages draw together, whatever is done.
const POWER: Watts = Watts(2000.0);

/// Two sockets of two dies, the platform between them at `:1`, cores beside, one package once more behind MMIO, no dram; each
/// counter starts again after 1.5 s.
fn server() -> Ticking {
    let zones = [
        ("intel-rapl:0", "package-0-die-0", 0.3),
        ("intel-rapl:0:0", "core", 0.2),
        ("intel-rapl:1", "psys", 1.4),
        ("intel-rapl:2", "package-0-die-1", 0.2),
        ("intel-rapl:3", "package-1-die-0", 0.35),
        ("intel-rapl:4", "package-1-die-1", 0.15),
        ("intel-rapl-mmio:0", "package-0-die-0", 0.3),
    ];
    let zones = zones.map(|(id, name, share)| Zone { id, name, share, max_uj: Some((share * POWER.0 * 1.5e6) as u64 - 1) });
    Ticker::default().start_zones(&zones, |t| POWER * Seconds::from(t)).unwrap()
}

const BENCH: [&str; 11] = ["bench", "--engine", "tract", MODEL, "--processes", "2", "--window", "1s", "--disturbance", "100%", "--json"];

/// Energy per inference times inferences per second are the watts. The truth may be behind by as long as the ticking thread was
/// kept waiting, at both edges of a window.
#[track_caller]
fn recovers_the_watts(out: &Ran, sim: &Ticking) {
    let json = out.json();
    let row = &json["results"][0];
    assert_eq!(
        (&row["energy_kind"], &row["energy_meter"], &row["energy_scope"]),
        (&"simulated".into(), &"powercap".into(), &"package".into())
    );
    let watts = row["energy_j"].as_f64().unwrap() * row["throughput_per_s"].as_f64().unwrap();
    let off = (watts / POWER.0 - 1.0).abs();
    let allowed = 0.01 + 2.0 * sim.longest_lag().saturating_sub(Duration::from_millis(2)).as_secs_f64();
    assert!(off <= allowed, "{watts} W instead of {POWER}: {:.2} % off, {:.2} % allowed", 100.0 * off, 100.0 * allowed);
}

#[test]
fn a_servers_watts_come_back_by_override() {
    let sim = server();
    let root = sim.root().to_str().unwrap();
    recovers_the_watts(&joulefront(&[&BENCH[..], &["--sysfs-root", root]].concat()), &sim);
}

/// At the default path, in a mount namespace of its own: the kind is still `simulated`, because `statfs` says it is no sysfs.
#[test]
fn a_servers_watts_come_back_at_the_default_path() {
    let sim = server();
    let script = format!(
        "mount -t tmpfs tmpfs /sys/class && mkdir /sys/class/powercap && mount --bind '{}/class/powercap' /sys/class/powercap || exit 99; exec '{}' {} --meter powercap",
        sim.root().display(),
        env!("CARGO_BIN_EXE_joulefront"),
        BENCH.join(" ")
    );
    let out =
        ran(Command::new("unshare").args(["-m", "sh", "-c", &script]).current_dir(repository("")).env_remove("JOULEFRONT_SYSFS_ROOT"));
    if out.code == Some(99) || out.stderr.starts_with("unshare") {
        return skipped("a private mount namespace needs root");
    }
    recovers_the_watts(&out, &sim);
}

#[test]
fn counters_that_vanish_in_the_middle_leave_no_figure() {
    let sim = Ticker::default().start(|t| Watts(50.0) * Seconds::from(t)).unwrap();
    let args =
        ["bench", "--engine", "tract", MODEL, "--processes", "2", "--window", "100ms", "--disturbance", "100%", "--json", "--sysfs-root"];
    let child = Command::new(env!("CARGO_BIN_EXE_joulefront"))
        .args(args)
        .arg(sim.root())
        .current_dir(repository(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Opened, and then gone: the folder is renamed away under it.
    while std::fs::read_dir(format!("/proc/{}/task", child.id())).is_ok_and(|tasks| tasks.count() < 2) {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(500));
    std::fs::rename(sim.root().join("class"), sim.root().join("gone")).unwrap();
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    // Either it had not opened the meter yet, and estimates; or it says that there is no energy.
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let row = &json["results"][0];
    if row["energy_kind"] != "estimated" {
        assert!(row["energy_j"].is_null() && row["energy_kind"].is_null(), "{row}");
    }
    assert!(row["latency_p50_s"].as_f64().unwrap() > 0.0);
}

/// A machine that draws 5 W, and 10 W more for each second of CPU time of one process.
fn machine_of(pid: &Arc<AtomicU32>) -> Ticking {
    let (pid, used) = (Arc::clone(pid), Mutex::new(0.0));
    let energy = move |t: Duration| {
        let now = match pid.load(Ordering::Relaxed) {
            0 => None,
            pid => process_cpu_time(pid).ok(),
        };
        let mut used = used.lock().unwrap();
        *used = now.map_or(*used, |t| t.as_secs_f64());
        Joules(5.0 * t.as_secs_f64() + 10.0 * *used)
    };
    Ticker::default().start(energy).unwrap()
}

/// Runs the program while its CPU time drives the counter.
fn with_its_own_counter(args: &[&str]) -> Ran {
    let pid = Arc::new(AtomicU32::new(0));
    let sim = machine_of(&pid);
    let child = Command::new(env!("CARGO_BIN_EXE_joulefront"))
        .args(args)
        .arg("--sysfs-root")
        .arg(sim.root())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    pid.store(child.id(), Ordering::Relaxed);
    let out = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: out.status.code(), stdout: text(out.stdout), stderr: text(out.stderr) }
}

#[test]
fn a_profile_that_was_fitted_to_a_counter_gives_its_power_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.toml");
    let file = path.to_str().unwrap();
    let json = with_its_own_counter(&["calibrate", "-o", file, "--window", "400ms", "--repeats", "1", "--json"]).json();
    assert_eq!((&json["profile"]["kind"], &json["profile"]["meter"]), (&"simulated".into(), &"powercap".into()));
    let profile = PowerProfile::load(&path).unwrap();
    assert!(profile.low > 0.0 && profile.low <= 1.0 && profile.high >= 1.0);

    // A busy process whose truth is 10 W of CPU time.
    let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    let target = Target { pid: child.id() };
    let mut meter = Estimator::with_profile(&profile).unwrap();
    let cpu = || process_cpu_time(target.pid).unwrap();
    let (before, start) = (cpu(), meter.read(target));
    while cpu() - before < Duration::from_millis(300) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (end, after) = (meter.read(target), cpu());
    child.kill().unwrap();
    child.wait().unwrap();
    let truth = 10.0 * (after - before).as_secs_f64();
    let WindowEnergy::Valid { total, .. } = meter.energy(&start, &end) else { panic!("no energy") };
    let range = total.0 * profile.low * 0.99..=total.0 * profile.high * 1.01;
    assert!(range.contains(&truth), "{truth} J is not in {range:?}; {profile:?}");

    // The command line takes it, and says what it is.
    let args = [
        "bench",
        "--engine",
        "tract",
        MODEL,
        "--processes",
        "2",
        "--window",
        "50ms",
        "--disturbance",
        "100%",
        "--json",
        "--meter",
        "estimate",
    ];
    let row = joulefront(&[&args[..], &["--power-profile", file]].concat()).json()["results"][0].clone();
    assert_eq!((&row["energy_kind"], &row["energy_scope"]), (&"simulated".into(), &"process_share".into()));
    assert!(row["energy_meter"].as_str().unwrap().starts_with("estimate:"), "{row}");
}

#[test]
fn without_a_counter_nothing_is_calibrated_or_tested() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let file = folder.path().join("p.toml");
    joulefront(&["calibrate", "-o", file.to_str().unwrap(), "--sysfs-root", root]).refused(3, &["`estimate` is estimated", "hint"]);
    assert!(!file.exists());
    let out = joulefront(&["doctor", "--selftest", "--json", "--sysfs-root", root]);
    out.refused(3, &["no counter to test"]);
    let json: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
    assert!(json["selftest"]["kind"].is_null() && json["selftest"]["loads"].as_array().unwrap().is_empty());
    joulefront(&["bench", MODEL, "--power-profile", "README.md"]).refused(2, &["not a power profile", "calibrate"]);
}

#[test]
fn the_self_test_of_a_simulated_counter() {
    let out = with_its_own_counter(&["doctor", "--selftest", "--window", "300ms", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
    let test = &json["selftest"];
    assert_eq!(test["kind"], "simulated");
    let names: Vec<&str> = test["meters"].as_array().unwrap().iter().map(|m| m["meter"].as_str().unwrap()).collect();
    assert_eq!(names, ["powercap", "estimate"]);
    assert!(test["meters"][0]["read_s"].as_f64().unwrap() > 0.0 && test["meters"][0]["wraps_at_j"].as_f64().unwrap() > 2e5);
    assert_eq!(test["loads"].as_array().unwrap().len(), 5);
    for load in test["loads"].as_array().unwrap() {
        assert_eq!(load["energies"].as_array().unwrap().len(), 2);
    }
    let checks = test["checks"].as_array().unwrap();
    assert!(checks.len() >= 2);
    // On a busy machine two threads may get no more than one: the exit code says what the checks say.
    let failed = checks.iter().any(|c| c["passed"] == false);
    assert_eq!(out.code, Some(i32::from(failed)), "{}", out.stderr);

    // A counter that does not care what is done fails.
    let constant = Ticker::default().start(|t| Watts(50.0) * Seconds::from(t)).unwrap();
    let root = constant.root().to_str().unwrap();
    let out = joulefront(&["doctor", "--selftest", "--window", "200ms", "--sysfs-root", root]);
    assert!(out.stdout.contains("it tests this program, not the machine"), "{}", out.stdout);
    assert!(matches!(out.code, Some(0 | 1)), "{}", out.stderr);
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

#[test]
fn a_board_a_battery_and_an_external_meter() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let rails = [
        ("class/hwmon/hwmon0/name", "ina3221"),
        ("class/hwmon/hwmon0/in1_label", "VDD_IN"),
        ("class/hwmon/hwmon0/in1_input", "5000"),
        ("class/hwmon/hwmon0/curr1_input", "2000"),
        ("class/hwmon/hwmon0/in2_label", "VDD_CPU"),
        ("class/hwmon/hwmon0/in2_input", "5000"),
        ("class/hwmon/hwmon0/curr2_input", "1000"),
    ];
    write(folder.path(), &rails);
    let bench = |more: &[&str]| {
        let args = [
            "bench",
            "--engine",
            "tract",
            MODEL,
            "--processes",
            "2",
            "--window",
            "50ms",
            "--disturbance",
            "100%",
            "--json",
            "--sysfs-root",
            root,
        ];
        joulefront(&[&args[..], more].concat())
    };
    // Sampled power needs windows of ten seconds: what the meter is will do here, its integrals are tested in the library.
    for (meter, scope, counted) in [("hwmon", "board", "ina3221/VDD_IN"), ("hwmon:VDD_CPU", "rail", "ina3221/VDD_CPU")] {
        let json = joulefront(&["doctor", "--json", "--meter", meter, "--sysfs-root", root]).json();
        let hwmon = json["meters"].as_array().unwrap().iter().find(|m| m["name"] == "hwmon").unwrap().clone();
        assert_eq!((&hwmon["kind"], &hwmon["scope"], &hwmon["counted"][0]), (&"simulated".into(), &scope.into(), &counted.into()));
    }
    bench(&["--meter", "hwmon:VDD_GPU"]).refused(3, &["no rail `VDD_GPU`", "ina3221/VDD_IN"]);
    bench(&["--meter", "battery"]).refused(3, &["no battery"]);

    write(folder.path(), &[("class/power_supply/BAT0/type", "Battery"), ("class/power_supply/BAT0/status", "Charging")]);
    bench(&["--meter", "battery"]).refused(3, &["`BAT0` is Charging", "unplug"]);
    write(folder.path(), &[("class/power_supply/BAT0/status", "Discharging"), ("class/power_supply/BAT0/energy_now", "40000000")]);
    let still = bench(&["--meter", "battery", "--max-time", "2s"]).json()["results"][0].clone();
    assert!(still["energy_j"].is_null(), "a gauge that never moved gave {still}");

    let constant = "echo '# scope: package'; while :; do echo 'now 7 W'; sleep 0.002; done";
    let row = bench(&["--meter", &format!("perf,external:{constant}")]).json()["results"][0].clone();
    // A busy machine may let the meter starve; then there is no figure.
    if !row["energy_j"].is_null() {
        assert_eq!(
            (&row["energy_kind"], &row["energy_meter"], &row["energy_scope"]),
            (&"simulated".into(), &"external".into(), &"package".into())
        );
        let found = row["energy_j"].as_f64().unwrap() * row["throughput_per_s"].as_f64().unwrap();
        assert!(found > 6.9 && found < 11.0, "{found} W instead of 7");
    }
    bench(&["--meter", "external:echo hello"]).refused(3, &["TIME VALUE UNIT"]);
    bench(&["--meter", "rapl"]).refused(2, &["no meter `rapl`", "external"]);
}

#[test]
fn doctor_lists_every_meter_with_its_reason_and_fix() {
    let folder = tempfile::tempdir().unwrap();
    let json = joulefront(&["doctor", "--json", "--sysfs-root", folder.path().to_str().unwrap()]).json();
    let meters = json["meters"].as_array().unwrap();
    let names: Vec<&str> = meters.iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, joulefront::energy::METERS);
    for meter in meters.iter().filter(|m| m["available"] == false) {
        assert!(!meter["reason"].as_str().unwrap().is_empty() && !meter["fix"].as_str().unwrap().is_empty(), "{meter}");
    }
    joulefront(&["doctor", "--meter", "rapl"]).refused(2, &["no meter `rapl`"]);
}
