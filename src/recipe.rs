//! Recipes: what is done to a model, as data (TOML or JSON).

mod step;

pub use step::{ActivationRange, DEFAULT_ROUND_TO, Distribution, FactorForm, Pattern, PruneMethod, Step, WeightGranularity, WeightMethod};

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
            .hint("steps are `prune_channels`, `factorize`, `prune_connections` and `quantize`; docs/RECIPES.md has examples")
    }

    /// Ranges and order, before any work is done.
    ///
    /// # Errors
    /// A share or bit-width is out of range, or a step comes after quantization.
    pub fn check(&self) -> Result<()> {
        let mut quantized = false;
        for step in &self.steps {
            if quantized {
                return Err(
                    Error::bad_input("a recipe's step comes after `quantize`").hint("quantize last: nothing can edit integer weights")
                );
            }
            step.check()?;
            quantized = matches!(step, Step::Quantize { .. });
        }
        Ok(())
    }

    /// True when nothing is done.
    pub fn is_original(&self) -> bool {
        self.steps.is_empty()
    }

    /// True when a step uses calibration samples.
    pub fn uses_calibration(&self) -> bool {
        self.steps.iter().any(Step::uses_calibration)
    }

    /// True when nothing can be made without calibration samples: the ranges of activations come from them, what Wanda weighs
    /// weights by, and low ranks.
    pub fn needs_calibration(&self) -> bool {
        let needs = |s: &Step| {
            matches!(
                s,
                Step::Quantize { activation_bits: Some(_), .. }
                    | Step::PruneConnections { method: PruneMethod::Wanda, .. }
                    | Step::Factorize { .. }
            )
        };
        self.steps.iter().any(needs)
    }

    /// Name of the ONNX form the variant has: `float`, `dequantize-linear` (integer weights, float activations) or `qdq`
    /// (integer weights and activations).
    pub fn lowering(&self) -> &'static str {
        match self.steps.last() {
            Some(Step::Quantize { activation_bits: Some(_), .. }) => "qdq",
            Some(Step::Quantize { activation_bits: None, .. }) => "dequantize-linear",
            _ => "float",
        }
    }

    /// The options of `joulefront compress` that make the same variant.
    pub fn options(&self) -> String {
        self.steps.iter().map(Step::options).collect::<Vec<_>>().join(" ")
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn recipes_round_trip() {
        let steps = vec![
            Step::PruneChannels { macs: Some(0.325), channels: None, round_to: 4 },
            Step::PruneConnections {
                share: Some(0.5),
                pattern: None,
                distribution: Distribution::PerLayer,
                method: PruneMethod::Magnitude,
            },
            Step::PruneConnections {
                share: None,
                pattern: Some(Pattern { keep: 2, of: 4 }),
                distribution: Distribution::Global,
                method: PruneMethod::LeastSquares,
            },
            Step::Factorize { macs: 0.25, form: FactorForm::Separable, round_to: 4 },
            Step::quantize_weights(4),
        ];
        let recipe = Recipe { steps };
        assert_eq!(Recipe::from_toml(&toml::to_string(&recipe).unwrap()).unwrap(), recipe);
        assert_eq!(
            recipe.options(),
            "--prune 32.5% --granularity channel --round-to 4 --prune 50% --granularity connection --per-layer \
             --prune-method magnitude --granularity 2:4 --factorize 25% --factorize-form separable --round-to 4 --weight-bits 4"
        );
    }

    #[test]
    fn quantization_says_what_is_not_the_default() {
        let method = WeightMethod::Auto;
        let quantize = |activation_bits, granularity, range| Step::Quantize { weight_bits: 8, activation_bits, granularity, range, method };
        #[track_caller]
        fn check(step: Step, toml: &str, options: &str, shown: &str, lowering: &str) {
            let recipe = Recipe { steps: vec![step] };
            assert_eq!(toml::to_string(&recipe).unwrap().trim(), format!("[[step]]\ndo = \"quantize\"\n{toml}"));
            assert_eq!(Recipe::from_toml(&toml::to_string(&recipe).unwrap()).unwrap(), recipe);
            assert_eq!(serde_json::from_str::<Recipe>(&serde_json::to_string(&recipe).unwrap()).unwrap(), recipe);
            assert_eq!((recipe.options().as_str(), recipe.to_string().as_str()), (options, shown));
            assert_eq!(recipe.lowering(), lowering);
            assert_eq!(recipe.uses_calibration(), !options.ends_with("rtn"));
            assert_eq!(recipe.needs_calibration(), lowering == "qdq");
        }
        use {ActivationRange as A, WeightGranularity as W};
        check(quantize(None, W::Channel, A::Mse), "weight_bits = 8", "--weight-bits 8", "8-bit weights", "dequantize-linear");
        check(
            Step::Quantize { weight_bits: 4, activation_bits: None, granularity: W::Channel, range: A::Mse, method: WeightMethod::Rtn },
            "weight_bits = 4\nmethod = \"rtn\"",
            "--weight-bits 4 --weight-method rtn",
            "4-bit weights, rounded to nearest",
            "dequantize-linear",
        );
        check(
            quantize(Some(8), W::Channel, A::Mse),
            "weight_bits = 8\nactivation_bits = 8",
            "--weight-bits 8 --activation-bits 8",
            "8-bit weights and activations",
            "qdq",
        );
        check(
            quantize(Some(8), W::Block32, A::MinMax),
            "weight_bits = 8\nactivation_bits = 8\ngranularity = \"block32\"\nrange = \"min_max\"",
            "--weight-bits 8 --activation-bits 8 --weight-granularity block32 --activation-range min_max",
            "8-bit weights in blocks of 32 and activations (min–max ranges)",
            "qdq",
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
        refused("[[step]]\ndo = 'prune_connections'", "needs either `share` or `pattern`");
        refused("[[step]]\ndo = 'prune_connections'\nshare = 0.5\npattern = '2:4'", "needs either `share` or `pattern`");
        refused("[[step]]\ndo = 'prune_connections'\npattern = '4:4'", "`4:4` is no pattern");
        refused("[[step]]\ndo = 'prune_connections'\npattern = '2:4'\ndistribution = 'per_layer'", "spreads the zeros itself");
        refused("[[step]]\ndo = 'quantize'\nweight_bits = 9", "9 bits");
        refused("[[step]]\ndo = 'quantize'\nweight_bits = 8\nactivation_bits = 16", "16 bits cannot be used for activations");
        refused("[[step]]\ndo = 'quantize'\nweight_bits = 8\nrange = 'entropy'", "activations stay float");
        refused("[[step]]\ndo = 'quantize'\nweight_bits = 8\ngranularity = 'block64'", "unknown variant");
        refused("[[step]]\ndo = 'quantize'\nweight_bits = 8\n[[step]]\ndo = 'quantize'\nweight_bits = 8", "after `quantize`");
        refused("[[step]]\ndo = 'quantise'\nweight_bits = 8", "unknown variant");
        refused("[[step]]\ndo = 'quantize'\nweight_bits = 8\nbits = 3", "unknown field");
        refused("steps = []", "unknown field");
    }
}
