#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::tensor::Data;
use proptest::prelude::*;

fn node(op: &str) -> pb::NodeProto {
    let mut node = pb::NodeProto::new();
    node.set_op_type(op.into());
    node
}

/// Two shapes that broadcast, and their common shape.
fn shapes() -> impl Strategy<Value = (Vec<usize>, Vec<usize>, Vec<usize>)> {
    let axis = (0usize..4, 0u8..4).prop_map(|(n, kind)| match kind {
        0 => (1, n),
        1 => (n, 1),
        _ => (n, n),
    });
    (prop::collection::vec(axis, 0..5), 0usize..4, any::<bool>()).prop_map(|(axes, cut, left)| {
        let (mut a, mut b): (Vec<_>, Vec<_>) = axes.into_iter().unzip();
        let common: Vec<usize> = a.iter().zip(&b).map(|(&x, &y)| if x == 1 { y } else { x }).collect();
        // Leading axes of one side may be left out; the other side then decides their length.
        let cut = cut.min(common.len());
        let (shorter, longer) = if left { (&mut a, &mut b) } else { (&mut b, &mut a) };
        shorter.drain(..cut);
        longer[..cut].copy_from_slice(&common[..cut]);
        (a, b, common)
    })
}

proptest! {
    #[test]
    fn broadcasting_equals_the_definition((a, b, common) in shapes()) {
        let fill = |s: &[usize], from: i64| Tensor::new(s.to_vec(), Data::I64((from..).take(s.iter().product()).collect())).unwrap();
        let (x, y) = (fill(&a, 0), fill(&b, 1000));
        let found = eval(&node("Sub"), 13, &[Some(&x), Some(&y)]).unwrap().unwrap().remove(0);
        prop_assert_eq!(found.shape(), &common[..]);
        let read = |t: &Tensor, index: &[usize]| {
            let skip = index.len() - t.shape().len();
            let at = t.shape().iter().zip(&index[skip..]).fold(0, |at, (&n, &i)| at * n + if n == 1 { 0 } else { i });
            t.as_i64().unwrap()[at]
        };
        for (flat, &v) in found.as_i64().unwrap().iter().enumerate() {
            let mut rest = flat;
            let mut index: Vec<usize> = common.iter().rev().map(|&n| { let i = rest % n; rest /= n; i }).collect();
            index.reverse();
            prop_assert_eq!(v, read(&x, &index) - read(&y, &index));
        }
    }

    #[test]
    fn transposing_back_gives_the_original(shape in prop::collection::vec(0usize..4, 4), seed in 0usize..24) {
        let mut order: Vec<usize> = vec![];
        let (mut left, mut seed) = (vec![0, 1, 2, 3], seed);
        while !left.is_empty() {
            order.push(left.remove(seed % left.len()));
            seed /= left.len() + 1;
        }
        let back: Vec<usize> = (0..4).map(|a| order.iter().position(|&o| o == a).unwrap()).collect();
        let x = Tensor::new(shape.clone(), Data::I64((0..shape.iter().product::<usize>() as i64).collect())).unwrap();
        let there = movement::permute(&x, &order).unwrap();
        prop_assert_eq!(movement::permute(&there, &back).unwrap(), x);
    }

    #[test]
    fn splitting_and_joining_gives_the_original(shape in prop::collection::vec(1usize..5, 1..4), axis in 0usize..3, cut in 0usize..5) {
        let axis = axis % shape.len();
        let cut = cut.min(shape[axis]);
        let x = Tensor::new(shape.clone(), Data::U8((0..shape.iter().product::<usize>()).map(|i| i as u8).collect())).unwrap();
        let parts = [part(&x, axis, 0, cut).unwrap(), part(&x, axis, cut, shape[axis] - cut).unwrap()];
        prop_assert_eq!(join(&[&parts[0], &parts[1]], axis as i64).unwrap(), x);
    }
}

#[test]
fn unknown_operators_are_left_to_others() {
    assert_eq!(eval(&node("Conv"), 13, &[]).unwrap(), None);
    let mut foreign = node("Add");
    foreign.set_domain("com.example".into());
    assert_eq!(eval(&foreign, 13, &[]).unwrap(), None);
}

#[test]
fn operators_are_listed_in_order_and_dispatched() {
    assert!(OPERATORS.is_sorted());
    for op in OPERATORS {
        let error = eval(&node(op), 13, &[]).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(!error.contains("is not an elementwise function"), "{error}");
    }
}

#[test]
fn hostile_inputs_are_refused() {
    let refuse = |op: &str, inputs: &[&Tensor]| {
        let inputs: Vec<_> = inputs.iter().map(|&t| Some(t)).collect();
        eval(&node(op), 13, &inputs).unwrap_err().to_string()
    };
    let i = |v: &[i64]| Tensor::i64s(v.to_vec());
    let scalar = |v: i64| Tensor::new(vec![], Data::I64(vec![v])).unwrap();
    assert!(refuse("ConstantOfShape", &[&i(&[i64::MAX, i64::MAX])]).contains("too large"));
    assert!(refuse("ConstantOfShape", &[&i(&[-1])]).contains("negative"));
    assert!(refuse("Expand", &[&i(&[1]), &i(&[1 << 40])]).contains("too large"));
    assert!(refuse("Range", &[&scalar(0), &scalar(i64::MAX), &scalar(1)]).contains("too large"));
    assert!(refuse("Range", &[&scalar(0), &scalar(1), &scalar(0)]).contains("no length"));
    assert!(refuse("Div", &[&i(&[1]), &i(&[0])]).contains("by zero"));
    assert!(refuse("Gather", &[&i(&[1]), &i(&[i64::MIN])]).contains("outside"));
    assert!(refuse("Pad", &[&i(&[1]), &i(&[i64::MAX, i64::MAX])]).contains("too large"));
    let hollow = Tensor::new(vec![0, 1 << 40, 1 << 40], Data::I64(vec![])).unwrap();
    assert!(refuse("Flatten", &[&hollow]).contains("too large"));
    // The most negative integer divided by −1 has no representation: it wraps.
    let wrapped = eval(&node("Div"), 13, &[Some(&i(&[i64::MIN])), Some(&i(&[-1]))]).unwrap();
    assert_eq!(wrapped, Some(vec![i(&[i64::MIN])]));
}

mod laws;
mod random;
