//! Physical quantities as types, and how they are shown to people. A bare `f64` of joules crosses no module.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, AddAssign, Div, Mul, Sub};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $symbol:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub f64);

        impl Add for $name { type Output = Self; fn add(self, o: Self) -> Self { Self(self.0 + o.0) } }
        impl Sub for $name { type Output = Self; fn sub(self, o: Self) -> Self { Self(self.0 - o.0) } }
        impl AddAssign for $name { fn add_assign(&mut self, o: Self) { self.0 += o.0; } }
        impl Mul<f64> for $name { type Output = Self; fn mul(self, k: f64) -> Self { Self(self.0 * k) } }
        impl Div<f64> for $name { type Output = Self; fn div(self, k: f64) -> Self { Self(self.0 / k) } }
        impl Div for $name { type Output = f64; fn div(self, o: Self) -> f64 { self.0 / o.0 } }
        impl std::iter::Sum for $name { fn sum<I: Iterator<Item = Self>>(i: I) -> Self { Self(i.map(|q| q.0).sum()) } }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&si(self.0, $symbol)) }
        }
    };
}

quantity!(
    /// Energy in joules.
    Joules, "J"
);
quantity!(
    /// Power in watts.
    Watts, "W"
);
quantity!(
    /// A duration in seconds.
    Seconds, "s"
);

impl Mul<Seconds> for Watts {
    type Output = Joules;
    fn mul(self, t: Seconds) -> Joules {
        Joules(self.0 * t.0)
    }
}

impl Div<Seconds> for Joules {
    type Output = Watts;
    fn div(self, t: Seconds) -> Watts {
        Watts(self.0 / t.0)
    }
}

impl From<std::time::Duration> for Seconds {
    fn from(d: std::time::Duration) -> Self {
        Seconds(d.as_secs_f64())
    }
}

/// What is negative or not a number becomes no time, what is too long for the type its longest time.
impl From<Seconds> for std::time::Duration {
    fn from(s: Seconds) -> Self {
        let d = Self::try_from_secs_f64(s.0);
        d.unwrap_or(if s.0 > 0.0 { Self::MAX } else { Self::ZERO })
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0 as f64;
        match self.0 {
            0..=9_999 => write!(f, "{} B", self.0),
            10_000..=9_999_999 => write!(f, "{:.1} KB", v / 1e3),
            10_000_000..=9_999_999_999 => write!(f, "{:.1} MB", v / 1e6),
            _ => write!(f, "{:.2} GB", v / 1e9),
        }
    }
}

/// `value` with three significant digits and an SI prefix: `si(0.00123, "J")` is `1.23 mJ`.
///
/// ```
/// use joulefront::units::si;
/// assert_eq!(si(0.00123, "J"), "1.23 mJ");
/// assert_eq!(si(0.0, "s"), "0 s");
/// assert_eq!(si(-25.4e-6, "s"), "-25.4 µs");
/// ```
pub fn si(value: f64, symbol: &str) -> String {
    const PREFIXES: [(f64, &str); 9] =
        [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f")];
    if value == 0.0 || !value.is_finite() {
        return format!("{value} {symbol}");
    }
    // A value that would round up to the next prefix (999.96 m) takes that prefix.
    let magnitude = value.abs() * (1.0 + 5e-4);
    let (scale, prefix) = PREFIXES.into_iter().find(|(s, _)| magnitude >= *s).unwrap_or((1e-15, "f"));
    let scaled = value / scale;
    let digits = match scaled.abs() {
        a if a >= 99.95 => 0,
        a if a >= 9.995 => 1,
        _ => 2,
    };
    format!("{scaled:.digits$} {prefix}{symbol}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn si_rounds_into_the_next_prefix() {
        for (v, expect) in [(0.99996, "1.00 s"), (999.6, "1.00 ks"), (99.96, "100 s"), (9.996e-3, "10.0 ms"), (1e-18, "0.00 fs")] {
            assert_eq!(si(v, "s"), expect, "{v}");
        }
    }

    #[test]
    fn watts_times_seconds_are_joules() {
        assert_eq!(Watts(2.0) * Seconds(3.0), Joules(6.0));
        assert_eq!(Joules(6.0) / Seconds(3.0), Watts(2.0));
        assert_eq!(Bytes(312_030).to_string(), "312.0 KB");
    }
}
