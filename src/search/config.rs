//! The settings of a sweep: a TOML file, every entry of which has a default.

use super::space::{Space, Strategy};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// All settings. What is left out of the file has the default.
///
/// ```
/// use joulefront::search::SweepConfig;
/// let config = SweepConfig::from_toml("seed = 7\n[space]\nweight_bits = [8]\n", "example").unwrap();
/// assert_eq!(config.seed, 7);
/// assert!(SweepConfig::from_toml("sed = 7", "example").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SweepConfig {
    /// Seed of everything random: the order of trials and of windows.
    pub seed: u64,
    /// How the space is walked.
    pub strategy: Strategy,
    /// Samples of `calibration` that variants are repaired on (all when there are fewer).
    pub calibration_samples: usize,
    /// A trial that takes longer is given up, in seconds.
    pub trial_timeout_s: f64,
    /// What is tried.
    pub space: Space,
    /// How each trial is measured.
    pub measure: Measuring,
}

/// How each trial is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Measuring {
    /// Fresh processes per configuration; intervals need at least 3.
    pub processes: usize,
    /// Blocks (a window of the variant and one of the reference) per process.
    pub blocks: usize,
    /// Length of a window, in seconds.
    pub window_s: f64,
    /// Share of CPU time that others may take before a window does not count; 1 counts every window.
    pub disturbance: f64,
    /// Engine threads.
    pub threads: usize,
    /// Samples per run.
    pub batch: usize,
}

impl Default for SweepConfig {
    fn default() -> Self {
        SweepConfig {
            seed: 0,
            strategy: Strategy::Grid,
            calibration_samples: 512,
            trial_timeout_s: 300.0,
            space: Space::default(),
            measure: Measuring::default(),
        }
    }
}

impl Default for Measuring {
    fn default() -> Self {
        Measuring { processes: 5, blocks: 2, window_s: 0.06, disturbance: 0.05, threads: 1, batch: 1 }
    }
}

impl SweepConfig {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// It cannot be read, names something unknown, or a value is out of range.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
        Self::from_toml(&text, &path.display().to_string())
    }

    /// Parses TOML; `origin` names it in messages.
    ///
    /// # Errors
    /// As [`SweepConfig::load`].
    pub fn from_toml(text: &str, origin: &str) -> Result<Self> {
        let config: SweepConfig = toml::from_str(text)
            .map_err(|e| Error::bad_input(format!("`{origin}` is not a sweep's settings: {}", e.to_string().trim_end())))?;
        config.check().map_err(|e| e.context(format!("`{origin}`")))?;
        Ok(config)
    }

    /// Ranges of all values.
    ///
    /// # Errors
    /// Names the first entry that is out of range.
    pub fn check(&self) -> Result<()> {
        let out = |name: &str, range: &str| Err(Error::bad_input(format!("`{name}` must be {range}")));
        let positive = |v: f64| v.is_finite() && v > 0.0;
        match self {
            c if !(2..=1000).contains(&c.measure.processes) => out("measure.processes", "2 to 1000 (intervals come from fresh processes)"),
            c if !(1..=1000).contains(&c.measure.blocks) => out("measure.blocks", "1 to 1000"),
            c if !positive(c.measure.window_s) || c.measure.window_s > 600.0 => out("measure.window_s", "above 0 and at most 600"),
            c if !(0.0..=1.0).contains(&c.measure.disturbance) => out("measure.disturbance", "0 to 1"),
            c if !(1..=1024).contains(&c.measure.threads) => out("measure.threads", "1 to 1024"),
            c if !(1..=65_536).contains(&c.measure.batch) => out("measure.batch", "1 to 65536"),
            // The upper bound keeps it within the clock's own type.
            c if !positive(c.trial_timeout_s) || c.trial_timeout_s > 1e9 => out("trial_timeout_s", "above 0 and at most 1e9"),
            c if c.calibration_samples == 0 => out("calibration_samples", "at least 1"),
            c => c.space.check(),
        }
    }
}
