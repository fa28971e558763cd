//! Values with units as users type them: shares, times, budgets.

use crate::search::Budget;
use crate::units::{Bytes, Joules, Seconds};

/// `50%` or `0.5`, within 0..=1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(n) => (n, 0.01),
        None => (text, 1.0),
    };
    let value: f64 = number.trim().parse().map_err(|_| format!("`{text}` is not a share: write 50% or 0.5"))?;
    // Through the percent's own decimal value: 7% is 0.07, not 0.07000000000000001.
    let share = if scale == 1.0 { value } else { (value * 1e10).round() / 1e12 };
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(format!("`{text}` is not between 0% and 100%")) }
}

/// `1pt`, `0.5 pt`: a difference of accuracies, as a share.
pub(super) fn points(text: &str) -> Result<f64, String> {
    let number = text.trim().strip_suffix("pt").ok_or_else(|| format!("`{text}` needs a unit: write {text}pt"))?;
    let points: f64 = number.trim().parse().map_err(|_| format!("`{text}` is not a number of points"))?;
    if (0.0..=100.0).contains(&points) { Ok(points / 100.0) } else { Err(format!("`{text}` is not between 0 and 100 points")) }
}

/// Longer times are slips of the hand, and some overflow the clock's own type.
const LONGEST: f64 = 1e9;

/// `250ms`, `30s`, `5m`, `1h`; a bare number is refused.
pub(super) fn seconds(text: &str) -> Result<Seconds, String> {
    let (number, unit) = split(text);
    let scale = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "" => return Err(format!("`{text}` needs a unit: write {text}s, {text}m or {text}h")),
        _ => return Err(format!("`{unit}` is not a unit of time: use ms, s, m or h")),
    };
    let value = positive(number, text)? * scale;
    if value > LONGEST { Err(format!("`{text}` is more than 30 years")) } else { Ok(Seconds(value)) }
}

/// `64MB`, `2GiB`; a bare number is refused.
pub(super) fn size(text: &str) -> Result<Bytes, String> {
    let (number, unit) = split(text);
    let scale = match unit {
        "KB" | "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "" => return Err(format!("`{text}` needs a unit: write {text}MB or {text}GiB")),
        _ => return Err(format!("`{unit}` is not a unit of size: use KB, MB, GB, KiB, MiB or GiB")),
    };
    let bytes = positive(number, text)? * scale;
    if (1.0..1e15).contains(&bytes) { Ok(Bytes(bytes as u64)) } else { Err(format!("`{text}` is no size of a memory")) }
}

/// `50/s`, `300/m`: how often something happens, per second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let per = |unit: &str| text.trim().strip_suffix(unit).map(|number| (number.trim(), if unit == "/s" { 1.0 } else { 1.0 / 60.0 }));
    let (number, scale) = per("/s").or_else(|| per("/m")).ok_or_else(|| format!("`{text}` needs a unit: write 50/s or 300/m"))?;
    let rate = positive(number, text)? * scale;
    if rate > 1e6 { Err(format!("`{text}` is more than a million per second")) } else { Ok(rate) }
}

/// `5m`, `200trials`, `2kJ`.
pub(super) fn budget(text: &str) -> Result<Budget, String> {
    let (number, unit) = split(text);
    match unit {
        "trial" | "trials" => {
            number.parse().ok().filter(|&n: &u64| n > 0).map(Budget::Trials).ok_or_else(|| format!("`{text}` is not a number of trials"))
        }
        "J" => Ok(Budget::Energy(Joules(positive(number, text)?))),
        "kJ" => Ok(Budget::Energy(Joules(positive(number, text)? * 1e3))),
        "MJ" => Ok(Budget::Energy(Joules(positive(number, text)? * 1e6))),
        "" => Err(format!("`{text}` needs a unit: a time (5m), a number of trials (200trials) or an energy (2kJ)")),
        _ => seconds(text).map(Budget::Time).map_err(|e| format!("{e}; or a number of trials (200trials) or an energy (2kJ)")),
    }
}

/// Number and unit of `5m`, `2 kJ`.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| c.is_ascii_alphabetic() || c == '%').unwrap_or(text.len());
    (text[..end].trim(), &text[end..])
}

fn positive(number: &str, text: &str) -> Result<f64, String> {
    number.parse().ok().filter(|v: &f64| v.is_finite() && *v > 0.0).ok_or_else(|| format!("`{text}` is not a number above 0 with a unit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (text, expect) in [("50%", Some(0.5)), ("0.5", Some(0.5)), ("7%", Some(0.07)), ("1", Some(1.0)), ("32.5%", Some(0.325))] {
            assert_eq!(share(text).ok(), expect, "{text}");
        }
        for text in ["150%", "-1", "x", "", "50 per cent", "NaN", "50"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn accuracies_differ_by_points() {
        assert_eq!((points("1pt"), points("0.5 pt")), (Ok(0.01), Ok(0.005)));
        for text in ["1", "1%", "-1pt", "101pt", "xpt", "NaNpt", ""] {
            assert!(points(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!((size("64MB"), size("2 GiB"), size("1.5KB")), (Ok(Bytes(64_000_000)), Ok(Bytes(2 << 30)), Ok(Bytes(1500))));
        for text in ["64", "64M", "0MB", "-1MB", "1e40GB", "MB", "64 megabytes", ""] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bare_number_where_a_unit_is_needed_is_refused() {
        assert_eq!(seconds("250ms"), Ok(Seconds(0.25)));
        assert_eq!(seconds("5m"), Ok(Seconds(300.0)));
        assert_eq!(budget("200trials"), Ok(Budget::Trials(200)));
        assert_eq!(budget("2kJ"), Ok(Budget::Energy(Joules(2000.0))));
        assert_eq!(budget("5m"), Ok(Budget::Time(Seconds(300.0))));
        for text in ["5", "0s", "-3m", "infs", "nanh", "5x", "1.5trials", "0trials", "", "1e300h"] {
            assert!(budget(text).is_err(), "{text}");
        }
    }
}
