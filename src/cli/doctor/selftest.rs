//! `joulefront doctor --selftest`.

use super::super::Global;
use super::super::progress::{Bar, on_ctrl_c};
use crate::energy::{Kind, Meter, Probe, SelfTest, SelfTestPlan, selftest};
use crate::units::Seconds;
use crate::{Error, ErrorKind, Result};
use std::fmt;
use std::sync::Arc;

/// Tests the meters that are available (of those that are named, if any) and gives them back.
pub(super) fn run(probes: &mut Vec<Probe>, names: &[String], window: Option<Seconds>, global: &Global) -> Result<SelfTest> {
    let cancel = on_ctrl_c()?;
    let default = SelfTestPlan::default();
    let plan = SelfTestPlan { window: window.unwrap_or(default.window), cancel: Arc::clone(cancel) };
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    let (mut meters, mut tested): (Vec<Box<dyn Meter>>, Vec<&'static str>) = Default::default();
    let mut rest = Vec::new();
    for probe in probes.drain(..) {
        match probe {
            Probe { name, outcome: Ok(meter) } if wanted(name) => {
                meters.push(meter);
                tested.push(name);
            }
            other => rest.push(other),
        }
    }
    let bar = Bar::new(global, 0, "loads");
    let outcome = selftest(&mut meters, &plan, &mut |step| bar.message(step.to_owned()));
    bar.clear();
    probes.extend(tested.into_iter().zip(meters).map(|(name, meter)| Probe { name, outcome: Ok(meter) }));
    probes.extend(rest);
    outcome
}

/// # Errors
/// Environment: there was no counter. Check failed: something does not hold.
pub(super) fn verdict(test: &SelfTest) -> Result<()> {
    if test.kind.is_none() {
        return Err(
            Error::environment("there is no counter to test here: energy is estimated").hint("see above what keeps each meter away")
        );
    }
    let failed: Vec<&str> = test.checks.iter().filter(|c| c.passed == Some(false)).map(|c| c.name.as_str()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let message = format!("{} of {} checks of the meters failed: {}", failed.len(), test.checks.len(), failed.join("; "));
    Err(Error::new(ErrorKind::CheckFailed, message)
        .hint("repeat it on the quiet machine; if it fails again, send the record (`--json`) in"))
}

/// For people.
pub(super) fn show(test: &SelfTest, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "\nSelf-test")?;
    let Some(kind) = test.kind else { return writeln!(f, "  there is no counter to test here") };
    if kind == Kind::Simulated {
        writeln!(f, "  of a simulated counter: it tests this program, not the machine")?;
    }
    for cost in &test.meters {
        let period = cost.update_period_s.map_or_else(|| "no fixed period".to_owned(), |p| format!("updated every {p}"));
        writeln!(f, "  {:<9} read in {} (99 %: {}), {period}", cost.meter, cost.read_s, cost.read_p99_s)?;
    }
    for load in &test.loads {
        let what = load.work.map_or_else(|| "idle".to_owned(), |work| format!("{} × {work:?}", load.cores).to_lowercase());
        let said = |e: &crate::energy::MeterEnergy| match (e.power_w, &e.invalid) {
            (Some(power), _) => format!("{} {power}", e.meter),
            (None, why) => format!("{} not known ({})", e.meter, why.as_deref().unwrap_or_default()),
        };
        writeln!(f, "  {what:<13} {}", load.energies.iter().map(said).collect::<Vec<_>>().join(", "))?;
    }
    for check in &test.checks {
        let sign = match check.passed {
            Some(true) => "✓",
            Some(false) => "✗",
            None => "?",
        };
        writeln!(f, "  {sign} {} ({})", check.name, check.detail)?;
    }
    Ok(())
}
