//! Which meters this machine has, and the choice of one.

use super::kind::Kind;
use super::meter::Meter;
use super::tree::Tree;
use super::unavailable::Unavailable;
use super::{Battery, Estimator, External, Hwmon, Perf, PowerProfile, Powercap, SideBySide};
use crate::sys::Host;
use crate::{Error, Result};
use std::path::PathBuf;

/// Where meters are looked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sources {
    /// A folder that stands for `/sys` (`--sysfs-root`, `JOULEFRONT_SYSFS_ROOT`); its counters are `simulated`.
    pub sysfs_root: Option<PathBuf>,
    /// Rails of the board that are counted (`--meter hwmon:LABEL`); none: the input of the board, where it is known.
    pub rails: Vec<String>,
    /// The command, FIFO, device or file of an [`External`] meter (`--meter external:SPEC`).
    pub external: Option<String>,
    /// What the estimator knows of the CPU (`--power-profile`); none: the table of CPU families.
    pub profile: Option<PowerProfile>,
}

/// One meter that was looked for.
pub struct Probe {
    /// Its name: one of [`METERS`].
    pub name: &'static str,
    /// The open meter, or why there is none.
    pub outcome: Result<Box<dyn Meter>, Unavailable>,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").field("name", &self.name).field("outcome", &self.outcome.as_ref().map(|m| m.info())).finish()
    }
}

/// All meters, best first. A battery needs windows of minutes and an external meter has to be named, so neither is ever taken
/// while the estimator will do.
pub const METERS: [&str; 6] = ["perf", "powercap", "hwmon", "estimate", "battery", "external"];

/// Looks for all meters, best first. Takes some tenths of a second, spent on watching counters tick, and as long as an external
/// meter needs for its first readings.
pub fn probe(sources: &Sources) -> Vec<Probe> {
    METERS.iter().map(|name| look(name, sources)).collect()
}

fn look(name: &'static str, sources: &Sources) -> Probe {
    let host = Host::default();
    let tree = sources.sysfs_root.as_ref().map_or_else(Tree::system, Tree::at);
    let outcome = match name {
        // perf counts in the kernel and not in files: with another tree asked for, its figures would be of another machine.
        "perf" if tree.is_given() => Err(Unavailable::new("a given sysfs tree holds no perf counters", "leave `--sysfs-root` away")),
        "perf" => Perf::open(&host).map(boxed),
        "powercap" => Powercap::open(&tree, &host).map(boxed),
        "hwmon" => Hwmon::open(&tree, &sources.rails).map(boxed),
        "battery" => Battery::open(&tree).map(boxed),
        "external" => match &sources.external {
            Some(spec) => External::open(spec, tree.is_given()).map(boxed),
            None => Err(Unavailable::new("none is named", "`--meter external:COMMAND`, or the path of a FIFO, a device or a file")),
        },
        _ => {
            let estimator = match &sources.profile {
                Some(profile) => Estimator::with_profile(profile),
                None => Estimator::open(),
            };
            estimator.map(boxed).map_err(|e| Unavailable::new(e.to_string(), e.hint_text().unwrap_or_default()))
        }
    };
    Probe { name, outcome }
}

/// Opens the meter to measure with, as [`choose`] would, but looks only for those that are needed. Where both perf and powercap
/// can be read, the one that is taken is [compared](SideBySide) with the other over every window.
///
/// # Errors
/// As [`choose`].
pub fn open(sources: &Sources, wanted: &[String], require_measured: bool) -> Result<Box<dyn Meter>> {
    check_names(wanted, &METERS)?;
    let meter = first_fit(METERS.map(|name| (name, name)), wanted, require_measured, |name| look(name, sources))?;
    let other = match meter.info().name.as_str() {
        "perf" => "powercap",
        "powercap" => "perf",
        _ => return Ok(meter),
    };
    match look(other, sources).outcome {
        Ok(other) if other.info().kind == meter.info().kind => Ok(boxed(SideBySide::new(meter, other))),
        _ => Ok(meter),
    }
}

fn boxed<M: Meter + 'static>(meter: M) -> Box<dyn Meter> {
    Box::new(meter)
}

/// Takes the meter to measure with: the first of `wanted` that is available or, if none is named, the best one there is (a
/// given tree's before the estimator). With `require_measured` only a meter of kind [`Kind::Measured`] will do.
///
/// # Errors
/// Bad input: an unknown name. Environment: none that is available fits; the reasons are in the message and the hint.
pub fn choose(probes: Vec<Probe>, wanted: &[String], require_measured: bool) -> Result<Box<dyn Meter>> {
    let known: Vec<&str> = probes.iter().map(|p| p.name).collect();
    check_names(wanted, &known)?;
    first_fit(probes.into_iter().map(|p| (p.name, p)), wanted, require_measured, |probe| probe)
}

fn check_names(wanted: &[String], known: &[&str]) -> Result<()> {
    match wanted.iter().find(|w| !known.contains(&w.as_str())) {
        Some(unknown) => Err(Error::bad_input(format!("there is no meter `{unknown}`")).hint(format!("meters: {}", known.join(", ")))),
        None => Ok(()),
    }
}

/// The first candidate in the order of `wanted` that can be used; each is looked at only when it is its turn.
fn first_fit<C>(
    candidates: impl IntoIterator<Item = (&'static str, C)>,
    wanted: &[String],
    require_measured: bool,
    mut look: impl FnMut(C) -> Probe,
) -> Result<Box<dyn Meter>> {
    let rank = |name: &str| if wanted.is_empty() { Some(0) } else { wanted.iter().position(|w| w == name) };
    let mut candidates: Vec<(usize, C)> = candidates.into_iter().filter_map(|(name, c)| rank(name).map(|r| (r, c))).collect();
    candidates.sort_by_key(|(rank, _)| *rank);

    let (mut reasons, mut fixes) = (Vec::new(), Vec::new());
    for (_, candidate) in candidates {
        let Probe { name, outcome } = look(candidate);
        match outcome {
            Ok(meter) if !require_measured || meter.info().kind == Kind::Measured => return Ok(meter),
            Ok(meter) => reasons.push(format!("`{name}` is {}", meter.info().kind)),
            Err(why) => {
                reasons.push(format!("`{name}`: {}", why.reason));
                if !fixes.contains(&why.fix) {
                    fixes.push(why.fix);
                }
            }
        }
    }
    let what = if require_measured { "there is no meter that measures here" } else { "no meter is available" };
    let error = Error::environment(format!("{what}: {}", reasons.join("; ")));
    Err(error.hint(if fixes.is_empty() { "leave `--meter` away to take the best meter there is".into() } else { fixes.join("; or ") }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use crate::ErrorKind;
    use crate::energy::simulate::Ticker;
    use crate::sys::CpuInfo;
    use crate::units::{Seconds, Watts};

    fn absent(name: &'static str, why: &str) -> Probe {
        Probe { name, outcome: Err(Unavailable::new(why, format!("mend {why}"))) }
    }

    fn estimate() -> Probe {
        Probe { name: "estimate", outcome: Ok(boxed(Estimator::for_cpu(&CpuInfo::default()))) }
    }

    fn wanted(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn a_given_tree_comes_before_the_estimator_and_is_simulated() {
        let sim = Ticker::default().start(|t| Watts(20.0) * Seconds::from(t)).unwrap();
        let sources = Sources { sysfs_root: Some(sim.root().to_owned()), ..Sources::default() };
        let meter = choose(probe(&sources), &[], false).unwrap();
        assert_eq!((meter.info().name.as_str(), meter.info().kind), ("powercap", Kind::Simulated));
        let error = choose(probe(&sources), &[], true).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Environment);
        assert!(error.to_string().contains("`powercap` is simulated") && error.to_string().contains("`estimate` is estimated"), "{error}");
    }

    #[test]
    fn the_first_wanted_that_is_available() {
        let probes = || vec![absent("perf", "paranoid"), absent("powercap", "denied"), estimate()];
        for (names, expect) in [(&["estimate"][..], "estimate"), (&["perf", "estimate"], "estimate"), (&[], "estimate")] {
            assert_eq!(choose(probes(), &wanted(names), false).unwrap().info().name, expect, "{names:?}");
        }
        let error = choose(probes(), &wanted(&["powercap", "perf"]), false).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Environment);
        assert!(error.to_string().contains("`powercap`: denied; `perf`: paranoid"), "{error}");
        assert!(error.hint_text().unwrap().contains("mend denied"));
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = choose(vec![absent("perf", "x"), estimate()], &wanted(&["rapl"]), false).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert_eq!(error.hint_text(), Some("meters: perf, estimate"));
    }

    #[test]
    fn every_meter_says_what_it_is_or_why_not() {
        for Probe { name, outcome } in probe(&Sources::default()) {
            match outcome {
                Ok(meter) => assert_eq!(meter.info().name, name),
                Err(why) => assert!(!why.reason.is_empty() && !why.fix.is_empty(), "{name}"),
            }
        }
    }
}
