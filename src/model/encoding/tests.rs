#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
use super::*;
use crate::model::{Facts, Graph, layers_with_sources};
use crate::onnx::{Model, elements_from_le, elements_to_le};
use crate::tensor::{DType, Data, Tensor};
use proptest::prelude::*;
use serde_json::Value;

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/encodings.json")).unwrap()
}

fn list<T: serde::de::DeserializeOwned>(v: &Value) -> Vec<T> {
    serde_json::from_value(v.clone()).unwrap()
}

fn storage(name: &str) -> Storage {
    let all = [Storage::I4, Storage::U4, Storage::I8, Storage::U8, Storage::I16, Storage::U16, Storage::I32];
    all.into_iter().find(|s| s.name() == name).unwrap()
}

fn integers(t: &Tensor) -> Vec<i64> {
    match t.data() {
        Data::I4(v) | Data::I8(v) => v.iter().map(|&q| q.into()).collect(),
        Data::U4(v) | Data::U8(v) => v.iter().map(|&q| q.into()).collect(),
        Data::I16(v) => v.iter().map(|&q| q.into()).collect(),
        Data::U16(v) => v.iter().map(|&q| q.into()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn integers_and_numbers_are_onnx_runtimes() {
    let fixture = fixture();
    let cases = fixture["linear"].as_array().unwrap();
    assert_eq!(cases.len(), 20);
    for case in cases {
        let storage = storage(case["storage"].as_str().unwrap());
        let granularity = match (case["axis"].as_u64(), case["block"].as_u64()) {
            (None, _) => Granularity::Tensor,
            (Some(axis), None) => Granularity::Axis(axis as usize),
            (Some(axis), Some(size)) => Granularity::Block { axis: axis as usize, size: size as usize },
        };
        let levels = Levels::of_bits(storage, storage.bits()).unwrap();
        let q = Quantized::new(storage, levels, granularity, list(&case["scales"]), list(&case["zero_points"])).unwrap();
        let x = Tensor::f32(list::<usize>(&case["shape"]), list(&case["x"])).unwrap();
        let found = q.quantize(&x).unwrap();
        assert_eq!(integers(&found), list::<i64>(&case["integers"]), "{storage:?} {granularity:?}");
        let numbers = q.dequantize(&found).unwrap();
        let expected: Vec<f32> = list(&case["numbers"]);
        assert_eq!(numbers.as_f32().unwrap(), expected, "{storage:?} {granularity:?}");
        let packed = q.pack(&found).unwrap();
        assert_eq!(elements_from_le(found.dtype(), &packed, found.len()).as_ref(), Some(found.data()));
    }
}

#[test]
fn packed_weights_are_read_as_onnx_runtime_multiplies_them() {
    for case in fixture()["nbits"].as_array().unwrap() {
        let model = Model::from_bytes(&list::<u8>(&case["model"]), "fixture").unwrap();
        let (graph, facts) = (Graph::new(&model), Facts::infer(&model, 48).unwrap());
        let (layer, sources) = layers_with_sources(&graph, &facts).unwrap().remove(0);
        assert_eq!(layer.macs, Ok(48 * 48 * 3));
        assert_eq!(layer.params, 48 * 3);
        assert_eq!(layer.weight.as_ref().unwrap().encoding(), "u4 block 16");
        // [K, N] in the fixture, N rows of K in the file.
        let expected: Vec<f32> = list(&case["weights"]);
        let values = sources[0].values().unwrap();
        let mut found = vec![0.0; values.len()];
        values.read(0, &mut found);
        for (i, v) in found.iter().enumerate() {
            let other = expected[i % 48 * 3 + i / 48];
            assert!((v - f64::from(other)).abs() < 1e-4, "{i}: {v} {other}");
        }
        let Some(Encoding::Quantized(q)) = Encoding::of(&graph, &facts, "b").unwrap() else { panic!("not quantized") };
        let integers = Tensor::new(
            vec![3, 48],
            Data::U8(
                (0..144).map(|i| (found[i] / f64::from(q.scales()[i / 16]) + f64::from(q.zero_points()[i / 16])).round() as u8).collect(),
            ),
        )
        .unwrap();
        let stored = Graph::new(&model).constant("b").unwrap().unwrap();
        assert_eq!(q.pack(&integers).unwrap(), elements_to_le(stored.data()));
        let zeros = if graph.consumers("z").is_empty() { 0 } else { 3 * 2 };
        assert_eq!(q.storage_bytes(&[3, 48]).unwrap(), 72 + 9 * 4 + if zeros == 0 { 6 } else { zeros });
    }
}

fn any_storage() -> impl Strategy<Value = Storage> {
    prop_oneof![Just(Storage::I4), Just(Storage::U4), Just(Storage::I8), Just(Storage::U8), Just(Storage::I16), Just(Storage::U16)]
}

prop_compose! {
    /// An encoding and a tensor it fits.
    fn case()(storage in any_storage(), bits in 1u32..=16, rows in 1usize..5, columns in 1usize..9, size in 1usize..5, which in 0..4usize)
        (x in prop::collection::vec(-10f32..10.0, rows * columns),
         scales in prop::collection::vec(0.01f32..2.0, rows * columns),
         zeros in prop::collection::vec(any::<u32>(), rows * columns),
         storage in Just(storage), bits in Just(bits.min(storage.bits())), shape in Just([rows, columns]), size in Just(size), which in Just(which))
        -> (Quantized, Tensor) {
        let levels = Levels::of_bits(storage, bits).unwrap();
        let (granularity, count) = match which {
            0 => (Granularity::Tensor, 1),
            1 => (Granularity::Axis(0), shape[0]),
            2 => (Granularity::Axis(1), shape[1]),
            _ => (Granularity::Block { axis: 1, size }, shape[0] * shape[1].div_ceil(size)),
        };
        let (low, high) = levels.range();
        let zero = |z: &u32| (i64::from(low) + i64::from(*z) % (i64::from(high) - i64::from(low) + 1)) as i32;
        let q = Quantized::new(storage, levels, granularity, scales[..count].to_vec(), zeros[..count].iter().map(zero).collect()).unwrap();
        (q, Tensor::f32(shape.to_vec(), x).unwrap())
    }
}

proptest! {
    #[test]
    fn rounding_is_within_half_a_step_and_happens_once((q, x) in case()) {
        let integers = q.quantize(&x).unwrap();
        let back = q.dequantize(&integers).unwrap();
        prop_assert_eq!(&q.quantize(&back).unwrap(), &integers);
        let grouping = Grouping::new(q.granularity(), x.shape(), q.scales().len()).unwrap();
        let (low, high) = q.levels().range();
        for (i, (&v, &w)) in x.as_f32().unwrap().iter().zip(back.as_f32().unwrap()).enumerate() {
            let (s, z) = (q.scales()[grouping.of(i)], q.zero_points()[grouping.of(i)]);
            let (least, most) = ((low - z) as f32 * s, (high - z) as f32 * s);
            let clipped = v.clamp(least, most);
            prop_assert!((clipped - w).abs() <= s * 0.5 * (1.0 + 1e-3), "{v} became {w} with the step {s}");
        }
        prop_assert_eq!(q.pack(&integers).unwrap().len(), integers.dtype().packed_len(x.len()).unwrap());
    }

    #[test]
    fn sets_of_levels_take_the_nearest(mut set in prop::collection::vec(-100i32..100, 1..9), v in -150f32..150.0) {
        let levels = Levels::set(set.clone()).unwrap();
        set.sort_unstable();
        let nearest = set.iter().map(|&l| (l as f32 - v).abs()).fold(f32::INFINITY, f32::min);
        prop_assert_eq!((levels.nearest(v) as f32 - v).abs(), nearest);
        prop_assert!(1 << levels.bits() >= set.iter().collect::<std::collections::HashSet<_>>().len());
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let levels = || Levels::of_bits(Storage::I8, 4).unwrap();
    let new = |storage, granularity, scales: &[f32], zeros: &[i32]| {
        Quantized::new(storage, levels(), granularity, scales.to_vec(), zeros.to_vec()).map_err(|e| e.to_string())
    };
    let per_axis = Granularity::Axis(0);
    for (result, says) in [
        (new(Storage::U8, Granularity::Tensor, &[1.0], &[]), "do not fit uint8"),
        (new(Storage::I8, Granularity::Tensor, &[0.0], &[]), "a scale is 0"),
        (new(Storage::I8, Granularity::Tensor, &[f32::NAN], &[]), "a scale is NaN"),
        (new(Storage::I8, Granularity::Tensor, &[1.0, 2.0], &[]), "2 scales do not fit one code per tensor"),
        (new(Storage::I8, per_axis, &[], &[]), "0 scales"),
        (new(Storage::I8, per_axis, &[1.0, 1.0], &[0]), "1 zero points do not fit 2 scales"),
        (new(Storage::I8, per_axis, &[1.0], &[8]), "the zero point 8 is outside"),
        (new(Storage::I8, Granularity::Block { axis: 0, size: 0 }, &[1.0], &[]), "block 0"),
    ] {
        let e = result.unwrap_err();
        assert!(e.contains(says), "{e}");
    }
    assert!(Levels::of_bits(Storage::I4, 5).is_err() && Levels::of_bits(Storage::U8, 0).is_err() && Levels::set(vec![]).is_err());
    let q = new(Storage::I8, per_axis, &[1.0, 2.0], &[]).unwrap();
    for shape in [vec![3, 2], vec![], vec![1]] {
        let x = Tensor::f32(shape.clone(), vec![0.0; shape.iter().product()]).unwrap();
        assert!(q.quantize(&x).unwrap_err().to_string().contains(&format!("a tensor of shape {shape:?}")), "{shape:?}");
    }
    let nan = Tensor::f32([2], vec![0.0, f32::NAN]).unwrap();
    assert!(q.quantize(&nan).unwrap_err().to_string().contains("NaN"));
    assert!(q.dequantize(&Tensor::f32([2], vec![0.0; 2]).unwrap()).unwrap_err().to_string().contains("do not come as float32"));
}

#[test]
fn formats_are_short_and_schemes_are_where_zero_is() {
    let of = |storage: Storage, bits, granularity, scales: usize, zeros: Vec<i32>| {
        Encoding::Quantized(
            Quantized::new(storage, Levels::of_bits(storage, bits).unwrap(), granularity, vec![1.0; scales], zeros).unwrap(),
        )
        .format()
    };
    let axis = of(Storage::I8, 8, Granularity::Axis(1), 2, vec![]);
    assert_eq!((axis.short(Some(1)).as_str(), axis.short(None).as_str()), ("i8 per channel", "i8 per axis 1"));
    assert_eq!(of(Storage::U4, 4, Granularity::Block { axis: 0, size: 32 }, 2, vec![8, 8]).to_string(), "u4 block 32");
    assert_eq!(of(Storage::I8, 3, Granularity::Tensor, 1, vec![]).to_string(), "i3 in int8 per tensor");
    let scheme = |f: Format| matches!(f, Format::Integer { scheme: Scheme::Symmetric, .. });
    assert!(scheme(axis) && scheme(of(Storage::U8, 8, Granularity::Tensor, 1, vec![128])));
    assert!(!scheme(of(Storage::U8, 8, Granularity::Tensor, 1, vec![])) && !scheme(of(Storage::I8, 8, Granularity::Tensor, 1, vec![3])));
    let bias = Quantized::bias(0.5, &[0.25, 4.0]).unwrap();
    assert_eq!((bias.scales(), bias.storage(), bias.granularity()), (&[0.125, 2.0][..], Storage::I32, Granularity::Axis(0)));
    assert_eq!(bias.quantize(&Tensor::f32([2], vec![1.0, -5.0]).unwrap()).unwrap().data(), &Data::I32(vec![8, -2]));
    assert_eq!(DType::I4.bits(), 4);
}
