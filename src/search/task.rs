//! What a sweep tries: a recipe, in the form of one engine, run on so many threads with so many samples at once.

use super::space::{Space, Strategy, interleaved};
use crate::engine::LoadOptions;
use crate::lower::{Form, forms};
use crate::recipe::{Recipe, Step, WeightGranularity};
use crate::study::{Configuration, Trial};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Lowering's name of a file that is loaded with its batch left open.
const OPEN: &str = "open-batch";

/// Of the channel ratios every fourth is tried on engines other than the first.
const THINNED: usize = 4;

/// One configuration to be tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Task {
    /// What is done to the model.
    pub recipe: Recipe,
    /// The engine that runs it.
    pub engine: String,
    /// The form that the variant is lowered to; `None`: the file as the recipe makes it.
    pub form: Option<Form>,
    /// How it is run.
    pub conditions: Conditions,
}

/// How a model is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Conditions {
    /// Threads of the engine.
    pub threads: usize,
    /// Samples per run.
    pub batch: usize,
    /// The batch is left open for the engine, as a service does that loads the file as it is.
    pub open: bool,
}

impl Conditions {
    /// For the engine; `others` has the values of other dimensions.
    pub(super) fn options(self, others: &LoadOptions) -> LoadOptions {
        LoadOptions { threads: self.threads, batch: self.batch, symbolic: self.open, ..others.clone() }
    }
}

impl Task {
    /// As a study keeps it.
    pub(super) fn configuration(&self, seed: u64) -> Configuration {
        let mut reproduce = self.recipe.options();
        if let Some(form) = self.form {
            reproduce += &format!("{}--form {form}", if reproduce.is_empty() { "" } else { " " });
        }
        Configuration {
            recipe: self.recipe.to_string(),
            reproduce,
            engine: self.engine.clone(),
            lowering: match self.form {
                _ if self.conditions.open => OPEN.to_owned(),
                Some(form) => form.name().to_owned(),
                None => self.recipe.lowering().to_owned(),
            },
            threads: self.conditions.threads,
            batch: self.conditions.batch,
            seed,
        }
    }

    /// The original file under the same conditions: what a form and a recipe are compared with on their engine.
    pub(super) fn base(&self) -> Task {
        let conditions = Conditions { open: false, ..self.conditions };
        Task { recipe: Recipe::default(), engine: self.engine.clone(), form: None, conditions }
    }

    /// The task that shows whether the form pays here: the original, quantized alike, in the same form under the same conditions.
    /// `None` for tasks that are that themselves, or have no form.
    pub(super) fn screening(&self) -> Option<Task> {
        self.form?;
        let coding: Vec<Step> = self.recipe.steps.iter().filter(|s| matches!(s, Step::Quantize { .. })).cloned().collect();
        (coding.len() < self.recipe.steps.len()).then(|| Task { recipe: Recipe { steps: coding }, ..self.clone() })
    }
}

/// The forms that say something about `step` on an engine: those in which its integers are what is multiplied.
fn coded_forms(engine: &str, step: &Step) -> Vec<Form> {
    let suits = |form: Form| match *step {
        Step::Quantize { activation_bits: Some(_), .. } => matches!(form, Form::Qdq | Form::QLinear | Form::Dynamic),
        Step::Quantize { granularity: WeightGranularity::Block32, .. } => form == Form::NBits,
        Step::Quantize { .. } => form == Form::Dynamic,
        _ => false,
    };
    forms(engine).iter().copied().filter(|&f| suits(f)).collect()
}

impl Space {
    /// All that is tried under the conditions of the reference, in order: the original on each engine (on the first one it is the
    /// reference), the original in each form (which shows what a form is worth here, before anything is built on it), the original
    /// with its batch left open; then recipes, in the order of `strategy`. No task comes twice.
    pub fn tasks(&self, engines: &[&str], reference: Conditions, strategy: Strategy, seed: u64) -> Vec<Task> {
        let task =
            |engine: &str, form: Option<Form>, recipe: Recipe| Task { recipe, engine: engine.to_owned(), form, conditions: reference };
        let wanted = |form: &Form| self.forms.is_empty() || self.forms.contains(form);
        let mut out: Vec<Task> = engines.iter().map(|e| task(e, None, Recipe::default())).collect();
        let mut coded = Vec::new();
        for engine in engines {
            for step in &self.quantize {
                let recipe = Recipe { steps: vec![step.clone()] };
                coded.extend(coded_forms(engine, step).into_iter().filter(wanted).map(|form| task(engine, Some(form), recipe.clone())));
            }
        }
        out.extend(coded.iter().cloned());
        for engine in engines {
            let half = forms(engine).iter().filter(|f| **f == Form::Half && wanted(f));
            out.extend(half.map(|&form| task(engine, Some(form), Recipe::default())));
        }
        if self.open_batch {
            out.extend(
                engines.iter().map(|e| Task { conditions: Conditions { open: true, ..reference }, ..task(e, None, Recipe::default()) }),
            );
        }
        let first = engines.first().copied().unwrap_or_default();
        let mut families: Vec<Vec<Task>> =
            self.families().into_iter().map(|recipes| recipes.into_iter().map(|r| task(first, None, r)).collect()).collect();
        for engine in engines.iter().skip(1) {
            let thinned = self.channels().into_iter().skip(THINNED - 1).step_by(THINNED);
            families.push(thinned.map(|r| task(engine, None, r)).collect());
        }
        // Each share with every coding.
        families.push(
            self.pruned_quantize
                .iter()
                .flat_map(|&share| coded.iter().map(move |t| (share, t)))
                .map(|(share, t)| {
                    let steps = [vec![self.prune_channels(share)], t.recipe.steps.clone()].concat();
                    Task { recipe: Recipe { steps }, ..t.clone() }
                })
                .collect(),
        );
        let mut recipes = interleaved(families);
        if strategy == Strategy::Random {
            recipes.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        }
        out.extend(recipes);
        let mut seen: Vec<Task> = Vec::new();
        out.retain(|t| !seen.contains(t) && (seen.push(t.clone()), true).1);
        out
    }

    /// `task` under all other conditions of the space.
    pub(super) fn elsewhere<'a>(&'a self, task: &'a Task) -> impl Iterator<Item = Task> + 'a {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let mut threads: Vec<usize> = self.threads.iter().map(|&n| if n == 0 { cpus } else { n }).collect();
        threads.dedup();
        let all = threads.into_iter().flat_map(|threads| self.batch.iter().map(move |&batch| Conditions { threads, batch, open: false }));
        all.filter(|c| *c != task.conditions).map(|conditions| Task { conditions, ..task.clone() })
    }
}

/// What a form (or an open batch) was seen to do to the energy of the original on its engine, as a sentence; `None` for other trials and
/// where nothing was measured.
pub(super) fn finding(task: &Task, trial: &Trial) -> Option<String> {
    let only_coded = task.recipe.steps.iter().all(|s| matches!(s, Step::Quantize { .. }));
    if !only_coded || (task.form.is_none() && !task.conditions.open) {
        return None;
    }
    let what = match task.form {
        _ if task.conditions.open => "a batch that is left open when the model is loaded".to_owned(),
        Some(form) if task.recipe.is_original() => format!("the form `{form}`"),
        form => format!("{} in the form `{}`", task.recipe, form.map_or("", Form::name)),
    };
    let engine = &task.engine;
    let Some(results) = trial.results() else { return Some(format!("{what} does not work on {engine} here, and is not offered")) };
    let energy = results.measurement.compared()?;
    let [value, lo, hi] = [energy.ratio.value, energy.ratio.lo, energy.ratio.hi].map(|v| format!("{v:.2}"));
    Some(match energy.verdict {
        crate::stats::Verdict::Better => format!("{what} takes {value}× ({lo}…{hi}) the energy of the original on {engine} here"),
        crate::stats::Verdict::Worse => format!("{what} costs {value}× ({lo}…{hi}) the energy of the original on {engine} here"),
        _ => format!("{what} saves nothing that could be shown on {engine} here: {value}× ({lo}…{hi})"),
    })
}
