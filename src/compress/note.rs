//! What a compression step did to each layer, or why it left it alone.

use serde::Serialize;

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A step on the whole graph.
    Step,
    /// The layer was changed.
    Changed,
    /// The layer was left alone; the detail says why.
    Skipped,
}

/// One line about one layer or step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Note {
    /// Layer or group; empty for a step on the whole graph.
    pub layer: String,
    /// What happened.
    pub action: Action,
    /// In words, with numbers.
    pub detail: String,
    /// Relative error ‖Δ‖/‖t‖ of the layer's output on the calibration samples after the step, where it was measured.
    pub error: Option<f64>,
}

impl Note {
    /// A step on the whole graph.
    pub(crate) fn step(detail: impl Into<String>) -> Self {
        Note { layer: String::new(), action: Action::Step, detail: detail.into(), error: None }
    }

    /// A layer that was changed.
    pub(crate) fn changed(layer: &str, detail: impl Into<String>) -> Self {
        Note { layer: layer.to_owned(), action: Action::Changed, detail: detail.into(), error: None }
    }

    /// A layer that was left alone.
    pub(crate) fn skipped(layer: &str, why: impl Into<String>) -> Self {
        Note { layer: layer.to_owned(), action: Action::Skipped, detail: why.into(), error: None }
    }
}
