//! Real commands, FIFOs and files. Machines may be slow here: windows are judged by what arrived, not by how fast it did.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use super::*;
use std::io::Write;

/// A command that writes a constant power with its own clock's time, ten times a second.
const TWELVE_WATTS: &str = "echo '# scope: battery'; echo '# accuracy: 2%'; while :; do echo \"clock $(date +%s.%N)\"; echo \"$(date +%s.%N) 12 watts\"; sleep 0.1; done";

/// Energy of windows until one is valid, or what the last one said; a busy machine loses some.
fn window(meter: &mut External, length: Duration) -> WindowEnergy {
    let me = Target::this_process();
    let mut last = WindowEnergy::Invalid(String::new());
    for _ in 0..5 {
        let start = meter.read(me);
        std::thread::sleep(length);
        let end = meter.read(me);
        let span = end.since(&start).as_secs_f64();
        last = meter.energy(&start, &end);
        if let WindowEnergy::Valid { total, resolution } = last {
            return WindowEnergy::Valid { total: total / span, resolution };
        }
    }
    last
}

#[test]
fn a_command_is_measured_by_its_word() {
    let mut meter = External::open(TWELVE_WATTS, false).unwrap();
    let info = meter.info();
    assert_eq!((info.kind, info.scope, info.systematic.low), (Kind::Measured, Scope::Battery, 0.98));
    assert!(info.systematic.source.contains("its provider says"));
    match window(&mut meter, Duration::from_millis(900)) {
        WindowEnergy::Valid { total, .. } => assert!((total.0 - 12.0).abs() < 1e-3, "{total} instead of 12"),
        WindowEnergy::Invalid(why) => {
            assert!(["nothing for", "may differ", "too short", "not reported"].iter().any(|w| why.contains(w)), "{why}")
        }
    }
    assert_eq!(External::open(TWELVE_WATTS, true).unwrap().info().kind, Kind::Simulated);
}

#[test]
fn a_meter_that_ends_takes_its_windows_along() {
    let mut meter = External::open("for i in 1 2 3 4; do echo \"now $i W\"; sleep 0.05; done", false).unwrap();
    let me = Target::this_process();
    let start = meter.read(me);
    while meter.source.with(|s| s.ended().is_none()) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let end = meter.read(me);
    assert!(matches!(meter.energy(&start, &end), WindowEnergy::Invalid(why) if why.contains("the command ended")));
}

#[test]
fn what_is_no_meter_says_what_it_sent() {
    let why = |spec: &str| External::open(spec, false).unwrap_err().reason;
    assert!(why("true").contains("the command ended"), "{}", why("true"));
    assert!(why("echo hello; exit 3").contains("1 of them unusable, the first because it is not `TIME VALUE UNIT`"));
    assert!(why("echo '# scope: moon'; for i in 1 2 3; do echo now $i W; sleep 0.01; done; sleep 9").contains("`moon`"));
    assert!(why("").contains("nothing is named"));
    // A river of rubbish ends by itself, in lines of any length.
    assert!(why("/dev/urandom").contains("not one reading"));
    assert!(why("yes").contains("not one reading"));
    assert!(why("head -c 9000000 /dev/zero").contains("usable readings"));
}

#[test]
fn a_fifo_with_writers_that_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meter");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let writer = {
        let path = path.clone();
        std::thread::spawn(move || {
            for watts in [5, 5, 5, 5] {
                let mut fifo = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                writeln!(fifo, "now {watts} W").unwrap();
                drop(fifo);
                std::thread::sleep(Duration::from_millis(10));
            }
        })
    };
    let meter = External::open(path.to_str().unwrap(), false).unwrap();
    writer.join().unwrap();
    assert_eq!((meter.info().kind, meter.info().scope), (Kind::Measured, Scope::Wall));
    assert_eq!(meter.source.with(|s| s.ended().map(str::to_owned)), None);
}

#[test]
fn a_file_is_a_recording_and_what_is_appended_is_read() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let now = since_epoch(SystemTime::now());
    writeln!(file, "# name: shelly").unwrap();
    (0..40).for_each(|i| writeln!(file, "{:.3} {} J", now - 4.0 + 0.1 * f64::from(i), 100 + 3 * i).unwrap());
    let mut meter = External::open(file.path().to_str().unwrap(), false).unwrap();
    assert_eq!((meter.info().kind, meter.info().domains[0].name.as_str()), (Kind::Simulated, "shelly"));
    let me = Target::this_process();
    let start = meter.read(me);
    std::thread::sleep(Duration::from_millis(300));
    let end = meter.read(me);
    // The recording goes on well past the window's end.
    let (from, to) = (since_epoch(start.time()), since_epoch(end.time()));
    (0..200).for_each(|i| writeln!(file, "{:.3} {} J", now + 0.1 * f64::from(i), 220 + 3 * i).unwrap());
    let energy = meter.energy(&start, &end);
    match energy {
        // 3 J each 0.1 s.
        WindowEnergy::Valid { total, .. } => assert!((total.0 - 30.0 * (to - from)).abs() < 0.2, "{total}"),
        // Lines that were written for the future do not arrive at their time, which is noticed.
        WindowEnergy::Invalid(why) => assert!(why.contains("may differ"), "{why}"),
    }
}
