//! Weights where one does not look for them.

use super::Creature;
use super::builder::{At, Build};
use joulefront::onnx::{pb, tensor_to_proto};
use joulefront::tensor::DType::F32;
use joulefront::tensor::{Data, Tensor};

pub(super) fn family() -> Vec<Creature> {
    vec![
        shared_by_layers(),
        constants_of_all_kinds(),
        half_precision_behind_casts(),
        reshaped_and_transposed(),
        worked_out(),
        overridable(),
        typed_fields(),
        sparse(),
        sparse_node(),
    ]
}

/// One matrix in two layers, one of which takes it transposed; one bias in three.
fn shared_by_layers() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,6");
    let (w, bias) = (b.weight(&[6, 6]), b.weight(&[6]));
    let y = b.node("Gemm", &[&x, &w, &bias], &[]);
    let y = b.relu(&y);
    let y = b.node("Gemm", &[&y, &w, &bias], &[("transB", At::I(1)), ("beta", At::F(0.5))]);
    let y = b.node("MatMul", &[&y, &w], &[]);
    let y = b.node("Add", &[&y, &bias], &[]);
    b.creature("weights shared by layers", &[(&y, F32, "N,6")])
}

/// `value`, `value_float`, `value_floats`, `value_int`, `value_ints`, ConstantOfShape, and Identity of each.
fn constants_of_all_kinds() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,4");
    let w = b.scaled(&[4, 3], 4);
    let w = b.constant_node(&w);
    let w = b.node("Identity", &[&w], &[]);
    let y = b.node("MatMul", &[&x, &w], &[]);
    let bias = b.node("Constant", &[], &[("value_floats", At::Fs(&[0.5, -0.25, 1.0]))]);
    let y = b.node("Add", &[&y, &bias], &[]);
    let factor = b.node("Constant", &[], &[("value_float", At::F(1.5))]);
    let factor = b.node("Identity", &[&factor], &[]);
    let y = b.node("Mul", &[&y, &factor], &[]);
    let shape = b.node("Constant", &[], &[("value_ints", At::Is(&[0, 3, 1]))]);
    let y = b.node("Reshape", &[&y, &shape], &[]);
    let axis = b.node("Constant", &[], &[("value_int", At::I(1))]);
    let y = b.node("Gather", &[&y, &axis], &[("axis", At::I(1))]);
    let size = b.node("Constant", &[], &[("value_ints", At::Is(&[1]))]);
    let two = b.node("ConstantOfShape", &[&size], &[("value", At::T(&Tensor::f32([1], vec![2.0]).unwrap()))]);
    let y = b.node("Sub", &[&y, &two], &[]);
    b.creature("constants of all kinds", &[(&y, F32, "N,1")])
}

/// The weights of an fp16 file that computes in fp32.
fn half_precision_behind_casts() -> Creature {
    let mut b = Build::bare(13);
    let mut y = b.input("x", "N=2,3,6,6");
    for (from, to) in [(3, 8), (8, 8)] {
        // 10-bit fractions with a few exponents around 1/8: exact in half precision.
        let bits = b.integers(to * from * 9, 0x2800, 0x3200).into_iter().enumerate().map(|(i, v)| v as u16 | ((i as u16 & 1) << 15));
        let w = b.constant(&Tensor::new(vec![to, from, 3, 3], Data::F16(bits.collect())).unwrap());
        let w = b.node("Cast", &[&w], &[("to", At::I(1))]);
        y = b.node("Conv", &[&y, &w], &[("pads", At::Is(&[1; 4]))]);
        y = b.relu(&y);
    }
    let wide = b.uniform(&[8, 4]).as_f32().unwrap().iter().map(|&v| f64::from(v)).collect();
    let wide = b.constant(&Tensor::new(vec![8, 4], Data::F64(wide)).unwrap());
    let w = b.node("Cast", &[&wide], &[("to", At::I(1))]);
    let y = b.node("GlobalAveragePool", &[&y], &[]);
    let y = b.node("Flatten", &[&y], &[]);
    let y = b.node("MatMul", &[&y, &w], &[]);
    b.creature("half precision behind Cast", &[(&y, F32, "N,4")])
}

fn reshaped_and_transposed() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,4,5,5");
    // Filters as TensorFlow keeps them: height, width, in, out.
    let w = b.scaled(&[3, 3, 4, 6], 36);
    let w = b.constant(&w);
    let w = b.node("Transpose", &[&w], &[("perm", At::Is(&[3, 2, 0, 1]))]);
    let y = b.node("Conv", &[&x, &w], &[]);
    let flat = b.scaled(&[6 * 6], 6);
    let (flat, shape) = (b.constant(&flat), b.list(&[6, 6, 1, 1]));
    let w = b.node("Reshape", &[&flat, &shape], &[]);
    let y = b.node("Conv", &[&y, &w], &[]);
    let bias = b.weight(&[6]);
    let axes = b.list(&[0, 2, 3]);
    let bias = b.node("Unsqueeze", &[&bias, &axes], &[]);
    let y = b.node("Add", &[&y, &bias], &[]);
    let y = b.node("GlobalAveragePool", &[&y], &[]);
    let y = b.node("Flatten", &[&y], &[]);
    let w = b.weight(&[3, 6]);
    let w = b.node("Transpose", &[&w], &[]);
    let w = b.node("Identity", &[&w], &[]);
    let y = b.node("MatMul", &[&y, &w], &[]);
    b.creature("weights reshaped and transposed", &[(&y, F32, "N,3")])
}

/// Weight normalisation, two halves joined, and a slice of a larger tensor.
fn worked_out() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,4");
    let (v, g) = (b.weight(&[6, 4]), b.weight(&[6, 1]));
    let norm = b.node("ReduceL2", &[&v], &[("axes", At::Is(&[1]))]);
    let unit = b.node("Div", &[&v, &norm], &[]);
    let w = b.node("Mul", &[&unit, &g], &[]);
    let y = b.node("Gemm", &[&x, &w], &[("transB", At::I(1))]);
    let (upper, lower) = (b.weight(&[3, 4]), b.weight(&[3, 4]));
    let w = b.node("Concat", &[&upper, &lower], &[("axis", At::I(0))]);
    let y = b.node("MatMul", &[&y, &w], &[]);
    let large = b.weight(&[8, 5]);
    let (from, to) = (b.list(&[2, 0]), b.list(&[6, 3]));
    let w = b.node("Slice", &[&large, &from, &to], &[]);
    let y = b.node("MatMul", &[&y, &w], &[]);
    b.creature("weights worked out", &[(&y, F32, "N,3")])
}

/// An initializer that is an input as well: a default value.
fn overridable() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,4");
    let w = b.weight(&[4, 4]);
    let y = b.node("MatMul", &[&x, &w], &[]);
    let mut creature = {
        let mut declared = b.proto().graph.input[0].clone();
        declared.set_name(w);
        declared.type_.mut_or_insert_default().tensor_type.mut_or_insert_default().shape.mut_or_insert_default().dim[0].set_dim_value(4);
        b.graph().input.push(declared);
        b.creature("a default for an input", &[(&y, F32, "N,4")])
    };
    creature.inputs.truncate(1);
    creature
}

/// Data in the fields of their type instead of raw bytes, zeros left out of nothing, an unused initializer.
fn typed_fields() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,3");
    let mut floats = tensor_to_proto("w_floats", &b.uniform(&[3, 4]));
    floats.float_data = floats.raw_data.take().unwrap().as_chunks().0.iter().map(|&c| f32::from_le_bytes(c)).collect();
    let floats = b.initializer(floats);
    let y = b.node("MatMul", &[&x, &floats], &[]);
    let mut half = pb::TensorProto::new();
    half.set_name("w_half".into());
    half.set_data_type(10);
    half.dims = vec![4];
    half.int32_data = vec![0x3c00, 0x4000, 0xb800, 0x0001];
    let half = b.initializer(half);
    let half = b.node("Cast", &[&half], &[("to", At::I(1))]);
    let y = b.node("Mul", &[&y, &half], &[]);
    let mut shape = pb::TensorProto::new();
    shape.set_name("shape".into());
    shape.set_data_type(7);
    shape.dims = vec![2];
    shape.int64_data = vec![-1, 2];
    let shape = b.initializer(shape);
    let y = b.node("Reshape", &[&y, &shape], &[]);
    let mut bytes = pb::TensorProto::new();
    bytes.set_name("bytes".into());
    bytes.set_data_type(3);
    bytes.dims = vec![2];
    bytes.int32_data = vec![-7, 3];
    let bytes = b.initializer(bytes);
    let bytes = b.node("Cast", &[&bytes], &[("to", At::I(1))]);
    let y = b.node("Add", &[&y, &bytes], &[]);
    b.weight(&[7]);
    b.creature("data in typed fields", &[(&y, F32, "M,2")])
}

/// A [4, 3] matrix with four values, at positions or at coordinates.
fn sparse_matrix(b: &mut Build, name: &str, indices: Tensor) -> pb::SparseTensorProto {
    let mut sparse = pb::SparseTensorProto::new();
    sparse.dims = vec![4, 3];
    sparse.values = Some(tensor_to_proto(name, &b.uniform(&[4]))).into();
    sparse.indices = Some(tensor_to_proto("", &indices)).into();
    sparse
}

fn sparse_node() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,4");
    let at = Tensor::new(vec![4, 2], Data::I64(vec![0, 1, 1, 0, 2, 2, 3, 1])).unwrap();
    let mut value = pb::AttributeProto::new();
    value.set_name("sparse_value".into());
    value.set_type(11);
    value.sparse_tensor = Some(sparse_matrix(&mut b, "", at)).into();
    let w = b.node("Constant", &[], &[]);
    b.graph().node[0].attribute.push(value);
    let y = b.node("MatMul", &[&x, &w], &[]);
    b.creature("sparse Constant", &[(&y, F32, "N,3")])
}

fn sparse() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,4");
    let sparse = sparse_matrix(&mut b, "w_sparse", Tensor::i64s(vec![0, 4, 7, 11]));
    b.graph().sparse_initializer.push(sparse);
    let y = b.node("MatMul", &[&x, "w_sparse"], &[]);
    b.creature("sparse weights", &[(&y, F32, "N,3")])
}
