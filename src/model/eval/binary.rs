//! Elementwise operators on two or more tensors, with NumPy broadcasting.

use super::args::Args;
use super::cast::cast;
use super::layout::{Nest, broadcast, broadcast_strides, count, gather};
use super::types::{Number, every, numbers, read2, whole, wrap, wrap2};
use crate::onnx::Attributes;
use crate::tensor::{DType, Data, Tensor, map_data};
use crate::{Error, Result};

/// All pairs of elements of two tensors that broadcast.
struct Pairs {
    shape: Vec<usize>,
    nest: Nest<2>,
}

impl Pairs {
    fn new(a: &Tensor, b: &Tensor) -> Result<Self> {
        let shape = broadcast(a.shape(), b.shape())?;
        count(&shape)?;
        let nest = Nest::new(&shape, [&broadcast_strides(a.shape(), &shape), &broadcast_strides(b.shape(), &shape)], [0, 0]);
        Ok(Pairs { shape, nest })
    }

    /// Applies `f` to all pairs.
    fn map<A: Copy, B: Copy, R>(&self, a: &[A], b: &[B], f: impl Fn(A, B) -> R) -> Vec<R> {
        let mut out = Vec::with_capacity(self.shape.iter().product());
        // Along a row each side moves by 1 or stands still: merging keeps strides dense or 0. The plain loops below vectorise.
        let n = self.nest.row;
        self.nest.rows(|[i, j]| match self.nest.steps {
            [1, 1] => out.extend(a[i..i + n].iter().zip(&b[j..j + n]).map(|(&x, &y)| f(x, y))),
            [1, _] => {
                let y = b[j];
                out.extend(a[i..i + n].iter().map(|&x| f(x, y)));
            }
            [_, 1] => {
                let x = a[i];
                out.extend(b[j..j + n].iter().map(|&y| f(x, y)));
            }
            _ => out.extend((0..n).map(|_| f(a[i], b[j]))),
        });
        out
    }
}

/// `a + b`, broadcast.
pub(crate) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    arithmetic("Add", a, b)
}

/// `a · b`, broadcast.
pub(crate) fn multiply(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    arithmetic("Mul", a, b)
}

/// The operators on exactly two tensors.
pub(super) fn pair(args: &Args) -> Result<Tensor> {
    let (a, b) = (args.tensor(0)?, args.tensor(1)?);
    let aligned = aligned(args, a, b)?;
    let b = aligned.as_ref().unwrap_or(b);
    match args.node.op_type() {
        op @ ("Add" | "Sub" | "Mul" | "Div") => arithmetic(op, a, b),
        op @ ("Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual") => compare(op, a, b),
        op @ ("And" | "Or" | "Xor") => logical(op, a, b),
        op @ ("BitwiseAnd" | "BitwiseOr" | "BitwiseXor") => bitwise(op, a, b),
        "BitShift" => shift(args.node.string("direction"), a, b),
        "Mod" => modulo(args.int_or("fmod", 0) != 0, a, b),
        "PRelu" => prelu(a, b),
        _ => power(a, b),
    }
}

/// Before operator set 7 the second tensor could name the axis of the first that its own axes start at.
fn aligned(args: &Args, a: &Tensor, b: &Tensor) -> Result<Option<Tensor>> {
    let axis = match (args.node.op_type(), args.node.int("axis")) {
        _ if args.opset >= 7 || b.len() == 1 => return Ok(None),
        ("PRelu", _) if b.shape().len() == 1 && a.shape().len() > 1 => 1,
        (_, Some(axis)) => super::layout::axis(axis, a.shape().len())?,
        _ => return Ok(None),
    };
    let behind = a.shape().len().saturating_sub(axis + b.shape().len());
    b.clone().reshaped([b.shape(), &vec![1; behind]].concat()).map(Some)
}

/// `Add`, `Sub`, `Mul`, `Div`, and one step of `Min`, `Max`, `Sum`, on numbers of one type.
fn arithmetic(op: &str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    fn run<T: Number>(op: &str, pairs: &Pairs, a: &[T], b: &[T]) -> Result<Vec<T>> {
        Ok(match op {
            "Add" | "Sum" | "Mean" => pairs.map(a, b, T::add),
            "Sub" => pairs.map(a, b, T::sub),
            "Mul" => pairs.map(a, b, T::mul),
            "Min" => pairs.map(a, b, T::min),
            "Max" => pairs.map(a, b, T::max),
            _ => {
                divisible(b)?;
                pairs.map(a, b, T::div)
            }
        })
    }
    let pairs = Pairs::new(a, b)?;
    let data = numbers!(wrap2!(a.data(), b.data(), x, y => run(op, &pairs, x, y)?));
    Tensor::new(pairs.shape, data.ok_or_else(|| type_mismatch(a, b))?)
}

/// Refuses integer zeros as divisors.
fn divisible<T: Number>(divisors: &[T]) -> Result<()> {
    match divisors.iter().any(|y| y.is_integer_zero()) {
        true => Err(Error::bad_input("division of an integer by zero")),
        false => Ok(()),
    }
}

/// `Mod`: the sign is the divisor's, with `fmod` the dividend's.
fn modulo(fmod: bool, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    fn run<T: Number>(fmod: bool, pairs: &Pairs, a: &[T], b: &[T]) -> Result<Vec<T>> {
        divisible(b)?;
        Ok(if fmod { pairs.map(a, b, T::rem) } else { pairs.map(a, b, T::modulo) })
    }
    let pairs = Pairs::new(a, b)?;
    let data = numbers!(wrap2!(a.data(), b.data(), x, y => run(fmod, &pairs, x, y)?));
    Tensor::new(pairs.shape, data.ok_or_else(|| type_mismatch(a, b))?)
}

/// `BitwiseAnd`, `BitwiseOr`, `BitwiseXor`.
fn bitwise(op: &str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let pairs = Pairs::new(a, b)?;
    let data = whole!(wrap2!(a.data(), b.data(), x, y => match op {
        "BitwiseAnd" => pairs.map(x, y, |p, q| p & q),
        "BitwiseOr" => pairs.map(x, y, |p, q| p | q),
        _ => pairs.map(x, y, |p, q| p ^ q),
    }));
    Tensor::new(pairs.shape, data.ok_or_else(|| type_mismatch(a, b))?)
}

/// `BitShift`; shifts by the width or more, or by negative numbers, shift everything out.
fn shift(direction: Option<&str>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let left = match direction {
        Some("LEFT") => true,
        Some("RIGHT") => false,
        _ => return Err(Error::bad_input("`direction` must be LEFT or RIGHT")),
    };
    let pairs = Pairs::new(a, b)?;
    let data = whole!(wrap2!(a.data(), b.data(), x, y => pairs.map(x, y, |p, by| {
        let by = Some(by.to_f64()).filter(|by| (0.0..64.0).contains(by)).map_or(u32::MAX, |by| by as u32);
        // Beyond the width a right shift leaves the sign alone, in two steps because one of the whole width is not defined.
        let width = p.count_ones() + p.count_zeros();
        if left { p.checked_shl(by).unwrap_or(0) } else { p.checked_shr(by).unwrap_or_else(|| p >> (width - 1) >> 1) }
    })));
    Tensor::new(pairs.shape, data.ok_or_else(|| type_mismatch(a, b))?)
}

/// `Min`, `Max`, `Sum`, `Mean`: any number of inputs.
pub(super) fn variadic(args: &Args) -> Result<Tensor> {
    let inputs = args.all()?;
    let mut result = inputs[0].clone();
    for other in &inputs[1..] {
        result = arithmetic(args.node.op_type(), &result, other)?;
    }
    if args.node.op_type() != "Mean" {
        return Ok(result);
    }
    let n = cast(&Tensor::new(vec![], Data::I64(vec![inputs.len() as i64]))?, result.dtype())?;
    arithmetic("Div", &result, &n)
}

/// `Equal`, `Less`, `Greater`, `LessOrEqual`, `GreaterOrEqual`, on elements of one type.
fn compare(op: &str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    fn run<T: Copy + PartialOrd>(op: &str, pairs: &Pairs, a: &[T], b: &[T]) -> Vec<bool> {
        match op {
            "Equal" => pairs.map(a, b, |x, y| x == y),
            "Less" => pairs.map(a, b, |x, y| x < y),
            "Greater" => pairs.map(a, b, |x, y| x > y),
            "LessOrEqual" => pairs.map(a, b, |x, y| x <= y),
            _ => pairs.map(a, b, |x, y| x >= y),
        }
    }
    let pairs = Pairs::new(a, b)?;
    let v = match (a.data(), b.data()) {
        (Data::Bool(x), Data::Bool(y)) => Some(run(op, &pairs, x, y)),
        (a, b) => numbers!(read2!(a, b, x, y => run(op, &pairs, x, y))),
    };
    Tensor::new(pairs.shape, Data::Bool(v.ok_or_else(|| type_mismatch(a, b))?))
}

/// `And`, `Or`, `Xor`.
fn logical(op: &str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (Data::Bool(x), Data::Bool(y)) = (a.data(), b.data()) else { return Err(type_mismatch(a, b)) };
    let pairs = Pairs::new(a, b)?;
    let v = match op {
        "And" => pairs.map(x, y, |p, q| p && q),
        "Or" => pairs.map(x, y, |p, q| p || q),
        _ => pairs.map(x, y, |p, q| p != q),
    };
    Tensor::new(pairs.shape, Data::Bool(v))
}

/// `Pow`: the exponent may have another type; the result has the base's.
fn power(base: &Tensor, exponent: &Tensor) -> Result<Tensor> {
    let wide = cast(exponent, DType::F64)?;
    let Data::F64(e) = wide.data() else { return Err(type_mismatch(base, exponent)) };
    let pairs = Pairs::new(base, exponent)?;
    let data = match base.data() {
        // Squares (variances, distances) deserve a multiplication.
        Data::F32(v) if e[..] == [2.0] => Some(Data::F32(pairs.map(v, e, |x, _| x * x))),
        Data::F32(v) => Some(Data::F32(pairs.map(v, e, |x, y| x.powf(y as f32)))),
        other => numbers!(wrap!(other, v => pairs.map(v, e, |x, y| Number::from_f64(x.to_f64().powf(y))))),
    };
    Tensor::new(pairs.shape, data.ok_or_else(|| type_mismatch(base, exponent))?)
}

/// `PRelu`: the slope broadcasts to the input, never the other way.
fn prelu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    fn leak<T: Number>(x: T, slope: T) -> T {
        if x < T::default() { slope.mul(x) } else { x }
    }
    let pairs = Pairs::new(x, slope)?;
    if pairs.shape != x.shape() {
        return Err(Error::bad_input(format!("a slope of shape {:?} does not fit an input of shape {:?}", slope.shape(), x.shape())));
    }
    let data = numbers!(wrap2!(x.data(), slope.data(), v, s => pairs.map(v, s, leak)));
    Tensor::new(pairs.shape, data.ok_or_else(|| type_mismatch(x, slope))?)
}

/// `Where`: picks from `a` where the condition holds, else from `b`.
pub(super) fn choose(condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let Data::Bool(c) = condition.data() else {
        return Err(Error::bad_input(format!("the condition must be bool, found {}", condition.dtype().name())));
    };
    let shape = broadcast(condition.shape(), &broadcast(a.shape(), b.shape())?)?;
    let total = count(&shape)?;
    let strides = [condition, a, b].map(|t| broadcast_strides(t.shape(), &shape));
    let nest = Nest::new(&shape, [&strides[0], &strides[1], &strides[2]], [0; 3]);
    let [sc, sa, sb] = nest.steps.map(|s| s as usize);
    let data = every!(wrap2!(a.data(), b.data(), x, y => {
        let mut out = Vec::with_capacity(total);
        nest.rows(|[k, i, j]| {
            out.extend((0..nest.row).map(|r| if c[k + r * sc] { x[i + r * sa] } else { y[j + r * sb] }));
        });
        out
    }));
    Tensor::new(shape, data.ok_or_else(|| type_mismatch(a, b))?)
}

/// `Expand`: repeats the tensor so that it has at least the shape asked for.
pub(super) fn expand(x: &Tensor, target: &[usize]) -> Result<Tensor> {
    let shape = broadcast(x.shape(), target)?;
    count(&shape)?;
    let strides = broadcast_strides(x.shape(), &shape);
    let data = map_data!(x.data(), v => gather(v, &shape, &strides, 0));
    Tensor::new(shape, data)
}

pub(super) fn type_mismatch(a: &Tensor, b: &Tensor) -> Error {
    Error::bad_input(format!("element types {} and {} do not go together here", a.dtype().name(), b.dtype().name()))
}
