//! Operators that put parts together or take them apart.

use super::{Step, slice};
use crate::compress::groups::{Change, Layout, Tracker};
use crate::onnx::Attributes;

impl Step<'_, '_> {
    /// Along the channels: one after the other. Along another axis: the channels of all parts are the same.
    pub(super) fn concat(&self, t: &mut Tracker) {
        let label = self.label();
        let inputs: Vec<&str> = self.node.input.iter().map(String::as_str).collect();
        let layouts: Vec<Option<Layout>> = inputs.iter().map(|i| t.layout(i)).collect();
        let Some(first) = layouts.iter().flatten().next().cloned() else { return };
        let rank = self.rank(self.output());
        let Some(axis) = self.axis(self.node.int("axis").unwrap_or(0), rank) else { return };
        let along = layouts.iter().flatten().any(|l| l.axes.contains(&axis));
        if along {
            // What is not followed has entries too; they stay.
            let fill = |t: &mut Tracker, name: &str| {
                let layout = t.fresh(axis, *self.shape_of(name)?.get(axis)?)?;
                t.freeze(&layout, &format!("`{name}` is not followed"));
                Some(layout)
            };
            let parts: Option<Vec<Layout>> = inputs.iter().zip(&layouts).map(|(name, l)| l.clone().or_else(|| fill(t, name))).collect();
            return match parts.and_then(|parts| Layout::joined(&parts, axis)) {
                Some(out) => t.set(self.output(), out),
                None => self.freeze_all(t, &format!("`{label}` joins differently laid out activations")),
            };
        }
        for (name, layout) in inputs.iter().zip(&layouts) {
            match layout {
                Some(l) if l.axes == first.axes && l.dims == first.dims => t.join_all(&first, l),
                None if self.whole_constant(name, &first) => {
                    first.axes.iter().for_each(|&a| t.site(slice(name, a), &first, a));
                }
                _ => return self.freeze_all(t, &format!("`{label}` joins them with something that is not followed")),
            }
        }
        t.set(self.output(), first);
    }

    /// A constant with an entry for each of the layout's.
    fn whole_constant(&self, name: &str, layout: &Layout) -> bool {
        let Some(shape) = self.shape_of(name) else { return false };
        self.graph.is_constant(name) && layout.axes.iter().zip(&layout.dims).all(|(&a, &d)| shape.get(a) == Some(&d))
    }

    pub(super) fn split(&self, t: &mut Tracker) {
        let Some(layout) = t.layout(self.input()) else { return };
        let label = self.label();
        let rank = self.rank(self.input());
        let Some(axis) = self.axis(self.node.int("axis").unwrap_or(0), rank) else { return };
        let sizes: Option<Vec<usize>> = self.node.output.iter().map(|o| self.shape_of(o)?.get(axis).copied()).collect();
        let (Some(size), Some(sizes)) = (layout.size(axis), sizes) else {
            if layout.axes.contains(&axis) {
                return self.freeze_all(t, &format!("the parts of `{label}` are not known"));
            }
            return self.node.output.iter().for_each(|o| t.set(o, layout.clone()));
        };
        // Older operator sets give the parts as an attribute.
        let input = (self.graph.model().opset() >= 13).then_some(1);
        let given = self.name(1);
        if sizes.iter().sum::<usize>() != size || (!given.is_empty() && !self.graph.is_constant(given)) {
            return self.freeze_all(t, &format!("the parts of `{label}` are computed in the graph"));
        }
        let mut from = 0;
        for (position, (output, size)) in self.node.output.iter().zip(sizes).enumerate() {
            let range = from..from + size;
            from = range.end;
            t.site(Change::Count { node: self.index, input, position, range: range.clone() }, &layout, axis);
            if let Some(part) = layout.part(axis, range) {
                t.set(output, part);
            }
        }
    }

    pub(super) fn slice(&self, t: &mut Tracker) {
        let Some(layout) = t.layout(self.input()) else { return };
        let label = self.label();
        let rank = self.rank(self.input());
        let (Some(starts), Some(ends)) = (self.integers(1), self.integers(2)) else {
            return self.freeze_all(t, &format!("the bounds of `{label}` are computed in the graph, or attributes"));
        };
        let axes: Option<Vec<usize>> = match self.integers(3) {
            Some(axes) => axes.iter().map(|&a| self.axis(a, rank)).collect(),
            None if self.name(3).is_empty() => Some((0..starts.len()).collect()),
            None => None,
        };
        let steps = self.integers(4).map_or_else(|| vec![1; starts.len()], <[i64]>::to_vec);
        let Some(axes) = axes.filter(|a| a.len() == starts.len() && ends.len() == a.len() && steps.len() == a.len()) else {
            return self.freeze_all(t, &format!("the axes of `{label}` are not known"));
        };
        let mut out = layout.clone();
        for (position, &axis) in axes.iter().enumerate() {
            let Some(size) = layout.size(axis) else { continue };
            let bound = |b: i64| usize::try_from(if b < 0 { b.saturating_add(size as i64) } else { b }).unwrap_or(0).min(size);
            let (from, to) = (bound(starts[position]), bound(ends[position]));
            let writable = self.graph.is_constant(self.name(1)) && self.graph.is_constant(self.name(2));
            let part = if steps[position] == 1 && from < to && writable { out.part(axis, from..to) } else { None };
            let Some(part) = part else {
                return self.freeze_all(t, &format!("`{label}` takes them in steps, or its bounds are computed in the graph"));
            };
            for (input, end) in [(1, from), (2, to)] {
                t.site(Change::Count { node: self.index, input: Some(input), position, range: 0..end }, &layout, axis);
            }
            out = part;
        }
        t.set(self.output(), out);
    }
}
