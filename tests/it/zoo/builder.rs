//! Puts graphs together node by node.

use joulefront::onnx::{Attributes, Model, dtype_to_onnx, pb, tensor_to_proto};
use joulefront::tensor::{DType, Data, Tensor};
use protobuf::Message;

/// A graph under construction. Weights are pseudo-random and the same on every run.
pub(crate) struct Build {
    proto: pb::ModelProto,
    state: u64,
    count: usize,
    /// A value for each input that was declared.
    inputs: Vec<(String, Tensor)>,
}

/// An attribute's value.
pub(crate) enum At<'a> {
    I(i64),
    Is(&'a [i64]),
    F(f32),
    Fs(&'a [f32]),
    S(&'a str),
    T(&'a Tensor),
    /// A graph made by [`Build::subgraph`].
    G(Box<pb::GraphProto>),
    /// The name of an attribute of the function around the node, and its type code.
    Ref(&'a str, i32),
}

impl Build {
    /// A graph with one float input `x` of shape [N, …].
    pub(crate) fn new(opset: i64, sample: &[i64]) -> Self {
        let mut b = Build::bare(opset);
        let mut info = value_info("x", DType::F32, "N");
        tensor_shape(&mut info).dim.extend(sample.iter().map(|&d| dimension(&d.to_string())));
        b.graph().input.push(info);
        b
    }

    /// A graph without inputs; the version of the file format is the oldest that may hold this operator set.
    pub(crate) fn bare(opset: i64) -> Self {
        let mut proto = pb::ModelProto::new();
        proto.set_ir_version(match opset {
            ..9 => 3,
            9..21 => 8,
            _ => 10,
        });
        proto.graph.mut_or_insert_default().set_name("zoo".into());
        let mut b = Build { proto, state: 1, count: 0, inputs: Vec::new() };
        b.import("", opset);
        b
    }

    /// Imports an operator domain, once.
    pub(crate) fn import(&mut self, domain: &str, version: i64) {
        if self.proto.opset_import.iter().all(|i| i.domain() != domain) {
            let mut import = pb::OperatorSetIdProto::new();
            import.set_domain(domain.into());
            import.set_version(version);
            self.proto.opset_import.push(import);
        }
    }

    pub(super) fn graph(&mut self) -> &mut pb::GraphProto {
        self.proto.graph.mut_or_insert_default()
    }

    fn name(&mut self, stem: &str) -> String {
        self.count += 1;
        format!("{stem}{}", self.count)
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.state >> 40
    }

    /// Values in ±1.
    pub(super) fn uniform(&mut self, shape: &[usize]) -> Tensor {
        let values = (0..shape.iter().product::<usize>()).map(|_| self.next() as f32 / (1 << 23) as f32 - 1.0);
        Tensor::f32(shape, values.collect()).unwrap()
    }

    /// Values in ±√(3 / `fan`): a layer that adds up `fan` products keeps the size of its input.
    pub(super) fn scaled(&mut self, shape: &[usize], fan: usize) -> Tensor {
        let t = self.uniform(shape);
        Tensor::f32(shape, t.as_f32().unwrap().iter().map(|v| v * (3.0 / fan as f32).sqrt()).collect()).unwrap()
    }

    /// The same for a layer whose first axis is the output's.
    pub(super) fn random(&mut self, shape: &[usize]) -> Tensor {
        self.scaled(shape, shape.iter().skip(1).product::<usize>().max(1))
    }

    /// Integers from `low` up to, but without, `high`.
    pub(super) fn integers(&mut self, count: usize, low: i64, high: i64) -> Vec<i64> {
        (0..count).map(|_| low + (self.next() as i64) % (high - low)).collect()
    }

    /// A float input; `dims` as in `N=2,3,8,8`: numbers, or names with the number they have in tests.
    pub(crate) fn input(&mut self, name: &str, dims: &str) -> String {
        let value = self.uniform(&numbers(dims));
        self.feed(name, dims, value)
    }

    /// An int64 input with values from 0 up to, but without, `bound`.
    pub(crate) fn ids(&mut self, name: &str, dims: &str, bound: i64) -> String {
        let shape = numbers(dims);
        let values = self.integers(shape.iter().product(), 0, bound);
        self.feed(name, dims, Tensor::new(shape, Data::I64(values)).unwrap())
    }

    /// An input of any type with the value it has in tests.
    pub(crate) fn feed(&mut self, name: &str, dims: &str, value: Tensor) -> String {
        assert_eq!(value.shape(), numbers(dims));
        self.graph().input.push(value_info(name, value.dtype(), dims));
        self.inputs.push((name.into(), value));
        name.into()
    }

    /// A random initializer.
    pub(crate) fn weight(&mut self, shape: &[usize]) -> String {
        let value = self.random(shape);
        self.constant(&value)
    }

    /// An initializer.
    pub(crate) fn constant(&mut self, value: &Tensor) -> String {
        let name = self.name("w");
        self.initializer(tensor_to_proto(&name, value))
    }

    /// An initializer from its message.
    pub(crate) fn initializer(&mut self, tensor: pb::TensorProto) -> String {
        let name = tensor.name().to_owned();
        self.graph().initializer.push(tensor);
        name
    }

    /// A float scalar.
    pub(crate) fn scalar(&mut self, value: f32) -> String {
        self.constant(&Tensor::f32([], vec![value]).unwrap())
    }

    /// A list of integers.
    pub(crate) fn list(&mut self, values: &[i64]) -> String {
        self.constant(&Tensor::i64s(values.to_vec()))
    }

    /// A tensor in a Constant node.
    pub(crate) fn constant_node(&mut self, value: &Tensor) -> String {
        self.node("Constant", &[], &[("value", At::T(value))])
    }

    /// A node with one output, whose name is returned.
    pub(crate) fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, At)]) -> String {
        self.nodes(op, inputs, 1, attributes).remove(0)
    }

    /// A node with several outputs, whose names are returned. `op` is `Name` or `domain::Name`.
    pub(crate) fn nodes(&mut self, op: &str, inputs: &[&str], outputs: usize, attributes: &[(&str, At)]) -> Vec<String> {
        let outputs: Vec<String> = (0..outputs).map(|_| self.name("t")).collect();
        let mut node = pb::NodeProto::new();
        let (domain, op) = op.split_once("::").unwrap_or(("", op));
        if !domain.is_empty() {
            self.import(domain, 1);
            node.set_domain(domain.into());
        }
        node.set_op_type(op.into());
        node.set_name(format!("{op}_{}", outputs[0]));
        node.input = inputs.iter().map(|&i| i.to_owned()).collect();
        node.output = outputs.clone();
        attributes.iter().for_each(|(name, value)| set(&mut node, name, value));
        self.graph().node.push(node);
        outputs
    }

    /// A graph for an attribute. What `body` adds, initializers too, becomes part of it; it may read what is there already.
    /// Inputs as (name, type, dims), outputs likewise.
    pub(crate) fn subgraph<'d>(
        &mut self,
        inputs: &[(&str, DType, &str)],
        body: impl FnOnce(&mut Self) -> Vec<(String, DType, &'d str)>,
    ) -> Box<pb::GraphProto> {
        let (nodes, constants) = (std::mem::take(&mut self.graph().node), std::mem::take(&mut self.graph().initializer));
        let outputs = body(self);
        let mut graph = pb::GraphProto::new();
        graph.set_name(self.name("body"));
        graph.node = std::mem::replace(&mut self.graph().node, nodes);
        graph.initializer = std::mem::replace(&mut self.graph().initializer, constants);
        graph.input = inputs.iter().map(|(name, dtype, dims)| value_info(name, *dtype, dims)).collect();
        graph.output = outputs.iter().map(|(name, dtype, dims)| value_info(name, *dtype, dims)).collect();
        Box::new(graph)
    }

    /// A function of the model in the domain `local`, to be called as `local::NAME`. Its constants stand in nodes.
    pub(crate) fn function(&mut self, name: &str, inputs: &[&str], attributes: &[&str], body: impl FnOnce(&mut Self) -> Vec<String>) {
        let outer = std::mem::take(self.graph());
        let outputs = body(self);
        let mut function = pb::FunctionProto::new();
        function.set_name(name.into());
        function.set_domain("local".into());
        function.input = inputs.iter().map(|&i| i.to_owned()).collect();
        function.attribute = attributes.iter().map(|&a| a.to_owned()).collect();
        function.output = outputs;
        function.node = std::mem::replace(self.graph(), outer).node;
        function.opset_import = self.proto.opset_import.clone();
        self.import("local", 1);
        self.proto.functions.push(function);
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

    /// The four constants of a BatchNormalization, none of them trivial: scale, bias, mean, variance.
    pub(crate) fn statistics(&mut self, channels: usize) -> [String; 4] {
        let positive = |t: Tensor| Tensor::f32([channels], t.as_f32().unwrap().iter().map(|v| v.abs() + 0.5).collect()).unwrap();
        let (gamma, var) = (positive(self.random(&[channels])), positive(self.random(&[channels])));
        let (gamma, beta) = (self.constant(&gamma), self.weight(&[channels]));
        let (mean, var) = (self.weight(&[channels]), self.constant(&var));
        [gamma, beta, mean, var]
    }

    pub(crate) fn batch_norm(&mut self, x: &str, channels: usize) -> String {
        let [gamma, beta, mean, var] = self.statistics(channels);
        self.node("BatchNormalization", &[x, &gamma, &beta, &mean, &var], &[("epsilon", At::F(1e-3))])
    }

    pub(crate) fn gemm(&mut self, x: &str, from: usize, to: usize, transposed: bool) -> String {
        let w = self.scaled(&if transposed { [to, from] } else { [from, to] }, from);
        let (w, b) = (self.constant(&w), self.weight(&[to]));
        self.node("Gemm", &[x, &w, &b], &[("transB", At::I(i64::from(transposed)))])
    }

    pub(crate) fn matmul(&mut self, x: &str, from: usize, to: usize) -> String {
        let w = self.scaled(&[from, to], from);
        let (w, b) = (self.constant(&w), self.weight(&[to]));
        let y = self.node("MatMul", &[x, &w], &[]);
        self.node("Add", &[&y, &b], &[])
    }

    /// Pooling, Flatten and a Gemm to four classes.
    pub(crate) fn classes(&mut self, x: &str, channels: usize) -> String {
        let pooled = self.node("GlobalAveragePool", &[x], &[]);
        let flat = self.node("Flatten", &[&pooled], &[]);
        self.gemm(&flat, channels, 4, true)
    }

    /// The model that ends in [`Build::classes`].
    pub(crate) fn head(mut self, x: &str, channels: usize) -> Model {
        let y = self.classes(x, channels);
        self.finish(&y, &[4])
    }

    /// The model with float output `y` of shape [N, sample…], written and read again, so that it went through all checks.
    pub(crate) fn finish(mut self, y: &str, sample: &[i64]) -> Model {
        let mut info = value_info(y, DType::F32, "N");
        tensor_shape(&mut info).dim.extend(sample.iter().map(|&d| dimension(&d.to_string())));
        self.graph().output.push(info);
        Model::from_bytes(&self.proto.write_to_bytes().unwrap(), "zoo").unwrap()
    }

    /// The message, for what the builder has no words for.
    pub(crate) fn proto(&mut self) -> &mut pb::ModelProto {
        &mut self.proto
    }

    /// A creature with outputs (name, type, dims).
    pub(crate) fn creature(mut self, name: &'static str, outputs: &[(&str, DType, &str)]) -> super::Creature {
        self.graph().output.extend(outputs.iter().map(|(name, dtype, dims)| value_info(name, *dtype, dims)));
        if self.proto.ir_version() < 4 {
            // As files were then: each initializer stands among the inputs too.
            let declared = self.graph().initializer.iter().map(|t| {
                let dims: Vec<_> = t.dims.iter().map(i64::to_string).collect();
                let mut info = value_info(t.name(), DType::F32, &dims.join(","));
                info.type_.mut_or_insert_default().tensor_type.mut_or_insert_default().set_elem_type(t.data_type());
                info
            });
            let declared: Vec<_> = declared.collect();
            self.graph().input.extend(declared);
        }
        super::Creature { name, bytes: self.proto.write_to_bytes().unwrap(), inputs: self.inputs }
    }
}

/// Sets an attribute of a node.
pub(super) fn set(node: &mut pb::NodeProto, name: &str, value: &At) {
    let mut other = pb::AttributeProto::new();
    other.set_name(name.into());
    match value {
        At::I(v) => return node.set_int(name, *v),
        At::Is(v) => return node.set_ints(name, v.to_vec()),
        At::F(v) => return node.set_float(name, *v),
        At::S(v) => return node.set_string(name, v),
        At::T(v) => {
            other.set_type(4);
            other.t = Some(tensor_to_proto("", v)).into();
        }
        At::G(v) => {
            other.set_type(5);
            other.g = Some(*v.clone()).into();
        }
        At::Fs(v) => {
            other.set_type(6);
            other.floats = v.to_vec();
        }
        At::Ref(v, code) => {
            other.set_type(*code);
            other.set_ref_attr_name((*v).into());
        }
    }
    node.attribute.push(other);
}

/// The numbers of `N=2,3,8,8`.
fn numbers(dims: &str) -> Vec<usize> {
    parts(dims).map(|d| d.rsplit('=').next().unwrap().parse().unwrap()).collect()
}

fn parts(dims: &str) -> impl Iterator<Item = &str> {
    dims.split(',').filter(|d| !d.is_empty())
}

fn dimension(text: &str) -> pb::tensor_shape_proto::Dimension {
    let mut dim = pb::tensor_shape_proto::Dimension::new();
    match text.parse() {
        Ok(number) => dim.set_dim_value(number),
        Err(_) => dim.set_dim_param(text.split('=').next().unwrap().into()),
    }
    dim
}

fn tensor_shape(info: &mut pb::ValueInfoProto) -> &mut pb::TensorShapeProto {
    info.type_.mut_or_insert_default().tensor_type.mut_or_insert_default().shape.mut_or_insert_default()
}

fn value_info(name: &str, dtype: DType, dims: &str) -> pb::ValueInfoProto {
    let mut info = pb::ValueInfoProto::new();
    info.set_name(name.into());
    info.type_.mut_or_insert_default().tensor_type.mut_or_insert_default().set_elem_type(dtype_to_onnx(dtype));
    tensor_shape(&mut info).dim = parts(dims).map(dimension).collect();
    info
}
