//! Short runs of one model on this machine, one after the other, each judged against those before it.

use joulefront::energy::{Meter, Sources, open};
use joulefront::engine::{LoadOptions, Spec};
use joulefront::gate::{Case, CaseKey, Metric, RUN_SCHEMA_VERSION, Rules, Run, Saved, judge};
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

/// Of so many times the runs that are to be judged, others may disturb the rest.
const MOST: usize = 4;

/// How often one of `wanted` runs alarms, though nothing changed; those of the first baseline come before. An alarm is looked into as
/// docs/ci does it: two more runs, and all three are judged together. Runs that others disturbed are not judged by the gate, and not
/// counted here but for their number.
pub(crate) fn alarms(wanted: u64) -> Result<()> {
    let mut machine = Real::new()?;
    let mut saved: Vec<Saved> = Vec::new();
    let (mut judged, mut alarms, mut confirmed, mut largest) = (0, 0, 0, 0.0f64);
    while judged < wanted {
        let run = machine.quiet_run(MOST * (BASELINE + wanted as usize))?;
        if saved.len() >= BASELINE {
            let baseline = &saved[saved.len() - BASELINE..];
            let outcome = judge("main", baseline, std::slice::from_ref(&run), &Rules::default())?;
            judged += 1;
            largest = outcome.findings.iter().filter_map(|f| f.limit.filter(|_| f.metric == Metric::Energy)).fold(largest, f64::max);
            if !outcome.passed() {
                alarms += 1;
                println!("run {}: {}", saved.len(), outcome.sentence());
                let most = usize::MAX;
                let three = [run.clone(), machine.quiet_run(most)?, machine.quiet_run(most)?];
                let outcome = judge("main", baseline, &three, &Rules::default())?;
                confirmed += u64::from(!outcome.passed());
                println!("  three runs: {}", outcome.sentence());
            }
        }
        saved.push(Saved { number: saved.len() as u64, run });
    }
    println!("{} runs were disturbed and not judged; energy was called from +{:.1} % on at most", machine.disturbed, 100.0 * largest);
    for (what, count) in [("alarm", alarms), ("alarm with two more runs", confirmed)] {
        let bound = wilson(count, judged).ok_or_else(|| Error::bad_input("no run is to be judged"))?;
        println!("{count} of {judged} runs {what}: {:.1} % ({:.1} … {:.1})", 100.0 * bound.value, 100.0 * bound.lo, 100.0 * bound.hi);
    }
    Ok(())
}

/// This machine, and how it was measured so far.
struct Real {
    subject: Subject,
    meter: Box<dyn Meter>,
    environment: Environment,
    runs: usize,
    disturbed: usize,
}

impl Real {
    fn new() -> Result<Real> {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(format!("{MODEL}.onnx"));
        let input = Spec { name: "input".into(), dtype: DType::F32, shape: vec![1, 1, 28, 28] };
        let subject = Subject {
            label: MODEL.into(),
            model,
            engine: "tract".into(),
            options: LoadOptions::default(),
            samples: Arc::new(made_up(&[input], 8, 0)?),
        };
        let meter = open(&Sources::default(), &[], false)?;
        Ok(Real { subject, meter, environment: Environment::collect(Vec::new()), runs: 0, disturbed: 0 })
    }

    /// The next run that nobody disturbed, unless there were `most` runs before.
    fn quiet_run(&mut self, most: usize) -> Result<Run> {
        while self.runs < most {
            let run = self.run()?;
            self.runs += 1;
            if !run.cases[0].measurement.is_disturbed() {
                return Ok(run);
            }
            self.disturbed += 1;
        }
        Err(Error::engine(format!("{} of {} runs were disturbed: this machine is too busy", self.disturbed, self.runs)))
    }

    fn run(&mut self) -> Result<Run> {
        let window = Seconds(0.05);
        let plan = Plan { processes: 3, blocks: 2, window, longest_window: window, seed: self.runs as u64, ..Plan::default() };
        let measured = measure(&Program::find()?, std::slice::from_ref(&self.subject), self.meter.as_mut(), &plan, &mut |_| ())?;
        let case = Case {
            key: CaseKey { model: MODEL.into(), engine: "tract".into(), threads: 1, batch: 1 },
            engine_version: String::new(),
            model_sha256: String::new(),
            model_bytes: Bytes(1),
            accuracy: None,
            measurement: measured.into_iter().next().ok_or_else(|| Error::engine("nothing was measured"))??,
        };
        let (schema_version, inputs) = (RUN_SCHEMA_VERSION, String::new());
        Ok(Run { schema_version, taken_unix_s: 0, environment: self.environment.clone(), window, inputs, cases: vec![case] })
    }
}
