//! Factorization: a layer becomes two cheaper ones, of lower rank ([`low_rank`]) or a depthwise and a pointwise one ([`separable`]).
//!
//! What each form of each layer would cost the layer's output is known in closed form from the moments of its inputs; what that does to
//! the model's output is measured once per layer. The forms are then chosen for all layers together, and what is left is fitted.

mod low_rank;
mod separable;

use super::calibration::Calibration;
use super::divergence::{DIVERGENCE, Judge};
use super::note::Note;
use super::prepare::prepare_to_prune;
use super::repair::{self, Plan};
use super::sequential::{Problem, ROUNDS, show_problems};
use super::statistics::tensor_from_matrix;
use crate::model::clean::remove_dead;
use crate::model::{Facts, Graph, Layer, LayerKind, Weight, layers, totals};
use crate::onnx::{Attributes, Model, pb};
use crate::recipe::FactorForm;
use crate::{Error, Result};
use low_rank::LowRank;
use separable::Separable;
use std::collections::HashMap;

/// Halvings of the interval in which the price of a multiply–add is searched.
const HALVINGS: usize = 200;

/// What is to be split, and how far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factorization {
    /// Share of the model's multiply–adds that is to go, 0..1.
    pub macs: f64,
    /// Which pairs of layers may take a layer's place.
    pub form: FactorForm,
    /// Ranks stay multiples of this.
    pub round_to: usize,
}

/// Splits layers in two until a share of the model's multiply–adds is gone, as nearly as the forms allow, and fits what is left to the
/// original's outputs. Forms are chosen so that the errors of all layers' outputs, each weighed by what it does to the model's, are
/// least together.
///
/// # Errors
/// The share is outside 0..1, no layer can be split, the share cannot be reached, or the samples do not fit the model or lead to
/// values that are not finite.
pub fn factorize(model: &Model, how: &Factorization, calibration: &Calibration) -> Result<(Model, Vec<Note>)> {
    let Factorization { macs, form, round_to } = *how;
    if !(0.0..1.0).contains(&macs) || round_to == 0 {
        return Err(Error::bad_input(format!("a share of {macs} of the multiply–adds, in steps of {round_to}, cannot be removed")));
    }
    let (original, mut notes) = prepare_to_prune(model, true)?;
    let calibration = calibration.fitting(&original)?;
    let outputs = Judge::new(&original, calibration.first(DIVERGENCE))?;
    let mut splits: Vec<Split> = Vec::new();
    let outcomes = show_problems(&original, &calibration, &mut |layer, problem| {
        let mut split = match Split::new(layer, problem, how, calibration.portion()) {
            Ok(split) => split,
            Err(why) => return Ok(Err(why)),
        };
        if let Some(probe) = split.forms.get(split.forms.len() / 2).filter(|f| f.error > 0.0) {
            let mut changed = original.clone();
            let weight = &split.weight;
            let value = tensor_from_matrix(&split.product(probe.kind), &weight.shape, weight.output_axis)?;
            changed.set_constant(&weight.name, &value)?;
            split.importance = (outputs.divergence(&changed)? / probe.error).min(f64::MAX);
        }
        splits.push(split);
        Ok(Ok(()))
    })?;
    for outcome in outcomes {
        if let Err(why) = outcome.fitted {
            notes.push(Note::skipped(&outcome.layer, format!("not split: {why}")));
        }
    }
    let facts = Facts::infer(&original, 1)?;
    let graph = Graph::new(&original);
    let all = totals(&graph, &layers(&graph, &facts)?)?.macs.at_least as f64;
    let chosen = choose(&splits, all * macs, form)?;
    let mut variant = original.clone();
    // From the last node to the first, so that the indices of those before stay.
    for (split, form) in splits.iter().zip(&chosen).rev() {
        if let Some(form) = form {
            split.apply(&mut variant, *form)?;
        }
    }
    for (split, form) in splits.iter().zip(&chosen) {
        notes.push(match form {
            Some(Kind::Rank(rank)) => Note::changed(&split.layer, format!("split in two of rank {rank} (of {})", split.o.min(split.d))),
            Some(Kind::Multiplier(1)) => Note::changed(&split.layer, "split in a depthwise and a pointwise one"),
            Some(Kind::Multiplier(m)) => {
                Note::changed(&split.layer, format!("split in a depthwise one with {m} outputs a channel and a pointwise one"))
            }
            None => Note::skipped(&split.layer, "it stays whole: its multiply–adds are worth their price"),
        });
    }
    remove_dead(&mut variant);
    let plan = Plan { original: &original, kept: &|_| None, support: &HashMap::new(), rounds: ROUNDS };
    let fitted = repair::refit(&mut variant, &plan, &calibration)?;
    notes.extend(fitted.into_iter().filter(|n| n.error.is_some()));
    Ok((variant, notes))
}

/// Two layers in the place of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of this rank.
    Rank(usize),
    /// A depthwise one with this many outputs a channel, and a pointwise one.
    Multiplier(usize),
}

/// What a form costs.
#[derive(Debug, Clone, Copy)]
struct Form {
    kind: Kind,
    /// Squared error of the layer's outputs.
    error: f64,
    /// Multiply–adds of one sample.
    macs: f64,
}

/// A layer that can be split.
struct Split {
    layer: String,
    node: usize,
    kind: LayerKind,
    weight: Weight,
    o: usize,
    d: usize,
    /// Multiply–adds of one sample as it is.
    macs: f64,
    /// All that save something.
    forms: Vec<Form>,
    low_rank: LowRank,
    separable: Vec<Separable>,
    /// Divergence of the model's output per squared error of the layer's.
    importance: f64,
}

impl Split {
    /// `batch`: of how many samples the layer's multiply–adds are.
    fn new(layer: &Layer, problem: &Problem, how: &Factorization, batch: usize) -> Result<Self, &'static str> {
        const NO_MATRIX: &str = "its weights are no one matrix";
        let ([c], Ok((node, weight)), Ok(&macs)) = (problem.systems.as_slice(), layer.editable(), layer.macs.as_ref()) else {
            return Err(NO_MATRIX);
        };
        if !matches!(layer.kind, LayerKind::Conv | LayerKind::Gemm | LayerKind::MatMul) {
            return Err(NO_MATRIX);
        }
        let (o, d, macs) = (c.o, c.d, macs as f64 / batch as f64);
        let positions = macs / (o * d) as f64;
        let low_rank = LowRank::new(c, &problem.current).ok_or(NO_MATRIX)?;
        let mut forms = Vec::new();
        if how.form != FactorForm::Separable {
            let most = (o * d).saturating_sub(1) / (o + d) / how.round_to;
            forms.extend((1..=most).map(|i| i * how.round_to).map(|r| Form {
                kind: Kind::Rank(r),
                error: low_rank.error(r),
                macs: positions * (r * (o + d)) as f64,
            }));
        }
        let mut separable = Vec::new();
        if how.form != FactorForm::LowRank && layer.kind == LayerKind::Conv {
            let channels = weight.shape[1];
            let taps = d / channels.max(1);
            for m in 1.. {
                let cost = positions * (channels * m * (taps + o)) as f64;
                if taps == 1 || cost >= macs {
                    break;
                }
                let Some(found) = Separable::fit(c, &problem.current, channels, m) else { break };
                forms.push(Form { kind: Kind::Multiplier(m), error: found.error, macs: cost });
                separable.push(found);
            }
        }
        if forms.is_empty() {
            return Err("no two layers in its place would be cheaper");
        }
        let (layer_name, kind, weight) = (layer.name.clone(), layer.kind, weight.clone());
        Ok(Split { layer: layer_name, node, kind, weight, o, d, macs, forms, low_rank, separable, importance: 1.0 })
    }

    /// The weights that both layers together stand for, o×d.
    fn product(&self, kind: Kind) -> Vec<f64> {
        match kind {
            Kind::Rank(rank) => self.low_rank.product(rank),
            Kind::Multiplier(m) => self.separable[m - 1].product(),
        }
    }

    /// Puts two nodes in the place of the layer's.
    fn apply(&self, model: &mut Model, kind: Kind) -> Result<()> {
        let node = model.graph().node[self.node].clone();
        let axis = self.weight.output_axis;
        let convolution = self.kind == LayerKind::Conv;
        let window = if convolution { self.weight.shape[2..].to_vec() } else { Vec::new() };
        // Where a layer is no convolution its weights are a matrix that may be transposed.
        let shape = |rows: usize, columns: &[usize]| match (convolution, axis, columns) {
            (false, 1, &[d]) => vec![d, rows],
            _ => [&[rows], columns].concat(),
        };
        let inputs = self.weight.shape[1 - axis.min(1)];
        let (first, first_shape, second, between) = match kind {
            Kind::Rank(r) => (self.low_rank.first(r), shape(r, &[&[inputs], &window[..]].concat()), self.low_rank.second(r), r),
            Kind::Multiplier(m) => {
                let found = &self.separable[m - 1];
                (found.depthwise.clone(), shape(inputs * m, &[&[1], &window[..]].concat()), found.pointwise.clone(), inputs * m)
            }
        };
        let second_shape = shape(self.o, &[&[between], &vec![1; window.len()][..]].concat());
        let stem = &self.weight.name;
        let mut constant = |end: &str, w: &[f64], shape: &[usize]| -> Result<String> {
            Ok(model.add_initializer(&format!("{stem}__{end}"), &tensor_from_matrix(w, shape, axis)?))
        };
        let names = [constant("first", &first, &first_shape)?, constant("second", &second, &second_shape)?];
        let middle = model.free_name(&format!("{}__factor", node.output[0]));
        let [first, second] = names;
        let mut thin = node.clone();
        thin.set_name(format!("{}__first", node.name()));
        thin.input = vec![node.input[0].clone(), first];
        thin.output = vec![middle.clone()];
        let mut wide = node.clone();
        wide.input[0] = middle;
        wide.input[1] = second;
        if convolution {
            // The window is the first one's.
            wide.attribute.clear();
            wide.set_ints("kernel_shape", vec![1; window.len()]);
            // An engine does without a convolution that leaves its strides out (rten).
            wide.set_ints("strides", vec![1; window.len()]);
            if let Kind::Multiplier(_) = kind {
                thin.attribute.retain(|a| a.name() != "group");
                thin.set_int("group", inputs as i64);
            }
        }
        let nodes: [pb::NodeProto; 2] = [thin, wide];
        model.graph_mut().node.splice(self.node..=self.node, nodes);
        Ok(())
    }
}

/// The form of each layer, or `None` to leave it whole: those with the least weighed error at the least price of a multiply–add at
/// which `saved` of them go.
fn choose(splits: &[Split], saved: f64, form: FactorForm) -> Result<Vec<Option<Kind>>> {
    let at = |price: f64| -> Vec<Option<&Form>> {
        let cost = |s: &Split, form: Option<&Form>| match form {
            Some(f) => s.importance * f.error + price * f.macs,
            None => price * s.macs,
        };
        let best = |s: &'_ Split| {
            let all = std::iter::once(None).chain(s.forms.iter().enumerate().map(|(i, _)| Some(i)));
            all.min_by(|&a, &b| cost(s, a.map(|i| &s.forms[i])).total_cmp(&cost(s, b.map(|i| &s.forms[i])))).flatten()
        };
        splits.iter().map(|s| best(s).map(|i| &s.forms[i])).collect()
    };
    let reached = |forms: &[Option<&Form>]| splits.iter().zip(forms).map(|(s, f)| f.map_or(0.0, |f| s.macs - f.macs)).sum::<f64>();
    let (mut low, mut high) = (-200.0f64, 200.0f64);
    let most = at(high.exp());
    if reached(&most) < saved {
        let what = match form {
            FactorForm::LowRank => "layers of lower rank save",
            FactorForm::Separable => "depthwise-separable layers save",
            FactorForm::Best => "layers of lower rank and depthwise-separable ones save",
        };
        return Err(Error::bad_input(format!("{what} at most {:.0} multiply–adds of a sample", reached(&most)))
            .hint("ask for a smaller share, a smaller `round_to`, or remove channels"));
    }
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if reached(&at(middle.exp())) >= saved { high = middle } else { low = middle }
    }
    Ok(at(high.exp()).into_iter().map(|f| f.map(|f| f.kind)).collect())
}
