//! One run of a prepared graph: values by slot, each freed after its last use.

use super::arena::Arena;
use super::control::{self, Limit};
use super::program::{Node, Program};
use super::value::{Item, View};
use super::{in_place, sequence};
use crate::model::eval::label;
use crate::onnx::Attributes;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// What all graphs of a run share.
pub(super) struct Context {
    pub(super) arena: Arena,
    pub(super) limit: Limit,
}

/// A value of a run: what the caller lent, or what a node made.
pub(super) enum Value<'a> {
    Lent(View<'a>),
    Made(Item),
}

impl Value<'_> {
    fn get(&self) -> View<'_> {
        match self {
            Value::Lent(view) => *view,
            Value::Made(item) => item.view(),
        }
    }

    fn take(self) -> Item {
        match self {
            Value::Lent(view) => view.item(),
            Value::Made(item) => item,
        }
    }
}

/// Slots to look at as soon as they have a value, and who looks: it is told the index in the list.
pub(super) struct Watch<'a> {
    pub(super) slots: &'a [usize],
    pub(super) see: &'a mut dyn FnMut(usize, &Tensor) -> Result<()>,
}

impl Watch<'_> {
    fn look(&mut self, slot: usize, value: View) -> Result<usize> {
        let indices = self.slots.iter().enumerate().filter(|&(_, &s)| s == slot);
        indices.map(|(i, _)| (self.see)(i, value.tensor()?)).try_fold(0, |n, seen| seen.map(|()| n + 1))
    }
}

impl Context {
    pub(super) fn new(limit: Limit) -> Self {
        Context { arena: Arena::default(), limit }
    }

    /// Evaluates one node; `value` gives the tensor in a slot.
    pub(super) fn node<'t>(&mut self, node: &Node, value: &dyn Fn(usize) -> Option<View<'t>>) -> Result<Vec<Item>> {
        let inputs: Vec<Option<View>> = node.inputs.iter().map(|slot| slot.and_then(value)).collect();
        let named = |e: Error| e.context(label(&node.proto));
        if !node.bodies.is_empty() {
            return control::node(self, node, &inputs, value).map_err(named);
        }
        if node.proto.is_standard() && sequence::OPERATORS.contains(&node.proto.op_type()) {
            return Ok(vec![sequence::eval(&node.proto, &inputs).map_err(named)?]);
        }
        let tensors = inputs.iter().map(|i| i.map(View::tensor).transpose()).collect::<Result<Vec<_>>>().map_err(named)?;
        Ok(super::eval_in(&node.proto, node.opset, &tensors, &mut self.arena)?.into_iter().map(Item::Tensor).collect())
    }

    /// Runs the nodes of `program` that lead from the `given` slots to the `wanted` ones.
    ///
    /// # Errors
    /// An input is missing, a node cannot be evaluated, or a loop goes on for too long.
    pub(super) fn run<'a>(
        &mut self,
        program: &'a Program,
        given: impl IntoIterator<Item = (usize, View<'a>)>,
        wanted: &[usize],
        watch: &mut Watch,
    ) -> Result<Vec<Item>> {
        let mut values: Vec<Option<Value>> = program.constants.iter().map(|c| c.as_deref().map(|t| Value::Lent(View::Tensor(t)))).collect();
        for (slot, t) in given {
            values[slot] = Some(Value::Lent(t));
        }
        let (plan, mut uses) = plan(program, &values, wanted.iter().chain(watch.slots));
        for &slot in watch.slots {
            if let Some(value) = &values[slot]
                && uses[slot] > 0
            {
                uses[slot] = uses[slot].saturating_sub(watch.look(slot, value.get())?);
            }
        }
        for node in plan {
            self.limit.step()?;
            let made = self.step(program, node, &mut values, &mut uses)?;
            for (slot, item) in node.outputs.iter().zip(made) {
                let Some(slot) = slot.filter(|&s| uses[s] > 0 && values[s].is_none()) else { continue };
                uses[slot] -= watch.look(slot, item.view())?;
                match uses[slot] {
                    0 => self.arena.give(item),
                    _ => values[slot] = Some(Value::Made(item)),
                }
            }
        }
        let mut results = Vec::with_capacity(wanted.len());
        for &slot in wanted {
            uses[slot] -= 1;
            results.push(match values[slot].take() {
                Some(value) if uses[slot] == 0 => value.take(),
                Some(value) => {
                    let item = value.get().item();
                    values[slot] = Some(value);
                    item
                }
                None => return Err(absent(program, slot)),
            });
        }
        match watch.slots.iter().find(|&&slot| uses[slot] > 0) {
            Some(&slot) => Err(absent(program, slot)),
            None => Ok(results),
        }
    }

    /// Evaluates a node and frees what it was the last to read.
    fn step(&mut self, program: &Program, node: &Node, values: &mut [Option<Value>], uses: &mut [usize]) -> Result<Vec<Item>> {
        if let Some(missing) = node.reads().find(|&slot| values[slot].is_none()) {
            return Err(absent(program, missing));
        }
        if let Some(at) = in_place::candidate(node, |slot| uses[slot] == 1 && matches!(values[slot], Some(Value::Made(Item::Tensor(_)))))
            && let Some(slot) = node.inputs[at]
            && let Some(Value::Made(Item::Tensor(mut t))) = values[slot].take()
        {
            let other = node.inputs.iter().enumerate().find(|&(i, _)| i != at).and_then(|(_, s)| *s);
            let other = other.and_then(|s| values[s].as_ref()).and_then(|v| v.get().tensor().ok());
            if in_place::apply(node.proto.op_type(), at, &mut t, other) {
                uses[slot] = 0;
                self.release(node.reads().filter(|&s| s != slot), values, uses);
                return Ok(vec![Item::Tensor(t)]);
            }
            values[slot] = Some(Value::Made(Item::Tensor(t)));
        }
        let made = self.node(node, &|slot| values[slot].as_ref().map(Value::get))?;
        self.release(node.reads(), values, uses);
        Ok(made)
    }

    fn release(&mut self, slots: impl Iterator<Item = usize>, values: &mut [Option<Value>], uses: &mut [usize]) {
        for slot in slots {
            uses[slot] -= 1;
            if uses[slot] == 0
                && let Some(Value::Made(item)) = values[slot].take()
            {
                self.arena.give(item);
            }
        }
    }
}

/// The nodes to run, in order, and how often each slot will be read (by the caller too).
fn plan<'p, 'w>(program: &'p Program, values: &[Option<Value>], wanted: impl Iterator<Item = &'w usize>) -> (Vec<&'p Node>, Vec<usize>) {
    let mut uses = vec![0usize; values.len()];
    wanted.for_each(|&slot| uses[slot] += 1);
    let mut plan = Vec::new();
    for node in program.nodes.iter().rev() {
        if node.outputs.iter().flatten().any(|&s| uses[s] > 0 && values[s].is_none()) {
            node.reads().for_each(|s| uses[s] += 1);
            plan.push(node);
        }
    }
    plan.reverse();
    (plan, uses)
}

/// The error for a tensor that neither the caller nor a node has given.
fn absent(program: &Program, slot: usize) -> Error {
    let name = program.name(slot);
    match program.nodes.iter().find(|n| n.outputs.contains(&Some(slot))) {
        Some(n) => Error::bad_input(format!("{} does not give its optional output `{name}` in inference", label(&n.proto))),
        None => Error::bad_input(format!("the input `{name}` is missing")),
    }
}
