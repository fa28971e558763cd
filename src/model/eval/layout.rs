//! Shapes, strides and loops over strided tensors: what all operators share.

use crate::{Error, Result};

/// The largest tensor an operator makes (2 GiB of `f32`): a hostile shape must not make us allocate without bound.
pub(crate) const MAX_ELEMENTS: usize = 1 << 29;

/// The largest rank of a tensor an operator makes.
const MAX_RANK: usize = 32;

/// Number of elements of `shape`, or an error when that is more than [`MAX_ELEMENTS`].
///
/// Axes of length 0 do not excuse the others, so that afterwards every product of dimensions is free of overflow.
pub(crate) fn count(shape: &[usize]) -> Result<usize> {
    let without_empty = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)));
    match without_empty {
        Some(n) if n <= MAX_ELEMENTS && shape.len() <= MAX_RANK => Ok(if shape.contains(&0) { 0 } else { n }),
        _ => Err(Error::bad_input(format!("a tensor of shape {shape:?} is too large"))),
    }
}

/// A dimension given as an integer.
pub(crate) fn dimension(value: i64) -> Result<usize> {
    usize::try_from(value).map_err(|_| Error::bad_input(format!("dimension {value} is negative")))
}

/// `axis` of a tensor of `rank` dimensions; negative ones count from the end.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize> {
    let counted = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    counted
        .and_then(|a| usize::try_from(a).ok())
        .filter(|&a| a < rank)
        .ok_or_else(|| Error::bad_input(format!("axis {axis} does not exist in a tensor of rank {rank}")))
}

/// Checked and sorted `axes`, each at most once.
pub(crate) fn axes(axes: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut found = axes.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?;
    found.sort_unstable();
    match found.windows(2).find(|w| w[0] == w[1]) {
        Some(w) => Err(Error::bad_input(format!("axis {} is given twice", w[0]))),
        None => Ok(found),
    }
}

/// The shape seen as `[outer, n, inner]` around `axis`.
pub(crate) fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// Row-major strides, in elements.
pub(crate) fn strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i] as isize;
    }
    strides
}

/// The common shape of two tensors under NumPy's broadcasting rules.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(Error::bad_input(format!("shapes {a:?} and {b:?} cannot be broadcast together"))),
        })
        .collect()
}

/// Strides that read a tensor of shape `from` as if it had the larger shape `to`: 0 along repeated axes. `from` must broadcast to `to`.
pub(crate) fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<isize> {
    let mut result = vec![0; to.len()];
    let shift = to.len() - from.len();
    for (i, s) in strides(from).into_iter().enumerate() {
        result[i + shift] = if from[i] == 1 { 0 } else { s };
    }
    result
}

/// A loop nest over `K` tensors that are read with their own strides; axes that allow it are merged, so that the innermost
/// row is as long as it can be.
pub(crate) struct Nest<const K: usize> {
    outer: Vec<(usize, [isize; K])>,
    /// Length of the innermost row.
    pub(crate) row: usize,
    /// Step of each tensor along that row.
    pub(crate) steps: [isize; K],
    start: [isize; K],
}

impl<const K: usize> Nest<K> {
    /// A nest over `shape`; tensor `k` starts at element `start[k]` and moves by `strides[k]`.
    pub(crate) fn new(shape: &[usize], strides: [&[isize]; K], start: [isize; K]) -> Self {
        let mut merged: Vec<(usize, [isize; K])> = Vec::new();
        for (i, &n) in shape.iter().enumerate().filter(|&(_, &n)| n != 1) {
            let steps = strides.map(|s| s[i]);
            match merged.last_mut() {
                Some((m, last)) if n > 0 && (0..K).all(|k| last[k] == steps[k] * n as isize) => {
                    *m *= n;
                    *last = steps;
                }
                _ => merged.push((n, steps)),
            }
        }
        let (row, steps) = merged.pop().unwrap_or((1, [0; K]));
        Nest { outer: merged, row, steps, start }
    }

    /// Calls `f` with the first element of every row, in row-major order.
    pub(crate) fn rows(&self, mut f: impl FnMut([usize; K])) {
        if self.row == 0 || self.outer.iter().any(|&(n, _)| n == 0) {
            return;
        }
        let mut at = self.start;
        let mut index = vec![0usize; self.outer.len()];
        loop {
            f(at.map(|a| a as usize));
            let mut axis = self.outer.len();
            loop {
                let Some(next) = axis.checked_sub(1) else { return };
                axis = next;
                let (n, steps) = self.outer[axis];
                index[axis] += 1;
                for k in 0..K {
                    at[k] += steps[k];
                }
                if index[axis] < n {
                    break;
                }
                index[axis] = 0;
                for k in 0..K {
                    at[k] -= steps[k] * n as isize;
                }
            }
        }
    }
}

/// Copies the elements of `src` at `start + Σ index·stride` into a dense row-major vector of `shape`.
/// `shape` has passed [`count`], and all offsets lie inside `src`.
pub(crate) fn gather<T: Copy>(src: &[T], shape: &[usize], strides: &[isize], start: isize) -> Vec<T> {
    let mut out = Vec::with_capacity(shape.iter().product());
    let nest = Nest::new(shape, [strides], [start]);
    let (row, [step]) = (nest.row, nest.steps);
    nest.rows(|[at]| match step {
        1 => out.extend_from_slice(&src[at..at + row]),
        0 => out.extend(std::iter::repeat_n(src[at], row)),
        _ => out.extend((0..row as isize).map(|i| src[(at as isize + i * step) as usize])),
    });
    out
}
