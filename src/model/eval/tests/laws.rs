//! Laws that hold for any shape: what one operator does, another undoes.

use super::*;
use crate::onnx::Attributes;
use crate::tensor::DType;

fn run(node: &pb::NodeProto, inputs: &[&Tensor]) -> Vec<Tensor> {
    let inputs: Vec<_> = inputs.iter().map(|&t| Some(t)).collect();
    eval(node, 21, &inputs).unwrap().unwrap()
}

fn one(node: &pb::NodeProto, inputs: &[&Tensor]) -> Tensor {
    run(node, inputs).remove(0)
}

fn with_axis(op: &str, axis: usize) -> pb::NodeProto {
    let mut node = node(op);
    node.set_int("axis", axis as i64);
    node
}

/// Different integers in any shape.
fn counted(shape: &[usize]) -> Tensor {
    Tensor::new(shape.to_vec(), Data::I64((0..shape.iter().product::<usize>() as i64).map(|i| i * 7 % 1000 - 300).collect())).unwrap()
}

/// Floats in any shape, about between −3 and 3.
fn floats(shape: &[usize]) -> Tensor {
    Tensor::f32(shape, (0..shape.iter().product::<usize>()).map(|i| (i as f32 * 1.7).sin() * 3.0).collect()).unwrap()
}

fn near(a: &Tensor, b: &Tensor, tolerance: f32) -> bool {
    let (x, y) = (a.as_f32().unwrap(), b.as_f32().unwrap());
    a.shape() == b.shape() && x.iter().zip(y).all(|(x, y)| (x - y).abs() <= tolerance)
}

fn shape() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..5, 1..4)
}

proptest! {
    #[test]
    fn slicing_away_what_was_padded_gives_the_original(shape in shape(), before in 0i64..3, after in 0i64..3, mode in 0usize..3) {
        let x = counted(&shape);
        let rank = shape.len();
        let pads = Tensor::i64s([vec![before.min(1); rank], vec![after.min(1); rank]].concat());
        let mut pad = node("Pad");
        pad.set_string("mode", ["constant", "edge", "wrap"][mode]);
        let padded = one(&pad, &[&x, &pads]);
        let starts = Tensor::i64s(vec![before.min(1); rank]);
        let ends = Tensor::i64s(shape.iter().map(|&n| n as i64 + before.min(1)).collect());
        prop_assert_eq!(&one(&node("Slice"), &[&padded, &starts, &ends]), &x);
        // Negative pads crop.
        let crop = Tensor::i64s(pads.as_i64().unwrap().iter().map(|p| -p).collect());
        prop_assert_eq!(&one(&node("Pad"), &[&padded, &crop]), &x);
    }

    #[test]
    fn scattering_what_was_gathered_changes_nothing(shape in shape(), axis in 0usize..3, picks in prop::collection::vec(0i64..20, 64)) {
        let axis = axis % shape.len();
        let x = counted(&shape);
        let indices = Tensor::new(shape.clone(), Data::I64(picks.iter().cycle().take(x.len()).map(|p| p % shape[axis] as i64).collect())).unwrap();
        let gathered = one(&with_axis("GatherElements", axis), &[&x, &indices]);
        prop_assert_eq!(&one(&with_axis("ScatterElements", axis), &[&x, &indices, &gathered]), &x);
        let mut rows = Tensor::i64s(picks.iter().take(3).map(|p| p % shape[0] as i64).collect());
        rows = rows.reshaped(vec![3, 1]).unwrap();
        let gathered = one(&node("GatherND"), &[&x, &rows]);
        prop_assert_eq!(&one(&node("ScatterND"), &[&x, &rows, &gathered]), &x);
    }

    #[test]
    fn blocks_go_to_depth_and_back(n in 1usize..3, c in 1usize..4, h in 1usize..4, w in 1usize..4, b in 1i64..4, crd in any::<bool>()) {
        let x = counted(&[n, c, h * b as usize, w * b as usize]);
        let [mut there, mut back] = [node("SpaceToDepth"), node("DepthToSpace")];
        for node in [&mut there, &mut back] {
            node.set_int("blocksize", b);
            node.set_string("mode", if crd { "CRD" } else { "DCR" });
        }
        prop_assert_eq!(&one(&back, &[&one(&there, &[&x])]), &x);
    }

    #[test]
    fn wider_types_hold_every_value(bits in any::<u16>()) {
        for (from, wide) in [
            (Data::F16(vec![bits]), [DType::F32, DType::F64].as_slice()),
            (Data::BF16(vec![bits]), &[DType::F32, DType::F64]),
            (Data::I16(vec![bits as i16]), &[DType::I32, DType::I64, DType::F32, DType::F64]),
            (Data::U16(vec![bits]), &[DType::I32, DType::U32, DType::U64, DType::F32]),
            (Data::I8(vec![bits as i8]), &[DType::I16, DType::I32, DType::F16, DType::BF16, DType::F32]),
            (Data::U8(vec![bits as u8]), &[DType::U16, DType::I16, DType::F16, DType::BF16]),
            (Data::I4(vec![(bits & 15) as i8 - 8]), &[DType::I8, DType::F16]),
            (Data::U4(vec![(bits & 15) as u8]), &[DType::U8, DType::I8, DType::F16]),
        ] {
            let x = Tensor::new(vec![1], from).unwrap();
            let nan = matches!(cast::cast(&x, DType::F64).unwrap().data(), Data::F64(v) if v[0].is_nan());
            for &to in wide.iter().filter(|_| !nan) {
                let there = cast::cast(&x, to).unwrap();
                prop_assert_eq!(&cast::cast(&there, x.dtype()).unwrap(), &x, "through {}", to.name());
            }
        }
    }

    #[test]
    fn what_was_quantized_is_half_a_step_off_at_most(shape in shape(), axis in 0usize..3, kind in 0usize..3, block in 1usize..4, four in any::<bool>()) {
        let axis = axis % shape.len();
        let x = floats(&shape);
        let mut scales = match kind { 0 => vec![], 1 => vec![shape[axis]], _ => shape.clone() };
        let [mut quantize, mut dequantize] = [with_axis("QuantizeLinear", axis), with_axis("DequantizeLinear", axis)];
        if kind == 2 {
            scales[axis] = shape[axis].div_ceil(block);
            [&mut quantize, &mut dequantize].into_iter().for_each(|n| n.set_int("block_size", block as i64));
        }
        // Steps that reach ±3 with the least type.
        let n = scales.iter().product::<usize>();
        let scale = Tensor::f32(scales.clone(), (0..n).map(|i| 0.43 + i as f32 * 0.01).collect()).unwrap();
        let zero = cast::cast(&Tensor::new(scales, Data::I64(vec![0; n])).unwrap(), if four { DType::I4 } else { DType::I8 }).unwrap();
        // A rank-1 scale on a tensor of rank 1 in blocks would be per axis.
        prop_assume!(kind != 2 || shape.len() > 1);
        let back = one(&dequantize, &[&one(&quantize, &[&x, &scale, &zero]), &scale, &zero]);
        let step = 0.43 + n as f32 * 0.01;
        prop_assert!(near(&back, &x, step / 2.0 + 1e-5), "{back:?} instead of {x:?}");
    }

    #[test]
    fn entries_are_what_unique_says(shape in shape(), axis in 0usize..3, sorted in any::<bool>()) {
        let axis = axis % shape.len();
        let few = Tensor::new(shape.clone(), Data::I64((0..shape.iter().product::<usize>() as i64).map(|i| i * i % 3).collect())).unwrap();
        let mut unique = with_axis("Unique", axis);
        unique.set_int("sorted", sorted.into());
        let found = run(&unique, &[&few]);
        // Taking the entries by their numbers restores the tensor; taking the first of each gives the entries.
        prop_assert_eq!(&one(&with_axis("Gather", axis), &[&found[0], &found[2]]), &few);
        prop_assert_eq!(&one(&with_axis("Gather", axis), &[&few, &found[1]]), &found[0]);
        prop_assert_eq!(found[3].as_i64().unwrap().iter().sum::<i64>(), shape[axis] as i64);
    }

    #[test]
    fn einsum_agrees_with_what_it_writes_short(i in 1usize..4, j in 1usize..4, k in 1usize..4) {
        let (a, b) = (counted(&[i, j]), counted(&[j, k]));
        let mut einsum = node("Einsum");
        einsum.set_string("equation", "ij,jk->ik");
        let product = one(&einsum, &[&a, &b]);
        let (x, y, p) = (a.as_i64().unwrap(), b.as_i64().unwrap(), product.as_i64().unwrap());
        for (r, c) in (0..i).flat_map(|r| (0..k).map(move |c| (r, c))) {
            prop_assert_eq!(p[r * k + c], (0..j).map(|m| x[r * j + m] * y[m * k + c]).sum::<i64>());
        }
        einsum.set_string("equation", "ij->j");
        let mut sum = node("ReduceSum");
        sum.set_int("keepdims", 0);
        prop_assert_eq!(one(&einsum, &[&a]), one(&sum, &[&a, &Tensor::i64s(vec![0])]));
        einsum.set_string("equation", "ij->ji");
        prop_assert_eq!(one(&einsum, &[&a]), one(&node("Transpose"), &[&a]));
    }

    #[test]
    fn transforming_back_gives_the_signal(n in 1usize..12) {
        let x = floats(&[1, n, 2]);
        let mut back = node("DFT");
        back.set_int("inverse", 1);
        prop_assert!(near(&one(&back, &[&one(&node("DFT"), &[&x])]), &x, 1e-5));
    }

    #[test]
    fn triangles_and_sums_make_up_the_whole(rows in 1usize..5, columns in 1usize..5, k in -3i64..4) {
        let x = counted(&[rows, columns]);
        let at = |k: i64| Tensor::new(vec![], Data::I64(vec![k])).unwrap();
        let mut lower = node("Trilu");
        lower.set_int("upper", 0);
        let (upper, lower) = (one(&node("Trilu"), &[&x, &at(k)]), one(&lower, &[&x, &at(k - 1)]));
        prop_assert_eq!(&one(&node("Add"), &[&upper, &lower]), &x);
        // The last of the running sums is the sum.
        let running = one(&node("CumSum"), &[&x, &at(1)]);
        let last = one(&with_axis("Gather", 1), &[&running, &Tensor::i64s(vec![-1])]);
        prop_assert_eq!(last, one(&node("ReduceSum"), &[&x, &Tensor::i64s(vec![1])]));
    }

    #[test]
    fn the_whole_top_is_the_sorted_axis(shape in shape(), largest in any::<bool>()) {
        let x = floats(&shape);
        let n = shape[shape.len() - 1];
        let mut top = node("TopK");
        top.set_int("largest", largest.into());
        let found = run(&top, &[&x, &Tensor::i64s(vec![n as i64])]);
        for row in found[0].as_f32().unwrap().chunks(n) {
            let in_order = row.is_sorted_by(|a, b| if largest { a >= b } else { a <= b });
            prop_assert!(in_order);
        }
        prop_assert_eq!(&one(&with_axis("GatherElements", shape.len() - 1), &[&x, &found[1]]), &found[0]);
    }

    #[test]
    fn resizing_to_the_same_size_changes_nothing(shape in prop::collection::vec(1usize..5, 4), mode in 0usize..3, antialias in any::<bool>()) {
        let x = floats(&shape);
        let mut resize = node("Resize");
        resize.set_string("mode", ["nearest", "linear", "cubic"][mode]);
        resize.set_int("antialias", antialias.into());
        let sizes = Tensor::i64s(shape.iter().map(|&n| n as i64).collect());
        let found = eval(&resize, 19, &[Some(&x), None, None, Some(&sizes)]).unwrap().unwrap();
        prop_assert!(near(&found[0], &x, 1e-6));
    }
}
