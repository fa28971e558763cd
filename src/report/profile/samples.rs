//! Made-up profiles for tests.

use crate::energy::{Kind, Scope, Systematic};
use crate::profile::{Check, Cost, Energy, Place, Profile, Row, Whole};
use crate::stats::Interval;
use crate::sys::peak::Peak;
use crate::units::{Bytes, Seconds};

fn about(value: f64, share: f64) -> Interval {
    Interval { value, lo: value * (1.0 - share), hi: value * (1.0 + share) }
}

const PEAK: Peak = Peak { flops: 100e9, bytes_per_s: 20e9, working_set: 2_000_000, threads: 1 };

/// A row that takes `us` of 1000 µs; a thousandth of the multiply–adds and bytes is what it has for each microsecond.
fn row(name: &str, operators: &[&str], nodes: &[usize], us: f64, work: Option<(u64, u64)>) -> Row {
    let cost = work.map_or(Cost::default(), |(macs, bytes)| Cost {
        macs: (macs > 0).then_some(macs),
        weights: Some(Bytes(bytes / 4)),
        activations: Some(Bytes(bytes - bytes / 4)),
        alive: Some(Bytes(bytes)),
    });
    Row {
        name: name.into(),
        operators: operators.iter().map(|&o| o.into()).collect(),
        is_layer: work.is_some_and(|w| w.0 > 0),
        nodes: nodes.to_vec(),
        engine_nodes: vec![format!("{name}.run")],
        time: Some(about(us * 1e-6, 0.02)),
        share: Some(about(us / 1000.0, 0.01)),
        place: Place::of(&cost, Seconds(us * 1e-6), &PEAK),
        cost,
        energy: Some(about(us * 10e-6, 0.03)),
        check: None,
    }
}

fn profile(model: &str, mut rows: Vec<Row>) -> Profile {
    let us: f64 = rows.iter().filter_map(|r| r.time).map(|t| t.value * 1e6).sum();
    let mut last = row("between nodes", &[], &[], 1000.0 - us, None);
    last.engine_nodes.clear();
    rows.push(last);
    let whole = Whole {
        plain: about(990e-6, 0.01),
        instrumented: about(1e-3, 0.01),
        overhead: about(1.0101, 0.005),
        empty: about(5e-6, 0.01),
        clock: about(0.4e-6, 0.01),
        processes: 5,
        runs: 5000,
    };
    let systematic = Systematic { low: 0.8, high: 1.4, source: "a table".into() };
    let energy =
        Energy { run: about(10e-3, 0.02), kind: Kind::Estimated, meter: "estimate".into(), scope: Scope::ProcessShare, systematic };
    Profile {
        model: model.into(),
        engine: "tract".into(),
        engine_version: "1.2.3".into(),
        threads: 1,
        batch: 1,
        whole,
        energy: Some(energy),
        peak: PEAK,
        rows,
        warnings: vec!["a window was short".into()],
    }
}

/// Two convolutions, a pool, a node of the engine's own with signs that formats must not trip over.
pub(super) fn original() -> Profile {
    let mut first = row("/s1/c1/Conv", &["Conv", "Relu"], &[0, 1], 600.0, Some((20_000_000, 1_000_000)));
    first.check = Some(Check { alone: about(5.5e-3, 0.02), ratio: 6.0 / 5.5 });
    let second = row("/s1/c2/Conv", &["Conv", "Add", "Relu"], &[2, 3, 4], 300.0, Some((1_000_000, 3_000_000)));
    let pool = row("/pool", &["GlobalAveragePool"], &[5], 50.0, Some((0, 100_000)));
    profile("net.onnx", vec![first, second, pool, row("Reorder; a b", &["Reorder"], &[], 30.0, None)])
}

/// The second convolution has another name, the pool is gone, and a node has come.
pub(super) fn variant() -> Profile {
    let first = row("/s1/c1/Conv", &["Conv", "Relu"], &[0], 610.0, Some((20_000_000, 1_000_000)));
    let second = row("/s1/c2/Conv_int8", &["QLinearConv"], &[1], 150.0, Some((1_000_000, 800_000)));
    let own = [row("Reorder; a b", &["Reorder"], &[], 30.0, None), row("QuantizeInput", &["Quantize"], &[], 10.0, None)];
    profile("net-int8.onnx", [first, second].into_iter().chain(own).collect())
}
