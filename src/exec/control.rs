//! Control flow: `If`, `Loop`, [`scan`] and `SequenceMap`, whose bodies are prepared graphs that also see tensors of the graphs around them.

use super::program::{Node, Program};
use super::run::{Context, Watch};
use super::scan;
use super::stacks::{Place, Stacks};
use super::value::{Item, View};
use crate::model::eval::integers;
use crate::onnx::Attributes;
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};

/// A graph in an attribute of a node.
#[derive(Debug)]
pub(super) struct Body {
    /// Name of the attribute.
    pub(super) attribute: String,
    pub(super) program: Program,
    /// What the graph sees of those around it: their slot, its own.
    pub(super) captures: Vec<(usize, usize)>,
    /// What no round of a loop gives for each output: nothing, of the type that the graph declares.
    pub(super) declared: Vec<Option<Item>>,
}

/// How much a run may still do: a loop without end must end with an error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit(u64);

/// Nodes and rounds of loops in one run.
const STEPS: u64 = 4_000_000;

impl Default for Limit {
    fn default() -> Self {
        Limit(STEPS)
    }
}

impl Limit {
    /// Counts a node, or a round of a loop.
    ///
    /// # Errors
    /// There were too many.
    pub(super) fn step(&mut self) -> Result<()> {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err(Error::bad_input(format!("the model was stopped after {STEPS} nodes and rounds of its loops"))
                .hint("a loop of it may have no end")),
        }
    }
}

/// The tensors of the graph around a node, by slot.
pub(super) type Outer<'a, 't> = &'a dyn Fn(usize) -> Option<View<'t>>;

/// Runs a node with bodies; `outer` gives the tensors of the graph that it stands in.
///
/// # Errors
/// The operator has no graphs, a body is missing or contradicts the node, or the limit is reached.
pub(super) fn node(context: &mut Context, node: &Node, inputs: &[Option<View>], outer: Outer) -> Result<Vec<Item>> {
    let op = node.proto.op_type();
    match op {
        _ if !node.proto.is_standard() => {}
        "If" => {
            let branch = if truth(input(inputs, 0)?)? { "then_branch" } else { "else_branch" };
            return run(context, body(node, branch)?, &[], outer);
        }
        "Loop" => return repeat(context, node, inputs, outer),
        "Scan" => return scan::scan(context, node, inputs, outer),
        "SequenceMap" => return map(context, node, inputs, outer),
        _ => {}
    }
    Err(Error::bad_input(format!("the reference execution does not know what `{op}` does with its graphs")))
}

/// Input `index`, which must be there.
pub(super) fn input<'a>(inputs: &[Option<View<'a>>], index: usize) -> Result<View<'a>> {
    inputs.get(index).copied().flatten().ok_or_else(|| Error::bad_input(format!("input {index} is missing")))
}

/// One run of a body on its own inputs.
pub(super) fn run(context: &mut Context, body: &Body, inputs: &[View], outer: Outer) -> Result<Vec<Item>> {
    if inputs.len() != body.program.inputs.len() {
        let takes = body.program.inputs.len();
        return Err(Error::bad_input(format!("the graph `{}` takes {takes} inputs, the node gives {}", body.attribute, inputs.len())));
    }
    let captured = body.captures.iter().filter_map(|&(from, to)| Some((to, outer(from)?)));
    let given = captured.chain(body.program.inputs.iter().copied().zip(inputs.iter().copied()));
    context.run(&body.program, given, &body.program.outputs, &mut Watch { slots: &[], see: &mut |_, _| Ok(()) })
}

/// `Loop`: carried values go round, and what each round gives besides is stacked along a new first axis.
fn repeat(context: &mut Context, node: &Node, inputs: &[Option<View>], outer: Outer) -> Result<Vec<Item>> {
    let body = body(node, "body")?;
    let given = |i: usize| inputs.get(i).copied().flatten();
    let trips = |view: View| integers(view.tensor()?)?.first().copied().ok_or_else(|| Error::bad_input("the trip count is empty"));
    let most = given(0).map(trips).transpose()?;
    let mut going = given(1).map_or(Ok(true), truth)?;
    let mut carried = (2..inputs.len()).map(|i| input(inputs, i).map(View::item)).collect::<Result<Vec<_>>>()?;
    let stacked = body.program.outputs.len().checked_sub(1 + carried.len()).ok_or_else(|| few_outputs(body))?;
    let mut stacks = Stacks::new(stacked);
    let mut round = 0i64;
    while going && most.is_none_or(|most| round < most) {
        context.limit.step()?;
        let (number, flag) = (Tensor::new(vec![], Data::I64(vec![round]))?, Tensor::new(vec![], Data::Bool(vec![going]))?);
        let given: Vec<View> = [View::Tensor(&number), View::Tensor(&flag)].into_iter().chain(carried.iter().map(Item::view)).collect();
        let mut made = run(context, body, &given, outer)?.into_iter();
        going = made.next().as_ref().map_or(Ok(true), |flag| truth(flag.view()))?;
        carried = made.by_ref().take(carried.len()).collect();
        stacks.push(made)?;
        round += 1;
    }
    let first = 1 + carried.len();
    let none = |i: usize| body.declared.get(first + i).cloned().flatten();
    let none = |i| none(i).ok_or_else(|| Error::bad_input("the loop ran no round, and its body does not declare its outputs"));
    carried.extend(stacks.finish(|_| Place::default(), none)?);
    Ok(carried)
}

/// `SequenceMap`: the body runs on each element of a sequence; other inputs that are sequences give their element of the same place.
fn map(context: &mut Context, node: &Node, inputs: &[Option<View>], outer: Outer) -> Result<Vec<Item>> {
    let body = body(node, "body")?;
    let rounds = input(inputs, 0)?.sequence()?.len();
    let mut lists = vec![Vec::new(); body.program.outputs.len()];
    for round in 0..rounds {
        context.limit.step()?;
        let element = |i: usize| match input(inputs, i)? {
            View::Sequence(list) => list.get(round).map(View::Tensor).ok_or_else(|| Error::bad_input("the sequences differ in length")),
            same => Ok(same),
        };
        let given = (0..inputs.len()).map(element).collect::<Result<Vec<_>>>()?;
        for (list, item) in lists.iter_mut().zip(run(context, body, &given, outer)?) {
            list.push(item.into_tensor()?);
        }
    }
    Ok(lists.into_iter().map(Item::Sequence).collect())
}

pub(super) fn body<'n>(node: &'n Node, name: &str) -> Result<&'n Body> {
    node.bodies.iter().find(|b| b.attribute == name).ok_or_else(|| Error::bad_input(format!("the graph `{name}` is missing")))
}

pub(super) fn few_outputs(body: &Body) -> Error {
    Error::bad_input(format!("the graph `{}` has too few outputs", body.attribute))
}

/// The only element of a tensor of truth values.
fn truth(value: View) -> Result<bool> {
    let t = value.tensor()?;
    match t.data() {
        Data::Bool(v) if v.len() == 1 => Ok(v[0]),
        _ => Err(Error::bad_input(format!("a condition must be one bool, found {} {:?}", t.dtype().name(), t.shape()))),
    }
}
