//! Known loads: a number of cores, each kept busy by a thread of its own.

use crate::sys::gemm::{Matrix, gemm};
use crate::sys::pin_current_thread;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// What the busy cores do. They differ in what an estimate from CPU time cannot see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Integer arithmetic in registers.
    Integers,
    /// Products of small matrices: wide floating-point units, data in the first caches.
    Matrices,
    /// Sums over 32 MB: memory traffic.
    Memory,
}

impl Work {
    /// All of them.
    pub const ALL: [Work; 3] = [Work::Integers, Work::Matrices, Work::Memory];
}

/// Threads that are busy until this is dropped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Keeps each of `cpus` busy with `work`. A CPU that this process may not use is shared with the others.
    pub fn start(cpus: &[usize], work: Work) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = |cpu: usize| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let _ = pin_current_thread(&[cpu]);
                match work {
                    Work::Integers => integers(&stop),
                    Work::Matrices => matrices(&stop),
                    Work::Memory => memory(&stop),
                }
            })
        };
        let threads = cpus.iter().map(|cpu| thread(*cpu)).collect();
        Load { stop, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|t| drop(t.join()));
    }
}

fn integers(stop: &AtomicBool) {
    let mut state = 1u64;
    while !stop.load(Ordering::Relaxed) {
        // A generator of pseudo-random numbers (Knuth's MMIX): each step needs the one before.
        state = (0..10_000).fold(state, |s, _| s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        std::hint::black_box(state);
    }
}

fn matrices(stop: &AtomicBool) {
    const SIZE: usize = 96;
    let a: Vec<f32> = (0..SIZE * SIZE).map(|i| (i % 7) as f32 / 7.0).collect();
    let mut c = vec![0.0; SIZE * SIZE];
    while !stop.load(Ordering::Relaxed) {
        if let Ok(a) = Matrix::new(&a, SIZE, SIZE) {
            let _ = gemm(1.0, a, a.t(), 0.0, &mut c);
        }
        std::hint::black_box(&c);
    }
}

fn memory(stop: &AtomicBool) {
    const WORDS: usize = 4 << 20;
    const PART: usize = 1 << 14;
    let data = vec![1u64; WORDS];
    while !stop.load(Ordering::Relaxed) {
        for part in data.chunks(PART) {
            std::hint::black_box(part.iter().fold(0u64, |sum, x| sum.wrapping_add(*x)));
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use crate::sys::process_cpu_time;
    use std::time::{Duration, Instant};

    #[test]
    fn every_work_uses_the_cpu_and_ends() {
        for work in Work::ALL {
            let before = process_cpu_time(std::process::id()).unwrap();
            let load = Load::start(&[0, 0], work);
            let deadline = Instant::now() + Duration::from_secs(60);
            while process_cpu_time(std::process::id()).unwrap() - before < Duration::from_millis(10) {
                assert!(Instant::now() < deadline);
                std::thread::yield_now();
            }
            drop(load);
        }
    }
}
