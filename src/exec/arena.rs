//! Memory that activations hand on to each other.
//!
//! A run makes and drops a few large buffers per node. Given back to the system, each costs page faults when it is made anew; kept,
//! they are warm.

use super::value::Item;
use crate::tensor::Data;

/// Buffers of dropped activations, for one thread.
#[derive(Debug, Default)]
pub(super) struct Arena {
    free: Vec<Vec<f32>>,
}

/// Buffers that are kept at most.
const MOST: usize = 8;

/// Elements from which on a buffer is worth keeping.
const LEAST: usize = 1024;

impl Arena {
    /// `len` elements of any value: the caller writes all of them.
    pub(super) fn take(&mut self, len: usize) -> Vec<f32> {
        let fitting = (0..self.free.len()).filter(|&i| self.free[i].capacity() >= len && self.free[i].capacity() / 4 <= len);
        match fitting.min_by_key(|&i| self.free[i].capacity()) {
            Some(i) => {
                let mut buffer = self.free.swap_remove(i);
                buffer.resize(len, 0.0);
                buffer
            }
            None => vec![0.0; len],
        }
    }

    /// Keeps the memory of a tensor that nobody needs any more.
    pub(super) fn give(&mut self, item: Item) {
        if let Item::Tensor(tensor) = item
            && let Data::F32(buffer) = tensor.into_data()
            && buffer.capacity() >= LEAST
        {
            if self.free.len() == MOST {
                self.free.remove(0);
            }
            self.free.push(buffer);
        }
    }
}
