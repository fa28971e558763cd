//! Energy under criterion: the files that others read, and that it measures what `bench` measures. The counter counts the work that is
//! done, so the truth does not depend on how fast or how busy the machine is.

use joulefront::Result;
use joulefront::criterion::Energy;
use joulefront::energy::simulate::{Ticker, Ticking};
use joulefront::energy::{Powercap, Tree};
use joulefront::engine::LoadOptions;
use joulefront::measure::{Executor, Plan, Process, Subject, measure_on};
use joulefront::runner::{Memory, Ran};
use joulefront::stats::Interval;
use joulefront::sys::Host;
use joulefront::units::{Bytes, Joules, Seconds};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Energy of one run.
const TRUTH: Joules = Joules(2e-3);

/// Work that takes a millisecond, and counts.
fn work(done: &AtomicU64) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(1) {
        std::hint::spin_loop();
    }
    done.fetch_add(1, Ordering::Relaxed);
}

/// A counter that has counted [`TRUTH`] for each run, and the runs.
fn counter() -> (Ticking, Arc<AtomicU64>, Box<Powercap>) {
    let done = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&done);
    let ticking = Ticker::default().start(move |_| TRUTH * seen.load(Ordering::Relaxed) as f64).unwrap();
    // A counter that stands still is refused: something runs while it is opened.
    let (busy, stop) = (Arc::clone(&done), Arc::new(AtomicU64::new(0)));
    let until = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        while until.load(Ordering::Relaxed) == 0 {
            work(&busy);
        }
    });
    let meter = Powercap::open(&Tree::at(ticking.root()), &Host::default());
    stop.store(1, Ordering::Relaxed);
    thread.join().unwrap();
    (ticking, done, Box::new(meter.unwrap()))
}

/// Runs [`work`] in this process.
struct Here(Arc<AtomicU64>, Instant);

impl Executor for Here {
    fn start(&mut self, _: usize) -> Result<Box<dyn Process>> {
        Ok(Box::new(Working { done: Arc::clone(&self.0), last: Vec::new() }))
    }

    fn idle(&mut self, span: Seconds) {
        std::thread::sleep(span.into());
    }

    fn now(&self) -> Seconds {
        self.1.elapsed().into()
    }

    fn watch(&mut self) {}

    fn disturbance(&mut self, _: Seconds, _: f64) -> Option<String> {
        None
    }
}

struct Working {
    done: Arc<AtomicU64>,
    last: Vec<u64>,
}

impl Process for Working {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn run(&mut self, n: u64) -> Result<Ran> {
        let begin = Instant::now();
        let one = |_| {
            let begin = Instant::now();
            work(&self.done);
            begin.elapsed().as_nanos() as u64
        };
        self.last = (0..n).map(one).collect();
        let wall = begin.elapsed().into();
        Ok(Ran { wall, cpu: wall })
    }

    fn serve(&mut self, n: u64, _: f64, _: u64) -> Result<Ran> {
        self.run(n)
    }

    fn load_time(&self) -> Seconds {
        Seconds(0.0)
    }

    fn latencies(&mut self) -> Result<Vec<u64>> {
        Ok(self.last.clone())
    }

    fn memory(&mut self) -> Result<Memory> {
        Ok(Memory { peak: Bytes(1), now: Bytes(1) })
    }

    fn memory_before_load(&self) -> Memory {
        Memory { peak: Bytes(1), now: Bytes(1) }
    }
}

/// What `bench` says.
fn bench() -> (Interval, f64) {
    let (ticking, done, mut meter) = counter();
    let subject = Subject {
        label: "work".into(),
        model: "none".into(),
        engine: "none".into(),
        options: LoadOptions::default(),
        samples: Arc::default(),
    };
    let plan = Plan { processes: 3, blocks: 2, window: Seconds(0.2), disturbance: f64::INFINITY, ..Plan::default() };
    let measured = measure_on(&mut Here(done, Instant::now()), &[subject], meter.as_mut(), &plan, &mut |_| ()).unwrap();
    let gross = measured[0].as_ref().unwrap().energy.as_ref().unwrap().gross;
    (gross, ticking.longest_lag().as_secs_f64() / 0.2)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

#[test]
fn criterions_energy_is_that_of_bench_and_its_files_are_as_others_read_them() {
    let (bench, behind_bench) = bench();
    let (ticking, done, meter) = counter();
    let folder = tempfile::tempdir().unwrap();
    let energy = Energy::on(meter).disturbance(1.0);
    let run = |baseline: &str| {
        let c = energy.criterion().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(energy.window() * 10);
        let mut c = c.output_directory(folder.path()).save_baseline(baseline.to_owned());
        energy.group(&mut c, "work/energy").bench_function("here", |b| energy.iter(b, || work(&done)));
        c.final_summary();
    };
    run("before");
    let place = folder.path().join("work_energy/here");
    let estimates = json(&place.join("before/estimates.json"));
    let mean = &estimates["mean"];
    let number = |v: &Value| v.as_f64().unwrap() * 1e-9;
    let criterion = Interval {
        value: number(&mean["point_estimate"]),
        lo: number(&mean["confidence_interval"]["lower_bound"]),
        hi: number(&mean["confidence_interval"]["upper_bound"]),
    };
    // The last reading of a window may be behind by as long as the counter's thread once was.
    let behind = TRUTH.0 * (behind_bench + ticking.longest_lag().as_secs_f64() / energy.window().as_secs_f64() + 0.01);
    let holds = |i: Interval| i.lo - behind <= TRUTH.0 && TRUTH.0 <= i.hi + behind;
    assert!(holds(bench) && holds(criterion), "{bench:?} {criterion:?} ± {behind}");
    assert!(criterion.lo - behind <= bench.hi && bench.lo <= criterion.hi + behind, "{bench:?} {criterion:?}");
    // critcmp reads these of each baseline.
    let benchmark = json(&place.join("before/benchmark.json"));
    assert_eq!(benchmark["full_id"], "work/energy/here");
    assert!(estimates["median"]["point_estimate"].as_f64().unwrap() > 1e5, "nanojoules");
    let sample = json(&place.join("before/sample.json"));
    assert_eq!((sample["sampling_mode"].as_str(), sample["times"].as_array().unwrap().len()), (Some("Flat"), 10));
    assert!(sample["times"].as_array().unwrap().iter().all(|t| t.as_f64().unwrap() > 0.0));
    // The report, with its plots.
    assert!(place.join("report/index.html").exists() && place.join("report/pdf.svg").exists());
}
