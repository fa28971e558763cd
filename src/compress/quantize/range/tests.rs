#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use crate::tensor::Tensor;
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// What `tests/fixtures/scripts/ranges.py` made with NumPy.
#[derive(Deserialize)]
struct Case {
    /// Multiples of 1/256, and how often.
    values: Vec<(i32, usize)>,
    ranges: HashMap<ActivationRange, (f32, f32)>,
}

#[test]
fn ranges_are_numpys() {
    let text = std::fs::read_to_string("tests/fixtures/ranges.json").unwrap();
    let cases: BTreeMap<String, Case> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 8);
    for (name, case) in cases {
        let mut h = Histogram::new();
        for (value, times) in case.values {
            h.add(&vec![value as f32 / 256.0; times]).unwrap();
        }
        for (method, expect) in case.ranges {
            assert_eq!(range(&h, method), expect, "{name}, {method}");
        }
    }
}

const METHODS: [ActivationRange; 4] =
    [ActivationRange::MinMax, ActivationRange::Percentile, ActivationRange::Mse, ActivationRange::Entropy];

fn of(values: &[f32]) -> Histogram {
    let mut h = Histogram::new();
    h.add(values).unwrap();
    h
}

/// The numbers that stand for `x` after quantization.
fn there_and_back(code: &Quantized, x: &[f32]) -> Vec<f32> {
    let x = Tensor::f32([x.len()], x.to_vec()).unwrap();
    code.dequantize(&code.quantize(&x).unwrap()).unwrap().as_f32().unwrap().to_vec()
}

fn values() -> impl Strategy<Value = Vec<f32>> {
    let magnitude = prop_oneof![Just(1.0f32), Just(1e-20), Just(1e20), Just(300.0)];
    (prop::collection::vec(-1.0f32..1.0, 1..300), -1.0f32..1.0, magnitude, any::<bool>())
        .prop_map(|(v, shift, m, relu)| v.into_iter().map(|x| (x + shift) * m).map(|x| if relu { x.max(0.0) } else { x }).collect())
}

proptest! {
    #[test]
    fn zero_is_exact_and_rounding_takes_at_most_half_a_step(values in values()) {
        let h = of(&values);
        let (min, max) = h.range();
        for method in METHODS {
            let (low, high) = range(&h, method);
            prop_assert!(min <= low && low <= 0.0 && 0.0 <= high && high <= max, "{method}: {low} {high} of {min} {max}");
            let code = code((low, high), UNBOUNDED).unwrap();
            prop_assert_eq!(there_and_back(&code, &[0.0]), vec![0.0]);
            let scale = f64::from(code.scales()[0]);
            for (&x, y) in values.iter().zip(there_and_back(&code, &values)) {
                // The zero point is rounded too, which moves both ends by up to half a step.
                let outside = f64::from(x - x.clamp(low, high)).abs();
                prop_assert!((f64::from(x) - f64::from(y)).abs() <= outside + scale * 1.0001, "{method}: {x} became {y}");
                let (first, last) = (-f64::from(code.zero_points()[0]) * scale, f64::from(255 - code.zero_points()[0]) * scale);
                if first <= f64::from(x) && f64::from(x) <= last {
                    prop_assert!((f64::from(x) - f64::from(y)).abs() <= scale * 0.50001, "{method}: {x} became {y}");
                }
            }
        }
    }

    #[test]
    fn saturation_does_what_the_activation_did(values in values(), low in 0f32..2.0, high in 0.01f32..8.0, relu in any::<bool>()) {
        let bounds = (if relu { 0.0 } else { -low }, high);
        let clipped: Vec<f32> = values.iter().map(|v| v.clamp(bounds.0, bounds.1)).collect();
        for method in METHODS {
            let code = code(range(&of(&clipped), method), bounds);
            // Values of 1e-20 beside an end of 0 leave no scale: then the activation stays, with an error that says so.
            let Ok(code) = code else { continue };
            prop_assert_eq!(there_and_back(&code, &clipped), there_and_back(&code, &values), "{}", method);
            prop_assert!(there_and_back(&code, &values).iter().all(|v| (bounds.0..=bounds.1).contains(v)));
        }
    }
}

#[test]
fn what_has_no_width_gets_a_scale_or_an_error() {
    assert_eq!(code((0.0, 0.0), UNBOUNDED).unwrap().scales(), [1.0]);
    assert_eq!(there_and_back(&code((0.0, 0.0), (0.0, 6.0)).unwrap(), &[0.0]), [0.0]);
    assert_eq!(there_and_back(&code((0.0, 3.0), UNBOUNDED).unwrap(), &[3.0, 0.0]), [3.0, 0.0]);
    assert_eq!(code((-3.0, 0.0), UNBOUNDED).unwrap().zero_points(), [255]);
    assert!(code((0.0, 1e-44), UNBOUNDED).unwrap_err().to_string().contains("too small to be quantized"));
    assert_eq!(code((-1.0, 9.0), (0.0, 6.0)).unwrap().zero_points(), [0]);
}

#[test]
fn methods_disagree_where_they_should() {
    // One value in ten thousand lies far out.
    let mut x: Vec<f32> = (0..20_000).map(|i| (i % 1000) as f32 / 1000.0).collect();
    x.push(50.0);
    let high = |method| range(&of(&x), method).1;
    assert_eq!(high(ActivationRange::MinMax), 50.0);
    assert!(high(ActivationRange::Percentile) < 1.1);
    // Squared, the outlier alone weighs more than rounding all others to 0.2: it is kept nearly whole.
    let mse = high(ActivationRange::Mse);
    assert!(mse > 20.0 && mse < 50.0, "{mse}");
}
