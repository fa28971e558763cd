//! Elementwise operators on one tensor.

use super::args::{Args, scalar};
use super::cast::cast;
use super::types::{Number, numbers, read, whole, wrap};
use crate::onnx::Attributes;
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};

/// Floats of either width. Functions that are not exact are computed in the width of the tensor.
trait Real: num_traits::Float + num_traits::NumCast {
    fn erf(self) -> Self;
    fn round_even(self) -> Self;
}

impl Real for f32 {
    fn erf(self) -> Self {
        erf(self)
    }
    fn round_even(self) -> Self {
        self.round_ties_even()
    }
}

impl Real for f64 {
    fn erf(self) -> Self {
        statrs::function::erf::erf(self)
    }
    fn round_even(self) -> Self {
        self.round_ties_even()
    }
}

/// The elementwise function of floats that this node computes, if it is one.
pub(super) fn float(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let data = match x.data() {
        Data::F32(v) => Data::F32(real(args, v)?),
        Data::F64(v) => Data::F64(real(args, v)?),
        // Integers have a few of these functions too.
        other => match args.node.op_type() {
            "Relu" => numbers!(wrap!(other, v => v.iter().map(|&x| Number::max(x, Default::default())).collect())),
            "Sign" => numbers!(wrap!(other, v => v.iter().map(|x| Number::from_f64(x.to_f64().signum() * f64::from(u8::from(x.to_f64() != 0.0)))).collect())),
            _ => None,
        }
        .ok_or_else(|| Error::bad_input(format!("expected floats, found {}", x.dtype().name())))?,
    };
    Tensor::new(x.shape().to_vec(), data)
}

/// Every arm is a loop of its own so that the compiler can vectorise it.
fn real<T: Real>(args: &Args, v: &[T]) -> Result<Vec<T>> {
    let c = |x: f64| T::from(x).unwrap_or_else(T::zero);
    let given = |name: &str, default: f64| args.node.float(name).map_or(c(default), |x| c(f64::from(x)));
    let alpha = |default: f64| given("alpha", default);
    let (zero, one, half) = (T::zero(), T::one(), c(0.5));
    macro_rules! map {
        ($f:expr) => {{
            let f = $f;
            v.iter().map(|&v: &T| -> T { f(v) }).collect()
        }};
    }
    Ok(match args.node.op_type() {
        "Relu" => map!(|v: T| if v < zero { zero } else { v }),
        "Sqrt" => map!(T::sqrt),
        "Reciprocal" => map!(T::recip),
        "Exp" => map!(T::exp),
        "Log" => map!(T::ln),
        "Erf" => map!(T::erf),
        "Floor" => map!(T::floor),
        "Ceil" => map!(T::ceil),
        "Round" => map!(T::round_even),
        "Sin" => map!(T::sin),
        "Cos" => map!(T::cos),
        "Tan" => map!(T::tan),
        "Asin" => map!(T::asin),
        "Acos" => map!(T::acos),
        "Atan" => map!(T::atan),
        "Sinh" => map!(T::sinh),
        "Cosh" => map!(T::cosh),
        "Tanh" => map!(T::tanh),
        "Asinh" => map!(T::asinh),
        "Acosh" => map!(T::acosh),
        "Atanh" => map!(T::atanh),
        "Sign" => map!(|v: T| if v > zero {
            one
        } else if v < zero {
            -one
        } else {
            v
        }),
        "Sigmoid" => map!(|v: T| one / (one + (-v).exp())),
        "Softplus" => map!(|v: T| v.max(zero) + (-v.abs()).exp().ln_1p()),
        "Softsign" => map!(|v: T| v / (one + v.abs())),
        "Mish" => map!(|v: T| v * (v.max(zero) + (-v.abs()).exp().ln_1p()).tanh()),
        "HardSwish" => map!(|v: T| v * (v / c(6.0) + half).max(zero).min(one)),
        "LeakyRelu" => {
            let a = alpha(0.01);
            map!(|v: T| if v < zero { a * v } else { v })
        }
        "ThresholdedRelu" => {
            let a = alpha(1.0);
            map!(|v: T| if v > a { v } else { zero })
        }
        "Swish" => {
            let a = alpha(1.0);
            map!(|v: T| v / (one + (-a * v).exp()))
        }
        "Shrink" => {
            let (bias, lambda) = (given("bias", 0.0), given("lambd", 0.5));
            map!(|v: T| if v < -lambda {
                v + bias
            } else if v > lambda {
                v - bias
            } else {
                zero
            })
        }
        "HardSigmoid" => {
            let (a, b) = (alpha(0.2), given("beta", 0.5));
            map!(|v: T| (a * v + b).max(zero).min(one))
        }
        "Elu" => {
            let a = alpha(1.0);
            map!(|v: T| if v < zero { a * v.exp_m1() } else { v })
        }
        "Celu" => {
            let a = alpha(1.0);
            map!(|v: T| v.max(zero) + (a * (v / a).exp_m1()).min(zero))
        }
        "Selu" => {
            let (a, gamma) = (alpha(1.673_263_192_176_818_8), given("gamma", 1.050_700_902_938_842_8));
            map!(|v: T| gamma * if v > zero { v } else { a * v.exp_m1() })
        }
        "Gelu" if args.node.string("approximate") == Some("tanh") => {
            let (a, b) = (c(std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2), c(0.044_715));
            map!(|v: T| half * v * (one + (a * (v + b * v * v * v)).tanh()))
        }
        "Gelu" => {
            let a = c(std::f64::consts::FRAC_1_SQRT_2);
            map!(|v: T| half * v * (one + (v * a).erf()))
        }
        other => return Err(Error::bad_input(format!("`{other}` is not an elementwise function"))),
    })
}

/// `IsNaN` and `IsInf` (of one sign or both).
pub(super) fn test(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let nan = args.node.op_type() == "IsNaN";
    let (negative, positive) = (args.int_or("detect_negative", 1) != 0, args.int_or("detect_positive", 1) != 0);
    let holds = |v: f64| if nan { v.is_nan() } else { v.is_infinite() && if v > 0.0 { positive } else { negative } };
    let found = numbers!(read!(x.data(), v => v.iter().map(|x| holds(x.to_f64())).collect()));
    Tensor::new(
        x.shape().to_vec(),
        Data::Bool(found.ok_or_else(|| Error::bad_input(format!("expected floats, found {}", x.dtype().name())))?),
    )
}

/// `BitwiseNot`.
pub(super) fn bitwise_not(x: &Tensor) -> Result<Tensor> {
    let data = whole!(wrap!(x.data(), v => v.iter().map(|&x| !x).collect()));
    Tensor::new(x.shape().to_vec(), data.ok_or_else(|| Error::bad_input(format!("expected integers, found {}", x.dtype().name())))?)
}

/// `Neg` and `Abs`, which integers have too; the most negative integer wraps.
pub(super) fn signed(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let negate = args.node.op_type() == "Neg";
    let data = numbers!(wrap!(x.data(), v => v.iter().map(|&x| if negate { Number::neg(x) } else { Number::abs(x) }).collect()));
    Tensor::new(x.shape().to_vec(), data.ok_or_else(|| Error::bad_input(format!("{} has no sign", x.dtype().name())))?)
}

/// `Not`.
pub(super) fn not(x: &Tensor) -> Result<Tensor> {
    let Data::Bool(v) = x.data() else {
        return Err(Error::bad_input(format!("expected bool, found {}", x.dtype().name())));
    };
    Tensor::new(x.shape().to_vec(), Data::Bool(v.iter().map(|&b| !b).collect()))
}

/// `Clip`: bounds are attributes before operator set 11, inputs since. Not a number passes; where the bounds cross, the upper wins.
pub(super) fn clip(args: &Args) -> Result<Tensor> {
    fn run<T: Number>(v: &[T], low: T, high: T) -> Vec<T> {
        v.iter().map(|&x| if x < low { low } else { x }).map(|x| if x > high { high } else { x }).collect()
    }
    let x = args.tensor(0)?;
    let bound = |index: usize, attribute: &str| match (args.optional(index), args.node.float(attribute)) {
        (Some(t), _) => same_type(t, x.dtype(), attribute),
        (None, Some(f)) => cast(&Tensor::f32([1], vec![f])?, x.dtype()).map(Some),
        (None, None) => Ok(None),
    };
    let (low, high) = (bound(1, "min")?, bound(2, "max")?);
    macro_rules! clamp {
        ([$($t:ident)*]) => {
            match x.data() {
                $(Data::$t(v) => {
                    // Bounds that are not given are the type's own.
                    let least = match low.as_ref().map(Tensor::data) { Some(Data::$t(l)) => scalar(l, "`min`")?, _ => Number::LEAST };
                    let most = match high.as_ref().map(Tensor::data) { Some(Data::$t(h)) => scalar(h, "`max`")?, _ => Number::MOST };
                    Data::$t(run(v, least, most))
                })*
                _ => return Err(Error::bad_input(format!("{} cannot be clipped", x.dtype().name()))),
            }
        };
    }
    let data = numbers!(clamp!());
    Tensor::new(x.shape().to_vec(), data)
}

fn same_type(t: &Tensor, dtype: DType, what: &str) -> Result<Option<Tensor>> {
    match t.dtype() == dtype {
        true => Ok(Some(t.clone())),
        false => Err(Error::bad_input(format!("`{what}` must have the input's element type"))),
    }
}

/// The error function, to one unit in the last place of `f32`.
///
/// `erf(x)/x` as a rational function of `x²` on |x| ≤ 4 (beyond, erf rounds to ±1), fitted by iteratively reweighted least
/// squares at Chebyshev nodes: largest relative error 2.5e-8. Evaluated in `f64` because rounding in `f32` would cost three units.
pub(crate) fn erf(x: f32) -> f32 {
    const P: [f64; 6] = [
        1.986785022292183e-6,
        2.8456586389315246e-4,
        3.88333767893157e-3,
        5.3101726901959447e-2,
        1.9354490095109234e-1,
        1.1283791393121458,
    ];
    const Q: [f64; 6] =
        [3.742019907804206e-5, 1.1855697957798839e-3, 1.5207238495349884e-2, 1.1534993350505829e-1, 5.048572421073914e-1, 1.0];
    let x = f64::from(x.clamp(-4.0, 4.0));
    let t = x * x;
    let horner = |c: [f64; 6]| c.iter().fold(0.0, |sum, &c| sum * t + c);
    (x * horner(P) / horner(Q)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_is_accurate_to_one_unit_in_the_last_place() {
        let mut x = -6.0f32;
        while x < 6.0 {
            let exact = statrs::function::erf::erf(f64::from(x));
            let error = (f64::from(erf(x)) - exact).abs() / exact.abs().max(1e-30);
            assert!(error < 1.2e-7, "erf({x}) is off by {error:e}");
            x += 1.7e-3;
        }
        assert_eq!(erf(0.0), 0.0);
        assert_eq!((erf(f32::INFINITY), erf(-1e9)), (1.0, -1.0));
        assert!(erf(f32::NAN).is_nan());
    }
}
