//! Small models of every shape that compression must cope with, built node by node.

use joulefront::onnx::{Attributes, Model, dtype_to_onnx, pb, tensor_to_proto};
use joulefront::tensor::{DType, Tensor};
use protobuf::Message;

/// A graph under construction. Weights are pseudo-random and the same on every run.
pub(crate) struct Build {
    model: Model,
    state: u64,
    count: usize,
}

/// An attribute's value.
pub(crate) enum At<'a> {
    I(i64),
    Is(&'a [i64]),
    F(f32),
}

impl Build {
    /// A graph with one input `x` of shape [N, …].
    pub(crate) fn new(opset: i64, sample: &[i64]) -> Self {
        let mut proto = pb::ModelProto::new();
        proto.set_ir_version(7);
        let mut import = pb::OperatorSetIdProto::new();
        import.set_domain(String::new());
        import.set_version(opset);
        proto.opset_import.push(import);
        let graph = proto.graph.mut_or_insert_default();
        graph.set_name("zoo".into());
        graph.input.push(value_info("x", sample));
        // A model is checked when it is read; until then it needs some output.
        graph.output.push(value_info("x", sample));
        let model = Model::from_bytes(&proto.write_to_bytes().unwrap(), "zoo").unwrap();
        Build { model, state: 1, count: 0 }
    }

    fn name(&mut self, stem: &str) -> String {
        self.count += 1;
        format!("{stem}{}", self.count)
    }

    /// Values in ±1, scaled so that a layer with `shape` keeps the size of its input.
    fn random(&mut self, shape: &[usize]) -> Tensor {
        let fan = shape.iter().skip(1).product::<usize>().max(1) as f32;
        let values = (0..shape.iter().product::<usize>()).map(|_| {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.state >> 40) as f32 / (1 << 23) as f32 - 1.0) * (3.0 / fan).sqrt()
        });
        Tensor::f32(shape, values.collect()).unwrap()
    }

    /// A random initializer.
    pub(crate) fn weight(&mut self, shape: &[usize]) -> String {
        let value = self.random(shape);
        self.constant(&value)
    }

    /// An initializer.
    pub(crate) fn constant(&mut self, value: &Tensor) -> String {
        let name = self.name("w");
        self.model.graph_mut().initializer.push(tensor_to_proto(&name, value));
        name
    }

    /// The same in a Constant node.
    pub(crate) fn constant_node(&mut self, value: &Tensor) -> String {
        let name = self.name("c");
        let mut attribute = pb::AttributeProto::new();
        attribute.set_name("value".into());
        attribute.set_type(4);
        attribute.t = Some(tensor_to_proto("", value)).into();
        let mut node = pb::NodeProto::new();
        node.set_op_type("Constant".into());
        node.output.push(name.clone());
        node.attribute.push(attribute);
        self.model.graph_mut().node.push(node);
        name
    }

    /// A node with one output, whose name is returned.
    pub(crate) fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, At)]) -> String {
        let output = self.name("t");
        let mut node = pb::NodeProto::new();
        node.set_op_type(op.into());
        node.set_name(format!("{op}_{output}"));
        node.input = inputs.iter().map(|&i| i.to_owned()).collect();
        node.output.push(output.clone());
        for (name, value) in attributes {
            match value {
                At::I(v) => node.set_int(name, *v),
                At::Is(v) => node.set_ints(name, v.to_vec()),
                At::F(v) => node.set_float(name, *v),
            }
        }
        self.model.graph_mut().node.push(node);
        output
    }

    pub(crate) fn relu(&mut self, x: &str) -> String {
        self.node("Relu", &[x], &[])
    }

    /// A 3×3 convolution with padding and bias; `from` are input channels per group.
    pub(crate) fn conv(&mut self, x: &str, from: usize, to: usize, group: i64) -> String {
        let (w, b) = (self.weight(&[to, from, 3, 3]), self.weight(&[to]));
        self.node("Conv", &[x, &w, &b], &[("pads", At::Is(&[1; 4])), ("group", At::I(group))])
    }

    /// A 1×1 convolution without bias.
    pub(crate) fn pointwise(&mut self, x: &str, from: usize, to: usize) -> String {
        let w = self.weight(&[to, from, 1, 1]);
        self.node("Conv", &[x, &w], &[])
    }

    /// BatchNormalization with statistics that are not trivial.
    pub(crate) fn batch_norm(&mut self, x: &str, channels: usize) -> String {
        let positive = |t: Tensor| Tensor::f32([channels], t.as_f32().unwrap().iter().map(|v| v.abs() + 0.5).collect()).unwrap();
        let (gamma, var) = (positive(self.random(&[channels])), positive(self.random(&[channels])));
        let (gamma, beta) = (self.constant(&gamma), self.weight(&[channels]));
        let (mean, var) = (self.weight(&[channels]), self.constant(&var));
        self.node("BatchNormalization", &[x, &gamma, &beta, &mean, &var], &[("epsilon", At::F(1e-3))])
    }

    pub(crate) fn gemm(&mut self, x: &str, from: usize, to: usize, transposed: bool) -> String {
        let w = self.weight(&if transposed { [to, from] } else { [from, to] });
        let w = if transposed { w } else { self.scaled(&w, from, to) };
        let b = self.weight(&[to]);
        self.node("Gemm", &[x, &w, &b], &[("transB", At::I(i64::from(transposed)))])
    }

    /// A [from, to] matrix has its fan-in on the first axis: correct the size of its values.
    fn scaled(&mut self, name: &str, from: usize, to: usize) -> String {
        let t = joulefront::model::Graph::new(&self.model).constant(name).unwrap().unwrap();
        let factor = (to as f32 / from as f32).sqrt();
        let t = Tensor::f32(t.shape(), t.as_f32().unwrap().iter().map(|v| v * factor).collect()).unwrap();
        self.model.set_constant(name, &t).unwrap();
        name.to_owned()
    }

    pub(crate) fn matmul(&mut self, x: &str, from: usize, to: usize) -> String {
        let w = self.weight(&[from, to]);
        let w = self.scaled(&w, from, to);
        let b = self.weight(&[to]);
        let y = self.node("MatMul", &[x, &w], &[]);
        self.node("Add", &[&y, &b], &[])
    }

    /// Pooling, Flatten and a Gemm to four classes.
    pub(crate) fn head(mut self, x: &str, channels: usize) -> Model {
        let pooled = self.node("GlobalAveragePool", &[x], &[]);
        let flat = self.node("Flatten", &[&pooled], &[]);
        let y = self.gemm(&flat, channels, 4, true);
        self.finish(&y, &[4])
    }

    /// The model with output `y`, written and read again, so that it went through all checks.
    pub(crate) fn finish(mut self, y: &str, sample: &[i64]) -> Model {
        self.model.graph_mut().output = vec![value_info(y, sample)];
        Model::from_bytes(&self.model.to_bytes().unwrap(), "zoo").unwrap()
    }
}

fn value_info(name: &str, sample: &[i64]) -> pb::ValueInfoProto {
    let mut info = pb::ValueInfoProto::new();
    info.set_name(name.into());
    let tensor = info.type_.mut_or_insert_default().tensor_type.mut_or_insert_default();
    tensor.set_elem_type(dtype_to_onnx(DType::F32));
    let shape = tensor.shape.mut_or_insert_default();
    let mut batch = pb::tensor_shape_proto::Dimension::new();
    batch.set_dim_param("N".into());
    shape.dim.push(batch);
    for &d in sample {
        let mut dim = pb::tensor_shape_proto::Dimension::new();
        dim.set_dim_value(d);
        shape.dim.push(dim);
    }
    info
}

/// A model of the zoo, with what the tests need to know of it.
pub(crate) struct Animal {
    pub(crate) name: &'static str,
    pub(crate) model: Model,
    /// Shape of one sample.
    pub(crate) sample: Vec<usize>,
    /// Part of the reason why some group is frozen, where the graph gives one beyond input and output.
    pub(crate) frozen: Option<&'static str>,
    /// Whether anything can be pruned.
    pub(crate) prunable: bool,
}

/// Inputs [n, sample…] in ±1.
pub(crate) fn inputs(n: usize, sample: &[usize]) -> Tensor {
    let shape = [&[n], sample].concat();
    Tensor::f32(shape.clone(), crate::support::uniform(shape.iter().product())).unwrap()
}

/// All of them.
pub(crate) fn all() -> Vec<Animal> {
    let image: &[usize] = &[3, 8, 8];
    let animal = |name, model, sample: &[usize]| Animal { name, model, sample: sample.to_vec(), frozen: None, prunable: true };
    vec![
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
        Animal { frozen: Some("through Concat"), ..animal("concat", concat(), image) },
        Animal { frozen: Some("is a grouped convolution"), ..animal("grouped", grouped(), image) },
        animal("shared weights", shared(), image),
        animal("identities of constants", identities(), image),
        animal("constant nodes", constant_nodes(), image),
        Animal { frozen: Some("reads them along another axis"), ..animal("transpose", transpose(), image) },
        Animal { frozen: Some("reduces over them"), ..animal("layer norm by hand", layer_norm(), &[6, 16]) },
        animal("one dimension", one_dimension(), &[3, 16]),
        Animal { frozen: Some("differently laid out"), prunable: false, ..animal("broadcast residual", broadcast(), image) },
    ]
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
    let (low, high) = (b.constant(&Tensor::f32([], vec![0.0]).unwrap()), b.constant(&Tensor::f32([], vec![6.0]).unwrap()));
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
    let two = b.constant(&Tensor::f32([], vec![2.0]).unwrap());
    let square = b.node("Pow", &[&centred, &two], &[]);
    let var = b.node("ReduceMean", &[&square], &[("axes", At::Is(&[-1]))]);
    let epsilon = b.constant(&Tensor::f32([], vec![1e-5]).unwrap());
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
