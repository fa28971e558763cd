//! `dataset.toml`: read, checked, turned into types that hold only what makes sense.

use super::input::{Input, InputTable};
use super::source::{Source, printable};
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;

/// Descriptions are short; class names of the largest datasets take less than this.
pub(super) const MAX_BYTES: u64 = 4 << 20;
/// The most inputs a model may have here.
const MAX_INPUTS: usize = 256;

/// A checked description.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) name: String,
    pub(super) license: Option<String>,
    pub(super) classes: Vec<String>,
    /// At least one; no two have the same name.
    pub(super) inputs: Vec<Input>,
    pub(super) splits: BTreeMap<String, SplitFiles>,
}

/// The files of one split.
#[derive(Debug, Clone)]
pub(super) struct SplitFiles {
    /// One for each input, in their order.
    pub(super) x: Vec<Source>,
    /// An array, or a column of a table; image folders bring their own.
    pub(super) labels: Option<Source>,
    pub(super) range: Option<Range<usize>>,
}

impl SplitFiles {
    pub(super) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.x.iter().chain(&self.labels)
    }
}

impl Manifest {
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.len() as u64 > MAX_BYTES {
            return Err(Error::bad_input("the file is too long for the description of a dataset"));
        }
        let file: FileTable = toml::from_str(text).map_err(|e| located(text, &e))?;
        let inputs = inputs(file.input, file.inputs)?;
        if file.classes.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::bad_input("`classes` is empty").hint("leave it out to use class numbers, or the names of class folders"));
        }
        if file.splits.is_empty() {
            return Err(
                Error::bad_input("`[splits]` names no split").hint("for example `test = { x = \"test.npz#x\", y = \"test.npz#y\" }`")
            );
        }
        let Task::Classification = file.task;
        let checked = |(name, table): (String, SplitTable)| match table.check(&inputs) {
            Ok(files) => Ok((name, files)),
            Err(e) => Err(e.context(format!("split `{}`", printable(&name)))),
        };
        let splits: BTreeMap<_, _> = file.splits.into_iter().map(checked).collect::<Result<_>>()?;
        for (at, input) in inputs.iter().enumerate() {
            if input.resizes() && !splits.values().any(|s| s.x[at].is_folder()) {
                return Err(Error::bad_input("`resize` is for image folders, and no split has one").hint("remove the key"));
            }
        }
        Ok(Manifest { name: file.name, license: file.license, classes: file.classes.unwrap_or_default(), inputs, splits })
    }
}

/// The one `[input]`, or all `[inputs.NAME]` in the order of their names.
fn inputs(one: Option<InputTable>, several: BTreeMap<String, InputTable>) -> Result<Vec<Input>> {
    match (one, several.is_empty()) {
        (Some(input), true) => Ok(vec![input.check(None).map_err(|e| e.context("`[input]`"))?]),
        (Some(_), false) => Err(Error::bad_input("both `[input]` and `[inputs.NAME]` are there").hint("describe each input once")),
        (None, true) => Err(Error::bad_input("the table `[input]` is missing")),
        (None, false) if several.len() > MAX_INPUTS => Err(Error::bad_input("there are too many inputs")),
        (None, false) => {
            let checked = |(name, table): (String, InputTable)| {
                let at = format!("`[inputs.{}]`", printable(&name));
                table.check(Some(name)).map_err(|e| e.context(at))
            };
            several.into_iter().map(checked).collect()
        }
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
    inputs: BTreeMap<String, InputTable>,
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
struct SplitTable {
    x: toml::Value,
    y: Option<String>,
    label: Option<String>,
    range: Option<[usize; 2]>,
}

impl SplitTable {
    fn check(self, inputs: &[Input]) -> Result<SplitFiles> {
        let x = sources(self.x, inputs)?;
        let range = match self.range {
            Some([start, end]) if start >= end => {
                return Err(Error::bad_input(format!("`range` [{start}, {end}] is empty")).hint("give [first, one past the last]"));
            }
            range => range.map(|[start, end]| start..end),
        };
        let labels = match (self.y.as_deref().map(Source::parse).transpose()?, self.label) {
            (None, None) => None,
            (Some(y), None) if y.is_table() && y.column().is_none() => {
                return Err(Error::bad_input("`y` is a .csv file").hint("name the column that holds the labels: `y = \"FILE.csv#COLUMN\"`"));
            }
            (Some(y), None) if y.is_folder() => {
                return Err(Error::bad_input("`y` is a folder").hint("class folders are labels by themselves: leave `y` out"));
            }
            (Some(y), None) => Some(y),
            (None, Some(label)) => Some(label_column(&x, label)?),
            (Some(_), Some(_)) => return Err(Error::bad_input("both `y` and `label` are given").hint("keep the one that holds the labels")),
        };
        Ok(SplitFiles { x, labels, range })
    }
}

/// The source of each input: `x = "file"` for one, `x = { NAME = "file", … }` for several.
fn sources(x: toml::Value, inputs: &[Input]) -> Result<Vec<Source>> {
    match (x, inputs) {
        (toml::Value::String(x), [_]) => Ok(vec![Source::parse(&x)?]),
        (toml::Value::String(_), _) => {
            Err(Error::bad_input("`x` is one file, but there are several inputs").hint("give one for each: `x = { NAME = \"file\", … }`"))
        }
        (toml::Value::Table(mut files), inputs) => {
            let source = |input: &Input| match files.remove(input.name()) {
                Some(toml::Value::String(file)) => Source::parse(&file),
                Some(other) => Err(Error::bad_input(format!("`x` is of type {}, not the name of a file", other.type_str()))),
                None => Err(Error::bad_input(format!("`x` has no file for the input `{}`", printable(input.name())))),
            };
            let sources = inputs.iter().map(source).collect::<Result<_>>()?;
            match files.keys().next() {
                None => Ok(sources),
                Some(name) => {
                    let known: Vec<_> = inputs.iter().map(|i| format!("`{}`", printable(i.name()))).collect();
                    Err(Error::bad_input(format!("`x` has a file for `{}`, which is no input", printable(name)))
                        .hint(format!("the inputs are {}", known.join(", "))))
                }
            }
        }
        (other, _) => Err(Error::bad_input(format!("`x` is of type {}, not the name of a file", other.type_str()))),
    }
}

/// `label = "COLUMN"`: a column of the one table that holds all samples.
fn label_column(x: &[Source], label: String) -> Result<Source> {
    match x {
        [first, rest @ ..] if first.is_table() && rest.iter().all(|s| s.is_table() && s.same_file(first)) => Ok(first.with_column(label)),
        [first, ..] if first.is_table() => Err(Error::bad_input("`label` is ambiguous: the inputs come from several files")
            .hint("name file and column: `y = \"FILE.csv#COLUMN\"`")),
        _ => Err(Error::bad_input("`label` names a column of a .csv file, which `x` is not").hint("use `y` for an array of labels")),
    }
}
