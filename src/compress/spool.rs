//! Tensors that wait to be read: in memory up to a budget, beyond it in an unnamed temporary file, so that memory does not grow
//! with the number of calibration samples. Where a tensor waits changes none of its bits.

use crate::tensor::{Data, Tensor};
use crate::{Error, Result};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that one spool keeps in memory.
const BUDGET: u64 = 96 << 20;

/// Where tensors wait.
#[derive(Debug)]
pub(super) struct Spool {
    budget: u64,
    state: Mutex<State>,
}

/// What is in memory, and the file with its holes by their length.
#[derive(Debug, Default)]
struct State {
    in_memory: u64,
    file: Option<Arc<File>>,
    end: u64,
    holes: HashMap<u64, Vec<u64>>,
}

/// A tensor that waits.
#[derive(Debug)]
pub(super) enum Waiting {
    /// In memory.
    Memory(Tensor),
    /// In the file, at this place: float32, little-endian.
    File { shape: Vec<usize>, at: u64 },
}

impl Spool {
    pub(super) fn new() -> Self {
        Self::with_budget(BUDGET)
    }

    pub(super) fn with_budget(budget: u64) -> Self {
        Spool { budget, state: Mutex::default() }
    }

    /// Takes a tensor. Only float32 goes to the file: all that is large is.
    ///
    /// # Errors
    /// The temporary file cannot be made or written.
    pub(super) fn keep(&self, tensor: Tensor) -> Result<Waiting> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Data::F32(values) = tensor.data() else { return Ok(Waiting::Memory(tensor)) };
        let size = bytes(values.len());
        if state.in_memory + size <= self.budget {
            state.in_memory += size;
            return Ok(Waiting::Memory(tensor));
        }
        let at = match state.holes.get_mut(&size).and_then(Vec::pop) {
            Some(at) => at,
            None => {
                state.end += size;
                state.end - size
            }
        };
        let file = match &state.file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(state.file.insert(Arc::new(tempfile::tempfile().map_err(|e| Error::write(std::env::temp_dir(), e))?))),
        };
        // The place is ours alone: others may write and read meanwhile.
        drop(state);
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        file.write_all_at(&raw, at).map_err(|e| Error::write(std::env::temp_dir(), e))?;
        Ok(Waiting::File { shape: tensor.shape().to_vec(), at })
    }

    /// Shows a tensor.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub(super) fn read<'t>(&self, waiting: &'t Waiting) -> Result<Cow<'t, Tensor>> {
        let (shape, at) = match waiting {
            Waiting::Memory(tensor) => return Ok(Cow::Borrowed(tensor)),
            Waiting::File { shape, at } => (shape, *at),
        };
        let file = self.state.lock().unwrap_or_else(PoisonError::into_inner).file.clone();
        let mut raw = vec![0; bytes(shape.iter().product()) as usize];
        let file = file.ok_or_else(|| Error::bad_input("nothing was written to the temporary file"))?;
        file.read_exact_at(&mut raw, at).map_err(|e| Error::read(std::env::temp_dir(), e))?;
        let (values, _) = raw.as_chunks::<4>();
        Tensor::f32(shape.clone(), values.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>()).map(Cow::Owned)
    }

    /// Lets a tensor go.
    pub(super) fn free(&self, waiting: Waiting) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting {
            Waiting::Memory(tensor) => {
                if let Data::F32(values) = tensor.data() {
                    state.in_memory = state.in_memory.saturating_sub(bytes(values.len()));
                }
            }
            Waiting::File { shape, at } => state.holes.entry(bytes(shape.iter().product())).or_default().push(at),
        }
    }
}

impl Waiting {
    /// Its dimensions.
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Waiting::Memory(tensor) => tensor.shape(),
            Waiting::File { shape, .. } => shape,
        }
    }
}

fn bytes(elements: usize) -> u64 {
    4 * elements as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is kept and freed in whatever order comes back bit for bit.
        #[test]
        fn tensors_come_back(budget in 0u64..200, steps in prop::collection::vec((0usize..3, 1usize..20, any::<u32>()), 1..60)) {
            let spool = Spool::with_budget(budget);
            let mut kept: Vec<(Waiting, Vec<f32>)> = Vec::new();
            for (what, size, bits) in steps {
                if what == 0 && !kept.is_empty() {
                    let (waiting, _) = kept.remove(size % kept.len());
                    spool.free(waiting);
                } else {
                    let values: Vec<f32> = (0..size as u32).map(|i| f32::from_bits(bits.wrapping_add(i * 77_777))).collect();
                    let waiting = spool.keep(Tensor::f32([size], values.clone()).unwrap()).unwrap();
                    prop_assert_eq!(waiting.shape(), [size]);
                    kept.push((waiting, values));
                }
                for (waiting, values) in &kept {
                    let read = spool.read(waiting).unwrap();
                    prop_assert!(read.as_f32().unwrap().iter().zip(values).all(|(a, b)| a.to_bits() == b.to_bits()));
                }
            }
            prop_assert!(spool.state.lock().unwrap().in_memory <= budget);
        }
    }
}
