//! Einsum equations: which axes an operand shares with the result, and how many multiply–adds the sum takes.

use crate::onnx::{Attributes, pb};
use std::collections::BTreeMap;

/// Operands and result (as stated) of a node's equation.
fn parts(node: &pb::NodeProto) -> (Vec<String>, Option<String>) {
    let equation: String = node.string("equation").unwrap_or("").chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left.to_owned(), Some(right.to_owned())),
        None => (equation, None),
    };
    (left.split(',').map(str::to_owned).collect(), right)
}

/// Output and input axis of operand `index`: its first axis that the result has and no other operand, and its first that the
/// result lacks. (0, 0) where there is none.
pub(super) fn axes(node: &pb::NodeProto, index: usize) -> (usize, usize) {
    let (operands, result) = parts(node);
    let Some(own) = operands.get(index) else { return (0, 0) };
    let elsewhere = |c: char| operands.iter().enumerate().any(|(i, o)| i != index && o.contains(c));
    let in_result = |c: char| result.as_ref().map_or(!elsewhere(c), |r| r.contains(c));
    let place = |wanted: &dyn Fn(char) -> bool| own.chars().position(|c| c.is_alphabetic() && wanted(c)).unwrap_or(0);
    (place(&|c| in_result(c) && !elsewhere(c)), place(&|c| !in_result(c)))
}

/// The product of all axes for each operand after the first: what a sum without intermediate results takes. `None` when the
/// equation does not fit the shapes.
pub(super) fn macs(node: &pb::NodeProto, shapes: &[impl AsRef<[usize]>]) -> Option<u64> {
    let (operands, _) = parts(node);
    if operands.len() != shapes.len() {
        return None;
    }
    let mut sizes: BTreeMap<char, usize> = BTreeMap::new();
    // Broadcast axes, the last first.
    let mut broadcast: Vec<usize> = Vec::new();
    for (term, shape) in operands.iter().zip(shapes) {
        let shape = shape.as_ref();
        let (before, after) = term.split_once("...").unwrap_or((term, ""));
        let (front, back) = (before.chars().count(), after.chars().count());
        let free = shape.len().checked_sub(front + back).filter(|&n| n == 0 || term.contains("..."))?;
        for (letter, &d) in before.chars().zip(&shape[..front]).chain(after.chars().zip(&shape[front + free..])) {
            let size = sizes.entry(letter).or_insert(d);
            *size = d.max(*size);
        }
        for (i, &d) in shape[front..front + free].iter().rev().enumerate() {
            match broadcast.get_mut(i) {
                Some(size) => *size = d.max(*size),
                None => broadcast.push(d),
            }
        }
    }
    let all = sizes.values().chain(&broadcast).fold(1u64, |n, &d| n.saturating_mul(d as u64));
    Some(all.saturating_mul(operands.len() as u64 - 1))
}
