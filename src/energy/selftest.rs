//! Meters against each other and against known loads: what a machine has to show before its counters are believed.

use super::crosscheck::CrossCheck;
use super::kind::{Kind, Scope, WindowEnergy};
use super::load::{Load, Work};
use super::meter::{Meter, Reading, Target, read_after_tick};
use crate::sys::{allowed_cpus, process_cpu_time};
use crate::units::{Joules, Seconds, Watts};
use crate::{Error, ErrorKind, Result};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Readings whose cost is taken, and the longest time for them.
const READS: usize = 1000;
const READING: Seconds = Seconds(0.5);
/// Between loads.
const REST: Seconds = Seconds(0.2);

/// How it is done.
#[derive(Debug, Clone)]
pub struct SelfTestPlan {
    /// Length of each load's window; a battery needs minutes.
    pub window: Seconds,
    /// Set by others to stop.
    pub cancel: Arc<AtomicBool>,
}

impl Default for SelfTestPlan {
    fn default() -> Self {
        SelfTestPlan { window: Seconds(2.0), cancel: Arc::default() }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SelfTest {
    /// Of what kind the counters are; `None`: there is no counter, and nothing can be tested.
    pub kind: Option<Kind>,
    /// Each meter by itself.
    pub meters: Vec<MeterCost>,
    /// Each load with what every meter said of it.
    pub loads: Vec<LoadReport>,
    /// Meters of the same thing, compared over each load.
    pub cross_checks: Vec<CrossCheck>,
    /// What must hold.
    pub checks: Vec<Check>,
}

/// What a meter costs and how it ticks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeterCost {
    /// Its name.
    pub meter: String,
    /// Its kind.
    pub kind: Kind,
    /// What it sees.
    pub scope: Scope,
    /// Domains in the headline.
    pub counted: Vec<String>,
    /// Time between two updates.
    pub update_period_s: Option<Seconds>,
    /// Energy after which the first counted domain starts at 0 again.
    pub wraps_at_j: Option<Joules>,
    /// Time of one reading of all domains: median, and 99th percentile.
    pub read_s: Seconds,
    /// See [`read_s`](MeterCost::read_s).
    pub read_p99_s: Seconds,
}

/// A load and its energies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoadReport {
    /// What the cores did; `None`: nothing.
    pub work: Option<Work>,
    /// How many of them.
    pub cores: usize,
    /// CPU time they got.
    pub cpu_s: Seconds,
    /// By meter.
    pub energies: Vec<MeterEnergy>,
}

/// What one meter said of one load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeterEnergy {
    /// The meter.
    pub meter: String,
    /// Length of the window between its readings.
    pub span_s: Seconds,
    /// Energy; `None`: not known.
    pub energy_j: Option<Joules>,
    /// Mean power.
    pub power_w: Option<Watts>,
    /// The meter's resolution of that energy.
    pub resolution_j: Option<Joules>,
    /// Why it is not known.
    pub invalid: Option<String>,
}

/// Something that must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it does; `None`: it cannot be told here.
    pub passed: Option<bool>,
    /// The figures, or why it cannot be told.
    pub detail: String,
}

impl SelfTest {
    /// No check failed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|c| c.passed != Some(false))
    }
}

/// Reads all `meters` at the same edges around known loads: idle, one core, all cores, idle again. `progress` is told what is
/// being done.
///
/// # Errors
/// Environment: the CPUs or the process's clock are not known. Interrupted, when the plan was cancelled.
pub fn selftest(meters: &mut [Box<dyn Meter>], plan: &SelfTestPlan, progress: &mut dyn FnMut(&str)) -> Result<SelfTest> {
    let counters: Vec<Kind> = meters.iter().map(|m| m.info().kind).filter(|k| *k != Kind::Estimated).collect();
    let kind = counters.iter().copied().find(|k| *k == Kind::Measured).or(counters.first().copied());
    let mut test = SelfTest { kind, meters: Vec::new(), loads: Vec::new(), cross_checks: Vec::new(), checks: Vec::new() };
    if kind.is_none() {
        return Ok(test);
    }
    progress("reading cost");
    test.meters = meters.iter_mut().map(|m| cost(m.as_mut())).collect();
    let cpus = allowed_cpus()?;
    let all = cpus.len();
    let loads = [None, Some((Work::Matrices, 1)), Some((Work::Matrices, all)), Some((Work::Memory, all)), None];
    for load in loads {
        if plan.cancel.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted while testing"));
        }
        progress(&load.map_or_else(|| "idle".to_owned(), |(work, n)| format!("{n} busy ({work:?})").to_lowercase()));
        let (report, checks) = one(meters, load, &cpus, plan.window)?;
        test.loads.push(report);
        test.cross_checks.extend(checks);
    }
    // A slow meter knows its period only now.
    for (cost, meter) in test.meters.iter_mut().zip(meters.iter()) {
        cost.update_period_s = meter.info().update_period;
    }
    test.checks = checks(&test);
    Ok(test)
}

fn cost(meter: &mut dyn Meter) -> MeterCost {
    let me = Target::this_process();
    let begin = Instant::now();
    let mut times = Vec::with_capacity(READS);
    while times.len() < READS && begin.elapsed().as_secs_f64() < READING.0 {
        let before = Instant::now();
        std::hint::black_box(meter.read(me));
        times.push(before.elapsed());
    }
    times.sort_unstable();
    let at =
        |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1))).copied().unwrap_or_default();
    let info = meter.info();
    let first = info.domains.iter().position(|d| d.counted);
    MeterCost {
        meter: info.name.clone(),
        kind: info.kind,
        scope: info.scope,
        counted: info.domains.iter().filter(|d| d.counted).map(|d| d.name.clone()).collect(),
        update_period_s: info.update_period,
        wraps_at_j: first.and_then(|i| meter.modulus(i)),
        read_s: at(0.5).into(),
        read_p99_s: at(0.99).into(),
    }
}

fn one(
    meters: &mut [Box<dyn Meter>],
    load: Option<(Work, usize)>,
    cpus: &[usize],
    window: Seconds,
) -> Result<(LoadReport, Vec<CrossCheck>)> {
    let me = Target::this_process();
    let sleep = |time: Seconds| std::thread::sleep(time.into());
    let cpu = || process_cpu_time(me.pid).map_err(|e| Error::environment(format!("cannot read the CPU time: {e}")));
    sleep(REST);
    let running = load.map(|(work, n)| Load::start(&cpus[cpus.len().saturating_sub(n)..], work));
    sleep(REST);
    let before = cpu()?;
    let starts: Vec<Reading> =
        meters.iter_mut().enumerate().map(|(i, meter)| if i == 0 { read_after_tick(meter.as_mut(), me) } else { meter.read(me) }).collect();
    sleep(window);
    let ends: Vec<Reading> = meters.iter_mut().map(|m| m.read(me)).collect();
    let cpu_s = Seconds::from(cpu()? - before);
    drop(running);
    let mut energies = Vec::new();
    for ((meter, start), end) in meters.iter().zip(&starts).zip(&ends) {
        let span_s = Seconds::from(end.since(start));
        let mut said =
            MeterEnergy { meter: meter.info().name.clone(), span_s, energy_j: None, power_w: None, resolution_j: None, invalid: None };
        match meter.energy(start, end) {
            WindowEnergy::Valid { total, resolution } => {
                (said.energy_j, said.power_w, said.resolution_j) = (Some(total), Some(total / span_s), Some(resolution));
            }
            WindowEnergy::Invalid(why) => said.invalid = Some(why),
        }
        energies.push(said);
    }
    let mut cross_checks = Vec::new();
    for i in 0..meters.len() {
        for j in i + 1..meters.len() {
            if meters[i].info().kind == Kind::Estimated || meters[j].info().kind == Kind::Estimated {
                continue;
            }
            let beside = |readings: &[Reading]| readings[i].clone().with_beside(readings[j].clone());
            cross_checks.extend(CrossCheck::of(meters[i].as_ref(), meters[j].as_ref(), &beside(&starts), &beside(&ends)));
        }
    }
    let (work, cores) = load.map_or((None, 0), |(work, n)| (Some(work), n));
    Ok((LoadReport { work, cores, cpu_s, energies }, cross_checks))
}

/// What must hold of the loads.
fn checks(test: &SelfTest) -> Vec<Check> {
    let mut checks = Vec::new();
    let counters: Vec<(usize, &MeterCost)> = test.meters.iter().enumerate().filter(|(_, m)| m.kind != Kind::Estimated).collect();
    for (i, cost) in &counters {
        let of = |load: usize| test.loads.get(load).and_then(|l| l.energies.get(*i));
        checks.push(rises(&cost.meter, "one busy core draws more than the idle machine", of(0), of(1)));
        if test.loads.get(2).is_some_and(|all| all.cores > 1) {
            checks.push(rises(&cost.meter, "all cores draw more than one", of(1), of(2)));
        }
        checks.push(rises(&cost.meter, "the machine is at rest again after the loads", of(4), of(2)));
    }
    for check in &test.cross_checks {
        checks.push(Check {
            name: format!("`{}` and `{}` agree on {}", check.meter, check.other, check.domains.join(" + ")),
            passed: Some(check.agrees()),
            detail: format!(
                "{} and {}: {:+.2} %, ±{:.2} % allowed",
                check.energy_j,
                check.other_j,
                100.0 * check.difference,
                100.0 * check.allowed
            ),
        });
    }
    // What is outside sees at least what is inside.
    let outside = |s: Scope| matches!(s, Scope::Wall | Scope::Board | Scope::Battery);
    let inside = |s: Scope| matches!(s, Scope::PackageDram | Scope::Package);
    for (o, outer) in counters.iter().filter(|(_, m)| outside(m.scope)) {
        for (i, inner) in counters.iter().filter(|(_, m)| inside(m.scope)) {
            let powers = test.loads.iter().filter_map(|l| l.energies.get(*o)?.power_w.zip(l.energies.get(*i)?.power_w));
            let powers: Vec<(Watts, Watts)> = powers.collect();
            let told = powers.iter().map(|(a, b)| format!("{a} for {b}")).collect::<Vec<_>>().join(", ");
            checks.push(Check {
                name: format!("`{}` sees at least what `{}` sees", outer.meter, inner.meter),
                passed: (!powers.is_empty()).then(|| powers.iter().all(|(a, b)| a.0 >= b.0)),
                detail: if powers.is_empty() { "no window of both is valid".into() } else { told },
            });
        }
    }
    checks
}

/// The power of `more` is higher than that of `less`, by more than the resolution of both.
fn rises(meter: &str, what: &str, less: Option<&MeterEnergy>, more: Option<&MeterEnergy>) -> Check {
    let name = format!("`{meter}`: {what}");
    let (Some(less), Some(more)) = (less, more) else { return Check { name, passed: None, detail: "it was not tried".into() } };
    let known = |e: &MeterEnergy| Some((e.power_w?, e.resolution_j? / e.span_s));
    match (known(less), known(more)) {
        (Some((low, unsure)), Some((high, unsure_too))) => {
            // Resolutions are errors of single edges: half of their sum is what chance may make of them.
            let passed = high.0 - low.0 > (unsure.0 + unsure_too.0) / 2.0;
            Check { name, passed: Some(passed), detail: format!("{low}, then {high}") }
        }
        _ => {
            let why = [less, more].iter().find_map(|e| e.invalid.clone()).unwrap_or_default();
            Check { name, passed: None, detail: format!("a window is invalid: {why}") }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use crate::energy::Estimator;
    use crate::sys::CpuInfo;

    fn said(meter: &str, power: Option<f64>) -> MeterEnergy {
        let watts = power.map(Watts);
        MeterEnergy {
            meter: meter.into(),
            span_s: Seconds(2.0),
            energy_j: watts.map(|w| w * Seconds(2.0)),
            power_w: watts,
            resolution_j: Some(Joules(0.1)),
            invalid: power.is_none().then(|| "gone".into()),
        }
    }

    fn meter(name: &str, kind: Kind, scope: Scope) -> MeterCost {
        MeterCost {
            meter: name.into(),
            kind,
            scope,
            counted: vec!["package-0".into()],
            update_period_s: None,
            wraps_at_j: None,
            read_s: Seconds(1e-5),
            read_p99_s: Seconds(2e-5),
        }
    }

    /// Powers of two counters, package and wall, and of the estimator over the five loads.
    fn test(package: [Option<f64>; 5], wall: [Option<f64>; 5]) -> SelfTest {
        let loads = (0..5).map(|i| LoadReport {
            work: None,
            cores: [0, 1, 4, 4, 0][i],
            cpu_s: Seconds(0.0),
            energies: vec![said("perf", package[i]), said("estimate", Some(0.0)), said("external", wall[i])],
        });
        let mut test = SelfTest {
            kind: Some(Kind::Measured),
            meters: vec![
                meter("perf", Kind::Measured, Scope::Package),
                meter("estimate", Kind::Estimated, Scope::ProcessShare),
                meter("external", Kind::Measured, Scope::Wall),
            ],
            loads: loads.collect(),
            cross_checks: Vec::new(),
            checks: Vec::new(),
        };
        test.checks = checks(&test);
        test
    }

    #[test]
    fn a_machine_whose_counters_follow_the_load_passes() {
        let good = test([5.0, 15.0, 40.0, 35.0, 5.2].map(Some), [20.0, 32.0, 60.0, 55.0, 21.0].map(Some));
        assert!(good.passed() && good.checks.len() == 7 && good.checks.iter().all(|c| c.passed == Some(true)), "{:?}", good.checks);
        assert_eq!(good.checks[6].name, "`external` sees at least what `perf` sees");
    }

    #[test]
    fn each_fault_fails_its_own_check() {
        let wall = [20.0, 32.0, 60.0, 55.0, 21.0].map(Some);
        let failed = |t: &SelfTest| t.checks.iter().filter(|c| c.passed == Some(false)).map(|c| c.name.clone()).collect::<Vec<_>>();
        let still = test([5.0; 5].map(Some), wall);
        assert_eq!(failed(&still).len(), 3, "{:?}", failed(&still));
        let below = test([5.0, 35.0, 40.0, 35.0, 5.2].map(Some), wall);
        assert_eq!(failed(&below), ["`external` sees at least what `perf` sees"]);
        let blind = test([Some(5.0), None, Some(40.0), Some(35.0), Some(5.0)], wall);
        assert!(blind.passed() && blind.checks[0].passed.is_none() && blind.checks[0].detail.contains("gone"));
    }

    #[test]
    fn without_a_counter_there_is_nothing_to_test() {
        let mut meters: Vec<Box<dyn Meter>> = vec![Box::new(Estimator::for_cpu(&CpuInfo::default()))];
        let test = selftest(&mut meters, &SelfTestPlan::default(), &mut |_| panic!("nothing is done")).unwrap();
        assert!(test.kind.is_none() && test.loads.is_empty() && test.passed());
    }
}
