//! Recipes: what is done to a model, as data (TOML or JSON).

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// Steps in the order they are taken; no steps is the original.
///
/// ```
/// use joulefront::recipe::Recipe;
/// let recipe = Recipe::from_toml(r#"
///     [[step]]
///     do = "prune_channels"
///     macs = 0.3
///     [[step]]
///     do = "quantize"
///     weight_bits = 8
/// "#).unwrap();
/// assert_eq!(recipe.to_string(), "30% of multiply–adds pruned, 8-bit weights");
/// assert_eq!(recipe.options(), "--prune 30% --granularity channel --weight-bits 8");
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The steps.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Remove channels (neurons) until a share of the multiply–adds or of every group's channels is gone.
    PruneChannels {
        /// Share of the multiply–adds, 0..1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        macs: Option<f64>,
        /// Share of the channels of every group, 0..1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channels: Option<f64>,
        /// Keep channel counts at multiples of this.
        #[serde(default = "default_round_to")]
        round_to: usize,
    },
    /// Set a share of the weights to zero.
    PruneConnections {
        /// Share of the weights, 0..1.
        share: f64,
        /// How the zeros are spread over the layers.
        #[serde(default)]
        distribution: Distribution,
    },
    /// Quantize weights.
    Quantize {
        /// 2 to 8.
        weight_bits: u32,
    },
}

/// How the zeros are spread over the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// One threshold over all layers on the layer-adaptive score w² / Σ v² over the layer's weights v with |v| ≥ |w|
    /// (LAMP, arXiv 2010.07611): no layer is emptied.
    #[default]
    Global,
    /// The same share in every layer, by magnitude.
    PerLayer,
}

/// Channel counts are kept at multiples of this unless a recipe says otherwise: engines compute in tiles, and a count
/// between two tiles may cost as much as the larger (docs/RECIPES.md has a case where it does not).
pub const DEFAULT_ROUND_TO: usize = 8;

fn default_round_to() -> usize {
    DEFAULT_ROUND_TO
}

impl Recipe {
    /// Reads a recipe file: JSON when its name ends in `.json`, else TOML.
    ///
    /// # Errors
    /// The file cannot be read, or is not a recipe: the message names the line and what is known.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
        let parsed = if path.extension().is_some_and(|e| e == "json") {
            serde_json::from_str::<Recipe>(&text).map_err(|e| e.to_string())
        } else {
            toml::from_str::<Recipe>(&text).map_err(|e| e.to_string())
        };
        let recipe = parsed.map_err(|e| Self::unreadable(&path.display().to_string(), &e))?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Parses TOML.
    ///
    /// # Errors
    /// It is not a recipe.
    pub fn from_toml(text: &str) -> Result<Self> {
        let recipe: Recipe = toml::from_str(text).map_err(|e| Self::unreadable("recipe", &e.to_string()))?;
        recipe.check()?;
        Ok(recipe)
    }

    fn unreadable(origin: &str, why: &str) -> Error {
        Error::bad_input(format!("`{origin}` is not a recipe: {}", why.trim_end()))
            .hint("steps are `prune_channels`, `prune_connections` and `quantize`; docs/RECIPES.md has examples")
    }

    /// Ranges and order, before any work is done.
    ///
    /// # Errors
    /// A share or bit-width is out of range, or a step comes after quantization.
    pub fn check(&self) -> Result<()> {
        let share = |s: f64, what: &str| match s {
            s if s > 0.0 && s < 1.0 => Ok(()),
            s => Err(Error::bad_input(format!("a share of {s} of the {what} cannot be pruned"))
                .hint("give a share between 0 and 1, or 0% and 100%")),
        };
        let mut quantized = false;
        for step in &self.steps {
            if quantized {
                return Err(
                    Error::bad_input("a recipe's step comes after `quantize`").hint("quantize last: nothing can edit integer weights")
                );
            }
            match step {
                Step::PruneChannels { macs: Some(s), channels: None, .. } => share(*s, "multiply–adds")?,
                Step::PruneChannels { macs: None, channels: Some(s), .. } => share(*s, "channels")?,
                Step::PruneChannels { .. } => {
                    return Err(Error::bad_input("`prune_channels` needs either `macs` or `channels`"));
                }
                Step::PruneConnections { share: s, .. } => share(*s, "weights")?,
                Step::Quantize { weight_bits } if (2..=8).contains(weight_bits) => quantized = true,
                Step::Quantize { weight_bits } => {
                    return Err(Error::bad_input(format!("{weight_bits} bits cannot be used for weights")).hint("choose 2 to 8 bits"));
                }
            }
        }
        Ok(())
    }

    /// True when nothing is done.
    pub fn is_original(&self) -> bool {
        self.steps.is_empty()
    }

    /// True when a step uses calibration samples.
    pub fn uses_calibration(&self) -> bool {
        self.steps.iter().any(|s| !matches!(s, Step::Quantize { .. }))
    }

    /// Name of the ONNX form the variant has.
    pub fn lowering(&self) -> &'static str {
        if self.steps.iter().any(|s| matches!(s, Step::Quantize { .. })) { "dequantize-linear" } else { "float" }
    }

    /// The options of `joulefront compress` that make the same variant.
    pub fn options(&self) -> String {
        let options = self.steps.iter().map(|s| match s {
            Step::PruneChannels { macs, channels, round_to } => {
                let amount = match (macs, channels) {
                    (Some(m), _) => format!("--prune {}", percent(*m)),
                    (None, c) => format!("--prune-channels {}", percent(c.unwrap_or(0.0))),
                };
                let round = if *round_to == DEFAULT_ROUND_TO { String::new() } else { format!(" --round-to {round_to}") };
                format!("{amount} --granularity channel{round}")
            }
            Step::PruneConnections { share, distribution } => {
                let spread = if *distribution == Distribution::PerLayer { " --per-layer" } else { "" };
                format!("--prune {} --granularity connection{spread}", percent(*share))
            }
            Step::Quantize { weight_bits } => format!("--weight-bits {weight_bits}"),
        });
        options.collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_original() {
            return f.write_str("original");
        }
        let parts: Vec<String> = self.steps.iter().map(Step::to_string).collect();
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::PruneChannels { macs: Some(m), .. } => write!(f, "{} of multiply–adds pruned", percent(*m)),
            Step::PruneChannels { channels, .. } => write!(f, "{} of channels pruned", percent(channels.unwrap_or(0.0))),
            Step::PruneConnections { share, .. } => write!(f, "{} of connections pruned", percent(*share)),
            Step::Quantize { weight_bits } => write!(f, "{weight_bits}-bit weights"),
        }
    }
}

/// A share as the command line takes it back: `0.325` is `32.5%`.
fn percent(share: f64) -> String {
    let tenths = (share * 1e6).round() / 1e4;
    format!("{tenths}%")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn recipes_round_trip() {
        let steps = vec![
            Step::PruneChannels { macs: Some(0.325), channels: None, round_to: 4 },
            Step::PruneConnections { share: 0.5, distribution: Distribution::PerLayer },
            Step::Quantize { weight_bits: 4 },
        ];
        let recipe = Recipe { steps };
        assert_eq!(Recipe::from_toml(&toml::to_string(&recipe).unwrap()).unwrap(), recipe);
        assert_eq!(
            recipe.options(),
            "--prune 32.5% --granularity channel --round-to 4 --prune 50% --granularity connection --per-layer --weight-bits 4"
        );
    }

    #[track_caller]
    fn refused(text: &str, expect: &str) {
        let e = Recipe::from_toml(text).unwrap_err().to_string();
        assert!(e.contains(expect), "{e}");
    }

    #[test]
    fn bad_recipes_say_what_is_wrong() {
        refused("[[step]]\ndo = 'prune_channels'", "needs either `macs` or `channels`");
        refused("[[step]]\ndo = 'prune_channels'\nmacs = 1.0", "cannot be pruned");
        refused("[[step]]\ndo = 'prune_channels'\nmacs = nan", "cannot be pruned");
        refused("[[step]]\ndo = 'quantize'\nweight_bits = 9", "9 bits");
        refused("[[step]]\ndo = 'quantize'\nweight_bits = 8\n[[step]]\ndo = 'quantize'\nweight_bits = 8", "after `quantize`");
        refused("[[step]]\ndo = 'quantise'\nweight_bits = 8", "unknown variant");
        refused("[[step]]\ndo = 'quantize'\nweight_bits = 8\nbits = 3", "unknown field");
        refused("steps = []", "unknown field");
    }
}
