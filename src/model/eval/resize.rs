//! `Resize` and `Upsample`: nearest, linear and cubic, each axis by itself.

use super::args::{Args, integers};
use super::grid::keys;
use super::layout::{around, axes, axis, count, dimension};
use crate::onnx::Attributes;
use crate::tensor::{Data, Tensor, map_data};
use crate::{Error, Result};

/// Resizes all axes, or the named ones, to sizes or by scales; floats for all modes, any type for `nearest`.
pub(super) fn resize(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let rank = x.shape().len();
    let old = args.node.op_type() == "Upsample" || args.opset < 11;
    let chosen: Vec<usize> = match args.node.ints("axes") {
        Some(named) => {
            axes(named, rank)?;
            named.iter().map(|&a| axis(a, rank)).collect::<Result<_>>()?
        }
        None => (0..rank).collect(),
    };
    let mode = args.node.string("mode").unwrap_or("nearest");
    let transform = args.node.string("coordinate_transformation_mode").unwrap_or(if old { "asymmetric" } else { "half_pixel" });
    let antialias = args.int_or("antialias", 0) != 0;
    let roi = args.optional(1).filter(|_| transform == "tf_crop_and_resize").map(Tensor::as_f32).transpose()?.unwrap_or(&[]);
    let scaled = scales(args, x, &chosen, old)?;
    if scaled.iter().any(|&(length, _)| length == 0) {
        // Of nothing there is nothing to work out, however long the other axes are.
        let mut shape = x.shape().to_vec();
        chosen.iter().zip(&scaled).for_each(|(&a, &(length, _))| shape[a] = length);
        return Tensor::new(shape, map_data!(x.data(), _v => Vec::new()));
    }
    // Axes that shrink come first: what lies between two steps is then no larger than the input or the output.
    let mut steps: Vec<usize> = (0..chosen.len()).collect();
    steps.sort_by_key(|&i| scaled[i].0 > x.shape()[chosen[i]]);
    let mut result = x.clone();
    for i in steps {
        let (a, (length, scale)) = (chosen[i], scaled[i]);
        let n = x.shape()[a];
        if length == n && scale == 1.0 && roi.is_empty() {
            continue;
        }
        if n == 0 {
            return Err(Error::bad_input("an empty axis cannot be resized"));
        }
        let bounds = (roi.get(i).copied().unwrap_or(0.0), roi.get(i + chosen.len()).copied().unwrap_or(1.0));
        let place = |o: usize| position(transform, o as f64, n as f64, length as f64, scale, bounds);
        result = match mode {
            "nearest" => {
                let how = args.node.string("nearest_mode").unwrap_or(if old { "floor" } else { "round_prefer_floor" });
                let picks = (0..length).map(|o| nearest(how, place(o)).clamp(0.0, n as f64 - 1.0) as usize).collect::<Vec<_>>();
                pick(&result, a, &picks)?
            }
            "linear" | "bilinear" | "trilinear" | "cubic" => {
                let kernel = Kernel {
                    cubic: (mode == "cubic").then(|| f64::from(args.float_or("cubic_coeff_a", -0.75))),
                    exclude: args.int_or("exclude_outside", 0) != 0,
                    scale: if antialias { scale.min(1.0) } else { 1.0 },
                };
                let fill = f64::from(args.float_or("extrapolation_value", 0.0));
                let outside = |p: f64| transform == "tf_crop_and_resize" && !(0.0..=n as f64 - 1.0).contains(&p);
                let rows: Vec<Taps> = (0..length)
                    .map(place)
                    .map(|p| if outside(p) { Taps { taps: vec![], offset: fill } } else { kernel.taps(p, n) })
                    .collect();
                blend(&result, a, &rows)?
            }
            other => return Err(Error::bad_input(format!("the mode `{other}` is not one of ONNX"))),
        };
    }
    Ok(result)
}

/// For each axis its new length and the scale that coordinates are worked out with.
fn scales(args: &Args, x: &Tensor, axes: &[usize], old: bool) -> Result<Vec<(usize, f64)>> {
    let misfit = |n: usize| Error::bad_input(format!("{n} scales or sizes do not fit {} axes", axes.len()));
    let factors = match args.optional(if old { 1 } else { 2 }).filter(|t| !t.is_empty()) {
        Some(t) => Some(t.as_f32()?.iter().map(|&f| f64::from(f)).collect::<Vec<_>>()),
        None => args.node.attr("scales").map(|a| a.floats.iter().map(|&f| f64::from(f)).collect()),
    };
    let lengths: Vec<(usize, f64)> = if let Some(factors) = factors {
        if factors.len() != axes.len() || factors.iter().any(|&f| !(f > 0.0 && f < 1e9)) {
            return Err(misfit(factors.len()));
        }
        axes.iter().zip(&factors).map(|(&a, &f)| ((x.shape()[a] as f64 * f).floor() as usize, f)).collect()
    } else {
        let sizes = integers(args.optional(3).filter(|_| !old).ok_or_else(|| Error::bad_input("neither scales nor sizes are given"))?)?;
        let sizes = sizes.into_iter().map(dimension).collect::<Result<Vec<_>>>()?;
        if sizes.len() != axes.len() {
            return Err(misfit(sizes.len()));
        }
        let ratio = |(&a, &s): (&usize, &usize)| s as f64 / x.shape()[a].max(1) as f64;
        let ratios = axes.iter().zip(&sizes).map(ratio);
        let common = match args.node.string("keep_aspect_ratio_policy").unwrap_or("stretch") {
            "not_larger" => Some(ratios.clone().fold(f64::INFINITY, f64::min)),
            "not_smaller" => Some(ratios.clone().fold(0.0, f64::max)),
            _ => None,
        };
        let one = |((&a, &s), r): ((&usize, &usize), f64)| match common {
            Some(c) => ((x.shape()[a] as f64 * c).round() as usize, c),
            None => (s, r),
        };
        axes.iter().zip(&sizes).zip(ratios).map(one).collect()
    };
    let mut shape = x.shape().to_vec();
    axes.iter().zip(&lengths).for_each(|(&a, &(n, _))| shape[a] = n);
    count(&shape)?;
    Ok(lengths)
}

/// The place in the input that output `o` shows (ONNX, Resize, `coordinate_transformation_mode`).
fn position(mode: &str, o: f64, n: f64, length: f64, scale: f64, (start, end): (f32, f32)) -> f64 {
    match mode {
        "asymmetric" => o / scale,
        "align_corners" => {
            if length == 1.0 {
                0.0
            } else {
                o * (n - 1.0) / (length - 1.0)
            }
        }
        "pytorch_half_pixel" if length <= 1.0 => 0.0,
        "tf_half_pixel_for_nn" => (o + 0.5) / scale,
        "half_pixel_symmetric" => {
            // The part that rounding down the length cut away is shared by both ends.
            let adjustment = length / (scale * n);
            n / 2.0 * (1.0 - adjustment) + (o + 0.5) / scale - 0.5
        }
        "tf_crop_and_resize" => {
            let (start, end) = (f64::from(start), f64::from(end));
            if length > 1.0 { start * (n - 1.0) + o * (end - start) * (n - 1.0) / (length - 1.0) } else { 0.5 * (start + end) * (n - 1.0) }
        }
        _ => (o + 0.5) / scale - 0.5,
    }
}

fn nearest(mode: &str, p: f64) -> f64 {
    match mode {
        "floor" => p.floor(),
        "ceil" => p.ceil(),
        "round_prefer_ceil" => (p + 0.5).floor(),
        _ => (p - 0.5).ceil(),
    }
}

/// What an output is made of: elements with weights, and a constant.
struct Taps {
    taps: Vec<(usize, f64)>,
    offset: f64,
}

/// How elements around a place are weighted.
struct Kernel {
    /// The parameter of cubic interpolation; linear without.
    cubic: Option<f64>,
    /// Elements beyond the ends are left out instead of being those at the ends.
    exclude: bool,
    /// Below 1 the kernel is stretched over all the elements that an output stands for (antialiasing).
    scale: f64,
}

impl Kernel {
    fn taps(&self, p: f64, n: usize) -> Taps {
        let reach = if self.cubic.is_some() { 2.0 } else { 1.0 };
        let base = p.ceil() - 1.0;
        let first = (-reach / self.scale).floor() + 1.0;
        let taps = (0..(2.0 - 2.0 * first) as usize).map(|i| {
            let at = base + first + i as f64;
            (at, self.weight((self.scale * (at - p)).abs()))
        });
        let inside = |at: f64| at >= 0.0 && at < n as f64;
        let taps = taps.filter(|&(at, _)| !self.exclude || inside(at));
        let mut taps: Vec<(usize, f64)> = taps.map(|(at, w)| (at.clamp(0.0, n as f64 - 1.0) as usize, w)).collect();
        let sum: f64 = taps.iter().map(|t| t.1).sum();
        taps.iter_mut().filter(|_| sum != 0.0).for_each(|t| t.1 /= sum);
        Taps { taps, offset: 0.0 }
    }

    fn weight(&self, d: f64) -> f64 {
        match self.cubic {
            Some(a) => keys(d, a),
            None => (1.0 - d).max(0.0),
        }
    }
}

fn pick(x: &Tensor, at: usize, picks: &[usize]) -> Result<Tensor> {
    let (outer, n, inner) = around(x.shape(), at);
    let mut shape = x.shape().to_vec();
    shape[at] = picks.len();
    count(&shape)?;
    let data = map_data!(x.data(), v => (0..outer).flat_map(|o| picks.iter().map(move |&i| (o * n + i) * inner)).flat_map(|p| &v[p..p + inner]).copied().collect());
    Tensor::new(shape, data)
}

fn blend(x: &Tensor, at: usize, rows: &[Taps]) -> Result<Tensor> {
    let (outer, n, inner) = around(x.shape(), at);
    let mut shape = x.shape().to_vec();
    shape[at] = rows.len();
    let mut out = Vec::with_capacity(count(&shape)?);
    let v = x.as_f32()?;
    for o in 0..outer {
        for row in rows {
            for i in 0..inner {
                let sum: f64 = row.taps.iter().map(|&(k, w)| w * f64::from(v[(o * n + k) * inner + i])).sum();
                out.push((sum + row.offset) as f32);
            }
        }
    }
    Tensor::f32(shape, out)
}
