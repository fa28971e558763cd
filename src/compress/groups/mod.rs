//! Prune groups: channels that can only go together.
//!
//! A channel of one layer's output lives on through activations, normalisation, pooling and depthwise layers, and an
//! addition ties it to the same channel of another layer (dependency groups, DepGraph, arXiv 2301.12900). We walk the graph
//! once and follow every single entry of the channel axis of every activation; what must go together becomes one unit of a
//! union–find. So Concat and Split need no rule of their own kind, and attention heads are found and not looked for: the
//! product of queries and keys ties all entries of a head, and the Reshape before it ties the three.

mod edits;
mod layout;
mod settle;
mod tracker;

pub use edits::{Change, Edit};
pub(super) use edits::{apply, scatter};
pub(super) use layout::Layout;
pub(super) use tracker::{MOST, Tracker};

use super::rules;
use crate::Result;
use crate::model::{Facts, Graph, Layer};
use std::collections::HashMap;
use std::sync::Arc;

/// One channel: of a convolution's output a plane, of attention a head, of a grouped convolution one of its groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel {
    /// Index into [`Groups::groups`].
    pub group: usize,
    /// Its number in the group.
    pub index: usize,
}

/// Where the channels of an activation are: entry `e` along `axis` belongs to `channels[e]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelAxis {
    /// Axis of the activation.
    pub axis: usize,
    /// The channel of each entry.
    pub channels: Arc<[Channel]>,
}

/// Channels that are alike: each may go without the others, and each changes the same constants in the same way.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// Number of channels.
    pub channels: usize,
    /// Inputs or outputs of layers that one channel is (their greatest common divisor over the layers): 1 for a plane, the
    /// columns of a head for a head.
    pub width: usize,
    /// Why none of them may go; `None` when they may.
    pub frozen: Option<String>,
    /// Indices (into the layer list) of the layers that produce the channels.
    pub producers: Vec<usize>,
    /// Indices (into the layer list) of the layers that read them.
    pub consumers: Vec<usize>,
}

impl Group {
    /// The least number of channels that are a multiple of `round_to` inputs or outputs of every layer.
    pub fn step(&self, round_to: usize) -> usize {
        let round_to = round_to.max(1);
        round_to / gcd(round_to, self.width.max(1))
    }
}

/// The channels around a layer.
#[derive(Debug, Clone, Default)]
pub(super) struct LayerChannels {
    /// Along the axis of its outputs.
    pub(super) output: Option<Arc<[Channel]>>,
    /// Along the axis of its inputs; `None` for depthwise and grouped layers, whose inputs go with their outputs.
    pub(super) input: Option<Arc<[Channel]>>,
    /// What a product of two activations is computed for: heads, or what it sums over.
    pub(super) over: Option<Arc<[Channel]>>,
}

/// All groups of a model, where their channels are, and what removing some changes.
#[derive(Debug)]
pub struct Groups {
    /// The groups, in the order of their first layer.
    pub groups: Vec<Group>,
    /// What follows the channels.
    pub edits: Vec<Edit>,
    axes: HashMap<String, ChannelAxis>,
    layers: HashMap<usize, LayerChannels>,
}

impl Groups {
    /// Finds the groups of a graph that went through [`super::prepare()`] (no constant is read by two nodes).
    ///
    /// # Errors
    /// A constant cannot be decoded.
    pub fn find(graph: &Graph<'_>, facts: &Facts, layers: &[Layer]) -> Result<Self> {
        // The model's inputs are not followed: what they are tied to stays.
        let mut tracker = Tracker::default();
        let by_node: HashMap<usize, usize> = layers.iter().enumerate().filter_map(|(i, l)| Some((l.node?, i))).collect();
        for index in 0..graph.nodes().len() {
            let layer = by_node.get(&index).map(|&i| (i, &layers[i]));
            rules::follow(&mut tracker, graph, facts, index, layer)?;
        }
        for output in &graph.model().graph().output {
            tracker.freeze_tensor(output.name(), "it is the model's output");
        }
        Ok(tracker.finish())
    }

    /// Where the channels of `tensor` are.
    pub fn axis(&self, tensor: &str) -> Option<&ChannelAxis> {
        self.axes.get(tensor)
    }

    /// Groups whose channels may go.
    pub fn prunable(&self) -> impl Iterator<Item = (usize, &Group)> {
        self.groups.iter().enumerate().filter(|(_, g)| g.frozen.is_none())
    }

    /// The channels around layer number `index`.
    pub(super) fn around(&self, index: usize) -> LayerChannels {
        self.layers.get(&index).cloned().unwrap_or_default()
    }

    /// What is left of the work of layer number `index` when group `g` keeps `counts[g]` channels, 0..1.
    pub(super) fn share(&self, index: usize, counts: &[usize]) -> f64 {
        let Some(layer) = self.layers.get(&index) else { return 1.0 };
        let left = |channels: &Arc<[Channel]>| {
            let kept = |c: &Channel| counts[c.group] as f64 / self.groups[c.group].channels.max(1) as f64;
            channels.iter().map(kept).sum::<f64>() / channels.len().max(1) as f64
        };
        [&layer.output, &layer.input, &layer.over].iter().map(|c| c.as_ref().map_or(1.0, left)).product()
    }
}

/// Which channels stay, by group.
#[derive(Debug, Clone)]
pub(super) struct Kept(Vec<Vec<bool>>);

impl Kept {
    /// Every channel of every group.
    pub(super) fn all(groups: &Groups) -> Self {
        Kept(groups.groups.iter().map(|g| vec![true; g.channels]).collect())
    }

    /// Lets a channel go.
    pub(super) fn remove(&mut self, channel: Channel) {
        self.0[channel.group][channel.index] = false;
    }

    /// True when it stays.
    pub(super) fn has(&self, channel: Channel) -> bool {
        self.0[channel.group][channel.index]
    }

    /// The entries that stay, ascending.
    pub(super) fn entries(&self, channels: &[Channel]) -> Vec<usize> {
        (0..channels.len()).filter(|&e| self.has(channels[e])).collect()
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
