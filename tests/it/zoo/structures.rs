//! What ties channels together in real graphs: parts, groups of convolutions, heads.

use super::Animal;
use super::builder::{At, Build};
use joulefront::onnx::Model;
use joulefront::tensor::Tensor;

/// All of them.
pub(super) fn all() -> Vec<Animal> {
    let image: &[usize] = &[3, 8, 8];
    let animal = |name, model, sample: &[usize]| Animal { name, model, sample: sample.to_vec(), frozen: None, prunable: true };
    vec![
        animal("gated halves", gated(13, None), image),
        animal("gated halves, opset 18", gated(18, Some(("num_outputs", At::I(2)))), image),
        animal("gated halves, opset 11", gated(11, Some(("split", At::Is(&[16, 16])))), image),
        animal("parts of different sizes", parts(), image),
        animal("slices of channels", slices(), image),
        animal("dense block", dense_block(), image),
        animal("shuffled groups", shuffle(), image),
        animal("groups that widen", widening(), image),
        animal("norms of single channels", instance_norms(), image),
        animal("resized and padded", resized(), image),
        animal("choices", choices(), image),
        Animal { frozen: Some("with `x`, whose channels"), ..animal("attention, one matrix for all", attention(13, true), &[6, 16]) },
        animal("attention of one head", one_head(), &[6, 16]),
        Animal { frozen: Some("shares them"), ..animal("heads that share keys", shared_keys(), &[6, 16]) },
        animal("shapes worked out", computed_shapes(), image),
        Animal { frozen: Some("is not followed"), ..animal("class token", class_token(), image) },
        Animal { frozen: Some("picks from them"), ..animal("picked channels", picked(), image) },
    ]
}

/// What can be cut, but not quantized or compared in other tests.
pub(super) fn others() -> Vec<Animal> {
    let image: &[usize] = &[3, 8, 8];
    let animal = |name, model, sample: &[usize]| Animal { name, model, sample: sample.to_vec(), frozen: None, prunable: true };
    vec![
        animal("encoder and decoder", decoder(), image),
        Animal { frozen: Some("normalises over them"), ..animal("attention and norm", attention(17, false), &[6, 16]) },
    ]
}

/// One half of the channels gates the other.
fn gated(opset: i64, how: Option<(&str, At)>) -> Model {
    let mut b = Build::new(opset, &[3, 8, 8]);
    let y = b.conv("x", 3, 32, 1);
    let attributes: Vec<(&str, At)> = how.into_iter().chain([("axis", At::I(1))]).collect();
    let halves = b.nodes("Split", &[&y], 2, &attributes);
    let gate = b.node("Sigmoid", &[&halves[1]], &[]);
    let y = b.node("Mul", &[&halves[0], &gate], &[]);
    b.head(&y, 16)
}

/// Two parts of one layer's channels go different ways.
fn parts() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 32, 1);
    let sizes = b.list(&[12, 20]);
    let parts = b.nodes("Split", &[&y, &sizes], 2, &[("axis", At::I(-3))]);
    let left = b.conv(&parts[0], 12, 16, 1);
    let left = b.relu(&left);
    let y = b.node("Concat", &[&left, &parts[1]], &[("axis", At::I(1))]);
    let y = b.conv(&y, 36, 16, 1);
    b.head(&y, 16)
}

/// What `chunk` becomes, with bounds from the end.
fn slices() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 32, 1);
    let axis = b.list(&[1]);
    let part = |b: &mut Build, from: i64, to: i64| {
        let (from, to) = (b.list(&[from]), b.list(&[to]));
        b.node("Slice", &[&y, &from, &to, &axis], &[])
    };
    let (first, middle, last) = (part(&mut b, 0, 12), part(&mut b, 12, -8), part(&mut b, -8, i64::MAX));
    let first = b.relu(&first);
    let middle = b.node("Tanh", &[&middle], &[]);
    let y = b.node("Concat", &[&last, &middle, &first], &[("axis", At::I(1))]);
    let y = b.conv(&y, 32, 16, 1);
    b.head(&y, 16)
}

/// Every layer reads all before it, normalised anew.
fn dense_block() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let mut all = b.conv("x", 3, 16, 1);
    for width in [16, 24, 32] {
        let y = b.batch_norm(&all, width);
        let y = b.relu(&y);
        let y = b.conv(&y, width, 8, 1);
        all = b.node("Concat", &[&all, &y], &[("axis", At::I(1))]);
    }
    b.head(&all, 40)
}

fn decoder() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let skip = b.conv("x", 3, 16, 1);
    let skip = b.relu(&skip);
    let y = b.node("MaxPool", &[&skip], &[("kernel_shape", At::Is(&[2, 2])), ("strides", At::Is(&[2, 2]))]);
    let y = b.conv(&y, 16, 24, 1);
    let y = b.relu(&y);
    let (w, bias) = (b.weight(&[24, 12, 2, 2]), b.weight(&[12]));
    let y = b.node("ConvTranspose", &[&y, &w, &bias], &[("strides", At::Is(&[2, 2]))]);
    let y = b.batch_norm(&y, 12);
    let y = b.relu(&y);
    let y = b.node("Concat", &[&skip, &y], &[("axis", At::I(1))]);
    let y = b.conv(&y, 28, 16, 1);
    b.head(&y, 16)
}

/// Grouped convolutions with the channels of their groups mixed between them.
fn shuffle() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 32, 1);
    let y = b.conv(&y, 8, 32, 4);
    let y = b.relu(&y);
    let (apart, back) = (b.list(&[0, 4, 8, 8, 8]), b.list(&[0, 32, 8, 8]));
    let y = b.node("Reshape", &[&y, &apart], &[]);
    let y = b.node("Transpose", &[&y], &[("perm", At::Is(&[0, 2, 1, 3, 4]))]);
    let y = b.node("Reshape", &[&y, &back], &[]);
    let y = b.conv(&y, 1, 32, 32);
    let y = b.pointwise(&y, 32, 16);
    b.head(&y, 16)
}

/// Two filters for each channel, then four groups of different widths.
fn widening() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 16, 1);
    let y = b.conv(&y, 1, 32, 16);
    let y = b.relu(&y);
    let y = b.pointwise(&y, 32, 32);
    let y = b.conv(&y, 4, 16, 8);
    let y = b.relu(&y);
    b.head(&y, 16)
}

fn instance_norms() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 16, 1);
    let (scale, bias) = (b.weight(&[16]), b.weight(&[16]));
    let y = b.node("InstanceNormalization", &[&y, &scale, &bias], &[]);
    let y = b.conv(&y, 16, 24, 1);
    let y = b.node("Softmax", &[&y], &[("axis", At::I(-1))]);
    let y = b.node("GlobalMaxPool", &[&y], &[]);
    b.head(&y, 24)
}

fn resized() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 16, 1);
    let pads = b.list(&[0, 0, 1, 1, 0, 0, 1, 1]);
    let y = b.node("Pad", &[&y, &pads], &[]);
    let scales = b.constant(&Tensor::f32([4], vec![1.0, 1.0, 2.0, 2.0]).unwrap());
    let y = b.node("Resize", &[&y, "", &scales], &[("mode", At::S("nearest"))]);
    let y = b.conv(&y, 16, 24, 1);
    let y = b.node("ReduceMax", &[&y], &[("axes", At::Is(&[2, 3])), ("keepdims", At::I(0))]);
    let axes = b.list(&[2, 3]);
    let y = b.node("Unsqueeze", &[&y, &axes], &[]);
    b.head(&y, 24)
}

/// Elementwise operators with several operands.
fn choices() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let (y, z) = (b.conv("x", 3, 16, 1), b.conv("x", 3, 16, 1));
    let limit = b.weight(&[1, 16, 1, 1]);
    let above = b.node("Greater", &[&y, &limit], &[]);
    let y = b.node("Where", &[&above, &y, &z], &[]);
    let low = b.scalar(-1.0);
    let y = b.node("Max", &[&y, &low, &limit], &[]);
    let y = b.node("Sum", &[&y, &z, &y], &[]);
    let y = b.conv(&y, 16, 12, 1);
    let y = b.node("ReduceL2", &[&y], &[("axes", At::Is(&[-1])), ("keepdims", At::I(1))]);
    b.head(&y, 12)
}

/// Splits [N, 6, 16] into four heads [N, 4, 6, 4].
fn heads(b: &mut Build, x: &str) -> String {
    let apart = b.list(&[0, 6, 4, 4]);
    let y = b.node("Reshape", &[x, &apart], &[]);
    b.node("Transpose", &[&y], &[("perm", At::Is(&[0, 2, 1, 3]))])
}

/// softmax(q·kᵀ/2)·v of [N, heads, 6, 4], put together to [N, 6, 16].
fn attend(b: &mut Build, q: &str, k: &str, v: &str, transposed: &[i64]) -> String {
    let k = b.node("Transpose", &[k], &[("perm", At::Is(transposed))]);
    let y = b.node("MatMul", &[q, &k], &[]);
    let half = b.scalar(0.5);
    let y = b.node("Mul", &[&y, &half], &[]);
    let y = b.node("Softmax", &[&y], &[("axis", At::I(-1))]);
    let y = b.node("MatMul", &[&y, v], &[]);
    let y = b.node("Transpose", &[&y], &[("perm", At::Is(&[0, 2, 1, 3]))]);
    let back = b.list(&[0, 6, 16]);
    b.node("Reshape", &[&y, &back], &[])
}

/// A transformer block: attention of four heads and a hidden layer, each added to what came before.
fn attention(opset: i64, fused: bool) -> Model {
    let mut b = Build::new(opset, &[6, 16]);
    let (q, k, v) = if fused {
        let y = b.matmul("x", 16, 48);
        let apart = b.list(&[0, 6, 3, 4, 4]);
        let y = b.node("Reshape", &[&y, &apart], &[]);
        let y = b.node("Transpose", &[&y], &[("perm", At::Is(&[2, 0, 3, 1, 4]))]);
        let pick = |b: &mut Build, i: i64| {
            let i = b.constant(&Tensor::new(vec![], joulefront::tensor::Data::I64(vec![i])).unwrap());
            b.node("Gather", &[&y, &i], &[("axis", At::I(0))])
        };
        (pick(&mut b, 0), pick(&mut b, 1), pick(&mut b, 2))
    } else {
        let [q, k, v] = ["q", "k", "v"].map(|_| b.matmul("x", 16, 16));
        (heads(&mut b, &q), heads(&mut b, &k), heads(&mut b, &v))
    };
    let y = attend(&mut b, &q, &k, &v, &[0, 1, 3, 2]);
    let y = b.matmul(&y, 16, 16);
    // The newer one has no shortcut around its attention.
    let y = if opset >= 17 { b.relu(&y) } else { b.node("Add", &["x", &y], &[]) };
    let hidden = if opset >= 17 {
        let (scale, bias) = (b.weight(&[16]), b.weight(&[16]));
        b.node("LayerNormalization", &[&y, &scale, &bias], &[])
    } else {
        y.clone()
    };
    let hidden = b.matmul(&hidden, 16, 32);
    let hidden = b.relu(&hidden);
    let hidden = b.matmul(&hidden, 32, 16);
    let y = b.node("Add", &[&y, &hidden], &[]);
    let y = b.node("ReduceMean", &[&y], &[("axes", At::Is(&[1])), ("keepdims", At::I(0))]);
    let y = b.gemm(&y, 16, 4, true);
    b.finish(&y, &[4])
}

/// Queries and keys without heads: what their product sums over can go from both.
fn one_head() -> Model {
    let mut b = Build::new(13, &[6, 16]);
    let [q, k, v] = ["q", "k", "v"].map(|_| b.matmul("x", 16, 16));
    let k = b.node("Transpose", &[&k], &[("perm", At::Is(&[0, 2, 1]))]);
    let y = b.node("MatMul", &[&q, &k], &[]);
    let y = b.node("Softmax", &[&y], &[("axis", At::I(2))]);
    let value = b.matmul(&v, 16, 12);
    let rows = b.node("ReduceMean", &[&value], &[("axes", At::Is(&[1])), ("keepdims", At::I(0))]);
    let y = b.node("ReduceMean", &[&y], &[("axes", At::Is(&[1])), ("keepdims", At::I(0))]);
    let y = b.gemm(&y, 6, 12, true);
    let y = b.node("Add", &[&y, &rows], &[]);
    let y = b.gemm(&y, 12, 4, true);
    b.finish(&y, &[4])
}

/// All heads read the same keys and values, of 4 numbers each.
fn shared_keys() -> Model {
    let mut b = Build::new(13, &[6, 16]);
    let q = b.matmul("x", 16, 16);
    let q = heads(&mut b, &q);
    let one = b.list(&[1]);
    let [k, v] = ["k", "v"].map(|_| {
        let y = b.matmul("x", 16, 4);
        b.node("Unsqueeze", &[&y, &one], &[])
    });
    let y = attend(&mut b, &q, &k, &v, &[0, 1, 3, 2]);
    let y = b.matmul(&y, 16, 12);
    let y = b.node("ReduceMean", &[&y], &[("axes", At::Is(&[1])), ("keepdims", At::I(0))]);
    let y = b.gemm(&y, 12, 4, true);
    b.finish(&y, &[4])
}

/// Targets of Reshapes put together from the sizes of activations, as exporters do.
fn computed_shapes() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 16, 1);
    let size = b.node("Shape", &[&y], &[]);
    let (zero, one, two) = (b.list(&[0]), b.list(&[1]), b.list(&[2]));
    let (samples, spatial) = (b.node("Slice", &[&size, &zero, &one, &zero], &[]), b.node("Gather", &[&size, &two], &[]));
    let pixels = b.node("Mul", &[&spatial, &spatial], &[]);
    let channels = b.list(&[16]);
    let target = b.node("Concat", &[&samples, &channels, &pixels], &[("axis", At::I(0))]);
    let y = b.node("Reshape", &[&y, &target], &[]);
    let y = b.node("Transpose", &[&y], &[("perm", At::Is(&[0, 2, 1]))]);
    let y = b.matmul(&y, 16, 24);
    let y = b.relu(&y);
    let y = b.node("ReduceMean", &[&y], &[("axes", At::Is(&[1])), ("keepdims", At::I(0))]);
    let y = b.gemm(&y, 24, 4, true);
    b.finish(&y, &[4])
}

/// A token in front of the patches, made for every sample, and alone read at the end.
fn class_token() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let patches = b.weight(&[16, 3, 4, 4]);
    let y = b.node("Conv", &["x", &patches], &[("strides", At::Is(&[4, 4]))]);
    let size = b.node("Shape", &[&y], &[]);
    let (flat, zero, one) = (b.list(&[0, 16, 4]), b.list(&[0]), b.list(&[1]));
    let y = b.node("Reshape", &[&y, &flat], &[]);
    let y = b.node("Transpose", &[&y], &[("perm", At::Is(&[0, 2, 1]))]);
    let samples = b.node("Slice", &[&size, &zero, &one], &[]);
    let width = b.list(&[16]);
    let target = b.node("Concat", &[&samples, &one, &width], &[("axis", At::I(0))]);
    let token = b.weight(&[1, 1, 16]);
    let token = b.node("Expand", &[&token, &target], &[]);
    let y = b.node("Concat", &[&token, &y], &[("axis", At::I(1))]);
    let hidden = b.matmul(&y, 16, 32);
    let hidden = b.relu(&hidden);
    let hidden = b.matmul(&hidden, 32, 16);
    let y = b.node("Add", &[&y, &hidden], &[]);
    let first = b.constant(&Tensor::new(vec![], joulefront::tensor::Data::I64(vec![0])).unwrap());
    let y = b.node("Gather", &[&y, &first], &[("axis", At::I(1))]);
    let y = b.gemm(&y, 16, 4, true);
    b.finish(&y, &[4])
}

/// Channels by number: the numbers would no longer be right.
fn picked() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 16, 1);
    let which = b.list(&[3, 1, 4, 1, 5, 9, 2, 6]);
    let y = b.node("Gather", &[&y, &which], &[("axis", At::I(1))]);
    let y = b.conv(&y, 8, 12, 1);
    b.head(&y, 12)
}
