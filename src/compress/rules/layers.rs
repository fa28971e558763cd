//! Layers: where channels begin and end.

use super::{Step, slice};
use crate::compress::groups::{Change, Layout, Tracker};
use crate::model::{Format, Layer, LayerKind, Weight};
use crate::onnx::Attributes;

impl Step<'_, '_> {
    pub(super) fn layer(&self, t: &mut Tracker, layer: Option<(usize, &Layer)>) {
        let Some((number, layer)) = layer else { return };
        let weight = match weights(layer) {
            Ok(weight) => weight,
            Err(_) if layer.kind == LayerKind::ActivationMatMul => return self.product(t, number, layer),
            Err(why) => return self.freeze_all(t, &why),
        };
        if let Err(why) = &layer.macs {
            return self.freeze_all(t, &format!("the multiply–adds of `{}` are not known: {why}", layer.name));
        }
        let grouped = self.node.int("group").unwrap_or(1) != 1;
        if layer.operator != "Gemm" && layer.operator != "MatMul" && grouped {
            self.grouped(t, number, layer, weight);
        } else {
            self.dense(t, number, layer, weight);
        }
    }

    /// A layer that mixes all input channels into new output channels.
    fn dense(&self, t: &mut Tracker, number: usize, layer: &Layer, weight: &Weight) {
        let Some(output_shape) = &layer.output_shape else { return };
        let is_conv = matches!(layer.kind, LayerKind::Conv | LayerKind::ConvTranspose);
        let expected = if is_conv { 1 } else { self.rank(self.input()).saturating_sub(1) };
        let odd = self.node.int("transA") == Some(1) || weight.shape.len() != if is_conv { self.rank(self.input()) } else { 2 };
        match t.layout(self.input()) {
            Some(x) if x.is_along(expected) && !odd && x.dims[0] == weight.shape[weight.input_axis] => {
                t.site(slice(&weight.name, weight.input_axis), &x, expected);
                t.reads(number, &x);
            }
            _ => self.freeze_all(t, &format!("`{}` reads them along another axis", layer.name)),
        }
        let axis = if is_conv { 1 } else { output_shape.len().saturating_sub(1) };
        let Some(out) = t.fresh(axis, weight.shape[weight.output_axis]) else { return };
        self.produce(t, number, layer, weight, &out);
        if odd {
            t.freeze(&out, &format!("the matrices of `{}` are transposed or batched", layer.name));
        }
        t.set(self.output(), out);
    }

    /// A grouped or depthwise convolution: what one of its groups reads and makes goes as a whole.
    fn grouped(&self, t: &mut Tracker, number: usize, layer: &Layer, weight: &Weight) {
        let groups = usize::try_from(self.node.int("group").unwrap_or(1)).unwrap_or(0);
        let Some(out_count) = layer.output_shape.as_ref().and_then(|s| s.get(1)).copied() else { return };
        let Some(x) = t.layout(self.input()) else { return };
        if layer.kind == LayerKind::ConvTranspose {
            return self.freeze_all(t, &format!("`{}` is a grouped transposed convolution", layer.name));
        }
        if !x.is_along(1) || groups == 0 || x.dims[0] % groups != 0 || out_count % groups != 0 {
            return self.freeze_all(t, &format!("`{}` reads them along another axis", layer.name));
        }
        let (reads, makes) = (x.dims[0] / groups, out_count / groups);
        let Some(out) = t.fresh(1, out_count) else { return self.freeze_all(t, &format!("`{}` makes too many", layer.name)) };
        for (e, &unit) in out.units.iter().enumerate() {
            x.units[e / makes * reads..][..reads].iter().for_each(|&read| t.join(unit, read));
        }
        self.produce(t, number, layer, weight, &out);
        t.site(Change::Groups { node: self.index, each: reads }, &x, 1);
        t.set(self.output(), out);
    }

    /// Weights and bias follow the channels that a layer makes.
    fn produce(&self, t: &mut Tracker, number: usize, layer: &Layer, weight: &Weight, out: &Layout) {
        let (axis, channels) = (out.axes[0], out.dims[0]);
        t.makes(number, out);
        t.site(slice(&weight.name, weight.output_axis), out, axis);
        if let Some(bias) = &layer.bias {
            match self.graph.constant_shape(bias) {
                // A Gemm may broadcast a scalar bias.
                Some(s) if s.last() == Some(&channels) => t.site(slice(bias, s.len() - 1), out, axis),
                _ => {}
            }
        } else if !self.name(2).is_empty() {
            t.freeze(out, &format!("the bias of `{}` is computed", layer.name));
        }
        if channels == 1 {
            t.freeze(out, "nothing would be left");
        }
    }

    /// The product of two activations. Heads are its batch; what it sums over belongs together, within a head.
    fn product(&self, t: &mut Tracker, number: usize, layer: &Layer) {
        let (left, right) = (self.input(), self.name(1));
        let rank = self.rank(self.output());
        let (a, b) = (self.rank(left), self.rank(right));
        let followed = [t.layout(left), t.layout(right)];
        if followed.iter().all(Option::is_none) {
            return;
        }
        if a < 2 || b < 2 || rank != a.max(b) || layer.macs.is_err() {
            return self.freeze_all(t, &format!("`{}` multiplies vectors, or its size is not known", layer.name));
        }
        // Axes as the output has them; the one that is summed over comes after these.
        let place = |axis: usize, own: usize, summed: usize| if axis == summed { rank } else { axis + rank - own };
        let placed = [(a, a - 1), (b, b - 2)];
        let placed: Vec<Option<Layout>> = followed
            .iter()
            .zip(placed)
            .map(|(l, (own, summed))| l.as_ref().map(|l| l.moved(&l.axes.iter().map(|&x| place(x, own, summed)).collect::<Vec<_>>())))
            .collect();
        let batch: Vec<(usize, usize)> = {
            let all = placed.iter().flatten().flat_map(|l| l.axes.iter().copied().zip(l.dims.iter().copied()));
            let mut batch: Vec<_> = all.filter(|&(axis, _)| axis + 2 < rank).collect();
            batch.sort_unstable();
            batch.dedup();
            batch
        };
        // An operand that is not followed must not have a size of its own along the heads.
        let unknown = |(input, l): (usize, &Option<Layout>)| {
            let (name, own) = if input == 0 { (left, a) } else { (right, b) };
            let Some(shape) = self.shape_of(name) else { return true };
            batch.iter().any(|&(axis, _)| {
                let size = (axis + own).checked_sub(rank).map_or(1, |x| shape[x]);
                size != 1 && l.as_ref().is_none_or(|l| l.size(axis).is_none())
            })
        };
        if batch.windows(2).any(|w| w[0].0 == w[1].0) || placed.iter().enumerate().any(unknown) {
            return self.freeze_all(t, &format!("`{}` multiplies them with something that is not followed", layer.name));
        }
        if batch.is_empty() {
            // Without heads only what is summed over can go, from both.
            return match (&placed[0], &placed[1]) {
                (Some(x), Some(y)) if x.is_along(rank) && y.is_along(rank) => {
                    t.join_all(x, y);
                    t.computes(number, x);
                }
                _ => self.freeze_all(t, &format!("`{}` multiplies two activations", layer.name)),
            };
        }
        let (axes, dims): (Vec<usize>, Vec<usize>) = batch.into_iter().unzip();
        let Some(heads) = t.fresh(0, dims.iter().product()) else {
            return self.freeze_all(t, &format!("`{}` multiplies too many matrices", layer.name));
        };
        let heads = Layout { axes: axes.clone(), dims: dims.clone(), units: heads.units };
        for layout in placed.iter().flatten() {
            if !layout.axes.iter().any(|a| axes.contains(a)) {
                t.freeze(layout, &format!("every head of `{}` shares them", layer.name));
                continue;
            }
            let (mut over, mut sizes) = (axes.clone(), dims.clone());
            for (&axis, &size) in layout.axes.iter().zip(&layout.dims).filter(|(a, _)| **a + 2 >= rank) {
                over.push(axis);
                sizes.push(size);
            }
            let rest: usize = sizes[dims.len()..].iter().product();
            let spread = layout.spread(&over, &sizes);
            spread.units.iter().enumerate().for_each(|(e, &unit)| t.join(unit, heads.units[e / rest]));
        }
        t.computes(number, &heads);
        t.set(self.output(), heads);
    }
}

/// The constant float32 weights that a layer can be cut in, or why not.
fn weights(layer: &Layer) -> Result<&Weight, String> {
    let name = &layer.name;
    match (&layer.weight, layer.node) {
        (Some(w), _) if !matches!(w.format, Format::Float(_)) => {
            Err(format!("the weights of `{name}` are quantized already: prune before quantizing"))
        }
        (Some(w), Some(_)) if layer.operator == "ConvTranspose" && w.format.is_f32() && w.input == 1 && w.through.is_empty() => Ok(w),
        _ => layer.editable().map(|(_, w)| w).map_err(|why| format!("`{name}` cannot be pruned: {why}")),
    }
}
