//! What a reading of the counters costs: `cargo bench --bench read_cost`.
//!
//! powercap: the tree of a machine with two sockets on a tmpfs, where reading takes about as long as on sysfs. perf: a software
//! event stands in for the `power` PMU, three descriptors as one socket has. They are of the reader's own CPU, because the kernel
//! reads RAPL on any CPU of the package; a second socket costs an interrupt to it, as the last line shows. Wanted: 20 µs and 5 µs.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use joulefront::energy::{Kind, Meter, Perf, Powercap, ReadCount, Target, Tree};
use joulefront::sys::Host;
use joulefront::sys::perf::{Counter, Event};
use joulefront::{Error, Result};
use std::path::Path;
use std::time::{Duration, Instant};

const READS: usize = 20_000;

fn main() -> Result<()> {
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.map_err(|e| Error::write("/dev/shm", e))?;
    let zones = ["0", "0:0", "0:1", "1", "2", "2:0", "2:1"];
    let names = ["package-0", "core", "dram", "psys", "package-1", "core", "dram"];
    for (zone, name) in zones.iter().zip(names) {
        let folder = format!("class/powercap/intel-rapl:{zone}");
        for (file, text) in [("name", name), ("energy_uj", "123456789012"), ("max_energy_range_uj", "262143328850")] {
            write(&dir.path().join(&folder).join(file), text)?;
        }
    }
    match Powercap::open(&Tree::at(dir.path()), &Host::default()) {
        Ok(mut meter) => report("powercap", &mut meter),
        Err(why) => println!("powercap: {}", why.reason),
    }

    let pmu = dir.path().join("sys/bus/event_source/devices/power");
    let cpus = joulefront::sys::allowed_cpus()?;
    joulefront::sys::pin_current_thread(&cpus[..1])?;
    write(&pmu.join("type"), "9")?;
    for event in ["energy-pkg", "energy-ram", "energy-psys"] {
        for (end, text) in [("", "event=0x02"), (".scale", "2.3283064365386962890625e-10"), (".unit", "Joules")] {
            write(&pmu.join(format!("events/{event}{end}")), text)?;
        }
    }
    // PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK.
    let stand_in = Event { pmu: 1, config: 0 };
    for sockets in 1..=cpus.len().min(2) {
        let mask = cpus[..sockets].iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        write(&pmu.join("cpumask"), &mask)?;
        let opened = Perf::open_with(&Host::at(dir.path()), Kind::Simulated, |_, cpu| {
            let mut counter = Counter::open(stand_in, cpu)?;
            Ok(Box::new(move || counter.read()) as ReadCount)
        });
        match opened {
            Ok(mut meter) => report(&format!("perf, {sockets} CPUs"), &mut meter),
            Err(why) => println!("perf: {}", why.reason),
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Error::write(folder, e))?;
    }
    std::fs::write(path, text).map_err(|e| Error::write(path, e))
}

fn report(what: &str, meter: &mut dyn Meter) {
    let me = Target::this_process();
    let mut times: Vec<Duration> = (0..READS)
        .map(|_| {
            let begin = Instant::now();
            std::hint::black_box(meter.read(me));
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let (median, late) = (times[READS / 2], times[READS * 99 / 100]);
    println!("{what}: {} domains in {median:?} (99 %: {late:?})", meter.info().domains.len());
}
