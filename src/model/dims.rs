//! Numbers for the dimensions that a model leaves open.

use crate::onnx::pb;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::str::FromStr;

/// What to put where the file has a symbol or nothing: the batch, named dimensions, whole inputs.
///
/// The first dimension of an input is the batch where it is open. Others need a number, or their input's shape stays unknown.
///
/// ```
/// # fn main() -> joulefront::Result<()> {
/// use joulefront::{model::{Dims, Facts}, onnx::Model};
/// let model = Model::load("models/fashion-mlp.onnx")?;
/// let facts = Facts::infer_with(&model, &Dims::batch(1).with("input=4x1x28x28".parse()?))?;
/// assert_eq!(facts.shape("logits"), Some(&[4, 10][..]));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dims {
    batch: usize,
    given: Vec<Given>,
}

/// `NAME=NUMBERS`: the value of a symbol, or the shape of an input (`x=1x3x224x224` or `x=1,3,224,224`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    name: String,
    numbers: Vec<usize>,
}

impl FromStr for Given {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::bad_input(format!("`{text}` is not of the form NAME=NUMBERS"))
                .hint("for example `--shape seq=128` for a symbol, `--shape input=1x3x224x224` for an input")
        };
        // Names may hold `=`, numbers do not.
        let (name, numbers) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
        let numbers = numbers.split(['x', ',']).map(|n| n.trim().parse::<usize>().ok().filter(|&n| n > 0));
        Ok(Given { name: name.to_owned(), numbers: numbers.collect::<Option<Vec<_>>>().ok_or_else(wrong)? })
    }
}

impl Dims {
    /// Open first dimensions become `batch`.
    pub fn batch(batch: usize) -> Self {
        Dims { batch, given: Vec::new() }
    }

    /// One more number.
    #[must_use]
    pub fn with(mut self, given: Given) -> Self {
        self.given.push(given);
        self
    }

    /// Checks every given number against the inputs of a model, and says which symbol has which number.
    ///
    /// # Errors
    /// A name is neither an input nor a symbol, a rank or a fixed dimension differs, or a symbol has two numbers.
    pub fn resolve(&self, inputs: &[&pb::ValueInfoProto]) -> Result<BTreeMap<String, usize>> {
        let mut symbols = BTreeMap::new();
        let mut set = |symbol: &str, n: usize| match symbols.insert(symbol.to_owned(), n) {
            Some(other) if other != n => {
                Err(Error::bad_input(format!("the dimension `{symbol}` is given as {other} and as {n}")).hint("give it once"))
            }
            _ => Ok(()),
        };
        for given in &self.given {
            if let Some(input) = inputs.iter().find(|i| i.name() == given.name) {
                let dims = &input.type_.tensor_type.shape.dim;
                let fits =
                    dims.len() == given.numbers.len() && dims.iter().zip(&given.numbers).all(|(d, &n)| fixed(d).is_none_or(|f| f == n));
                if !fits {
                    return Err(Error::bad_input(format!(
                        "input `{}` is {}, which {:?} does not fit",
                        given.name,
                        shown(dims),
                        given.numbers
                    )));
                }
                for (d, &n) in dims.iter().zip(&given.numbers).filter(|(d, _)| !symbol(d).is_empty()) {
                    set(symbol(d), n)?;
                }
            } else if let ([n], true) = (given.numbers.as_slice(), inputs.iter().any(|i| has_symbol(i, &given.name))) {
                set(&given.name, *n)?;
            } else {
                let known: Vec<String> =
                    inputs.iter().map(|i| format!("`{}` {}", i.name(), shown(&i.type_.tensor_type.shape.dim))).collect();
                return Err(Error::bad_input(format!("the model has no input and no open dimension `{}`", given.name))
                    .hint(format!("its inputs are {}", known.join(", "))));
            }
        }
        Ok(symbols)
    }

    /// [`Dims::resolve`], and the batch for every open symbol that is some input's first dimension: elsewhere it is the batch too.
    pub(super) fn bind(&self, inputs: &[&pb::ValueInfoProto]) -> Result<BTreeMap<String, usize>> {
        let mut symbols = self.resolve(inputs)?;
        for first in inputs.iter().filter_map(|i| i.type_.tensor_type.shape.dim.first()).filter(|d| !d.dim_param().is_empty()) {
            symbols.entry(first.dim_param().to_owned()).or_insert(self.batch);
        }
        Ok(symbols)
    }

    /// The whole shapes among the given numbers, by the input's name.
    ///
    /// # Errors
    /// As [`Dims::resolve`].
    pub fn shapes(&self, inputs: &[&pb::ValueInfoProto]) -> Result<BTreeMap<String, Vec<usize>>> {
        self.resolve(inputs)?;
        let whole = self.given.iter().filter(|g| inputs.iter().any(|i| i.name() == g.name));
        Ok(whole.map(|g| (g.name.clone(), g.numbers.clone())).collect())
    }

    /// Dimensions of `input`; the error says which number is missing.
    pub(super) fn shape(&self, input: &pb::ValueInfoProto, symbols: &BTreeMap<String, usize>) -> std::result::Result<Vec<usize>, String> {
        let given = self.given.iter().find(|g| g.name == input.name());
        let dim = |(axis, dim): (usize, &pb::tensor_shape_proto::Dimension)| {
            let number = given.map(|g| g.numbers.get(axis).copied().unwrap_or(1));
            let named = symbols.get(symbol(dim)).copied();
            fixed(dim).or(number).or(named).or((axis == 0).then_some(self.batch)).ok_or_else(|| match symbol(dim) {
                "" => format!("dimension {axis} of input `{}` is open: give its shape with `--shape {}=…`", input.name(), input.name()),
                symbol => format!("dimension `{symbol}` of input `{}` is open: give it with `--shape {symbol}=N`", input.name()),
            })
        };
        input.type_.tensor_type.shape.dim.iter().enumerate().map(dim).collect()
    }
}

/// The name of an open dimension, or "". `?` names none, though some exporters (paddle2onnx) write it as if it were one.
pub(super) fn symbol(dim: &pb::tensor_shape_proto::Dimension) -> &str {
    Some(dim.dim_param()).filter(|&s| s != "?").unwrap_or("")
}

fn fixed(dim: &pb::tensor_shape_proto::Dimension) -> Option<usize> {
    usize::try_from(dim.dim_value()).ok().filter(|&d| d > 0)
}

fn has_symbol(input: &pb::ValueInfoProto, name: &str) -> bool {
    input.type_.tensor_type.shape.dim.iter().any(|d| symbol(d) == name)
}

/// Dimensions as people write them: numbers, symbols, `?`.
fn shown(dims: &[pb::tensor_shape_proto::Dimension]) -> String {
    let one = |d: &pb::tensor_shape_proto::Dimension| match (fixed(d), symbol(d)) {
        (Some(n), _) => n.to_string(),
        (None, "") => "?".to_owned(),
        (None, symbol) => symbol.to_owned(),
    };
    format!("[{}]", dims.iter().map(one).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::model::Facts;
    use crate::onnx::Model;

    #[test]
    fn numbers_are_read_and_checked_against_the_model() {
        let model = Model::load("models/fashion-mlp.onnx").unwrap();
        let infer = |texts: &[&str]| -> Result<Vec<usize>> {
            let mut dims = Dims::batch(2);
            for text in texts {
                dims = dims.with(text.parse()?);
            }
            Ok(Facts::infer_with(&model, &dims)?.shape("logits").unwrap().to_vec())
        };
        assert_eq!(infer(&[]).unwrap(), [2, 10]);
        assert_eq!(infer(&["input=5,1,28,28"]).unwrap(), [5, 10]);
        for (texts, says) in [
            (&["input"][..], "not of the form"),
            (&["=3"], "not of the form"),
            (&["input=0x1x28x28"], "not of the form"),
            (&["input=99999999999999999999x1"], "not of the form"),
            (&["input=5x28x28"], "does not fit"),
            (&["input=5x3x28x28"], "does not fit"),
            (&["other=3"], "no input and no open dimension `other`"),
        ] {
            let e = infer(texts).unwrap_err().to_string();
            assert!(e.contains(says), "{texts:?}: {e}");
        }
        // Two that are both called `?` are two.
        let mut model = model;
        let dims = &mut model.graph_mut().input[0].type_.mut_or_insert_default().tensor_type.mut_or_insert_default().shape;
        dims.mut_or_insert_default().dim[2..].iter_mut().for_each(|d| d.set_dim_param("?".into()));
        let facts = Facts::infer_with(&model, &Dims::batch(1).with("input=3x1x49x16".parse().unwrap())).unwrap();
        assert_eq!(facts.shape("input"), Some(&[3, 1, 49, 16][..]));
    }
}
