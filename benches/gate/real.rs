//! Short runs of one model on this machine, one after the other, each judged against those before it.

use joulefront::energy::{Sources, open};
use joulefront::engine::{LoadOptions, Spec};
use joulefront::gate::{Case, CaseKey, RUN_SCHEMA_VERSION, Rules, Run, Saved, judge};
use joulefront::measure::{Environment, Plan, Subject, made_up, measure};
use joulefront::runner::Program;
use joulefront::stats::wilson;
use joulefront::tensor::DType;
use joulefront::units::{Bytes, Seconds};
use joulefront::{Error, Result};
use std::path::Path;
use std::sync::Arc;

const MODEL: &str = "fashion-mlp";

/// Runs before a run that it is judged against.
const BASELINE: usize = 20;

/// How often one of `runs` runs alarms, though nothing changed; those of the first baseline come before.
pub(crate) fn alarms(runs: usize) -> Result<()> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(format!("{MODEL}.onnx"));
    let input = Spec { name: "input".into(), dtype: DType::F32, shape: vec![1, 1, 28, 28] };
    let subject = Subject {
        label: MODEL.into(),
        model,
        engine: "tract".into(),
        options: LoadOptions::default(),
        samples: Arc::new(made_up(&[input], 8, 0)?),
    };
    let mut meter = open(&Sources::default(), &[], false)?;
    let environment = Environment::collect(Vec::new());
    let mut saved: Vec<Saved> = Vec::new();
    let (mut judged, mut alarms) = (0, 0);
    for number in 0..BASELINE + runs {
        let window = Seconds(0.05);
        let plan =
            Plan { processes: 3, blocks: 2, window, longest_window: window, seed: number as u64, disturbance: 1.0, ..Plan::default() };
        let measured = measure(&Program::find()?, std::slice::from_ref(&subject), meter.as_mut(), &plan, &mut |_| ())?;
        let measurement = measured.into_iter().next().ok_or_else(|| Error::engine("nothing was measured"))??;
        let case = Case {
            key: CaseKey { model: MODEL.into(), engine: "tract".into(), threads: 1, batch: 1 },
            engine_version: String::new(),
            model_sha256: String::new(),
            model_bytes: Bytes(1),
            accuracy: None,
            measurement,
        };
        let (schema_version, inputs) = (RUN_SCHEMA_VERSION, String::new());
        let run = Run { schema_version, taken_unix_s: 0, environment: environment.clone(), window, inputs, cases: vec![case] };
        if saved.len() >= BASELINE {
            let outcome = judge("main", &saved[saved.len() - BASELINE..], std::slice::from_ref(&run), &Rules::default())?;
            judged += 1;
            alarms += u64::from(!outcome.passed());
            if !outcome.passed() {
                println!("run {number}: {}", outcome.sentence());
            }
        }
        saved.push(Saved { number: number as u64, run });
    }
    let bound = wilson(alarms, judged).ok_or_else(|| Error::bad_input("no run is to be judged"))?;
    println!("{alarms} of {judged} runs alarm: {:.1} % ({:.1} … {:.1})", 100.0 * bound.value, 100.0 * bound.lo, 100.0 * bound.hi);
    Ok(())
}
