//! `.csv` files: a header line, then one sample a line. All columns or some of them are a sample's values, in the order in
//! which they are named; one column may hold the label.

use super::array::Array;
use super::bytes::{Limits, Spool};
use super::source::printable;
use crate::tensor::DType;
use crate::{Error, Result};
use std::io::Read;

/// The longest line that is read, in bytes: a file without line ends must not fill the memory.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Which columns are the values of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Columns {
    /// All but the one that holds the label.
    All,
    /// These, in this order: one column, or all from one to another.
    Some(Vec<(String, String)>),
}

impl Columns {
    /// `NAME`, `FIRST..LAST`, or several of these with commas between.
    pub(super) fn parse(text: &str) -> Self {
        let span = |item: &str| {
            let (first, last) = item.split_once("..").unwrap_or((item, item));
            (first.trim().to_owned(), last.trim().to_owned())
        };
        Columns::Some(text.split(',').map(span).collect())
    }

    /// The one column that is named.
    pub(super) fn single(&self) -> Option<&str> {
        match self {
            Columns::Some(spans) => spans.first().filter(|(first, last)| spans.len() == 1 && first == last).map(|(name, _)| name.as_str()),
            Columns::All => None,
        }
    }

    /// Their places in the header; `label` is not among all.
    fn find(&self, header: &csv::StringRecord, label: Option<&str>) -> Result<Vec<usize>> {
        let label = label.map(|name| column(header, name)).transpose()?;
        let Columns::Some(spans) = self else { return Ok((0..header.len()).filter(|&c| Some(c) != label).collect()) };
        let mut found = Vec::new();
        for (first, last) in spans {
            let (from, to) = (column(header, first)?, column(header, last)?);
            if from > to {
                let (first, last) = (printable(first), printable(last));
                return Err(Error::bad_input(format!("column `{first}` does not come before `{last}`")));
            }
            found.extend(from..=to);
            if found.len() > header.len() {
                return Err(Error::bad_input("more columns are named than there are"));
            }
        }
        Ok(found)
    }
}

/// Samples [N, columns]: float64, or int64 for an input of integers. `label` names the column that is not a value.
pub(super) fn samples(file: impl Read, columns: &Columns, label: Option<&str>, integers: bool, limits: Limits) -> Result<Array> {
    let find = |header: &csv::StringRecord| columns.find(header, label);
    // The cell itself is a part of a sample and stays out of messages.
    match integers {
        true => read(file, find, |cell| cell.parse().map(i64::to_le_bytes).ok(), "this is not an integer", DType::I64, limits),
        false => {
            let number = |cell: &str| cell.parse().ok().filter(|x: &f64| x.is_finite()).map(f64::to_le_bytes);
            read(file, find, number, "this is not a finite number", DType::F64, limits)
        }
    }
}

/// Class numbers [N] from a column that holds them or class names.
pub(super) fn labels(file: impl Read, name: &str, names: &[String], limits: Limits) -> Result<Array> {
    let find = |header: &csv::StringRecord| Ok(vec![column(header, name)?]);
    let number = |cell: &str| class_number(cell, names).map(i64::to_le_bytes);
    let array = read(file, find, number, "this is neither a class name nor a class number", DType::I64, limits)?;
    Ok(array.flat())
}

/// The cells of some columns as `number` reads them: [N, columns].
fn read(
    file: impl Read,
    find: impl Fn(&csv::StringRecord) -> Result<Vec<usize>>,
    number: impl Fn(&str) -> Option<[u8; 8]>,
    otherwise: &str,
    dtype: DType,
    limits: Limits,
) -> Result<Array> {
    let mut lines = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(LineLimit { inner: file, left: MAX_LINE_BYTES });
    let header = lines.headers().map_err(malformed)?.clone();
    let columns = find(&header)?;
    if columns.is_empty() {
        return Err(Error::bad_input("the table has no column to read beside its labels"));
    }
    let mut spool = Spool::new(limits);
    let mut record = csv::StringRecord::new();
    let mut samples = 0;
    while lines.read_record(&mut record).map_err(malformed)? {
        for &column in &columns {
            let value = record.get(column).and_then(&number).ok_or_else(|| {
                let line = record.position().map_or(0, csv::Position::line);
                Error::bad_input(format!("line {line}, column `{}`: {otherwise}", printable(&header[column])))
            })?;
            spool.write(&value)?;
        }
        samples += 1;
        if spool.length() > limits.unpacked {
            return Err(Error::bad_input("the file has more values than can be loaded").hint("store them as .npy, or as several files"));
        }
    }
    Ok(Array::own(dtype, vec![samples, columns.len()], spool.finish()))
}

fn column(header: &csv::StringRecord, name: &str) -> Result<usize> {
    header.iter().position(|h| h == name).ok_or_else(|| {
        let known: Vec<_> = header.iter().take(20).map(|h| format!("`{}`", printable(h))).collect();
        let more = if header.len() > 20 { ", …" } else { "" };
        Error::bad_input(format!("there is no column `{}`", printable(name))).hint(format!("its columns are {}{more}", known.join(", ")))
    })
}

fn class_number(cell: &str, names: &[String]) -> Option<i64> {
    names.iter().position(|n| n == cell).map(|i| i as i64).or_else(|| cell.parse().ok())
}

/// csv's own words name the line and the counts of columns, never a cell.
fn malformed(e: csv::Error) -> Error {
    match e.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            Error::bad_input(format!("line {line} has {len} columns, the header has {expected_len}"))
        }
        csv::ErrorKind::Utf8 { pos, .. } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            Error::bad_input(format!("line {line} is not UTF-8 text"))
        }
        _ => match e.into_kind() {
            csv::ErrorKind::Io(e) => super::source::broken(e),
            _ => Error::bad_input("the file is not a readable .csv file"),
        },
    }
}

/// Fails when no line ends within `left` bytes.
struct LineLimit<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for LineLimit<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match buffer[..n].contains(&b'\n') {
            true => self.left = MAX_LINE_BYTES,
            false => self.left = self.left.saturating_sub(n as u64),
        }
        if self.left == 0 {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "a line is too long"));
        }
        Ok(n)
    }
}
