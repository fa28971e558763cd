//! Control flow: `If`, `Loop` and `Scan`, whose bodies are prepared graphs that also see tensors of the graphs around them.

use super::program::{Node, Program};
use super::run::{Context, Watch};
use crate::model::eval::{Args, axis, cast, count, integers, join, part};
use crate::onnx::{Attributes, dtype_from_onnx, pb};
use crate::tensor::{DType, Data, Tensor};
use crate::{Error, Result};

/// A graph in an attribute of a node.
#[derive(Debug)]
pub(super) struct Body {
    /// Name of the attribute.
    pub(super) attribute: String,
    pub(super) program: Program,
    /// What the graph sees of those around it: their slot, its own.
    pub(super) captures: Vec<(usize, usize)>,
    /// Type and shape of each output, where the graph declares them with numbers.
    pub(super) declared: Vec<Option<(DType, Vec<usize>)>>,
}

/// What a graph declares of an output.
pub(super) fn declared(info: &pb::ValueInfoProto) -> Option<(DType, Vec<usize>)> {
    let tensor = &info.type_.tensor_type;
    let dims = tensor.shape.as_ref()?.dim.iter().map(|d| usize::try_from(d.dim_value()).ok());
    Some((dtype_from_onnx(tensor.elem_type())?, dims.collect::<Option<_>>()?))
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
type Outer<'a, 't> = &'a dyn Fn(usize) -> Option<&'t Tensor>;

/// Runs a node with bodies; `outer` gives the tensors of the graph that it stands in.
///
/// # Errors
/// The operator is not one of the three, a body is missing or contradicts the node, or the limit is reached.
pub(super) fn node(context: &mut Context, node: &Node, inputs: &[Option<&Tensor>], outer: Outer) -> Result<Vec<Tensor>> {
    let args = Args::new(&node.proto, node.opset, inputs);
    match node.proto.op_type() {
        "If" if node.proto.is_standard() => {
            let branch = if truth(args.tensor(0)?)? { "then_branch" } else { "else_branch" };
            run(context, body(node, branch)?, &[], outer)
        }
        "Loop" if node.proto.is_standard() => repeat(context, node, &args, inputs, outer),
        "Scan" if node.proto.is_standard() => scan(context, node, &args, inputs, outer),
        _ => super::eval_in(&node.proto, node.opset, inputs, &mut context.arena),
    }
}

/// One run of a body on its own inputs.
fn run(context: &mut Context, body: &Body, inputs: &[&Tensor], outer: Outer) -> Result<Vec<Tensor>> {
    if inputs.len() != body.program.inputs.len() {
        let takes = body.program.inputs.len();
        return Err(Error::bad_input(format!("the graph `{}` takes {takes} inputs, the node gives {}", body.attribute, inputs.len())));
    }
    let captured = body.captures.iter().filter_map(|&(from, to)| Some((to, outer(from)?)));
    let given = captured.chain(body.program.inputs.iter().copied().zip(inputs.iter().copied()));
    context.run(&body.program, given, &body.program.outputs, &mut Watch { slots: &[], see: &mut |_, _| Ok(()) })
}

/// `Loop`: carried values go round, and what each round gives besides is stacked along a new first axis.
fn repeat(context: &mut Context, node: &Node, args: &Args, inputs: &[Option<&Tensor>], outer: Outer) -> Result<Vec<Tensor>> {
    let body = body(node, "body")?;
    let most =
        args.optional(0).map(|t| integers(t)?.first().copied().ok_or_else(|| Error::bad_input("the trip count is empty"))).transpose()?;
    let mut going = args.optional(1).map_or(Ok(true), truth)?;
    let mut carried = (2..inputs.len()).map(|i| args.tensor(i).cloned()).collect::<Result<Vec<_>>>()?;
    let mut stacks = Stacks::new(body.program.outputs.len().checked_sub(1 + carried.len()).ok_or_else(|| few_outputs(body))?);
    let mut round = 0i64;
    while going && most.is_none_or(|most| round < most) {
        context.limit.step()?;
        let (number, flag) = (Tensor::new(vec![], Data::I64(vec![round]))?, Tensor::new(vec![], Data::Bool(vec![going]))?);
        let given: Vec<&Tensor> = [&number, &flag].into_iter().chain(&carried).collect();
        let mut made = run(context, body, &given, outer)?.into_iter();
        going = made.next().as_ref().map_or(Ok(true), truth)?;
        carried = made.by_ref().take(carried.len()).collect();
        stacks.push(made)?;
        round += 1;
    }
    carried.extend(stacks.finish(|_| Ok(Place::default()), |i| empty(node, i))?);
    Ok(carried)
}

/// `Scan`: slices of the scanned inputs go in, one a round; states go round, and the slices that come out are stacked.
fn scan(context: &mut Context, node: &Node, args: &Args, inputs: &[Option<&Tensor>], outer: Outer) -> Result<Vec<Tensor>> {
    let body = body(node, "body")?;
    if node.opset < 9 {
        return scan_batches(context, args, inputs, body, outer);
    }
    let (states, scanned) = split_inputs(args, inputs, 0)?;
    let direction = |name: &str, i: usize| node.proto.ints(name).and_then(|d| d.get(i)).is_some_and(|&d| d == 1);
    let number = |name: &str, i: usize| node.proto.ints(name).and_then(|a| a.get(i)).copied().unwrap_or(0);
    let mut tracks = Vec::with_capacity(scanned.len());
    for (i, t) in scanned.into_iter().enumerate() {
        tracks.push(Track {
            t,
            axis: axis(number("scan_input_axes", i), t.shape().len())?,
            reverse: direction("scan_input_directions", i),
        });
    }
    let place = |i: usize| Ok(Place { axis: number("scan_output_axes", i), reverse: direction("scan_output_directions", i) });
    scan_one(context, body, states, &tracks, &place, outer)
}

/// An input that is scanned.
struct Track<'a> {
    t: &'a Tensor,
    axis: usize,
    reverse: bool,
}

/// The state inputs and the scanned ones, from input `first` on.
fn split_inputs<'a>(args: &Args<'a>, inputs: &[Option<&Tensor>], first: usize) -> Result<(Vec<Tensor>, Vec<&'a Tensor>)> {
    let scanned = usize::try_from(args.int_or("num_scan_inputs", 0)).ok().filter(|&n| n > 0);
    let states =
        scanned.and_then(|n| inputs.len().checked_sub(first + n)).ok_or_else(|| Error::bad_input("there are too few inputs to scan"))?;
    let state = (first..first + states).map(|i| args.tensor(i).cloned()).collect::<Result<_>>()?;
    Ok((state, (first + states..inputs.len()).map(|i| args.tensor(i)).collect::<Result<_>>()?))
}

fn scan_one(
    context: &mut Context,
    body: &Body,
    mut states: Vec<Tensor>,
    tracks: &[Track],
    place: &dyn Fn(usize) -> Result<Place>,
    outer: Outer,
) -> Result<Vec<Tensor>> {
    let rounds = tracks.first().map_or(0, |track| track.t.shape()[track.axis]);
    if tracks.iter().any(|track| track.t.shape()[track.axis] != rounds) {
        return Err(Error::bad_input("the scanned inputs differ in length"));
    }
    let mut stacks = Stacks::new(body.program.outputs.len().checked_sub(states.len()).ok_or_else(|| few_outputs(body))?);
    for round in 0..rounds {
        context.limit.step()?;
        let slice = |track: &Track| {
            let slice = part(track.t, track.axis, if track.reverse { rounds - 1 - round } else { round }, 1)?;
            let mut shape = slice.shape().to_vec();
            shape.remove(track.axis);
            slice.reshaped(shape)
        };
        let slices = tracks.iter().map(slice).collect::<Result<Vec<_>>>()?;
        let given: Vec<&Tensor> = states.iter().chain(&slices).collect();
        let mut made = run(context, body, &given, outer)?.into_iter();
        states = made.by_ref().take(states.len()).collect();
        stacks.push(made)?;
    }
    states.extend(stacks.finish(place, |_| Err(Error::bad_input("a scan over nothing has no outputs")))?);
    Ok(states)
}

/// `Scan` of operator set 8: the first input gives lengths, and every sample of a batch is scanned by itself along axis 1.
fn scan_batches(context: &mut Context, args: &Args, inputs: &[Option<&Tensor>], body: &Body, outer: Outer) -> Result<Vec<Tensor>> {
    if args.optional(0).is_some() || args.node.ints("directions").is_some_and(|d| d.contains(&1)) {
        return Err(Error::bad_input("Scan of operator set 8 with lengths or directions is not supported")
            .hint("export with operator set 9 or later"));
    }
    let (states, scanned) = split_inputs(args, inputs, 1)?;
    let batch = scanned.first().and_then(|t| t.shape().first()).copied().unwrap_or(0);
    let sample = |t: &Tensor, i: usize| match t.shape() {
        [n, rest @ ..] if *n == batch => part(t, 0, i, 1)?.reshaped(rest.to_vec()),
        shape => Err(Error::bad_input(format!("an input of shape {shape:?} does not have {batch} samples"))),
    };
    let mut parts: Vec<Vec<Tensor>> = Vec::new();
    for i in 0..batch {
        let states = states.iter().map(|t| sample(t, i)).collect::<Result<Vec<_>>>()?;
        let scanned = scanned.iter().map(|t| sample(t, i)).collect::<Result<Vec<_>>>()?;
        if let Some(t) = scanned.iter().find(|t| t.shape().is_empty()) {
            return Err(Error::bad_input(format!("an input of shape {:?} has nothing to scan", t.shape())));
        }
        let tracks: Vec<Track> = scanned.iter().map(|t| Track { t, axis: 0, reverse: false }).collect();
        let made = scan_one(context, body, states, &tracks, &|_| Ok(Place::default()), outer)?;
        parts.resize_with(made.len(), Vec::new);
        parts.iter_mut().zip(made).for_each(|(part, t)| part.push(t));
    }
    parts.iter().map(|part| stack(part, Place::default())).collect()
}

/// Where the slices of a stacked output go.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    axis: i64,
    reverse: bool,
}

/// What the rounds of a loop give, to be stacked in the end.
struct Stacks {
    slices: Vec<Vec<Tensor>>,
    elements: usize,
}

impl Stacks {
    fn new(outputs: usize) -> Self {
        Stacks { slices: vec![Vec::new(); outputs], elements: 0 }
    }

    /// # Errors
    /// All rounds together have given too much.
    fn push(&mut self, slices: impl Iterator<Item = Tensor>) -> Result<()> {
        for (stack, t) in self.slices.iter_mut().zip(slices) {
            self.elements = self.elements.saturating_add(t.len());
            stack.push(t);
        }
        count(&[self.elements]).map(drop)
    }

    fn finish(self, place: impl Fn(usize) -> Result<Place>, empty: impl Fn(usize) -> Result<Tensor>) -> Result<Vec<Tensor>> {
        let stack = |(i, slices): (usize, &Vec<Tensor>)| if slices.is_empty() { empty(i) } else { stack(slices, place(i)?) };
        self.slices.iter().enumerate().map(stack).collect()
    }
}

/// Tensors of one shape, stacked along a new axis.
fn stack(slices: &[Tensor], place: Place) -> Result<Tensor> {
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

/// What a loop of no rounds gives for its `i`-th stacked output: nothing, of the rank and type that the body's graph declares.
fn empty(node: &Node, i: usize) -> Result<Tensor> {
    let first = 1 + node.inputs.len().saturating_sub(2);
    let declared = node.bodies.first().and_then(|b| b.declared.get(first + i)?.as_ref());
    let (dtype, shape) = declared.ok_or_else(|| Error::bad_input("the loop ran no round, and its body does not declare its outputs"))?;
    cast(&Tensor::f32([&[0], &shape[..]].concat(), vec![])?, *dtype)
}

fn body<'n>(node: &'n Node, name: &str) -> Result<&'n Body> {
    node.bodies.iter().find(|b| b.attribute == name).ok_or_else(|| Error::bad_input(format!("the graph `{name}` is missing")))
}

fn few_outputs(body: &Body) -> Error {
    Error::bad_input(format!("the graph `{}` has too few outputs", body.attribute))
}

/// The only element of a tensor of truth values.
fn truth(t: &Tensor) -> Result<bool> {
    match t.data() {
        Data::Bool(v) if v.len() == 1 => Ok(v[0]),
        _ => Err(Error::bad_input(format!("a condition must be one bool, found {} {:?}", t.dtype().name(), t.shape()))),
    }
}
