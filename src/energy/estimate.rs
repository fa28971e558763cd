//! The estimator: CPU time of the measured process × watts per busy core. For machines without a counter (virtual machines,
//! CI, most of the cloud), where the choice is between a wide honest range and nothing.

use super::families::{self, AVERAGE, SPREAD};
use super::kind::{Kind, Scope, Systematic, WindowEnergy};
use super::meter::{Domain, Meter, MeterInfo, Reading, Target};
use crate::sys::{CpuInfo, Host, process_cpu_time};
use crate::units::{Seconds, Watts};
use crate::{Error, Result};

/// The process clock counts nanoseconds.
const CLOCK_UNIT: Seconds = Seconds(1e-9);

/// How far the power of one more busy thread may be from the average at full load, in multiples of it. Load curves are not
/// straight: in the CodeCarbon project's measurements (2025-01) a thread added at low load drew 3.3 times the full-load average
/// on an AMD EPYC 8024P, and 0.3 times on an Intel Xeon E3-1240 V2 at its lowest frequencies.
const LOAD_CURVE: (f64, f64) = (0.3, 3.3);

/// Energy = CPU time of the target process (all its threads, user and system) × watts per busy hardware thread.
///
/// It sees how long the CPU was busy and nothing else: not which instructions ran, not the memory traffic, not the frequency.
/// Ratios of configurations on one CPU are those of their CPU times. Idle power is not in it.
#[derive(Debug)]
pub struct Estimator {
    info: MeterInfo,
    watts: Watts,
}

impl Estimator {
    /// The estimator for this machine's CPU.
    ///
    /// # Errors
    /// Environment: the system has no process clocks (it is not Linux).
    pub fn open() -> Result<Self> {
        process_cpu_time(std::process::id())
            .map_err(|e| Error::environment(format!("cannot read the CPU time of a process: {e}")).hint("run on Linux"))?;
        Ok(Self::for_cpu(&Host::default().cpu()))
    }

    /// The estimator for a given CPU.
    pub fn for_cpu(cpu: &CpuInfo) -> Self {
        let (watts, basis, (low, high)) = match families::find(cpu) {
            Some(family) => (family.watts, family.name, LOAD_CURVE),
            None => (AVERAGE, "the average CPU, as this one is not in the table", both(LOAD_CURVE, SPREAD)),
        };
        let source = format!(
            "CPU time × {watts} per busy hardware thread, for {basis} (Cloud Carbon Footprint, from SPECpower_ssj2008: whole servers at full load). Blind to \
             instruction mix, memory traffic and frequency; cancels in ratios on one CPU only between configurations that are alike in these and in their number \
             of threads"
        );
        let info = MeterInfo {
            name: "estimate".into(),
            kind: Kind::Estimated,
            scope: Scope::ProcessShare,
            domains: vec![Domain { name: "process".into(), counted: true }],
            unit: watts * CLOCK_UNIT,
            update_period: None,
            systematic: Systematic { low, high, source },
            attributes_idle: false,
        };
        Estimator { info, watts }
    }

    /// Watts per busy hardware thread.
    pub fn watts(&self) -> Watts {
        self.watts
    }
}

/// Two independent factors together: their logarithms add in squares.
fn both(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    let join = |x: f64, y: f64| x.ln().hypot(y.ln());
    ((-join(a.0, b.0)).exp(), join(a.1, b.1).exp())
}

impl Meter for Estimator {
    fn info(&self) -> &MeterInfo {
        &self.info
    }

    fn read(&mut self, target: Target) -> Reading {
        let pid = target.pid;
        Reading::take(target, || {
            let time = process_cpu_time(pid).map_err(|e| format!("cannot read the CPU time of process {pid}: {e}"));
            vec![time.map(|t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX))]
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
            (Ok(a), Ok(b)) if b >= a => WindowEnergy::Valid { total: self.info.unit * (b - a) as f64, resolution: self.info.unit },
            (Ok(_), Ok(_)) => WindowEnergy::Invalid("the process clock went backwards: another process has taken its number".into()),
            (Err(reason), _) | (_, Err(reason)) => WindowEnergy::Invalid(reason),
        }
    }

    fn domains_energy(&self, start: &Reading, end: &Reading) -> Vec<(String, WindowEnergy)> {
        vec![("process".into(), self.energy(start, end))]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;

    fn reading(pid: u32, value: Result<u64, String>) -> Reading {
        Reading::take(Target { pid }, || vec![value])
    }

    #[test]
    fn one_busy_second_is_the_familys_watts() {
        let cpu = CpuInfo { vendor: "AuthenticAMD".into(), family: Some(25), model: Some(17), ..CpuInfo::default() };
        let meter = Estimator::for_cpu(&cpu);
        let WindowEnergy::Valid { total, .. } = meter.energy(&reading(1, Ok(5)), &reading(1, Ok(1_000_000_005))) else { panic!() };
        assert!((total.0 - 2.28).abs() < 1e-9);
        assert_eq!((meter.info().systematic.low, meter.info().systematic.high), LOAD_CURVE);
        assert!(meter.info().systematic.source.contains("Genoa"));
    }

    #[test]
    fn an_unknown_cpu_is_wider_than_a_known_one() {
        let meter = Estimator::for_cpu(&CpuInfo::default());
        let systematic = &meter.info().systematic;
        assert!(systematic.low < LOAD_CURVE.0 && systematic.high > LOAD_CURVE.1, "{systematic:?}");
        assert!((systematic.low - 0.244).abs() < 0.01 && (systematic.high - 4.46).abs() < 0.1, "{systematic:?}");
        assert_eq!(meter.watts(), AVERAGE);
    }

    #[test]
    fn what_cannot_be_told_is_invalid() {
        let meter = Estimator::for_cpu(&CpuInfo::default());
        let gone = || Err("gone".to_owned());
        for (start, end) in [
            (reading(1, Ok(1)), reading(2, Ok(2))),
            (reading(1, Ok(2)), reading(1, Ok(1))),
            (reading(1, gone()), reading(1, Ok(1))),
            (reading(1, Ok(1)), reading(1, gone())),
        ] {
            assert!(matches!(meter.energy(&start, &end), WindowEnergy::Invalid(_)));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_has_ended_makes_the_window_invalid() {
        let mut meter = Estimator::open().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let target = Target { pid: child.id() };
        let start = meter.read(target);
        child.wait().unwrap();
        let end = meter.read(target);
        assert!(matches!(meter.energy(&start, &end), WindowEnergy::Invalid(reason) if reason.contains("no such process")));
    }
}
