#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::samples::run;
use super::*;
use proptest::prelude::*;

fn decisions(toml: &str) -> Vec<Decision> {
    Budgets::from_toml(toml).unwrap().judge(&run(1, 1.0)).iter().map(|f| f.decision).collect()
}

#[test]
fn limits_are_kept_broken_or_undecided_by_the_ends_of_intervals() {
    // About 1 mJ, 0.5 ms, 92.08 %, 312,030 B, 18.5 MB.
    for (limit, expect) in [
        ("energy <= 2 mJ", Decision::Kept),
        ("energy <= 500 uJ", Decision::Broken),
        ("energy <= 1.0005mJ", Decision::Undecided),
        ("latency <= 1 ms", Decision::Kept),
        ("p99 <= 0.1 ms", Decision::Broken),
        ("p99 ≤ 5 ms", Decision::Kept),
        ("accuracy >= 0.9", Decision::Kept),
        ("accuracy >= 95%", Decision::Broken),
        ("accuracy >= 92 %", Decision::Undecided),
        ("size <= 312_030 B", Decision::Kept),
        ("size <= 304 KiB", Decision::Broken),
        ("memory <= 20 MB", Decision::Kept),
    ] {
        assert_eq!(decisions(&format!("[budget]\n\"a.onnx\" = [\"{limit}\"]")), [expect], "{limit}");
    }
}

#[test]
fn models_are_meant_by_the_end_of_their_path() {
    let keys = |toml: &str| Budgets::from_toml(toml).unwrap().judge(&run(1, 1.0)).iter().map(|f| f.key.model.clone()).collect::<Vec<_>>();
    assert_eq!(
        keys("[budget]\n\"models/a.onnx\" = [\"size <= 1 MB\"]\n\"b.onnx\" = [\"size <= 1 MB\"]"),
        ["models/b.onnx", "models/a.onnx"]
    );
    // Half a name is none.
    assert_eq!(decisions("[budget]\n\"x.onnx\" = [\"size <= 1 MB\"]\n\"nnx\" = [\"size <= 1 MB\"]"), [Decision::NotMeasured; 2]);
}

#[test]
fn what_is_no_limit_is_refused_with_what_to_write() {
    for (text, word) in [
        ("energy < 2 mJ", "METRIC <= VALUE UNIT"),
        ("energy >= 2 mJ", "`<=`"),
        ("accuracy <= 0.9", "`>=`"),
        ("power <= 2 W", "no metric `power`"),
        ("energy <= 2", "unit is missing"),
        ("energy <= 2 ms", "no unit of energy"),
        ("energy <= x mJ", "no number"),
        ("energy <= -2 mJ", "out of range"),
        ("energy <= 1e400 J", "out of range"),
        ("accuracy >= 90", "out of range"),
        ("size <= 0 B", "out of range"),
        ("energy <= ", "no number"),
        ("", "METRIC"),
        ("<=", "no metric"),
    ] {
        let error = text.parse::<Limit>().unwrap_err();
        assert!(error.contains(word), "{text}: {error}");
    }
    for (toml, word) in [
        ("", "budget"),
        ("[budgets]\n", "budgets"),
        ("[budget]\na = 3", "sequence"),
        ("[budget]\na = [3]", "string"),
        ("[budget]\n\"a\" = [\"energy <= 3\"]", "`a`: `energy <= 3` is no limit"),
        ("[budget", "unclosed"),
    ] {
        let error = Budgets::from_toml(toml).unwrap_err();
        assert!(error.to_string().contains(word), "{toml}: {error}");
        assert_eq!(error.kind(), crate::ErrorKind::BadInput);
    }
}

proptest! {
    #[test]
    fn every_limit_reads_back_as_the_number_it_was(mantissa in 1u32..100_000, metric in 0..7usize, unit in 0..5usize) {
        let metric = Metric::ALL[metric];
        let units: &[(&str, f64)] = match metric.unit() {
            "J" => &[("J", 1.0), ("mJ", 1e-3), ("uJ", 1e-6), ("nJ", 1e-9), ("kJ", 1e3)],
            "s" => &[("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("min", 60.0)],
            _ => &[("B", 1.0), ("KB", 1e3), ("MB", 1e6), ("KiB", 1024.0), ("GB", 1e9)],
        };
        let (unit, scale) = units[unit];
        let value = f64::from(mantissa) / 16.0;
        for text in [format!("{metric} <= {value} {unit}"), format!("  {metric}<={value:e}{unit}"), format!("{metric}\t≤ {value}\t{unit} ")] {
            let limit: Limit = text.parse().unwrap();
            prop_assert_eq!(limit.metric, metric);
            prop_assert!((limit.bound / (value * scale) - 1.0).abs() < 1e-12, "{}", text);
            // As it was written, it means the same again.
            prop_assert_eq!(limit.to_string().parse::<Limit>().unwrap(), limit);
        }
    }

    #[test]
    fn a_wider_interval_never_decides_more(value in 0.1..10.0f64, half in 0.0..5.0f64, more in 0.0..5.0f64, bound in 0.1..10.0f64) {
        let limit = Limit { metric: Metric::Energy, bound, text: String::new() };
        let around = |half: f64| Interval { value, lo: value - half, hi: value + half };
        let (narrow, wide) = (limit.decide(around(half)), limit.decide(around(half + more)));
        prop_assert!(wide == narrow || wide == Decision::Undecided);
    }

    /// Anything at all: an error or limits within range, never a panic.
    #[test]
    fn hostile_texts(text in "\\PC{0,60}", metric in 0..8usize, sign in 0..6usize, tail in "[0-9eE+\\-._ µ%JsmkKMGiB\u{0}\u{202e}€]{0,24}") {
        let _ = Budgets::from_toml(&text);
        let sign = ["<=", ">=", "≤", "≥", "<", "=>"][sign];
        let texts = [text.clone(), format!("{} {sign} {tail}", Metric::ALL[metric]), format!("{text}{sign}{tail}")];
        for text in texts {
            if let Ok(limit) = text.parse::<Limit>() {
                prop_assert!(limit.bound > 0.0 && limit.bound.is_finite());
            }
            let _ = Budgets::from_toml(&format!("[budget]\n\"m\" = [{text:?}]"));
        }
    }
}
