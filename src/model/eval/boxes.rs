//! Boxes of object detectors: `NonMaxSuppression` and `RoiAlign`.

use super::args::{Args, integers, scalar};
use super::layout::count;
use crate::onnx::Attributes;
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// Samples that `RoiAlign` takes at most, and pairs of boxes that `NonMaxSuppression` compares: hostile boxes ask for any number.
const MAX_STEPS: f64 = 1e10;

/// A box by its lowest and highest corner.
#[derive(Clone, Copy)]
struct Span {
    low: [f32; 2],
    high: [f32; 2],
}

impl Span {
    fn of(values: &[f32], center: bool) -> Self {
        let &[a, b, c, d] = values else { return Span { low: [0.0; 2], high: [0.0; 2] } };
        if center {
            // x and y of the centre, width and height.
            return Span { low: [b - d / 2.0, a - c / 2.0], high: [b + d / 2.0, a + c / 2.0] };
        }
        Span { low: [a.min(c), b.min(d)], high: [a.max(c), b.max(d)] }
    }

    fn area(self) -> f32 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// Intersection over union.
    fn overlap(self, other: Self) -> f32 {
        let side = |i: usize| (self.high[i].min(other.high[i]) - self.low[i].max(other.low[i])).max(0.0);
        let common = side(0) * side(1);
        let union = self.area() + other.area() - common;
        if union > 0.0 { common / union } else { 0.0 }
    }
}

/// `NonMaxSuppression`: per image and class the best boxes that do not overlap a better one too much, as (image, class, box).
pub(super) fn non_max_suppression(args: &Args) -> Result<Tensor> {
    let (boxes, scores) = (args.tensor(0)?, args.tensor(1)?);
    let (&[images, n, 4], &[m, classes, k]) = (boxes.shape(), scores.shape()) else {
        return Err(Error::bad_input(format!("boxes of shape {:?} with scores of shape {:?}", boxes.shape(), scores.shape())));
    };
    if images != m || n != k {
        return Err(Error::bad_input(format!("boxes of shape {:?} do not fit scores of shape {:?}", boxes.shape(), scores.shape())));
    }
    let threshold = |index: usize| args.optional(index).map(|t| scalar(t.as_f32()?, "a threshold")).transpose();
    let most = args.optional(2).map(|t| scalar(&integers(t)?, "the number of boxes")).transpose()?.unwrap_or(0);
    let most = usize::try_from(most).unwrap_or(0).min(n);
    let (overlap, least) = (threshold(3)?.unwrap_or(0.0), threshold(4)?.unwrap_or(f32::NEG_INFINITY));
    if images as f64 * classes as f64 * n as f64 * most as f64 > MAX_STEPS {
        return Err(Error::bad_input(format!("{n} boxes of {classes} classes are too many")));
    }
    let center = args.int_or("center_point_box", 0) != 0;
    let spans: Vec<Span> = boxes.as_f32()?.chunks(4).map(|b| Span::of(b, center)).collect();
    let scores = scores.as_f32()?;
    let mut chosen = Vec::new();
    for group in 0..images * classes {
        let (image, class) = (group / classes, group % classes);
        let (score, spans) = (&scores[group * n..][..n], &spans[image * n..][..n]);
        let mut order: Vec<usize> = (0..n).filter(|&i| score[i] > least).collect();
        order.sort_by(|&a, &b| score[b].total_cmp(&score[a]));
        let mut kept: Vec<usize> = Vec::new();
        for i in order {
            if kept.len() == most {
                break;
            }
            if kept.iter().all(|&j| spans[i].overlap(spans[j]) <= overlap) {
                kept.push(i);
                chosen.extend([image as i64, class as i64, i as i64]);
            }
        }
    }
    Tensor::new(vec![chosen.len() / 3, 3], Data::I64(chosen))
}

/// `RoiAlign` (He et al., Mask R-CNN, 2017): each box of an image as a small image, of means or maxima of interpolated samples.
pub(super) fn roi_align(args: &Args) -> Result<Tensor> {
    let (x, rois, images) = (args.tensor(0)?, args.tensor(1)?, integers(args.tensor(2)?)?);
    let (&[n, channels, height, width], &[count_of_rois, 4]) = (x.shape(), rois.shape()) else {
        return Err(Error::bad_input(format!("boxes of shape {:?} on an image of shape {:?}", rois.shape(), x.shape())));
    };
    let images = images.iter().map(|&i| usize::try_from(i).ok().filter(|&i| i < n)).collect::<Option<Vec<_>>>();
    let images = images.filter(|i| i.len() == count_of_rois).ok_or_else(|| Error::bad_input("a box has no image"))?;
    let side = |name: &str| usize::try_from(args.int_or(name, 1)).map_err(|_| Error::bad_input(format!("`{name}` is negative")));
    let (rows, columns) = (side("output_height")?, side("output_width")?);
    let shape = vec![count_of_rois, channels, rows, columns];
    let total = count(&shape)?;
    let half_pixel = match args.node.string("coordinate_transformation_mode") {
        Some(mode) => mode == "half_pixel",
        None => args.opset >= 16,
    };
    let largest = args.node.string("mode") == Some("max");
    let (scale, ratio) = (args.float_or("spatial_scale", 1.0), args.int_or("sampling_ratio", 0));
    let mut out = Vec::with_capacity(total);
    let v = x.as_f32()?;
    let mut work = 0.0;
    for (roi, image) in rois.as_f32()?.chunks(4).zip(images) {
        let offset = if half_pixel { 0.5 } else { 0.0 };
        let edge = |i: usize| roi[i] * scale - offset;
        // Without the half pixel a box has at least one pixel.
        let length = |i: usize| (edge(i + 2) - edge(i)).max(if half_pixel { f32::NEG_INFINITY } else { 1.0 });
        let bins = [length(1) / rows as f32, length(0) / columns as f32];
        let samples = bins.map(|b| if ratio > 0 { ratio as f64 } else { f64::from(b.ceil()).max(0.0) });
        work += samples[0] * samples[1] * (channels * rows * columns) as f64;
        if work.is_nan() || work > MAX_STEPS {
            return Err(Error::bad_input("the boxes ask for too many samples").hint("set `sampling_ratio`"));
        }
        let samples = samples.map(|s| s as usize);
        for c in 0..channels {
            let plane = &v[(image * channels + c) * height * width..][..height * width];
            for bin in 0..rows * columns {
                let start = [edge(1) + (bin / columns) as f32 * bins[0], edge(0) + (bin % columns) as f32 * bins[1]];
                let values = (0..samples[0] * samples[1]).map(|s| {
                    let at = |i: usize, k: usize| start[i] + (k as f32 + 0.5) * bins[i] / samples[i] as f32;
                    bilinear(plane, (height, width), at(0, s / samples[1]), at(1, s % samples[1]))
                });
                out.push(match largest {
                    true => values.flatten().fold(None, |m: Option<f32>, x| Some(m.map_or(x, |m| m.max(x)))).unwrap_or(0.0),
                    false => values.flatten().sum::<f32>() / (samples[0] * samples[1]).max(1) as f32,
                });
            }
        }
    }
    Tensor::f32(shape, out)
}

/// The four weighted pixels around a place, whose sum is its value.
fn bilinear(plane: &[f32], (height, width): (usize, usize), y: f32, x: f32) -> [f32; 4] {
    // More than a pixel outside there is nothing.
    let near = |p: f32, n: usize| p >= -1.0 && p <= n as f32;
    if plane.is_empty() || !near(y, height) || !near(x, width) {
        return [0.0; 4];
    }
    let split = |p: f32, n: usize| {
        let (p, last) = (p.max(0.0), n - 1);
        let low = (p as usize).min(last);
        (low, (low + 1).min(last), if low == last { 0.0 } else { p - low as f32 })
    };
    let ((top, bottom, v), (left, right, u)) = (split(y, height), split(x, width));
    let at = |y: usize, x: usize| plane[y * width + x];
    [(1.0 - v) * (1.0 - u) * at(top, left), (1.0 - v) * u * at(top, right), v * (1.0 - u) * at(bottom, left), v * u * at(bottom, right)]
}
