//! Activations that cut values off: Relu, and Clip around 0.

use crate::model::Graph;
use crate::onnx::{Attributes, pb};

/// Where the values of an activation end: [0, ∞) for Relu.
pub(super) type Bounds = (f32, f32);

/// No end.
pub(super) const UNBOUNDED: Bounds = (f32::NEG_INFINITY, f32::INFINITY);

/// Where the results of a Relu or Clip end, if they may be 0.
pub(super) fn bounds(graph: &Graph<'_>, node: &pb::NodeProto) -> Option<Bounds> {
    let limit = |index: usize, none: f32| match node.input.get(index).filter(|n| !n.is_empty()) {
        Some(name) => graph.constant(name).ok()??.as_f32().ok()?.first().copied(),
        None => Some(none),
    };
    let bounds = match node.op_type() {
        _ if !node.is_standard() => return None,
        "Relu" => (0.0, f32::INFINITY),
        "Clip" => (limit(1, f32::NEG_INFINITY)?, limit(2, f32::INFINITY)?),
        _ => return None,
    };
    (bounds.0 <= 0.0 && bounds.1 >= 0.0 && bounds.0 < bounds.1).then_some(bounds)
}
