//! What a sweep tries: ratios × bits, as recipes in a fixed order.

use crate::lower::Form;
use crate::recipe::{ActivationRange, DEFAULT_ROUND_TO, Recipe, Step, WeightGranularity, WeightMethod};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The recipes of a sweep. Each list is one family; `pruned_bits` combines pruning with bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Space {
    /// Shares of the multiply–adds to remove by channels.
    pub channel_ratios: Vec<f64>,
    /// Shares of the weights to set to zero.
    pub connection_ratios: Vec<f64>,
    /// Weight bits for the original. In an engine's float form bits change size and accuracy, hardly energy, so they get
    /// at most a quarter of the trials.
    pub weight_bits: Vec<u32>,
    /// Pairs of a channel ratio and weight bits.
    pub pruned_bits: Vec<(f64, u32)>,
    /// Channel counts are kept at multiples of this.
    pub round_to: usize,
    /// Engines, the first of which runs the reference; empty: all that are here.
    pub engines: Vec<String>,
    /// Forms beside the plain file; empty: all that the engines are offered.
    pub forms: Vec<Form>,
    /// Steps whose integers are computed with, in the forms that engines have for them.
    pub quantize: Vec<Step>,
    /// Channel ratios that are combined with each of `quantize`, in the forms that were seen to pay.
    pub pruned_quantize: Vec<f64>,
    /// Threads that the best configurations are run on; 0 is all CPUs.
    pub threads: Vec<usize>,
    /// Samples per run of the best configurations.
    pub batch: Vec<usize>,
    /// Show what it costs to load the original with its batch left open.
    pub open_batch: bool,
}

/// How the space is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// All recipes, coarse before fine: an early end still leaves a whole front.
    Grid,
    /// All recipes in an order drawn from the seed.
    Random,
}

impl Default for Space {
    fn default() -> Self {
        Space {
            channel_ratios: (1..=20).map(|i| f64::from(i * 4) / 100.0).collect(),
            connection_ratios: vec![0.5, 0.7, 0.8, 0.9],
            weight_bits: vec![8, 6, 4],
            pruned_bits: vec![(0.2, 8), (0.4, 8), (0.6, 8)],
            round_to: DEFAULT_ROUND_TO,
            engines: Vec::new(),
            forms: Vec::new(),
            quantize: vec![
                Step::quantize_all(),
                Step::Quantize {
                    weight_bits: 4,
                    activation_bits: None,
                    granularity: WeightGranularity::Block32,
                    range: ActivationRange::default(),
                    method: WeightMethod::default(),
                },
            ],
            pruned_quantize: vec![0.2, 0.4],
            threads: vec![1, 0],
            batch: vec![1, 8],
            open_batch: true,
        }
    }
}

impl Space {
    pub(super) fn check(&self) -> Result<()> {
        if !(1..=1024).contains(&self.round_to) {
            return Err(Error::bad_input("`space.round_to` must be 1 to 1024"));
        }
        if self.threads.iter().any(|&n| n > 1024) || self.batch.iter().any(|&n| !(1..=65_536).contains(&n)) {
            return Err(Error::bad_input("`space.threads` must be at most 1024 (0: all CPUs), `space.batch` 1 to 65536"));
        }
        if let Some(step) = self.quantize.iter().find(|s| !matches!(s, Step::Quantize { .. })) {
            return Err(Error::bad_input(format!("`space.quantize` holds `{step}`, which quantizes nothing")));
        }
        let coded = self.quantize.iter().map(|step| Recipe { steps: vec![step.clone()] });
        let pruned = self.pruned_quantize.iter().map(|&share| Recipe { steps: vec![self.prune_channels(share)] });
        self.families().into_iter().flatten().chain(coded).chain(pruned).try_for_each(|r| r.check())
    }

    /// True when something needs calibration samples.
    pub(super) fn uses_calibration(&self) -> bool {
        let coded = self.quantize.iter().any(|step| Recipe { steps: vec![step.clone()] }.uses_calibration());
        coded || !self.pruned_quantize.is_empty() || self.families().iter().flatten().any(Recipe::uses_calibration)
    }

    /// The recipes of the first engine, by families, each coarse before fine.
    pub(super) fn families(&self) -> Vec<Vec<Recipe>> {
        let recipe = |steps: Vec<Step>| Recipe { steps };
        let connections = |&share: &f64| recipe(vec![Step::prune_connections(share)]);
        let families = [
            self.channels(),
            self.connection_ratios.iter().map(connections).collect(),
            self.weight_bits.iter().map(|&b| recipe(vec![Step::quantize_weights(b)])).collect(),
            self.pruned_bits.iter().map(|&(m, b)| recipe(vec![self.prune_channels(m), Step::quantize_weights(b)])).collect(),
        ];
        families.into_iter().map(coarse_first).collect()
    }

    /// Channel ratios alone, by rising share.
    pub(super) fn channels(&self) -> Vec<Recipe> {
        self.channel_ratios.iter().map(|&m| Recipe { steps: vec![self.prune_channels(m)] }).collect()
    }

    /// The step that removes a share of the multiply–adds.
    pub(super) fn prune_channels(&self, share: f64) -> Step {
        Step::PruneChannels { macs: Some(share), channels: None, round_to: self.round_to }
    }
}

/// Some of each family in turn, in proportion to their lengths, so that every family is there whenever the sweep ends.
pub(super) fn interleaved<T>(mut families: Vec<Vec<T>>) -> Vec<T> {
    let longest = families.iter().map(Vec::len).max().unwrap_or(0);
    let lengths: Vec<usize> = families.iter().map(Vec::len).collect();
    families.iter_mut().for_each(|f| f.reverse());
    let mut out = Vec::with_capacity(lengths.iter().sum());
    for turn in 0..longest {
        for (family, &length) in families.iter_mut().zip(&lengths) {
            let due = (turn + 1) * length / longest - turn * length / longest;
            (0..due).for_each(|_| out.extend(family.pop()));
        }
    }
    out
}

/// Middle first, then the middles of the halves, and so on.
fn coarse_first(list: Vec<Recipe>) -> Vec<Recipe> {
    let mut order = Vec::with_capacity(list.len());
    let mut parts = std::collections::VecDeque::new();
    parts.push_back(0..list.len());
    while let Some(part) = parts.pop_front() {
        if !part.is_empty() {
            let middle = part.start + part.len() / 2;
            order.push(middle);
            parts.extend([part.start..middle, middle + 1..part.end]);
        }
    }
    let mut slots: Vec<Option<Recipe>> = list.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| slots[i].take()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::task::{Conditions, Task};
    use super::*;

    const PLAIN: Conditions = Conditions { threads: 1, batch: 1, open: false };

    fn tasks(space: &Space, engines: &[&str], strategy: Strategy, seed: u64) -> Vec<Task> {
        space.tasks(engines, PLAIN, strategy, seed)
    }

    #[test]
    fn the_default_space_has_enough_trials_and_few_on_bits() {
        let tasks = tasks(&Space::default(), &["tract"], Strategy::Grid, 0);
        let bits = tasks.iter().filter(|t| t.form.is_none() && t.recipe.lowering() != "float").count();
        assert!(tasks.len() >= 26, "{}", tasks.len());
        assert!(bits * 4 <= tasks.len(), "{bits} of {} on bits", tasks.len());
        assert!(tasks[0].recipe.is_original());
    }

    #[test]
    fn every_recipe_comes_once_in_any_order_and_the_seed_decides() {
        let space = Space { channel_ratios: vec![0.1, 0.2, 0.1], ..Space::default() };
        let name = |t: &Task| format!("{} {} {:?} {:?}", t.recipe.options(), t.engine, t.form, t.conditions);
        let sorted = |v: &[Task]| {
            let mut names: Vec<String> = v.iter().map(name).collect();
            names.sort();
            names
        };
        let engines = ["tract", "ort"];
        let (grid, random) = (tasks(&space, &engines, Strategy::Grid, 1), tasks(&space, &engines, Strategy::Random, 1));
        assert_eq!(sorted(&grid), sorted(&random));
        assert_ne!(grid, random);
        assert_eq!(random, tasks(&space, &engines, Strategy::Random, 1));
        assert_ne!(random, tasks(&space, &engines, Strategy::Random, 2));
        assert_eq!(grid.iter().filter(|t| t.recipe.options() == "--prune 10% --granularity channel" && t.engine == "tract").count(), 1);
        let mut names = sorted(&grid);
        names.dedup();
        assert_eq!(names.len(), grid.len());
    }

    #[test]
    fn originals_come_first_then_forms_and_what_is_built_on_a_form_comes_after_it() {
        let tasks = tasks(&Space::default(), &["tract", "rten", "ort"], Strategy::Grid, 0);
        assert!(tasks[..3].iter().all(|t| t.recipe.is_original() && t.form.is_none()));
        assert_eq!(tasks.iter().take(3).map(|t| t.engine.as_str()).collect::<Vec<_>>(), ["tract", "rten", "ort"]);
        for (at, task) in tasks.iter().enumerate() {
            if let Some(screening) = task.screening() {
                assert!(tasks[..at].contains(&screening), "{task:?}");
            }
        }
        let of = |engine: &str, form: Form| tasks.iter().filter(|t| t.engine == engine && t.form == Some(form)).count();
        assert!(of("ort", Form::Qdq) == 3 && of("tract", Form::Qdq) == 0 && of("rten", Form::Dynamic) == 3 && of("rten", Form::Half) == 0);
    }

    #[test]
    fn the_best_are_run_under_all_other_conditions() {
        let space = Space { threads: vec![1, 2], batch: vec![1, 8], ..Space::default() };
        let task = &tasks(&space, &["tract"], Strategy::Grid, 0)[0];
        let others: Vec<(usize, usize)> = space.elsewhere(task).map(|t| (t.conditions.threads, t.conditions.batch)).collect();
        assert_eq!(others, [(1, 8), (2, 1), (2, 8)]);
    }
}
