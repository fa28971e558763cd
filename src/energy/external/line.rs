//! The lines of an external meter. What they may be is described at [`External`](super::External).

use crate::units::{Joules, Watts};

/// What one line says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    /// A reading; `None` as time is the moment at which the line arrives.
    Sample {
        /// Seconds since the epoch, on the meter's clock.
        time: Option<f64>,
        value: Value,
    },
    /// The meter's clock at the moment it wrote this line.
    Clock(f64),
    /// `# key: value`.
    Header(String, String),
    /// Nothing, or a comment.
    Nothing,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Power(Watts),
    Energy(Joules),
}

/// More than this in watts, or joules, is no reading of a computer.
const MOST: f64 = 1e12;

impl Line {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(line: &str) -> Result<Line, String> {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix('#') {
            let header = comment.split_once(':').map(|(key, value)| (key.trim().to_lowercase(), value.trim().to_owned()));
            return Ok(header.map_or(Line::Nothing, |(key, value)| Line::Header(key, value)));
        }
        let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || c == ',' || c == ';').filter(|w| !w.is_empty()).collect();
        match words[..] {
            [] => Ok(Line::Nothing),
            ["clock", at] => Ok(Line::Clock(time(at)?)),
            [at, number, unit] => {
                let at = if at.eq_ignore_ascii_case("now") { None } else { Some(time(at)?) };
                Ok(Line::Sample { time: at, value: value(number, unit)? })
            }
            _ => Err("it is not `TIME VALUE UNIT`".into()),
        }
    }
}

fn value(number: &str, unit: &str) -> Result<Value, String> {
    let number: f64 = number.parse().map_err(|_| format!("`{}` is not a number", shown(number)))?;
    if !(0.0..=MOST).contains(&number) {
        return Err(format!("{number} is out of range"));
    }
    let power = |scale: f64| Ok(Value::Power(Watts(number * scale)));
    let energy = |scale: f64| Ok(Value::Energy(Joules(number * scale)));
    match unit {
        "W" | "w" | "watt" | "watts" | "Watt" | "Watts" => power(1.0),
        "mW" => power(1e-3),
        "kW" => power(1e3),
        "J" | "j" | "joule" | "joules" | "Joule" | "Joules" => energy(1.0),
        "mJ" => energy(1e-3),
        "kJ" => energy(1e3),
        "mWh" => energy(3.6),
        "Wh" => energy(3.6e3),
        "kWh" => energy(3.6e6),
        _ => Err(format!("`{}` is not a unit: use watts or joules", shown(unit))),
    }
}

/// The first characters of what somebody sent.
fn shown(text: &str) -> String {
    text.chars().take(20).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Seconds since the epoch: as a number, or as `2026-01-31T12:34:56.789Z` (or with an offset such as `+02:00`).
fn time(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{}` is not a time: seconds since the epoch, or 2026-01-31T12:34:56.789Z", shown(text));
    let seconds = match text.contains(['T', 't']) {
        true => iso(text).ok_or_else(wrong)?,
        false => text.parse().map_err(|_| wrong())?,
    };
    // From 2001 to 2286: other numbers are milliseconds, uptimes, or garbage.
    if (1e9..1e10).contains(&seconds) { Ok(seconds) } else { Err(wrong()) }
}

/// ISO 8601 with a zone: without one the time is not known.
fn iso(text: &str) -> Option<f64> {
    let (date, clock) = text.split_once(['T', 't'])?;
    let split = clock.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = clock.split_at(split);
    let whole = |t: &str| (t.len() <= 4 && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse::<i64>().ok()).flatten();
    let numbers = |t: &str, by: char| t.split(by).map(whole).collect::<Option<Vec<i64>>>();
    let [year, month, day] = numbers(date, '-')?[..] else { return None };
    let (hms, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(hms, ':')?[..] else { return None };
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !in_range || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction: f64 = format!("0.{fraction}").parse().ok()?;
    let offset = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        (sign, rest) => {
            let rest = rest.replace(':', "");
            let (hours, minutes) = rest.split_at_checked(2)?;
            let minutes = if minutes.is_empty() { 0 } else { whole(minutes)? };
            let east = whole(hours)? * 3600 + minutes * 60;
            if sign == "-" { -east } else { east }
        }
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(seconds as f64 + fraction)
}

/// Days since 1970-01-01 of the proleptic Gregorian calendar: years begin in March, so that the leap day is their last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn sample(time: f64, value: Value) -> Result<Line, String> {
        Ok(Line::Sample { time: Some(time), value })
    }

    #[test]
    fn times_values_and_units() {
        let w = |w| Value::Power(Watts(w));
        let j = |j| Value::Energy(Joules(j));
        for (line, expect) in [
            ("1700000000.25 12.5 watts\n", sample(1_700_000_000.25, w(12.5))),
            ("1700000000,12.5,W", sample(1_700_000_000.0, w(12.5))),
            ("  1700000000\t2 kWh ", sample(1_700_000_000.0, j(7.2e6))),
            ("2023-11-14T22:13:20Z 5 J", sample(1_700_000_000.0, j(5.0))),
            ("2023-11-14T22:13:20.5+00:00 5 joules", sample(1_700_000_000.5, j(5.0))),
            ("2023-11-15T03:43:20+0530 5 mW", sample(1_700_000_000.0, w(0.005))),
            ("2023-11-14T17:13:20-05 5 W", sample(1_700_000_000.0, w(5.0))),
            ("2024-02-29T00:00:00Z 0 W", sample(1_709_164_800.0, w(0.0))),
            ("now 3 W", Ok(Line::Sample { time: None, value: w(3.0) })),
            ("clock 1700000000", Ok(Line::Clock(1_700_000_000.0))),
            ("# Scope: wall", Ok(Line::Header("scope".into(), "wall".into()))),
            ("# made by a meter", Ok(Line::Nothing)),
            ("", Ok(Line::Nothing)),
        ] {
            assert_eq!(Line::parse(line), expect, "{line:?}");
        }
    }

    #[test]
    fn garbage_is_refused_with_its_reason() {
        for (line, word) in [
            ("hello", "TIME VALUE UNIT"),
            ("1700000000 12.5", "TIME VALUE UNIT"),
            ("1700000000 x W", "not a number"),
            ("1700000000 NaN W", "out of range"),
            ("1700000000 inf W", "out of range"),
            ("1700000000 -3 W", "out of range"),
            ("1700000000 3 VA", "not a unit"),
            // Milliseconds, an uptime, a time without a zone, impossible dates.
            ("1700000000000 3 W", "not a time"),
            ("12345.6 3 W", "not a time"),
            ("NaN 3 W", "not a time"),
            ("2023-11-14T22:13:20 3 W", "not a time"),
            ("2023-13-14T22:13:20Z 3 W", "not a time"),
            ("2023-11-14T22:13Z 3 W", "not a time"),
            ("2023-11-14T22:13:20+é 3 W", "not a time"),
            ("clock x", "not a time"),
        ] {
            assert!(Line::parse(line).is_err_and(|e| e.contains(word)), "{line:?}: {:?}", Line::parse(line));
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "\\PC*") {
            let _ = Line::parse(&line);
        }

        #[test]
        fn almost_lines_do_not_panic(line in "[0-9TZ:+. -]{0,30} [0-9.e-]{0,9} [WJkmh]{0,3}") {
            let _ = Line::parse(&line);
        }
    }
}
