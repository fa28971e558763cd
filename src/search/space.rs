//! What a sweep tries: ratios × bits, as recipes in a fixed order.

use crate::recipe::{DEFAULT_ROUND_TO, Distribution, Recipe, Step};
use crate::{Error, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
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
        }
    }
}

impl Space {
    pub(super) fn check(&self) -> Result<()> {
        if !(1..=1024).contains(&self.round_to) {
            return Err(Error::bad_input("`space.round_to` must be 1 to 1024"));
        }
        self.families().into_iter().flatten().try_for_each(|r| r.check())
    }

    /// The recipes in the order of `strategy`, the original first. No recipe comes twice.
    pub fn recipes(&self, strategy: Strategy, seed: u64) -> Vec<Recipe> {
        let mut families: Vec<Vec<Recipe>> = self.families().into_iter().map(coarse_first).collect();
        let mut out = vec![Recipe::default()];
        // One of each family in turn, so that every family is there whenever the sweep ends.
        let longest = families.iter().map(Vec::len).max().unwrap_or(0);
        families.iter_mut().for_each(|f| f.reverse());
        let lengths: Vec<usize> = families.iter().map(Vec::len).collect();
        for turn in 0..longest {
            for (family, &length) in families.iter_mut().zip(&lengths) {
                let due = (turn + 1) * length / longest - turn * length / longest;
                (0..due).for_each(|_| out.extend(family.pop()));
            }
        }
        let mut seen: Vec<Recipe> = Vec::new();
        out.retain(|r| !seen.contains(r) && (seen.push(r.clone()), true).1);
        if strategy == Strategy::Random {
            out[1..].shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        }
        out
    }

    fn families(&self) -> [Vec<Recipe>; 4] {
        let channels = |m: f64| Step::PruneChannels { macs: Some(m), channels: None, round_to: self.round_to };
        let recipe = |steps: Vec<Step>| Recipe { steps };
        [
            self.channel_ratios.iter().map(|&m| recipe(vec![channels(m)])).collect(),
            self.connection_ratios
                .iter()
                .map(|&share| recipe(vec![Step::PruneConnections { share, distribution: Distribution::Global }]))
                .collect(),
            self.weight_bits.iter().map(|&b| recipe(vec![Step::quantize_weights(b)])).collect(),
            self.pruned_bits.iter().map(|&(m, b)| recipe(vec![channels(m), Step::quantize_weights(b)])).collect(),
        ]
    }
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
    use super::*;

    #[test]
    fn the_default_space_has_enough_trials_and_few_on_bits() {
        let recipes = Space::default().recipes(Strategy::Grid, 0);
        let bits = recipes.iter().filter(|r| r.lowering() != "float").count();
        assert!(recipes.len() >= 26, "{}", recipes.len());
        assert!(bits * 4 <= recipes.len(), "{bits} of {} on bits", recipes.len());
        assert!(recipes[0].is_original());
    }

    #[test]
    fn every_recipe_comes_once_in_any_order_and_the_seed_decides() {
        let space = Space { channel_ratios: vec![0.1, 0.2, 0.1], ..Space::default() };
        let sorted = |mut v: Vec<Recipe>| {
            v.sort_by_key(Recipe::options);
            v
        };
        let (grid, random) = (space.recipes(Strategy::Grid, 1), space.recipes(Strategy::Random, 1));
        assert_eq!(sorted(grid.clone()), sorted(random.clone()));
        assert_ne!(grid, random);
        assert_eq!(random, space.recipes(Strategy::Random, 1));
        assert_ne!(random, space.recipes(Strategy::Random, 2));
        assert_eq!(grid.iter().filter(|r| r.options() == "--prune 10% --granularity channel").count(), 1);
    }
}
