//! Made-up runs for tests.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::run::{Accuracy, Case, CaseKey, RUN_SCHEMA_VERSION, Run};
use crate::energy::{Kind, Scope, Systematic};
use crate::measure::{Build, Cpu, Energy, Environment, Latency, Load, Measurement, Moment, ProcessLatency};
use crate::stats::Interval;
use crate::units::{Bytes, Seconds};

pub(crate) fn environment() -> Environment {
    Environment {
        joulefront: "0.1.0".into(),
        build: Build {
            target: "x86_64-unknown-linux-gnu".into(),
            profile: "release".into(),
            opt_level: "3".into(),
            rustflags: String::new(),
            target_features: vec!["sse2".into()],
        },
        cpu: Cpu {
            vendor: "GenuineIntel".into(),
            model_name: "Xeon".into(),
            family: Some(6),
            model: Some(143),
            logical_cores: 8,
            features: vec!["avx2".into()],
            smt: Some(true),
            boost: None,
            frequency_driver: Some("intel_pstate".into()),
            governor: Some("performance".into()),
            frequency_limits_khz: Some((800_000, 3_000_000)),
            power_limit: None,
            sgx: false,
        },
        memory: Some(Bytes(16 << 30)),
        os: "Linux".into(),
        kernel: "6.1".into(),
        virtual_machine: false,
        container: None,
        engines: Vec::new(),
        moment: Moment { load_average: None, other_cpus: None, steal_cpus: None, swap_used: None, temperatures: Vec::new() },
    }
}

/// A run whose time and energy are `factor` times the usual, with some noise that depends on `seed`: about 0.5 % from run to run,
/// 1 % from process to process.
pub(crate) fn run(seed: u64, factor: f64) -> Run {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    };
    for _ in 0..8 {
        uniform();
    }
    let luck = factor * (1.0 + 0.01 * uniform());
    let cases = ["models/a.onnx", "models/b.onnx"].map(|model| {
        let processes: Vec<f64> = (0..5).map(|_| luck * (1.0 + 0.02 * uniform())).collect();
        case(model, &processes)
    });
    Run {
        schema_version: RUN_SCHEMA_VERSION,
        taken_unix_s: 1_760_000_000 + seed,
        environment: environment(),
        window: Seconds(0.2),
        inputs: "made up, seed 0".into(),
        cases: cases.into(),
    }
}

/// A case whose processes cost that many millijoules and half as many milliseconds.
pub(crate) fn case(model: &str, processes: &[f64]) -> Case {
    let mean = processes.iter().sum::<f64>() / processes.len() as f64;
    let around = |value: f64| Interval { value, lo: value * 0.98, hi: value * 1.02 };
    let time = |k: f64| Seconds(k * mean * 0.5e-3);
    Case {
        key: CaseKey { model: model.into(), engine: "tract".into(), threads: 1, batch: 1 },
        engine_version: "0.23.9".into(),
        model_sha256: format!("{model:0>64}"),
        model_bytes: Bytes(312_030),
        accuracy: Some(Accuracy { right: 9208, samples: 10_000, split: "test".into() }),
        measurement: Measurement {
            energy: Some(Energy {
                kind: Kind::Simulated,
                meter: "powercap".into(),
                scope: Scope::Package,
                gross: around(mean * 1e-3),
                net: None,
                ratio: None,
                verdict: None,
                per_process: processes.iter().map(|p| p * 1e-3).collect(),
                systematic: Systematic { low: 1.0, high: 1.0, source: "made up".into() },
            }),
            latency: Latency { mean: around(time(1.0).0), p50: time(0.98), p90: time(1.1), p99: time(1.3), ratio: None, verdict: None },
            beside: None,
            latency_per_process: processes
                .iter()
                .map(|p| {
                    let time = |k: f64| Seconds(k * p * 0.5e-3);
                    ProcessLatency { mean: time(1.0), p50: time(0.98), p90: time(1.1), p99: time(1.3) }
                })
                .collect(),
            load: Load::BackToBack,
            cold: None,
            throughput_per_s: 2000.0 / mean,
            peak_rss: Bytes(18_500_000),
            rss_before_load: Bytes(9_200_000),
            processes: processes.len() as u64,
            windows: 20,
            disturbed_windows: 0,
            invalid_windows: Vec::new(),
            inferences: 24_000,
            warnings: Vec::new(),
        },
    }
}
