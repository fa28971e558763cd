//! One step of a recipe: its settings, what they may be, and how they are said.

use crate::{Error, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

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
    /// Split layers into two cheaper ones until a share of the multiply–adds is gone.
    Factorize {
        /// Share of the multiply–adds, 0..1.
        macs: f64,
        /// Which two layers.
        #[serde(default, skip_serializing_if = "is_default")]
        form: FactorForm,
        /// Keep ranks at multiples of this.
        #[serde(default = "default_round_to")]
        round_to: usize,
    },
    /// Set a share of the weights to zero, or some of every few in a row.
    PruneConnections {
        /// Share of the weights, 0..1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        share: Option<f64>,
        /// Instead: so many weights stay of every group along the inputs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pattern: Option<Pattern>,
        /// How the zeros are spread over the layers.
        #[serde(default, skip_serializing_if = "is_default")]
        distribution: Distribution,
        /// Which weights go.
        #[serde(default, skip_serializing_if = "is_default")]
        method: PruneMethod,
    },
    /// Quantize weights and, if asked for, activations. What is left out of a recipe file is written to none, so that the
    /// recipes of earlier versions stay what they were.
    Quantize {
        /// 2 to 8.
        weight_bits: u32,
        /// 8; `None`: activations stay float.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        activation_bits: Option<u32>,
        /// Which weights share a scale.
        #[serde(default, skip_serializing_if = "is_default")]
        granularity: WeightGranularity,
        /// How the ranges of activations follow from the calibration samples.
        #[serde(default, skip_serializing_if = "is_default")]
        range: ActivationRange,
        /// How the integers follow from the weights.
        #[serde(default, skip_serializing_if = "is_default")]
        method: WeightMethod,
    },
}

/// How integers follow from weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum WeightMethod {
    /// Least squares; rounded to nearest where 8 bits of a large model lose next to nothing (over 100 million multiply–adds).
    #[default]
    Auto,
    /// Layer after layer those with which its output comes nearest to the original's, biases too (without calibration samples: as
    /// rtn).
    LeastSquares,
    /// Rounded to nearest.
    Rtn,
}

/// Which single weights go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum PruneMethod {
    /// Those whose loss the others make up for best (optimal brain surgeon), spread over the layers by what they do to the model's
    /// output (without calibration samples: as magnitude).
    #[default]
    LeastSquares,
    /// Those with the least |w|·‖x‖, x being the inputs they meet (arXiv 2306.11695).
    Wanda,
    /// The smallest.
    Magnitude,
}

/// Which two layers may take the place of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum FactorForm {
    /// For each layer whichever costs the model's output least.
    #[default]
    Best,
    /// Two of lower rank.
    LowRank,
    /// A depthwise convolution, with one output a channel or a few, and a pointwise one.
    Separable,
}

/// `keep` weights stay of every `of` along the inputs, written `2:4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Pattern {
    /// How many stay, at least 1.
    pub keep: usize,
    /// Of how many, at most [`Pattern::LONGEST`].
    pub of: usize,
}

impl Pattern {
    /// The longest group.
    pub const LONGEST: usize = 64;
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.keep, self.of)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.to_string()
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(keep, of)| Some(Pattern { keep: keep.parse().ok()?, of: of.parse().ok()? }));
        let fits = |p: &Pattern| 0 < p.keep && p.keep < p.of && p.of <= Pattern::LONGEST;
        parsed
            .filter(fits)
            .ok_or_else(|| format!("`{text}` is no pattern: `2:4` keeps 2 of every 4 weights (of at most {})", Self::LONGEST))
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
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

/// Which weights of a layer share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum WeightGranularity {
    /// Those of one output channel.
    #[default]
    Channel,
    /// All of them.
    Tensor,
    /// 32 in a row along the inputs of one output (Gemm and MatMul; convolutions fall back to channels).
    Block32,
}

/// How the range that an activation's integers cover follows from its values on the calibration samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum ActivationRange {
    /// All values seen.
    MinMax,
    /// All but the outermost 0.01 % of the values, half of them at either end.
    Percentile,
    /// The range with the least mean squared rounding and clipping error.
    #[default]
    Mse,
    /// The range whose quantized values are distributed most like the values (least Kullback–Leibler divergence).
    Entropy,
}

/// Channel counts are kept at multiples of this unless a recipe says otherwise: engines compute in tiles, and a count
/// between two tiles may cost as much as the larger (docs/RECIPES.md has a case where it does not).
pub const DEFAULT_ROUND_TO: usize = 8;

fn default_round_to() -> usize {
    DEFAULT_ROUND_TO
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Step {
    /// Weights alone to `bits` bits, a scale for each output channel.
    pub fn quantize_weights(bits: u32) -> Self {
        Step::Quantize {
            weight_bits: bits,
            activation_bits: None,
            granularity: WeightGranularity::default(),
            range: ActivationRange::default(),
            method: WeightMethod::default(),
        }
    }

    /// Weights and activations to 8 bits, with the default granularity and ranges.
    ///
    /// ```
    /// use joulefront::recipe::Step;
    /// assert_eq!(Step::quantize_all().options(), "--weight-bits 8 --activation-bits 8");
    /// ```
    pub fn quantize_all() -> Self {
        Step::Quantize {
            weight_bits: 8,
            activation_bits: Some(8),
            granularity: WeightGranularity::default(),
            range: ActivationRange::default(),
            method: WeightMethod::default(),
        }
    }

    /// A share of all weights to zero, by the default method.
    pub fn prune_connections(share: f64) -> Self {
        let (distribution, method) = (Distribution::default(), PruneMethod::default());
        Step::PruneConnections { share: Some(share), pattern: None, distribution, method }
    }

    /// # Errors
    /// A share or bit-width is out of range, or two settings contradict each other.
    pub(super) fn check(&self) -> Result<()> {
        let share = |s: f64, what: &str| match s {
            s if s > 0.0 && s < 1.0 => Ok(()),
            s => Err(Error::bad_input(format!("a share of {s} of the {what} cannot be pruned"))
                .hint("give a share between 0 and 1, or 0% and 100%")),
        };
        match *self {
            Step::PruneChannels { macs: Some(s), channels: None, .. } => share(s, "multiply–adds"),
            Step::PruneChannels { macs: None, channels: Some(s), .. } => share(s, "channels"),
            Step::PruneChannels { .. } => Err(Error::bad_input("`prune_channels` needs either `macs` or `channels`")),
            Step::Factorize { macs, .. } => share(macs, "multiply–adds"),
            Step::PruneConnections { share: Some(s), pattern: None, .. } => share(s, "weights"),
            Step::PruneConnections { share: None, pattern: Some(_), distribution: Distribution::Global, .. } => Ok(()),
            Step::PruneConnections { share: None, pattern: Some(_), .. } => {
                Err(Error::bad_input("a pattern spreads the zeros itself").hint("leave `distribution` away"))
            }
            Step::PruneConnections { .. } => Err(Error::bad_input("`prune_connections` needs either `share` or `pattern`")),
            Step::Quantize { weight_bits, .. } if !(2..=8).contains(&weight_bits) => {
                Err(Error::bad_input(format!("{weight_bits} bits cannot be used for weights")).hint("choose 2 to 8 bits"))
            }
            Step::Quantize { activation_bits: Some(bits), .. } if bits != 8 => {
                Err(Error::bad_input(format!("{bits} bits cannot be used for activations")).hint("activations take 8 bits, or stay float"))
            }
            Step::Quantize { activation_bits: None, range, .. } if !is_default(&range) => {
                Err(Error::bad_input("a range of activations is given, but activations stay float").hint("give `activation_bits = 8` too"))
            }
            Step::Quantize { .. } => Ok(()),
        }
    }

    /// True when the step uses calibration samples.
    pub(super) fn uses_calibration(&self) -> bool {
        !matches!(self, Step::Quantize { activation_bits: None, method: WeightMethod::Rtn, .. })
    }

    /// The options of `joulefront compress` that take this step.
    pub fn options(&self) -> String {
        match self {
            Step::PruneChannels { macs, channels, round_to } => {
                let amount = match (macs, channels) {
                    (Some(m), _) => format!("--prune {}", percent(*m)),
                    (None, c) => format!("--prune-channels {}", percent(c.unwrap_or(0.0))),
                };
                let round = if *round_to == DEFAULT_ROUND_TO { String::new() } else { format!(" --round-to {round_to}") };
                format!("{amount} --granularity channel{round}")
            }
            Step::Factorize { macs, form, round_to } => {
                let form = if is_default(form) { String::new() } else { format!(" --factorize-form {}", word(form)) };
                let round = if *round_to == DEFAULT_ROUND_TO { String::new() } else { format!(" --round-to {round_to}") };
                format!("--factorize {}{form}{round}", percent(*macs))
            }
            Step::PruneConnections { share, pattern, distribution, method } => {
                let mut out = match pattern {
                    Some(pattern) => format!("--granularity {pattern}"),
                    None => format!("--prune {} --granularity connection", percent(share.unwrap_or(0.0))),
                };
                if *distribution == Distribution::PerLayer {
                    out += " --per-layer";
                }
                if !is_default(method) {
                    out += &format!(" --prune-method {}", word(method));
                }
                out
            }
            Step::Quantize { weight_bits, activation_bits, granularity, range, method } => {
                let mut out = format!("--weight-bits {weight_bits}");
                if let Some(bits) = activation_bits {
                    out += &format!(" --activation-bits {bits}");
                }
                if !is_default(granularity) {
                    out += &format!(" --weight-granularity {}", word(granularity));
                }
                if !is_default(range) {
                    out += &format!(" --activation-range {}", word(range));
                }
                if !is_default(method) {
                    out += &format!(" --weight-method {}", word(method));
                }
                out
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::PruneChannels { macs: Some(m), .. } => write!(f, "{} of multiply–adds pruned", percent(*m)),
            Step::PruneChannels { channels, .. } => write!(f, "{} of channels pruned", percent(channels.unwrap_or(0.0))),
            Step::Factorize { macs, form, .. } => {
                write!(f, "{} of multiply–adds factorized away", percent(*macs))?;
                match form {
                    FactorForm::Best => Ok(()),
                    FactorForm::LowRank => f.write_str(" (lower rank)"),
                    FactorForm::Separable => f.write_str(" (depthwise-separable)"),
                }
            }
            Step::PruneConnections { share, pattern, method, .. } => {
                match pattern {
                    Some(pattern) => write!(f, "{pattern} connections kept")?,
                    None => write!(f, "{} of connections pruned", percent(share.unwrap_or(0.0)))?,
                }
                match method {
                    PruneMethod::LeastSquares => Ok(()),
                    PruneMethod::Wanda => f.write_str(" (Wanda)"),
                    PruneMethod::Magnitude => f.write_str(" (magnitude)"),
                }
            }
            Step::Quantize { weight_bits, activation_bits, granularity, range, method } => {
                write!(f, "{weight_bits}-bit weights")?;
                match granularity {
                    WeightGranularity::Channel => {}
                    WeightGranularity::Tensor => f.write_str(" per tensor")?,
                    WeightGranularity::Block32 => f.write_str(" in blocks of 32")?,
                }
                match activation_bits {
                    Some(bits) if bits == weight_bits => f.write_str(" and activations")?,
                    Some(bits) => write!(f, " and {bits}-bit activations")?,
                    None => {}
                }
                if !is_default(range) {
                    write!(f, " ({range} ranges)")?;
                }
                if *method == WeightMethod::Rtn { f.write_str(", rounded to nearest") } else { Ok(()) }
            }
        }
    }
}

impl fmt::Display for ActivationRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ActivationRange::MinMax => "min–max",
            ActivationRange::Percentile => "percentile",
            ActivationRange::Mse => "least-squares",
            ActivationRange::Entropy => "entropy",
        })
    }
}

/// A choice as recipes and the command line write it.
fn word(choice: &impl ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
}

/// A share as the command line takes it back: `0.325` is `32.5%`.
fn percent(share: f64) -> String {
    let tenths = (share * 1e6).round() / 1e4;
    format!("{tenths}%")
}
