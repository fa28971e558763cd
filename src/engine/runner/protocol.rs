//! What parent and child say to each other: one JSON line per message, which announces how many bytes follow it.
//!
//! Tensors travel as their little-endian elements, one input after the other in the order of the model's inputs; types and
//! shapes are known on both sides from the [`Reply::Loaded`] message.

use crate::engine::{Found, Spec};
use crate::model::eval::{f32_from_bf16, f32_from_f16};
use crate::sys::peak::Peak;
use crate::tensor::{DType, Data, Tensor};
use crate::units::Bytes;
use crate::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;

/// Prepared inputs that a child keeps at most.
pub const MAX_SLOTS: usize = 64;

/// A header line longer than this is no message of ours.
const MAX_LINE: u64 = 1 << 20;

/// Bytes of a payload that are set aside before they arrive: a lying header must not make us allocate without bound.
const FIRST_ALLOCATION: usize = 1 << 20;

/// What the parent asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(super) enum Request {
    /// Say whether an engine is there.
    Find { engine: String },
    /// Pin and bound the process, and load a model.
    Load {
        model: PathBuf,
        engine: String,
        threads: usize,
        batch: usize,
        dims: BTreeMap<String, usize>,
        shapes: BTreeMap<String, Vec<usize>>,
        symbolic: bool,
        cpus: Vec<usize>,
        /// Memory for data that the process may have, bytes.
        memory: Option<u64>,
        /// CPU time that one answer may take.
        cpu_s: f64,
    },
    /// Prepare the inputs in the payload as the slots of the rotation, in place of earlier ones.
    Prepare,
    /// Exactly `n` inferences, rotating over the slots.
    Run { n: u64 },
    /// Exactly `n` inferences at random arrivals, `rate` per second on average.
    Serve { n: u64, rate: f64, seed: u64 },
    /// The latencies of the last run.
    Latencies,
    /// Outputs for the `samples` samples in the payload.
    Infer { samples: usize },
    /// Memory used so far.
    Memory,
    /// `runs` runs over the prepared inputs with a clock at each node.
    Profile { runs: u64 },
    /// What this machine reaches at best on `threads` threads over a working set of so many bytes.
    Peak { threads: usize, working_set: u64 },
}

/// What the child answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Reply {
    Found {
        found: Found,
    },
    Loaded {
        inputs: Vec<WireSpec>,
        outputs: Vec<WireSpec>,
        before: Memory,
        load_ns: u64,
    },
    Prepared {
        slots: usize,
    },
    Ran {
        wall_ns: u64,
        cpu_ns: u64,
    },
    Latencies,
    Inferred,
    Memory {
        memory: Memory,
    },
    /// The nodes are the payload, as JSON: there may be thousands.
    Profiled {
        runs: u64,
        wall_ns: u64,
        took_ns: u64,
        cpu_ns: u64,
    },
    Peak {
        peak: Peak,
    },
    Failed {
        kind: FaultKind,
        message: String,
        hint: Option<String>,
    },
}

/// Memory of a process, as Linux reports it in `/proc/self/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Largest resident set so far (`VmHWM`).
    pub peak: Bytes,
    /// Resident set now (`VmRSS`).
    pub now: Bytes,
}

/// [`ErrorKind`] on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FaultKind {
    BadInput,
    Engine,
    Environment,
}

/// [`Spec`] on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireSpec {
    name: String,
    dtype: String,
    shape: Vec<usize>,
}

#[derive(Serialize, Deserialize)]
struct Header<T> {
    #[serde(flatten)]
    body: T,
    #[serde(default)]
    payload: u64,
}

impl Reply {
    /// An error as the child reports it.
    pub(super) fn failed(e: &Error) -> Reply {
        let kind = match e.kind() {
            ErrorKind::BadInput => FaultKind::BadInput,
            ErrorKind::Environment => FaultKind::Environment,
            _ => FaultKind::Engine,
        };
        Reply::Failed { kind, message: e.to_string(), hint: e.hint_text().map(str::to_owned) }
    }
}

impl FaultKind {
    /// The error on the parent's side.
    pub(super) fn into_error(self, message: String, hint: Option<String>) -> Error {
        let kind = match self {
            FaultKind::BadInput => ErrorKind::BadInput,
            FaultKind::Engine => ErrorKind::Engine,
            FaultKind::Environment => ErrorKind::Environment,
        };
        let e = Error::new(kind, message);
        match hint {
            Some(hint) => e.hint(hint),
            None => e,
        }
    }
}

impl From<&Spec> for WireSpec {
    fn from(s: &Spec) -> Self {
        WireSpec { name: s.name.clone(), dtype: s.dtype.name().to_owned(), shape: s.shape.clone() }
    }
}

impl WireSpec {
    /// `None` for a type that this side does not know, and for dimensions whose product no memory could hold.
    fn spec(&self) -> Option<Spec> {
        let dtype = DType::ALL.into_iter().find(|t| t.name() == self.dtype)?;
        bytes(&self.shape)?;
        Some(Spec { name: self.name.clone(), dtype, shape: self.shape.clone() })
    }
}

/// What the child says of the model's inputs or outputs; `None` when some of it cannot be.
pub(super) fn specs(wire: &[WireSpec]) -> Option<Vec<Spec>> {
    wire.iter().map(WireSpec::spec).collect()
}

/// Bytes of a tensor of the widest type, axes of length 0 counted as 1, so that a first axis may be replaced.
fn bytes(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(8usize, |n, &d| n.checked_mul(d.max(1))).filter(|&n| n <= isize::MAX as usize)
}

/// Writes the header line of a message whose payload has `payload` bytes; the caller sends these next.
pub(super) fn write_header<T: Serialize>(to: &mut impl Write, body: &T, payload: usize) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Header { body, payload: payload as u64 })?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads one message with its payload; `None` at the end of the stream.
///
/// # Errors
/// The stream fails, ends inside a message, or holds something else than a message ([`io::ErrorKind::InvalidData`]).
pub(super) fn read_message<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut line = Vec::new();
    if from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if !line.ends_with(b"\n") && (line.len() as u64) < MAX_LINE {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the line is cut short"));
    }
    let header: Header<T> = serde_json::from_slice(&line).map_err(|_| {
        let start: String = String::from_utf8_lossy(&line).trim_end().chars().take(60).collect();
        io::Error::new(io::ErrorKind::InvalidData, start)
    })?;
    let expected = usize::try_from(header.payload).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut payload = Vec::with_capacity(expected.min(FIRST_ALLOCATION));
    from.take(header.payload).read_to_end(&mut payload)?;
    if payload.len() < expected {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} of {expected} bytes came", payload.len())));
    }
    Ok(Some((header.body, payload)))
}

/// The outputs for `samples` samples, as float32, that `payload` is; `None` when it is longer or shorter.
pub(super) fn outputs(specs: &[Spec], samples: usize, payload: &[u8]) -> Option<Vec<Tensor>> {
    let (mut floats, rest) = payload.as_chunks();
    let mut tensors = Vec::with_capacity(specs.len());
    for spec in specs {
        let shape = with_samples(spec, samples).shape;
        bytes(&shape)?;
        let (own, others) = floats.split_at_checked(shape.iter().product())?;
        floats = others;
        tensors.push(Tensor::new(shape, Data::F32(own.iter().map(|&b| f32::from_le_bytes(b)).collect())).ok()?);
    }
    (floats.is_empty() && rest.is_empty()).then_some(tensors)
}

/// The same for `samples` samples.
pub(super) fn with_samples(spec: &Spec, samples: usize) -> Spec {
    let mut spec = spec.clone();
    if let Some(first) = spec.shape.first_mut() {
        *first = samples;
    }
    spec
}

/// The tensor of `spec` that `bytes` are.
///
/// # Errors
/// The number of bytes does not fit.
pub(super) fn tensor(spec: &Spec, bytes: &[u8]) -> Result<Tensor> {
    let data = crate::onnx::elements_from_le(spec.dtype, bytes, spec.shape.iter().product());
    let data = data.ok_or_else(|| Error::bad_input(format!("{} bytes are no `{}` {:?}", bytes.len(), spec.name, spec.shape)))?;
    Tensor::new(spec.shape.clone(), data)
}

/// The first `n` bytes of `payload`, which moves on past them.
///
/// # Errors
/// There are fewer.
pub(super) fn take<'a>(payload: &mut &'a [u8], n: usize) -> Result<&'a [u8]> {
    let (front, rest) = payload.split_at_checked(n).ok_or_else(|| Error::bad_input("the payload ends in the middle of a tensor"))?;
    *payload = rest;
    Ok(front)
}

/// The elements as `f32`: the form in which outputs travel.
pub(super) fn as_floats(data: Data) -> Vec<f32> {
    match data {
        Data::F32(v) => v,
        Data::F64(v) => v.into_iter().map(|x| x as f32).collect(),
        Data::F16(v) => v.into_iter().map(f32_from_f16).collect(),
        Data::BF16(v) => v.into_iter().map(f32_from_bf16).collect(),
        Data::U16(v) => v.into_iter().map(f32::from).collect(),
        Data::U32(v) => v.into_iter().map(|x| x as f32).collect(),
        Data::U64(v) => v.into_iter().map(|x| x as f32).collect(),
        Data::I4(v) | Data::I8(v) => v.into_iter().map(f32::from).collect(),
        Data::I16(v) => v.into_iter().map(f32::from).collect(),
        Data::I32(v) => v.into_iter().map(|x| x as f32).collect(),
        Data::I64(v) => v.into_iter().map(|x| x as f32).collect(),
        Data::U4(v) | Data::U8(v) => v.into_iter().map(f32::from).collect(),
        Data::Bool(v) => v.into_iter().map(|b| f32::from(u8::from(b))).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn messages_and_payloads_round_trip() {
        let mut wire = Vec::new();
        let requests = [
            (Request::Run { n: 7 }, vec![]),
            (Request::Prepare, vec![1u8, 2, b'\n', 3]),
            (Request::Infer { samples: 2 }, vec![0; 100_000]),
        ];
        for (request, payload) in &requests {
            write_header(&mut wire, request, payload.len()).unwrap();
            wire.extend(payload);
        }
        let mut from = wire.as_slice();
        for expect in requests {
            assert_eq!(read_message::<Request>(&mut from).unwrap(), Some(expect));
        }
        assert_eq!(read_message::<Request>(&mut from).unwrap(), None);
    }

    #[test]
    fn outputs_that_are_not_there_are_none() {
        let spec = |shape: &[usize]| WireSpec { name: "y".into(), dtype: "float32".into(), shape: shape.to_vec() };
        let known = specs(&[spec(&[1, 2]), spec(&[1])]).unwrap();
        let payload: Vec<u8> = [1.0f32, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let read = outputs(&known, 1, &payload).unwrap();
        assert_eq!((read[0].as_f32().unwrap(), read[1].as_f32().unwrap()), (&[1.0, 2.0][..], &[3.0][..]));
        assert!(outputs(&known, 1, &payload[..11]).is_none() && outputs(&known, 2, &payload).is_none());
        assert!(outputs(&known[..1], 1, &payload).is_none(), "longer than the outputs");
        // Products that wrap around to something small must not pass.
        assert!(specs(&[spec(&[1 << 32, 1 << 32])]).is_none() && specs(&[spec(&[0, usize::MAX])]).is_none());
        assert!(outputs(&known, usize::MAX / 2 + 1, &payload).is_none());
        assert!(specs(&[WireSpec { dtype: "float1".into(), ..spec(&[1]) }]).is_none());
    }

    #[test]
    fn garbage_and_cut_messages_are_errors() {
        for (wire, kind) in [
            ("hello\n", io::ErrorKind::InvalidData),
            ("{\"ask\":\"fly\"}\n", io::ErrorKind::InvalidData),
            ("{\"ask\":\"pre", io::ErrorKind::UnexpectedEof),
            ("{\"ask\":\"prepare\",\"payload\":18446744073709551615}\nabc", io::ErrorKind::UnexpectedEof),
        ] {
            assert_eq!(read_message::<Request>(&mut wire.as_bytes()).unwrap_err().kind(), kind, "{wire}");
        }
    }
}
