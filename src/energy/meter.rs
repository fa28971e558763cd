//! The meter: what every source of energy readings can do.
//!
//! A meter never samples power: it is read at the edges of a window, and the window's energy is the difference of the two
//! readings. What goes wrong at an edge (a file that vanished, a permission taken away, a process that ended) is kept in the
//! reading and makes the window [`WindowEnergy::Invalid`] with its reason; it is never zero and never an error that ends the
//! run.

use super::kind::{Kind, Scope, Systematic, WindowEnergy};
use crate::units::{Joules, Seconds};
use std::time::{Duration, Instant, SystemTime};

/// The child process a reading is about. Meters of the whole machine do not need it; the estimator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its process id.
    pub pid: u32,
}

impl Target {
    /// This process itself.
    pub fn this_process() -> Self {
        Target { pid: std::process::id() }
    }
}

/// One counter of a meter: a package, its memory, one outlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// The kernel's own name, under its parent's where it is part of one: `package-0`, `package-0/dram`.
    pub name: String,
    /// Part of the headline sum; the others are shown beside it, because they are parts of a counted domain (`core`) or
    /// contain it (`psys`).
    pub counted: bool,
}

/// What is known of a meter before anything is read.
#[derive(Debug, Clone, PartialEq)]
pub struct MeterInfo {
    /// `perf`, `powercap`, `estimate`: what `--meter` takes.
    pub name: String,
    /// How its figures come about.
    pub kind: Kind,
    /// How much of the machine it sees.
    pub scope: Scope,
    /// Its counters, in the order of the values in a [`Reading`].
    pub domains: Vec<Domain>,
    /// Smallest step of a reading.
    pub unit: Joules,
    /// Time between two updates of the counter; `None` when it has no fixed period or moved too little to tell.
    pub update_period: Option<Seconds>,
    /// Its systematic uncertainty.
    pub systematic: Systematic,
    /// Idle power of the machine is in the readings, so that net = gross − idle makes sense.
    pub attributes_idle: bool,
}

/// What a meter showed at one instant. Only the meter that made it can tell what the values mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    target: Target,
    at: Instant,
    time: SystemTime,
    values: Vec<Result<u64, String>>,
    beside: Option<Box<Reading>>,
}

impl Reading {
    /// Reads `values`, one per domain, each a raw counter value or the reason why there is none. The reading's instant is the
    /// middle of the time that took.
    pub fn take(target: Target, values: impl FnOnce() -> Vec<Result<u64, String>>) -> Self {
        let time = SystemTime::now();
        let before = Instant::now();
        let values = values();
        let half = before.elapsed() / 2;
        Reading { target, at: before + half, time: time + half, values, beside: None }
    }

    /// The same reading with that of another meter at the same edge, for cross-checks.
    #[must_use]
    pub fn with_beside(mut self, other: Reading) -> Self {
        self.beside = Some(Box::new(other));
        self
    }

    /// What another meter showed at the same edge.
    pub fn beside(&self) -> Option<&Reading> {
        self.beside.as_deref()
    }

    /// The process it is about.
    pub fn target(&self) -> Target {
        self.target
    }

    /// When, on this machine's monotonic clock.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// When, on the wall clock: for meters outside the machine, whose samples are fetched later and found by their time.
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// Time from `start` to this reading; zero if `start` is the later one.
    pub fn since(&self, start: &Reading) -> Duration {
        self.at.saturating_duration_since(start.at)
    }

    /// Raw values in the order of [`MeterInfo::domains`].
    pub fn values(&self) -> &[Result<u64, String>] {
        &self.values
    }

    /// The raw value of domain `i`, or why there is none.
    pub fn value(&self, i: usize) -> Result<u64, String> {
        self.values.get(i).cloned().unwrap_or_else(|| Err("the reading has no such domain".into()))
    }
}

/// A source of energy readings.
///
/// ```
/// use joulefront::energy::{Estimator, Meter, Target, WindowEnergy};
/// # fn main() -> joulefront::Result<()> {
/// let mut meter = Estimator::open()?;
/// let me = Target::this_process();
/// let start = meter.read(me);
/// let sum: f64 = (0..1_000_000).map(f64::from).sum();
/// let end = meter.read(me);
/// match meter.energy(&start, &end) {
///     WindowEnergy::Valid { total, .. } => assert!(total.0 > 0.0 && sum > 0.0),
///     WindowEnergy::Invalid(reason) => panic!("{reason}"),
/// }
/// # Ok(())
/// # }
/// ```
pub trait Meter: Send {
    /// What is known beforehand.
    fn info(&self) -> &MeterInfo;

    /// Reads all domains now. Takes microseconds; faults become part of the reading.
    fn read(&mut self, target: Target) -> Reading;

    /// Energy between two readings of this meter: the sum over the counted domains.
    fn energy(&self, start: &Reading, end: &Reading) -> WindowEnergy;

    /// Energy between two readings, by domain, counted or not, with the domains' names.
    fn domains_energy(&self, start: &Reading, end: &Reading) -> Vec<(String, WindowEnergy)>;

    /// What this meter would have shown when the process of `target` began, for meters that follow one process; `None` for those
    /// that see more.
    fn at_birth(&self, _target: Target) -> Option<Reading> {
        None
    }

    /// The longest time between two readings for which [`energy`](Meter::energy) can be sure that no counter wrapped twice;
    /// beyond it the window is invalid. `None`: no limit. Longer spans are measured as a sum of shorter ones.
    fn longest_window(&self) -> Option<Seconds> {
        None
    }

    /// The energy after which the counter of domain `i` starts at 0 again; `None`: it does not, as far as known.
    fn modulus(&self, i: usize) -> Option<Joules> {
        let _ = i;
        None
    }

    /// What was noticed so far that a reader of the figures must know: one line each, with cause and remedy.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Reads `meter` right after its counter has ticked, so that the start of a window carries no part of an earlier one.
///
/// Spins for at most two update periods; a meter without a period, or with one of more than 20 ms, is read at once. (At the end
/// of a window spinning would add the reader's own energy: there the child's end is the edge, and one tick goes into the
/// window's resolution.)
pub fn read_after_tick(meter: &mut dyn Meter, target: Target) -> Reading {
    match meter.info().update_period.filter(|period| period.0 <= LONGEST_SPIN.0) {
        Some(period) => after_tick(meter, target, (period * 2.0).into()),
        None => meter.read(target),
    }
}

/// Sensors and gauges that change seldom are not waited for: their edges are in the resolution, and a spinning reader would be
/// what they show.
const LONGEST_SPIN: Seconds = Seconds(0.02);

fn after_tick(meter: &mut dyn Meter, target: Target, bound: Duration) -> Reading {
    let first = meter.read(target);
    loop {
        let reading = meter.read(target);
        if reading.values != first.values || reading.since(&first) > bound {
            return reading;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows the number of times it was read, divided by `every`.
    struct Scripted {
        info: MeterInfo,
        reads: u64,
        every: u64,
    }

    impl Scripted {
        fn new(every: u64, update_period: Option<Seconds>) -> Self {
            let systematic = Systematic { low: 1.0, high: 1.0, source: String::new() };
            let info = MeterInfo {
                name: "scripted".into(),
                kind: Kind::Simulated,
                scope: Scope::Package,
                domains: vec![Domain { name: "package-0".into(), counted: true }],
                unit: Joules(1.0),
                update_period,
                systematic,
                attributes_idle: true,
            };
            Scripted { info, reads: 0, every }
        }
    }

    impl Meter for Scripted {
        fn info(&self) -> &MeterInfo {
            &self.info
        }
        fn read(&mut self, target: Target) -> Reading {
            self.reads += 1;
            Reading::take(target, || vec![Ok(self.reads / self.every)])
        }
        fn energy(&self, _: &Reading, _: &Reading) -> WindowEnergy {
            WindowEnergy::Invalid("not used".into())
        }
        fn domains_energy(&self, _: &Reading, _: &Reading) -> Vec<(String, WindowEnergy)> {
            Vec::new()
        }
    }

    #[test]
    fn the_reading_after_a_tick() {
        let me = Target::this_process();
        let mut ticking = Scripted::new(5, None);
        assert_eq!(after_tick(&mut ticking, me, Duration::from_secs(60)).value(0), Ok(1));
        assert_eq!(ticking.reads, 5);

        let mut slow = Scripted::new(5, Some(Seconds(60.0)));
        assert_eq!((read_after_tick(&mut slow, me).value(0), slow.reads), (Ok(0), 1));

        let mut without_period = Scripted::new(5, None);
        let reading = read_after_tick(&mut without_period, me);
        assert_eq!((reading.value(0), without_period.reads), (Ok(0), 1));
        assert!(reading.value(1).is_err());

        // A counter that stopped does not hold anybody up.
        let mut dead = Scripted::new(u64::MAX, Some(Seconds(1e-3)));
        assert_eq!(read_after_tick(&mut dead, me).value(0), Ok(0));
    }
}
