//! Forms of operator sets 7 to 12: attributes that are inputs today, initializers among the inputs, layers that are gone.

use super::Creature;
use super::builder::{At, Build};
use joulefront::tensor::DType::{F32, I64};
use joulefront::tensor::Tensor;

pub(super) fn family() -> Vec<Creature> {
    vec![seven(), eight(), nine(), ten(), eleven()]
}

fn seven() -> Creature {
    let mut b = Build::bare(7);
    let x = b.input("x", "N=2,3,6,6");
    let y = b.conv(&x, 3, 4, 1);
    let [gamma, beta, mean, var] = b.statistics(4);
    let y = b.node("BatchNormalization", &[&y, &gamma, &beta, &mean, &var], &[("spatial", At::I(1)), ("momentum", At::F(0.9))]);
    let y = b.node("Clip", &[&y], &[("min", At::F(-0.5)), ("max", At::F(1.0))]);
    let y = b.node("Pad", &[&y], &[("pads", At::Is(&[0, 0, 1, 1, 0, 0, 1, 1])), ("mode", At::S("constant")), ("value", At::F(0.25))]);
    let y = b.node("Upsample", &[&y], &[("mode", At::S("nearest")), ("scales", At::Fs(&[1.0, 1.0, 2.0, 2.0]))]);
    let y = b.node("MaxPool", &[&y], &[("kernel_shape", At::Is(&[4, 4])), ("strides", At::Is(&[4, 4]))]);
    let y = b.node("Dropout", &[&y], &[("ratio", At::F(0.5))]);
    let y = b.node("Slice", &[&y], &[("axes", At::Is(&[2, 3])), ("starts", At::Is(&[0, 1])), ("ends", At::Is(&[-1, 1000]))]);
    let y = b.node("Flatten", &[&y], &[]);
    let w = b.weight(&[4 * 3 * 3, 5]);
    let bias = b.weight(&[5]);
    let y = b.node("Gemm", &[&y, &w, &bias], &[("alpha", At::F(0.5))]);
    let y = b.node("Softmax", &[&y], &[]);
    b.creature("operator set 7", &[(&y, F32, "N,5")])
}

/// The softmax of then: everything from the axis on is one row.
fn eight() -> Creature {
    let mut b = Build::bare(8);
    let x = b.input("x", "N=2,3,4");
    let y = b.node("Softmax", &[&x], &[("axis", At::I(1))]);
    let z = b.node("LogSoftmax", &[&x], &[("axis", At::I(2))]);
    let parts = b.nodes("Split", &[&y], 2, &[("axis", At::I(2)), ("split", At::Is(&[1, 3]))]);
    let s = b.node("Squeeze", &[&parts[0]], &[("axes", At::Is(&[2]))]);
    let u = b.node("Unsqueeze", &[&s], &[("axes", At::Is(&[0, 3]))]);
    let u = b.node("Squeeze", &[&u], &[("axes", At::Is(&[0]))]);
    let sum = b.node("Sum", &[&parts[1], &u, &parts[1]], &[]);
    let most = b.node("Max", &[&sum, &parts[1]], &[]);
    let mean = b.node("Mean", &[&most, &sum], &[]);
    let total = b.node("ReduceSum", &[&z], &[("axes", At::Is(&[1])), ("keepdims", At::I(0))]);
    let top = b.nodes("TopK", &[&total], 2, &[("k", At::I(2)), ("axis", At::I(1))]);
    b.creature("operator set 8", &[(&mean, F32, "N,3,3"), (&top[0], F32, "N,2"), (&top[1], I64, "N,2")])
}

fn nine() -> Creature {
    let mut b = Build::bare(9);
    let x = b.input("x", "N=1,2,3,4");
    let scales = b.constant(&Tensor::f32([4], vec![1.0, 1.0, 2.0, 2.0]).unwrap());
    let near = b.node("Upsample", &[&x, &scales], &[("mode", At::S("nearest"))]);
    let line = b.node("Upsample", &[&near, &scales], &[("mode", At::S("linear"))]);
    let slope = b.weight(&[2, 1, 1]);
    let y = b.node("PRelu", &[&line, &slope], &[]);
    let w = b.weight(&[2, 1, 3, 3]);
    let y = b.node("Conv", &[&y, &w], &[("group", At::I(2)), ("strides", At::Is(&[3, 3]))]);
    b.creature("operator set 9", &[(&y, F32, "N,2,4,5")])
}

fn ten() -> Creature {
    let mut b = Build::bare(10);
    let x = b.input("x", "N=1,2,4,5");
    let scales = b.constant(&Tensor::f32([4], vec![1.0, 1.0, 2.0, 1.0]).unwrap());
    let y = b.node("Resize", &[&x, &scales], &[("mode", At::S("linear"))]);
    let k = b.list(&[2]);
    let top = b.nodes("TopK", &[&y, &k], 2, &[("axis", At::I(-1))]);
    let (from, to, axes, steps) = (b.list(&[-1]), b.list(&[-100]), b.list(&[2]), b.list(&[-3]));
    let y = b.node("Slice", &[&top[0], &from, &to, &axes, &steps], &[]);
    let y = b.node("AveragePool", &[&y], &[("kernel_shape", At::Is(&[2, 1])), ("ceil_mode", At::I(1))]);
    b.creature("operator set 10", &[(&y, F32, "N,2,2,2")])
}

fn eleven() -> Creature {
    let mut b = Build::bare(11);
    let x = b.input("x", "N=2,6");
    let w = b.scaled(&[6, 6], 6);
    let w = b.constant(&w);
    let y = b.node("Gemm", &[&x, &w], &[]);
    let (low, high) = (b.scalar(-1.0), b.scalar(1.0));
    let y = b.node("Clip", &[&y, &low, &high], &[]);
    let y = b.node("Unsqueeze", &[&y], &[("axes", At::Is(&[-1]))]);
    let pads = b.list(&[0, 1, 0, 0, 2, 0]);
    let y = b.node("Pad", &[&y, &pads, &high], &[]);
    let (from, to) = (
        b.constant(&Tensor::new(vec![1], joulefront::tensor::Data::I32(vec![1])).unwrap()),
        b.constant(&Tensor::new(vec![1], joulefront::tensor::Data::I32(vec![9])).unwrap()),
    );
    let axes = b.constant(&Tensor::new(vec![1], joulefront::tensor::Data::I32(vec![1])).unwrap());
    let y = b.node("Slice", &[&y, &from, &to, &axes], &[]);
    let y = b.node("Softmax", &[&y], &[("axis", At::I(1))]);
    let norm = b.node("ReduceL1", &[&y], &[("axes", At::Is(&[1, 2])), ("keepdims", At::I(0))]);
    let log = b.node("ReduceLogSumExp", &[&y], &[("axes", At::Is(&[1])), ("keepdims", At::I(0))]);
    b.creature("operator set 11", &[(&norm, F32, "N"), (&log, F32, "N,1")])
}
