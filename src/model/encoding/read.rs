//! The encoding of any tensor of a graph, read from the operators around it.

use super::{Encoding, FloatFormat, Levels, Numbers, Quantized, Storage, is_known};
use crate::Result;
use crate::model::nested::{Names, Origin};
use crate::model::source::Source;
use crate::model::{Facts, Graph};
use crate::onnx::pb;

impl Encoding {
    /// How `tensor` of the main graph is encoded: a weight, whatever stands between its constant and its readers; an
    /// activation that a QuantizeLinear, a DequantizeLinear or an operator on integers makes, or that only QuantizeLinear
    /// nodes read (then it takes no other values than theirs); else its floating-point type. `None` when nothing says it, or
    /// a scale is computed while the model runs.
    ///
    /// ```
    /// # fn main() -> joulefront::Result<()> {
    /// use joulefront::{compress::quantize_weights, model::{Encoding, Facts, Graph}, onnx::Model};
    /// let (model, _) = quantize_weights(&Model::load("models/fashion-mlp.onnx")?, 4)?;
    /// let encoding = Encoding::of(&Graph::new(&model), &Facts::infer(&model, 1)?, "f.1.weight__q")?;
    /// assert_eq!(encoding.map(|e| e.format().short(Some(0))).as_deref(), Some("i4 in int8 per channel"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Scales or zero points are not valid, or do not fit the tensor.
    pub fn of(graph: &Graph<'_>, facts: &Facts, tensor: &str) -> Result<Option<Encoding>> {
        let names = Names::main(graph);
        let rank = |name: &str| facts.shape(name).map_or(0, <[usize]>::len);
        if let Some(source) = weight(graph, &names, tensor) {
            return source.encoding();
        }
        let mut found = None;
        if let Some(Origin::Node(_, node)) = names.origin(tensor) {
            found = match node.op_type() {
                "QuantizeLinear" | "DequantizeLinear" if is_known(node) => Some(linear(&names, facts, node, rank(tensor))?),
                _ => Numbers::result(&names, node).map(|n| complete(n, storage(facts, tensor))).transpose()?,
            };
        }
        if found.is_none() {
            let mut readers = graph.consumers(tensor).iter().map(|u| (graph.node(u.node), u.input));
            found = match readers.next() {
                Some((node, 0))
                    if is_quantize(node) && readers.all(|(n, i)| i == 0 && is_quantize(n) && n.input.get(1..) == node.input.get(1..)) =>
                {
                    Some(linear(&names, facts, node, rank(tensor))?)
                }
                Some((node, input)) => {
                    Numbers::operand(&names, node, input, rank(tensor)).map(|n| complete(n, storage(facts, tensor))).transpose()?
                }
                None => None,
            };
        }
        match found {
            Some(Some(q)) => {
                if let Some(shape) = facts.shape(tensor) {
                    q.check_fits(shape).map_err(|e| e.context(format!("`{tensor}`")))?;
                }
                Ok(Some(Encoding::Quantized(q)))
            }
            Some(None) => Ok(None),
            None => Ok(facts.get(tensor).and_then(|f| f.dtype).and_then(FloatFormat::of).map(Encoding::Float)),
        }
    }
}

/// The constant behind a tensor, with the numbers its readers have for it.
fn weight<'m>(graph: &Graph<'m>, names: &Names<'_, 'm>, tensor: &str) -> Option<Source<'m>> {
    let source = Source::find(names, tensor)?;
    if source.through().is_empty() {
        for reader in graph.consumers(tensor) {
            let node = graph.node(reader.node);
            let read = match node.op_type() {
                "MatMulNBits" if reader.input == 1 => Source::nbits(names, node),
                "DequantizeLinear" if reader.input == 0 && is_known(node) => node.output.first().and_then(|o| Source::find(names, o)),
                _ => Source::of_input(names, node, reader.input),
            };
            if read.as_ref().is_some_and(Source::is_quantized) {
                return read;
            }
        }
    }
    Some(source)
}

fn is_quantize(node: &pb::NodeProto) -> bool {
    is_known(node) && node.op_type() == "QuantizeLinear"
}

/// Of a QuantizeLinear or DequantizeLinear node; its integers have the type of the tensor between.
fn linear(names: &Names<'_, '_>, facts: &Facts, node: &pb::NodeProto, rank: usize) -> Result<Option<Quantized>> {
    let integers = if is_quantize(node) { node.output.first() } else { node.input.first() };
    complete(Numbers::linear(names, node, rank), integers.and_then(|name| storage(facts, name)))
}

fn storage(facts: &Facts, tensor: &str) -> Option<Storage> {
    Storage::of(facts.get(tensor)?.dtype?)
}

fn complete(numbers: Numbers<'_>, storage: Option<Storage>) -> Result<Option<Quantized>> {
    match storage {
        Some(storage) => numbers.encoding(storage, Levels::of_bits(storage, storage.bits())?),
        None => Ok(None),
    }
}
