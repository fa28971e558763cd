//! Runs what a profile is made of: processes with clocks, then the protocol on the whole and, to check, on layers alone.

use super::account::{Basis, Check, Energy, Profile, Row, Whole};
use super::empty::empty;
use super::extracted::extracted;
use super::times::Times;
use crate::energy::Meter;
use crate::engine::{Profiled, by_name};
use crate::measure::{self, Machine, Measurement, Phase, Progress, Subject, measure, rotation, warm_up};
use crate::model::{Dims, Facts, Graph, Layer, layers};
use crate::onnx::Model;
use crate::runner::{Clocked, Program, Ran, Runner, find};
use crate::stats::Interval;
use crate::sys::peak::Peak;
use crate::units::Seconds;
use crate::{Error, ErrorKind, Result};

/// A model to be profiled.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// How it is run.
    pub subject: &'a Subject,
    /// The same file, parsed.
    pub model: &'a Model,
    /// Numbers for its open dimensions, the batch among them.
    pub dims: &'a Dims,
}

/// How a profile is made.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Processes, windows, seed: as for a measurement of the whole.
    pub measure: measure::Plan,
    /// Also measure, alone, each layer that takes more than 5 % of the whole.
    pub verify: bool,
}

impl Target<'_> {
    /// Names of the inputs that are fed.
    pub(super) fn inputs(&self) -> Vec<&str> {
        Graph::new(self.model).inputs().map(|i| i.name()).collect()
    }
}

/// What was read from a model's graph.
struct Read<'m> {
    graph: Graph<'m>,
    facts: Facts,
    layers: Vec<Layer>,
}

impl<'m> Read<'m> {
    fn new(target: &Target<'m>) -> Result<Self> {
        let graph = Graph::new(target.model);
        let facts = Facts::infer_with(target.model, target.dims)?;
        let layers = layers(&graph, &facts)?;
        Ok(Read { graph, facts, layers })
    }

    fn basis(&self) -> Basis<'_, 'm> {
        Basis { graph: &self.graph, facts: &self.facts, layers: &self.layers }
    }
}

/// Profiles `targets` side by side: their processes and windows are interleaved, so that ratios between them are of the same time.
///
/// # Errors
/// A model is refused, the engine does not tell what its nodes take, the plan makes no sense, or [`measure::Plan::cancel`] was set.
pub fn profile(
    program: &Program,
    targets: &[Target<'_>],
    meter: &mut dyn Meter,
    plan: &Plan,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Result<Vec<Profile>> {
    let read = targets.iter().map(Read::new).collect::<Result<Vec<_>>>()?;
    let timed = clocked(program, targets, &read, &plan.measure, progress)?;
    let mut profiles = Vec::with_capacity(targets.len());
    for ((target, read), (times, peak)) in targets.iter().zip(&read).zip(&timed) {
        let Subject { label, engine, options, .. } = target.subject;
        profiles.push(Profile {
            model: label.clone(),
            engine: engine.clone(),
            engine_version: find(program, by_name(engine)?)?.version,
            threads: options.threads,
            batch: options.batch,
            whole: Whole::of(times)?,
            energy: None,
            peak: *peak,
            rows: read.basis().rows(times, peak)?,
            warnings: held_up(times, plan),
        });
    }
    measured(program, targets, &read, &mut profiles, (meter, plan), progress)?;
    Ok(profiles)
}

/// Fresh processes of each target in turn, each with windows without and with clocks: plain, instrumented, instrumented, plain, so
/// that a linear drift falls on both alike.
fn clocked(
    program: &Program,
    targets: &[Target<'_>],
    read: &[Read<'_>],
    plan: &measure::Plan,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Result<Vec<(Times, Peak)>> {
    let folder = tempfile::tempdir().map_err(|e| Error::write(std::env::temp_dir(), e))?;
    let mut subjects: Vec<Subject> = targets.iter().map(|t| t.subject.clone()).collect();
    for target in targets {
        subjects.push(empty(target.subject, folder.path())?);
    }
    let machine = Machine::new(program, &subjects, plan);
    let mut found: Vec<(Times, Option<Peak>)> = targets.iter().map(|_| (Times::default(), None)).collect();
    let total = (plan.processes * targets.len()) as u64;
    for round in 0..plan.processes {
        for (index, subject) in subjects[..targets.len()].iter().enumerate() {
            if plan.cancel.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted while profiling"));
            }
            let done = (round * targets.len() + index) as u64;
            let elapsed = Seconds::from(machine.elapsed());
            progress(&Progress { phase: Phase::Window, subject: &subject.label, done, total, elapsed });
            let mut runner = machine.runner(index, usize::MAX)?;
            let runs = warm_up(&mut runner)?.runs(plan.window);
            let (times, peak) = &mut found[index];
            // Once without counting: the first run with clocks builds what it needs.
            runner.profile(1)?;
            let mut windows = Windows { runner: &mut runner, runs, plan, threads: subject.options.threads, held_up: 0 };
            let (mut plain, mut clocked, mut counted) = (Seconds(0.0), Profiled::default(), 0);
            for block in 0..plan.blocks.max(1) {
                for with_clocks in [block % 2 == 1, block % 2 == 0] {
                    if with_clocks {
                        let window = windows.undisturbed(&mut |runner, runs| runner.profile(runs), &|w: &Clocked| w.took)?;
                        clocked.add(window.profiled);
                        counted += window.runs;
                    } else {
                        plain += windows.undisturbed(&mut |runner, runs| runner.run(runs), &|ran: &Ran| *ran)?.wall;
                    }
                }
            }
            times.held_up += windows.held_up;
            times.add((runs * plan.blocks.max(1) as u64, plain), nothing(&machine, targets.len() + index, plan)?, clocked, counted);
            let now = runner.peak(subject.options.threads, read[index].basis().working_set())?;
            // What disturbs makes it slower: the best of all processes.
            let best = peak.get_or_insert(now);
            (best.flops, best.bytes_per_s) = (best.flops.max(now.flops), best.bytes_per_s.max(now.bytes_per_s));
        }
    }
    found.into_iter().map(|(times, peak)| Ok((times, peak.ok_or_else(|| Error::bad_input("nothing was profiled"))?))).collect()
}

/// Runs of next to nothing in a process of their own, and what they took.
fn nothing(machine: &Machine<'_>, subject: usize, plan: &measure::Plan) -> Result<(u64, Seconds)> {
    let mut runner = machine.runner(subject, usize::MAX)?;
    let runs = warm_up(&mut runner)?.runs(plan.window);
    let mut windows = Windows { runner: &mut runner, runs, plan, threads: 1, held_up: 0 };
    Ok((runs, windows.undisturbed(&mut |runner, runs| runner.run(runs), &|ran: &Ran| *ran)?.wall))
}

/// What to say where others held the model up.
fn held_up(times: &Times, plan: &Plan) -> Vec<String> {
    let of = 2 * times.processes.len() * plan.measure.blocks.max(1);
    match times.held_up {
        0 => Vec::new(),
        n => vec![format!(
            "others held the model's core in {n} of {of} windows with and without clocks, so times are too long; stop what runs beside it"
        )],
    }
}

/// Windows of one process.
struct Windows<'a> {
    runner: &'a mut Runner,
    runs: u64,
    plan: &'a measure::Plan,
    threads: usize,
    /// Windows that count although the process waited for its core.
    held_up: u64,
}

impl Windows<'_> {
    /// A window in which the process did not wait for its core: a wait falls on whichever node is running, and looks like its time.
    /// Tries as often as the plan allows; the last counts anyhow. (What several threads wait for cannot be told from their CPU time.)
    fn undisturbed<T>(&mut self, window: &mut dyn FnMut(&mut Runner, u64) -> Result<T>, took: &dyn Fn(&T) -> Ran) -> Result<T> {
        let mut tried = 0;
        loop {
            let made = window(self.runner, self.runs)?;
            let Ran { wall, cpu } = took(&made);
            let held_up = self.threads == 1 && wall.0 - cpu.0 > self.plan.disturbance * wall.0;
            if !held_up || tried >= self.plan.retries {
                self.held_up += u64::from(held_up);
                return Ok(made);
            }
            tried += 1;
        }
    }
}

/// The protocol on the wholes and, where asked, on their layers; fills in the profiles.
fn measured(
    program: &Program,
    targets: &[Target<'_>],
    read: &[Read<'_>],
    profiles: &mut [Profile],
    (meter, plan): (&mut dyn Meter, &Plan),
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|e| Error::write(std::env::temp_dir(), e))?;
    let mut subjects: Vec<Subject> = targets.iter().map(|t| t.subject.clone()).collect();
    // For each layer that is measured alone: which profile, which row. Before those of a profile, a run of nothing.
    let mut places: Vec<(usize, Option<usize>)> = Vec::new();
    for (number, (target, read)) in targets.iter().zip(read).enumerate().filter(|_| plan.verify) {
        let own = folder.path().join(number.to_string());
        std::fs::create_dir(&own).map_err(|e| Error::write(&own, e))?;
        let specs = Machine::new(program, &subjects, &plan.measure).runner(number, 1)?.inputs().to_vec();
        let runs = rotation(&target.subject.samples, &specs)?;
        let (parts, refused) = extracted(target, &read.facts, &profiles[number].rows, &runs, &own)?;
        profiles[number].warnings.extend(refused);
        places.push((number, None));
        subjects.push(empty(target.subject, &own)?);
        places.extend(parts.iter().map(|p| (number, Some(p.row))));
        subjects.extend(parts.into_iter().map(|p| p.subject));
    }
    let mut results = measure(program, &subjects, meter, &plan.measure, progress)?.into_iter();
    for (profile, result) in profiles.iter_mut().zip(results.by_ref()) {
        let whole = result?;
        profile.energy = whole.energy.as_ref().map(|e| Energy::of_run(e, profile.batch));
        profile.warnings.extend(whole.warnings);
        profile.apportion();
    }
    let mut nothing = Err(Error::environment("a run of nothing was not measured"));
    for ((number, row), result) in places.into_iter().zip(results) {
        let Some(row) = row else {
            nothing = energy(result, 1);
            continue;
        };
        let batch = profiles[number].batch;
        match alone(energy(result, batch), &profiles[number].rows[row], &nothing) {
            Ok(check) => profiles[number].rows[row].check = Some(check),
            Err(e) => {
                let line = format!("`{}` is not checked: {e}", profiles[number].rows[row].name);
                profiles[number].warnings.push(line);
            }
        }
    }
    Ok(())
}

/// Joules of a run.
fn energy(result: Result<Measurement>, batch: usize) -> Result<Interval> {
    let energy = result?.energy.ok_or_else(|| Error::environment("no window of it was valid"))?;
    Ok(Energy::of_run(&energy, batch).run)
}

fn alone(layer: Result<Interval>, row: &Row, nothing: &Result<Interval>) -> Result<Check> {
    let nothing = nothing.as_ref().map_err(|e| Error::environment(format!("a run of nothing is not known: {e}")))?;
    let apportioned = row.energy.ok_or_else(|| Error::environment("the whole has no energy"))?;
    let layer = layer?;
    if layer.value <= nothing.value {
        return Err(Error::environment("alone it takes no more than a run of nothing"));
    }
    Ok(Check::new(apportioned, layer, *nothing))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::energy::Kind;
    use crate::measure::simulation::{Machine as Virtual, Truth, simulate};
    use crate::profile::Cost;
    use crate::units::Joules;

    fn exactly(value: f64) -> Interval {
        Interval { value, lo: value, hi: value }
    }

    fn row(name: &str, share: f64) -> Row {
        Row {
            name: name.into(),
            operators: vec![],
            is_layer: true,
            nodes: vec![0],
            engine_nodes: vec![name.into()],
            time: Some(exactly(share * 1e-3)),
            share: Some(exactly(share)),
            cost: Cost::default(),
            place: None,
            energy: None,
            check: None,
        }
    }

    #[test]
    fn a_layer_that_takes_no_more_than_a_run_of_nothing_is_not_checked() {
        let row = Row { energy: Some(exactly(1e-3)), ..row("layer", 0.1) };
        let check = |layer: f64| alone(Ok(exactly(layer)), &row, &Ok(exactly(1e-4)));
        assert!(check(9e-5).unwrap_err().to_string().contains("no more than a run of nothing"));
        assert!(check(1.1e-3).is_ok());
    }

    /// A whole of 1 ms and layers that take 60, 30 and 8 % of it, on a counter as computers have it; `watts` above idle.
    fn checked(watts: [f64; 3]) -> Profile {
        const SHARES: [f64; 3] = [0.6, 0.3, 0.08];
        let layers = SHARES.iter().zip(watts).map(|(share, watts)| Truth::new(Seconds(share * 1e-3), Joules(watts * share * 1e-3)));
        let layers: Vec<Truth> = layers.collect();
        let sum: f64 = layers.iter().map(|l| l.energy.0).sum();
        let whole = Truth::new(Seconds(1e-3), Joules(sum));
        let machine = Virtual::rapl([vec![whole], layers].concat());
        let mut results = simulate(&machine, &measure::Plan::default()).unwrap().results.into_iter();
        let measured = results.next().unwrap().unwrap();
        let time = exactly(1e-3);
        let mut profile = Profile {
            model: "net".into(),
            engine: "none".into(),
            engine_version: String::new(),
            threads: 1,
            batch: 1,
            whole: Whole {
                plain: time,
                instrumented: time,
                overhead: exactly(1.0),
                empty: exactly(0.0),
                clock: exactly(0.0),
                processes: 5,
                runs: 1,
            },
            energy: measured.energy.as_ref().map(|e| Energy::of_run(e, 1)),
            peak: Peak { flops: 1.0, bytes_per_s: 1.0, working_set: 1, threads: 1 },
            rows: ["a", "b", "c"].iter().zip(SHARES).map(|(name, share)| row(name, share)).collect(),
            warnings: vec![],
        };
        profile.apportion();
        for (i, result) in results.enumerate() {
            profile.rows[i].check = Some(alone(energy(result, 1), &profile.rows[i], &Ok(exactly(0.0))).unwrap());
        }
        profile
    }

    #[test]
    fn apportioned_energy_is_the_layers_own_where_all_draw_alike() {
        let profile = checked([15.0, 15.0, 15.0]);
        assert_eq!(profile.energy.as_ref().unwrap().kind, Kind::Simulated);
        assert_eq!(profile.refuted().count(), 0, "{:?}", profile.rows);
        let whole = profile.energy.as_ref().unwrap().run.value;
        let first = profile.rows[0].energy.unwrap();
        assert!((first.value / whole - 0.6).abs() < 1e-12 && first.lo < first.value && first.value < first.hi);
    }

    #[test]
    fn a_layer_that_draws_twice_as_much_refutes_it() {
        let profile = checked([15.0, 55.0, 15.0]);
        let refuted: Vec<&str> = profile.refuted().map(|r| r.name.as_str()).collect();
        assert_eq!(refuted, ["a", "b", "c"], "the others get what it drew: {:?}", profile.rows);
        assert!(profile.rows[1].check.unwrap().ratio < 0.8 && profile.rows[0].check.unwrap().ratio > 1.2);
    }
}
