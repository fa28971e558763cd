//! A trial: a configuration with everything measured on it. Data only.

use crate::measure::Measurement;
use crate::stats::Interval;
use crate::units::{Bytes, Joules};
use serde::{Deserialize, Serialize};

/// What is run: variant × engine × lowering × threads × batch, and the seed of all randomness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// The recipe as one line for people, which `compress` takes back (`original` for the original file).
    pub recipe: String,
    /// The options of `joulefront compress` that make the same variant; empty for the original.
    pub reproduce: String,
    /// Engine name.
    pub engine: String,
    /// Lowering name: the ONNX form this engine gets (`float`, `dequantize-linear`).
    pub lowering: String,
    /// Threads of the engine.
    pub threads: usize,
    /// Samples per run.
    pub batch: usize,
    /// Seed of everything random.
    pub seed: u64,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was measured.
    Done(Box<Results>),
    /// It ended early; nothing of it counts.
    Failed {
        /// Which step ended it and why, for people.
        reason: String,
    },
}

/// All results of a finished trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// What was built.
    pub variant: VariantFacts,
    /// Accuracy on `validation` (Wilson 95 %), or agreement with the original when there are no labels; share in 0..=1.
    pub accuracy: Option<Interval>,
    /// Original minus this, on the same samples, in percentage points (paired interval).
    pub accuracy_drop_points: Option<Interval>,
    /// Accuracy on `test`, filled once for the final front.
    pub test_accuracy: Option<Interval>,
    /// Latency, memory, energy.
    pub measurement: Measurement,
    /// Ratio to the original on the same engine.
    pub energy_ratio_engine: Option<Interval>,
    /// Energy spent on making the variant, same meter and kind as the measurement.
    pub make_energy: Option<Joules>,
}

/// What the file is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantFacts {
    /// Parameters (elements of weights, biases, normalisation constants).
    pub params: u64,
    /// Multiply–adds of one sample; `None` where a layer's are not known.
    pub macs: Option<u64>,
    /// Size of the file on disk.
    pub model_bytes: Bytes,
    /// Identity of the file.
    pub model_sha256: String,
    /// Reached: share of multiply–adds removed (channels) or of weights zeroed (connections); `None` for the original.
    pub pruning_ratio: Option<f64>,
    /// Parameter-weighted mean bits of the weights (32 for float).
    pub weight_bits: f64,
}

/// One row of a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Number in the study, from 0; 0 is the reference.
    pub id: u64,
    /// What was run.
    pub configuration: Configuration,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Key of the environment record in the study.
    pub environment: String,
}

impl Trial {
    /// The results, when it finished.
    pub fn results(&self) -> Option<&Results> {
        match &self.outcome {
            Outcome::Done(r) => Some(r),
            Outcome::Failed { .. } => None,
        }
    }
}
