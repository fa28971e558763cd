//! Two models compared layer by layer.
//!
//! Layers are matched by the name of their node, then by the name of their output, and what is left by the longest common
//! subsequence of (kind, shape of the weights), then of kinds alone, in the order of the files.

use super::{Layer, LayerKind, Source};
use crate::Result;
use std::collections::HashMap;

/// A layer with the constants behind its weights, as [`super::layers_with_sources`] gives them.
type Found<'m> = (Layer, Vec<Source<'m>>);

/// Pairs of cells that the alignment of unnamed layers may take; beyond it they are matched by position.
const MAX_CELLS: usize = 1 << 24;

/// How the weights of a pair of layers differ, where their shapes agree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightChange {
    /// max |a − b|.
    pub largest: f64,
    /// ‖a − b‖ / ‖a‖ (Frobenius); `None` when a is all zeros and b is not.
    pub relative: Option<f64>,
}

/// A layer that both models have.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Indices into the two lists of layers.
    pub a: usize,
    /// In the second list.
    pub b: usize,
    /// How the weights differ; `None` when their shapes do, when one has none, or when their numbers cannot be read.
    pub weights: Option<WeightChange>,
    /// Weights that are exactly zero, in both.
    pub zeros: (u64, u64),
    /// True when shape, encoding, multiply–adds, parameters and weights are the same.
    pub same: bool,
}

/// Which layers are in both models, and which in one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Diff {
    /// In the order of the first model.
    pub pairs: Vec<Pair>,
    /// Indices of layers that only the first model has.
    pub only_a: Vec<usize>,
    /// Indices of layers that only the second has.
    pub only_b: Vec<usize>,
}

/// Compares the layers of two models.
///
/// # Errors
/// The data of a weight is not there.
pub fn diff(a: &[Found<'_>], b: &[Found<'_>]) -> Result<Diff> {
    let matched = matches(a, b);
    let pair = |&(i, j): &(usize, usize)| compare(i, &a[i], j, &b[j]);
    let pairs = matched.iter().map(pair).collect::<Result<Vec<_>>>()?;
    let only = |len: usize, taken: &dyn Fn(usize) -> bool| (0..len).filter(|&i| !taken(i)).collect();
    Ok(Diff {
        only_a: only(a.len(), &|i| matched.iter().any(|m| m.0 == i)),
        only_b: only(b.len(), &|j| matched.iter().any(|m| m.1 == j)),
        pairs,
    })
}

/// Pairs of indices, in the order of the first list. Every layer is in at most one.
fn matches(a: &[Found<'_>], b: &[Found<'_>]) -> Vec<(usize, usize)> {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    let mut open = ((0..a.len()).collect::<Vec<_>>(), (0..b.len()).collect::<Vec<_>>());
    let mut take = |open: &mut (Vec<usize>, Vec<usize>), found: Vec<(usize, usize)>| {
        open.0.retain(|i| !found.iter().any(|f| f.0 == *i));
        open.1.retain(|j| !found.iter().any(|f| f.1 == *j));
        pairs.extend(found);
    };
    // A node without a name is called by its position, which says nothing in another file.
    let node = |l: &Layer| (!l.name.contains('#')).then(|| l.name.clone());
    let output = |l: &Layer| (!l.output.is_empty()).then(|| l.output.clone());
    for key in [&node as &dyn Fn(&Layer) -> Option<String>, &output] {
        let found = by_key(&open, |i| key(&a[i].0), |j| key(&b[j].0), |i, j| alike(a[i].0.kind, b[j].0.kind));
        take(&mut open, found);
    }
    let shape = |l: &Layer| l.weight.as_ref().map(|w| w.shape.clone());
    let found = common(&open, |i, j| a[i].0.kind == b[j].0.kind && shape(&a[i].0) == shape(&b[j].0));
    take(&mut open, found);
    let found = common(&open, |i, j| alike(a[i].0.kind, b[j].0.kind));
    take(&mut open, found);
    pairs.sort_unstable();
    pairs
}

/// Kinds that compression turns into each other.
fn alike(a: LayerKind, b: LayerKind) -> bool {
    use LayerKind as K;
    let family = |k: K| match k {
        K::Conv | K::DepthwiseConv | K::GroupedConv | K::IntegerConv => 0,
        K::Gemm | K::MatMul | K::IntegerMatMul | K::PackedMatMul => 1,
        K::ConvTranspose => 2,
        K::ActivationMatMul => 3,
        K::Einsum => 4,
        K::Lstm => 5,
        K::Gru => 6,
        K::Rnn => 7,
        K::Attention => 8,
        K::Embedding => 9,
    };
    family(a) == family(b)
}

/// Matches by a key that is unique on both sides.
fn by_key(
    open: &(Vec<usize>, Vec<usize>),
    key_a: impl Fn(usize) -> Option<String>,
    key_b: impl Fn(usize) -> Option<String>,
    fits: impl Fn(usize, usize) -> bool,
) -> Vec<(usize, usize)> {
    let index = |list: &[usize], key: &dyn Fn(usize) -> Option<String>| {
        let mut places: HashMap<String, Vec<usize>> = HashMap::new();
        list.iter().for_each(|&i| {
            if let Some(k) = key(i) {
                places.entry(k).or_default().push(i);
            }
        });
        places
    };
    let (left, right) = (index(&open.0, &key_a), index(&open.1, &key_b));
    let pair = |(key, i): (&String, &Vec<usize>)| match (i.as_slice(), right.get(key).map(Vec::as_slice)) {
        (&[i], Some(&[j])) if fits(i, j) => Some((i, j)),
        _ => None,
    };
    left.iter().filter_map(pair).collect()
}

/// The longest common subsequence of what is open, by dynamic programming.
fn common(open: &(Vec<usize>, Vec<usize>), equal: impl Fn(usize, usize) -> bool) -> Vec<(usize, usize)> {
    let (a, b) = (&open.0, &open.1);
    let width = b.len() + 1;
    if a.is_empty() || b.is_empty() {
        return Vec::new();
    }
    if (a.len() + 1).saturating_mul(width) > MAX_CELLS {
        return a.iter().zip(b).filter(|(i, j)| equal(**i, **j)).map(|(i, j)| (*i, *j)).collect();
    }
    // length[i][j]: of the tails from a[i] and b[j] on.
    let mut length = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            length[i * width + j] = if equal(a[i], b[j]) {
                length[(i + 1) * width + j + 1] + 1
            } else {
                length[(i + 1) * width + j].max(length[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        if equal(a[i], b[j]) {
            found.push((a[i], b[j]));
            (i, j) = (i + 1, j + 1);
        } else if length[(i + 1) * width + j] >= length[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    found
}

fn compare(i: usize, (la, sa): &Found<'_>, j: usize, (lb, sb): &Found<'_>) -> Result<Pair> {
    let zeros = |sources: &[Source<'_>]| sources.iter().map(Source::zeros).sum::<Result<u64>>();
    let zeros = (zeros(sa)?, zeros(sb)?);
    let weights = if sa.len() == sb.len() { weight_change(sa, sb) } else { None };
    let code = |l: &Layer| l.weights().map(|w| (w.shape.clone(), w.format)).collect::<Vec<_>>();
    let unchanged = weights.is_some_and(|w| w.largest == 0.0) || (sa.is_empty() && sb.is_empty());
    let same = unchanged && la.kind == lb.kind && code(la) == code(lb) && la.macs == lb.macs && la.params == lb.params;
    Ok(Pair { a: i, b: j, weights, zeros, same })
}

/// Over all weights of a layer; `None` unless every one can be compared.
fn weight_change(a: &[Source<'_>], b: &[Source<'_>]) -> Option<WeightChange> {
    let (mut largest, mut error, mut norm) = (0f64, 0f64, 0f64);
    for (sa, sb) in a.iter().zip(b) {
        let (va, vb) = (sa.values().ok()?, sb.values().ok()?);
        let place = place(sa, sb)?;
        let mut left = vec![0.0; va.chunk()];
        let mut right = vec![0.0; va.chunk()];
        for range in va.chunks() {
            let (left, right) = (&mut left[..range.len()], &mut right[..range.len()]);
            va.read(range.start, left);
            match &place {
                None => vb.read(range.start, right),
                Some(place) => right.iter_mut().enumerate().for_each(|(k, v)| vb.read(place(range.start + k), std::slice::from_mut(v))),
            }
            for (x, y) in left.iter().zip(right) {
                // A NaN in one of them is a difference without a size.
                let difference = if x == y { 0.0 } else { (x - *y).abs() };
                largest = if difference.is_nan() { f64::NAN } else { largest.max(difference) };
                error += difference * difference;
                norm += x * x;
            }
        }
    }
    let relative = match norm > 0.0 {
        true => Some((error / norm).sqrt()),
        false => (error == 0.0).then_some(0.0),
    };
    (!a.is_empty()).then_some(WeightChange { largest, relative })
}

/// Where element `index` of a's constant lies in b's; `Some(None)` when both are laid out alike, `None` when they cannot be
/// compared: other shapes, or a Reshape of one that the other has not.
#[allow(clippy::type_complexity, reason = "a closure by another name")]
fn place(a: &Source<'_>, b: &Source<'_>) -> Option<Option<Box<dyn Fn(usize) -> usize>>> {
    if a.shape() != b.shape() {
        return None;
    }
    match (a.axes(), b.axes()) {
        (x, y) if x == y && a.stored_shape() == b.stored_shape() => Some(None),
        (Some(x), Some(y)) => {
            // Along each axis of the operand: the step in either constant.
            let steps = |stored: &[usize], axes: &[usize]| {
                axes.iter().map(|&axis| stored.get(axis + 1..).map(|s| s.iter().product::<usize>())).collect::<Option<Vec<_>>>()
            };
            let (sa, sb) = (steps(a.stored_shape(), x)?, steps(b.stored_shape(), y)?);
            let shape = a.shape().to_vec();
            Some(Some(Box::new(move |index| {
                shape.iter().zip(&sa).zip(&sb).map(|((&d, &sa), &sb)| index / sa.max(1) % d.max(1) * sb).sum()
            })))
        }
        _ => None,
    }
}
