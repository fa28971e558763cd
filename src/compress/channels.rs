//! Channel (neuron) pruning that really shrinks the graph: which channels go, and the edits that remove them.

use super::calibration::Calibration;
use super::groups::{Edit, Groups};
use super::importance::{self, Ranking};
use super::note::Note;
use super::prepare::prepare_to_prune;
use super::repair::{self, Plan};
use crate::model::clean::remove_dead;
use crate::model::{Facts, Graph, Layer, layers};
use crate::onnx::{Attributes, Model};
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};

/// How much is to go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ChannelShare {
    /// This share of the model's multiply–adds; channels go where they cost the output least per multiply–add saved.
    OfMacs(f64),
    /// This share of the channels of every prune group.
    OfChannels(f64),
}

/// A structurally pruned model, and what relates it to the full-size one.
#[derive(Debug, Clone)]
pub struct Pruned {
    /// The smaller model.
    pub model: Model,
    /// What was done to each group of layers.
    pub notes: Vec<Note>,
    /// The graph that was pruned: prepared and, where the variant was repaired, with normalisation folded.
    pub full: Model,
    /// Every edit that was made, with the channels it kept, ascending.
    pub cuts: Vec<(Edit, Vec<usize>)>,
}

/// Axis, entries per channel and kept channels of one cut.
type Placed<'a> = (usize, usize, &'a [usize]);

impl Pruned {
    /// The full-size graph that carries the variant's weights at their old places and zeros where channels were removed. It
    /// computes what the variant does, so that any engine can check the surgery.
    ///
    /// # Errors
    /// A constant cannot be decoded.
    pub fn embedded(&self) -> Result<Model> {
        let mut full = self.full.clone();
        // A constant that was cut along two axes is put back along one after the other.
        let mut put: BTreeMap<&str, Vec<Placed<'_>>> = BTreeMap::new();
        for (edit, kept) in &self.cuts {
            if let Edit::Slice { constant, axis, repeat } = edit {
                put.entry(constant).or_default().push((*axis, *repeat, kept));
            }
        }
        let (small, large) = (Graph::new(&self.model), Graph::new(&self.full));
        for name in self.full.graph().initializer.iter().map(|t| t.name()).chain(put.keys().copied()) {
            let (Some(mut value), Some(shape)) = (small.constant(name)?, large.constant_shape(name)) else { continue };
            // Only weights go back: the target of a Reshape stays the full one.
            if value.dtype() != DType::F32 {
                continue;
            }
            for &(axis, repeat, kept) in put.get(name).into_iter().flatten() {
                value = scatter(&value, axis, &entries(kept, repeat), shape[axis])?;
            }
            full.set_constant(name, &value)?;
        }
        Ok(full)
    }
}

/// Removes channels as [`prune_channels`] does, and keeps what is needed to check it.
///
/// # Errors
/// As [`prune_channels`].
pub fn cut_channels(model: &Model, share: ChannelShare, round_to: usize, calibration: Option<&Calibration>) -> Result<Pruned> {
    let (ChannelShare::OfMacs(s) | ChannelShare::OfChannels(s)) = share;
    if !(0.0..1.0).contains(&s) {
        return Err(Error::bad_input(format!("a pruning share of {s} is not between 0 and 1")));
    }
    let (original, mut notes) = prepare_to_prune(model, calibration.is_some())?;
    let fitting = calibration.map(|c| c.fitting(&original)).transpose()?;
    let calibration = fitting.as_deref();
    let graph = Graph::new(&original);
    let facts = Facts::infer(&original, 1)?;
    let layer_list = layers(&graph, &facts)?;
    let groups = Groups::find(&graph, &facts, &layer_list)?;
    if groups.prunable().next().is_none() {
        let reasons: Vec<String> = groups.groups.iter().filter_map(|g| g.frozen.clone()).collect();
        return Err(Error::bad_input(format!("no channels of this model can be removed: {}", reasons.join("; ")))
            .hint("prune connections instead (--granularity connection), or quantize"));
    }
    let rankings = match calibration {
        Some(c) => importance::by_least_squares(&original, &groups, &layer_list, c)?,
        None => importance::by_l1(&graph, &groups, &layer_list)?,
    };
    let counts = match share {
        ChannelShare::OfChannels(s) => same_share(&groups, s, round_to),
        ChannelShare::OfMacs(s) => allocate(&groups, &layer_list, &rankings, s, round_to),
    };
    let kept: Vec<Option<Vec<usize>>> =
        groups.groups.iter().enumerate().map(|(g, group)| (counts[g] < group.channels).then(|| rankings[g].keep(counts[g]))).collect();
    describe(&groups, &layer_list, &counts, &mut notes);
    let cuts = groups.groups.iter().zip(&kept).filter_map(|(group, kept)| Some((group, kept.as_ref()?)));
    let cuts: Vec<(Edit, Vec<usize>)> = cuts.flat_map(|(group, kept)| group.edits.iter().map(|e| (e.clone(), kept.clone()))).collect();
    let mut variant = original.clone();
    cuts.iter().try_for_each(|(edit, kept)| apply(&mut variant, edit, kept))?;
    clear_stale_shapes(&mut variant);
    if let Some(calibration) = calibration {
        let kept_of = |tensor: &str| {
            let a = groups.axis(tensor)?;
            let kept = kept[a.group].as_ref()?;
            Some(entries(kept, a.repeat))
        };
        let plan = Plan { original: &original, kept: &kept_of, support: &HashMap::new() };
        notes.extend(repair::refit(&mut variant, &plan, calibration)?);
    }
    remove_dead(&mut variant);
    Ok(Pruned { model: variant, notes, full: original, cuts })
}

/// Removes channels, keeping counts at multiples of `round_to` (a count between two of an engine's tiles may buy nothing), and, given
/// calibration samples, repairs what is left by sequential least squares.
///
/// Without calibration samples channels are ranked by the L1 norm of their filters; with them by what removing them adds
/// to the error of their readers after the best refit (optimal brain surgeon).
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

/// The same share of every group, to the nearest multiple of `round_to` and never nothing.
fn same_share(groups: &Groups, share: f64, round_to: usize) -> Vec<usize> {
    groups
        .groups
        .iter()
        .map(|g| match g.frozen {
            Some(_) => g.channels,
            None => {
                let step = round_to.max(1) as f64;
                let target = ((g.channels as f64 * (1.0 - share) / step).round() * step) as usize;
                target.clamp(round_to.clamp(1, g.channels.max(1)), g.channels)
            }
        })
        .collect()
}

/// Greedy allocation: again and again the group whose next `round_to` channels add least loss per multiply–add saved,
/// until the share of multiply–adds is reached as nearly as the steps allow.
fn allocate(groups: &Groups, layer_list: &[Layer], rankings: &[Ranking], share: f64, round_to: usize) -> Vec<usize> {
    let step = round_to.max(1);
    // Layers whose multiply–adds are not known touch no group that may go, so theirs stay what they are.
    let total: u64 = layer_list.iter().filter_map(|l| l.macs.as_ref().ok()).sum();
    // Multiply–adds of the layers that a group's channels touch; no others change with them.
    let touched = |g: usize, counts: &[usize]| {
        let group = &groups.groups[g];
        let readers = group.consumers.iter().filter(|c| !group.producers.contains(c));
        group.producers.iter().chain(readers).map(|&i| groups.macs(&layer_list[i], i, counts)).sum::<u64>()
    };
    let mut counts: Vec<usize> = groups.groups.iter().map(|g| g.channels).collect();
    let mut now = total;
    let target = total as f64 * (1.0 - share);
    while now as f64 > target {
        let candidates = groups.prunable().filter_map(|(g, group)| {
            // The first step down goes to a multiple of the tile.
            let next = (counts[g] - 1) / step * step;
            let next = if next == 0 && counts[g] > step.min(group.channels) { step } else { next };
            if next == 0 || next >= counts[g] {
                return None;
            }
            let mut after = counts.clone();
            after[g] = next;
            let saved = touched(g, &counts).saturating_sub(touched(g, &after)).min(now);
            let loss = rankings[g].loss(group.channels - next) - rankings[g].loss(group.channels - counts[g]);
            // No step that would miss the target by more than not taking it does.
            let nearer = target - ((now - saved) as f64) < now as f64 - target;
            (saved > 0 && nearer).then(|| (loss.max(0.0) / saved as f64, g, next, now - saved))
        });
        let best = candidates.min_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, g, next, after)) = best else { break };
        counts[g] = next;
        now = after;
    }
    counts
}

/// Makes one edit for the kept channels.
fn apply(model: &mut Model, edit: &Edit, kept: &[usize]) -> Result<()> {
    match edit {
        Edit::Slice { constant, axis, repeat } => {
            let value = Graph::new(model)
                .constant(constant)?
                .ok_or_else(|| Error::bad_input(format!("`{constant}` is not a constant of this model")))?;
            model.set_constant(constant, &select(&value, *axis, &entries(kept, *repeat))?)
        }
        Edit::DepthwiseGroup { node } => {
            model.graph_mut().node[*node].set_int("group", kept.len() as i64);
            Ok(())
        }
        Edit::ReshapeTarget { constant, position, repeat } => {
            let mut target = match Graph::new(model).constant(constant)?.map(Tensor::into_data) {
                Some(Data::I64(v)) => v,
                _ => return Err(Error::bad_input(format!("`{constant}` is not a shape"))),
            };
            target[*position] = (kept.len() * repeat) as i64;
            model.set_constant(constant, &Tensor::i64s(target))
        }
    }
}

/// The entries that channels own along an axis.
fn entries(channels: &[usize], repeat: usize) -> Vec<usize> {
    channels.iter().flat_map(|c| c * repeat..(c + 1) * repeat).collect()
}

/// The given entries along `axis`, in the given order.
fn select(t: &Tensor, axis: usize, entries: &[usize]) -> Result<Tensor> {
    let data = t.as_f32()?;
    let size = t.shape()[axis];
    if entries.iter().any(|&e| e >= size) {
        return Err(Error::bad_input(format!("entry outside an axis of {size}")));
    }
    let inner: usize = t.shape()[axis + 1..].iter().product();
    let mut out = Vec::with_capacity(data.len() / size.max(1) * entries.len());
    for block in data.chunks_exact((size * inner).max(1)) {
        for &e in entries {
            out.extend_from_slice(&block[e * inner..(e + 1) * inner]);
        }
    }
    let mut shape = t.shape().to_vec();
    shape[axis] = entries.len();
    Tensor::f32(shape, out)
}

/// The inverse of [`select`]: an axis of `size` with `t`'s entries at the given places and zeros elsewhere.
fn scatter(t: &Tensor, axis: usize, entries: &[usize], size: usize) -> Result<Tensor> {
    let data = t.as_f32()?;
    let inner: usize = t.shape()[axis + 1..].iter().product();
    let mut shape = t.shape().to_vec();
    shape[axis] = size;
    let mut out = vec![0.0; shape.iter().product()];
    let blocks = data.chunks_exact((entries.len() * inner).max(1));
    for (block, out) in blocks.zip(out.chunks_exact_mut((size * inner).max(1))) {
        for (&e, values) in entries.iter().zip(block.chunks_exact(inner.max(1))) {
            out[e * inner..(e + 1) * inner].copy_from_slice(values);
        }
    }
    Tensor::f32(shape, out)
}

/// Intermediate shapes that the exporter wrote down are no longer true; engines check them.
fn clear_stale_shapes(model: &mut Model) {
    model.graph_mut().value_info.clear();
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
