//! Made-up trials for tests: the shape of a real sweep on a small convolutional network, with the awkward cases.

use super::{Configuration, Outcome, Results, StudyHeader, Trial, VariantFacts};
use crate::energy::{Kind, Scope, Systematic};
use crate::measure::{Energy, Latency, Measurement};
use crate::stats::Interval;
use crate::units::{Bytes, Joules, Seconds};

pub(crate) fn around(value: f64, half: f64) -> Interval {
    Interval { value: short(value), lo: short(value - half), hi: short(value + half) }
}

/// Nine digits, as a person would write a figure.
fn short(value: f64) -> f64 {
    format!("{value:.8e}").parse().unwrap_or(value)
}

pub(crate) fn configuration(recipe: &str, reproduce: &str, engine: &str) -> Configuration {
    let lowering = if recipe.contains("w8") { "quantize-linear" } else { "float" };
    Configuration {
        recipe: recipe.into(),
        reproduce: reproduce.into(),
        engine: engine.into(),
        lowering: lowering.into(),
        threads: 1,
        batch: 1,
        seed: 7,
    }
}

pub(crate) fn header() -> StudyHeader {
    StudyHeader {
        created: "2026-01-31T12:00:00Z".into(),
        joulefront_version: "0.1.0".into(),
        settings: serde_json::json!({ "budget": "5m", "strategy": "evolution" }),
        ..StudyHeader::new(
            ("fashion-resnet8.onnx", &"a1".repeat(32)),
            ("fashion-mnist", &"b2".repeat(32)),
            configuration("original", "", "tract"),
        )
    }
}

/// A finished trial: accuracy as a share, energy as its ratio to the reference. The machine drifts: gross readings of
/// later trials are up to 10 % higher, so gross and drift-corrected energies differ.
pub(crate) fn done(id: u64, configuration: Configuration, accuracy: f64, ratio: f64, bytes: u64) -> Trial {
    let (reference, drift) = (1.9e-3, 1.0 + 0.004 * id as f64);
    let gross = reference * ratio * drift;
    let quantized = configuration.recipe.contains("w8");
    let pruned = configuration.recipe.split_once("prune ").and_then(|(_, r)| r.split_once(" %")).and_then(|(n, _)| n.parse::<f64>().ok());
    let half = if id == 0 { 0.0 } else { 0.015 + 0.02 * ratio };
    // As the first three of [`CASES`] have it.
    let of_original = match configuration.engine.as_str() {
        "rten" => 0.83,
        "ort" => 0.58,
        _ => 1.0,
    };
    let results = Results {
        variant: VariantFacts {
            params: bytes / 4,
            macs: Some((9.35e6 * (1.0 - pruned.unwrap_or(0.0) / 100.0)) as u64),
            model_bytes: Bytes(bytes),
            model_sha256: format!("{id:064x}"),
            pruning_ratio: pruned.map(|p| p / 100.0),
            weight_bits: if quantized { 8.0 } else { 32.0 },
        },
        accuracy: Some(around(accuracy, 0.0085)),
        accuracy_drop_points: Some(around((0.921 - accuracy) * 100.0, if id == 0 { 0.0 } else { 0.45 })),
        test_accuracy: id.is_multiple_of(5).then(|| around(accuracy - 0.003, 0.0054)),
        measurement: Measurement {
            energy: Some(Energy {
                kind: Kind::Estimated,
                meter: "cpu-time".into(),
                scope: Scope::ProcessShare,
                gross: around(gross, 0.03 * gross),
                net: None,
                ratio: Some(around(ratio, half)),
                verdict: None,
                per_process: Vec::new(),
                systematic: Systematic { low: 0.6, high: 1.7, source: "watts per busy core of this CPU family".into() },
            }),
            latency: Latency {
                mean: around(450e-6 * ratio, 9e-6 * ratio),
                p50: Seconds(short(440e-6 * ratio)),
                p90: Seconds(short(480e-6 * ratio)),
                p99: Seconds(short(610e-6 * ratio)),
                ratio: Some(around(ratio, half)),
                verdict: None,
            },
            latency_per_process: Vec::new(),
            beside: None,
            load: crate::measure::Load::BackToBack,
            cold: None,
            throughput_per_s: short(2200.0 / ratio),
            peak_rss: Bytes(18_500_000 + 2 * bytes),
            rss_before_load: Bytes(9_200_000),
            processes: 5,
            windows: 20,
            disturbed_windows: 0,
            invalid_windows: if id % 7 == 3 { vec![("other processes took more than 5 % of CPU".into(), 2)] } else { Vec::new() },
            inferences: 24_000,
            warnings: Vec::new(),
        },
        energy_ratio_engine: Some(around(ratio / of_original, half)),
        make_energy: (id != 0).then_some(Joules(12.5)),
    };
    Trial { id, configuration, outcome: Outcome::Done(Box::new(results)), environment: "host".into() }
}

pub(crate) fn failed(id: u64, configuration: Configuration, reason: &str) -> Trial {
    Trial { id, configuration, outcome: Outcome::Failed { reason: reason.into() }, environment: "host".into() }
}

/// (recipe, options, engine, accuracy, energy ratio, bytes); `None` for a failed trial.
type Case = (&'static str, &'static str, &'static str, Option<(f64, f64, u64)>);

#[rustfmt::skip]
const CASES: [Case; 26] = [
    ("original", "", "tract", Some((0.9210, 1.0, 312_030))),
    ("original", "", "rten", Some((0.9210, 0.83, 312_030))),
    ("original", "", "ort", Some((0.9210, 0.58, 312_030))),
    ("w8a8", "--weight-bits 8 --activation-bits 8", "tract", Some((0.9203, 1.22, 97_800))),
    ("w8a8", "--weight-bits 8 --activation-bits 8", "rten", Some((0.9203, 0.96, 97_800))),
    ("w8a8", "--weight-bits 8 --activation-bits 8", "ort", Some((0.9201, 0.39, 97_810))),
    ("prune 30 % channels", "--prune 30% --granularity channel", "tract", Some((0.9025, 0.73, 221_400))),
    ("prune 30 % channels", "--prune 30% --granularity channel", "ort", Some((0.9025, 0.46, 221_400))),
    ("prune 30 % channels + fine-tune 3", "--prune 30% --granularity channel --finetune 3", "tract", Some((0.9178, 0.725, 221_400))),
    ("prune 30 % channels + fine-tune 3", "--prune 30% --granularity channel --finetune 3", "ort", Some((0.9178, 0.455, 221_400))),
    ("prune 50 % channels", "--prune 50% --granularity channel", "tract", Some((0.8310, 0.55, 160_100))),
    ("prune 50 % channels + fine-tune 3", "--prune 50% --granularity channel --finetune 3", "tract", Some((0.9120, 0.548, 160_100))),
    ("prune 50 % channels + fine-tune 3", "--prune 50% --granularity channel --finetune 3", "ort", Some((0.9120, 0.36, 160_100))),
    ("prune 50 % channels + fine-tune 3 + w8a8", "--prune 50% --granularity channel --finetune 3 --weight-bits 8 --activation-bits 8", "ort", Some((0.9105, 0.285, 58_900))),
    ("prune 50 % channels + fine-tune 3 + w8a8", "--prune 50% --granularity channel --finetune 3 --weight-bits 8 --activation-bits 8", "tract", Some((0.9105, 0.70, 58_880))),
    ("prune 70 % channels + fine-tune 3", "--prune 70% --granularity channel --finetune 3", "ort", Some((0.8990, 0.29, 98_000))),
    ("prune 70 % channels + fine-tune 3 + w8a8", "--prune 70% --granularity channel --finetune 3 --weight-bits 8 --activation-bits 8", "ort", Some((0.8971, 0.238, 41_200))),
    ("prune 70 % channels + distil 5 + w8a8", "--prune 70% --granularity channel --distil 5 --weight-bits 8 --activation-bits 8", "ort", Some((0.9040, 0.236, 41_200))),
    ("prune 85 % channels + distil 5 + w8a8", "--prune 85% --granularity channel --distil 5 --weight-bits 8 --activation-bits 8", "ort", Some((0.8702, 0.19, 29_900))),
    ("prune 85 % channels + distil 5", "--prune 85% --granularity channel --distil 5", "tract", Some((0.8733, 0.335, 60_000))),
    ("w4", "--weight-bits 4", "tract", Some((0.9140, 1.01, 58_300))),
    ("w2", "--weight-bits 2", "tract", Some((0.1700, 1.02, 38_000))),
    ("prune 80 % connections", "--prune 80%", "tract", Some((0.2470, 0.995, 312_030))),
    ("w8a8 + distil 2", "--weight-bits 8 --activation-bits 8 --distil 2", "ort", Some((0.9208, 0.392, 97_810))),
    ("w8a8", "--weight-bits 8 --activation-bits 8", "ort", None),
    ("2:4", "--granularity 2:4", "rten", None),
];

/// 26 trials, 2 of them failed; number 0 is the reference.
pub(crate) fn trials() -> Vec<Trial> {
    let one = |(id, (recipe, reproduce, engine, figures)): (usize, &Case)| {
        let (id, mut c) = (id as u64, configuration(recipe, reproduce, engine));
        match figures {
            Some((accuracy, ratio, bytes)) => done(id, c, *accuracy, *ratio, *bytes),
            None => {
                c.threads = 2;
                failed(id, c, "engine: the child ended with signal 9 (out of memory?)")
            }
        }
    };
    CASES.iter().enumerate().map(one).collect()
}
