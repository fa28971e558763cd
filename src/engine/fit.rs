//! Whether a dataset's inputs are those of a model.

use crate::data::{Dataset, Input};
use crate::model::Graph;
use crate::onnx::{Model, dtype_from_onnx, pb};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// How a model takes the samples of a dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fit {
    /// Names of the model's inputs in their order, which is that of [`crate::data::Split::batches`].
    pub inputs: Vec<String>,
    /// What the samples' shapes say of the model's symbolic dimensions other than the batch: for
    /// [`super::LoadOptions::dims`].
    pub dims: BTreeMap<String, usize>,
}

impl Fit {
    /// Checks that the dataset has every input of the model, of the same shape but for the batch axis and of the same type.
    /// Inputs that the model does not take are left aside.
    ///
    /// # Errors
    /// An input is missing, or has another shape or type; the message names it.
    pub fn check(model: &Model, data: &Dataset) -> Result<Self> {
        let graph = Graph::new(model);
        let mut fit = Fit { inputs: Vec::new(), dims: BTreeMap::new() };
        for wanted in graph.inputs() {
            let given = data.inputs().iter().find(|i| i.name() == wanted.name()).ok_or_else(|| missing(wanted.name(), data))?;
            fit.add(wanted, given)?;
            fit.inputs.push(wanted.name().to_owned());
        }
        Ok(fit)
    }

    fn add(&mut self, wanted: &pb::ValueInfoProto, given: &Input) -> Result<()> {
        let name = wanted.name();
        let type_ = &wanted.type_.tensor_type;
        if let Some(dtype) = dtype_from_onnx(type_.elem_type()).filter(|&d| d != given.dtype()) {
            return Err(Error::bad_input(format!("the input `{name}` takes {}, the dataset gives {}", dtype.name(), given.dtype().name()))
                .hint(format!("set `dtype = \"{}\"` for it in dataset.toml", dtype.name())));
        }
        let dims = &type_.shape.dim;
        let fixed = |d: &pb::tensor_shape_proto::Dimension| usize::try_from(d.dim_value()).ok().filter(|&n| n > 0);
        let fits = dims.len() == given.shape().len() + 1
            && dims.iter().skip(1).zip(given.shape()).all(|(dim, &size)| fixed(dim).is_none_or(|n| n == size));
        if !fits {
            let name_of = |d: &pb::tensor_shape_proto::Dimension| match fixed(d) {
                Some(n) => n.to_string(),
                None if d.dim_param().is_empty() => "?".to_owned(),
                None => d.dim_param().to_owned(),
            };
            let sample: Vec<String> = dims.iter().skip(1).map(name_of).collect();
            return Err(Error::bad_input(format!(
                "the input `{name}` takes samples of shape [{}], the dataset gives {:?}",
                sample.join(", "),
                given.shape()
            ))
            .hint("give the dataset the model was trained for, or correct its `shape` in dataset.toml"));
        }
        let batch = dims.first().map_or("", |d| d.dim_param());
        for (dim, &size) in dims.iter().skip(1).zip(given.shape()) {
            let symbol = dim.dim_param();
            if symbol.is_empty() || symbol == batch {
                continue;
            }
            let before = *self.dims.entry(symbol.to_owned()).or_insert(size);
            if before != size {
                return Err(Error::bad_input(format!("the dimension `{symbol}` is {before} in one input and {size} in `{name}`"))
                    .hint("correct the `shape` of the inputs in dataset.toml"));
            }
        }
        Ok(())
    }
}

fn missing(name: &str, data: &Dataset) -> Error {
    let given: Vec<_> = data.inputs().iter().map(|i| format!("`{}`", i.name())).collect();
    let hint = match data.inputs() {
        [_] => format!("set `name = \"{name}\"` under `[input]` in dataset.toml"),
        _ => format!("describe it under `[inputs.{name}]` in dataset.toml"),
    };
    Error::bad_input(format!("the model takes the input `{name}`, the dataset `{}` gives {}", data.name(), given.join(", "))).hint(hint)
}
