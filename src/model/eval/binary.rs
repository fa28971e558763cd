//! Elementwise operators on two tensors, with NumPy broadcasting.

use super::args::Args;
use super::layout::{Nest, broadcast, broadcast_strides, count};
use crate::tensor::map_data;
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// The arithmetic that tensors of numbers allow. Integers wrap, as all runtimes do.
trait Number: Copy + PartialOrd {
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// Integers truncate; the divisor is not an integer zero.
    fn div(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn is_integer_zero(self) -> bool;
}

macro_rules! integer {
    ($($t:ty)*) => {$(
        impl Number for $t {
            fn add(self, other: Self) -> Self { self.wrapping_add(other) }
            fn sub(self, other: Self) -> Self { self.wrapping_sub(other) }
            fn mul(self, other: Self) -> Self { self.wrapping_mul(other) }
            fn div(self, other: Self) -> Self { self.wrapping_div(other) }
            fn min(self, other: Self) -> Self { Ord::min(self, other) }
            fn max(self, other: Self) -> Self { Ord::max(self, other) }
            fn is_integer_zero(self) -> bool { self == 0 }
        }
    )*};
}
integer!(i8 i16 i32 i64 u8);

macro_rules! float {
    ($($t:ty)*) => {$(
        impl Number for $t {
            fn add(self, other: Self) -> Self { self + other }
            fn sub(self, other: Self) -> Self { self - other }
            fn mul(self, other: Self) -> Self { self * other }
            fn div(self, other: Self) -> Self { self / other }
            // Not a number wins, unlike in `f32::min`.
            fn min(self, other: Self) -> Self { if self < other || self.is_nan() { self } else { other } }
            fn max(self, other: Self) -> Self { if self > other || self.is_nan() { self } else { other } }
            fn is_integer_zero(self) -> bool { false }
        }
    )*};
}
float!(f32 f64);

/// Applies `f` to all pairs of elements of two tensors that broadcast.
pub(crate) fn zip<A: Copy, B: Copy, R>(
    (a, a_shape): (&[A], &[usize]),
    (b, b_shape): (&[B], &[usize]),
    f: impl Fn(A, B) -> R,
) -> Result<(Vec<usize>, Vec<R>)> {
    let shape = broadcast(a_shape, b_shape)?;
    let mut out = Vec::with_capacity(count(&shape)?);
    let nest = Nest::new(&shape, [&broadcast_strides(a_shape, &shape), &broadcast_strides(b_shape, &shape)], [0, 0]);
    // Along a row each side moves by 1 or stands still: merging keeps strides dense or 0. The plain loops below vectorise.
    let n = nest.row;
    nest.rows(|[i, j]| match nest.steps {
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
    Ok((shape, out))
}

/// `Add`, `Sub`, `Mul`, `Div` on numbers of one type.
pub(super) fn arithmetic(op: &str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    fn run<T: Number>(op: &str, a: (&[T], &[usize]), b: (&[T], &[usize])) -> Result<(Vec<usize>, Vec<T>)> {
        match op {
            "Add" | "Sum" => zip(a, b, T::add),
            "Sub" => zip(a, b, T::sub),
            "Mul" => zip(a, b, T::mul),
            "Min" => zip(a, b, T::min),
            "Max" => zip(a, b, T::max),
            _ if b.0.iter().any(|y| y.is_integer_zero()) => Err(Error::bad_input("division of an integer by zero")),
            _ => zip(a, b, T::div),
        }
    }
    macro_rules! same_type {
        ($($variant:ident)*) => {
            match (a.data(), b.data()) {
                $((Data::$variant(x), Data::$variant(y)) => {
                    let (shape, v) = run(op, (x, a.shape()), (y, b.shape()))?;
                    Tensor::new(shape, Data::$variant(v))
                })*
                _ => Err(type_mismatch(a, b)),
            }
        };
    }
    same_type!(F32 F64 I64 I32 I16 I8 U8)
}

/// `Min`, `Max`, `Sum`: any number of inputs.
pub(super) fn variadic(args: &Args) -> Result<Tensor> {
    let inputs = args.all()?;
    let mut result = inputs[0].clone();
    for other in &inputs[1..] {
        result = arithmetic(args.node.op_type(), &result, other)?;
    }
    Ok(result)
}

/// `Equal`, `Less`, `Greater`, `LessOrEqual`, `GreaterOrEqual`, on numbers (and truth values for `Equal`) of one type.
pub(super) fn compare(op: &str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    fn run<T: Copy + PartialOrd>(op: &str, a: (&[T], &[usize]), b: (&[T], &[usize])) -> Result<(Vec<usize>, Vec<bool>)> {
        match op {
            "Equal" => zip(a, b, |x, y| x == y),
            "Less" => zip(a, b, |x, y| x < y),
            "Greater" => zip(a, b, |x, y| x > y),
            "LessOrEqual" => zip(a, b, |x, y| x <= y),
            _ => zip(a, b, |x, y| x >= y),
        }
    }
    macro_rules! same_type {
        ($($variant:ident)*) => {
            match (a.data(), b.data()) {
                $((Data::$variant(x), Data::$variant(y)) => {
                    let (shape, v) = run(op, (x, a.shape()), (y, b.shape()))?;
                    Tensor::new(shape, Data::Bool(v))
                })*
                _ => Err(type_mismatch(a, b)),
            }
        };
    }
    same_type!(F32 F64 I64 I32 I16 I8 U8 Bool)
}

/// `And`, `Or`, `Xor`.
pub(super) fn logical(op: &str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (Data::Bool(x), Data::Bool(y)) = (a.data(), b.data()) else { return Err(type_mismatch(a, b)) };
    let (x, y) = ((x.as_slice(), a.shape()), (y.as_slice(), b.shape()));
    let (shape, v) = match op {
        "And" => zip(x, y, |p, q| p && q),
        "Or" => zip(x, y, |p, q| p || q),
        _ => zip(x, y, |p, q| p != q),
    }?;
    Tensor::new(shape, Data::Bool(v))
}

/// `Pow`: the exponent may have another type; the result has the base's.
pub(super) fn power(base: &Tensor, exponent: &Tensor) -> Result<Tensor> {
    let exponents: Vec<f64> = match exponent.data() {
        Data::F32(v) => v.iter().map(|&x| x.into()).collect(),
        Data::F64(v) => v.clone(),
        Data::I64(v) => v.iter().map(|&x| x as f64).collect(),
        Data::I32(v) => v.iter().map(|&x| x.into()).collect(),
        _ => return Err(type_mismatch(base, exponent)),
    };
    let e = (exponents.as_slice(), exponent.shape());
    let shape = base.shape();
    let (shape, data) = match base.data() {
        // Squares (variances, distances) deserve a multiplication.
        Data::F32(v) if exponents == [2.0] => zip((v, shape), e, |x, _| x * x).map(|(s, v)| (s, Data::F32(v))),
        Data::F32(v) => zip((v, shape), e, |x, y| x.powf(y as f32)).map(|(s, v)| (s, Data::F32(v))),
        Data::F64(v) => zip((v, shape), e, f64::powf).map(|(s, v)| (s, Data::F64(v))),
        Data::I64(v) => zip((v, shape), e, |x, y| (x as f64).powf(y) as i64).map(|(s, v)| (s, Data::I64(v))),
        Data::I32(v) => zip((v, shape), e, |x, y| f64::from(x).powf(y) as i32).map(|(s, v)| (s, Data::I32(v))),
        _ => return Err(type_mismatch(base, exponent)),
    }?;
    Tensor::new(shape, data)
}

/// `PRelu`: the slope broadcasts to the input, never the other way.
pub(super) fn prelu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    let leak = |x: f32, s: f32| if x < 0.0 { s * x } else { x };
    let (shape, v) = zip((x.as_f32()?, x.shape()), (slope.as_f32()?, slope.shape()), leak)?;
    if shape != x.shape() {
        return Err(Error::bad_input(format!("a slope of shape {:?} does not fit an input of shape {:?}", slope.shape(), x.shape())));
    }
    Tensor::f32(shape, v)
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
    macro_rules! same_type {
        ($($variant:ident)*) => {
            match (a.data(), b.data()) {
                $((Data::$variant(x), Data::$variant(y)) => {
                    let mut out = Vec::with_capacity(total);
                    let [sc, sa, sb] = nest.steps.map(|s| s as usize);
                    nest.rows(|[k, i, j]| {
                        out.extend((0..nest.row).map(|r| if c[k + r * sc] { x[i + r * sa] } else { y[j + r * sb] }));
                    });
                    Data::$variant(out)
                })*
                _ => return Err(type_mismatch(a, b)),
            }
        };
    }
    Tensor::new(shape, same_type!(F32 F64 F16 I8 I16 I32 I64 U8 Bool))
}

/// `Expand`: repeats the tensor so that it has at least the shape asked for.
pub(super) fn expand(x: &Tensor, target: &[usize]) -> Result<Tensor> {
    let shape = broadcast(x.shape(), target)?;
    count(&shape)?;
    let strides = broadcast_strides(x.shape(), &shape);
    let data = map_data!(x.data(), v => super::layout::gather(v, &shape, &strides, 0));
    Tensor::new(shape, data)
}

fn type_mismatch(a: &Tensor, b: &Tensor) -> Error {
    Error::bad_input(format!("element types {} and {} do not go together here", a.dtype().name(), b.dtype().name()))
}
