//! Prune groups: channels that can only go together.
//!
//! A channel of one layer's output lives on through activations, normalisation, pooling and depthwise layers, and an
//! addition ties it to the same channel of another layer (dependency groups, DepGraph, arXiv 2301.12900). We walk the
//! graph once, follow the channel axis of every activation, and join what must stay aligned with a union–find.

use super::rules;
use crate::Result;
use crate::model::{Facts, Graph, Layer, LayerKind};
use std::collections::HashMap;

/// Where the channels of an activation are: `axis` holds `channels × repeat` entries, and channel `c` owns the entries
/// `c·repeat .. (c+1)·repeat` (`repeat` is above 1 after a Flatten).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelAxis {
    /// Index into [`Groups::groups`].
    pub group: usize,
    /// Axis of the activation.
    pub axis: usize,
    /// Entries per channel.
    pub repeat: usize,
}

/// An edit that removing channels of a group makes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Edit {
    /// Keep the entries of the kept channels along `axis` of a constant.
    Slice {
        /// Name of the constant.
        constant: String,
        /// Axis of the constant.
        axis: usize,
        /// Entries per channel.
        repeat: usize,
    },
    /// Set the `group` attribute of a depthwise convolution to the number of kept channels.
    DepthwiseGroup {
        /// Index of the node.
        node: usize,
    },
    /// Set entry `position` of a Reshape's target to kept channels × `repeat`.
    ReshapeTarget {
        /// Name of the constant.
        constant: String,
        /// Entry of the target shape.
        position: usize,
        /// Entries per channel.
        repeat: usize,
    },
}

/// Channels that can only go together.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// Number of channels.
    pub channels: usize,
    /// Why none of them may go; `None` when they may.
    pub frozen: Option<String>,
    /// What removing some of them changes.
    pub edits: Vec<Edit>,
    /// Indices (into the layer list) of the layers that produce the channels.
    pub producers: Vec<usize>,
    /// Indices (into the layer list) of the layers that read them.
    pub consumers: Vec<usize>,
}

/// All groups of a model and the channel axis of every activation.
#[derive(Debug)]
pub struct Groups {
    /// The groups, in the order of their first layer.
    pub groups: Vec<Group>,
    axes: HashMap<String, ChannelAxis>,
    /// By layer: the group that its output channels belong to, and the one that it reads.
    of_layer: HashMap<usize, (Option<usize>, Option<usize>)>,
}

impl Groups {
    /// Finds the groups of a graph that went through [`super::prepare()`] (no constant is read by two nodes).
    ///
    /// # Errors
    /// A constant cannot be decoded.
    pub fn find(graph: &Graph<'_>, facts: &Facts, layers: &[Layer]) -> Result<Self> {
        let mut tracker = Tracker::default();
        for input in graph.inputs() {
            if let Some(shape) = facts.shape(input.name())
                && shape.len() > 1
            {
                let set = tracker.new_set(shape[1]);
                tracker.freeze(set, "it is the model's input");
                tracker.axes.insert(input.name().to_owned(), ChannelAxis { group: set, axis: 1, repeat: 1 });
            }
        }
        let by_node: HashMap<usize, usize> = layers.iter().enumerate().filter_map(|(i, l)| Some((l.node?, i))).collect();
        for index in 0..graph.nodes().len() {
            let layer = by_node.get(&index).map(|&i| (i, &layers[i]));
            rules::follow(&mut tracker, graph, facts, index, layer)?;
        }
        for output in &graph.model().graph().output {
            if let Some(a) = tracker.axes.get(output.name()).copied() {
                tracker.freeze(a.group, "it is the model's output");
            }
        }
        Ok(tracker.finish())
    }

    /// Where the channels of `tensor` are.
    pub fn axis(&self, tensor: &str) -> Option<ChannelAxis> {
        self.axes.get(tensor).copied()
    }

    /// Groups whose channels may go.
    pub fn prunable(&self) -> impl Iterator<Item = (usize, &Group)> {
        self.groups.iter().enumerate().filter(|(_, g)| g.frozen.is_none())
    }

    /// Multiply–adds of `layer` when group `g` keeps `kept[g]` channels; those of a layer of a prunable group are always known.
    pub fn macs(&self, layer: &Layer, index: usize, kept: &[usize]) -> u64 {
        let share = |g: usize| kept[g] as f64 / self.groups[g].channels.max(1) as f64;
        let (produced, read) = self.of_layer.get(&index).copied().unwrap_or_default();
        let (out, input) = (produced.map_or(1.0, share), read.map_or(1.0, share));
        let factor = if layer.kind == LayerKind::DepthwiseConv { out } else { out * input };
        layer.macs.as_ref().map_or(0, |&macs| (macs as f64 * factor).round() as u64)
    }
}

/// Union–find over channel sets while the graph is walked.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    parent: Vec<usize>,
    sets: Vec<Group>,
    pub(super) axes: HashMap<String, ChannelAxis>,
}

impl Tracker {
    /// A new set of `channels`.
    pub(super) fn new_set(&mut self, channels: usize) -> usize {
        self.parent.push(self.sets.len());
        self.sets.push(Group { channels, ..Group::default() });
        self.sets.len() - 1
    }

    fn root(&self, mut set: usize) -> usize {
        while self.parent[set] != set {
            set = self.parent[set];
        }
        set
    }

    /// The set of a group, to add to it.
    pub(super) fn set_mut(&mut self, set: usize) -> &mut Group {
        let root = self.root(set);
        &mut self.sets[root]
    }

    /// Number of channels of a set.
    pub(super) fn channels(&self, set: usize) -> usize {
        self.sets[self.root(set)].channels
    }

    /// From now on no channel of this set may go; the first reason stays.
    pub(super) fn freeze(&mut self, set: usize, why: impl Into<String>) {
        self.set_mut(set).frozen.get_or_insert(why.into());
    }

    /// Freezes the set of an activation, if its channels are followed.
    pub(super) fn freeze_tensor(&mut self, tensor: &str, why: &str) {
        if let Some(a) = self.axes.get(tensor).copied() {
            self.freeze(a.group, why);
        }
    }

    /// The channels of both sets go together from now on.
    pub(super) fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return;
        }
        let (first, second) = (a.min(b), a.max(b));
        self.parent[second] = first;
        let other = std::mem::take(&mut self.sets[second]);
        let set = &mut self.sets[first];
        if set.channels != other.channels {
            set.frozen.get_or_insert(format!("it joins {} with {} channels", set.channels, other.channels));
        }
        if let Some(why) = other.frozen {
            set.frozen.get_or_insert(why);
        }
        set.edits.extend(other.edits);
        set.producers.extend(other.producers);
        set.consumers.extend(other.consumers);
    }

    /// Groups in the order of their first tensor.
    fn finish(mut self) -> Groups {
        let mut number: HashMap<usize, usize> = HashMap::new();
        let mut groups = Vec::new();
        for set in 0..self.sets.len() {
            if self.parent[set] == set {
                number.insert(set, groups.len());
                let mut group = std::mem::take(&mut self.sets[set]);
                group.edits.sort();
                group.edits.dedup();
                group.producers.sort_unstable();
                group.producers.dedup();
                group.consumers.sort_unstable();
                group.consumers.dedup();
                groups.push(group);
            }
        }
        let axes = self.axes.iter().map(|(t, a)| (t.clone(), ChannelAxis { group: number[&self.root(a.group)], ..*a })).collect();
        let mut of_layer: HashMap<usize, (Option<usize>, Option<usize>)> = HashMap::new();
        for (number, group) in groups.iter().enumerate() {
            group.producers.iter().for_each(|&layer| of_layer.entry(layer).or_default().0 = Some(number));
            group.consumers.iter().for_each(|&layer| of_layer.entry(layer).or_default().1 = Some(number));
        }
        Groups { groups, axes, of_layer }
    }
}
