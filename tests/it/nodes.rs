//! The node tests of the `onnx` package: every operator of the standard set against ONNX's own answers.

use flate2::read::GzDecoder;
use joulefront::exec::Executor;
use joulefront::onnx::{Model, pb, tensor_from_proto};
use joulefront::tensor::{DType, Tensor};
use protobuf::Message;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

/// What is not supported, and why: names of cases, `*` at the end standing for any rest. Each must match a case, and each case that
/// matches must fail, so that the list stays true.
const UNSUPPORTED: &[(&str, &[&str])] = &[
    (
        "8-bit and 4-bit floats, and 2-bit integers, are not computed with",
        &[
            "test_cast_FLOAT16_to_FLOAT4E2M1",
            "test_cast_FLOAT16_to_FLOAT8E4M3FN*",
            "test_cast_FLOAT16_to_FLOAT8E5M2*",
            "test_cast_FLOAT16_to_INT2",
            "test_cast_FLOAT16_to_UINT2",
            "test_cast_FLOAT4E2M1*",
            "test_cast_FLOAT8E4M3FN*",
            "test_cast_FLOAT8E5M2*",
            "test_cast_FLOAT_to_FLOAT4E2M1",
            "test_cast_FLOAT_to_FLOAT8E4M3FN*",
            "test_cast_FLOAT_to_FLOAT8E5M2*",
            "test_cast_FLOAT_to_INT2",
            "test_cast_FLOAT_to_UINT2",
            "test_cast_INT2*",
            "test_cast_UINT2*",
            "test_cast_e8m0*",
            "test_cast_no*",
            "test_castlike_FLOAT16_to_FLOAT4E2M1*",
            "test_castlike_FLOAT16_to_FLOAT8E4M3FN*",
            "test_castlike_FLOAT16_to_FLOAT8E5M2*",
            "test_castlike_FLOAT16_to_INT2*",
            "test_castlike_FLOAT16_to_UINT2*",
            "test_castlike_FLOAT4E2M1*",
            "test_castlike_FLOAT8E4M3FN*",
            "test_castlike_FLOAT8E5M2*",
            "test_castlike_FLOAT_to_FLOAT4E2M1*",
            "test_castlike_FLOAT_to_FLOAT8E4M3FN*",
            "test_castlike_FLOAT_to_FLOAT8E5M2*",
            "test_castlike_FLOAT_to_INT2*",
            "test_castlike_FLOAT_to_UINT2*",
            "test_castlike_INT2*",
            "test_castlike_UINT2*",
            "test_castlike_no*",
            "test_dequantizelinear_e4m3fn*",
            "test_dequantizelinear_e5m2",
            "test_dequantizelinear_float4e2m1",
            "test_dequantizelinear_int2",
            "test_dequantizelinear_uint2",
            "test_quantizelinear_e4m3fn",
            "test_quantizelinear_e5m2",
            "test_quantizelinear_float4e2m1",
            "test_quantizelinear_int2",
            "test_quantizelinear_uint2",
        ],
    ),
    ("rare operators: Col2Im, DeformConv", &["test_basic_deform*", "test_col2im*", "test_deform*"]),
    (
        "the test aligns the corners of a length that is not rounded, against the text of the specification",
        &["test_resize_downsample_scales_cubic_align_corners", "test_resize_downsample_scales_linear_align_corners"],
    ),
    ("training", &["test_batchnorm_epsilon_training_mode", "test_batchnorm_example_training_mode"]),
];

/// Cases whose expected values were written with four decimals.
const ROUNDED: &[&str] = &[
    "test_averagepool_2d_ceil_last_window_starts_on_pad",
    "test_gridsample_bicubic",
    "test_logsoftmax_large_number",
    "test_roialign_aligned_false",
    "test_roialign_aligned_true",
];

/// Cases that pass, and that are listed.
const COUNTS: (usize, usize) = (1461, 143);

/// Results are compared like the `onnx` package's own runner does (relative 1e-3), but ten times as strictly.
const RELATIVE: f64 = 1e-4;
const ABSOLUTE: f64 = 1e-5;
const ABSOLUTE_ROUNDED: f64 = 3e-4;

#[test]
#[allow(clippy::print_stdout, reason = "the counts are for people")]
fn the_node_tests_of_onnx_pass() {
    let mut passed = 0;
    let mut expected = 0;
    let mut wrong = Vec::new();
    let mut uses: BTreeMap<&str, usize> = UNSUPPORTED.iter().flat_map(|(_, names)| names.iter().map(|&n| (n, 0))).collect();
    for case in cases() {
        let name = case["name"].as_str().unwrap();
        let listed = uses.iter_mut().find(|(pattern, _)| matches(pattern, name));
        match (listed, run(&case)) {
            (None, Ok(())) => passed += 1,
            (None, Err(why)) => wrong.push(format!("{name}: {why}")),
            (Some((_, uses)), Err(_)) => {
                *uses += 1;
                expected += 1;
            }
            (Some((pattern, uses)), Ok(())) => {
                *uses += 1;
                wrong.push(format!("{name}: passes, but is listed as unsupported by `{pattern}`"));
            }
        }
    }
    wrong.extend(uses.iter().filter(|&(_, &n)| n == 0).map(|(pattern, _)| format!("`{pattern}` is listed, but matches no case")));
    assert!(wrong.is_empty(), "{} wrong, {passed} right, {expected} listed:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!((passed, expected), COUNTS, "a case is missing");
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// The cases of `nodes.py`, one after the other.
fn cases() -> impl Iterator<Item = Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nodes.jsonl.gz");
    let lines = BufReader::new(GzDecoder::new(std::fs::File::open(path).unwrap())).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())
}

/// Runs one case; says what is wrong.
fn run(case: &Value) -> Result<(), String> {
    let model = Model::from_bytes(&bytes(&case["model"]), "case").map_err(|e| e.to_string())?;
    let (inputs, outputs) = (tensors(&case["inputs"])?, tensors(&case["outputs"])?);
    let graph = model.graph();
    let fed: Vec<_> = graph.input.iter().zip(&inputs).filter_map(|(i, t)| Some((i.name(), t.as_ref()?))).collect();
    let wanted: Vec<_> = graph.output.iter().map(|o| o.name()).collect();
    let found = Executor::new(&model).and_then(|e| e.run(&fed, &wanted)).map_err(|e| e.to_string())?;
    let absolute = if ROUNDED.iter().any(|&r| case["name"] == r) { ABSOLUTE_ROUNDED } else { ABSOLUTE };
    wanted.iter().zip(&outputs).try_for_each(|(&name, expected)| match expected {
        Some(expected) => compare(&found[name], expected, absolute).map_err(|why| format!("`{name}`: {why}")),
        None => Ok(()),
    })
}

fn bytes(hex: &Value) -> Vec<u8> {
    let digits = hex.as_str().unwrap().as_bytes();
    let value = |d: u8| (d as char).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}

fn tensors(list: &Value) -> Result<Vec<Option<Tensor>>, String> {
    let decode = |t: &Value| tensor_from_proto(&pb::TensorProto::parse_from_bytes(&bytes(t)).unwrap()).map_err(|e| e.to_string());
    list.as_array().unwrap().iter().map(|t| (!t.is_null()).then(|| decode(t)).transpose()).collect()
}

/// Equal in type and shape; integers exactly, floats to rounding.
fn compare(found: &Tensor, expected: &Tensor, absolute: f64) -> Result<(), String> {
    if (found.shape(), found.dtype()) != (expected.shape(), expected.dtype()) {
        return Err(format!("{:?} {:?} instead of {:?} {:?}", found.dtype(), found.shape(), expected.dtype(), expected.shape()));
    }
    let relative = match expected.dtype() {
        DType::F32 | DType::F64 => RELATIVE,
        // A unit or two in the last place, because the expected values were rounded at every step.
        DType::F16 => 1e-3,
        DType::BF16 => 1.0 / 64.0,
        _ => return if found == expected { Ok(()) } else { Err(format!("{:?} instead of {:?}", found.data(), expected.data())) },
    };
    let (a, b) = (floats(found), floats(expected));
    let near = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= absolute + relative * b.abs();
    match a.iter().zip(&b).position(|(&a, &b)| !near(a, b)) {
        Some(i) => Err(format!("element {i} is {} instead of {}", a[i], b[i])),
        None => Ok(()),
    }
}

fn floats(t: &Tensor) -> Vec<f64> {
    use joulefront::tensor::Data;
    match t.data() {
        Data::F32(v) => v.iter().map(|&x| x.into()).collect(),
        Data::F64(v) => v.clone(),
        Data::F16(v) => v.iter().map(|&x| half(x)).collect(),
        Data::BF16(v) => v.iter().map(|&x| f32::from_bits(u32::from(x) << 16).into()).collect(),
        other => panic!("{other:?} is not compared as floats"),
    }
}

/// IEEE 754 binary16, by the definition.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff) / 1024.0);
    sign * match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
    }
}
