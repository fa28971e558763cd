//! Operators that give elements another place.

use super::Step;
use crate::compress::groups::{Change, Layout, MOST, Tracker};
use crate::onnx::Attributes;

impl Step<'_, '_> {
    /// Reshape and its relatives: every element keeps its place in the order, so every entry keeps its unit.
    pub(super) fn reshape(&self, t: &mut Tracker) {
        let Some(layout) = t.layout(self.input()) else { return };
        let label = self.label();
        let (Some(from), Some(to)) = (self.shape_of(self.input()), self.shape_of(self.output())) else {
            return self.freeze_all(t, &format!("the shapes around `{label}` are not known"));
        };
        let Some(out) = layout.reshaped(from, to, MOST).and_then(|l| l.reduced(|a, b| t.same(a, b))) else {
            return self.freeze_all(t, &format!("`{label}` rearranges them"));
        };
        if self.node.op_type() == "Reshape" && !self.count(t, 1, &out) {
            return self.freeze_all(t, &format!("the target of `{label}` is computed in the graph"));
        }
        t.set(self.output(), out);
    }

    /// The integers of input `input`, one for each axis of the output, follow `layout`. `false`: they are computed.
    pub(super) fn count(&self, t: &mut Tracker, input: usize, layout: &Layout) -> bool {
        let Some(sizes) = self.integers(input).filter(|_| self.graph.is_constant(self.name(input))) else { return false };
        for (&axis, &size) in layout.axes.iter().zip(&layout.dims) {
            // What is left to be worked out (−1) follows by itself.
            if sizes.get(axis).is_some_and(|&s| s >= 0) {
                t.site(Change::Count { node: self.index, input: Some(input), position: axis, range: 0..size }, layout, axis);
            }
        }
        true
    }

    pub(super) fn transpose(&self, t: &mut Tracker) {
        let Some(layout) = t.layout(self.input()) else { return };
        let rank = self.rank(self.input());
        let to = |a: usize| match self.node.ints("perm") {
            Some(perm) => perm.iter().position(|&p| p == a as i64),
            None => rank.checked_sub(1 + a),
        };
        match layout.axes.iter().map(|&a| to(a)).collect::<Option<Vec<usize>>>() {
            Some(axes) => t.set(self.output(), layout.moved(&axes)),
            None => self.freeze_all(t, "a Transpose is malformed"),
        }
    }

    /// Rows, tokens or samples are picked: channels pass when they are on another axis. Of a block one axis may be picked
    /// from (queries, keys and values that one matrix makes): it is not the one that shrinks then.
    pub(super) fn gather(&self, t: &mut Tracker) {
        let Some(layout) = t.layout(self.input()) else { return self.freeze_all(t, &format!("`{}` looks them up", self.label())) };
        let rank = self.rank(self.input());
        let axis = self.axis(self.node.int("axis").unwrap_or(0), rank);
        let indices = self.shape_of(self.name(1)).map(<[usize]>::len);
        let (Some(axis), Some(indices), None, false) = (axis, indices, t.layout(self.name(1)), axis.is_some_and(|a| layout.is_along(a)))
        else {
            return self.freeze_all(t, &format!("`{}` picks from them", self.label()));
        };
        let Some(layout) = t.tie(&layout, axis) else { return };
        let moved = |a: usize| if a > axis { a + indices - 1 } else { a };
        t.set(self.output(), layout.moved(&layout.axes.iter().map(|&a| moved(a)).collect::<Vec<_>>()));
    }

    /// Axes are repeated; those of the channels are there already.
    pub(super) fn expand(&self, t: &mut Tracker) {
        let Some(layout) = t.layout(self.input()) else { return };
        let (rank, own) = (self.rank(self.output()), self.rank(self.input()));
        let Some(shift) = rank.checked_sub(own) else {
            return self.freeze_all(t, &format!("the shape of `{}` is not known", self.label()));
        };
        let out = layout.moved(&layout.axes.iter().map(|a| a + shift).collect::<Vec<_>>());
        let sizes = self.integers(1).filter(|_| self.graph.is_constant(self.name(1))).map(<[i64]>::to_vec);
        let Some(sizes) = sizes else {
            return self.freeze_all(t, &format!("the shape of `{}` is computed in the graph", self.label()));
        };
        for (&axis, &size) in out.axes.iter().zip(&out.dims) {
            let position = (axis + sizes.len()).checked_sub(rank);
            if let Some(position) = position.filter(|&p| sizes[p] != 1) {
                t.site(Change::Count { node: self.index, input: Some(1), position, range: 0..size }, &out, axis);
            }
        }
        t.set(self.output(), out);
    }

    /// Sizes that the graph reads off an activation must not be those of its channels.
    pub(super) fn shape(&self, t: &mut Tracker) {
        let Some(layout) = t.layout(self.input()) else { return };
        let rank = self.rank(self.input());
        let start = self.axis(self.node.int("start").unwrap_or(0), rank).unwrap_or(0);
        let read = |axis: i64, sizes: usize| self.axis(axis, sizes).is_none_or(|a| layout.axes.contains(&(a + start)));
        let sizes = self.rank_of_shape(rank, start);
        let harmless = self.graph.consumers(self.output()).iter().all(|reader| {
            let node = self.graph.node(reader.node);
            let values = |input: usize| self.facts.value(node.input.get(input).map_or("", String::as_str)).and_then(|v| v.as_i64().ok());
            match node.op_type() {
                "Gather" if reader.input == 0 => values(1).is_some_and(|v| !v.iter().any(|&a| read(a, sizes))),
                "Slice" if reader.input == 0 => match (values(1), values(2), values(4).map_or(Some(1), |v| v.first().copied())) {
                    (Some(&[from]), Some(&[to]), Some(1)) => {
                        let bound = |b: i64| if b < 0 { b + sizes as i64 } else { b.min(sizes as i64) };
                        (bound(from)..bound(to)).all(|a| !read(a, sizes))
                    }
                    _ => false,
                },
                _ => false,
            }
        });
        if !harmless || self.graph.is_output(self.output()) {
            self.freeze_all(t, &format!("`{}` reads their number", self.label()));
        }
    }

    /// How many sizes a Shape gives.
    fn rank_of_shape(&self, rank: usize, start: usize) -> usize {
        let end = match self.node.int("end") {
            Some(end) if end < 0 => usize::try_from(end + rank as i64).unwrap_or(0),
            Some(end) => usize::try_from(end).unwrap_or(rank).min(rank),
            None => rank,
        };
        end.saturating_sub(start)
    }
}
