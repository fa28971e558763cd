//! Multiply–adds of one node from the shapes around it.

use super::{LayerKind, einsum};
use crate::model::encoding::CONTRIB;
use crate::model::nested::Names;
use crate::model::source::Source;
use crate::model::{Fact, Facts};
use crate::onnx::{Attributes, pb};
use std::borrow::Cow;
use std::collections::HashMap;

/// A number, or why there is none.
type Count = Result<u64, String>;

/// Multiply–adds of `node`, a layer of sort `kind`.
pub(super) fn macs(names: &Names<'_, '_>, index: usize, node: &pb::NodeProto, kind: LayerKind, facts: &Facts) -> Count {
    if kind == LayerKind::Embedding {
        return Ok(0);
    }
    let Some(why) = &names.inside else { return Shapes { names, index, node, facts, inside: None }.macs(kind) };
    let inside = names.calls.as_ref().and_then(|path| facts.inside(path));
    match inside {
        None => Err(why.clone()),
        Some(_) if node.attribute.iter().any(|a| !a.ref_attr_name().is_empty()) => {
            Err("one of its attributes comes from the call of the function around it".into())
        }
        Some(_) => Shapes { names, index, node, facts, inside }.macs(kind),
    }
}

/// Product that stays at the largest number instead of running over.
fn product(dims: &[usize]) -> u64 {
    dims.iter().fold(1, |n, &d| n.saturating_mul(d as u64))
}

struct Shapes<'a, 'm> {
    names: &'a Names<'a, 'm>,
    index: usize,
    node: &'a pb::NodeProto,
    facts: &'a Facts,
    /// What is known within the function around the node.
    inside: Option<&'a HashMap<String, Fact>>,
}

impl Shapes<'_, '_> {
    fn shape(&self, name: &str) -> Option<&[usize]> {
        match self.inside {
            Some(facts) => facts.get(name).map(|f| f.shape.as_slice()),
            None => self.facts.shape(name),
        }
    }

    fn macs(&self, kind: LayerKind) -> Count {
        let times = |a: u64, b: u64| Ok(a.saturating_mul(b));
        match kind {
            LayerKind::Conv | LayerKind::DepthwiseConv | LayerKind::GroupedConv => {
                times(product(&self.output()?), product(self.input(1, "weights")?.get(1..).unwrap_or(&[])))
            }
            LayerKind::IntegerConv => {
                let weights = if self.node.op_type() == "QLinearConv" { 3 } else { 1 };
                times(product(&self.output()?), product(self.input(weights, "weights")?.get(1..).unwrap_or(&[])))
            }
            LayerKind::ConvTranspose => {
                times(product(&self.input(0, "input")?), product(self.input(1, "weights")?.get(1..).unwrap_or(&[])))
            }
            LayerKind::Gemm => {
                let inner = usize::from(self.node.int("transB") == Some(1));
                times(product(&self.output()?), self.input(1, "weights")?.get(inner).map_or(0, |&k| k as u64))
            }
            LayerKind::MatMul | LayerKind::ActivationMatMul | LayerKind::IntegerMatMul => {
                let left = self.input(0, "first factor")?;
                let transposed = self.node.int("transA") == Some(1) && left.len() > 1;
                let inner = left.len().checked_sub(if transposed { 2 } else { 1 }).map_or(0, |i| left[i]);
                times(product(&self.output()?), inner as u64)
            }
            LayerKind::PackedMatMul => {
                let n = self.node.int("N").unwrap_or(0).max(0).unsigned_abs();
                times(product(&self.input(0, "input")?), n)
            }
            LayerKind::Einsum => {
                let shapes = (0..self.node.input.len()).map(|i| self.input(i, "operands")).collect::<Result<Vec<_>, _>>()?;
                einsum::macs(self.node, &shapes).ok_or_else(|| "its equation does not fit its operands".to_owned())
            }
            LayerKind::Lstm | LayerKind::Gru | LayerKind::Rnn => self.recurrent(),
            LayerKind::Attention => self.attention(),
            LayerKind::Embedding => Ok(0),
        }
    }

    /// gates · hidden · (input + hidden) for each direction, step and sample. W is [directions, gates·hidden, input],
    /// X is [steps, batch, input] or (layout 1) [batch, steps, input]: the same product.
    fn recurrent(&self) -> Count {
        let (x, w, r) = (self.input(0, "input")?, self.input(1, "weights")?, self.input(2, "recurrent weights")?);
        match (&*x, &*w, &*r) {
            (&[a, b, input], &[directions, rows, _], &[_, _, hidden]) => {
                // There are gates · hidden rows: 4, 3 or 1 gates for LSTM, GRU and RNN.
                let per_step = product(&[directions, rows]).saturating_mul(input as u64 + hidden as u64);
                Ok(per_step.saturating_mul(product(&[a, b])))
            }
            _ => Err("its input and weights do not have three dimensions each".into()),
        }
    }

    /// Scores and weighted sum: queries × keys × (width of keys + width of values), for all heads together.
    fn attention(&self) -> Count {
        let contrib = self.node.domain() == CONTRIB;
        let past = |index: usize| self.node.input.get(index).is_some_and(|n| !n.is_empty());
        match self.node.op_type() {
            "Attention" if contrib => {
                if past(4) {
                    return Err("its cache grows while it runs".into());
                }
                let (x, w) = (self.input(0, "input")?, self.input(1, "weights")?);
                let (&[b, l, input], &[_, wide]) = (&*x, &*w) else { return Err("its input is not [batch, length, width]".into()) };
                let (keys, values) = match self.node.ints("qkv_hidden_sizes") {
                    Some(&[q, _, v]) => (q.max(0) as usize, v.max(0) as usize),
                    _ => (wide / 3, wide / 3),
                };
                let scores = product(&[b, l, l, keys]).saturating_add(product(&[b, l, l, values]));
                Ok(product(&[b, l, input, wide]).saturating_add(scores))
            }
            "GroupQueryAttention" => Err("its cache grows while it runs".into()),
            "MultiHeadAttention" if past(6) => Err("its cache grows while it runs".into()),
            _ => {
                let (q, k, v) = (self.input(0, "queries")?, self.input(1, "keys")?, self.input(2, "values")?);
                let heads = |name: &str| usize::try_from(self.node.int(name).unwrap_or(1)).unwrap_or(1).max(1);
                // The standard operator may prepend a past, whose shape is then known as its fifth input's.
                let before = if past(4) && !contrib { self.input(4, "past keys")?.get(2).copied().unwrap_or(0) } else { 0 };
                match (&*q, &*k, &*v) {
                    (&[b, h, l, e], &[_, _, s, _], &[_, _, _, ev]) => {
                        Ok(product(&[b, h, l, s.saturating_add(before)]).saturating_mul(e as u64 + ev as u64))
                    }
                    (&[b, l, e], &[_, s, _], &[_, _, ev]) => {
                        // Groups of query heads share values.
                        let ev = if contrib { ev } else { (ev / heads("kv_num_heads")).saturating_mul(heads("q_num_heads")) };
                        Ok(product(&[b, l, s.saturating_add(before)]).saturating_mul(e as u64 + ev as u64))
                    }
                    _ => Err("its operands are neither [B, H, L, E] nor [B, L, H·E]".into()),
                }
            }
        }
    }

    fn output(&self) -> Result<Cow<'_, [usize]>, String> {
        let name = self.node.output.first().map_or("", String::as_str);
        self.shape(name).map(Cow::Borrowed).ok_or_else(|| self.unknown("output"))
    }

    /// Shape of input `index`; weights have one even where nothing was inferred.
    fn input(&self, index: usize, what: &str) -> Result<Cow<'_, [usize]>, String> {
        let name = self.node.input.get(index).map_or("", String::as_str);
        match self.shape(name) {
            Some(shape) => Ok(Cow::Borrowed(shape)),
            None => Source::find(self.names, name).map(|s| Cow::Owned(s.shape().to_vec())).ok_or_else(|| self.unknown(what)),
        }
    }

    /// The reason inference gave for this node, or for the first tensor that it did not know.
    fn unknown(&self, what: &str) -> String {
        let all = self.facts.unknown();
        match all.iter().find(|(i, _)| *i == self.index).or(all.first()) {
            Some((_, why)) => format!("the shape of its {what} is not known: {why}"),
            None => format!("the shape of its {what} is not known"),
        }
    }
}
