//! The estimator: CPU time of the measured process × watts per busy core. For machines without a counter (virtual machines,
//! CI, most of the cloud), where the choice is between a wide honest range and nothing.

use super::families::{self, AVERAGE, SPREAD};
use super::kind::{Kind, Scope, Systematic, WindowEnergy};
use super::meter::{Domain, Meter, MeterInfo, Reading, Target};
use super::profile::PowerProfile;
use crate::sys::{CpuInfo, Host, process_cpu_time, thread_cpu_times};
use crate::units::{Joules, Seconds, Watts};
use crate::{Error, Result};
use std::collections::HashMap;

/// The process clock counts nanoseconds.
const CLOCK_UNIT: Seconds = Seconds(1e-9);

/// How far the power of one more busy thread may be from the average at full load, in multiples of it. Load curves are not
/// straight: in the CodeCarbon project's measurements (2025-01) a thread added at low load drew 3.3 times the full-load average
/// on an AMD EPYC 8024P, and 0.3 times on an Intel Xeon E3-1240 V2 at its lowest frequencies.
const LOAD_CURVE: (f64, f64) = (0.3, 3.3);

/// The kernel brings a running thread's time up to date at its ticks only. What the threads lack to the time of the process
/// below that share is theirs; above it, it is of threads that have ended.
const STALE: f64 = 0.1;

/// More ended threads are not told apart.
const MOST_ENDED: f64 = 1024.0;

const BLIND: &str = "Blind to instruction mix, memory traffic and frequency; cancels in ratios on one CPU only between configurations that are alike in these and in their number \
                     of threads";

/// Energy = CPU time of the target process (all its threads, user and system) × watts per busy hardware thread.
///
/// With a [power profile](PowerProfile) the watts depend on how many of its threads are busy together. It sees how long the CPU
/// was busy and nothing else: not which instructions ran, not the memory traffic, not the frequency. Ratios of configurations on
/// one CPU are those of their CPU times. Idle power is not in it.
#[derive(Debug)]
pub struct Estimator {
    info: MeterInfo,
    model: Model,
    warnings: Vec<String>,
}

#[derive(Debug)]
enum Model {
    /// Watts per busy hardware thread, however many there are.
    Straight(Watts),
    /// Watts by the number of busy cores.
    Profile(Box<PowerProfile>),
}

impl Estimator {
    /// The estimator for this machine's CPU.
    ///
    /// # Errors
    /// Environment: the system has no process clocks (it is not Linux).
    pub fn open() -> Result<Self> {
        has_clocks()?;
        Ok(Self::for_cpu(&Host::default().cpu()))
    }

    /// The estimator with a profile that was fitted where there is a counter. One that was fitted to a simulated counter gives
    /// figures that are simulated too.
    ///
    /// # Errors
    /// As [`open`](Estimator::open).
    pub fn with_profile(profile: &PowerProfile) -> Result<Self> {
        has_clocks()?;
        Ok(Self::profiled(profile, &Host::default().cpu()))
    }

    /// The estimator for a given CPU.
    pub fn for_cpu(cpu: &CpuInfo) -> Self {
        let (watts, basis, (low, high)) = match families::find(cpu) {
            Some(family) => (family.watts, family.name, LOAD_CURVE),
            None => (AVERAGE, "the average CPU, as this one is not in the table", both(LOAD_CURVE, SPREAD)),
        };
        let source = format!(
            "CPU time × {watts} per busy hardware thread, for {basis} (Cloud Carbon Footprint, from SPECpower_ssj2008: whole servers at full load). {BLIND}"
        );
        let systematic = Systematic { low, high, source };
        Estimator { info: info(Kind::Estimated, watts * CLOCK_UNIT, systematic), model: Model::Straight(watts), warnings: Vec::new() }
    }

    fn profiled(profile: &PowerProfile, cpu: &CpuInfo) -> Self {
        let mismatch = profile.mismatch(cpu);
        let other = mismatch.as_ref().map_or_else(String::new, |why| format!(" But {why}, so the range does not hold here."));
        let source = format!(
            "CPU time by thread × a power profile of {} windows on the {} meter `{}` (scope {}), whose range is that of its residuals over loads of different kinds.{other} {BLIND}",
            profile.windows, profile.kind, profile.meter, profile.scope
        );
        let systematic = Systematic { low: profile.low, high: profile.high, source };
        let kind = if profile.kind == Kind::Measured { Kind::Estimated } else { Kind::Simulated };
        let warnings = mismatch.map(|why| format!("{why}; calibrate on a machine with the same CPU, or leave `--power-profile` away"));
        let mut info = info(kind, profile.watts(1) * CLOCK_UNIT, systematic);
        // Figures of different profiles are those of different meters.
        info.name = format!("estimate:{}", profile.digest());
        Estimator { info, model: Model::Profile(Box::new(profile.clone())), warnings: warnings.into_iter().collect() }
    }

    /// Watts of one busy hardware thread.
    pub fn watts(&self) -> Watts {
        match &self.model {
            Model::Straight(watts) => *watts,
            Model::Profile(profile) => profile.watts(1),
        }
    }

    /// Energy of `process` seconds of CPU time, of which the threads in both readings had theirs.
    fn model(&self, start: &Reading, end: &Reading, process: Seconds) -> Joules {
        match &self.model {
            Model::Straight(watts) => *watts * process,
            Model::Profile(profile) => profile.energy(by_thread(start, end, process)),
        }
    }
}

fn has_clocks() -> Result<()> {
    process_cpu_time(std::process::id())
        .map(drop)
        .map_err(|e| Error::environment(format!("cannot read the CPU time of a process: {e}")).hint("run on Linux"))
}

fn info(kind: Kind, unit: Joules, systematic: Systematic) -> MeterInfo {
    MeterInfo {
        name: "estimate".into(),
        kind,
        scope: Scope::ProcessShare,
        domains: vec![Domain { name: "process".into(), counted: true }],
        unit,
        update_period: None,
        systematic,
        attributes_idle: false,
    }
}

/// Two independent factors together: their logarithms add in squares.
fn both(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    let join = |x: f64, y: f64| x.ln().hypot(y.ln());
    ((-join(a.0, b.0)).exp(), join(a.1, b.1).exp())
}

/// After the time of the process, a reading has the number and the time of each thread in turn.
fn threads(reading: &Reading) -> impl Iterator<Item = (u64, u64)> + '_ {
    reading.values().get(1..).unwrap_or_default().chunks_exact(2).filter_map(|pair| match pair {
        [Ok(thread), Ok(time)] => Some((*thread, *time)),
        _ => None,
    })
}

/// How long each thread was busy; their sum is the time of the process, and none was busy for longer than the window.
fn by_thread(start: &Reading, end: &Reading, process: Seconds) -> Vec<Seconds> {
    let before: HashMap<u64, u64> = threads(start).collect();
    let mut times: Vec<Seconds> = threads(end)
        .map(|(thread, time)| CLOCK_UNIT * time.saturating_sub(before.get(&thread).copied().unwrap_or(0)) as f64)
        .filter(|t| t.0 > 0.0)
        .collect();
    let known: Seconds = times.iter().copied().sum();
    let rest = process - known;
    if known.0 > 0.0 && rest.0 < STALE * process.0 {
        let scale = process / known;
        times.iter_mut().for_each(|t| *t = *t * scale);
        return times;
    }
    // Threads that have ended: as few as can have used so much time.
    let length = Seconds::from(end.since(start)).0.max(f64::MIN_POSITIVE);
    let pieces = (rest.0 / length).ceil().clamp(0.0, MOST_ENDED) as usize;
    times.extend(std::iter::repeat_n(rest / pieces.max(1) as f64, pieces));
    times
}

impl Meter for Estimator {
    fn info(&self) -> &MeterInfo {
        &self.info
    }

    fn read(&mut self, target: Target) -> Reading {
        let pid = target.pid;
        let with_threads = matches!(self.model, Model::Profile(_));
        Reading::take(target, || {
            let time = process_cpu_time(pid).map_err(|e| format!("cannot read the CPU time of process {pid}: {e}"));
            let mut values = vec![time.map(|t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX))];
            if with_threads {
                // Without them all time is that of one thread after the other.
                let threads = thread_cpu_times(pid).unwrap_or_default();
                values.extend(threads.into_iter().flat_map(|(thread, ns)| [Ok(u64::from(thread)), Ok(ns)]));
            }
            values
        })
    }

    fn at_birth(&self, target: Target) -> Option<Reading> {
        Some(Reading::take(target, || vec![Ok(0)]))
    }

    fn energy(&self, start: &Reading, end: &Reading) -> WindowEnergy {
        if start.target() != end.target() {
            return WindowEnergy::Invalid(format!("the readings are of processes {} and {}", start.target().pid, end.target().pid));
        }
        match (start.value(0), end.value(0)) {
            (Ok(a), Ok(b)) if b >= a => {
                let total = self.model(start, end, CLOCK_UNIT * (b - a) as f64);
                WindowEnergy::Valid { total, resolution: self.info.unit }
            }
            (Ok(_), Ok(_)) => WindowEnergy::Invalid("the process clock went backwards: another process has taken its number".into()),
            (Err(reason), _) | (_, Err(reason)) => WindowEnergy::Invalid(reason),
        }
    }

    fn domains_energy(&self, start: &Reading, end: &Reading) -> Vec<(String, WindowEnergy)> {
        vec![("process".into(), self.energy(start, end))]
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}

#[cfg(test)]
mod tests;
