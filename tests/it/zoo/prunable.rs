//! What compression must cope with: float32, one input `x` of shape [N, …], one output.

use super::Animal;
use super::builder::{At, Build};
use super::structures;
use joulefront::onnx::Model;
use joulefront::tensor::Tensor;

/// All of them.
pub(crate) fn all() -> Vec<Animal> {
    let image: &[usize] = &[3, 8, 8];
    let animal = |name, model, sample: &[usize]| Animal { name, model, sample: sample.to_vec(), frozen: None, prunable: true };
    let simple = vec![
        animal("residual", residual(), image),
        animal("depthwise", depthwise(), image),
        animal("norm after, opset 11", norm(11, true), image),
        animal("norm before", norm(13, false), image),
        animal("squeeze and excite", squeeze_excite(), image),
        animal("flatten", flatten(None), image),
        animal("reshape to -1", flatten(Some([0, -1])), image),
        animal("reshape to a number", flatten(Some([0, 12 * 64])), image),
        animal("mlp of MatMul and Add", matmul_mlp(), &[16]),
        animal("gemm both ways", gemms(), &[16]),
        animal("gemm with a scalar bias", scalar_bias(), &[16]),
        animal("concat", concat(), image),
        animal("grouped", grouped(), image),
        animal("shared weights", shared(), image),
        animal("identities of constants", identities(), image),
        animal("constant nodes", constant_nodes(), image),
        Animal { frozen: Some("reads them along another axis"), ..animal("transpose", transpose(), image) },
        Animal { frozen: Some("reduces over them"), ..animal("layer norm by hand", layer_norm(), &[6, 16]) },
        animal("one dimension", one_dimension(), &[3, 16]),
        Animal { frozen: Some("nothing would be left"), ..animal("broadcast residual", broadcast(), image) },
    ];
    simple.into_iter().chain(structures::all()).collect()
}

/// All of them, and more that only pruning is tested on.
pub(crate) fn cuttable() -> Vec<Animal> {
    let bias =
        Animal { name: "computed bias", model: computed_bias(), sample: vec![3, 8, 8], frozen: Some("is computed"), prunable: false };
    all().into_iter().chain(structures::others()).chain([bias]).collect()
}

fn residual() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let stem = b.conv("x", 3, 16, 1);
    let stem = b.relu(&stem);
    let y = b.conv(&stem, 16, 12, 1);
    let y = b.relu(&y);
    let y = b.conv(&y, 12, 16, 1);
    let y = b.node("Add", &[&y, &stem], &[]);
    let y = b.relu(&y);
    let z = b.conv(&y, 16, 16, 1);
    let z = b.node("Add", &[&y, &z], &[]);
    b.head(&z, 16)
}

fn depthwise() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 16, 1);
    let (low, high) = (b.scalar(0.0), b.scalar(6.0));
    let y = b.node("Clip", &[&y, &low, &high], &[]);
    let y = b.conv(&y, 1, 16, 16);
    let y = b.node("Clip", &[&y, &low, &high], &[]);
    let y = b.pointwise(&y, 16, 24);
    let y = b.conv(&y, 1, 24, 24);
    let y = b.relu(&y);
    b.head(&y, 24)
}

fn norm(opset: i64, after: bool) -> Model {
    let mut b = Build::new(opset, &[3, 8, 8]);
    let mut y = b.conv("x", 3, 16, 1);
    for _ in 0..2 {
        y = if after {
            let y = b.pointwise(&y, 16, 16);
            let y = b.batch_norm(&y, 16);
            b.relu(&y)
        } else {
            let y = b.batch_norm(&y, 16);
            let y = b.relu(&y);
            b.conv(&y, 16, 16, 1)
        };
    }
    b.head(&y, 16)
}

fn squeeze_excite() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 16, 1);
    let y = b.relu(&y);
    let s = b.node("GlobalAveragePool", &[&y], &[]);
    let s = b.pointwise(&s, 16, 8);
    let s = b.relu(&s);
    let s = b.pointwise(&s, 8, 16);
    let s = b.node("Sigmoid", &[&s], &[]);
    let y = b.node("Mul", &[&y, &s], &[]);
    b.head(&y, 16)
}

/// Convolution into Gemm without pooling: each channel owns 64 columns.
fn flatten(target: Option<[i64; 2]>) -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 12, 1);
    let y = b.relu(&y);
    let y = match target {
        None => b.node("Flatten", &[&y], &[]),
        Some(target) => {
            let shape = b.constant(&Tensor::i64s(target.to_vec()));
            b.node("Reshape", &[&y, &shape], &[])
        }
    };
    let y = b.gemm(&y, 12 * 64, 10, false);
    let y = b.relu(&y);
    let y = b.gemm(&y, 10, 4, true);
    b.finish(&y, &[4])
}

/// The same, exported for exactly four samples: the batch stands in the input and in the Reshape.
pub(crate) fn fixed_batch() -> Model {
    let mut model = flatten(Some([4, -1]));
    let tensor = model.graph_mut().input[0].type_.mut_or_insert_default().tensor_type.mut_or_insert_default();
    tensor.shape.mut_or_insert_default().dim[0].set_dim_value(4);
    model
}

fn matmul_mlp() -> Model {
    let mut b = Build::new(13, &[16]);
    let y = b.matmul("x", 16, 32);
    let y = b.node("Tanh", &[&y], &[]);
    let y = b.matmul(&y, 32, 24);
    let y = b.relu(&y);
    let y = b.matmul(&y, 24, 4);
    b.finish(&y, &[4])
}

fn gemms() -> Model {
    let mut b = Build::new(11, &[16]);
    let y = b.gemm("x", 16, 32, true);
    let y = b.relu(&y);
    let y = b.gemm(&y, 32, 24, false);
    let y = b.relu(&y);
    let y = b.gemm(&y, 24, 4, true);
    b.finish(&y, &[4])
}

fn scalar_bias() -> Model {
    let mut b = Build::new(13, &[16]);
    let (w, bias) = (b.weight(&[32, 16]), b.weight(&[1]));
    let y = b.node("Gemm", &["x", &w, &bias], &[("transB", At::I(1))]);
    let y = b.relu(&y);
    let (w, bias) = (b.weight(&[24, 32]), b.weight(&[1, 24]));
    let y = b.node("Gemm", &[&y, &w, &bias], &[("transB", At::I(1))]);
    let y = b.relu(&y);
    let w = b.weight(&[24, 4]);
    let y = b.node("MatMul", &[&y, &w], &[]);
    let bias = b.weight(&[1]);
    let y = b.node("Add", &[&y, &bias], &[]);
    b.finish(&y, &[4])
}

fn concat() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let left = b.conv("x", 3, 8, 1);
    let right = b.conv("x", 3, 8, 1);
    let y = b.node("Concat", &[&left, &right], &[("axis", At::I(1))]);
    let y = b.conv(&y, 16, 16, 1);
    let y = b.relu(&y);
    b.head(&y, 16)
}

fn grouped() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 16, 1);
    let y = b.conv(&y, 4, 16, 4);
    let y = b.relu(&y);
    let y = b.conv(&y, 16, 16, 1);
    b.head(&y, 16)
}

/// The same filters and bias in two layers.
fn shared() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 16, 1);
    let (w, bias) = (b.weight(&[16, 16, 1, 1]), b.weight(&[16]));
    let y = b.node("Conv", &[&y, &w, &bias], &[]);
    let y = b.relu(&y);
    let y = b.node("Conv", &[&y, &w, &bias], &[]);
    b.head(&y, 16)
}

/// What exporters make of equal tensors: one initializer and identities of it.
fn identities() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 16, 1);
    let (w, bias) = (b.weight(&[16, 16, 1, 1]), b.weight(&[16]));
    let copy = b.node("Identity", &[&bias], &[]);
    let copy_of_copy = b.node("Identity", &[&copy], &[]);
    let y = b.node("Conv", &[&y, &w, &copy], &[]);
    let y = b.relu(&y);
    let w = b.weight(&[16, 16, 1, 1]);
    let y = b.node("Conv", &[&y, &w, &copy_of_copy], &[]);
    b.head(&y, 16)
}

fn constant_nodes() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let (w, bias) = (b.random(&[16, 3, 1, 1]), b.random(&[16]));
    let (w, bias) = (b.constant_node(&w), b.constant_node(&bias));
    let y = b.node("Conv", &["x", &w, &bias], &[]);
    let scale = b.random(&[16, 1, 1]);
    let scale = b.constant_node(&scale);
    let y = b.node("Mul", &[&y, &scale], &[]);
    let slope = b.weight(&[16, 1, 1]);
    let y = b.node("PRelu", &[&y, &slope], &[]);
    b.head(&y, 16)
}

/// Channels last, then a matrix product over them; and a depthwise layer over what is not the channel axis.
fn transpose() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 16, 1);
    let last = b.node("Transpose", &[&y], &[("perm", At::Is(&[0, 2, 3, 1]))]);
    let y = b.matmul(&last, 16, 24);
    let y = b.relu(&y);
    let y = b.matmul(&y, 24, 8);
    let w = b.weight(&[8, 1, 3, 3]);
    let y = b.node("Conv", &[&y, &w], &[("pads", At::Is(&[1; 4])), ("group", At::I(8))]);
    b.head(&y, 8)
}

/// Tokens of 16 numbers, normalised by elementary operators, then a hidden layer.
fn layer_norm() -> Model {
    let mut b = Build::new(13, &[6, 16]);
    let y = b.matmul("x", 16, 16);
    let mean = b.node("ReduceMean", &[&y], &[("axes", At::Is(&[-1]))]);
    let centred = b.node("Sub", &[&y, &mean], &[]);
    let two = b.scalar(2.0);
    let square = b.node("Pow", &[&centred, &two], &[]);
    let var = b.node("ReduceMean", &[&square], &[("axes", At::Is(&[-1]))]);
    let epsilon = b.scalar(1e-5);
    let var = b.node("Add", &[&var, &epsilon], &[]);
    let deviation = b.node("Sqrt", &[&var], &[]);
    let y = b.node("Div", &[&centred, &deviation], &[]);
    let gamma = b.weight(&[16]);
    let y = b.node("Mul", &[&y, &gamma], &[]);
    let hidden = b.matmul(&y, 16, 32);
    let hidden = b.node("Sigmoid", &[&hidden], &[]);
    let z = b.matmul(&hidden, 32, 16);
    let y = b.node("Add", &[&y, &z], &[]);
    let y = b.node("ReduceMean", &[&y], &[("axes", At::Is(&[1])), ("keepdims", At::I(0))]);
    let y = b.gemm(&y, 16, 4, true);
    b.finish(&y, &[4])
}

fn one_dimension() -> Model {
    let mut b = Build::new(13, &[3, 16]);
    let mut y = "x".to_owned();
    for (from, to) in [(3, 16), (16, 12)] {
        let (w, bias) = (b.weight(&[to, from, 3]), b.weight(&[to]));
        y = b.node("Conv", &[&y, &w, &bias], &[("pads", At::Is(&[1, 1]))]);
        y = b.relu(&y);
    }
    b.head(&y, 12)
}

/// The other summand is one channel that is broadcast.
fn broadcast() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let y = b.conv("x", 3, 16, 1);
    let one = b.pointwise("x", 3, 1);
    let y = b.node("Add", &[&y, &one], &[]);
    b.head(&y, 16)
}

/// A bias that depends on the input.
fn computed_bias() -> Model {
    let mut b = Build::new(13, &[3, 8, 8]);
    let mean = b.node("ReduceMean", &["x"], &[("keepdims", At::I(0))]);
    let (w, bias) = (b.weight(&[16, 3, 1, 1]), b.weight(&[16]));
    let bias = b.node("Mul", &[&bias, &mean], &[]);
    let y = b.node("Conv", &["x", &w, &bias], &[]);
    b.head(&y, 16)
}
