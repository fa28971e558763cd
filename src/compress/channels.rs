//! Channel (neuron, head) pruning that really shrinks the graph: which channels go, and the edits that remove them.

use super::allocate::Budget;
use super::blocks::{self, Block};
use super::calibration::Calibration;
use super::divergence::Judge;
use super::groups::{Change, Channel, Group, Groups, Kept, apply};
use super::importance::{self, Ranking};
use super::note::Note;
use super::prepare::prepare_to_prune;
use super::pruned::{Cut, Pruned};
use super::repair::{self, Plan};
use super::sequential::ROUNDS;
use crate::model::clean::{remove_dead, remove_no_ops};
use crate::model::{Facts, Graph, Layer, layers};
use crate::onnx::Model;
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};

/// Multiply–adds that one candidate of the search may take on samples: 400 of a model of 12.5 million each,
const SEARCH_MACS: f64 = 5e9;
/// and how many samples at least and at most.
const SEARCH_SAMPLES: (f64, f64) = (64.0, 512.0);

/// How much is to go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ChannelShare {
    /// This share of the model's multiply–adds (or of [other costs](ChannelPruning::costs)); channels go where they cost the
    /// answers least for what they save.
    OfMacs(f64),
    /// This share of the channels of every prune group.
    OfChannels(f64),
}

/// What is to be removed.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelPruning {
    /// How much.
    pub share: ChannelShare,
    /// Channel counts stay multiples of this: a count between two of an engine's tiles may buy nothing.
    pub round_to: usize,
    /// What each layer costs at full size, by its name, in any unit: bytes, or joules that were measured. A layer's cost
    /// goes down with its multiply–adds. `None`: the multiply–adds themselves.
    pub costs: Option<BTreeMap<String, f64>>,
}

/// Removes channels as [`prune_channels`] does, and keeps what is needed to check it.
///
/// # Errors
/// As [`prune_channels`].
pub fn cut_channels(model: &Model, share: ChannelShare, round_to: usize, calibration: Option<&Calibration>) -> Result<Pruned> {
    cut_channels_by(model, &ChannelPruning { share, round_to, costs: None }, calibration)
}

/// The same with all settings.
///
/// # Errors
/// As [`prune_channels`]; also when costs are given that are no positive numbers, or not for every layer.
pub fn cut_channels_by(model: &Model, how: &ChannelPruning, calibration: Option<&Calibration>) -> Result<Pruned> {
    let (ChannelShare::OfMacs(share) | ChannelShare::OfChannels(share)) = how.share;
    if !(0.0..1.0).contains(&share) {
        return Err(Error::bad_input(format!("a pruning share of {share} is not between 0 and 1")));
    }
    let (original, mut notes) = prepare_to_prune(model, calibration.is_some())?;
    let facts = Facts::infer(&original, 1)?;
    let layer_list = layers(&Graph::new(&original), &facts)?;
    let groups = Groups::find(&Graph::new(&original), &facts, &layer_list)?;
    let macs: f64 = multiply_adds(&layer_list).iter().sum();
    let samples = calibration.map(|c| Samples::new(c, &original, macs)).transpose()?;
    // Whether a whole block may go only the answers can tell.
    let judged = samples.as_ref().is_some_and(|s| s.judge.is_some()) && matches!(how.share, ChannelShare::OfMacs(_));
    let blocks = if judged { blocks::find(&Graph::new(&original), &facts, &layer_list) } else { Vec::new() };
    if groups.prunable().next().is_none() && blocks.is_empty() {
        let reasons: Vec<String> = groups.groups.iter().filter_map(|g| g.frozen.clone()).collect();
        return Err(Error::bad_input(format!("no channels of this model can be removed: {}", reasons.join("; ")))
            .hint("prune connections instead (--granularity connection), or quantize"));
    }
    let rankings = match &samples {
        Some(s) => importance::by_least_squares(&original, &groups, &layer_list, &s.fit)?,
        None => importance::by_l1(&Graph::new(&original), &groups, &layer_list)?,
    };
    let surgery = Surgery { original: &original, groups: &groups, blocks: &blocks, rankings: &rankings };
    let counts = match how.share {
        ChannelShare::OfChannels(share) => same_share(&groups, share, how.round_to),
        ChannelShare::OfMacs(share) => {
            let costs = how.costs.as_ref().map_or_else(|| Ok(multiply_adds(&layer_list)), |c| costs(c, &layer_list))?;
            let budget = Budget { groups: &groups, blocks: &blocks, costs: &costs, share, round_to: how.round_to };
            match &samples {
                Some(Samples { few, judge: Some(judge), .. }) => budget.allocate(&mut |counts| {
                    let mut variant = surgery.cut(counts)?;
                    surgery.refit(&mut variant, few, 0)?;
                    judge.divergence(&variant.model)
                })?,
                _ => budget.allocate(&mut |counts| Ok(surgery.loss(counts)))?,
            }
        }
    };
    describe(&groups, &layer_list, &counts, &mut notes);
    let gone: Vec<&Block> = blocks.iter().zip(&counts[groups.groups.len()..]).filter(|(_, n)| **n == 0).map(|(b, _)| b).collect();
    let in_blocks: Vec<&str> = gone.iter().flat_map(|b| b.layers.iter().map(|&l| layer_list[l].name.as_str())).collect();
    for block in &gone {
        let names: Vec<&str> = block.layers.iter().map(|&l| layer_list[l].name.as_str()).collect();
        notes.push(Note::changed(&names.join(" + "), "the whole residual block was removed"));
    }
    let mut variant = surgery.cut(&counts)?;
    if let Some(samples) = &samples {
        let plain = variant.model.clone();
        let mut repairs = surgery.refit(&mut variant, &samples.fit, ROUNDS)?;
        repairs.retain(|n| !in_blocks.contains(&n.layer.as_str()));
        notes.extend(samples.judged(&mut variant.model, plain, repairs)?);
    }
    let removed = gone.iter().flat_map(|b| b.constants(&original)).collect();
    if !gone.is_empty() {
        remove_no_ops(&mut variant.model);
    }
    remove_dead(&mut variant.model);
    Ok(Pruned { model: variant.model, notes, full: original, cuts: variant.cuts, removed })
}

/// Removes channels, keeping counts at multiples of `round_to` (a count between two of an engine's tiles may buy nothing), and, given
/// calibration samples, repairs what is left by sequential least squares.
///
/// Without calibration samples channels are ranked by the L1 norm of their filters; with them by what removing them adds
/// to the error of their readers after the best refit (optimal brain surgeon), and how many each group loses follows from
/// what the repaired model's answers lose on samples that are held out.
///
/// # Errors
/// The share is outside 0..1, or the graph has no group whose channels may go: the message gives the reasons.
pub fn prune_channels(
    model: &Model,
    share: ChannelShare,
    round_to: usize,
    calibration: Option<&Calibration>,
) -> Result<(Model, Vec<Note>)> {
    cut_channels(model, share, round_to, calibration).map(|p| (p.model, p.notes))
}

/// Calibration samples by what they are for.
struct Samples {
    /// What is repaired on.
    fit: Calibration,
    /// As many of these as each candidate of the search is repaired on.
    few: Calibration,
    /// The original's answers on others; `None` when there are too few samples to hold some out.
    judge: Option<Judge>,
}

impl Samples {
    fn new(all: &Calibration, original: &Model, macs: f64) -> Result<Self> {
        let few = (SEARCH_MACS / macs.max(1.0)).clamp(SEARCH_SAMPLES.0, SEARCH_SAMPLES.1) as usize;
        let whole = all.fitting(original)?;
        let (fit, judge) = match all.held_out(8) {
            // A model that takes many samples at once may find too few of them.
            Some((fit, held)) => match (fit.fitting(original), held.first(few).fitting(original)) {
                (Ok(fit), Ok(held)) => (fit.into_owned(), Some(Judge::new(original, held.into_owned())?)),
                _ => (whole.into_owned(), None),
            },
            None => (whole.into_owned(), None),
        };
        let few = fit.first(few).fitting(original)?.into_owned();
        Ok(Samples { fit, few, judge })
    }

    /// What the repair did to the answers on the samples held out; `model` is `plain` again where it did harm.
    fn judged(&self, model: &mut Model, plain: Model, repairs: Vec<Note>) -> Result<Vec<Note>> {
        let Some(judge) = &self.judge else { return Ok(repairs) };
        let (before, after) = (judge.divergence(&plain)?, judge.divergence(model)?);
        let held = judge.samples();
        if after <= before || before.is_nan() {
            let line = format!("answers on {held} samples held out: divergence {before:.4} without the repair, {after:.4} with it");
            return Ok(repairs.into_iter().chain([Note::step(line)]).collect());
        }
        *model = plain;
        Ok(vec![Note::step(format!(
            "the repair was undone: on {held} samples held out the answers diverge by {after:.4} with it, by {before:.4} without"
        ))])
    }
}

/// Channels and the order in which they go.
struct Surgery<'a> {
    original: &'a Model,
    groups: &'a Groups,
    blocks: &'a [Block],
    rankings: &'a [Ranking],
}

/// The smaller model, with what was cut and kept.
struct Variant {
    model: Model,
    cuts: Vec<Cut>,
    kept: Kept,
}

impl Surgery<'_> {
    /// What the rankings say of `counts`.
    fn loss(&self, counts: &[usize]) -> f64 {
        let gone = self.groups.groups.iter().zip(counts).map(|(group, count)| group.channels - count);
        gone.zip(self.rankings).map(|(gone, ranking)| ranking.loss(gone)).sum()
    }

    /// The model with `counts` channels in each group (and, after these, 0 for each block that goes), not repaired.
    fn cut(&self, counts: &[usize]) -> Result<Variant> {
        let mut kept = Kept::all(self.groups);
        // There are as many rankings as groups.
        for (group, (&count, ranking)) in counts.iter().zip(self.rankings).enumerate() {
            let gone = ranking.gone(self.groups.groups[group].channels - count);
            gone.iter().for_each(|&index| kept.remove(Channel { group, index }));
        }
        let mut model = self.original.clone();
        let cuts = cut(&mut model, self.groups, &kept)?;
        let flags = counts.iter().skip(self.groups.groups.len());
        self.blocks.iter().zip(flags).filter(|(_, n)| **n == 0).for_each(|(block, _)| block.bypass(&mut model));
        Ok(Variant { model, cuts, kept })
    }

    /// Repairs it by sequential least squares.
    fn refit(&self, variant: &mut Variant, samples: &Calibration, rounds: usize) -> Result<Vec<Note>> {
        let kept = |tensor: &str| Some(variant.kept.entries(&self.groups.axis(tensor)?.channels));
        let plan = Plan { original: self.original, kept: &kept, support: &HashMap::new(), rounds };
        repair::refit(&mut variant.model, &plan, samples)
    }
}

/// Makes all edits; returns what stayed of each constant that was cut.
fn cut(model: &mut Model, groups: &Groups, kept: &Kept) -> Result<Vec<Cut>> {
    let mut cuts = Vec::new();
    for edit in &groups.edits {
        apply(model, edit, kept)?;
        let entries = kept.entries(&edit.channels);
        if let Change::Slice { constant, axis } = &edit.change
            && entries.len() < edit.channels.len()
        {
            cuts.push(Cut { constant: constant.clone(), axis: *axis, kept: entries });
        }
    }
    // Intermediate shapes that the exporter wrote down are no longer true; engines check them.
    model.graph_mut().value_info.clear();
    Ok(cuts)
}

/// The same share of every group, to the nearest multiple of `round_to` and never nothing.
fn same_share(groups: &Groups, share: f64, round_to: usize) -> Vec<usize> {
    let left = |g: &Group| {
        let step = g.step(round_to);
        let target = ((g.channels as f64 * (1.0 - share) / step as f64).round() * step as f64) as usize;
        target.clamp(step.min(g.channels), g.channels)
    };
    groups.groups.iter().map(|g| if g.frozen.is_some() { g.channels } else { left(g) }).collect()
}

/// Multiply–adds of each layer; where they are not known the layer touches no group that may go, so they stay what they are.
fn multiply_adds(layers: &[Layer]) -> Vec<f64> {
    layers.iter().map(|l| l.macs.as_ref().map_or(0.0, |&m| m as f64)).collect()
}

/// The given cost of each layer.
fn costs(given: &BTreeMap<String, f64>, layers: &[Layer]) -> Result<Vec<f64>> {
    let cost = |l: &Layer| match given.get(&l.name) {
        Some(&cost) if cost.is_finite() && cost >= 0.0 => Ok(cost),
        Some(cost) => Err(Error::bad_input(format!("a cost of {cost} for `{}` is not possible", l.name))),
        None => Err(Error::bad_input(format!("there is no cost for `{}`", l.name)).hint("every layer that `inspect` lists needs one")),
    };
    layers.iter().map(cost).collect()
}

/// One line per group.
fn describe(groups: &Groups, layer_list: &[Layer], counts: &[usize], notes: &mut Vec<Note>) {
    for (g, group) in groups.groups.iter().enumerate() {
        let names: Vec<&str> = group.producers.iter().map(|&i| layer_list[i].name.as_str()).collect();
        if names.is_empty() {
            continue;
        }
        let names = names.join(" + ");
        notes.push(match &group.frozen {
            Some(why) => Note::skipped(&names, format!("{} channels stay: {why}", group.channels)),
            None if counts[g] == group.channels => Note::skipped(&names, format!("all {} channels stay at this share", group.channels)),
            None => Note::changed(&names, format!("{} → {} channels", group.channels, counts[g])),
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::tensor::Tensor;

    #[test]
    fn a_repair_that_harms_is_undone_and_said() {
        let original = Model::load("models/fashion-mlp.onnx").unwrap();
        let images = Tensor::f32([32, 1, 28, 28], (0..32 * 784).map(|i| (i * 7919 % 256) as f32 / 255.0).collect::<Vec<_>>()).unwrap();
        let all = Calibration::new("input", &images).unwrap();
        let samples = Samples::new(&all, &original, 1e6).unwrap();
        let mut worse = original.clone();
        let name = original.graph().initializer.iter().find(|t| t.dims.len() == 2).unwrap().name().to_owned();
        let weights = Graph::new(&original).constant(&name).unwrap().unwrap();
        worse.set_constant(&name, &Tensor::f32(weights.shape(), vec![0.0; weights.len()]).unwrap()).unwrap();
        let repair = || vec![Note::changed("layer", "refitted")];

        let mut model = worse.clone();
        let notes = samples.judged(&mut model, original.clone(), repair()).unwrap();
        assert!(notes.len() == 1 && notes[0].detail.starts_with("the repair was undone: on 4 samples held out"), "{notes:?}");
        assert_eq!(model.to_bytes().unwrap(), original.to_bytes().unwrap());

        let mut model = original.clone();
        let notes = samples.judged(&mut model, worse, repair()).unwrap();
        assert!(notes.len() == 2 && notes[1].detail.starts_with("answers on 4 samples held out: divergence"), "{notes:?}");
        assert_eq!(model.to_bytes().unwrap(), original.to_bytes().unwrap());
    }
}
