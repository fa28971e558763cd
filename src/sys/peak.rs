//! How fast this machine can multiply and move data at best: the two edges of a roofline (Williams, Waterman, Patterson,
//! *Roofline: an insightful visual performance model for multicore architectures*, CACM 52(4), 2009).
//!
//! Both are the best of many short pieces, because all that disturbs makes them slower. They run on the calling thread's cores.

use super::gemm::{Matrix, gemm};
use super::tile::{LARGEST, Tile};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// What a number of threads reach together at best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// Floating-point operations per second in float32, two for each fused multiply–add: the better of this program's own tile of
    /// registers and its matrix product, on operands in the first-level cache.
    pub flops: f64,
    /// Bytes per second of a triad `a[i] = b[i] + s·c[i]` over three arrays that together are as large as the working set asked
    /// for. Counted are the bytes that the program reads and writes, three per element, as in STREAM.
    pub bytes_per_s: f64,
    /// The working set.
    pub working_set: u64,
    /// Threads.
    pub threads: usize,
}

/// Largest working set of the triad: beyond it the caches of any machine are left behind.
const MOST_BYTES: usize = 192 << 20;
/// Smallest: below it the loop's ends would count.
const LEAST_BYTES: usize = 24 << 10;
/// Time for each of the three micro-benchmarks.
const SPAN: Duration = Duration::from_millis(60);
/// One piece takes about that long: short enough to fall between interruptions, long for the clock.
const PIECE: Duration = Duration::from_micros(200);

impl Peak {
    /// Measures `threads` threads at once, over a working set of about `working_set` bytes for all together. Takes about 0.2 s.
    ///
    /// ```
    /// let peak = joulefront::sys::peak::Peak::measure(1, 1 << 20);
    /// assert!(peak.flops > 1e6 && peak.bytes_per_s > 1e6);
    /// ```
    pub fn measure(threads: usize, working_set: u64) -> Peak {
        let threads = threads.clamp(1, 1024);
        let bytes = usize::try_from(working_set).unwrap_or(MOST_BYTES).clamp(LEAST_BYTES, MOST_BYTES);
        let flops = on_threads(threads, tile).max(on_threads(threads, product));
        let bytes_per_s = on_threads(threads, |start| moved(bytes / threads, start));
        Peak { flops, bytes_per_s, working_set: bytes as u64, threads }
    }
}

/// The sum of what `work` reaches on each thread, all of them running at the same time.
fn on_threads(threads: usize, work: impl Fn(&Barrier) -> f64 + Sync) -> f64 {
    let start = Barrier::new(threads);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| work(&start))).collect();
        let own = work(&start);
        own + others.into_iter().filter_map(|t| t.join().ok()).sum::<f64>()
    })
}

/// The best rate of `work`, each call of which is worth `amount`, in pieces of several calls.
fn best(amount: f64, start: &Barrier, mut work: impl FnMut()) -> f64 {
    let mut time = |calls: u32| {
        let began = Instant::now();
        (0..calls).for_each(|_| work());
        began.elapsed().max(Duration::from_nanos(1))
    };
    let once = time(1).min(time(1));
    let calls = (PIECE.as_secs_f64() / once.as_secs_f64()).clamp(1.0, 1e6) as u32;
    start.wait();
    let (began, mut rate) = (Instant::now(), 0.0f64);
    while began.elapsed() < SPAN {
        rate = rate.max(amount * f64::from(calls) / time(calls).as_secs_f64());
    }
    rate
}

/// The tile of registers of the reference convolution.
fn tile(start: &Barrier) -> f64 {
    const DEPTH: usize = 64;
    let tile = Tile::best();
    let (rows, columns) = (tile.rows(), tile.columns());
    let weights = vec![0.5f32; DEPTH * rows];
    let offsets: Vec<usize> = (0..DEPTH).collect();
    let frame = vec![0.25f32; DEPTH + columns];
    let mut out = [0.0f32; LARGEST];
    best((2 * DEPTH * rows * columns) as f64, start, || tile.sum(black_box(&weights), &offsets, &frame, black_box(&mut out)))
}

/// The matrix product that calibration and repair use.
fn product(start: &Barrier) -> f64 {
    const N: usize = 96;
    let (a, b, mut c) = (vec![0.5f32; N * N], vec![0.25f32; N * N], vec![0.0f32; N * N]);
    let (Ok(a), Ok(b)) = (Matrix::new(&a, N, N), Matrix::new(&b, N, N)) else { return 0.0 };
    best((2 * N * N * N) as f64, start, || drop(gemm(1.0, black_box(a), b, 0.0, black_box(&mut c))))
}

fn moved(bytes: usize, start: &Barrier) -> f64 {
    let n = bytes / 12;
    let (mut a, b, c) = (vec![0.0f32; n], vec![1.0f32; n], vec![2.0f32; n]);
    best(12.0 * n as f64, start, || triad(black_box(&mut a), black_box(&b), black_box(&c)))
}

fn triad(a: &mut [f32], b: &[f32], c: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the CPU has these instructions.
            return unsafe { wide::avx512(a, b, c) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { wide::avx2(a, b, c) };
        }
    }
    plain(a, b, c);
}

#[inline(always)]
fn plain(a: &mut [f32], b: &[f32], c: &[f32]) {
    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
        *a = b + 0.5 * c;
    }
}

/// The same loop, compiled for wider registers: in the first-level cache narrow ones are what limits it.
#[cfg(target_arch = "x86_64")]
mod wide {
    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512(a: &mut [f32], b: &[f32], c: &[f32]) {
        super::plain(a, b, c);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(a: &mut [f32], b: &[f32], c: &[f32]) {
        super::plain(a, b, c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_triad_is_what_it_says() {
        let (b, c): (Vec<f32>, Vec<f32>) = (0..37u8).map(|i| (f32::from(i), 2.0 * f32::from(i))).unzip();
        let mut a = vec![0.0; 37];
        triad(&mut a, &b, &c);
        assert!(a.iter().zip(&b).all(|(a, b)| *a == 2.0 * b));
    }

    #[test]
    fn every_working_set_gives_rates() {
        for (threads, bytes) in [(0, 0), (1, 1 << 16), (2, u64::MAX >> 40)] {
            let peak = Peak::measure(threads, bytes);
            assert!(peak.flops > 0.0 && peak.flops.is_finite() && peak.bytes_per_s > 0.0 && peak.bytes_per_s.is_finite(), "{peak:?}");
            assert!(peak.threads >= 1 && peak.working_set >= LEAST_BYTES as u64, "{peak:?}");
        }
    }
}
