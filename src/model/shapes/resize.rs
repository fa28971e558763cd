//! `Resize`, `Upsample`, and other operators on images.

use super::args::{Args, Rule, Stop, dimension, dimensions, floats, one, unknown, wrong};
use crate::model::eval::axis;
use crate::onnx::Attributes;

/// `Resize` by sizes or scales, of all axes or the named ones; `Upsample` by scales.
pub(super) fn resize(args: &Args) -> Rule {
    let x = args.input(0)?;
    let rank = x.shape.len();
    // Operator set 10 had no region of interest.
    let (scales, sizes) = if args.node.op_type() == "Upsample" || args.opset < 11 { (1, None) } else { (2, Some(3)) };
    let axes: Vec<usize> = match args.node.ints("axes") {
        Some(axes) => axes.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).collect(),
    };
    let mut shape = x.shape.clone();
    if let Some(wanted) = sizes.map(|i| args.integers(i)).transpose()?.flatten().filter(|s| !s.is_empty()) {
        let wanted = dimensions(&wanted)?;
        check(wanted.len(), axes.len())?;
        let policy = args.node.string("keep_aspect_ratio_policy").unwrap_or("stretch");
        let ratios = || axes.iter().zip(&wanted).map(|(&a, &w)| w as f64 / x.shape[a].max(1) as f64);
        let common = match policy {
            "not_larger" => Some(ratios().fold(f64::INFINITY, f64::min)),
            "not_smaller" => Some(ratios().fold(0.0, f64::max)),
            _ => None,
        };
        for (&a, &w) in axes.iter().zip(&wanted) {
            shape[a] = common.map_or(w, |r| (x.shape[a] as f64 * r).round() as usize);
        }
        return one(x.dtype, shape);
    }
    let factors = match args.value(scales)? {
        Some(t) => floats(t),
        None => args.node.attr("scales").map(|a| a.floats.iter().map(|&f| f64::from(f)).collect()),
    };
    let Some(factors) = factors.filter(|f| !f.is_empty()) else { return unknown("neither scales nor sizes are given") };
    check(factors.len(), axes.len())?;
    for (&a, &f) in axes.iter().zip(&factors) {
        if !(f > 0.0 && f < 1e9) {
            return wrong(format!("a scale of {f} is not possible"));
        }
        shape[a] = dimension((x.shape[a] as f64 * f).floor() as i128)?;
    }
    one(x.dtype, shape)
}

fn check(given: usize, axes: usize) -> Result<(), Stop> {
    if given == axes { Ok(()) } else { wrong(format!("{given} scales or sizes stand against {axes} axes")) }
}

/// `GridSample`: the grid's places in the input's channels.
pub(super) fn grid_sample(args: &Args) -> Rule {
    let (x, grid) = (args.input(0)?, args.shape(1)?);
    match (x.shape.as_slice(), grid) {
        ([n, c, ..], [_, places @ .., _]) if grid.len() == x.shape.len() => one(x.dtype, [&[*n, *c][..], places].concat()),
        _ => wrong(format!("a grid {grid:?} does not fit {:?}", x.shape)),
    }
}

/// `RoiAlign` and `MaxRoiPool`: one patch for each region.
pub(super) fn regions(args: &Args) -> Rule {
    let (x, rois) = (args.input(0)?, args.shape(1)?);
    let pooled = args.node.ints("pooled_shape").map(dimensions).transpose()?;
    let size = match pooled {
        Some(p) => p,
        None => vec![args.positive("output_height", 1)?, args.positive("output_width", 1)?],
    };
    match (x.shape.get(1), rois.first()) {
        (Some(&c), Some(&n)) => one(x.dtype, [&[n, c][..], &size].concat()),
        _ => wrong("the input or the regions have too few axes"),
    }
}

/// `AffineGrid`: `[N, H, W, 2]` or `[N, D, H, W, 3]`.
pub(super) fn affine_grid(args: &Args) -> Rule {
    let Some(size) = args.integers(1)? else { return wrong("the size is missing") };
    match dimensions(&size)?.as_slice() {
        [n, _, places @ ..] => one(args.input(0)?.dtype, [&[*n][..], places, &[places.len()]].concat()),
        _ => wrong("the size has too few numbers"),
    }
}
