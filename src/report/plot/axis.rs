//! Scales and their ticks, as pure functions of the range.

use super::super::words::fixed;
use crate::units::si;

/// A range of values laid over a range of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    lo: f64,
    hi: f64,
    from: f64,
    to: f64,
    log: bool,
}

/// A tick: where and what it says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    pub(crate) label: String,
}

impl Scale {
    /// `lo`..`hi` over the pixels `from`..`to`; logarithmic when asked, for values above zero.
    pub(crate) fn new(lo: f64, hi: f64, from: f64, to: f64, log: bool) -> Self {
        // One value, or none at all, still gets a range to stand in.
        let (lo, hi) = if hi > lo { (lo, hi) } else { (lo - 0.5 * lo.abs().max(1e-12), lo + 0.5 * lo.abs().max(1e-12)) };
        Scale { lo, hi, from, to, log }
    }

    /// The pixel of a value; values out of the range stand at its end.
    pub(crate) fn pixel(&self, value: f64) -> f64 {
        let position = |v: f64| if self.log { v.max(f64::MIN_POSITIVE).ln() } else { v };
        let (lo, hi) = (position(self.lo), position(self.hi));
        let share = (position(value.clamp(self.lo, self.hi)) - lo) / (hi - lo);
        self.from + share * (self.to - self.from)
    }

    /// The same range in another unit, `factor` of which make one of this.
    pub(crate) fn times(&self, factor: f64) -> Self {
        Scale { lo: self.lo * factor, hi: self.hi * factor, ..*self }
    }

    pub(crate) fn contains(&self, value: f64) -> bool {
        (self.lo..=self.hi).contains(&value)
    }

    /// Ticks that say percent.
    pub(crate) fn percent_ticks(&self) -> Vec<Tick> {
        let step = nice_step((self.hi - self.lo) / 7.0);
        let decimals = decimals_of(step);
        multiples(step, self.lo, self.hi).map(|value| Tick { value, label: format!("{} %", fixed(value, decimals)) }).collect()
    }

    /// Ticks with SI prefixes, and the unit when they share one: (`mJ`, `0.5`) or (``, `500 µJ`).
    pub(crate) fn si_ticks(&self, symbol: &str) -> (String, Vec<Tick>) {
        if self.log {
            let decades = self.lo.log10().floor() as i32..=self.hi.log10().ceil() as i32;
            let values = decades.flat_map(|d| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(d))).filter(|&v| self.contains(v));
            return (String::new(), values.map(|value| Tick { value, label: short_si(value, symbol) }).collect());
        }
        let largest = self.hi.abs().max(self.lo.abs());
        // The prefix comes from `si`, so axis and text never disagree.
        let text = si(largest, symbol);
        let unit = text.split_once(' ').map_or(symbol, |(_, u)| u).to_owned();
        let shown: f64 = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(largest);
        let factor = 10f64.powi((largest / shown).log10().round() as i32);
        let step = nice_step((self.hi - self.lo) / factor / 7.0);
        let decimals = decimals_of(step);
        let ticks = multiples(step, self.lo / factor, self.hi / factor);
        (unit, ticks.map(|v| Tick { value: v * factor, label: fixed(v, decimals) }).collect())
    }
}

/// `500 µJ`, not `500.0 µJ`: the ticks of a logarithmic axis have one digit.
fn short_si(value: f64, symbol: &str) -> String {
    let text = si(value, symbol);
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.')),
        _ => text,
    }
}

/// The smallest of 1, 2, 5 × 10ⁿ that is not below `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|d| d * power >= rough * (1.0 - 1e-9)).unwrap_or(10.0);
    digit * power
}

fn decimals_of(step: f64) -> usize {
    (-step.log10().floor()).clamp(0.0, 9.0) as usize
}

fn multiples(step: f64, lo: f64, hi: f64) -> impl Iterator<Item = f64> {
    // Counted, not summed: a sum of steps drifts off the round numbers.
    let (first, last) = ((lo / step - 1e-9).ceil() as i64, (hi / step + 1e-9).floor() as i64);
    (first..=last.min(first + 50)).map(move |k| k as f64 * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(scale: Scale, unit: &str, labels: &str) {
        let (u, ticks) = scale.si_ticks("J");
        assert_eq!((u.as_str(), ticks.iter().map(|t| t.label.as_str()).collect::<Vec<_>>().join(" ")), (unit, labels.to_owned()));
    }

    #[test]
    fn energy_ticks_have_a_prefix_and_round_numbers() {
        check(Scale::new(0.0, 2.4e-3, 0.0, 1.0, false), "mJ", "0.0 0.5 1.0 1.5 2.0");
        check(Scale::new(0.0, 741e-6, 0.0, 1.0, false), "µJ", "0 200 400 600");
        check(Scale::new(80e-6, 3e-3, 0.0, 1.0, true), "", "100 µJ|200 µJ|500 µJ|1 mJ|2 mJ".replace('|', " ").as_str());
    }

    #[test]
    fn percent_ticks() {
        let labels = |lo, hi| Scale::new(lo, hi, 0.0, 1.0, false).percent_ticks().iter().map(|t| t.label.clone()).collect::<Vec<_>>();
        assert_eq!(labels(85.8, 93.1), ["86 %", "88 %", "90 %", "92 %"]);
        assert_eq!(labels(91.95, 92.2), ["91.95 %", "92.00 %", "92.05 %", "92.10 %", "92.15 %", "92.20 %"]);
    }

    #[test]
    fn pixels_stay_in_the_range() {
        for log in [false, true] {
            let s = Scale::new(1.0, 100.0, 50.0, 250.0, log);
            assert_eq!([s.pixel(1.0), s.pixel(100.0), s.pixel(0.0), s.pixel(1e9)], [50.0, 250.0, 50.0, 250.0]);
            assert_eq!([s.pixel(f64::NEG_INFINITY), s.pixel(f64::INFINITY)], [50.0, 250.0]);
        }
        assert_eq!(Scale::new(1.0, 100.0, 0.0, 2.0, true).pixel(10.0), 1.0);
        assert_eq!(Scale::new(5.0, 5.0, 0.0, 2.0, false).pixel(5.0), 1.0);
    }
}
