//! The rows of one layer's problem, and their moments.

use crate::compress::activation::Bounds;
use crate::compress::lanes::{Lane, sum_parts};
use crate::compress::statistics::{Centred, Moments, Rows, Targets, row_step};
use crate::sys::gemm::{Matrix, gemm};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::borrow::Cow;
use std::ops::Range;

/// Where the rows of one layer come from.
pub(super) struct Sources<'a> {
    pub(super) lane: &'a Lane,
    pub(super) original: &'a Lane,
    /// The layer's input in the variant.
    pub(super) x: &'a str,
    /// What it is fitted to in the original.
    pub(super) target: &'a str,
    /// What is subtracted from that, in the variant.
    pub(super) minus: Option<String>,
    pub(super) rows: &'a Rows,
    /// The target's channels that the variant has.
    pub(super) kept: &'a [usize],
    /// A bias takes up the means; without one the weights must give them too.
    pub(super) about_mean: bool,
    pub(super) shape: Shape,
}

/// The layer's weights are outputs × inputs; inputs are those of one group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) groups: usize,
}

impl Shape {
    /// Outputs of a group.
    fn each(self) -> usize {
        self.outputs / self.groups.max(1)
    }
}

/// One chunk's tensors.
struct Chunk<'c> {
    x: Cow<'c, Tensor>,
    t: Cow<'c, Tensor>,
    other: Option<Cow<'c, Tensor>>,
}

/// The rows of one group in one chunk, row-major.
struct GroupRows {
    inputs: Vec<f32>,
    /// The original's outputs.
    targets: Vec<f32>,
    /// What is subtracted from them.
    minus: Option<Vec<f32>>,
}

impl Sources<'_> {
    fn chunk(&self, i: usize) -> Result<Chunk<'_>> {
        let read = |lane: &'_ Lane, name: &str| {
            lane.get(i, name)?
                .map(Cow::into_owned)
                .map(Cow::Owned)
                .ok_or_else(|| Error::bad_input(format!("`{name}` was not computed during calibration")))
        };
        Ok(Chunk {
            x: read(self.lane, self.x)?,
            t: read(self.original, self.target)?,
            other: self.minus.as_ref().map(|name| read(self.lane, name)).transpose()?,
        })
    }

    /// Every how many rows one is taken.
    fn step(&self) -> usize {
        let count = self.lane.chunk_count();
        let total: usize = (0..count).filter_map(|i| self.lane.shape(i, self.x)).map(|shape| self.rows.count(shape)).sum();
        row_step(total, self.shape.inputs)
    }

    fn group(&self, chunk: &Chunk<'_>, g: usize, step: usize) -> Result<GroupRows> {
        let (groups, each) = (self.shape.groups, self.shape.each());
        let own: Vec<usize> = (g * each..(g + 1) * each).collect();
        let channels = chunk.x.shape().get(1).copied().unwrap_or(0) / groups.max(1);
        Ok(GroupRows {
            inputs: self.rows.inputs(&chunk.x, step, (groups > 1).then(|| g * channels..(g + 1) * channels))?,
            targets: self.rows.targets(&chunk.t, step, &self.kept[g * each..(g + 1) * each])?,
            minus: chunk.other.as_ref().map(|other| self.rows.targets(other, step, &own)).transpose()?,
        })
    }

    /// The sums of each group over all chunks.
    pub(super) fn moments(&self) -> Result<Vec<Moments>> {
        let (step, shape) = (self.step(), self.shape);
        let new = || vec![Moments::new(shape.inputs, shape.each()); shape.groups];
        let add = |i: usize, sums: &mut Vec<Moments>| {
            let chunk = self.chunk(i)?;
            sums.iter_mut().enumerate().try_for_each(|(g, sum)| {
                let rows = self.group(&chunk, g, step)?;
                sum.add(&rows.inputs, &rows.wanted())
            })
        };
        sum_parts(self.lane.chunk_count(), shape.inputs, new, add, |a, b| a.iter_mut().zip(b).for_each(|(a, b)| a.merge(b)))
    }

    /// Gives the sums the targets that follow from the layer's outputs with weights `w` and bias `b`: an output that `bounds` cut off as they do the
    /// original's is right as it is; one that they cut off wrongly, or not though they should, is to come to where they begin.
    ///
    /// This minimises ‖r(t) − r(Wx + b)‖² of an activation r by majorisation: with r = Relu and t ≤ 0, r(p)² ≤ (p − min(p₀, 0))² for all p, with
    /// equality at p₀. (Where t > 0 and p₀ < 0 the majoriser would leave p₀ alone; t draws it back.)
    pub(super) fn retarget(&self, moments: &mut [Moments], w: &[f64], b: &[f64], bounds: Bounds) -> Result<()> {
        let (step, shape) = (self.step(), self.shape);
        let (d, each) = (shape.inputs, shape.each());
        let w: Vec<f32> = w.iter().map(|&v| v as f32).collect();
        let new = || vec![Targets::new(d, each); shape.groups];
        let add = |i: usize, sums: &mut Vec<Targets>| {
            let chunk = self.chunk(i)?;
            sums.iter_mut().enumerate().try_for_each(|(g, sum)| {
                let rows = self.group(&chunk, g, step)?;
                let n = rows.inputs.len() / d.max(1);
                let own: Range<usize> = g * each..(g + 1) * each;
                let mut given = b[own.clone()].iter().map(|&v| v as f32).collect::<Vec<_>>().repeat(n);
                gemm(1.0, Matrix::new(&rows.inputs, n, d)?, Matrix::new(&w[own.start * d..own.end * d], each, d)?.t(), 1.0, &mut given)?;
                sum.add(&rows.inputs, &rows.one_sided(&given, bounds))
            })
        };
        let targets = sum_parts(self.lane.chunk_count(), d, new, add, |a, b| a.iter_mut().zip(b).for_each(|(a, b)| a.merge(b)))?;
        moments.iter_mut().zip(targets).for_each(|(m, t)| m.targets = t);
        Ok(())
    }

    /// One system for each group.
    pub(super) fn systems(&self, moments: &[Moments]) -> Result<Vec<Centred>> {
        let finished = moments.iter().map(|sum| if self.about_mean { sum.centred() } else { sum.about_zero() }.filter(Centred::is_finite));
        finished.collect::<Option<_>>().ok_or_else(|| {
            Error::bad_input(format!("`{}` takes values that are not finite on the calibration samples", self.x))
                .hint("clean the split `calibration`")
        })
    }
}

impl GroupRows {
    /// What the layer is to give.
    fn wanted(&self) -> Cow<'_, [f32]> {
        match &self.minus {
            None => Cow::Borrowed(&self.targets),
            Some(minus) => Cow::Owned(self.targets.iter().zip(minus).map(|(t, m)| t - m).collect()),
        }
    }

    /// What it is to give when it gives `given` and `bounds` cut off the sum.
    fn one_sided(&self, given: &[f32], (low, high): Bounds) -> Vec<f32> {
        let minus = |i: usize| self.minus.as_ref().map_or(0.0, |m| m[i]);
        let target = |(i, (&t, &p)): (usize, (&f32, &f32))| {
            let m = minus(i);
            let sum = p + m;
            let wanted = if t <= low {
                sum.min(low)
            } else if t >= high {
                sum.max(high)
            } else {
                t
            };
            wanted - m
        };
        self.targets.iter().zip(given).enumerate().map(target).collect()
    }
}
