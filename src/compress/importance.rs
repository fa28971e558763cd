//! Which channels of a group matter least, and what removing them costs.

use super::calibration::Calibration;
use super::groups::{Channel, Groups};
use super::lanes::{Lane, map_chunks, sum_parts};
use super::least_squares::Eliminator;
use super::statistics::{Moments, Rows, matrix, row_step};
use crate::Result;
use crate::model::{Graph, Layer};
use crate::onnx::Model;
use crate::tensor::Tensor;
use std::collections::{BTreeSet, HashMap};

/// The order in which a group's channels go and the loss after each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ranking {
    /// Channels, the first to go first.
    order: Vec<usize>,
    /// `losses[k]`: loss after the first k channels are gone; non-decreasing, `losses[0] = 0`.
    losses: Vec<f64>,
}

impl Ranking {
    fn new(order: Vec<usize>, steps: impl IntoIterator<Item = f64>) -> Self {
        let mut losses = vec![0.0];
        let mut sum = 0.0;
        for step in steps {
            sum += if step.is_finite() { step.max(0.0) } else { 0.0 };
            losses.push(sum);
        }
        Ranking { order, losses }
    }

    /// Loss once `gone` channels are removed.
    pub(super) fn loss(&self, gone: usize) -> f64 {
        self.losses.get(gone).or(self.losses.last()).copied().unwrap_or(0.0)
    }

    /// The first `count` channels to go.
    pub(super) fn gone(&self, count: usize) -> &[usize] {
        &self.order[..count.min(self.order.len())]
    }
}

/// L1 norms of the filters that produce a channel (each producer scaled to mean 1), smallest first. The loss of a channel
/// is its share of the group's norm.
pub(super) fn by_l1(graph: &Graph<'_>, groups: &Groups, layers: &[Layer]) -> Result<Vec<Ranking>> {
    let mut scores: Vec<Vec<f64>> = groups.groups.iter().map(|g| vec![0.0; g.channels]).collect();
    let producers: BTreeSet<usize> = groups.prunable().flat_map(|(_, g)| g.producers.iter().copied()).collect();
    for producer in producers {
        let (Some(weight), Some(channels)) = (&layers[producer].weight, groups.around(producer).output) else { continue };
        let Some(value) = graph.constant(&weight.name)? else { continue };
        let norms = norms(&value, weight.output_axis)?;
        let mean = norms.iter().sum::<f64>() / norms.len().max(1) as f64;
        for (channel, norm) in channels.iter().zip(&norms) {
            scores[channel.group][channel.index] += norm / mean.max(f64::MIN_POSITIVE);
        }
    }
    let ranking = |score: &Vec<f64>| {
        let total: f64 = score.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let mut order: Vec<usize> = (0..score.len()).collect();
        order.sort_by(|&a, &b| score[a].total_cmp(&score[b]).then(a.cmp(&b)));
        let steps: Vec<f64> = order.iter().map(|&c| score[c] / total).collect();
        Ranking::new(order, steps)
    };
    Ok(scores.iter().map(ranking).collect())
}

/// Sum of the absolute values of each slice along `axis`.
fn norms(value: &Tensor, axis: usize) -> Result<Vec<f64>> {
    let (data, shape) = (value.as_f32()?, value.shape());
    let inner: usize = shape[axis + 1..].iter().product();
    let mut norms = vec![0.0; shape[axis]];
    for (run, values) in data.chunks(inner.max(1)).enumerate() {
        norms[run % shape[axis]] += values.iter().map(|v| f64::from(v.abs())).sum::<f64>();
    }
    Ok(norms)
}

/// A layer that reads channels: how to eliminate its columns, and which of them belong to each channel of a group.
#[derive(Debug, Clone)]
struct Reader {
    eliminator: Eliminator,
    columns: Vec<Vec<usize>>,
}

impl Reader {
    fn new(eliminator: &Eliminator, channels: &[Channel], group: usize, count: usize) -> Self {
        // A convolution has a column for each element of its window.
        let per_entry = eliminator.inputs() / channels.len().max(1);
        let mut columns = vec![Vec::new(); count];
        for (entry, channel) in channels.iter().enumerate().filter(|(_, c)| c.group == group) {
            columns[channel.index].extend(entry * per_entry..(entry + 1) * per_entry);
        }
        Reader { eliminator: eliminator.clone(), columns }
    }
}

/// Optimal-brain-surgeon elimination over all readers of a group: again and again the channel whose removal, after the
/// best refit of every reader, adds least relative error.
pub(super) fn by_least_squares(model: &Model, groups: &Groups, layers: &[Layer], calibration: &Calibration) -> Result<Vec<Ranking>> {
    let eliminators = eliminators(model, groups, layers, calibration)?;
    let l1 = by_l1(&Graph::new(model), groups, layers)?;
    let mut rankings = Vec::new();
    for (number, (group, fallback)) in groups.groups.iter().zip(l1).enumerate() {
        let reader = |c: &usize| Some(Reader::new(eliminators.get(c)?, &groups.around(*c).input?, number, group.channels));
        let mut readers: Vec<Reader> = group.consumers.iter().filter_map(reader).collect();
        if group.frozen.is_some() || readers.is_empty() {
            rankings.push(fallback);
            continue;
        }
        let mut left: Vec<usize> = (0..group.channels).collect();
        let (mut order, mut steps) = (Vec::new(), Vec::new());
        while !left.is_empty() {
            let losses: Vec<f64> = map_chunks(&left, |_, &c| Ok(readers.iter().map(|r| r.eliminator.loss(&r.columns[c])).sum()))?;
            let best = (0..left.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap_or(0);
            let channel = left.remove(best);
            readers.iter_mut().for_each(|r| r.eliminator.remove(&r.columns[channel]));
            order.push(channel);
            steps.push(losses[best]);
        }
        rankings.push(Ranking::new(order, steps));
    }
    Ok(rankings)
}

/// One eliminator per layer that reads a prunable group, from the original's own activations.
fn eliminators(model: &Model, groups: &Groups, layers: &[Layer], calibration: &Calibration) -> Result<HashMap<usize, Eliminator>> {
    let wanted: Vec<usize> = groups.prunable().flat_map(|(_, g)| g.consumers.iter().copied()).collect();
    let graph = Graph::new(model);
    let mut lane = Lane::new(model, calibration)?;
    let mut found = HashMap::new();
    for (number, layer) in layers.iter().enumerate().filter(|(n, _)| wanted.contains(n)) {
        let Ok((node, weight)) = layer.editable() else { continue };
        let Some(value) = graph.constant(&weight.name)? else { continue };
        let w = matrix(&value, weight.output_axis)?;
        let d = w.len() / weight.shape[weight.output_axis].max(1);
        if node > 0 {
            lane.advance_past(node - 1)?;
        }
        let x = &graph.node(node).input[0];
        let Some(shape) = lane.shape(0, x) else { continue };
        let Ok(rows) = Rows::of(layer, graph.node(node), shape, &weight.shape) else { continue };
        let count = lane.chunk_count();
        let total = (0..count).filter_map(|i| lane.shape(i, x)).map(|shape| rows.count(shape)).sum();
        let step = row_step(total, d);
        let add = |i: usize, sum: &mut Moments| match lane.get(i, x)? {
            Some(x) => sum.add(&rows.inputs(&x, step, None)?, &[]),
            None => Ok(()),
        };
        let sum = sum_parts(count, d, || Moments::new(d, 0), add, Moments::merge)?;
        if let Some(e) = sum.centred().and_then(|c| Eliminator::new(&c, w)) {
            found.insert(number, e);
        }
    }
    Ok(found)
}
