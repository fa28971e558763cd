//! Any node with any inputs gives tensors or an error: never a panic, never gigabytes.

use super::*;
use crate::onnx::Attributes;
use crate::tensor::DType;

/// Numbers that files hold, and those that nobody expects.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (-4i32..6).prop_map(f64::from),
        2 => -2.0..2.0f64,
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, -1e30, 1e30, i64::MAX as f64, i64::MIN as f64, 2f64.powi(40), -0.0]),
    ]
}

fn tensor() -> impl Strategy<Value = Tensor> {
    let shape = prop::collection::vec(prop_oneof![1 => Just(0usize), 6 => 1usize..4], 0..5);
    (shape, prop::sample::select(DType::ALL.to_vec()), prop::collection::vec(number(), 1..20)).prop_map(|(shape, dtype, values)| {
        let n = shape.iter().product();
        let wide = Tensor::new(shape, Data::F64(values.into_iter().cycle().take(n).collect())).unwrap();
        cast::cast(&wide, dtype).unwrap()
    })
}

/// Attributes that operators ask for; most nodes ignore most of them.
fn attributes() -> impl Strategy<Value = Vec<(usize, Vec<f64>, usize)>> {
    prop::collection::vec((0usize..40, prop::collection::vec(number(), 0..5), 0usize..12), 0..6)
}

fn random_node(op: &str, attributes: &[(usize, Vec<f64>, usize)], outputs: usize) -> pb::NodeProto {
    const INTS: [&str; 22] = [
        "axis",
        "keepdims",
        "to",
        "k",
        "start",
        "end",
        "block_size",
        "blocksize",
        "fmod",
        "batch_dims",
        "noop_with_empty_axes",
        "antialias",
        "exclude_outside",
        "align_corners",
        "num_outputs",
        "largest",
        "sorted",
        "p",
        "allowzero",
        "onesided",
        "num_heads",
        "output_height",
    ];
    const LISTS: [&str; 6] = ["axes", "perm", "pads", "split", "starts", "ends"];
    const FLOATS: [&str; 5] = ["alpha", "beta", "min", "max", "spatial_scale"];
    const STRINGS: [(&str, &str); 12] = [
        ("mode", "cubic"),
        ("mode", "linear"),
        ("mode", "reflect"),
        ("mode", "wrap"),
        ("mode", "max"),
        ("padding_mode", "reflection"),
        ("reduction", "add"),
        ("direction", "LEFT"),
        ("coordinate_transformation_mode", "tf_crop_and_resize"),
        ("keep_aspect_ratio_policy", "not_smaller"),
        ("equation", "...ij,jk->ki"),
        ("equation", "ii,i"),
    ];
    let mut node = node(op);
    node.output = (0..outputs).map(|i| format!("y{i}")).collect();
    for (which, values, string) in attributes {
        let first = values.first().copied().unwrap_or(1.0);
        match which {
            0..22 => node.set_int(INTS[*which], first as i64),
            22..28 => node.set_ints(LISTS[which - 22], values.iter().map(|&v| v as i64).collect()),
            28..33 => node.set_float(FLOATS[which - 28], first as f32),
            _ => node.set_string(STRINGS[*string].0, STRINGS[*string].1),
        }
    }
    node
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(4000)))]

    #[test]
    fn anything_gives_tensors_or_an_error(
        op in 0..OPERATORS.len(),
        inputs in prop::collection::vec(prop::option::weighted(0.95, tensor()), 0..5),
        attributes in attributes(),
        opset in 1i64..26,
        outputs in 1usize..4,
    ) {
        let node = random_node(OPERATORS[op], &attributes, outputs);
        let inputs: Vec<_> = inputs.iter().map(Option::as_ref).collect();
        if let Ok(outputs) = eval(&node, opset, &inputs) {
            prop_assert!(outputs.is_some_and(|o| !o.is_empty()));
        }
    }

    #[test]
    fn inputs_of_one_shape_give_tensors_or_an_error(
        op in 0..OPERATORS.len(),
        first in tensor(),
        n in 1usize..5,
        indices in any::<bool>(),
        attributes in attributes(),
        opset in 1i64..26,
    ) {
        let node = random_node(OPERATORS[op], &attributes, 1);
        let second = if indices { cast::cast(&first, DType::I64).unwrap() } else { first.clone() };
        let inputs: Vec<_> = (0..n).map(|i| Some(if i == 1 { &second } else { &first })).collect();
        if let Ok(outputs) = eval(&node, opset, &inputs) {
            prop_assert!(outputs.is_some_and(|o| !o.is_empty()));
        }
    }
}
