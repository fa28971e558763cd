//! `dataset.toml`: read, checked, turned into types that hold only what makes sense.

use super::source::{Source, printable};
use crate::tensor::DType;
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;

/// Descriptions are short; class names of the largest datasets take less than this.
pub(super) const MAX_BYTES: u64 = 4 << 20;

/// A checked description.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) name: String,
    pub(super) license: Option<String>,
    pub(super) classes: Vec<String>,
    pub(super) input: Input,
    pub(super) splits: BTreeMap<String, SplitFiles>,
}

/// The files of one split.
#[derive(Debug, Clone)]
pub(super) struct SplitFiles {
    pub(super) x: Source,
    pub(super) labels: Labels,
    pub(super) range: Option<Range<usize>>,
}

/// Where the labels of a split are.
#[derive(Debug, Clone)]
pub(super) enum Labels {
    None,
    /// In an array of their own.
    Array(Source),
    /// In this column of the table that holds the samples.
    Column(String),
}

impl SplitFiles {
    pub(super) fn sources(&self) -> impl Iterator<Item = &Source> {
        let y = if let Labels::Array(y) = &self.labels { Some(y) } else { None };
        std::iter::once(&self.x).chain(y)
    }
}

/// The model's input and how a raw value becomes it: `(raw * scale - mean) / std` per channel (first axis of the shape) for
/// a float input; integer inputs take raw integers as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    name: String,
    shape: Vec<usize>,
    dtype: DType,
    scale: f64,
    /// One per channel.
    mean: Vec<f64>,
    /// One per channel.
    std: Vec<f64>,
}

impl Input {
    /// The name of the model's input.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Dimensions of one sample, without the batch axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Element type the model takes: float32 or an integer type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Elements of one sample.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Factor on raw values.
    pub(super) fn scale(&self) -> f64 {
        self.scale
    }

    /// (mean, std) of each channel.
    pub(super) fn channels(&self) -> impl Iterator<Item = (f64, f64)> + Clone {
        self.mean.iter().copied().zip(self.std.iter().copied())
    }
}

impl Manifest {
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.len() as u64 > MAX_BYTES {
            return Err(Error::bad_input("the file is too long for the description of a dataset"));
        }
        let file: FileTable = toml::from_str(text).map_err(|e| located(text, &e))?;
        if !file.inputs.is_empty() {
            return Err(Error::bad_input("several inputs (`[inputs.NAME]`) are not supported yet")
                .hint("describe the one input of the model in `[input]`"));
        }
        let input = file.input.ok_or_else(|| Error::bad_input("the table `[input]` is missing"))?;
        if file.classes.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::bad_input("`classes` is empty").hint("leave it out to use class numbers"));
        }
        if file.splits.is_empty() {
            return Err(
                Error::bad_input("`[splits]` names no split").hint("for example `test = { x = \"test.npz#x\", y = \"test.npz#y\" }`")
            );
        }
        let Task::Classification = file.task;
        let checked = |(name, table): (String, SplitTable)| match table.check() {
            Ok(files) => Ok((name, files)),
            Err(e) => Err(e.context(format!("split `{}`", printable(&name)))),
        };
        Ok(Manifest {
            name: file.name,
            license: file.license,
            classes: file.classes.unwrap_or_default(),
            input: input.check().map_err(|e| e.context("`[input]`"))?,
            splits: file.splits.into_iter().map(checked).collect::<Result<_>>()?,
        })
    }
}

/// The parser's own message, which names an unknown key and the known ones, with the line.
fn located(text: &str, e: &toml::de::Error) -> Error {
    let message = printable(e.message());
    match e.span().and_then(|span| text.as_bytes().get(..span.start)) {
        Some(before) => Error::bad_input(format!("line {}: {message}", 1 + before.iter().filter(|&&b| b == b'\n').count())),
        None => Error::bad_input(message),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTable {
    name: String,
    license: Option<String>,
    #[serde(default)]
    task: Task,
    classes: Option<Vec<String>>,
    input: Option<InputTable>,
    #[serde(default)]
    inputs: toml::Table,
    splits: BTreeMap<String, SplitTable>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Task {
    #[default]
    Classification,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputTable {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    scale: Option<f64>,
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
}

impl InputTable {
    fn check(self) -> Result<Input> {
        let elements = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n as u64 <= 1 << 32);
        if elements.is_none_or(|n| n == 0) {
            return Err(Error::bad_input(format!("`shape` {:?} is not the shape of a sample", self.shape)));
        }
        const DTYPES: [DType; 6] = [DType::F32, DType::U8, DType::I8, DType::I16, DType::I32, DType::I64];
        let Some(dtype) = DTYPES.into_iter().find(|d| d.name() == self.dtype) else {
            let known = DTYPES.map(|d| format!("`{}`", d.name())).join(", ");
            return Err(Error::bad_input(format!("unknown `dtype` `{}`", printable(&self.dtype))).hint(format!("known are {known}")));
        };
        let channels = self.shape.first().copied().unwrap_or(1);
        let input = Input {
            name: self.name,
            shape: self.shape,
            dtype,
            scale: self.scale.unwrap_or(1.0),
            mean: per_channel("mean", self.mean, 0.0, channels)?,
            std: per_channel("std", self.std, 1.0, channels)?,
        };
        if !input.scale.is_finite() || input.scale == 0.0 {
            return Err(Error::bad_input(format!("`scale` {} makes every value the same", input.scale)));
        }
        if let Some(std) = input.std.iter().find(|s| **s <= 0.0) {
            return Err(Error::bad_input(format!("`std` {std} is not positive")));
        }
        if dtype != DType::F32 && (input.scale != 1.0 || input.channels().any(|c| c != (0.0, 1.0))) {
            return Err(Error::bad_input(format!("`scale`, `mean` and `std` do not apply to `dtype` `{}`", dtype.name()))
                .hint("integers are passed as they are; remove these keys or use `float32`"));
        }
        Ok(input)
    }
}

/// One number for each channel: from as many, from one for all, or the default.
fn per_channel(key: &str, given: Option<Vec<f64>>, default: f64, channels: usize) -> Result<Vec<f64>> {
    let given = given.unwrap_or_else(|| vec![default]);
    if let Some(x) = given.iter().find(|x| !x.is_finite()) {
        return Err(Error::bad_input(format!("`{key}` holds {x}, which is not a finite number")));
    }
    match given.as_slice() {
        [one] => Ok(vec![*one; channels]),
        all if all.len() == channels => Ok(given),
        all => Err(Error::bad_input(format!("`{key}` has {} numbers for {channels} channels (first axis of `shape`)", all.len()))
            .hint("give one number for each channel, or one for all")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitTable {
    x: toml::Value,
    y: Option<String>,
    label: Option<String>,
    range: Option<[usize; 2]>,
}

impl SplitTable {
    fn check(self) -> Result<SplitFiles> {
        let x = match self.x {
            toml::Value::String(x) => x,
            toml::Value::Table(_) => {
                return Err(Error::bad_input("several inputs (`x = { NAME = … }`) are not supported yet").hint("give one file for `x`"));
            }
            other => return Err(Error::bad_input(format!("`x` is of type {}, not the name of a file", other.type_str()))),
        };
        let range = match self.range {
            Some([start, end]) if start >= end => {
                return Err(Error::bad_input(format!("`range` [{start}, {end}] is empty")).hint("give [first, one past the last]"));
            }
            range => range.map(|[start, end]| start..end),
        };
        let x = Source::parse(&x)?;
        let labels = match (self.y.as_deref().map(Source::parse).transpose()?, self.label) {
            (None, None) => Labels::None,
            (Some(y), None) if y.is_table() => {
                return Err(Error::bad_input("`y` is a .csv file").hint("labels in a .csv file are a column of `x`: `label = \"COLUMN\"`"));
            }
            (Some(y), None) => Labels::Array(y),
            (None, Some(label)) if x.is_table() => Labels::Column(label),
            (None, Some(_)) => {
                return Err(
                    Error::bad_input("`label` names a column of a .csv file, which `x` is not").hint("use `y` for an array of labels")
                );
            }
            (Some(_), Some(_)) => return Err(Error::bad_input("both `y` and `label` are given").hint("keep the one that holds the labels")),
        };
        Ok(SplitFiles { x, labels, range })
    }
}
