//! Elementwise operators on one tensor.

use super::args::{Args, scalar};
use crate::onnx::Attributes;
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// The elementwise function of a float32 tensor that this node computes, if it is one.
///
/// Every arm is a loop of its own so that the compiler can vectorise it.
pub(super) fn float(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let alpha = |default: f32| args.float_or("alpha", default);
    macro_rules! map {
        ($f:expr) => {{
            let f = $f;
            x.as_f32()?.iter().map(|&v: &f32| -> f32 { f(v) }).collect()
        }};
    }
    let out: Vec<f32> = match args.node.op_type() {
        "Relu" => map!(|v: f32| if v < 0.0 { 0.0 } else { v }),
        "Sqrt" => map!(f32::sqrt),
        "Reciprocal" => map!(f32::recip),
        "Exp" => map!(f32::exp),
        "Log" => map!(f32::ln),
        "Erf" => map!(erf),
        "Floor" => map!(f32::floor),
        "Ceil" => map!(f32::ceil),
        "Round" => map!(f32::round_ties_even),
        "Tanh" => map!(f32::tanh),
        "Sigmoid" => map!(|v: f32| 1.0 / (1.0 + (-v).exp())),
        "Softplus" => map!(|v: f32| v.max(0.0) + (-v.abs()).exp().ln_1p()),
        "HardSwish" => map!(|v: f32| v * (v / 6.0 + 0.5).clamp(0.0, 1.0)),
        "LeakyRelu" => {
            let a = alpha(0.01);
            map!(|v: f32| if v < 0.0 { a * v } else { v })
        }
        "HardSigmoid" => {
            let (a, b) = (alpha(0.2), args.float_or("beta", 0.5));
            map!(|v: f32| (a * v + b).clamp(0.0, 1.0))
        }
        "Elu" => {
            let a = alpha(1.0);
            map!(|v: f32| if v < 0.0 { a * v.exp_m1() } else { v })
        }
        "Selu" => {
            let (a, gamma) = (alpha(1.673_263_2), args.float_or("gamma", 1.050_701));
            map!(|v: f32| gamma * if v > 0.0 { v } else { a * v.exp_m1() })
        }
        "Gelu" if args.node.string("approximate") == Some("tanh") => {
            map!(|v: f32| 0.5
                * v
                * (1.0 + (std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2 * (v + 0.044_715 * v * v * v)).tanh()))
        }
        "Gelu" => map!(|v: f32| 0.5 * v * (1.0 + erf(v * std::f32::consts::FRAC_1_SQRT_2))),
        other => return Err(Error::bad_input(format!("`{other}` is not an elementwise function"))),
    };
    Tensor::f32(x.shape(), out)
}

/// `Neg` and `Abs`, which integers have too; the most negative integer wraps.
pub(super) fn signed(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let negate = args.node.op_type() == "Neg";
    macro_rules! integers {
        ($v:expr) => {
            $v.iter().map(|&x| if negate { x.wrapping_neg() } else { x.wrapping_abs() }).collect()
        };
    }
    macro_rules! floats {
        ($v:expr) => {
            $v.iter().map(|&x| if negate { -x } else { x.abs() }).collect()
        };
    }
    let data = match x.data() {
        Data::F32(v) => Data::F32(floats!(v)),
        Data::F64(v) => Data::F64(floats!(v)),
        Data::I64(v) => Data::I64(integers!(v)),
        Data::I32(v) => Data::I32(integers!(v)),
        Data::I16(v) => Data::I16(integers!(v)),
        Data::I8(v) => Data::I8(integers!(v)),
        _ => return Err(Error::bad_input(format!("{} has no sign", x.dtype().name()))),
    };
    Tensor::new(x.shape().to_vec(), data)
}

/// `Not`.
pub(super) fn not(x: &Tensor) -> Result<Tensor> {
    let Data::Bool(v) = x.data() else {
        return Err(Error::bad_input(format!("expected bool, found {}", x.dtype().name())));
    };
    Tensor::new(x.shape().to_vec(), Data::Bool(v.iter().map(|&b| !b).collect()))
}

/// `Clip`: bounds are attributes before operator set 11, inputs since.
pub(super) fn clip(args: &Args) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let bounds = [args.optional(1), args.optional(2)];
    macro_rules! clamp {
        ($variant:ident, $v:expr, $least:expr, $most:expr) => {{
            let bound = |t: Option<&Tensor>, default, what: &str| match t.map(|t| t.data()) {
                None => Ok(default),
                Some(Data::$variant(b)) => scalar(b, what),
                Some(_) => Err(Error::bad_input(format!("{what} must have the input's element type"))),
            };
            let (low, high) = (bound(bounds[0], $least, "`min`")?, bound(bounds[1], $most, "`max`")?);
            // Not a number passes; where the bounds cross, the upper one wins.
            Data::$variant($v.iter().map(|&x| if x < low { low } else { x }).map(|x| if x > high { high } else { x }).collect())
        }};
    }
    let data = match x.data() {
        Data::F32(v) => {
            clamp!(F32, v, args.float_or("min", f32::NEG_INFINITY), args.float_or("max", f32::INFINITY))
        }
        Data::F64(v) => clamp!(F64, v, f64::NEG_INFINITY, f64::INFINITY),
        Data::I64(v) => clamp!(I64, v, i64::MIN, i64::MAX),
        Data::I32(v) => clamp!(I32, v, i32::MIN, i32::MAX),
        Data::I8(v) => clamp!(I8, v, i8::MIN, i8::MAX),
        Data::U8(v) => clamp!(U8, v, u8::MIN, u8::MAX),
        _ => return Err(Error::bad_input(format!("{} cannot be clipped", x.dtype().name()))),
    };
    Tensor::new(x.shape().to_vec(), data)
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
