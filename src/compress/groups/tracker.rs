//! Union–find over the entries of channel axes while the graph is walked.

use super::edits::Change;
use super::layout::Layout;
use std::collections::HashMap;
use std::sync::Arc;

/// Entries of one activation that are followed at most: a bound on what a strange file can cost.
pub(in crate::compress) const MOST: usize = 1 << 20;

/// A change that follows what is kept along an axis of an activation.
#[derive(Debug, Clone)]
pub(in crate::compress) struct Site {
    pub(in crate::compress) change: Change,
    pub(in crate::compress) layout: Layout,
    /// The axis of the activation; nothing is changed when another of the block is the one that shrinks.
    pub(in crate::compress) axis: usize,
}

/// Layouts around a layer: of its outputs, and of its inputs where these can go alone.
#[derive(Debug, Clone, Default)]
pub(super) struct Around {
    pub(super) output: Option<Layout>,
    pub(super) input: Option<Layout>,
    /// What a product of two activations is computed for.
    pub(super) over: Option<Layout>,
}

/// What is known so far.
#[derive(Debug, Default)]
pub(in crate::compress) struct Tracker {
    /// A unit's parent; roots are their own. The smallest unit of a set is its root.
    parent: Vec<u32>,
    /// By root: why the set may not go.
    why: Vec<Option<Arc<str>>>,
    pub(super) layouts: HashMap<String, Layout>,
    pub(super) sites: Vec<Site>,
    pub(super) layers: HashMap<usize, Around>,
}

impl Tracker {
    /// New units along `axis`; `None` when there is nothing to follow: no entries, or more than we bear.
    pub(in crate::compress) fn fresh(&mut self, axis: usize, count: usize) -> Option<Layout> {
        let first = self.parent.len();
        let end = first.checked_add(count).and_then(|end| u32::try_from(end).ok())?;
        if count == 0 || count > MOST {
            return None;
        }
        let units: Vec<u32> = (first as u32..end).collect();
        self.parent.extend_from_slice(&units);
        self.why.resize(end as usize, None);
        Some(Layout::line(axis, units))
    }

    /// Where the channels of an activation are.
    pub(in crate::compress) fn layout(&self, tensor: &str) -> Option<Layout> {
        self.layouts.get(tensor).cloned()
    }

    /// `tensor` has its channels there. A single one is not followed: it cannot go.
    pub(in crate::compress) fn set(&mut self, tensor: &str, layout: Layout) {
        if let Some(layout) = layout.reduced(|a, b| self.root(a) == self.root(b)) {
            self.layouts.insert(tensor.to_owned(), layout);
        }
    }

    /// A change that follows the entries along `axis`.
    pub(in crate::compress) fn site(&mut self, change: Change, layout: &Layout, axis: usize) {
        self.sites.push(Site { change, layout: layout.clone(), axis });
    }

    /// Layer number `index` makes the channels `output`.
    pub(in crate::compress) fn makes(&mut self, index: usize, output: &Layout) {
        self.layers.entry(index).or_default().output = Some(output.clone());
    }

    /// Layer number `index` mixes the channels `input`.
    pub(in crate::compress) fn reads(&mut self, index: usize, input: &Layout) {
        self.layers.entry(index).or_default().input = Some(input.clone());
    }

    /// Layer number `index`, a product of two activations, is computed for the channels `over`.
    pub(in crate::compress) fn computes(&mut self, index: usize, over: &Layout) {
        self.layers.entry(index).or_default().over = Some(over.clone());
    }

    pub(super) fn root(&self, mut unit: u32) -> u32 {
        while self.parent[unit as usize] != unit {
            unit = self.parent[unit as usize];
        }
        unit
    }

    /// True when both units go together.
    pub(in crate::compress) fn same(&self, a: u32, b: u32) -> bool {
        self.root(a) == self.root(b)
    }

    /// Number of units so far.
    pub(super) fn len(&self) -> u32 {
        self.parent.len() as u32
    }

    /// Why the set of `root` may not go.
    pub(super) fn reason(&self, root: u32) -> Option<&Arc<str>> {
        self.why[root as usize].as_ref()
    }

    /// Both units go together from now on.
    pub(in crate::compress) fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.shorten(a), self.shorten(b));
        if a != b {
            let (first, second) = (a.min(b), a.max(b));
            self.parent[second as usize] = first;
            let other = self.why[second as usize].take();
            let why = &mut self.why[first as usize];
            *why = why.take().or(other);
        }
    }

    /// The entries of both layouts, which are of the same block, go together one by one.
    pub(in crate::compress) fn join_all(&mut self, a: &Layout, b: &Layout) {
        a.units.iter().zip(b.units.iter()).for_each(|(&a, &b)| self.join(a, b));
    }

    /// Entries that differ only along `axis` go together; returns the block without that axis.
    pub(in crate::compress) fn tie(&mut self, layout: &Layout, axis: usize) -> Option<Layout> {
        let Some(p) = layout.axes.iter().position(|&a| a == axis) else { return Some(layout.clone()) };
        let inner: usize = layout.dims[p + 1..].iter().product();
        for (e, &unit) in layout.units.iter().enumerate() {
            self.join(unit, layout.units[e - layout.index(p, e) * inner]);
        }
        layout.clone().reduced(|a, b| self.same(a, b))
    }

    /// From now on no unit of this layout may go; the first reason stays.
    pub(in crate::compress) fn freeze(&mut self, layout: &Layout, why: &str) {
        let why: Arc<str> = Arc::from(why);
        for &unit in layout.units.iter() {
            let root = self.shorten(unit);
            self.why[root as usize].get_or_insert_with(|| why.clone());
        }
    }

    /// Freezes the units of an activation, if its channels are followed.
    pub(in crate::compress) fn freeze_tensor(&mut self, tensor: &str, why: &str) {
        if let Some(layout) = self.layout(tensor) {
            self.freeze(&layout, why);
        }
    }

    /// The root, with the way to it shortened.
    fn shorten(&mut self, mut unit: u32) -> u32 {
        let root = self.root(unit);
        while self.parent[unit as usize] != root {
            unit = std::mem::replace(&mut self.parent[unit as usize], root);
        }
        root
    }
}
