//! Energy under [criterion](https://docs.rs/criterion): `cargo bench` prints joules per iteration, and baselines, reports and plots work
//! as for time. Feature `criterion`.
//!
//! ```no_run
//! use joulefront::criterion::{Energy, OnnxFile};
//!
//! fn main() -> joulefront::Result<()> {
//!     let energy = Energy::try_new()?;
//!     println!("{energy}");
//!     let mut c = energy.criterion().configure_from_args();
//!     let numbers: Vec<f64> = (0..1_000_000).map(f64::from).collect();
//!     energy.group(&mut c, "sum/energy").bench_function("f64", |b| energy.iter(b, || numbers.iter().sum::<f64>()));
//!     OnnxFile::open("model.onnx")?.energy(&energy, &mut c)?;
//!     c.final_summary();
//!     Ok(())
//! }
//! ```
//!
//! Unlike `bench`, the code runs in the benchmark's own process, pinned to nothing, one thing after the other: isolation is
//! `in_process`. Where models are compared, [`crate::measure`] is better.
//!
//! A sample is one window between two readings of the meter. [`Energy::iter`] makes it at least as long as the meter needs
//! ([`Energy::window`]), whatever number of iterations criterion asks for, measures it again where others disturbed it, and never gives
//! zero, on which criterion would stop. `Bencher::iter` works as well where samples are long enough (flat sampling, as
//! [`Energy::group`] sets it). A sample that cannot be had ends the benchmark with the reason.

mod format;
mod model;

pub use format::NanojouleFormatter;
pub use model::OnnxFile;

use crate::Result;
use crate::energy::{Meter, MeterInfo, Reading, Scope, Sources, Target, WindowEnergy, open, read_after_tick};
use crate::measure::{CpuTimes, UPDATES, contamination, late};
use crate::sys::{Host, process_cpu_time};
use crate::units::Seconds;
use ::criterion::measurement::{Measurement, ValueFormatter, WallTime};
use ::criterion::{Bencher, BenchmarkGroup, Criterion, SamplingMode};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Shortest window, unless the meter needs a longer one.
const WINDOW: Seconds = Seconds(0.2);

/// Longest window that a slow meter may ask for.
const LONGEST: Seconds = Seconds(10.0);

/// Samples of a benchmark: each is long.
const SAMPLES: usize = 20;

/// Share of CPU time that others may take before a window of a meter that sees the machine is measured again.
const DISTURBANCE: f64 = 0.05;

/// How often it is.
const RETRIES: u32 = 3;

/// Pause before that, twice as long each time.
const PAUSE: Duration = Duration::from_millis(200);

/// Energy in nanojoules, as a measurement of criterion. Clones share the meter.
#[derive(Clone)]
pub struct Energy(Rc<Inner>);

struct Inner {
    meter: RefCell<Box<dyn Meter>>,
    info: MeterInfo,
    window: Duration,
    disturbance: f64,
    host: Host,
    /// Iterations of the last call while criterion warms up: it doubles them from 1.
    warming: Cell<Option<u64>>,
}

/// Energy of some iterations, or why it is not known.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample(std::result::Result<f64, String>);

/// The beginning of a window.
#[derive(Debug)]
pub struct Edge {
    reading: Reading,
    at: Instant,
    others: Option<(CpuTimes, Duration)>,
}

impl Energy {
    /// With the best meter of this machine. `JOULEFRONT_METER=perf,powercap` names meters in order of preference,
    /// `JOULEFRONT_REQUIRE=measured` refuses all others, `JOULEFRONT_SYSFS_ROOT` is a folder that stands for `/sys`.
    ///
    /// # Errors
    /// Environment: no such meter is available, with the reasons. Bad input: a meter is not known.
    pub fn try_new() -> Result<Energy> {
        let sources = Sources { sysfs_root: std::env::var_os("JOULEFRONT_SYSFS_ROOT").map(Into::into), ..Sources::default() };
        let wanted = std::env::var("JOULEFRONT_METER").unwrap_or_default();
        let wanted: Vec<String> = wanted.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
        let measured = match std::env::var("JOULEFRONT_REQUIRE").as_deref() {
            Ok("measured") => true,
            Ok("") | Err(_) => false,
            Ok(other) => return Err(crate::Error::bad_input(format!("JOULEFRONT_REQUIRE is `{other}`: it may be `measured`"))),
        };
        Ok(Energy::on(open(&sources, &wanted, measured)?))
    }

    /// With a given meter.
    pub fn on(meter: Box<dyn Meter>) -> Energy {
        // Plots of criterion need a font in this library's font back end.
        crate::report::plot::scene::default_font();
        let info = meter.info().clone();
        let needed = info.update_period.map_or(0.0, |period| UPDATES * period.0).min(LONGEST.0);
        let most = meter.longest_window().map_or(f64::INFINITY, |longest| longest.0 / 4.0);
        let window = Seconds(WINDOW.0.max(needed).min(most)).into();
        let inner =
            Inner { meter: RefCell::new(meter), info, window, disturbance: DISTURBANCE, host: Host::default(), warming: Cell::new(None) };
        Energy(Rc::new(inner))
    }

    /// Counts windows in which others took up to the share `disturbance` of CPU time, from 1 on all. To be set before anything is
    /// measured: clones made earlier keep what they have.
    #[must_use]
    pub fn disturbance(self, disturbance: f64) -> Energy {
        match Rc::try_unwrap(self.0) {
            Ok(inner) => Energy(Rc::new(Inner { disturbance, ..inner })),
            Err(shared) => Energy(shared),
        }
    }

    /// What is known of the meter: kind, scope, uncertainty.
    pub fn info(&self) -> &MeterInfo {
        &self.0.info
    }

    /// The shortest time of a sample.
    pub fn window(&self) -> Duration {
        self.0.window
    }

    /// A criterion for this measurement: few samples, each long enough for the meter.
    pub fn criterion(&self) -> Criterion<Energy> {
        // A little longer than a window, so that one is seldom extended.
        let time = self.0.window.mul_f64(1.25 * SAMPLES as f64);
        let criterion = Criterion::default().sample_size(SAMPLES).measurement_time(time).warm_up_time(Duration::from_secs(1));
        criterion.with_measurement(self.clone())
    }

    /// A criterion for time that can draw its plots beside this one.
    pub fn latency_criterion() -> Criterion<WallTime> {
        crate::report::plot::scene::default_font();
        Criterion::default()
    }

    /// A group with flat sampling: all its samples are equally long.
    pub fn group<'a>(&self, c: &'a mut Criterion<Energy>, name: &str) -> BenchmarkGroup<'a, Energy> {
        let mut group = c.benchmark_group(name);
        group.sampling_mode(SamplingMode::Flat);
        group
    }

    /// As `Bencher::iter`, with windows that fit the meter.
    pub fn iter<O>(&self, bencher: &mut Bencher<'_, Energy>, mut routine: impl FnMut() -> O) {
        bencher.iter_custom(|iterations| self.sample(iterations, &mut routine));
    }

    /// Energy of `iterations` of `routine`: as many more are run as a window needs, and the energy is that share of theirs. Disturbed
    /// windows are measured again, three times.
    pub fn sample<O>(&self, iterations: u64, mut routine: impl FnMut() -> O) -> Sample {
        let iterations = iterations.max(1);
        let least = if self.warms_up(iterations) { Duration::ZERO } else { self.0.window };
        let mut tried = 0;
        loop {
            match self.once(iterations, least, &mut routine) {
                Err(_) if tried < RETRIES => std::thread::sleep(PAUSE * 2u32.pow(tried)),
                outcome => return Sample(outcome),
            }
            tried += 1;
        }
    }

    fn once<O>(&self, iterations: u64, least: Duration, routine: &mut impl FnMut() -> O) -> std::result::Result<f64, String> {
        let edge = self.start();
        let mut runs = 0u64;
        loop {
            for _ in 0..iterations {
                std::hint::black_box(routine());
            }
            runs += iterations;
            let elapsed = edge.at.elapsed();
            if elapsed < least {
                continue;
            }
            match self.close(&edge) {
                // Too short for the counter to move, perhaps: some more, up to a window.
                Err(_) if elapsed < self.0.window => {}
                outcome => return outcome.map(|nanojoules| nanojoules * iterations as f64 / runs as f64).map_err(Unknown::reason),
            }
        }
    }

    /// Criterion warms up by calls of 1, 2, 4, … iterations, whose values it does not use: they need not fill windows.
    fn warms_up(&self, iterations: u64) -> bool {
        let last = self.0.warming.get();
        let goes_on = match last {
            None => iterations == 1,
            Some(last) => last.checked_mul(2) == Some(iterations),
        };
        self.0.warming.set(goes_on.then_some(iterations));
        goes_on
    }

    /// Nanojoules since `edge`.
    fn close(&self, edge: &Edge) -> std::result::Result<f64, Unknown> {
        let mut meter = self.0.meter.borrow_mut();
        let end = meter.read(Target::this_process());
        let span = edge.at.elapsed();
        let joules = match meter.energy(&edge.reading, &end) {
            WindowEnergy::Invalid(reason) => return Err(Unknown::Reason(reason)),
            WindowEnergy::Valid { total, .. } if total.0 > 0.0 => total.0 * late(&self.0.info, span.into()),
            WindowEnergy::Valid { .. } => return Err(Unknown::Nothing(span)),
        };
        match self.disturbed(edge, span) {
            Some(others) => Err(Unknown::Reason(others)),
            None => Ok(joules * 1e9),
        }
    }

    /// What others did since `edge`, when it is too much for a meter that sees the machine.
    fn disturbed(&self, edge: &Edge, span: Duration) -> Option<String> {
        let (times, own) = edge.others?;
        let (now, cpu) = self.others()?;
        let own = cpu.saturating_sub(own);
        let others = contamination(&times, &now, own.into(), span.into());
        others.exceeds(self.0.disturbance).then(|| others.sentence())
    }

    fn others(&self) -> Option<(CpuTimes, Duration)> {
        if self.0.info.scope == Scope::ProcessShare || self.0.disturbance >= 1.0 {
            return None;
        }
        CpuTimes::read(&self.0.host).ok().zip(process_cpu_time(std::process::id()).ok())
    }
}

/// Why a window has no energy.
enum Unknown {
    /// The counter did not move.
    Nothing(Duration),
    Reason(String),
}

impl Unknown {
    fn reason(self) -> String {
        match self {
            Unknown::Reason(reason) => reason,
            Unknown::Nothing(span) => format!("the counter did not move in {}", Seconds::from(span)),
        }
    }
}

impl Sample {
    /// Nanojoules.
    ///
    /// # Errors
    /// Environment: the reason why the energy is not known.
    pub fn nanojoules(&self) -> Result<f64> {
        self.0.clone().map_err(|reason| crate::Error::environment(format!("the energy of a window is not known: {reason}")))
    }
}

/// One line that says what the figures are.
impl fmt::Display for Energy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MeterInfo { name, kind, scope, systematic: s, .. } = &self.0.info;
        write!(f, "energy {}, meter {name}, scope {scope}, isolation in_process, ", kind.sentence())?;
        let window = Seconds::from(self.0.window);
        write!(f, "windows of at least {window}; systematic: {:.2}–{:.2} × the value ({})", s.low, s.high, s.source)
    }
}

impl fmt::Debug for Energy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Energy").field("info", &self.0.info).field("window", &self.0.window).finish_non_exhaustive()
    }
}

impl Measurement for Energy {
    type Intermediate = Edge;
    type Value = Sample;

    fn start(&self) -> Edge {
        let others = self.others();
        let reading = read_after_tick(self.0.meter.borrow_mut().as_mut(), Target::this_process());
        Edge { reading, at: Instant::now(), others }
    }

    fn end(&self, edge: Edge) -> Sample {
        let hint = |reason| format!("{reason}; `Energy::iter` makes windows of at least {}", Seconds::from(self.0.window));
        Sample(self.close(&edge).map_err(|why| hint(why.reason())))
    }

    fn add(&self, a: &Sample, b: &Sample) -> Sample {
        match (&a.0, &b.0) {
            (Ok(a), Ok(b)) => Sample(Ok(a + b)),
            (Err(_), _) => a.clone(),
            (_, Err(_)) => b.clone(),
        }
    }

    fn zero(&self) -> Sample {
        Sample(Ok(0.0))
    }

    /// # Panics
    /// The energy is not known: criterion has no other way to fail, and it asks only for values that it uses.
    #[allow(clippy::panic, reason = "criterion's measurements cannot fail otherwise")]
    fn to_f64(&self, sample: &Sample) -> f64 {
        match sample.nanojoules() {
            Ok(nanojoules) => nanojoules,
            Err(e) => panic!("{e}"),
        }
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &NanojouleFormatter
    }
}

#[cfg(test)]
mod tests;
