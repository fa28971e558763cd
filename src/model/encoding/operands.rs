//! Where operators keep the scales and zero points of what they read and write.

use super::{FloatFormat, Granularity, Levels, Quantized, Scheme, Storage};
use crate::model::elements::{Elements, Packing, dims};
use crate::model::nested::Names;
use crate::onnx::{Attributes, dtype_from_onnx, pb};
use crate::{Error, Result};

/// The domain of ONNX Runtime's own operators.
pub(in crate::model) const CONTRIB: &str = "com.microsoft";

/// True for `op` of ONNX itself or of ONNX Runtime, which has several of ONNX's operators under its own domain too.
pub(in crate::model) fn is_known(node: &pb::NodeProto) -> bool {
    node.is_standard() || node.domain() == CONTRIB
}

/// The axis of an operand that one-dimensional scales run along.
#[derive(Clone, Copy)]
enum Along {
    First,
    Last,
    /// The last but one: rows of the first factor.
    Rows,
    /// Output channels of `QGemm`'s weights.
    Gemm,
}

/// An operand that is quantized: which inputs hold value, scale and zero point.
#[derive(Clone, Copy)]
struct Operand {
    value: usize,
    scale: Option<usize>,
    zero: Option<usize>,
    along: Along,
}

const fn operand(value: usize, along: Along) -> Operand {
    Operand { value, scale: Some(value + 1), zero: Some(value + 2), along }
}

const fn integer(value: usize, zero: usize, along: Along) -> Operand {
    Operand { value, scale: None, zero: Some(zero), along }
}

/// The quantized operands of an operator, and the input that holds the scale of its result (the zero point follows it).
fn operands(node: &pb::NodeProto) -> (&'static [Operand], Option<usize>) {
    if !is_known(node) {
        return (&[], None);
    }
    const CONV: &[Operand] = &[operand(0, Along::First), operand(3, Along::First)];
    const MATMUL: &[Operand] = &[operand(0, Along::Rows), operand(3, Along::Last)];
    const GEMM: &[Operand] = &[operand(0, Along::Rows), operand(3, Along::Gemm)];
    const CONV_INTEGER: &[Operand] = &[integer(0, 2, Along::First), integer(1, 3, Along::First)];
    const MATMUL_INTEGER: &[Operand] = &[integer(0, 2, Along::Rows), integer(1, 3, Along::Last)];
    const DYNAMIC: &[Operand] = &[operand(1, Along::Last)];
    const UNARY: &[Operand] = &[operand(0, Along::First)];
    match node.op_type() {
        "QLinearConv" => (CONV, Some(6)),
        "QLinearMatMul" => (MATMUL, Some(6)),
        "QGemm" => (GEMM, Some(7)),
        "QLinearAdd" | "QLinearMul" => (MATMUL, Some(6)),
        "ConvInteger" => (CONV_INTEGER, None),
        "MatMulInteger" => (MATMUL_INTEGER, None),
        "DynamicQuantizeMatMul" => (DYNAMIC, None),
        "QLinearSigmoid" | "QLinearLeakyRelu" | "QLinearGlobalAveragePool" | "QLinearAveragePool" | "QLinearSoftmax" => (UNARY, Some(3)),
        _ => (&[], None),
    }
}

/// The inputs of a node that hold scales and zero points, or may.
pub(in crate::model) fn scale_inputs(node: &pb::NodeProto) -> Vec<usize> {
    match node.op_type() {
        "QuantizeLinear" | "DequantizeLinear" => vec![1, 2],
        "MatMulNBits" => vec![2, 3],
        _ => {
            let (operands, result) = operands(node);
            let own = operands.iter().flat_map(|o| o.scale.into_iter().chain(o.zero));
            own.chain(result.into_iter().flat_map(|scale| [scale, scale + 1])).collect()
        }
    }
}

/// The tensors that hold a value's scales and zero points, as far as they are constants.
#[derive(Clone, Copy)]
pub(in crate::model) struct Numbers<'m> {
    scale: Option<&'m pb::TensorProto>,
    zero: Option<&'m pb::TensorProto>,
    /// `None` when the scale is computed.
    pub(in crate::model) granularity: Option<Granularity>,
    /// Of `MatMulNBits`: the storage, and the number of rows and their packing.
    pub(in crate::model) packed: Option<(Storage, usize, Packing)>,
}

impl<'m> Numbers<'m> {
    fn new(names: &Names<'_, 'm>, node: &pb::NodeProto, scale: Option<usize>, zero: Option<usize>, axis: usize, block: usize) -> Self {
        let constant = |index: Option<usize>| index.and_then(|i| names.constant_input(node, i));
        let scale = constant(scale);
        let granularity = scale.map(|s| match (dims(s).as_slice(), block) {
            ([] | [1], _) => Granularity::Tensor,
            (_, 0) => Granularity::Axis(axis),
            (_, size) => Granularity::Block { axis, size },
        });
        Numbers { scale, zero: constant(zero), granularity, packed: None }
    }

    /// Of a `QuantizeLinear` or `DequantizeLinear` whose value has `rank` dimensions. An axis that is left out is 1.
    pub(in crate::model) fn linear(names: &Names<'_, 'm>, node: &pb::NodeProto, rank: usize) -> Self {
        let axis = node.int("axis").unwrap_or(1);
        let axis = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        let block = node.int("block_size").unwrap_or(0);
        // What is out of range stays so, and does not fit any shape.
        let number = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
        Numbers::new(names, node, Some(1), Some(2), number(axis), number(block))
    }

    /// Of input `index` of an operator on integers, a value of `rank` dimensions.
    pub(in crate::model) fn operand(names: &Names<'_, 'm>, node: &pb::NodeProto, index: usize, rank: usize) -> Option<Self> {
        let o = operands(node).0.iter().find(|o| o.value == index)?;
        let axis = match o.along {
            Along::First => 0,
            Along::Last => rank.saturating_sub(1),
            Along::Rows => rank.saturating_sub(2),
            Along::Gemm => usize::from(node.int("transB").unwrap_or(0) != 1),
        };
        Some(Numbers::new(names, node, o.scale, o.zero, axis, 0))
    }

    /// Of what an operator on integers gives.
    pub(in crate::model) fn result(names: &Names<'_, 'm>, node: &pb::NodeProto) -> Option<Self> {
        let scale = operands(node).1?;
        Some(Numbers::new(names, node, Some(scale), Some(scale + 1), 0, 0))
    }

    /// Of the weights of `MatMulNBits` (com.microsoft), seen as N rows of K. `None` when its attributes make no sense.
    pub(in crate::model) fn nbits(names: &Names<'_, 'm>, node: &pb::NodeProto) -> Option<Self> {
        let attribute = |name: &str, default: i64| usize::try_from(node.int(name).unwrap_or(default)).ok().filter(|&v| v > 0);
        let (rows, row, block) = (attribute("N", 0)?, attribute("K", 0)?, attribute("block_size", 0)?);
        let storage = match attribute("bits", 4)? {
            2 => Storage::Packed2,
            4 => Storage::Packed4,
            8 => Storage::Packed8,
            _ => return None,
        };
        rows.checked_mul(row)?;
        block.checked_mul(8)?;
        let granularity = Granularity::Block { axis: 1, size: block };
        let packing = Packing { row, block, bits: storage.bits() as usize };
        let mut numbers = Numbers::new(names, node, Some(2), Some(3), 1, block);
        numbers.granularity = numbers.scale.map(|_| granularity);
        numbers.packed = Some((storage, rows, packing));
        Some(numbers)
    }

    /// Zero points, one per scale; empty when all are 0.
    fn zero_points(&self) -> Result<Vec<i32>> {
        match (self.zero, self.packed) {
            (None, None) => Ok(Vec::new()),
            // Without zero points MatMulNBits takes the middle.
            (None, Some((storage, ..))) => Ok(vec![storage.middle(); self.scale.map_or(1, |s| dims(s).iter().product())]),
            (Some(zero), None) => Elements::new(zero).map(Elements::to_i32),
            (Some(zero), Some((_, rows, p))) => {
                if dtype_from_onnx(zero.data_type()).is_some_and(|t| t.is_float()) {
                    return Err(Error::bad_input(format!("`{}`: zero points in floating point are not read", zero.name())));
                }
                let blocks = p.row.div_ceil(p.block);
                Elements::packed(zero, rows, Packing { row: blocks, block: blocks, bits: p.bits }).map(Elements::to_i32)
            }
        }
    }

    /// Where zero is, for integers in `storage`. Zero points that cannot be read count as asymmetric.
    pub(in crate::model) fn scheme(&self, storage: Storage) -> Scheme {
        let middle = storage.middle();
        let symmetric = match self.zero_points() {
            Ok(z) if z.is_empty() => middle == 0,
            Ok(z) => z.iter().all(|&z| z == middle),
            Err(_) => false,
        };
        if symmetric { Scheme::Symmetric } else { Scheme::Asymmetric }
    }

    /// The zero points' least and greatest; `None` when all are 0.
    pub(in crate::model) fn zero_range(&self) -> Option<(i32, i32)> {
        let z = self.zero_points().ok()?;
        Some((*z.iter().min()?, *z.iter().max()?))
    }

    /// The complete encoding of a value in `storage` that holds only `levels`; `None` when scale or zero point is computed.
    pub(in crate::model) fn encoding(&self, storage: Storage, levels: Levels) -> Result<Option<Quantized>> {
        let (Some(scale), Some(granularity)) = (self.scale, self.granularity) else { return Ok(None) };
        let elements = Elements::new(scale)?;
        let format = FloatFormat::of(elements.dtype()).ok_or_else(|| Error::bad_input("a scale is no floating-point number"))?;
        let quantized = Quantized::new(storage, levels, granularity, elements.to_f32(), self.zero_points()?);
        quantized.map(|q| Some(q.with_scale_format(format))).map_err(|e| e.context(format!("scale `{}`", scale.name())))
    }
}
