//! Integers in all the forms that quantizers write.

use super::Creature;
use super::builder::{At, Build};
use joulefront::tensor::DType::{F32, I8, U8};
use joulefront::tensor::{Data, Tensor};

pub(super) fn family() -> Vec<Creature> {
    vec![
        weights_and_activations(),
        per_channel(),
        blocks_of_four_bits(),
        sixteen_bits(),
        q_linear(),
        q_linear_matmul(),
        integer_layers(),
        n_bits(),
        eight_bit_input(),
    ]
}

fn scale(b: &mut Build, value: f32) -> String {
    b.scalar(value)
}

fn zero_u8(b: &mut Build, value: u8) -> String {
    b.constant(&Tensor::new(vec![], Data::U8(vec![value])).unwrap())
}

fn int8(b: &mut Build, shape: &[usize]) -> Tensor {
    let values = b.integers(shape.iter().product(), -127, 128).into_iter().map(|v| v as i8).collect();
    Tensor::new(shape.to_vec(), Data::I8(values)).unwrap()
}

/// QuantizeLinear and DequantizeLinear after one another, as a quantizer of activations puts them.
fn rounded(b: &mut Build, x: &str, step: f32, zero: u8) -> String {
    let (s, z) = (scale(b, step), zero_u8(b, zero));
    let q = b.node("QuantizeLinear", &[x, &s, &z], &[]);
    b.node("DequantizeLinear", &[&q, &s, &z], &[])
}

fn weights_and_activations() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,3,5,5");
    let x = rounded(&mut b, &x, 0.0131, 121);
    let w = int8(&mut b, &[4, 3, 3, 3]);
    let (w, s) = (b.constant(&w), scale(&mut b, 0.0021));
    let w = b.node("DequantizeLinear", &[&w, &s], &[]);
    let bias = b.integers(4, -3000, 3000).into_iter().map(|v| v as i32).collect();
    let (bias, s) = (b.constant(&Tensor::new(vec![4], Data::I32(bias)).unwrap()), scale(&mut b, 0.0131 * 0.0021));
    let bias = b.node("DequantizeLinear", &[&bias, &s], &[]);
    let y = b.node("Conv", &[&x, &w, &bias], &[("pads", At::Is(&[1; 4]))]);
    let y = b.relu(&y);
    let y = b.node("GlobalAveragePool", &[&y], &[]);
    let y = b.node("Flatten", &[&y], &[]);
    b.creature("QDQ per tensor", &[(&y, F32, "N,4")])
}

fn per_channel() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,6");
    let w = int8(&mut b, &[6, 8]);
    let scales = b.uniform(&[8]).as_f32().unwrap().iter().map(|v| 0.004 + 0.003 * v).collect();
    let zeros = b.integers(8, -9, 10).into_iter().map(|v| v as i8).collect();
    let (w, s) = (b.constant(&w), b.constant(&Tensor::f32([8], scales).unwrap()));
    let z = b.constant(&Tensor::new(vec![8], Data::I8(zeros)).unwrap());
    let w = b.node("DequantizeLinear", &[&w, &s, &z], &[("axis", At::I(1))]);
    let y = b.node("MatMul", &[&x, &w], &[]);
    let w = int8(&mut b, &[3, 8]);
    let (w, s) = (b.constant(&w), b.constant(&Tensor::f32([3], vec![0.003, 0.005, 0.001]).unwrap()));
    let w = b.node("DequantizeLinear", &[&w, &s], &[("axis", At::I(-2))]);
    let y = b.node("Gemm", &[&y, &w], &[("transB", At::I(1))]);
    b.creature("QDQ per axis", &[(&y, F32, "N,3")])
}

/// int4 with a scale for each block of four along the inputs, and uint4 with zero points.
fn blocks_of_four_bits() -> Creature {
    let mut b = Build::bare(21);
    let x = b.input("x", "N=2,8");
    let values = b.integers(48, -8, 8).into_iter().map(|v| v as i8).collect();
    let w = b.constant(&Tensor::new(vec![8, 6], Data::I4(values)).unwrap());
    let scales = b.uniform(&[2, 6]).as_f32().unwrap().iter().map(|v| 0.1 + 0.05 * v).collect();
    let s = b.constant(&Tensor::f32([2, 6], scales).unwrap());
    let w = b.node("DequantizeLinear", &[&w, &s], &[("axis", At::I(0)), ("block_size", At::I(4))]);
    let y = b.node("MatMul", &[&x, &w], &[]);
    let values = b.integers(15, 0, 16).into_iter().map(|v| v as u8).collect();
    let w = b.constant(&Tensor::new(vec![3, 5], Data::U4(values)).unwrap());
    let (s, z) = (
        b.constant(&Tensor::f32([3, 2], vec![0.1, 0.2, 0.05, 0.1, 0.15, 0.1]).unwrap()),
        b.constant(&Tensor::new(vec![3, 2], Data::U4(vec![8, 7, 3, 15, 0, 9])).unwrap()),
    );
    let w = b.node("DequantizeLinear", &[&w, &s, &z], &[("axis", At::I(1)), ("block_size", At::I(3))]);
    let (five, none) = (b.list(&[5]), b.list(&[0]));
    let axis = b.list(&[1]);
    let y = b.node("Slice", &[&y, &none, &five, &axis], &[]);
    let y = b.node("Gemm", &[&y, &w], &[("transB", At::I(1))]);
    b.creature("blocks of four bits", &[(&y, F32, "N,3")])
}

fn sixteen_bits() -> Creature {
    let mut b = Build::bare(21);
    let x = b.input("x", "N=2,6");
    let s = scale(&mut b, 1.0 / 40_000.0);
    let z = b.constant(&Tensor::new(vec![], Data::U16(vec![32_768])).unwrap());
    let q = b.node("QuantizeLinear", &[&x, &s, &z], &[]);
    let x = b.node("DequantizeLinear", &[&q, &s, &z], &[]);
    let values = b.integers(18, -32_000, 32_000).into_iter().map(|v| v as i16).collect();
    let (w, s) = (b.constant(&Tensor::new(vec![6, 3], Data::I16(values)).unwrap()), scale(&mut b, 2e-5));
    let w = b.node("DequantizeLinear", &[&w, &s], &[]);
    let y = b.node("MatMul", &[&x, &w], &[]);
    b.creature("sixteen bits", &[(&y, F32, "N,3")])
}

/// The form of operators: QLinearConv with scales per channel, then back to floats.
fn q_linear() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=1,3,5,5");
    let (xs, xz) = (scale(&mut b, 0.01), zero_u8(&mut b, 128));
    let q = b.node("QuantizeLinear", &[&x, &xs, &xz], &[]);
    let w = int8(&mut b, &[4, 3, 3, 3]);
    let w = b.constant(&w);
    let ws = b.constant(&Tensor::f32([4], vec![0.002, 0.004, 0.003, 0.001]).unwrap());
    let wz = b.constant(&Tensor::new(vec![4], Data::I8(vec![0; 4])).unwrap());
    let (ys, yz) = (scale(&mut b, 0.03), zero_u8(&mut b, 100));
    let bias = b.integers(4, -2000, 2000).into_iter().map(|v| v as i32).collect();
    let bias = b.constant(&Tensor::new(vec![4], Data::I32(bias)).unwrap());
    let q =
        b.node("QLinearConv", &[&q, &xs, &xz, &w, &ws, &wz, &ys, &yz, &bias], &[("pads", At::Is(&[1; 4])), ("strides", At::Is(&[2, 2]))]);
    let q = b.node("MaxPool", &[&q], &[("kernel_shape", At::Is(&[2, 2]))]);
    let y = b.node("DequantizeLinear", &[&q, &ys, &yz], &[]);
    b.creature("QLinearConv", &[(&y, F32, "N,4,2,2")])
}

fn q_linear_matmul() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,5");
    let (xs, xz) = (scale(&mut b, 0.01), zero_u8(&mut b, 128));
    let q = b.node("QuantizeLinear", &[&x, &xs, &xz], &[]);
    let values = b.integers(20, 0, 256).into_iter().map(|v| v as u8).collect();
    let w = b.constant(&Tensor::new(vec![5, 4], Data::U8(values)).unwrap());
    let (ws, wz) = (scale(&mut b, 0.004), zero_u8(&mut b, 120));
    let (ys, yz) = (scale(&mut b, 0.02), zero_u8(&mut b, 127));
    let q = b.node("QLinearMatMul", &[&q, &xs, &xz, &w, &ws, &wz, &ys, &yz], &[]);
    let y = b.node("DequantizeLinear", &[&q, &ys, &yz], &[]);
    b.creature("QLinearMatMul", &[(&y, F32, "N,4"), (&q, U8, "N,4")])
}

/// Dynamic quantization: MatMulInteger and ConvInteger of what DynamicQuantizeLinear gives.
fn integer_layers() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,6");
    let q = b.nodes("DynamicQuantizeLinear", &[&x], 3, &[]);
    let w = int8(&mut b, &[6, 4]);
    let (w, wz) = (b.constant(&w), b.constant(&Tensor::new(vec![], Data::I8(vec![3])).unwrap()));
    let y = b.node("MatMulInteger", &[&q[0], &w, &q[2], &wz], &[]);
    let y = b.node("Cast", &[&y], &[("to", At::I(1))]);
    let ws = scale(&mut b, 0.01);
    let s = b.node("Mul", &[&q[1], &ws], &[]);
    let y = b.node("Mul", &[&y, &s], &[]);
    let front = b.list(&[0, 1]);
    let image = b.node("Unsqueeze", &[&q[0], &front], &[]);
    let values = b.integers(2 * 3, 0, 256).into_iter().map(|v| v as u8).collect();
    let (filter, fz) = (b.constant(&Tensor::new(vec![2, 1, 1, 3], Data::U8(values)).unwrap()), zero_u8(&mut b, 128));
    let z = b.node("ConvInteger", &[&image, &filter, &q[2], &fz], &[("pads", At::Is(&[0, 1, 0, 1]))]);
    let z = b.node("Cast", &[&z], &[("to", At::I(1))]);
    let z = b.node("Mul", &[&z, &s], &[]);
    b.creature("integer layers", &[(&y, F32, "N,4"), (&z, F32, "1,2,N,6")])
}

/// ONNX Runtime's own form of blocked four-bit weights.
fn n_bits() -> Creature {
    let mut b = Build::bare(17);
    let (k, n, block) = (32usize, 5usize, 16usize);
    let x = b.input("x", "N=2,32");
    let packed = b.integers(n * (k / block) * block / 2, 0, 256).into_iter().map(|v| v as u8).collect();
    let w = b.constant(&Tensor::new(vec![n, k / block, block / 2], Data::U8(packed)).unwrap());
    let scales = b.uniform(&[n * k / block]).as_f32().unwrap().iter().map(|v| 0.05 + 0.02 * v).collect();
    let s = b.constant(&Tensor::f32([n * k / block], scales).unwrap());
    let zeros = b.integers(n * (k / block).div_ceil(2), 0, 256).into_iter().map(|v| v as u8).collect();
    let z = b.constant(&Tensor::new(vec![n * (k / block).div_ceil(2)], Data::U8(zeros)).unwrap());
    let attributes = [("K", At::I(k as i64)), ("N", At::I(n as i64)), ("bits", At::I(4)), ("block_size", At::I(block as i64))];
    let y = b.node("com.microsoft::MatMulNBits", &[&x, &w, &s, &z], &attributes);
    let middle = b.node("com.microsoft::MatMulNBits", &[&x, &w, &s], &attributes);
    let y = b.node("Add", &[&y, &middle], &[]);
    b.creature("MatMulNBits", &[(&y, F32, "N,5")])
}

/// Bytes in, integers out.
fn eight_bit_input() -> Creature {
    let mut b = Build::bare(13);
    let pixels = b.integers(2 * 3 * 4 * 4, 0, 256).into_iter().map(|v| v as u8).collect();
    let x = b.feed("pixels", "N=2,4,4,3", Tensor::new(vec![2, 4, 4, 3], Data::U8(pixels)).unwrap());
    let x = b.node("Cast", &[&x], &[("to", At::I(1))]);
    let x = b.node("Transpose", &[&x], &[("perm", At::Is(&[0, 3, 1, 2]))]);
    let unit = b.scalar(1.0 / 255.0);
    let x = b.node("Mul", &[&x, &unit], &[]);
    let y = b.conv(&x, 3, 4, 1);
    let y = b.classes(&y, 4);
    let s = scale(&mut b, 0.05);
    let z = b.constant(&Tensor::new(vec![], Data::I8(vec![-4])).unwrap());
    let q = b.node("QuantizeLinear", &[&y, &s, &z], &[]);
    b.creature("bytes in and out", &[(&q, I8, "N,4")])
}
