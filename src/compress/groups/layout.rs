//! Where the channels of an activation are.

use std::sync::Arc;

/// The entries of a block of axes, each with the unit it belongs to: a unit is a number, and entries of one unit can only
/// go together.
///
/// Most activations have one axis here: of [N, 16, 8, 8] the channel axis, with 16 units. A Flatten makes it 1,024 entries
/// of 16 units; a Reshape of 64 features to heads makes a block of two axes, 4 heads × 16 entries, which a Transpose moves
/// apart and the next Reshape joins again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::compress) struct Layout {
    /// Axes of the activation, ascending.
    pub(in crate::compress) axes: Vec<usize>,
    /// Their sizes, each above 1.
    pub(in crate::compress) dims: Vec<usize>,
    /// Units, row-major over `dims`.
    pub(in crate::compress) units: Arc<[u32]>,
}

impl Layout {
    /// Units along one axis.
    pub(in crate::compress) fn line(axis: usize, units: impl Into<Arc<[u32]>>) -> Self {
        let units = units.into();
        Layout { axes: vec![axis], dims: vec![units.len()], units }
    }

    /// True when the units lie along `axis` alone.
    pub(in crate::compress) fn is_along(&self, axis: usize) -> bool {
        self.axes == [axis]
    }

    /// Size of `axis`, if it is one of the block's.
    pub(in crate::compress) fn size(&self, axis: usize) -> Option<usize> {
        self.position(axis).map(|p| self.dims[p])
    }

    fn position(&self, axis: usize) -> Option<usize> {
        self.axes.iter().position(|&a| a == axis)
    }

    /// Index along the block's axis number `p` of entry `e`.
    pub(in crate::compress) fn index(&self, p: usize, e: usize) -> usize {
        let inner: usize = self.dims[p + 1..].iter().product();
        e / inner.max(1) % self.dims[p]
    }

    /// The same entries on other axes: `axes[p]` is where the block's axis number `p` went.
    pub(in crate::compress) fn moved(&self, axes: &[usize]) -> Self {
        let mut order: Vec<usize> = (0..axes.len()).collect();
        order.sort_by_key(|&p| axes[p]);
        if order.is_sorted() {
            return Layout { axes: axes.to_vec(), ..self.clone() };
        }
        let dims: Vec<usize> = order.iter().map(|&p| self.dims[p]).collect();
        let strides: Vec<usize> = order.iter().map(|&p| self.dims[p + 1..].iter().product()).collect();
        let units: Vec<u32> = indices(&dims).map(|at| self.units[at.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>()]).collect();
        Layout { axes: order.iter().map(|&p| axes[p]).collect(), dims, units: units.into() }
    }

    /// The same entries over more axes: along an axis that the block has not, a unit does not change.
    pub(in crate::compress) fn spread(&self, axes: &[usize], dims: &[usize]) -> Self {
        let own: Vec<Option<usize>> = axes.iter().map(|&a| self.position(a)).collect();
        let units: Vec<u32> = indices(dims)
            .map(|at| {
                let place = |(i, p): (&usize, &Option<usize>)| p.map_or(0, |p| i * self.dims[p + 1..].iter().product::<usize>());
                self.units[at.iter().zip(&own).map(place).sum::<usize>()]
            })
            .collect();
        Layout { axes: axes.to_vec(), dims: dims.to_vec(), units: units.into() }
    }

    /// The entries `range` along `axis`, which is one of the block's.
    pub(in crate::compress) fn part(&self, axis: usize, range: std::ops::Range<usize>) -> Option<Self> {
        let p = self.position(axis)?;
        let units: Vec<u32> = (0..self.units.len()).filter(|&e| range.contains(&self.index(p, e))).map(|e| self.units[e]).collect();
        let mut dims = self.dims.clone();
        dims[p] = range.len();
        Some(Layout { axes: self.axes.clone(), dims, units: units.into() })
    }

    /// Parts one after the other along `axis`; `None` where they do not fit together.
    pub(in crate::compress) fn joined(parts: &[Layout], axis: usize) -> Option<Self> {
        let first = parts.first()?;
        let p = first.position(axis)?;
        let others = |l: &Layout| (0..l.dims.len()).filter(|&q| q != p).map(|q| l.dims[q]).collect::<Vec<_>>();
        if parts.iter().any(|l| l.axes != first.axes || others(l) != others(first)) {
            return None;
        }
        let mut dims = first.dims.clone();
        dims[p] = parts.iter().map(|l| l.dims[p]).sum();
        let outer: usize = dims[..p].iter().product();
        let mut units = Vec::new();
        for o in 0..outer {
            for part in parts {
                let run = part.dims[p..].iter().product::<usize>();
                units.extend_from_slice(&part.units[o * run..(o + 1) * run]);
            }
        }
        Some(Layout { axes: first.axes.clone(), dims, units: units.into() })
    }

    /// Without axes of size 1 and those along which no unit changes; `None` when no axis is left. `same` says whether two units are one.
    pub(in crate::compress) fn reduced(self, same: impl Fn(u32, u32) -> bool) -> Option<Self> {
        let mut layout = self;
        let mut p = 0;
        while p < layout.axes.len() {
            let inner: usize = layout.dims[p + 1..].iter().product();
            let first = |e: usize| e - layout.index(p, e) * inner;
            let constant = layout.axes.len() > 1 && (0..layout.units.len()).all(|e| same(layout.units[e], layout.units[first(e)]));
            if layout.dims[p] == 1 || constant {
                let units: Vec<u32> = (0..layout.units.len()).filter(|&e| layout.index(p, e) == 0).map(|e| layout.units[e]).collect();
                layout.units = units.into();
                layout.axes.remove(p);
                layout.dims.remove(p);
            } else {
                p += 1;
            }
        }
        (!layout.axes.is_empty()).then_some(layout)
    }

    /// The same entries after a change of shape that keeps the order of all elements; `None` when they would be more than `most`.
    pub(in crate::compress) fn reshaped(&self, from: &[usize], to: &[usize], most: usize) -> Option<Self> {
        let (mut axes, mut dims, mut new_axes) = (Vec::new(), Vec::new(), Vec::new());
        for (old, new) in segments(from, to)? {
            if old.iter().any(|a| self.axes.contains(a)) {
                dims.extend(old.iter().map(|&a| from[a]));
                axes.extend(old);
                new_axes.extend(new);
            }
        }
        if dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_none_or(|n| n > most) {
            return None;
        }
        let units = self.spread(&axes, &dims).units;
        Some(Layout { dims: new_axes.iter().map(|&a| to[a]).collect(), axes: new_axes, units })
    }
}

/// Runs of axes, before and after a change of shape, that hold the same elements in the same order; axes of size 1 are in none.
fn segments(from: &[usize], to: &[usize]) -> Option<Vec<(Vec<usize>, Vec<usize>)>> {
    let real = |shape: &[usize]| (0..shape.len()).filter(|&a| shape[a] != 1).collect::<Vec<_>>();
    let (old, new) = (real(from), real(to));
    let (mut i, mut j) = (0, 0);
    let mut found = Vec::new();
    while i < old.len() && j < new.len() {
        let (start, begin) = (i, j);
        let (mut a, mut b) = (from[old[i]], to[new[j]]);
        while a != b {
            if a < b {
                i += 1;
                a = a.checked_mul(from[*old.get(i)?])?;
            } else {
                j += 1;
                b = b.checked_mul(to[*new.get(j)?])?;
            }
        }
        (i, j) = (i + 1, j + 1);
        found.push((old[start..i].to_vec(), new[begin..j].to_vec()));
    }
    (i == old.len() && j == new.len()).then_some(found)
}

/// All indices into `dims`, row-major.
fn indices(dims: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let dims = dims.to_vec();
    (0..dims.iter().product()).map(move |mut e: usize| {
        let mut at = vec![0; dims.len()];
        for (i, &d) in at.iter_mut().zip(&dims).rev() {
            (*i, e) = (e % d, e / d);
        }
        at
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn layout(axes: &[usize], dims: &[usize], units: &[u32]) -> Layout {
        Layout { axes: axes.to_vec(), dims: dims.to_vec(), units: units.into() }
    }

    #[test]
    fn segments_hold_the_same_elements() {
        let check = |from: &[usize], to: &[usize], expect: Option<&[(&[usize], &[usize])]>| {
            let expect = expect.map(|e| e.iter().map(|(a, b)| (a.to_vec(), b.to_vec())).collect::<Vec<_>>());
            assert_eq!(segments(from, to), expect, "{from:?} {to:?}");
        };
        check(&[1, 16, 8, 8], &[1, 1024], Some(&[(&[1, 2, 3], &[1])]));
        check(&[1, 16, 64], &[1, 16, 4, 16], Some(&[(&[1], &[1]), (&[2], &[2, 3])]));
        check(&[2, 3, 1], &[1, 6], Some(&[(&[0, 1], &[1])]));
        check(&[6, 4], &[4, 6], Some(&[(&[0, 1], &[0, 1])]));
        check(&[0, 4], &[0], None);
        check(&[6], &[7], None);
    }

    #[test]
    fn heads_come_apart_and_together_again() {
        // Six features of three heads with two entries each.
        let features = Layout::line(2, vec![0, 1, 2, 3, 4, 5]);
        let heads = features.reshaped(&[1, 5, 6], &[1, 5, 3, 2], 100).unwrap();
        assert_eq!(heads, layout(&[2, 3], &[3, 2], &[0, 1, 2, 3, 4, 5]));
        // [N, T, H, D] to [N, D, H, T]: the entries come first.
        let moved = heads.moved(&[2, 1]);
        assert_eq!(moved, layout(&[1, 2], &[2, 3], &[0, 2, 4, 1, 3, 5]));
        assert_eq!(moved.moved(&[3, 2]), heads);
        assert_eq!(heads.reshaped(&[1, 5, 3, 2], &[5, 6], 100).unwrap(), Layout::line(1, vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(heads.part(2, 1..3).unwrap(), layout(&[2, 3], &[2, 2], &[2, 3, 4, 5]));
        assert_eq!(heads.part(3, 1..2).unwrap().reduced(|a, b| a == b).unwrap(), Layout::line(2, vec![1, 3, 5]));
        let parts = [heads.part(2, 0..1).unwrap(), heads.part(2, 1..3).unwrap()];
        assert_eq!(Layout::joined(&parts, 2).unwrap(), heads);
        assert!(Layout::joined(&parts, 3).is_none());
    }

    #[test]
    fn flattened_channels_own_runs() {
        let channels = Layout::line(1, vec![7, 8]);
        let flat = channels.reshaped(&[1, 2, 3, 1], &[1, 6], 100).unwrap();
        assert_eq!(flat, Layout::line(1, vec![7, 7, 7, 8, 8, 8]));
        let back = flat.reshaped(&[1, 6], &[1, 2, 3, 1], 100).unwrap().reduced(|a, b| a == b).unwrap();
        assert_eq!(back, channels);
        assert!(channels.reshaped(&[1, 2, 3, 1], &[1, 6], 5).is_none());
    }
}
