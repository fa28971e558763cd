//! Which meters this machine has, and the choice of one.

use super::kind::Kind;
use super::meter::Meter;
use super::tree::Tree;
use super::unavailable::Unavailable;
use super::{Estimator, Perf, Powercap};
use crate::sys::Host;
use crate::{Error, Result};
use std::path::PathBuf;

/// Where meters are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// A folder that stands for `/sys` (`--sysfs-root`, `JOULEFRONT_SYSFS_ROOT`); its counters are `simulated`.
    pub sysfs_root: Option<PathBuf>,
}

/// One meter that was looked for.
pub struct Probe {
    /// Its name: `perf`, `powercap`, `estimate`.
    pub name: &'static str,
    /// The open meter, or why there is none.
    pub outcome: Result<Box<dyn Meter>, Unavailable>,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").field("name", &self.name).field("outcome", &self.outcome.as_ref().map(|m| m.info())).finish()
    }
}

/// Looks for all meters, best first. Takes up to 0.1 s, spent on watching the counters tick.
pub fn probe(sources: &Sources) -> Vec<Probe> {
    let host = Host::default();
    let perf = match &sources.sysfs_root {
        // perf counts in the kernel and not in files: with another tree asked for, its figures would be of another machine.
        Some(_) => Err(Unavailable::new("a given sysfs tree holds no perf counters", "leave `--sysfs-root` away")),
        None => Perf::open(&host).map(boxed),
    };
    let tree = sources.sysfs_root.as_ref().map_or_else(Tree::system, Tree::at);
    let estimate = Estimator::open().map(boxed).map_err(|e| Unavailable::new(e.to_string(), e.hint_text().unwrap_or_default()));
    vec![
        Probe { name: "perf", outcome: perf },
        Probe { name: "powercap", outcome: Powercap::open(&tree, &host).map(boxed) },
        Probe { name: "estimate", outcome: estimate },
    ]
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
    if let Some(unknown) = wanted.iter().find(|w| !known.contains(&w.as_str())) {
        return Err(Error::bad_input(format!("there is no meter `{unknown}`")).hint(format!("meters: {}", known.join(", "))));
    }
    let rank = |p: &Probe| if wanted.is_empty() { Some(0) } else { wanted.iter().position(|w| w == p.name) };
    let mut candidates: Vec<(usize, Probe)> = probes.into_iter().filter_map(|p| rank(&p).map(|r| (r, p))).collect();
    candidates.sort_by_key(|(rank, _)| *rank);

    let (mut reasons, mut fixes) = (Vec::new(), Vec::new());
    for (_, Probe { name, outcome }) in candidates {
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
        let sources = Sources { sysfs_root: Some(sim.root().to_owned()) };
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
