//! `.csv` files: a header line, then one sample a line; one column may hold the label, the others are the sample's values in
//! the order of the columns.

use super::source::printable;
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};
use std::io::Read;

/// The longest line that is read, in bytes: a file without line ends must not fill the memory.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Samples [N, columns] as float64, and the class numbers [N] from the column `label`, which holds numbers or one of `names`.
pub(super) fn read(file: impl Read, label: Option<&str>, names: &[String], limit: u64) -> Result<(Tensor, Option<Tensor>)> {
    let mut lines = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(LineLimit { inner: file, left: MAX_LINE_BYTES });
    let header = lines.headers().map_err(malformed)?.clone();
    let label_at = label.map(|name| column(&header, name)).transpose()?;
    let width = header.len() - usize::from(label_at.is_some());
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    let mut record = csv::StringRecord::new();
    while lines.read_record(&mut record).map_err(malformed)? {
        let line = record.position().map_or(0, csv::Position::line);
        let at = |column: usize| format!("line {line}, column `{}`", printable(&header[column]));
        for (column, cell) in record.iter().enumerate() {
            if Some(column) == label_at {
                labels.push(
                    class_number(cell, names)
                        .ok_or_else(|| Error::bad_input(format!("{}: this is neither a class name nor a class number", at(column))))?,
                );
            } else {
                let number = cell.parse::<f64>().ok().filter(|x| x.is_finite());
                // The cell itself is a part of a sample and stays out of the message.
                values.push(number.ok_or_else(|| Error::bad_input(format!("{}: this is not a finite number", at(column))))?);
            }
        }
        if (values.len() as u64) * 8 > limit {
            return Err(Error::bad_input("the file has more values than can be loaded").hint("store them as .npz, or as several files"));
        }
    }
    let samples = values.len().checked_div(width).unwrap_or(0);
    let raw = Tensor::new(vec![samples, width], Data::F64(values))?;
    let labels = label_at.map(|_| Tensor::i64s(labels));
    Ok((raw, labels))
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
