//! The measurement protocol with real processes and a simulated counter.

use joulefront::energy::simulate::Ticker;
use joulefront::energy::{Estimator, Kind, Meter, Powercap, Tree};
use joulefront::engine::{LoadOptions, Spec};
use joulefront::measure::{Plan, Subject, made_up, measure};
use joulefront::runner::Program;
use joulefront::sys::Host;
use joulefront::tensor::DType;
use joulefront::units::{Seconds, Watts};
use std::path::Path;
use std::sync::Arc;

fn subject(model: &str, batch: usize) -> Subject {
    let input = Spec { name: "input".into(), dtype: DType::F32, shape: vec![1, 1, 28, 28] };
    Subject {
        label: model.into(),
        model: Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(format!("{model}.onnx")),
        engine: "tract".into(),
        options: LoadOptions { batch, ..LoadOptions::default() },
        samples: Arc::new(made_up(&[input], 8, 0).unwrap()),
    }
}

/// Short, and never disturbed: tests run on busy machines.
fn quick() -> Plan {
    let window = Seconds(0.05);
    Plan { processes: 3, blocks: 2, window, longest_window: window, disturbance: f64::INFINITY, ..Plan::default() }
}

fn program() -> Program {
    Program::at(env!("CARGO_BIN_EXE_joulefront"))
}

#[test]
fn models_are_compared_and_one_that_cannot_run_ends_alone() {
    let sim = Ticker::default().start(|t| Watts(50.0) * Seconds::from(t)).unwrap();
    let mut meter = Powercap::open(&Tree::at(sim.root()), &Host::default()).unwrap();
    let subjects = [subject("fashion-mlp", 1), subject("fashion-resnet8", 1), subject("absent", 1), subject("fashion-mlp", 4)];
    let mut steps = 0;
    let results = measure(&program(), &subjects, &mut meter, &quick(), &mut |_| steps += 1).unwrap();
    assert!(results[2].as_ref().unwrap_err().to_string().contains("absent.onnx"));
    for i in [0, 1, 3] {
        let m = results[i].as_ref().unwrap();
        let e = m.energy.as_ref().unwrap();
        assert_eq!((e.kind, e.meter.as_str(), m.processes, m.windows), (Kind::Simulated, "powercap", 3, 6));
        assert!(e.gross.lo < e.gross.value && e.gross.value < e.gross.hi && e.gross.value > 0.0);
        assert!(m.latency.p50 <= m.latency.p90 && m.latency.p90 <= m.latency.p99 && m.latency.p50.0 > 1e-6);
        assert!(m.peak_rss > m.rss_before_load);
        assert_eq!(m.inferences % subjects[i].options.batch as u64, 0);
    }
    // ResNet8 does seventeen times the multiply–adds.
    let resnet8 = results[1].as_ref().unwrap();
    assert!(resnet8.latency.ratio.unwrap().value > 2.0 && resnet8.energy.as_ref().unwrap().ratio.unwrap().value > 2.0);
    assert_eq!(results[0].as_ref().unwrap().latency.ratio.unwrap().value, 1.0);
    assert!(steps > 4 * 6);
}

#[test]
fn the_estimator_sees_the_child() {
    let mut meter = Estimator::open().unwrap();
    let subjects = [subject("fashion-mlp", 1)];
    let m = measure(&program(), &subjects, &mut meter, &quick(), &mut |_| ()).unwrap().remove(0).unwrap();
    let e = m.energy.unwrap();
    assert_eq!((e.kind, e.scope), (Kind::Estimated, meter.info().scope));
    assert!(e.gross.value > 0.0);
}
