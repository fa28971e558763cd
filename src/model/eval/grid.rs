//! `GridSample` and `AffineGrid`: images read at places between the pixels.

use super::args::{Args, integers};
use super::cast::cast;
use super::layout::{count, dimension, strides};
use super::types::{Number, numbers, wrap};
use crate::onnx::Attributes;
use crate::tensor::Data;
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// How `GridSample` reads one axis.
struct Axis {
    mode: Mode,
    padding: Padding,
    align: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Clone, Copy, PartialEq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// `GridSample` on `[N, C, D…]` with a grid `[N, D'…, axes]` of coordinates from −1 to 1, the last axis first.
pub(super) fn grid_sample(args: &Args) -> Result<Tensor> {
    let (x, grid) = (args.tensor(0)?, args.tensor(1)?);
    let misfit = || Error::bad_input(format!("a grid of shape {:?} does not fit an image of shape {:?}", grid.shape(), x.shape()));
    let ([n, channels, space @ ..], [m, places @ .., axes]) = (x.shape(), grid.shape()) else { return Err(misfit()) };
    if n != m || *axes != space.len() || places.len() != space.len() || !(1..=3).contains(&space.len()) || space.contains(&0) {
        return Err(misfit());
    }
    let shape = [&[*n, *channels], places].concat();
    let total = count(&shape)?;
    let axis = Axis::of(args)?;
    let wide = cast(grid, DType::F64)?;
    let Data::F64(coordinates) = wide.data() else { return Err(misfit()) };
    let (points, size) = (places.iter().product::<usize>(), space.iter().product::<usize>());
    let steps = strides(space);
    // Per point its taps: offsets into a channel, with weights.
    let taps: Vec<Vec<(usize, f64)>> = coordinates
        .chunks(*axes)
        .map(|point| {
            let per_axis = space.iter().zip(&steps).zip(point.iter().rev());
            per_axis.fold(vec![(0, 1.0)], |taps, ((&n, &step), &at)| {
                let own = axis.taps(at, n);
                taps.iter().flat_map(|&(p, w)| own.iter().map(move |&(q, v)| (p + q * step as usize, w * v))).collect()
            })
        })
        .collect();
    let data = numbers!(wrap!(x.data(), v => (0..total).map(|i| {
        let (image, point) = (i / points, i % points);
        let channel = &v[image * size..][..size];
        Number::from_f64(taps[image / channels * points + point].iter().map(|&(p, w)| channel[p].to_f64() * w).sum())
    }).collect()));
    Tensor::new(shape, data.ok_or_else(|| Error::bad_input(format!("{} cannot be interpolated", x.dtype().name())))?)
}

impl Axis {
    fn of(args: &Args) -> Result<Self> {
        let unknown = |what: &str, name: &str| Error::bad_input(format!("the {what} `{name}` is not one of ONNX"));
        let mode = match args.node.string("mode").unwrap_or("linear") {
            "nearest" => Mode::Nearest,
            "linear" | "bilinear" => Mode::Linear,
            "cubic" | "bicubic" => Mode::Cubic,
            other => return Err(unknown("mode", other)),
        };
        let padding = match args.node.string("padding_mode").unwrap_or("zeros") {
            "zeros" => Padding::Zeros,
            "border" => Padding::Border,
            "reflection" => Padding::Reflection,
            other => return Err(unknown("padding mode", other)),
        };
        Ok(Axis { mode, padding, align: args.int_or("align_corners", 0) != 0 })
    }

    /// The elements of an axis of `n` that make up the value at coordinate `at`, and their weights.
    fn taps(&self, at: f64, n: usize) -> Vec<(usize, f64)> {
        let last = n as f64 - 1.0;
        let (low, high) = if self.align { (0.0, last) } else { (-0.5, last + 0.5) };
        // A grid value of ±1 is the centre of the pixel at the end, or (not aligned) its outer edge.
        let mut p = if self.align { (at + 1.0) / 2.0 * last } else { ((at + 1.0) * n as f64 - 1.0) / 2.0 };
        if self.mode == Mode::Nearest {
            p = p.round_ties_even();
        }
        let inside = |p: f64| match self.padding {
            Padding::Zeros => p,
            Padding::Border => p.clamp(0.0, last),
            Padding::Reflection => reflect(p, low, high),
        };
        if p < low || p > high {
            p = inside(p);
        }
        let (base, t) = (p.floor(), p - p.floor());
        let taps = match self.mode {
            Mode::Nearest => vec![(p, 1.0)],
            Mode::Linear => vec![(base, 1.0 - t), (base + 1.0, t)],
            Mode::Cubic => (-1..3).map(|i| (base + f64::from(i), keys((t - f64::from(i)).abs(), -0.75))).collect(),
        };
        let exists = |p: f64| self.padding != Padding::Zeros || (0.0..=last).contains(&p);
        taps.into_iter().filter(|&(p, _)| exists(p)).map(|(p, w)| (inside(p).clamp(0.0, last) as usize, w)).collect()
    }
}

/// The weight of an element at distance `d` in cubic interpolation (Keys, Cubic convolution interpolation for digital image
/// processing, 1981, with its parameter `a`).
pub(super) fn keys(d: f64, a: f64) -> f64 {
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}

/// `p` thrown back into `low..=high` at both ends, as often as it takes.
fn reflect(p: f64, low: f64, high: f64) -> f64 {
    let range = high - low;
    if range <= 0.0 || !p.is_finite() {
        return low;
    }
    let folded = (p - low).rem_euclid(2.0 * range);
    low + if folded > range { 2.0 * range - folded } else { folded }
}

/// `AffineGrid`: where `GridSample` reads for an affine map; `theta` is `[N, axes, axes + 1]`, the size `[N, C, D…]`.
pub(super) fn affine_grid(args: &Args) -> Result<Tensor> {
    let (theta, size) = (args.tensor(0)?, integers(args.tensor(1)?)?);
    let size = size.into_iter().map(dimension).collect::<Result<Vec<_>>>()?;
    let misfit = || Error::bad_input(format!("maps of shape {:?} do not fit the size {size:?}", theta.shape()));
    let [n, _, space @ ..] = &size[..] else { return Err(misfit()) };
    let r = space.len();
    if theta.shape() != [*n, r, r + 1] || r == 0 {
        return Err(misfit());
    }
    let align = args.int_or("align_corners", 0) != 0;
    let coordinate = |i: usize, n: usize| match (align, n) {
        (true, 1) => -1.0,
        (true, _) => 2.0 * i as f64 / (n as f64 - 1.0) - 1.0,
        (false, _) => (2.0 * i as f64 + 1.0) / n as f64 - 1.0,
    };
    let shape = [&[*n], space, &[r]].concat();
    let total = count(&shape)?;
    let steps = strides(space);
    let points: usize = space.iter().product();
    let wide = cast(theta, DType::F64)?;
    let Data::F64(maps) = wide.data() else { return Err(misfit()) };
    let value = |i: usize| {
        let (image, point, row) = (i / (points * r), i / r % points, i % r);
        let map = &maps[(image * r + row) * (r + 1)..][..r + 1];
        // The map's columns are x, y, …: the last axis first.
        let along = |(a, (&n, &s)): (usize, (&usize, &isize))| map[r - 1 - a] * coordinate(point / s as usize % n, n);
        map[r] + space.iter().zip(&steps).enumerate().map(along).sum::<f64>()
    };
    cast(&Tensor::new(shape, Data::F64((0..total).map(value).collect()))?, theta.dtype())
}
