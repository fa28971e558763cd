//! One shape rule per operator: dimensions and type of the outputs from those of the inputs.

use super::eval::{broadcast, count};
use super::infer::{Fact, Facts};
use super::shape_windows::{conv, pool};
use crate::onnx::{Attributes, dtype_from_onnx, pb};
use crate::tensor::DType;
use crate::{Error, Result};

/// The outer result is for graphs that contradict themselves; the inner error says why the outputs stay unknown.
pub(super) type Rule = Result<std::result::Result<Vec<Fact>, String>>;

/// Dimensions of all outputs of `node`.
pub(super) fn outputs(node: &pb::NodeProto, opset: i64, facts: &Facts) -> Rule {
    let op = node.op_type();
    if !node.is_standard() {
        return Ok(Err(format!("there is no shape rule for {op} of the domain `{}`", node.domain())));
    }
    let input = |i: usize| node.input.get(i).filter(|n| !n.is_empty()).and_then(|n| facts.get(n));
    let Some(x) = input(0) else { return Ok(Err(format!("the shape of the first input of {op} is not known"))) };
    let like = |shape: Vec<usize>| Ok(Ok(vec![Fact { dtype: x.dtype, shape }]));
    match op {
        "Relu"
        | "LeakyRelu"
        | "PRelu"
        | "Clip"
        | "Sigmoid"
        | "Tanh"
        | "HardSigmoid"
        | "HardSwish"
        | "Elu"
        | "Selu"
        | "Gelu"
        | "Erf"
        | "Softplus"
        | "Softmax"
        | "LogSoftmax"
        | "Identity"
        | "Neg"
        | "Abs"
        | "Sqrt"
        | "Reciprocal"
        | "Exp"
        | "Log"
        | "Floor"
        | "Ceil"
        | "Round"
        | "Sign"
        | "Not"
        | "LRN"
        | "InstanceNormalization"
        | "Sin"
        | "Cos"
        | "Mish" => like(x.shape.clone()),
        "BatchNormalization" | "LayerNormalization" | "Dropout" => like(x.shape.clone()),
        "Cast" => {
            let to = node.int("to").and_then(|c| i32::try_from(c).ok()).and_then(dtype_from_onnx);
            Ok(to.map(|dtype| vec![Fact { dtype, shape: x.shape.clone() }]).ok_or_else(|| "cast to an unsupported type".to_owned()))
        }
        "QuantizeLinear" => {
            let dtype = input(2).map_or(DType::U8, |z| z.dtype);
            Ok(Ok(vec![Fact { dtype, shape: x.shape.clone() }]))
        }
        "DequantizeLinear" => Ok(Ok(vec![Fact { dtype: DType::F32, shape: x.shape.clone() }])),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Min" | "Max" | "Sum" | "Mean" | "Mod" | "And" | "Or" | "Xor" => {
            broadcast_all(node, facts, x.dtype, 0)
        }
        "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" => broadcast_all(node, facts, DType::Bool, 0),
        "Where" => {
            let dtype = input(1).map_or(DType::F32, |f| f.dtype);
            broadcast_all(node, facts, dtype, 0)
        }
        "Conv" => {
            let Some(w) = input(1) else { return Ok(Err("the weights' shape is not known".into())) };
            conv(node, x, w)
        }
        "MaxPool" | "AveragePool" | "LpPool" => pool(node, x),
        "GlobalAveragePool" | "GlobalMaxPool" => {
            let shape = x.shape.iter().enumerate().map(|(i, &d)| if i < 2 { d } else { 1 }).collect();
            like(shape)
        }
        "Gemm" => {
            let Some(w) = input(1) else { return Ok(Err("the weights' shape is not known".into())) };
            gemm(node, x, w)
        }
        "MatMul" => {
            let Some(w) = input(1) else { return Ok(Err("the second factor's shape is not known".into())) };
            matmul(x, w)
        }
        "Flatten" => {
            let axis = axis_of(node.int("axis").unwrap_or(1), x.shape.len() + 1)?;
            like(vec![x.shape[..axis].iter().product(), x.shape[axis..].iter().product()])
        }
        "Reshape" => match ints(node, 1, "shape", facts) {
            Some(target) => like(reshape(&x.shape, &target, node.int("allowzero") == Some(1))?),
            None => Ok(Err("the target shape is computed from data".into())),
        },
        "Transpose" => {
            let rank = x.shape.len();
            let perm: Vec<usize> = match node.ints("perm") {
                Some(p) => p.iter().map(|&a| axis_of(a, rank)).collect::<Result<_>>()?,
                None => (0..rank).rev().collect(),
            };
            if perm.len() != rank {
                return Err(Error::bad_input(format!("`perm` has {} axes, the input {rank}", perm.len())));
            }
            like(perm.into_iter().map(|a| x.shape[a]).collect())
        }
        "Concat" => concat(node, x, facts),
        "Split" => split(node, x, facts),
        "Squeeze" => {
            let axes = axes(node, 1, facts, x.shape.len())?;
            let keep = |(i, d): (usize, &usize)| match &axes {
                Some(a) => (!a.contains(&i)).then_some(*d),
                None => (*d != 1).then_some(*d),
            };
            like(x.shape.iter().enumerate().filter_map(keep).collect())
        }
        "Unsqueeze" => {
            let Some(raw) = ints(node, 1, "axes", facts) else { return Ok(Err("the axes are computed from data".into())) };
            let rank = x.shape.len() + raw.len();
            let axes: Vec<usize> = raw.iter().map(|&a| axis_of(a, rank)).collect::<Result<_>>()?;
            let mut old = x.shape.iter();
            like((0..rank).map(|i| if axes.contains(&i) { 1 } else { old.next().copied().unwrap_or(1) }).collect())
        }
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL2" | "ReduceL1" => reduce(node, x, facts),
        "ArgMax" | "ArgMin" => {
            let axis = axis_of(node.int("axis").unwrap_or(0), x.shape.len())?;
            let mut shape = x.shape.clone();
            match node.int("keepdims").unwrap_or(1) {
                1 => shape[axis] = 1,
                _ => {
                    shape.remove(axis);
                }
            }
            Ok(Ok(vec![Fact { dtype: DType::I64, shape }]))
        }
        "Gather" => {
            let Some(indices) = input(1) else { return Ok(Err("the indices' shape is not known".into())) };
            let axis = axis_of(node.int("axis").unwrap_or(0), x.shape.len())?;
            like([&x.shape[..axis], &indices.shape, &x.shape[axis + 1..]].concat())
        }
        "Slice" => slice(node, opset, x, facts),
        "Pad" => match ints(node, 1, "pads", facts) {
            Some(p) if p.len() == 2 * x.shape.len() => {
                let rank = x.shape.len();
                like((0..rank).map(|i| (x.shape[i] as i64).saturating_add(p[i]).saturating_add(p[i + rank]).max(0) as usize).collect())
            }
            _ => Ok(Err("the pads are computed from data".into())),
        },
        "Expand" => match ints(node, 1, "", facts) {
            Some(target) => {
                let target: Vec<usize> = target.iter().map(|&d| d.max(0) as usize).collect();
                like(broadcast(&x.shape, &target)?)
            }
            None => Ok(Err("the target shape is computed from data".into())),
        },
        "ConstantOfShape" => match ints(node, 0, "", facts) {
            Some(target) => {
                let dtype = node.attr("value").and_then(|a| dtype_from_onnx(a.t.data_type())).unwrap_or(DType::F32);
                let shape = target.iter().map(|&d| usize::try_from(d).map_err(|_| Error::bad_input(format!("dimension {d} is negative"))));
                Ok(Ok(vec![Fact { dtype, shape: shape.collect::<Result<_>>()? }]))
            }
            None => Ok(Err("the shape is computed from data".into())),
        },
        "Range" => range(node, facts),
        _ => Ok(Err(format!("there is no shape rule for {op}"))),
    }
}

/// Integers given as input `index` (constant) or as the attribute of older opsets.
fn ints(node: &pb::NodeProto, index: usize, attribute: &str, facts: &Facts) -> Option<Vec<i64>> {
    match node.input.get(index).filter(|n| !n.is_empty()) {
        Some(name) => facts.value(name)?.as_i64().ok().map(<[i64]>::to_vec),
        None => node.ints(attribute).map(<[i64]>::to_vec),
    }
}

/// A possibly negative axis within `rank`.
fn axis_of(axis: i64, rank: usize) -> Result<usize> {
    let shifted = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(shifted)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| Error::bad_input(format!("axis {axis} is outside a tensor of {rank} dimensions")))
}

/// The axes of a reduction or squeeze; `None` when none are given.
fn axes(node: &pb::NodeProto, index: usize, facts: &Facts, rank: usize) -> Result<Option<Vec<usize>>> {
    ints(node, index, "axes", facts).map(|a| a.iter().map(|&a| axis_of(a, rank)).collect()).transpose()
}

fn broadcast_all(node: &pb::NodeProto, facts: &Facts, dtype: DType, from: usize) -> Rule {
    let mut shape = Vec::new();
    for name in node.input.iter().skip(from) {
        match facts.shape(name) {
            Some(s) => shape = broadcast(&shape, s)?,
            None => return Ok(Err(format!("the shape of `{name}` is not known"))),
        }
    }
    Ok(Ok(vec![Fact { dtype, shape }]))
}

fn gemm(node: &pb::NodeProto, a: &Fact, b: &Fact) -> Rule {
    let (&[m0, k0], &[k1, n1]) = (a.shape.as_slice(), b.shape.as_slice()) else {
        return Err(Error::bad_input(format!("Gemm needs matrices, found {:?} and {:?}", a.shape, b.shape)));
    };
    let (m, k) = if node.int("transA") == Some(1) { (k0, m0) } else { (m0, k0) };
    let (kb, n) = if node.int("transB") == Some(1) { (n1, k1) } else { (k1, n1) };
    if k != kb {
        return Err(Error::bad_input(format!("the inner dimensions {k} and {kb} differ")));
    }
    Ok(Ok(vec![Fact { dtype: a.dtype, shape: vec![m, n] }]))
}

fn matmul(a: &Fact, b: &Fact) -> Rule {
    let (sa, sb) = (&a.shape, &b.shape);
    if sa.len() < 2 || sb.len() < 2 {
        return Ok(Err("MatMul of vectors".into()));
    }
    let (ra, rb) = (sa.len(), sb.len());
    if sa[ra - 1] != sb[rb - 2] {
        return Err(Error::bad_input(format!("the inner dimensions of {sa:?} and {sb:?} differ")));
    }
    let mut shape = broadcast(&sa[..ra - 2], &sb[..rb - 2])?;
    shape.extend([sa[ra - 2], sb[rb - 1]]);
    Ok(Ok(vec![Fact { dtype: a.dtype, shape }]))
}

fn reshape(shape: &[usize], target: &[i64], allow_zero: bool) -> Result<Vec<usize>> {
    let total = count(shape)?;
    let mismatch = || Error::bad_input(format!("{shape:?} cannot be reshaped to {target:?}"));
    let mut out = Vec::with_capacity(target.len());
    for (i, &d) in target.iter().enumerate() {
        out.push(match d {
            0 if !allow_zero => *shape.get(i).ok_or_else(mismatch)?,
            -1 => 1,
            d => usize::try_from(d).map_err(|_| mismatch())?,
        });
    }
    if let Some(free) = target.iter().position(|&d| d == -1) {
        let rest = count(&out)?;
        if rest == 0 || total % rest != 0 {
            return Err(mismatch());
        }
        out[free] = total / rest;
    }
    if count(&out)? == total { Ok(out) } else { Err(mismatch()) }
}

fn concat(node: &pb::NodeProto, x: &Fact, facts: &Facts) -> Rule {
    let axis = axis_of(node.int("axis").unwrap_or(0), x.shape.len())?;
    let mut shape = x.shape.clone();
    for name in node.input.iter().skip(1) {
        match facts.shape(name) {
            Some(s) if s.len() == shape.len() => shape[axis] = shape[axis].saturating_add(s[axis]),
            Some(s) => return Err(Error::bad_input(format!("cannot join {:?} and {s:?}", x.shape))),
            None => return Ok(Err(format!("the shape of `{name}` is not known"))),
        }
    }
    Ok(Ok(vec![Fact { dtype: x.dtype, shape }]))
}

fn split(node: &pb::NodeProto, x: &Fact, facts: &Facts) -> Rule {
    let axis = axis_of(node.int("axis").unwrap_or(0), x.shape.len())?;
    let parts = node.output.len().max(1);
    let sizes: Vec<usize> = match ints(node, 1, "split", facts) {
        Some(s) => s.iter().map(|&v| v.max(0) as usize).collect(),
        None => {
            let size = x.shape[axis].div_ceil(parts);
            (0..parts).map(|i| size.min(x.shape[axis].saturating_sub(i * size))).collect()
        }
    };
    if sizes.len() != parts || sizes.iter().fold(0usize, |n, &s| n.saturating_add(s)) != x.shape[axis] {
        return Err(Error::bad_input(format!("{} cannot be split into {sizes:?}", x.shape[axis])));
    }
    let part = |size| {
        let mut shape = x.shape.clone();
        shape[axis] = size;
        Fact { dtype: x.dtype, shape }
    };
    Ok(Ok(sizes.into_iter().map(part).collect()))
}

fn reduce(node: &pb::NodeProto, x: &Fact, facts: &Facts) -> Rule {
    let rank = x.shape.len();
    let axes = match axes(node, 1, facts, rank)? {
        Some(a) if !a.is_empty() => a,
        _ if node.int("noop_with_empty_axes") == Some(1) => vec![],
        _ => (0..rank).collect(),
    };
    let keep = node.int("keepdims").unwrap_or(1) == 1;
    let dim = |(i, d): (usize, &usize)| match (axes.contains(&i), keep) {
        (false, _) => Some(*d),
        (true, true) => Some(1),
        (true, false) => None,
    };
    Ok(Ok(vec![Fact { dtype: x.dtype, shape: x.shape.iter().enumerate().filter_map(dim).collect() }]))
}

fn slice(node: &pb::NodeProto, opset: i64, x: &Fact, facts: &Facts) -> Rule {
    let get = |index: usize, attribute: &str| {
        if opset < 10 { node.ints(attribute).map(<[i64]>::to_vec) } else { ints(node, index, "", facts) }
    };
    let (Some(starts), Some(ends)) = (get(1, "starts"), get(2, "ends")) else {
        return Ok(Err("the bounds of the slice are computed from data".into()));
    };
    let axes = get(3, "axes").unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = get(4, "steps").unwrap_or_else(|| vec![1; starts.len()]);
    let mut shape = x.shape.clone();
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(Error::bad_input("starts, ends, axes and steps differ in length"));
    }
    for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = axis_of(axis, shape.len())?;
        let d = x.shape[axis] as i64;
        let wrap = |v: i64| if v < 0 { v.saturating_add(d) } else { v };
        shape[axis] = match step {
            0 => return Err(Error::bad_input("a slice's step is 0")),
            _ if d == 0 => 0,
            s if s > 0 => (wrap(end).clamp(0, d) - wrap(start).clamp(0, d)).max(0).unsigned_abs().div_ceil(s.unsigned_abs()) as usize,
            s => (wrap(start).clamp(0, d - 1) - wrap(end).clamp(-1, d - 1)).max(0).unsigned_abs().div_ceil(s.unsigned_abs()) as usize,
        };
    }
    like_slice(x, shape)
}

/// Length of a Range of integers: ⌈(limit − start) / delta⌉.
fn range(node: &pb::NodeProto, facts: &Facts) -> Rule {
    let number = |index: usize| ints(node, index, "", facts).and_then(|v| v.first().copied()).map(i128::from);
    let (Some(start), Some(limit), Some(delta)) = (number(0), number(1), number(2)) else {
        return Ok(Err("the bounds of the range are not known integers".into()));
    };
    if delta == 0 {
        return Err(Error::bad_input("a range's step is 0"));
    }
    let (span, step) = if delta > 0 { (limit - start, delta) } else { (start - limit, -delta) };
    let length = if span <= 0 { 0 } else { (span - 1) / step + 1 };
    let length = usize::try_from(length).map_err(|_| Error::bad_input(format!("a range of {length} numbers is too long")))?;
    Ok(Ok(vec![Fact { dtype: DType::I64, shape: vec![length] }]))
}

fn like_slice(x: &Fact, shape: Vec<usize>) -> Rule {
    Ok(Ok(vec![Fact { dtype: x.dtype, shape }]))
}
