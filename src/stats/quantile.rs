//! Quantiles of samples.

/// Quantile at `p` in 0..=1 of values in ascending order: linear between order statistics (type 7 of Hyndman & Fan 1996,
/// the default of NumPy and R). `None` for no values, a `p` outside, or an answer that is not finite.
///
/// ```
/// use joulefront::stats::quantile;
/// assert_eq!(quantile(&[1.0, 2.0, 4.0, 8.0], 0.5), Some(3.0));
/// assert_eq!(quantile(&[], 0.5), None);
/// ```
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    if !(0.0..=1.0).contains(&p) {
        return None;
    }
    let position = sorted.len().checked_sub(1)? as f64 * p;
    let below = sorted.get(position.floor() as usize)?;
    let above = sorted.get(position.ceil() as usize)?;
    let value = below + (above - below) * position.fract();
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn ends_middle_and_nothing() {
        let v = [1.0, 2.0, 4.0, 8.0];
        for (p, expect) in [(0.0, 1.0), (1.0, 8.0), (0.25, 1.75), (0.9, 6.8), (1.0 / 3.0, 2.0)] {
            assert!((quantile(&v, p).unwrap_or(f64::NAN) - expect).abs() < 1e-12, "{p}");
        }
        assert_eq!(quantile(&[7.0], 0.99), Some(7.0));
        for p in [-0.1, 1.1, f64::NAN] {
            assert_eq!(quantile(&v, p), None);
        }
        assert_eq!(quantile(&[1.0, f64::NAN], 0.5), None);
        assert_eq!(quantile(&[1.0, f64::INFINITY], 0.5), None);
    }
}
