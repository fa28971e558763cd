//! Operators on lists of tensors and on optionals.

use super::value::{Item, View};
use crate::model::eval::{axis, count, integers, join, part};
use crate::onnx::{Attributes, dtype_from_onnx, pb};
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};

/// The operators of this module.
pub(super) const OPERATORS: &[&str] = &[
    "ConcatFromSequence",
    "Optional",
    "OptionalGetElement",
    "OptionalHasElement",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceLength",
    "SplitToSequence",
];

/// Evaluates `node`, one of [`OPERATORS`]. All of them give one output.
///
/// # Errors
/// An input is missing or of the wrong kind, or a position lies outside of the list.
pub(super) fn eval(node: &pb::NodeProto, inputs: &[Option<View>]) -> Result<Item> {
    let given = |i: usize| inputs.get(i).copied().flatten();
    let input = |i: usize| given(i).ok_or_else(|| Error::bad_input(format!("input {i} is missing")));
    let list = || input(0)?.sequence();
    let place = |i: usize| given(i).map(|at| single(at.tensor()?)).transpose();
    Ok(match node.op_type() {
        "SequenceEmpty" => Item::Sequence(vec![]),
        "SequenceConstruct" => {
            Item::Sequence((0..inputs.len()).map(|i| input(i)?.tensor().cloned()).collect::<Result<Vec<_>>>().and_then(one_type)?)
        }
        "SequenceLength" => scalar(Data::I64(vec![list()?.len() as i64]))?,
        "SequenceAt" => {
            let list = list()?;
            let at = position(place(1)?.ok_or_else(|| Error::bad_input("the position is missing"))?, list.len(), false)?;
            Item::Tensor(list.get(at).cloned().ok_or_else(|| Error::bad_input("the sequence is empty"))?)
        }
        "SequenceInsert" => {
            let mut list = list()?.to_vec();
            let at = place(2)?.map_or(Ok(list.len()), |at| position(at, list.len(), true))?;
            list.insert(at, input(1)?.tensor()?.clone());
            Item::Sequence(one_type(list)?)
        }
        "SequenceErase" => {
            let mut list = list()?.to_vec();
            let last = list.len().checked_sub(1).ok_or_else(|| Error::bad_input("the sequence is empty"))?;
            list.remove(place(1)?.map_or(Ok(last), |at| position(at, list.len(), false))?);
            Item::Sequence(list)
        }
        "ConcatFromSequence" => {
            let along = node.int("axis").ok_or_else(|| Error::bad_input("the attribute `axis` is missing"))?;
            let parts = match node.int("new_axis").unwrap_or(0) {
                0 => list()?.to_vec(),
                _ => list()?.iter().map(|t| widened(t, along)).collect::<Result<_>>()?,
            };
            Item::Tensor(join(&parts.iter().collect::<Vec<_>>(), along)?)
        }
        "SplitToSequence" => split(node, input(0)?.tensor()?, given(1).map(View::tensor).transpose()?)?,
        "Optional" => given(0).map_or(Item::Nothing, View::item),
        "OptionalHasElement" => scalar(Data::Bool(vec![!matches!(given(0), None | Some(View::Nothing))]))?,
        "OptionalGetElement" => match input(0)? {
            View::Nothing => return Err(Error::bad_input("the optional is empty")),
            held => held.item(),
        },
        other => return Err(Error::bad_input(format!("`{other}` is no operator on sequences"))),
    })
}

/// An empty list or optional of the type that a graph declares, or an empty tensor of its type and rank.
pub(super) fn nothing_of(info: &pb::ValueInfoProto) -> Option<Item> {
    if info.type_.sequence_type.is_some() {
        return Some(Item::Sequence(vec![]));
    }
    if info.type_.optional_type.is_some() {
        return Some(Item::Nothing);
    }
    let tensor = &info.type_.tensor_type;
    let dtype: DType = dtype_from_onnx(tensor.elem_type())?;
    let dims = tensor.shape.as_ref()?.dim.iter().map(|d| usize::try_from(d.dim_value()).ok());
    let shape = [0].into_iter().map(Some).chain(dims).collect::<Option<Vec<usize>>>()?;
    crate::model::eval::cast(&Tensor::f32(shape, vec![]).ok()?, dtype).ok().map(Item::Tensor)
}

/// The parts of a tensor: of the given lengths, of one length (the last may be shorter), or single slices.
fn split(node: &pb::NodeProto, t: &Tensor, lengths: Option<&Tensor>) -> Result<Item> {
    let along = axis(node.int("axis").unwrap_or(0), t.shape().len())?;
    let total = t.shape().get(along).copied().ok_or_else(|| Error::bad_input("a scalar cannot be split"))?;
    let length = |n: i64| usize::try_from(n).map_err(|_| Error::bad_input(format!("a part cannot have {n} elements")));
    let lengths = match lengths {
        Some(lengths) if lengths.shape().is_empty() => {
            let step = Some(length(single(lengths)?)?).filter(|&n| n > 0).ok_or_else(|| Error::bad_input("parts need a length"))?;
            (0..total).step_by(step).map(|at| step.min(total - at)).collect()
        }
        Some(lengths) => integers(lengths)?.into_iter().map(length).collect::<Result<Vec<_>>>()?,
        None => vec![1; count(&[total])?],
    };
    if lengths.iter().try_fold(0usize, |sum, &n| sum.checked_add(n)) != Some(total) {
        return Err(Error::bad_input(format!("the parts do not add up to {total}")));
    }
    // Slices without their axis only where no lengths are given.
    let drops = node.input.get(1).is_none_or(String::is_empty) && node.int("keepdims").unwrap_or(1) == 0;
    let starts = lengths.iter().scan(0, |at, &n| {
        *at += n;
        Some(*at - n)
    });
    let parts = starts.zip(&lengths).map(|(at, &n)| {
        let slice = part(t, along, at, n)?;
        let mut shape = slice.shape().to_vec();
        if drops {
            shape.remove(along);
        }
        slice.reshaped(shape)
    });
    parts.collect::<Result<_>>().map(Item::Sequence)
}

fn widened(t: &Tensor, along: i64) -> Result<Tensor> {
    let mut shape = t.shape().to_vec();
    shape.insert(axis(along, shape.len() + 1)?, 1);
    t.clone().reshaped(shape)
}

fn scalar(data: Data) -> Result<Item> {
    Tensor::new(vec![], data).map(Item::Tensor)
}

/// The only element of `t`.
fn single(t: &Tensor) -> Result<i64> {
    match integers(t)?[..] {
        [one] => Ok(one),
        ref all => Err(Error::bad_input(format!("expected one position, found {}", all.len()))),
    }
}

/// Place `at` in a list of `len`, counted from its end when it is negative; `end` allows the place behind the last.
fn position(at: i64, len: usize, end: bool) -> Result<usize> {
    let from_start = if at < 0 { at.saturating_add_unsigned(len as u64) } else { at };
    let place = usize::try_from(from_start).ok().filter(|&p| p < len || (end && p == len));
    place.ok_or_else(|| Error::bad_input(format!("position {at} lies outside of a sequence of {len}")))
}

/// All tensors of a list must have one type.
fn one_type(list: Vec<Tensor>) -> Result<Vec<Tensor>> {
    match list.iter().find(|t| t.dtype() != list[0].dtype()) {
        Some(t) => Err(Error::bad_input(format!("a sequence cannot hold both {} and {}", list[0].dtype().name(), t.dtype().name()))),
        None => Ok(list),
    }
}
