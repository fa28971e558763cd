//! `RNN`, `GRU` and `LSTM`, step by step.

use crate::model::eval::{Args, count};
use crate::onnx::Attributes;
use crate::sys::gemm::{Matrix, gemm};
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// What an activation does to one value; `alpha` and `beta` are those of ONNX, RNN.
#[derive(Clone, Copy)]
struct Activation {
    f: fn(f32, f32, f32) -> f32,
    alpha: f32,
    beta: f32,
}

impl Activation {
    fn named(name: &str, alpha: Option<f32>, beta: Option<f32>) -> Result<Self> {
        let (f, a, b): (fn(f32, f32, f32) -> f32, f32, f32) = match name.to_ascii_lowercase().as_str() {
            "sigmoid" => (|x, _, _| 1.0 / (1.0 + (-x).exp()), 0.0, 0.0),
            "tanh" => (|x, _, _| x.tanh(), 0.0, 0.0),
            "relu" => (|x, _, _| x.max(0.0), 0.0, 0.0),
            "affine" => (|x, a, b| a * x + b, 1.0, 0.0),
            "leakyrelu" => (|x, a, _| if x < 0.0 { a * x } else { x }, 0.01, 0.0),
            "thresholdedrelu" => (|x, a, _| if x > a { x } else { 0.0 }, 1.0, 0.0),
            "scaledtanh" => (|x, a, b| a * (b * x).tanh(), 1.0, 1.0),
            "hardsigmoid" => (|x, a, b| (a * x + b).clamp(0.0, 1.0), 0.2, 0.5),
            "elu" => (|x, a, _| if x < 0.0 { a * x.exp_m1() } else { x }, 1.0, 0.0),
            "softsign" => (|x, _, _| x / (1.0 + x.abs()), 0.0, 0.0),
            "softplus" => (|x, _, _| x.max(0.0) + (-x.abs()).exp().ln_1p(), 0.0, 0.0),
            other => return Err(Error::bad_input(format!("the activation `{other}` is not one of ONNX"))),
        };
        Ok(Activation { f, alpha: alpha.unwrap_or(a), beta: beta.unwrap_or(b) })
    }

    fn of(self, x: f32) -> f32 {
        (self.f)(x, self.alpha, self.beta)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Cell {
    Rnn,
    Gru,
    Lstm,
}

/// Sizes and options of a layer.
struct Layer {
    cell: Cell,
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    activations: Vec<Activation>,
    clip: f32,
    linear_before_reset: bool,
    input_forget: bool,
    lengths: Option<Vec<usize>>,
}

/// The weights of one direction: `[gates·H, I]`, `[gates·H, H]`, biases of both `[gates·H]`, peepholes `[3·H]`.
struct Weights<'a> {
    w: &'a [f32],
    r: &'a [f32],
    wb: Vec<f32>,
    rb: Vec<f32>,
    peephole: Vec<f32>,
}

/// All outputs: the whole sequence, the last state, and for `LSTM` the last cell.
///
/// # Errors
/// Shapes, attributes or activations do not fit.
pub(super) fn recurrent(args: &Args) -> Result<Vec<Tensor>> {
    let (cell, gates, defaults): (Cell, usize, &[&str]) = match args.node.op_type() {
        "LSTM" => (Cell::Lstm, 4, &["Sigmoid", "Tanh", "Tanh"]),
        "GRU" => (Cell::Gru, 3, &["Sigmoid", "Tanh"]),
        _ => (Cell::Rnn, 1, &["Tanh"]),
    };
    let batch_first = args.int_or("layout", 0) != 0;
    let x = args.tensor(0)?;
    let swapped;
    let x = if batch_first {
        swapped = crate::model::eval::permute(x, &[1, 0, 2])?;
        &swapped
    } else {
        x
    };
    let (w, r) = (args.tensor(1)?, args.tensor(2)?);
    let (&[steps, batch, input], &[directions, rows, i2], &[d2, r2, hidden]) = (x.shape(), w.shape(), r.shape()) else {
        return Err(Error::bad_input(format!("input {:?}, weights {:?} and {:?} do not fit", x.shape(), w.shape(), r.shape())));
    };
    let direction = args.node.string("direction").unwrap_or("forward");
    let fits = input == i2 && d2 == directions && r2 == rows && Some(rows) == hidden.checked_mul(gates);
    if !fits || directions != 1 + usize::from(direction == "bidirectional") {
        return Err(Error::bad_input(format!("input {:?}, weights {:?} and {:?} do not fit", x.shape(), w.shape(), r.shape())));
    }
    let lengths = args.optional(4).map(crate::model::eval::integers).transpose()?;
    let lengths = lengths.map(|l| l.into_iter().map(|n| usize::try_from(n).unwrap_or(0).min(steps)).collect::<Vec<_>>());
    if lengths.as_ref().is_some_and(|l| l.len() != batch) {
        return Err(Error::bad_input("`sequence_lens` must have one length for each sample"));
    }
    let total = count(&[steps, directions, batch, hidden])?;
    let mut all = vec![0.0f32; total];
    let (mut last, mut cells) = (Vec::new(), Vec::new());
    for d in 0..directions {
        let layer = Layer {
            cell,
            steps,
            batch,
            input,
            hidden,
            activations: activations(args, defaults, d)?,
            clip: args.node.float("clip").unwrap_or(f32::INFINITY),
            linear_before_reset: args.int_or("linear_before_reset", 0) != 0,
            input_forget: args.int_or("input_forget", 0) != 0,
            lengths: lengths.clone(),
        };
        let slice = |index: usize, len: usize| -> Result<Option<&[f32]>> {
            let Some(t) = args.optional(index) else { return Ok(None) };
            let v = t.as_f32()?;
            match v.len() == directions * len {
                true => Ok(Some(&v[d * len..][..len])),
                false => Err(Error::bad_input(format!("input {index} of shape {:?} does not fit", t.shape()))),
            }
        };
        let bias = slice(3, 2 * rows)?.map_or_else(|| vec![0.0; 2 * rows], <[f32]>::to_vec);
        let weights = Weights {
            w: &w.as_f32()?[d * rows * input..][..rows * input],
            r: &r.as_f32()?[d * rows * hidden..][..rows * hidden],
            wb: bias[..rows].to_vec(),
            rb: bias[rows..].to_vec(),
            peephole: slice(7, 3 * hidden)?.map_or_else(|| vec![0.0; 3 * hidden], <[f32]>::to_vec),
        };
        let state = |index: usize| -> Result<Vec<f32>> {
            let size = batch * hidden;
            let Some(t) = args.optional(index) else { return Ok(vec![0.0; size]) };
            let t = if batch_first { crate::model::eval::permute(t, &[1, 0, 2])? } else { t.clone() };
            match t.len() == directions * size {
                true => Ok(t.as_f32()?[d * size..][..size].to_vec()),
                false => Err(Error::bad_input(format!("initial states of shape {:?} do not fit", t.shape()))),
            }
        };
        let (mut h, mut c) = (state(5)?, if cell == Cell::Lstm { state(6)? } else { vec![] });
        let reverse = direction == "reverse" || d == 1;
        layer.run(x.as_f32()?, &weights, &mut h, &mut c, reverse, |t, n, row| {
            all[((t * directions + d) * batch + n) * hidden..][..hidden].copy_from_slice(row);
        })?;
        last.extend(h);
        cells.extend(c);
    }
    let ordered = |shape: Vec<usize>, v: Vec<f32>, order: &[usize]| -> Result<Tensor> {
        let t = Tensor::new(shape, Data::F32(v))?;
        if batch_first { crate::model::eval::permute(&t, order) } else { Ok(t) }
    };
    let state = vec![directions, batch, hidden];
    let mut outputs = vec![ordered(vec![steps, directions, batch, hidden], all, &[2, 0, 1, 3])?, ordered(state.clone(), last, &[1, 0, 2])?];
    if cell == Cell::Lstm {
        outputs.push(ordered(state, cells, &[1, 0, 2])?);
    }
    Ok(outputs)
}

/// The activations of direction `d`, with their parameters in order.
fn activations(args: &Args, defaults: &[&str], d: usize) -> Result<Vec<Activation>> {
    let strings =
        |name: &str| args.node.attr(name).map(|a| a.strings.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect::<Vec<_>>());
    let names = strings("activations").unwrap_or_else(|| defaults.iter().cycle().take(2 * defaults.len()).map(|&s| s.into()).collect());
    let list = |name: &str| args.node.attr(name).map_or(&[][..], |a| a.floats.as_slice());
    let (alphas, betas) = (list("activation_alpha"), list("activation_beta"));
    (0..defaults.len())
        .map(|i| {
            let at = d * defaults.len() + i;
            let name = names.get(at).ok_or_else(|| Error::bad_input("there are too few activations"))?;
            Activation::named(name, alphas.get(at).copied(), betas.get(at).copied())
        })
        .collect()
}

impl Layer {
    /// Walks the sequence; `h` and `c` `[batch, hidden]` end as the last states.
    fn run(
        &self,
        x: &[f32],
        weights: &Weights,
        h: &mut [f32],
        c: &mut [f32],
        reverse: bool,
        mut emit: impl FnMut(usize, usize, &[f32]),
    ) -> Result<()> {
        let (n, k, rows) = (self.batch, self.hidden, weights.wb.len());
        let (mut from_x, mut from_h) = (vec![0.0; n * rows], vec![0.0; n * rows]);
        for step in 0..self.steps {
            // Samples that are shorter are reversed within their own length, so each has its own time.
            let time = |s: usize| -> Option<usize> {
                let length = self.lengths.as_ref().map_or(self.steps, |l| l[s]);
                (step < length).then(|| if reverse { length - 1 - step } else { step })
            };
            let gathered: Vec<f32> = (0..n)
                .flat_map(|s| {
                    let t = time(s).unwrap_or(0);
                    x[(t * n + s) * self.input..][..self.input].iter().copied()
                })
                .collect();
            gemm(1.0, Matrix::new(&gathered, n, self.input)?, Matrix::new(weights.w, rows, self.input)?.t(), 0.0, &mut from_x)?;
            gemm(1.0, Matrix::new(h, n, k)?, Matrix::new(weights.r, rows, k)?.t(), 0.0, &mut from_h)?;
            if self.cell == Cell::Gru && !self.linear_before_reset {
                self.reset_first(weights, h, &from_x, &mut from_h)?;
            }
            for s in 0..n {
                let Some(t) = time(s) else { continue };
                let (xs, hs) = (&from_x[s * rows..][..rows], &from_h[s * rows..][..rows]);
                let (h, c) = (&mut h[s * k..][..k], c.get_mut(s * k..(s + 1) * k));
                match (self.cell, c) {
                    (Cell::Lstm, Some(c)) => self.lstm(weights, xs, hs, h, c),
                    (Cell::Gru, _) => self.gru(weights, xs, hs, h),
                    _ => (0..k).for_each(|i| h[i] = self.activate(0, xs[i] + hs[i] + weights.wb[i] + weights.rb[i])),
                }
                emit(t, s, h);
            }
        }
        Ok(())
    }

    fn activate(&self, i: usize, x: f32) -> f32 {
        self.activations[i].of(x.clamp(-self.clip, self.clip))
    }

    /// Gates in the order input, output, forget, cell (ONNX, LSTM).
    fn lstm(&self, w: &Weights, xs: &[f32], hs: &[f32], h: &mut [f32], c: &mut [f32]) {
        let k = self.hidden;
        for i in 0..k {
            let gate = |g: usize| xs[g * k + i] + hs[g * k + i] + w.wb[g * k + i] + w.rb[g * k + i];
            let input = self.activate(0, gate(0) + w.peephole[i] * c[i]);
            let forget = if self.input_forget { 1.0 - input } else { self.activate(0, gate(2) + w.peephole[2 * k + i] * c[i]) };
            c[i] = forget * c[i] + input * self.activate(1, gate(3));
            let output = self.activate(0, gate(1) + w.peephole[k + i] * c[i]);
            h[i] = output * self.activations[2].of(c[i]);
        }
    }

    /// Gates in the order update, reset, hidden (ONNX, GRU).
    fn gru(&self, w: &Weights, xs: &[f32], hs: &[f32], h: &mut [f32]) {
        let k = self.hidden;
        for i in 0..k {
            let gate = |g: usize| xs[g * k + i] + hs[g * k + i] + w.wb[g * k + i] + w.rb[g * k + i];
            let update = self.activate(0, gate(0));
            let at = 2 * k + i;
            let candidate = if self.linear_before_reset {
                let reset = self.activate(0, gate(1));
                xs[at] + w.wb[at] + reset * (hs[at] + w.rb[at])
            } else {
                xs[at] + w.wb[at] + hs[at] + w.rb[at]
            };
            h[i] = (1.0 - update) * self.activate(1, candidate) + update * h[i];
        }
    }

    /// The hidden gate's product from the state that the reset gate has masked.
    fn reset_first(&self, w: &Weights, h: &[f32], from_x: &[f32], from_h: &mut [f32]) -> Result<()> {
        let (n, k, rows) = (self.batch, self.hidden, w.wb.len());
        let masked: Vec<f32> = (0..n * k)
            .map(|i| {
                let (s, at) = (i / k, k + i % k);
                h[i] * self.activate(0, from_x[s * rows + at] + from_h[s * rows + at] + w.wb[at] + w.rb[at])
            })
            .collect();
        let mut product = vec![0.0; n * k];
        gemm(1.0, Matrix::new(&masked, n, k)?, Matrix::new(&w.r[2 * k * k..], k, k)?.t(), 0.0, &mut product)?;
        for (s, row) in product.chunks_exact(k.max(1)).enumerate() {
            from_h[s * rows + 2 * k..][..k].copy_from_slice(row);
        }
        Ok(())
    }
}
