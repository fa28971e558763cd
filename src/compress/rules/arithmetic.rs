//! Operators that compute: element by element, over windows, along an axis.

use super::{Step, slice};
use crate::compress::groups::{Layout, MOST, Tracker};
use crate::onnx::Attributes;
use std::collections::BTreeMap;

impl Step<'_, '_> {
    /// The output has the input's channels on the same axis.
    pub(super) fn pass(&self, t: &mut Tracker) {
        if let Some(layout) = t.layout(self.input()) {
            t.set(self.output(), layout);
        }
    }

    /// Windows over the spatial axes leave channels alone.
    pub(super) fn spatial(&self, t: &mut Tracker) {
        match t.layout(self.input()) {
            Some(layout) if layout.is_along(1) => t.set(self.output(), layout),
            _ => self.freeze_all(t, &format!("`{}` pools over them", self.label())),
        }
    }

    /// Normalisation of each channel by itself, with parameters along axis 1.
    pub(super) fn norm_of_channels(&self, t: &mut Tracker) {
        let Some(layout) = t.layout(self.input()) else { return };
        if !layout.is_along(1) {
            return self.freeze_all(t, &format!("`{}` normalises another axis", self.label()));
        }
        let constants: Vec<&String> = self.node.input.iter().skip(1).collect();
        if !constants.iter().all(|c| self.graph.is_constant(c)) {
            return self.freeze_all(t, &format!("`{}` has computed parameters", self.label()));
        }
        for constant in constants {
            t.site(slice(constant, 0), &layout, 1);
        }
        t.set(self.output(), layout);
    }

    /// Operators that combine all entries along an axis, or along all from one on: other axes pass.
    pub(super) fn along(&self, t: &mut Tracker) {
        let Some(layout) = t.layout(self.input()) else { return };
        let rank = self.rank(self.input());
        let op = self.node.op_type();
        let old_softmax = matches!(op, "Softmax" | "LogSoftmax" | "Hardmax") && self.graph.model().opset() < 13;
        let default = if old_softmax {
            1
        } else if matches!(op, "ArgMax" | "ArgMin") {
            0
        } else {
            -1
        };
        let given =
            if op == "CumSum" { self.integers(1).and_then(|v| v.first().copied()) } else { Some(self.node.int("axis").unwrap_or(default)) };
        let Some(axis) = given.and_then(|a| self.axis(a, rank)) else {
            return self.freeze_all(t, &format!("the axis of `{}` is not known", self.label()));
        };
        let to_the_end = old_softmax || matches!(op, "LayerNormalization" | "RMSNormalization");
        let touched = |a: usize| a == axis || (to_the_end && a > axis);
        if layout.axes.iter().any(|&a| touched(a)) {
            let what = if op.contains("Norm") { "normalises" } else { "runs" };
            return self.freeze_all(t, &format!("`{}` {what} over them", self.label()));
        }
        let gone = matches!(op, "ArgMax" | "ArgMin") && self.node.int("keepdims") == Some(0);
        let axes: Vec<usize> = layout.axes.iter().map(|&a| a - usize::from(gone && a > axis)).collect();
        t.set(self.output(), layout.moved(&axes));
    }

    /// Broadcasting arithmetic: what is combined element by element goes together, constants are cut along with it.
    pub(super) fn elementwise(&self, t: &mut Tracker) {
        let label = self.label();
        let rank = self.rank(self.output());
        let followed: Vec<(&str, Layout)> = self.node.input.iter().filter_map(|i| Some((i.as_str(), t.layout(i)?))).collect();
        if followed.is_empty() {
            return;
        }
        let placed: Option<Vec<Layout>> = followed
            .iter()
            .map(|(name, l)| {
                let shift = rank.checked_sub(self.rank(name)).filter(|_| self.rank(name) > 0)?;
                Some(l.moved(&l.axes.iter().map(|a| a + shift).collect::<Vec<_>>()))
            })
            .collect();
        let Some(placed) = placed else { return self.freeze_all(t, &format!("`{label}` has operands of unknown shape")) };
        // The axes of all: an operand that does not change along one of them is spread over it.
        let mut block: BTreeMap<usize, usize> = BTreeMap::new();
        let mut fits = true;
        for layout in &placed {
            for (&axis, &size) in layout.axes.iter().zip(&layout.dims) {
                fits &= *block.entry(axis).or_insert(size) == size;
            }
        }
        let (axes, dims): (Vec<usize>, Vec<usize>) = block.into_iter().unzip();
        let overlap = placed.iter().all(|l| l.axes.iter().any(|a| placed[0].axes.contains(a)));
        if !fits || !overlap || dims.iter().product::<usize>() > MOST {
            return self.freeze_all(t, &format!("`{label}` combines differently laid out activations"));
        }
        let all: Vec<Layout> = placed.iter().map(|l| if l.axes == axes { l.clone() } else { l.spread(&axes, &dims) }).collect();
        let others: Vec<&str> =
            self.node.input.iter().map(String::as_str).filter(|n| !n.is_empty() && !followed.iter().any(|(f, _)| f == n)).collect();
        if let Some(name) = others.into_iter().find(|name| !self.follow_constant(t, name, &all[0], rank)) {
            return self.freeze_all(t, &format!("`{label}` combines them with `{name}`, whose channels are not followed"));
        }
        all[1..].iter().for_each(|other| t.join_all(&all[0], other));
        t.set(self.output(), all[0].clone());
    }

    /// A reduction over other axes keeps the channels; one over the channels mixes them.
    pub(super) fn reduce(&self, t: &mut Tracker) {
        let Some(layout) = t.layout(self.input()) else { return };
        let rank = self.rank(self.input());
        let given = if self.name(1).is_empty() { self.node.ints("axes") } else { self.integers(1) };
        let axes: Option<Vec<usize>> = given.filter(|g| !g.is_empty()).and_then(|g| g.iter().map(|&a| self.axis(a, rank)).collect());
        let Some(axes) = axes.filter(|axes| !layout.axes.iter().any(|a| axes.contains(a))) else {
            return self.freeze_all(t, &format!("`{}` reduces over them", self.label()));
        };
        let keep = self.node.int("keepdims").unwrap_or(1) == 1;
        let before = |a: usize| if keep { 0 } else { axes.iter().filter(|&&x| x < a).count() };
        t.set(self.output(), layout.moved(&layout.axes.iter().map(|&a| a - before(a)).collect::<Vec<_>>()));
    }

    /// Resize and Pad of other axes.
    pub(super) fn resize(&self, t: &mut Tracker) {
        let Some(layout) = t.layout(self.input()) else { return };
        let label = self.label();
        let same = match (self.shape_of(self.input()), self.shape_of(self.output())) {
            (Some(from), Some(to)) => from.len() == to.len() && layout.axes.iter().all(|&a| from[a] == to[a]),
            _ => false,
        };
        if !same {
            return self.freeze_all(t, &format!("`{label}` changes their number"));
        }
        // The sizes that a Resize is given, one for each axis.
        if self.node.op_type() == "Resize" && !self.name(3).is_empty() && (self.node.ints("axes").is_some() || !self.count(t, 3, &layout)) {
            return self.freeze_all(t, &format!("the sizes of `{label}` are computed in the graph"));
        }
        t.set(self.output(), layout);
    }
}
