//! Figures as people read them: typographic minus, percent with a space, the interval beside the number.

use crate::energy::Scope;
use crate::lower::Form;
use crate::stats::Interval;
use crate::study::Configuration;
use crate::units::si;

/// `value` with a fixed number of decimals and the typographic minus; never "−0.0".
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|b| matches!(b, b'0' | b'.')) => digits.to_owned(),
        Some("inf") => "−∞".to_owned(),
        Some(digits) => format!("−{digits}"),
        None if text == "inf" => "∞".to_owned(),
        None => text,
    }
}

/// As [`fixed`], with a plus before what is greater than zero.
pub(crate) fn signed(value: f64, decimals: usize) -> String {
    let text = fixed(value, decimals);
    let zero = text.bytes().all(|b| matches!(b, b'0' | b'.'));
    if zero || text.starts_with('−') || text == "NaN" { text } else { format!("+{text}") }
}

/// A ratio to the reference as the change of the energy: `−68 % J (−66…−70)`; the smaller change stands first.
pub(crate) fn energy_change(ratio: Interval) -> String {
    let percent = |r: f64| (r - 1.0) * 100.0;
    let decimals = if (percent(ratio.hi) - percent(ratio.lo)).abs() < 1.0 { 1 } else { 0 };
    let [value, lo, hi] = [ratio.value, ratio.lo, ratio.hi].map(|r| signed(percent(r), decimals));
    format!("{value} % J ({hi}…{lo})")
}

/// A drop in points as the change of the accuracy: `−0.4 pt (−0.9…+0.1)`.
pub(crate) fn accuracy_change(drop_points: Interval) -> String {
    let [value, lo, hi] = [drop_points.value, drop_points.hi, drop_points.lo].map(|d| signed(-d, 1));
    format!("{value} pt ({lo}…{hi})")
}

/// `92.08 % (91.2…92.9)`.
pub(crate) fn accuracy(share: Interval) -> String {
    format!("{} % ({}…{})", fixed(share.value * 100.0, 2), fixed(share.lo * 100.0, 1), fixed(share.hi * 100.0, 1))
}

/// `0.39× (0.37…0.41)`.
pub(crate) fn ratio(r: Interval) -> String {
    format!("{}× ({}…{})", fixed(r.value, 3), fixed(r.lo, 3), fixed(r.hi, 3))
}

/// `741 µJ (703…779)`: the ends in the unit of the value.
pub(crate) fn with_interval(i: Interval, symbol: &str) -> String {
    let value = si(i.value, symbol);
    let Some((number, _)) = value.split_once(' ') else { return value };
    let Ok(shown) = number.parse::<f64>() else { return value };
    if shown == 0.0 || i.value == 0.0 {
        return value;
    }
    let decimals = number.split_once('.').map_or(0, |(_, d)| d.len());
    // The prefix as a power of ten: shown and value differ by rounding only.
    let scale = 10f64.powi((i.value.abs() / shown.abs()).log10().round() as i32);
    format!("{} ({}…{})", value.replace('-', "−"), fixed(i.lo / scale, decimals), fixed(i.hi / scale, decimals))
}

/// A tolerance as it was given: `1 pt`, `0.5 pt`.
pub(crate) fn fixed_points(points: f64) -> String {
    format!("{points} pt")
}

/// `1 thread`, `2 threads`.
pub(crate) fn threads(n: usize) -> String {
    format!("{n} thread{}", if n == 1 { "" } else { "s" })
}

/// What is run, for a sentence: `the original` or the recipe.
pub(crate) fn name(c: &Configuration) -> &str {
    if c.recipe == "original" { "the original" } else { &c.recipe }
}

/// How it is run: `tract, 1 thread`, with the form in which the engine computes where it is another than float32, and the batch where
/// it is not 1.
pub(crate) fn how(c: &Configuration) -> String {
    let form = match c.lowering.parse::<Form>() {
        Err(_) | Ok(Form::Float | Form::DequantizeLinear) => String::new(),
        Ok(form) => format!(" ({form})"),
    };
    let batch = if c.batch == 1 { String::new() } else { format!(", batch {}", c.batch) };
    format!("{}{form}, {}{batch}", c.engine, threads(c.threads))
}

/// The scope as words.
pub(crate) fn scope(s: Scope) -> &'static str {
    match s {
        Scope::Wall => "at the wall",
        Scope::Board => "whole board, at its input",
        Scope::Battery => "whole device, from the battery",
        Scope::PackageDram => "CPU package and memory",
        Scope::Package => "CPU package",
        Scope::Rail => "one supply rail",
        Scope::ProcessShare => "the process’s share",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::samples::around;

    #[test]
    fn numbers_for_people() {
        assert_eq!(energy_change(around(0.32, 0.02)), "−68 % J (−66…−70)");
        assert_eq!(energy_change(around(1.02, 0.03)), "+2 % J (+5…−1)");
        assert_eq!(energy_change(around(0.58, 0.001)), "−42.0 % J (−41.9…−42.1)");
        assert_eq!(accuracy_change(around(0.4, 0.5)), "−0.4 pt (−0.9…+0.1)");
        assert_eq!(accuracy_change(around(0.01, 0.02)), "0.0 pt (0.0…0.0)");
        assert_eq!(accuracy_change(Interval { value: 1.0, lo: f64::NEG_INFINITY, hi: f64::INFINITY }), "−1.0 pt (−∞…+∞)");
        assert_eq!(accuracy(around(0.9208, 0.0085)), "92.08 % (91.2…92.9)");
        assert_eq!(with_interval(around(741e-6, 38e-6), "J"), "741 µJ (703…779)");
        assert_eq!(with_interval(around(0.9996e-3, 5e-6), "J"), "1.00 mJ (0.99…1.00)");
        assert_eq!(with_interval(around(-12.5e-3, 20e-3), "J"), "−12.5 mJ (−32.5…7.5)");
        assert_eq!(with_interval(around(0.0, 1.0), "J"), "0 J");
        assert_eq!(ratio(around(0.39, 0.02)), "0.390× (0.370…0.410)");
    }
}
