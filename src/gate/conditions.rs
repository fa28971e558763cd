//! What must be alike for two runs to be compared, and what makes two runs runs of the same thing.

use super::run::{Case, Run};
use crate::measure::Environment;
use serde::Serialize;
use std::fmt;

/// A condition in which two runs differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What.
    pub what: &'static str,
    /// In the baseline.
    pub baseline: String,
    /// In the run.
    pub now: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (baseline: {}, this run: {})", self.what, self.baseline, self.now)
    }
}

/// Everything that must be alike for a case of two runs to be compared, with its name: the class of machine, how the program was
/// built, how inferences follow each other and on what, and how energy was measured. (Model file, engine, threads and batch are
/// the case's key.)
pub fn conditions(run: &Run, case: &Case) -> Vec<(&'static str, String)> {
    let mut all = machine(&run.environment);
    let build = &run.environment.build;
    all.extend([
        ("build target", build.target.clone()),
        ("build profile", format!("{}, opt-level {}", build.profile, build.opt_level)),
        ("build flags", or_none(&build.rustflags)),
        ("compiled for", or_none(&build.target_features.join(","))),
        ("load regime", case.measurement.load.to_string()),
        ("length of a window", run.window.to_string()),
        ("inputs", run.inputs.clone()),
    ]);
    // A run whose energy could not be read at all is compared in everything else.
    if let Some(e) = &case.measurement.energy {
        all.extend([
            ("kind of energy", e.kind.name().to_owned()),
            ("meter", e.meter.clone()),
            ("scope of energy", e.scope.name().to_owned()),
            // Another profile of the CPU, or another rail, is another meter.
            ("calibration of the meter", format!("{:.3}–{:.3}, {}", e.systematic.low, e.systematic.high, e.systematic.source)),
        ]);
    }
    all.extend(case.accuracy.iter().map(|a| ("samples of the accuracy", a.split.clone())));
    all
}

/// The class of machine: what does not change between two machines of one type that are set up alike.
fn machine(e: &Environment) -> Vec<(&'static str, String)> {
    let c = &e.cpu;
    let yes = |b: Option<bool>| b.map_or("unknown", |b| if b { "on" } else { "off" }).to_owned();
    let limits = c.frequency_limits_khz.map_or_else(|| "unknown".to_owned(), |(lo, hi)| format!("{lo}–{hi} kHz"));
    vec![
        ("CPU", format!("{} (family {:?}, model {:?})", c.model_name, c.family.unwrap_or(0), c.model.unwrap_or(0))),
        ("number of CPUs", c.logical_cores.to_string()),
        ("CPU features", or_none(&c.features.join(","))),
        ("SMT", yes(c.smt)),
        ("boost", yes(c.boost)),
        ("frequency driver", c.frequency_driver.clone().unwrap_or_else(|| "unknown".into())),
        ("governor", c.governor.clone().unwrap_or_else(|| "unknown".into())),
        ("frequency limits", limits),
        ("power limit", c.power_limit.map_or_else(|| "unknown".to_owned(), |w| w.to_string())),
        // Kernels keep a little of it to themselves, not always the same.
        ("memory", e.memory.map_or_else(|| "unknown".to_owned(), |m| format!("{:.0} GiB", m.0 as f64 / f64::from(1 << 30)))),
        ("virtual machine", if e.virtual_machine { "yes" } else { "no" }.to_owned()),
        ("container", e.container.clone().unwrap_or_else(|| "none".into())),
    ]
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "none".to_owned() } else { text.to_owned() }
}

/// In what a case of two runs differs so that it cannot be compared. What only one of them knows (an energy, an accuracy) is no
/// difference.
pub fn differences(baseline: (&Run, &Case), now: (&Run, &Case)) -> Vec<Difference> {
    let old = conditions(baseline.0, baseline.1);
    let differs = |(what, now): (&'static str, String)| {
        let (_, baseline) = old.iter().find(|(name, _)| *name == what)?;
        (*baseline != now).then(|| Difference { what, baseline: baseline.clone(), now })
    };
    conditions(now.0, now.1).into_iter().filter_map(differs).collect()
}

/// What was measured, exactly: runs of one state differ by noise alone, and teach how large that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    model_sha256: String,
    engine_version: String,
    joulefront: String,
    system: (String, String),
}

impl State {
    /// Of a case of a run.
    pub fn of(run: &Run, case: &Case) -> State {
        State {
            model_sha256: case.model_sha256.clone(),
            engine_version: case.engine_version.clone(),
            joulefront: run.environment.joulefront.clone(),
            system: (run.environment.os.clone(), run.environment.kernel.clone()),
        }
    }

    /// What changed from `before`, for people.
    pub fn changes(&self, before: &State) -> Vec<&'static str> {
        let changed = [
            (self.model_sha256 != before.model_sha256, "the model"),
            (self.engine_version != before.engine_version, "the engine"),
            (self.joulefront != before.joulefront, "joulefront"),
            (self.system != before.system, "the system"),
        ];
        changed.into_iter().filter_map(|(changed, what)| changed.then_some(what)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::run;
    use super::*;
    use crate::energy::{Kind, Scope};
    use crate::measure::Load;
    use crate::units::Seconds;

    fn check(what: &str, change: impl Fn(&mut Run)) {
        let (baseline, mut now) = (run(0, 1.0), run(1, 1.0));
        change(&mut now);
        let found = differences((&baseline, &baseline.cases[0]), (&now, &now.cases[0]));
        assert_eq!(found.iter().map(|d| d.what).collect::<Vec<_>>(), if what.is_empty() { vec![] } else { vec![what] });
    }

    #[test]
    fn everything_that_forbids_a_comparison_is_named() {
        fn energy(run: &mut Run) -> Option<&mut crate::measure::Energy> {
            run.cases[0].measurement.energy.as_mut()
        }
        check("", |_| ());
        check("kind of energy", |r| energy(r).into_iter().for_each(|e| e.kind = Kind::Estimated));
        check("scope of energy", |r| energy(r).into_iter().for_each(|e| e.scope = Scope::Wall));
        check("meter", |r| energy(r).into_iter().for_each(|e| e.meter = "perf".into()));
        check("load regime", |r| r.cases[0].measurement.load = Load::Open { rate: 5.0 });
        check("CPU", |r| r.environment.cpu.model_name = "another".into());
        check("number of CPUs", |r| r.environment.cpu.logical_cores += 1);
        check("governor", |r| r.environment.cpu.governor = Some("powersave".into()));
        check("build flags", |r| r.environment.build.rustflags = "-C target-cpu=native".into());
        check("length of a window", |r| r.window = Seconds(2.0));
        check("inputs", |r| r.inputs = "others".into());
        // A new version of something is what is to be judged.
        check("", |r| r.cases[0].model_sha256 = "other".into());
        check("", |r| r.environment.kernel = "7.0".into());
        check("", |r| r.cases[0].measurement.energy = None);
    }

    #[test]
    fn states_say_what_changed() {
        let (old, mut new) = (run(0, 1.0), run(1, 1.0));
        assert_eq!(State::of(&old, &old.cases[0]), State::of(&new, &new.cases[0]));
        new.cases[0].model_sha256 = "x".into();
        new.environment.kernel = "y".into();
        assert_eq!(State::of(&new, &new.cases[0]).changes(&State::of(&old, &old.cases[0])), ["the model", "the system"]);
    }
}
