//! The inner loop of convolutions: weighted sums of rows that are read at given offsets of one array.
//!
//! `sums[m][n] = Σ_k weights[k][m] · frame[offsets[k] + n]`: the rows need not be gathered into a matrix first, and many sums stay in
//! registers. The widest instructions that the CPU has are used; each sum is taken in the order of `k` with fused multiply–adds, so
//! AVX2 and AVX-512 give the same bits.

/// Columns of a tile with a single row.
pub const SINGLE: usize = 64;

/// The most elements a tile has.
pub const LARGEST: usize = 8 * 48;

/// The instructions that tiles are computed with, and with them the shape of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile(Instructions);

/// Private, so that a [`Tile`] with instructions that this CPU lacks cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Tile {
    /// What this CPU can do, the best first.
    pub fn available() -> impl Iterator<Item = Tile> {
        #[cfg(target_arch = "x86_64")]
        let wide = [
            is_x86_feature_detected!("avx512f").then_some(Instructions::Avx512),
            (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Instructions::Avx2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let wide = [None; 2];
        wide.into_iter().flatten().chain([Instructions::Portable]).map(Tile)
    }

    /// The best that this CPU can do.
    pub fn best() -> Tile {
        Tile::available().next().unwrap_or(Tile(Instructions::Portable))
    }

    /// Rows of a tile: the weights of [`Tile::sum`] come in groups of as many.
    pub fn rows(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => 8,
            _ => 4,
        }
    }

    /// Columns of a tile of several rows.
    pub fn columns(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => 48,
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => 24,
            Instructions::Portable => 8,
        }
    }

    /// `out[m · columns + n] = Σ_k weights[k · rows + m] · frame[offsets[k] + n]`.
    ///
    /// # Panics
    /// `frame` ends before the last offset plus [`Tile::columns`], or `out` is shorter than rows × columns.
    pub fn sum(self, weights: &[f32], offsets: &[usize], frame: &[f32], out: &mut [f32]) {
        match self.0 {
            // SAFETY: such a `Tile` exists only where `available` found the instructions.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => unsafe { x86::avx512::<8, 3>(weights, offsets, frame, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => unsafe { x86::avx2::<4, 3>(weights, offsets, frame, out) },
            Instructions::Portable => portable::<4, 8>(weights, offsets, frame, out),
        }
    }

    /// `out[n] = Σ_k weights[k] · frame[offsets[k] + n]` for [`SINGLE`] columns.
    ///
    /// # Panics
    /// `frame` ends before the last offset plus [`SINGLE`], or `out` is shorter than [`SINGLE`].
    pub fn sum_single(self, weights: &[f32], offsets: &[usize], frame: &[f32], out: &mut [f32]) {
        match self.0 {
            // SAFETY: as in `sum`.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => unsafe { x86::avx512::<1, 4>(weights, offsets, frame, out) },
            // SAFETY: as in `sum`.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => unsafe { x86::avx2::<1, 8>(weights, offsets, frame, out) },
            Instructions::Portable => portable::<1, SINGLE>(weights, offsets, frame, out),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    macro_rules! kernel {
        ($name:ident, $features:literal, $lanes:literal, $zero:ident, $set:ident, $load:ident, $multiply_add:ident, $store:ident) => {
            /// A tile of `M` rows and `V` vectors.
            #[target_feature(enable = $features)]
            pub(super) fn $name<const M: usize, const V: usize>(weights: &[f32], offsets: &[usize], frame: &[f32], out: &mut [f32]) {
                let mut sums = [[$zero(); V]; M];
                for (weights, &offset) in weights.as_chunks::<M>().0.iter().zip(offsets) {
                    let row = &frame[offset..][..V * $lanes];
                    let mut values = [$zero(); V];
                    for v in 0..V {
                        // SAFETY: `row` has V · lanes elements; the load needs no alignment.
                        values[v] = unsafe { $load(row.as_ptr().add(v * $lanes)) };
                    }
                    for m in 0..M {
                        let weight = $set(weights[m]);
                        for v in 0..V {
                            sums[m][v] = $multiply_add(weight, values[v], sums[m][v]);
                        }
                    }
                }
                let out = &mut out[..M * V * $lanes];
                for m in 0..M {
                    for v in 0..V {
                        // SAFETY: `out` has M · V · lanes elements; the store needs no alignment.
                        unsafe { $store(out.as_mut_ptr().add((m * V + v) * $lanes), sums[m][v]) };
                    }
                }
            }
        };
    }
    kernel!(avx512, "avx512f", 16, _mm512_setzero_ps, _mm512_set1_ps, _mm512_loadu_ps, _mm512_fmadd_ps, _mm512_storeu_ps);
    kernel!(avx2, "avx2,fma", 8, _mm256_setzero_ps, _mm256_set1_ps, _mm256_loadu_ps, _mm256_fmadd_ps, _mm256_storeu_ps);
}

/// A tile of `M` rows and `N` columns in plain code.
fn portable<const M: usize, const N: usize>(weights: &[f32], offsets: &[usize], frame: &[f32], out: &mut [f32]) {
    let mut sums = [[0.0f32; N]; M];
    for (weights, &offset) in weights.as_chunks::<M>().0.iter().zip(offsets) {
        let row = &frame[offset..][..N];
        for (sums, &weight) in sums.iter_mut().zip(weights) {
            sums.iter_mut().zip(row).for_each(|(s, &v)| *s += weight * v);
        }
    }
    out[..M * N].copy_from_slice(sums.as_flattened());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tiles_equal_the_definition(k in 0usize..20, seed in 0usize..100) {
            let fill = |len: usize, seed: usize| (0..len).map(|i| ((i * 7 + seed) % 11) as f32 - 5.0).collect::<Vec<_>>();
            let offsets: Vec<usize> = (0..k).map(|i| (i * 13 + seed) % 40).collect();
            let frame = fill(40 + SINGLE, seed);
            for tile in Tile::available() {
                let weights = fill(k * tile.rows(), seed + 1);
                let mut out = [f32::NAN; LARGEST];
                tile.sum(&weights, &offsets, &frame, &mut out);
                for (i, &found) in out[..tile.rows() * tile.columns()].iter().enumerate() {
                    let (m, n) = (i / tile.columns(), i % tile.columns());
                    let sum: f32 = offsets.iter().enumerate().map(|(k, o)| weights[k * tile.rows() + m] * frame[o + n]).sum();
                    prop_assert_eq!(found, sum, "{:?}", tile);
                }
                tile.sum_single(&weights[..k], &offsets, &frame, &mut out);
                for (n, &found) in out[..SINGLE].iter().enumerate() {
                    let sum: f32 = offsets.iter().zip(&weights).map(|(o, w)| w * frame[o + n]).sum();
                    prop_assert_eq!(found, sum, "{:?}", tile);
                }
            }
        }
    }
}
