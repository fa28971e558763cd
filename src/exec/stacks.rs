//! What the rounds of a loop give, stacked along a new axis.

use super::value::Item;
use crate::Result;
use crate::model::eval::{axis, count, join};
use crate::tensor::Tensor;

/// Where the slices of a stacked output go.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) axis: i64,
    pub(super) reverse: bool,
}

/// What the rounds of a loop give, to be stacked in the end.
pub(super) struct Stacks {
    slices: Vec<Vec<Tensor>>,
    elements: usize,
}

impl Stacks {
    pub(super) fn new(outputs: usize) -> Self {
        Stacks { slices: vec![Vec::new(); outputs], elements: 0 }
    }

    /// # Errors
    /// All rounds together have given too much.
    pub(super) fn push(&mut self, slices: impl Iterator<Item = Item>) -> Result<()> {
        for (stack, slice) in self.slices.iter_mut().zip(slices) {
            let t = slice.into_tensor()?;
            self.elements = self.elements.saturating_add(t.len());
            stack.push(t);
        }
        count(&[self.elements]).map(drop)
    }

    /// All slices of each output in one tensor; `none` gives those that have no slices.
    ///
    /// # Errors
    /// The slices of an output differ in shape; those of `none`.
    pub(super) fn finish(self, place: impl Fn(usize) -> Place, none: impl Fn(usize) -> Result<Item>) -> Result<Vec<Item>> {
        let stack =
            |(i, slices): (usize, &Vec<Tensor>)| if slices.is_empty() { none(i) } else { stack(slices, place(i)).map(Item::Tensor) };
        self.slices.iter().enumerate().map(stack).collect()
    }
}

/// Tensors of one shape, stacked along a new axis.
pub(super) fn stack(slices: &[Tensor], place: Place) -> Result<Tensor> {
    let rank = slices.first().map_or(0, |t| t.shape().len());
    let at = axis(place.axis, rank + 1)?;
    let widened = |t: &Tensor| {
        let mut shape = t.shape().to_vec();
        shape.insert(at.min(shape.len()), 1);
        t.clone().reshaped(shape)
    };
    let mut wide = slices.iter().map(widened).collect::<Result<Vec<_>>>()?;
    if place.reverse {
        wide.reverse();
    }
    join(&wide.iter().collect::<Vec<_>>(), at as i64)
}
