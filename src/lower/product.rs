//! Gemm and MatMul by encoded weights, in one normal form: y = x·W + bias.

use super::coded::Coded;
use super::draft::Draft;
use crate::model::{Granularity, Storage, eval};
use crate::onnx::Attributes;
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// Why a layer cannot be written in a form, for people.
pub(super) type Refused = String;

/// Which weights share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// All.
    All,
    /// Those of one output: N scales.
    Output,
    /// `size` consecutive ones of one output: N × ⌈K / size⌉ scales, those of one output together.
    Block(usize),
}

/// The weights of a product, as integers of at most eight bits: W[k, n] = (levels[n·K + k] − zero)·scale.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Matrix {
    /// Inputs.
    pub(super) k: usize,
    /// Outputs.
    pub(super) n: usize,
    /// [N, K]
    pub(super) levels: Vec<i8>,
    /// As many as `sharing` says.
    pub(super) scales: Vec<f32>,
    /// One for each scale; empty when all are 0.
    pub(super) zeros: Vec<i8>,
    /// Which weights share a scale.
    pub(super) sharing: Sharing,
}

/// A layer in normal form.
#[derive(Debug, Clone)]
pub(super) struct Product {
    /// Name of x as the old graph has it.
    pub(super) input: String,
    /// Name of y.
    pub(super) output: String,
    /// The weights, with Gemm's `alpha` in their scales.
    pub(super) weights: Matrix,
    /// A tensor that is added, in float32.
    pub(super) bias: Option<String>,
}

impl Product {
    /// Reads layer `layer`.
    ///
    /// # Errors
    /// A constant cannot be decoded.
    pub(super) fn read(draft: &mut Draft<'_>, layer: &Coded) -> Result<std::result::Result<Product, Refused>> {
        let node = draft.node(layer.node);
        let (alpha, beta) = match layer.operator.as_str() {
            "Gemm" if node.int("transA").unwrap_or(0) != 0 => return Ok(Err("its input is transposed".into())),
            "Gemm" => (node.float("alpha").unwrap_or(1.0), node.float("beta").unwrap_or(1.0)),
            "MatMul" => (1.0, 1.0),
            other => return Ok(Err(format!("{other} has no such form"))),
        };
        if !(alpha.is_finite() && alpha > 0.0) {
            return Ok(Err(format!("its alpha is {alpha}")));
        }
        let (Some(input), Some(output)) = (node.input.first().cloned(), node.output.first().cloned()) else {
            return Ok(Err("it has no input".into()));
        };
        if draft.facts().shape(&input).is_some_and(|s| s.len() < 2) {
            return Ok(Err("its input is a vector".into()));
        }
        let weights = match Matrix::read(draft, layer, alpha)? {
            Ok(weights) => weights,
            Err(why) => return Ok(Err(why)),
        };
        let bias = match node.input.get(2).filter(|b| layer.operator == "Gemm" && !b.is_empty()) {
            None => None,
            Some(name) => match scaled_bias(draft, name, beta)? {
                Ok(bias) => Some(bias),
                Err(why) => return Ok(Err(why)),
            },
        };
        Ok(Ok(Product { input, output, weights, bias }))
    }
}

/// Gemm's third input as something to add.
fn scaled_bias(draft: &mut Draft<'_>, name: &str, beta: f32) -> Result<std::result::Result<String, Refused>> {
    let float = draft.float(name)?;
    if beta == 1.0 {
        return Ok(Ok(float));
    }
    let Some(value) = draft.value(&float)? else { return Ok(Err("its beta scales a bias that is computed".into())) };
    let scaled = eval::multiply(&value, &Tensor::f32([], vec![beta])?)?;
    Ok(Ok(draft.constant(&format!("{name}__scaled"), &scaled)))
}

impl Matrix {
    fn read(draft: &Draft<'_>, layer: &Coded, alpha: f32) -> Result<std::result::Result<Matrix, Refused>> {
        let (weight, code) = (&layer.weight, &layer.encoding);
        let &[rows, columns] = weight.shape.as_slice() else { return Ok(Err("its weights are no matrix".into())) };
        let outputs_first = weight.output_axis == 0;
        let (n, k) = if outputs_first { (rows, columns) } else { (columns, rows) };
        let sharing = match code.granularity() {
            Granularity::Tensor => Sharing::All,
            Granularity::Axis(axis) if axis == weight.output_axis => Sharing::Output,
            // A single block is all there is of an output.
            Granularity::Block { axis, size } if axis == weight.input_axis && size >= k => Sharing::Output,
            Granularity::Block { axis, size } if axis == weight.input_axis => Sharing::Block(size),
            _ => return Ok(Err("its scales do not follow its outputs".into())),
        };
        let constant = draft.graph().constant(&weight.name)?;
        let integers = constant.ok_or_else(|| Error::bad_input(format!("`{}` is not a constant", weight.name)))?;
        // Unsigned bytes and their zero points are shifted together: the numbers stay.
        let shift = if code.storage() == Storage::U8 { 128 } else { 0 };
        let levels: Vec<i8> = match integers.data() {
            Data::I8(v) | Data::I4(v) => v.clone(),
            Data::U8(v) | Data::U4(v) => v.iter().map(|&q| (i32::from(q) - shift) as i8).collect(),
            _ => return Ok(Err(format!("its integers are {}", code.storage().name()))),
        };
        let zeros: Vec<i8> = code.zero_points().iter().map(|&z| (z - shift) as i8).collect();
        // Without zero points all are 0, which the shift moves too.
        let zeros = if zeros.is_empty() { vec![(-shift) as i8; code.scales().len()] } else { zeros };
        let blocks = if let Sharing::Block(size) = sharing { k.div_ceil(size) } else { 1 };
        let is_blocked = matches!(sharing, Sharing::Block(_));
        let scales: Vec<f32> = code.scales().iter().map(|s| s * alpha).collect();
        let matrix = Matrix {
            k,
            n,
            levels: if outputs_first { levels } else { transposed(&levels, k) },
            scales: if is_blocked && !outputs_first { transposed(&scales, blocks) } else { scales },
            zeros: match zeros.iter().all(|&z| z == 0) {
                true => Vec::new(),
                false if is_blocked && !outputs_first => transposed(&zeros, blocks),
                false => zeros,
            },
            sharing,
        };
        if matrix.scales.iter().any(|s: &f32| !(s.is_finite() && *s > 0.0)) {
            return Ok(Err("its alpha takes its scales out of float32's range".into()));
        }
        Ok(Ok(matrix))
    }

    /// The same numbers with zero points of 0, where the integers stay within eight bits.
    pub(super) fn centred(self) -> Matrix {
        let zero = |at: usize| self.zeros.get(self.group(at)).copied().unwrap_or(0);
        let levels: Option<Vec<i8>> = self.levels.iter().enumerate().map(|(at, &level)| level.checked_sub(zero(at))).collect();
        match levels {
            Some(levels) => Matrix { levels, zeros: Vec::new(), ..self },
            None => self,
        }
    }

    /// Which scale belongs to the weight at a place in [`Matrix::levels`].
    fn group(&self, at: usize) -> usize {
        let (row, column) = (at / self.k.max(1), at % self.k.max(1));
        match self.sharing {
            Sharing::All => 0,
            Sharing::Output => row,
            Sharing::Block(size) => row * self.k.div_ceil(size) + column / size,
        }
    }

    /// [K, N], as MatMul reads it.
    pub(super) fn inputs_first(&self) -> Vec<i8> {
        transposed(&self.levels, self.n)
    }
}

/// The transpose of `rows` rows.
fn transposed<T: Copy>(values: &[T], rows: usize) -> Vec<T> {
    let columns = values.len().checked_div(rows).unwrap_or(0);
    (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c)).map(|i| values[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_points_go_into_integers_that_have_room_for_them() {
        let of = |levels: [i8; 4], zeros: [i8; 2]| Matrix {
            k: 2,
            n: 2,
            levels: levels.to_vec(),
            scales: vec![1.0, 2.0],
            zeros: zeros.to_vec(),
            sharing: Sharing::Output,
        };
        let centred = of([-120, 3, 4, 5], [8, -3]).centred();
        assert_eq!((centred.levels, centred.zeros), (vec![-128, -5, 7, 8], vec![]));
        // All or nothing: the layer has zero points, or none.
        assert_eq!(of([-121, 3, 4, 5], [8, -3]).centred(), of([-121, 3, 4, 5], [8, -3]));
    }

    #[test]
    fn transposing_twice_gives_the_same() {
        let v: Vec<i32> = (0..12).collect();
        assert_eq!(transposed(&v, 3), [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
        assert_eq!(transposed(&transposed(&v, 3), 4), v);
        assert!(transposed::<i32>(&[], 0).is_empty());
    }
}
