//! `Scan`.

use super::control::{Body, Outer, body, few_outputs, input, run};
use super::program::Node;
use super::run::Context;
use super::stacks::{Place, Stacks, stack};
use super::value::{Item, View};
use crate::model::eval::{axis, part};
use crate::onnx::Attributes;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// `Scan`: slices of the scanned inputs go in, one a round; states go round, and the slices that come out are stacked.
///
/// # Errors
/// The body is missing or contradicts the node, the scanned inputs differ in length, or the limit is reached.
pub(super) fn scan(context: &mut Context, node: &Node, inputs: &[Option<View>], outer: Outer) -> Result<Vec<Item>> {
    let body = body(node, "body")?;
    if node.opset < 9 {
        return batches(context, node, inputs, body, outer);
    }
    let (states, scanned) = split_inputs(node, inputs, 0)?;
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
    let place = |i: usize| Place { axis: number("scan_output_axes", i), reverse: direction("scan_output_directions", i) };
    one(context, body, states, &tracks, &place, outer)
}

/// An input that is scanned.
struct Track<'a> {
    t: &'a Tensor,
    axis: usize,
    reverse: bool,
}

/// The state inputs and the scanned ones, from input `first` on.
fn split_inputs<'a>(node: &Node, inputs: &[Option<View<'a>>], first: usize) -> Result<(Vec<Item>, Vec<&'a Tensor>)> {
    let scanned = node.proto.int("num_scan_inputs").and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    let states =
        scanned.and_then(|n| inputs.len().checked_sub(first + n)).ok_or_else(|| Error::bad_input("there are too few inputs to scan"))?;
    let state = (first..first + states).map(|i| input(inputs, i).map(View::item)).collect::<Result<_>>()?;
    Ok((state, (first + states..inputs.len()).map(|i| input(inputs, i)?.tensor()).collect::<Result<_>>()?))
}

fn one(
    context: &mut Context,
    body: &Body,
    mut states: Vec<Item>,
    tracks: &[Track],
    place: &dyn Fn(usize) -> Place,
    outer: Outer,
) -> Result<Vec<Item>> {
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
        let given: Vec<View> = states.iter().map(Item::view).chain(slices.iter().map(View::Tensor)).collect();
        let mut made = run(context, body, &given, outer)?.into_iter();
        states = made.by_ref().take(states.len()).collect();
        stacks.push(made)?;
    }
    states.extend(stacks.finish(place, |_| Err(Error::bad_input("a scan over nothing has no outputs")))?);
    Ok(states)
}

/// `Scan` of operator set 8: the first input gives lengths, and every sample of a batch is scanned by itself along axis 1.
fn batches(context: &mut Context, node: &Node, inputs: &[Option<View>], body: &Body, outer: Outer) -> Result<Vec<Item>> {
    if inputs.first().is_some_and(Option::is_some) || node.proto.ints("directions").is_some_and(|d| d.contains(&1)) {
        return Err(Error::bad_input("Scan of operator set 8 with lengths or directions is not supported")
            .hint("export with operator set 9 or later"));
    }
    let (states, scanned) = split_inputs(node, inputs, 1)?;
    let batch = scanned.first().and_then(|t| t.shape().first()).copied().unwrap_or(0);
    let sample = |t: &Tensor, i: usize| match t.shape() {
        [n, rest @ ..] if *n == batch => part(t, 0, i, 1)?.reshaped(rest.to_vec()),
        shape => Err(Error::bad_input(format!("an input of shape {shape:?} does not have {batch} samples"))),
    };
    let mut parts: Vec<Vec<Tensor>> = Vec::new();
    for i in 0..batch {
        let states = states.iter().map(|s| sample(s.view().tensor()?, i).map(Item::Tensor)).collect::<Result<Vec<_>>>()?;
        let scanned = scanned.iter().map(|t| sample(t, i)).collect::<Result<Vec<_>>>()?;
        if let Some(t) = scanned.iter().find(|t| t.shape().is_empty()) {
            return Err(Error::bad_input(format!("an input of shape {:?} has nothing to scan", t.shape())));
        }
        let tracks: Vec<Track> = scanned.iter().map(|t| Track { t, axis: 0, reverse: false }).collect();
        let made = one(context, body, states, &tracks, &|_| Place::default(), outer)?;
        parts.resize_with(made.len(), Vec::new);
        for (part, item) in parts.iter_mut().zip(made) {
            part.push(item.into_tensor()?);
        }
    }
    parts.iter().map(|part| stack(part, Place::default()).map(Item::Tensor)).collect()
}
