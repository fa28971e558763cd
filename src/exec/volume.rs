//! Windows over any number of spatial axes, by the definition: for what the fast two-dimensional kernels do not cover (volumes,
//! positions of maxima, Lp pooling).

use super::window::Axis;
use crate::model::eval::{Args, count};
use crate::onnx::Attributes;
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// A window that slides over an input of any rank.
pub(super) struct Volume {
    pub(super) input: Vec<usize>,
    pub(super) kernel: Vec<usize>,
    pub(super) stride: Vec<usize>,
    pub(super) dilation: Vec<usize>,
    pub(super) begin: Vec<usize>,
    pub(super) end: Vec<usize>,
    pub(super) output: Vec<usize>,
}

/// A list attribute of exactly `n` numbers from `least` on.
pub(super) fn list(args: &Args, name: &str, n: usize, default: usize, least: i64) -> Result<Vec<usize>> {
    let Some(values) = args.node.ints(name) else { return Ok(vec![default; n]) };
    match values.len() == n && values.iter().all(|&v| (least..=1 << 30).contains(&v)) {
        true => Ok(values.iter().map(|&v| v as usize).collect()),
        false => Err(Error::bad_input(format!("`{name}` is {values:?}, expected {n} numbers of at least {least}"))),
    }
}

impl Volume {
    /// Reads the attributes of a node whose spatial input and kernel are given.
    pub(super) fn new(args: &Args, input: &[usize], kernel: &[usize]) -> Result<Self> {
        let rank = input.len();
        if rank == 0 || kernel.len() != rank || kernel.contains(&0) {
            return Err(Error::bad_input(format!("a kernel of shape {kernel:?} cannot slide over an input of shape {input:?}")));
        }
        let (stride, dilation) = (list(args, "strides", rank, 1, 1)?, list(args, "dilations", rank, 1, 1)?);
        let pads = list(args, "pads", 2 * rank, 0, 0)?;
        let auto_pad = args.node.string("auto_pad").unwrap_or("NOTSET");
        let ceil = args.int_or("ceil_mode", 0) != 0;
        let (mut begin, mut end, mut output) = (vec![], vec![], vec![]);
        for i in 0..rank {
            let axis = Axis { input: input[i], stride: stride[i], extent: super::window::extent(kernel[i], dilation[i])?, ceil };
            let (b, e, o) = axis.place(auto_pad, pads[i], pads[i + rank])?;
            begin.push(b);
            end.push(e);
            output.push(o);
        }
        count(&output)?;
        Ok(Volume { input: input.to_vec(), kernel: kernel.to_vec(), stride, dilation, begin, end, output })
    }

    /// Calls `f(output, tap, input)` for every place of a window and every element of the kernel; the input is `None` in the padding.
    pub(super) fn for_each(&self, mut f: impl FnMut(usize, usize, Option<usize>)) {
        let mut at = vec![0; self.output.len()];
        for o in 0..self.output.iter().product() {
            let mut tap = vec![0; self.kernel.len()];
            for k in 0..self.kernel.iter().product() {
                f(o, k, self.source(&at, &tap));
                advance(&mut tap, &self.kernel);
            }
            advance(&mut at, &self.output);
        }
    }

    /// The flat input under kernel element `tap` of the window at `at`.
    fn source(&self, at: &[usize], tap: &[usize]) -> Option<usize> {
        (0..at.len()).try_fold(0, |flat, i| {
            let place = (at[i] * self.stride[i] + tap[i] * self.dilation[i]).checked_sub(self.begin[i])?;
            (place < self.input[i]).then_some(flat * self.input[i] + place)
        })
    }

    /// How many elements the window at flat output `o` covers, padding counted or not; what `ceil_mode` adds beyond it never counts.
    fn covered(&self, mut o: usize, padding: bool) -> usize {
        let mut covered = 1;
        for i in (0..self.output.len()).rev() {
            let first = o % self.output[i] * self.stride[i];
            o /= self.output[i];
            let (low, high) = (self.begin[i], self.begin[i] + self.input[i]);
            let (low, high) = if padding { (0, high + self.end[i]) } else { (low, high) };
            covered *= (0..self.kernel[i]).filter(|k| (low..high).contains(&(first + k * self.dilation[i]))).count();
        }
        covered
    }
}

/// The next index of `shape` in row-major order.
pub(super) fn advance(index: &mut [usize], shape: &[usize]) {
    for (i, &n) in index.iter_mut().zip(shape).rev() {
        *i += 1;
        if *i < n {
            return;
        }
        *i = 0;
    }
}

/// `Conv` over any number of axes: `[N, C, …]` with weights `[M, C / group, …]`.
pub(super) fn conv(args: &Args) -> Result<Tensor> {
    let (x, w) = (args.tensor(0)?, args.tensor(1)?);
    let ([n, c, spatial @ ..], [m, each, kernel @ ..]) = (x.shape(), w.shape()) else {
        return Err(Error::bad_input(format!("weights of shape {:?} do not fit an input of shape {:?}", w.shape(), x.shape())));
    };
    let groups = usize::try_from(args.int_or("group", 1)).unwrap_or(0);
    if groups == 0 || groups.checked_mul(*each) != Some(*c) || m % groups != 0 {
        return Err(Error::bad_input(format!("{groups} groups of {each} channels do not fit {c} channels and {m} filters")));
    }
    let bias = args.optional(2).map(Tensor::as_f32).transpose()?;
    if bias.is_some_and(|b| b.len() != *m) {
        return Err(Error::bad_input(format!("the bias does not have one value for each of {m} filters")));
    }
    let window = Volume::new(args, spatial, kernel)?;
    let (plane, size, taps): (usize, usize, usize) = (spatial.iter().product(), window.output.iter().product(), kernel.iter().product());
    let (image, weights) = (x.as_f32()?, w.as_f32()?);
    let shape = [&[*n, *m][..], &window.output].concat();
    let mut out = vec![0.0f64; count(&shape)?];
    for (sample, filter) in (0..*n).flat_map(|s| (0..*m).map(move |f| (s, f))) {
        let target = &mut out[(sample * m + filter) * size..][..size];
        target.fill(bias.map_or(0.0, |b| f64::from(b[filter])));
        for channel in 0..*each {
            let from = &image[(sample * c + filter / (m / groups) * each + channel) * plane..][..plane];
            let kernel = &weights[(filter * each + channel) * taps..][..taps];
            window.for_each(|o, k, i| target[o] += i.map_or(0.0, |i| f64::from(from[i]) * f64::from(kernel[k])));
        }
    }
    Tensor::f32(shape, out.into_iter().map(|v| v as f32).collect())
}

/// `MaxPool` (with positions where they are asked for), `AveragePool` and `LpPool` over any number of axes.
pub(super) fn pool(args: &Args) -> Result<Vec<Tensor>> {
    let x = args.tensor(0)?;
    let [n, c, spatial @ ..] = x.shape() else {
        return Err(Error::bad_input(format!("an input of shape {:?} has no planes", x.shape())));
    };
    let window = Volume::new(args, spatial, &list(args, "kernel_shape", spatial.len(), 0, 1)?)?;
    let (plane, size): (usize, usize) = (spatial.iter().product(), window.output.iter().product());
    let shape = [&[*n, *c][..], &window.output].concat();
    let total = count(&shape)?;
    if plane == 0 && total > 0 {
        return Err(Error::bad_input("the planes are empty"));
    }
    // Integers of 8 bits are pooled too; they are exact in f32.
    let wide = crate::model::eval::cast(x, crate::tensor::DType::F32)?;
    let values = wide.as_f32()?;
    let op = args.node.op_type();
    let p = f64::from(args.node.float("p").unwrap_or(args.int_or("p", 2) as f32));
    let padded = args.int_or("count_include_pad", 0) != 0;
    let columns = args.int_or("storage_order", 0) != 0;
    let (mut out, mut places) = (Vec::with_capacity(total), Vec::new());
    for (i, from) in values.chunks_exact(plane.max(1)).enumerate() {
        let mut sums = vec![if op == "MaxPool" { f64::NEG_INFINITY } else { 0.0 }; size];
        let mut best = vec![0usize; size];
        window.for_each(|o, _, at| {
            let Some(at) = at else { return };
            let v = f64::from(from[at]);
            match op {
                "MaxPool" if v > sums[o] || v.is_nan() => (sums[o], best[o]) = (v, at),
                "MaxPool" => {}
                "LpPool" => sums[o] += v.abs().powf(p),
                _ => sums[o] += v,
            }
        });
        for (o, sum) in sums.iter().enumerate() {
            out.push(match op {
                "MaxPool" => *sum,
                "LpPool" => sum.powf(1.0 / p),
                _ => sum / window.covered(o, padded).max(1) as f64,
            } as f32);
        }
        let flat = |at: usize| if columns { column_major(at, &window.input) } else { at };
        places.extend(best.iter().map(|&at| (i * plane + flat(at)) as i64));
    }
    let pooled = crate::model::eval::cast(&Tensor::f32(shape.clone(), out)?, x.dtype())?;
    let mut outputs = vec![pooled];
    if args.node.output.get(1).is_some_and(|o| !o.is_empty()) {
        outputs.push(Tensor::new(shape, Data::I64(places))?);
    }
    Ok(outputs)
}

/// The number of an element when the first axis runs fastest.
fn column_major(mut at: usize, shape: &[usize]) -> usize {
    let mut index = vec![0; shape.len()];
    for i in (0..shape.len()).rev() {
        index[i] = at % shape[i];
        at /= shape[i];
    }
    index.iter().zip(shape).rev().fold(0, |flat, (&i, &n)| flat * n + i)
}
