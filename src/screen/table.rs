//! What screening found: rows, and what follows from them.

use super::Pays;
use crate::lower::Form;
use crate::measure::{Beside, Measurement};
use crate::stats::{Interval, Verdict};
use crate::units::Seconds;
use serde::{Deserialize, Serialize};

/// All that was screened for one model on one machine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Screening {
    /// Whole models.
    pub ways: Vec<Way>,
    /// Layers alone.
    pub layers: Vec<LayerWay>,
    /// What could not be screened, and why.
    #[serde(default)]
    pub remarks: Vec<String>,
    /// How long it took.
    pub took: Seconds,
}

/// One way to run the model: a form on an engine, on so many threads, in batches of so many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// What was done to the model: `original`, or a quantization.
    pub recipe: String,
    /// The engine.
    pub engine: String,
    /// The form.
    pub form: Form,
    /// The layers that have the form, where it is chosen layer by layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<String>>,
    /// Threads of the engine.
    pub threads: usize,
    /// Samples per run.
    pub batch: usize,
    /// The batch was left open for the engine.
    #[serde(default)]
    pub symbolic: bool,
    /// What came of it.
    pub outcome: Outcome,
}

/// One layer, or several of the same operator, weights and input shape, in a form on an engine; batch 1, one thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerWay {
    /// Names of the layers.
    pub layers: Vec<String>,
    /// Operator, weights and input: `Conv 16x16x3x3 on 16x28x28`.
    pub shape: String,
    /// The operator alone.
    pub operator: String,
    /// Share of the model's multiply–adds, all its layers together.
    pub macs_share: Option<f64>,
    /// The engine.
    pub engine: String,
    /// The form.
    pub form: Form,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It was measured.
    Measured(Figures),
    /// The engine refuses it or ends over it, or the form cannot be made: why.
    Refused {
        /// For people.
        reason: String,
    },
    /// The engine computes something else than the file says.
    Wrong {
        /// For people.
        reason: String,
    },
}

/// What was measured, per sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Energy of an inference, joules.
    pub energy_j: Option<Interval>,
    /// To the reference: the original on the first engine, threads and batch.
    pub energy_ratio: Option<Interval>,
    /// Median latency.
    pub latency_p50: Seconds,
    /// Mean latency to the reference's.
    pub latency_ratio: Option<Interval>,
    /// To the float form on the same engine, threads and batch; to its one-thread, batch-1 form for other threads and batches of the
    /// float form itself. `None` for what all others are compared with.
    pub own: Option<Beside>,
}

impl Figures {
    /// From a measurement.
    pub(super) fn of(m: &Measurement) -> Self {
        Figures {
            energy_j: m.energy.as_ref().map(|e| e.gross),
            energy_ratio: m.energy.as_ref().and_then(|e| e.ratio),
            latency_p50: m.latency.p50,
            latency_ratio: m.latency.ratio,
            own: m.beside,
        }
    }

    /// What it shows against the float form.
    pub fn pays(&self) -> Option<Pays> {
        self.own.as_ref().map(Pays::of)
    }

    /// What one inference costs, to compare ways with each other: the energy ratio to the reference, or the time's where no energy is
    /// known.
    pub fn cost(&self) -> Option<f64> {
        self.energy_ratio.or(self.latency_ratio).map(|r| r.value)
    }
}

impl Way {
    /// The figures, where there are some.
    pub fn figures(&self) -> Option<&Figures> {
        match &self.outcome {
            Outcome::Measured(figures) => Some(figures),
            _ => None,
        }
    }

    /// True for the original itself with its dimensions fixed.
    pub fn is_original(&self) -> bool {
        self.recipe == ORIGINAL && self.form == Form::Float && !self.symbolic
    }
}

/// The recipe of the original.
pub(super) const ORIGINAL: &str = "original";

/// A form that a search may try on an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The form.
    pub form: Form,
    /// The layers that get it; `None` for all that can.
    pub layers: Option<Vec<String>>,
}

impl Screening {
    /// The forms that are worth trying on an engine: [`Form::Float`] where the engine runs the original and runs it right, and of the
    /// others those that were measured to save. [`Form::DequantizeLinear`] need not save: it must not cost, as its file is smaller.
    pub fn offers(&self, engine: &str) -> Vec<Offer> {
        let mut offers: Vec<Offer> = Vec::new();
        for form in Form::ALL {
            let of_form = || self.ways.iter().filter(|w| w.engine == engine && w.form == form && !w.symbolic);
            if of_form().any(|w| matches!(w.outcome, Outcome::Wrong { .. })) {
                continue;
            }
            let enough = |pays: Option<Pays>| match (form, pays) {
                (Form::Float, _) | (_, Some(Pays::Saves)) => true,
                (Form::DequantizeLinear, Some(pays)) => pays != Pays::Costs,
                _ => false,
            };
            // Where it saves at one number of threads or batch and costs at another, trials decide.
            let found = of_form().find(|w| w.figures().is_some_and(|f| enough(f.pays())));
            offers.extend(found.map(|w| Offer { form, layers: w.layers.clone() }));
        }
        let runs = offers.iter().any(|o| o.form == Form::Float);
        if runs { offers } else { Vec::new() }
    }

    /// The way of the original that costs least on an engine, if it is shown to cost less than at the first threads and batch; the
    /// threads and the batch.
    pub fn best_setting(&self, engine: &str) -> Option<(usize, usize)> {
        let saves = |f: &Figures| match f.own?.energy {
            Some(energy) => (energy.verdict == Verdict::Better).then(|| f.cost()).flatten(),
            None => f.own?.latency.filter(|l| l.verdict == Verdict::Better).and(f.cost()),
        };
        let ways = self.ways.iter().filter(|w| w.engine == engine && w.is_original());
        let cheaper = ways.filter_map(|w| Some((saves(w.figures()?)?, (w.threads, w.batch))));
        cheaper.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, setting)| setting)
    }

    /// What an inference costs in a form on an engine at these threads and batch, as a ratio to the reference.
    pub fn cost(&self, engine: &str, form: Form, (threads, batch): (usize, usize)) -> Option<f64> {
        let same = |w: &&Way| (w.engine.as_str(), w.form, w.threads, w.batch, w.symbolic) == (engine, form, threads, batch, false);
        self.ways.iter().filter(same).filter_map(|w| w.figures()?.cost()).min_by(f64::total_cmp)
    }
}

impl Screening {
    /// The layers that a form, which is chosen layer by layer, saves energy in on an engine. `None` when no layer was screened in it.
    pub(super) fn layers_for(&self, engine: &str, form: Form) -> Option<Vec<String>> {
        let rows: Vec<&LayerWay> = self.layers.iter().filter(|l| l.engine == engine && l.form == form).collect();
        let saves = |l: &&&LayerWay| matches!(&l.outcome, Outcome::Measured(f) if f.pays() == Some(Pays::Saves));
        (!rows.is_empty()).then(|| rows.iter().filter(saves).flat_map(|l| l.layers.iter().cloned()).collect())
    }
}
