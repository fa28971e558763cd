//! `joulefront doctor`: meters, permissions, engines, build flags and what disturbs measurements here, each with its fix.

mod selftest;

use super::meters::MeterOptions;
use super::{FoundEngine, Global};
use crate::energy::{Kind, Probe, Scope, SelfTest, Systematic, Unavailable, choose, probe};
use crate::measure::{Environment, EnvironmentWarning};
use crate::units::{Joules, Seconds};
use crate::{Error, Result};
use serde::Serialize;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::path::PathBuf;

/// Options of `joulefront doctor`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Args {
    /// Compare the meters with each other and with known loads, for about 15 s; with `--json` a record to send in
    #[arg(long)]
    pub(super) selftest: bool,
    /// Length of the self-test's windows [default: 2s]; a battery needs minutes
    #[arg(long, value_name = "TIME", value_parser = super::values::seconds, requires = "selftest")]
    pub(super) window: Option<Seconds>,
    #[command(flatten)]
    pub(super) meter: MeterOptions,
}

/// All that the doctor found; with `--json` this is printed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct DoctorReport {
    /// Version of this form.
    pub(super) schema_version: u32,
    /// The meter that is taken when none is named.
    pub(super) meter: Option<String>,
    /// All meters, best first.
    pub(super) meters: Vec<MeterReport>,
    /// What disturbs measurements here.
    pub(super) warnings: Vec<WarningReport>,
    /// Engines, those that are not there with the reason.
    pub(super) engines: Vec<EngineReport>,
    /// Name of this class of machine and build.
    pub(super) environment_key: String,
    /// The machine and the build.
    pub(super) environment: Environment,
    /// With `--selftest`: what the meters showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) selftest: Option<SelfTest>,
}

/// One meter: what it is, or why it is not there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct MeterReport {
    /// What `--meter` takes.
    pub(super) name: String,
    /// Whether it can be used now.
    pub(super) available: bool,
    /// What it is.
    #[serde(flatten)]
    pub(super) facts: Option<MeterFacts>,
    /// Why it cannot be used, and what to do about it.
    #[serde(flatten)]
    pub(super) unavailable: Option<Unavailable>,
}

/// What is known of a meter that can be used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct MeterFacts {
    /// How its figures come about.
    pub(super) kind: Kind,
    /// How much of the machine it sees.
    pub(super) scope: Scope,
    /// Domains in the headline sum.
    pub(super) counted: Vec<String>,
    /// Domains shown beside it.
    pub(super) beside: Vec<String>,
    /// Smallest step.
    pub(super) unit_j: Joules,
    /// Time between two updates.
    pub(super) update_period_s: Option<Seconds>,
    /// Energy after which the first counted domain starts at 0 again.
    pub(super) wraps_at_j: Option<Joules>,
    /// Systematic uncertainty.
    pub(super) systematic: Systematic,
}

/// One engine: its version, or why it is not there.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(super) struct EngineReport {
    /// What `--engine` takes.
    pub(super) name: String,
    /// Its version; `None` when it is not there.
    pub(super) version: Option<String>,
    /// The library's file, where it is not part of this program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) library: Option<PathBuf>,
    /// Why it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

/// A warning in words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct WarningReport {
    /// Which.
    #[serde(flatten)]
    pub(super) warning: EnvironmentWarning,
    /// What is the matter.
    pub(super) cause: String,
    /// What to do about it.
    pub(super) remedy: &'static str,
}

/// Runs the command.
///
/// # Errors
/// Environment: `--require measured` and no meter measures here, or `--selftest` and there is no counter; the message has the
/// reasons, the hint the fixes. Check failed: the self-test found something. The report is printed all the same.
pub(super) fn run(args: &Args, global: &Global, engines: &[FoundEngine]) -> Result<()> {
    let (names, sources) = args.meter.sources(global)?;
    let mut probes = probe(&sources);
    if let Some(unknown) = names.iter().find(|n| !probes.iter().any(|p| p.name == **n)) {
        let known: Vec<&str> = probes.iter().map(|p| p.name).collect();
        return Err(Error::bad_input(format!("there is no meter `{unknown}`")).hint(format!("meters: {}", known.join(", "))));
    }
    let there = engines.iter().filter_map(|(_, found)| found.as_ref().ok().cloned()).collect();
    let mut report = report(&probes, engines, Environment::collect(there));
    if args.selftest {
        report.selftest = Some(selftest::run(&mut probes, &names, args.window, global)?);
    }
    let text = match global.json {
        true => serde_json::to_string_pretty(&report).map_err(|e| Error::environment(format!("cannot write the report: {e}")))? + "\n",
        false => report.to_string(),
    };
    if global.json || !global.quiet {
        // A reader that has gone away (`| head`) is not a fault.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
    if args.meter.require.is_some() {
        choose(probes, &names, true)?;
    }
    report.selftest.as_ref().map_or(Ok(()), selftest::verdict)
}

/// Puts together what was found.
pub(super) fn report(probes: &[Probe], engines: &[FoundEngine], environment: Environment) -> DoctorReport {
    let warnings = environment.warnings().into_iter();
    DoctorReport {
        schema_version: 1,
        meter: probes.iter().find(|p| p.outcome.is_ok()).map(|p| p.name.to_owned()),
        meters: probes.iter().map(meter).collect(),
        warnings: warnings.map(|w| WarningReport { cause: w.cause(), remedy: w.remedy(), warning: w }).collect(),
        engines: engines.iter().map(engine).collect(),
        environment_key: environment.key(),
        environment,
        selftest: None,
    }
}

fn engine((name, found): &FoundEngine) -> EngineReport {
    let name = (*name).to_owned();
    match found {
        Ok(e) => EngineReport { name, version: Some(e.version.clone()), library: e.library.clone(), ..EngineReport::default() },
        Err(e) => EngineReport { name, reason: Some(e.to_string()), fix: e.hint_text().map(str::to_owned), ..EngineReport::default() },
    }
}

fn meter(probe: &Probe) -> MeterReport {
    let (facts, unavailable) = match &probe.outcome {
        Ok(meter) => {
            let info = meter.info();
            let named = |counted| info.domains.iter().filter(|d| d.counted == counted).map(|d| d.name.clone()).collect();
            let facts = MeterFacts {
                kind: info.kind,
                scope: info.scope,
                counted: named(true),
                beside: named(false),
                unit_j: info.unit,
                update_period_s: info.update_period,
                wraps_at_j: info.domains.iter().position(|d| d.counted).and_then(|i| meter.modulus(i)),
                systematic: info.systematic.clone(),
            };
            (Some(facts), None)
        }
        Err(why) => (None, Some(why.clone())),
    };
    MeterReport { name: probe.name.into(), available: facts.is_some(), facts, unavailable }
}

impl fmt::Display for DoctorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.meters.iter().find(|m| Some(&m.name) == self.meter.as_ref()).and_then(|m| m.facts.as_ref().map(|facts| (m, facts))) {
            Some((meter, facts)) => writeln!(f, "Energy here is {}: the meter `{}`.\n", said(facts.kind), meter.name)?,
            None => writeln!(f, "There is no meter here: energy cannot be told.\n")?,
        }
        writeln!(f, "Meters, best first")?;
        self.meters.iter().try_for_each(|m| m.fmt(f))?;

        writeln!(f, "\nEngines")?;
        for engine in &self.engines {
            engine.fmt(f)?;
        }

        writeln!(f, "\nMachine")?;
        machine(&self.environment).into_iter().try_for_each(|(what, value)| writeln!(f, "  {what:<9} {value}"))?;

        writeln!(f, "\nWhat disturbs measurements")?;
        for warning in &self.warnings {
            writeln!(f, "  {}\n    fix: {}", warning.cause, warning.remedy)?;
        }
        if self.warnings.is_empty() {
            writeln!(f, "  nothing was found")?;
        }
        self.selftest.as_ref().map_or(Ok(()), |test| selftest::show(test, f))
    }
}

fn said(kind: Kind) -> &'static str {
    match kind {
        Kind::Simulated => "read from a simulated counter",
        _ => kind.sentence(),
    }
}

impl fmt::Display for EngineReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(version) = &self.version {
            let library = self.library.as_ref().map_or_else(String::new, |file| format!(" ({})", file.display()));
            writeln!(f, "  {:<9} {version}{library}", self.name)?;
        }
        if let Some(reason) = &self.reason {
            writeln!(f, "  {:<9} not available: {reason}\n            fix: {}", self.name, self.fix.as_deref().unwrap_or("none is known"))?;
        }
        Ok(())
    }
}

impl fmt::Display for MeterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.unavailable {
            writeln!(f, "  {:<9} not available: {}\n            fix: {}", self.name, why.reason, why.fix)?;
        }
        let Some(facts) = &self.facts else { return Ok(()) };
        write!(f, "  {:<9} {}, scope {}: {}", self.name, facts.kind.sentence(), facts.scope, facts.counted.join(" + "))?;
        if !facts.beside.is_empty() {
            write!(f, " (beside: {})", facts.beside.join(", "))?;
        }
        let period = facts.update_period_s.map_or_else(String::new, |p| format!(", updated every {p}"));
        let wraps = facts.wraps_at_j.map_or_else(String::new, |j| format!(", starts again after {j}"));
        writeln!(f, "\n            steps of {}{period}{wraps}", facts.unit_j)?;
        let Systematic { low, high, source } = &facts.systematic;
        if low < high {
            writeln!(f, "            true value {low:.2} to {high:.2} times the reading: {source}")?;
        }
        Ok(())
    }
}

/// What people want to see of it, line by line.
fn machine(environment: &Environment) -> Vec<(&'static str, String)> {
    let (cpu, build) = (&environment.cpu, &environment.build);
    let mut frequency = String::new();
    if let Some(governor) = &cpu.governor {
        let _ = write!(frequency, "governor {governor}");
    }
    if let Some((low, high)) = cpu.frequency_limits_khz {
        let _ = write!(frequency, ", {:.1} to {:.1} GHz", low as f64 * 1e-6, high as f64 * 1e-6);
    }
    let number = |n: Option<u32>| n.map_or_else(|| "?".into(), |n| n.to_string());
    let yes_no = |value: Option<bool>| value.map_or("not known", |on| if on { "on" } else { "off" });
    let place = match (&environment.container, environment.virtual_machine) {
        (Some(runtime), true) => format!("virtual machine, {runtime} container"),
        (Some(runtime), false) => format!("{runtime} container"),
        (None, true) => "virtual machine".into(),
        (None, false) => "bare metal, as far as can be told".into(),
    };
    let memory = environment.memory.map_or_else(|| "not known".into(), |m| m.to_string());
    vec![
        (
            "cpu",
            format!("{} ({} logical cores, family {}, model {})", cpu.model_name, cpu.logical_cores, number(cpu.family), number(cpu.model)),
        ),
        ("features", cpu.features.join(" ")),
        ("frequency", if frequency.is_empty() { "no governor is visible".into() } else { frequency }),
        ("boost", format!("{}; SMT {}", yes_no(cpu.boost), yes_no(cpu.smt))),
        ("memory", memory),
        ("system", format!("{}, kernel {}; {place}", environment.os, environment.kernel)),
        (
            "build",
            format!(
                "joulefront {}, {} {}, opt-level {}, rustflags `{}`",
                environment.joulefront, build.target, build.profile, build.opt_level, build.rustflags
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use crate::cli::meters::Require;
    use crate::energy::simulate::Ticker;
    use crate::energy::{Estimator, Meter};
    use crate::measure::EngineVersion;
    use crate::sys::CpuInfo;
    use crate::units::Watts;
    use serde_json::Value;

    fn found() -> DoctorReport {
        let why = Unavailable { reason: "it is forbidden".into(), fix: "allow it".into() };
        let estimate: Box<dyn Meter> = Box::new(Estimator::for_cpu(&CpuInfo::default()));
        let probes = [Probe { name: "perf", outcome: Err(why) }, Probe { name: "estimate", outcome: Ok(estimate) }];
        let tract = EngineVersion { name: "tract".into(), version: "1.2.3".into(), library: None };
        let engines = [("tract", Ok(tract.clone())), ("ort", Err(Error::environment("it is not here").hint("install it")))];
        let mut environment = Environment::collect(vec![tract]);
        environment.build.opt_level = "0".into();
        report(&probes, &engines, environment)
    }

    #[test]
    fn people_see_every_meter_with_its_reason_and_fix() {
        let text = found().to_string();
        for part in [
            "Energy here is estimated from CPU time: the meter `estimate`.",
            "perf      not available: it is forbidden\n            fix: allow it\n",
            "estimate  estimated from CPU time, scope process_share: process",
            "  tract     1.2.3\n  ort       not available: it is not here\n            fix: install it\n",
            "optimisation level 0",
            "cargo build --release",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn the_json_is_one_object_with_plain_names() {
        let json = serde_json::to_value(found()).unwrap();
        assert_eq!(json["schema_version"], 1);
        assert_eq!(json["meter"], "estimate");
        assert_eq!(json["meters"][0]["available"], false);
        assert_eq!(json["meters"][0]["reason"], "it is forbidden");
        assert_eq!(json["meters"][0]["fix"], "allow it");
        assert_eq!(json["meters"][1]["kind"], "estimated");
        assert!(json["meters"][1]["systematic"]["high"].as_f64().unwrap() > 1.0);
        assert_eq!(json["warnings"][0]["warning"], "debug_build");
        assert_eq!((&json["engines"][0]["name"], &json["engines"][0]["version"]), (&"tract".into(), &"1.2.3".into()));
        assert_eq!((&json["engines"][1]["version"], &json["engines"][1]["fix"]), (&Value::Null, &"install it".into()));
        assert_eq!(json["environment_key"].as_str().unwrap().len(), 16);
    }

    #[test]
    fn a_simulated_tree_is_not_enough_where_measured_is_required() {
        let sim = Ticker::default().start(|t| Watts(10.0) * Seconds::from(t)).unwrap();
        let global = Global { quiet: true, sysfs_root: Some(sim.root().to_owned()), ..Global::default() };
        run(&Args::default(), &global, &[]).unwrap();
        let meter = MeterOptions { require: Some(Require::Measured), ..MeterOptions::default() };
        let error = run(&Args { meter, ..Args::default() }, &global, &[]).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Environment);
        assert!(error.to_string().contains("`powercap` is simulated"), "{error}");
    }
}
