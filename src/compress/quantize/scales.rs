//! The scale of weights that share one: the one with the least squared error ‖W − s·clamp(round(W/s))‖² (MSE clip). Clipping a
//! few outliers buys a finer grid for all others.

/// Two's-complement range of `bits`, as numbers.
pub(super) fn range(bits: u32) -> (f32, f32) {
    let half = (1u32 << (bits - 1)) as f32;
    (-half, half - 1.0)
}

fn quantize(v: f32, scale: f32, bits: u32) -> i8 {
    let (lo, hi) = range(bits);
    (v / scale).round_ties_even().clamp(lo, hi) as i8
}

/// The scale of the weights in `row` with the least squared error: candidates from 20 % to 110 % of the one that clips nothing,
/// then the closed-form scale for the integers found (Σwq / Σq²), which can only lower the error further.
pub(super) fn best_scale(row: &[f32], bits: u32) -> f32 {
    let (_, hi) = range(bits);
    let max = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    if max == 0.0 {
        return 1.0;
    }
    let plain = max / hi;
    let squared = |s: f32| row.iter().map(|&v| f64::from(v - s * f32::from(quantize(v, s, bits))).powi(2)).sum::<f64>();
    let candidates = (20..=110).map(|p| plain * (p as f32 / 100.0)).filter(|s| *s > f32::MIN_POSITIVE);
    let best = candidates.map(|s| (squared(s), s)).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(plain, |(_, s)| s);
    let (mut wq, mut qq) = (0.0f64, 0.0f64);
    for &v in row {
        let q = f64::from(quantize(v, best, bits));
        wq += f64::from(v) * q;
        qq += q * q;
    }
    let refit = (wq / qq) as f32;
    if refit.is_finite() && refit > 0.0 && squared(refit) < squared(best) { refit } else { best.max(f32::MIN_POSITIVE) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn squared(row: &[f32], scale: f32, bits: u32) -> f64 {
        row.iter().map(|&v| (f64::from(v) - f64::from(scale) * f64::from(quantize(v, scale, bits))).powi(2)).sum()
    }

    /// Ordinary rows, zeros, constants, and values near both ends of what float32 holds.
    fn row() -> impl Strategy<Value = Vec<f32>> {
        let magnitude = prop_oneof![Just(1.0f32), Just(1e-30), Just(1e-38), Just(1e-44), Just(1e30), Just(3e38), Just(0.0)];
        let values = prop_oneof![prop::collection::vec(-1.0f32..1.0, 1..40), (-1.0f32..1.0, 1..20usize).prop_map(|(v, n)| vec![v; n])];
        (values, magnitude).prop_map(|(v, m)| v.into_iter().map(|x| x * m).collect())
    }

    proptest! {
        #[test]
        fn scales_beat_rounding_at_the_largest_value(row in row(), bits in 2u32..=8) {
            let scale = best_scale(&row, bits);
            prop_assert!(scale.is_finite() && scale > 0.0);
            let (lo, hi) = range(bits);
            prop_assert!(row.iter().all(|&v| (lo..=hi).contains(&f32::from(quantize(v, scale, bits)))));
            let max = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            // Scales below the normal numbers are not used: engines may flush them to zero.
            let plain = max / hi;
            if plain > 4.0 * f32::MIN_POSITIVE {
                prop_assert!(squared(&row, scale, bits) <= squared(&row, plain, bits) * (1.0 + 1e-6), "{scale} {plain}");
            } else {
                prop_assert!(squared(&row, scale, bits).sqrt() <= f64::from(max) * (row.len() as f64).sqrt() + 1e-37);
            }
        }

        #[test]
        fn values_on_the_grid_come_back(q in prop::collection::vec(-7i8..=7, 1..30), scale in 0.001f32..10.0) {
            let row: Vec<f32> = q.iter().map(|&q| f32::from(q) * scale).collect();
            let found = best_scale(&row, 8);
            let size = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
            prop_assert!(squared(&row, found, 8) <= 1e-4 * size);
        }
    }

    #[test]
    fn ranges_are_twos_complement() {
        assert_eq!((range(2), range(4), range(8)), ((-2.0, 1.0), (-8.0, 7.0), (-128.0, 127.0)));
        assert_eq!((quantize(9.0, 1.0, 4), quantize(-9.0, 1.0, 4), quantize(2.5, 1.0, 4)), (7, -8, 2));
        assert_eq!(best_scale(&[0.0, 0.0], 4), 1.0);
        // One outlier costs more when all others round to zero than when it is clipped.
        let row: Vec<f32> = (0..1000).map(|i| if i == 0 { 6.0 } else { ((i * 7919) % 200) as f32 / 100.0 - 1.0 }).collect();
        assert!(best_scale(&row, 4) < 6.0 / 7.0);
    }
}
