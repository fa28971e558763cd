//! The choice of a meter, alike in all subcommands that measure.

use super::{Global, say};
use crate::energy::{Meter, PowerProfile, Sources, open};
use crate::report::quote;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Options that choose the meter.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct MeterOptions {
    /// Meters in order of preference: perf, powercap, hwmon, estimate, battery; hwmon:LABEL for a rail of the board, external:SPEC for
    /// a command, FIFO, device or file that gives `TIME VALUE UNIT` lines (it takes the rest of the option) [default: the best there is]
    #[arg(long, value_name = "M")]
    pub(super) meter: Vec<String>,
    /// Refuse anything but measured energy
    #[arg(long, value_enum, value_name = "KIND")]
    pub(super) require: Option<Require>,
    /// What `calibrate` found of a CPU like this one, for the estimator
    #[arg(long, value_name = "FILE")]
    pub(super) power_profile: Option<PathBuf>,
}

/// What can be required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Require {
    /// A meter that measures: the kernel's own counters, or a device
    Measured,
}

/// `perf,hwmon:A+B,external:ssh lab read,meter`: names, rails and the external meter, which may have commas.
fn split(options: &[String]) -> Result<(Vec<String>, Sources)> {
    let (mut names, mut sources) = (Vec::new(), Sources::default());
    for option in options {
        let mut rest = option.as_str();
        while !rest.is_empty() {
            if let Some(spec) = rest.strip_prefix("external:") {
                if sources.external.replace(spec.to_owned()).is_some() {
                    return Err(Error::bad_input("`--meter` names two external meters")
                        .hint("name one; others can be compared in runs of their own"));
                }
                names.push("external".into());
                break;
            }
            let (name, after) = rest.split_once(',').unwrap_or((rest, ""));
            match name.split_once(':') {
                Some(("hwmon", rails)) => {
                    sources.rails.extend(rails.split('+').filter(|r| !r.is_empty()).map(str::to_owned));
                    names.push("hwmon".into());
                }
                _ => names.push(name.to_owned()),
            }
            rest = after;
        }
    }
    Ok((names, sources))
}

impl MeterOptions {
    /// The meters that are named, and where all are looked for.
    pub(super) fn sources(&self, global: &Global) -> Result<(Vec<String>, Sources)> {
        let (names, sources) = split(&self.meter)?;
        let profile = self.power_profile.as_deref().map(PowerProfile::load).transpose()?;
        Ok((names, Sources { sysfs_root: global.sysfs_root.clone(), profile, ..sources }))
    }

    /// Opens the meter.
    pub(super) fn open(&self, global: &Global) -> Result<Box<dyn Meter>> {
        let (names, sources) = self.sources(global)?;
        let meter = open(&sources, &names, self.require.is_some())?;
        if self.power_profile.is_some() && !meter.info().name.starts_with("estimate") && !global.quiet {
            say(&format!("warning: `--power-profile` is for the estimator, and the meter is `{}`; leave it away", meter.info().name));
        }
        Ok(meter)
    }

    /// The same options as text, each with a leading space.
    pub(super) fn options(&self) -> String {
        let mut text: String = self.meter.iter().map(|m| format!(" --meter {}", quote(m))).collect();
        if self.require.is_some() {
            text += " --require measured";
        }
        if let Some(path) = &self.power_profile {
            text += &format!(" --power-profile {}", quote(&path.display().to_string()));
        }
        text
    }
}

/// What a meter is and what it noticed while it was in use, for programs.
pub(super) fn described(meter: &dyn Meter) -> Value {
    let info = meter.info();
    json!({
        "name": info.name,
        "kind": info.kind,
        "scope": info.scope,
        "domains": info.domains.iter().map(|d| json!({ "name": d.name, "counted": d.counted })).collect::<Vec<_>>(),
        "unit_j": info.unit,
        "update_period_s": info.update_period,
        "systematic": info.systematic,
        "warnings": meter.warnings(),
    })
}

/// Says what the meter noticed while it was in use.
pub(super) fn remark(meter: &dyn Meter, global: &Global) {
    if !global.quiet {
        meter.warnings().iter().for_each(|w| say(&format!("warning: {w}")));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn names_rails_and_commands_with_commas() {
        let parse = |options: &[&str]| split(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>());
        let (names, sources) = parse(&["perf,hwmon:VDD_CPU+ina3221/VDD_SOC", "external:echo a,b"]).unwrap();
        assert_eq!(names, ["perf", "hwmon", "external"]);
        assert_eq!(sources.rails, ["VDD_CPU", "ina3221/VDD_SOC"]);
        assert_eq!(sources.external.as_deref(), Some("echo a,b"));
        assert_eq!(parse(&["powercap,estimate"]).unwrap().0, ["powercap", "estimate"]);
        assert_eq!(parse(&[]).unwrap(), (Vec::new(), Sources::default()));
        assert!(parse(&["external:a", "external:b"]).is_err());
        let options = MeterOptions { meter: vec!["external:a b".into()], power_profile: Some("p.toml".into()), ..MeterOptions::default() };
        assert_eq!(options.options(), " --meter 'external:a b' --power-profile p.toml");
    }
}
