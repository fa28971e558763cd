//! What the forms of a quantized model are worth: `cargo bench --bench forms [-- MODEL...]` (names of shipped models; all without).
//!
//! For each shipped model, engine that is here and form that it is offered: accuracy on all test images on the engine beside that of the
//! canonical model on the reference execution, how far outputs are from the reference execution of the same file, and time and energy
//! beside the engine's float form, windows interleaved in fresh processes. Prints the table of docs/ENGINES.md. Not on a busy machine.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use joulefront::compress::Calibration;
use joulefront::data::Dataset;
use joulefront::energy::Estimator;
use joulefront::engine::{LoadOptions, all};
use joulefront::lower::{Form, forms};
use joulefront::make::{Variant, make};
use joulefront::measure::{Compared, Plan, Subject, measure};
use joulefront::onnx::Model;
use joulefront::recipe::{Recipe, Step, WeightGranularity};
use joulefront::runner::{Program, find};
use joulefront::screen::{Pays, Probe, Suspect, check, classes, forms_of, in_form};
use joulefront::tensor::Tensor;
use joulefront::units::Seconds;
use joulefront::{Error, Result, atomic};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const MODELS: [&str; 4] = ["fashion-mlp", "fashion-vit", "fashion-resnet8", "fashion-dscnn"];
/// Images that ranges of activations are taken from.
const CALIBRATION: usize = 512;
/// Inputs that measured processes rotate over.
const ROTATION: usize = 16;

/// A form of a model in a file.
struct Formed {
    recipe: String,
    form: Form,
    model: Model,
    path: PathBuf,
    /// Top classes and accuracy of the model that it stands for, by the reference execution.
    classes: Arc<Vec<u32>>,
    accuracy: f64,
}

/// One model with what it is run on.
struct Bench<'a> {
    program: &'a Program,
    folder: &'a Path,
    probe: Probe,
    calibration: Calibration,
    samples: Arc<Vec<Tensor>>,
}

fn main() -> Result<()> {
    joulefront::runner::init();
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let data = Dataset::open(root.join("fashion-mnist"))?;
    let (test, calibration) = (data.split("test")?, data.split("calibration")?);
    let folder = tempfile::tempdir().map_err(|e| Error::environment(e.to_string()))?;
    let program = Program::find()?;
    let bench = Bench {
        program: &program,
        folder: folder.path(),
        probe: Probe { names: vec!["input".into()], inputs: vec![test.batch(0..test.len())?], labels: test.labels().map(<[u32]>::to_vec) },
        samples: Arc::new(vec![test.batch(0..ROTATION)?]),
        calibration: Calibration::new("input", &calibration.batch(0..CALIBRATION.min(calibration.len()))?)?,
    };
    println!("{} test images; 95 % intervals that hold together for a model on an engine; energy estimated from CPU time", test.len());
    println!("| model | engine | form | accuracy | points lost to the quantized model | outputs differ by | time | energy | |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for name in MODELS.iter().filter(|name| asked.is_empty() || asked.iter().any(|a| a == *name)) {
        let bytes = std::fs::read(root.join(format!("{name}.onnx"))).map_err(|e| Error::read(*name, e))?;
        bench.table(name, &bytes)?;
    }
    Ok(())
}

impl Bench<'_> {
    /// The rows of one model.
    fn table(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let original = Model::from_bytes(bytes, name)?;
        let blocks = Step::Quantize {
            weight_bits: 4,
            activation_bits: None,
            granularity: WeightGranularity::Block32,
            range: joulefront::recipe::ActivationRange::default(),
        };
        let recipes = [vec![], vec![Step::quantize_weights(8)], vec![Step::quantize_all()], vec![blocks]];
        let mut formed = Vec::new();
        for steps in recipes {
            let recipe = Recipe { steps };
            let variant = make(&original, bytes, &recipe, Some(&self.calibration))?;
            formed.extend(self.forms(&recipe, &variant)?);
        }
        for engine in all() {
            if let Err(why) = find(self.program, *engine) {
                println!("| {name} | {} | not here: {why} |||||||", engine.name());
                continue;
            }
            let offered = forms(engine.name());
            let here: Vec<&Formed> = formed.iter().filter(|f| offered.contains(&f.form)).collect();
            self.rows(name, engine.name(), &here)?;
        }
        Ok(())
    }

    /// A variant in each form that it can have.
    fn forms(&self, recipe: &Recipe, variant: &Variant) -> Result<Vec<Formed>> {
        let classes = Arc::new(classes(&Model::from_bytes(&variant.bytes, "the variant")?, &self.probe)?);
        let right = self.probe.labels.iter().flatten().zip(classes.iter()).filter(|(label, class)| label == class).count();
        let accuracy = right as f64 / classes.len().max(1) as f64;
        let mut out = Vec::new();
        for &form in forms_of(recipe) {
            // A form that no layer can have is no row.
            let Ok(variant) = in_form(variant, recipe, form, None) else { continue };
            let path = self.folder.join(format!("{}.onnx", variant.sha256));
            atomic::write(&path, &variant.bytes)?;
            let model = Model::from_bytes(&variant.bytes, "a form")?;
            out.push(Formed { recipe: recipe.to_string(), form, model, path, classes: Arc::clone(&classes), accuracy });
        }
        Ok(out)
    }

    /// What one engine makes of the forms; the first is the original.
    fn rows(&self, name: &str, engine: &str, formed: &[&Formed]) -> Result<()> {
        let options = LoadOptions::default();
        let subject = |f: &&Formed| Subject {
            label: f.form.to_string(),
            model: f.path.clone(),
            engine: engine.to_owned(),
            options: options.clone(),
            samples: Arc::clone(&self.samples),
        };
        let subjects: Vec<Subject> = formed.iter().map(subject).collect();
        let pairs = (1..subjects.len()).map(|i| (i, 0)).collect();
        let plan = Plan { processes: 8, blocks: 4, window: Seconds(0.06), pairs, ..Plan::default() };
        let measured = measure(self.program, &subjects, &mut Estimator::open()?, &plan, &mut |_| {})?;
        for (formed, measured) in formed.iter().zip(measured) {
            let suspect = Suspect {
                model: &formed.model,
                path: &formed.path,
                form: formed.form,
                engine,
                options: &options,
                quantized: &formed.classes,
            };
            let checked = check(self.program, &suspect, &self.probe, Duration::from_secs(120), &AtomicBool::new(false))?;
            // Without the name of a file that is gone by now.
            let said = |why: &dyn std::fmt::Display| why.to_string().replace(&format!("`{}`: ", formed.path.display()), "");
            let (points, difference) = match checked {
                Ok(c) => (format!("{:+.2}", c.loss_points.unwrap_or(f64::NAN)), format!("{:.1e}", c.difference)),
                Err(fault) => (said(&fault), String::new()),
            };
            let ratio = |c: Option<Compared>| {
                c.map_or_else(String::new, |c| format!("{:.2}× ({:.2}…{:.2})", c.ratio.value, c.ratio.lo, c.ratio.hi))
            };
            let (time, energy, pays) = match measured {
                Err(e) => (said(&e), String::new(), String::new()),
                Ok(m) => match m.beside {
                    None => (m.latency.p50.to_string(), String::new(), String::new()),
                    Some(b) => (ratio(b.latency), ratio(b.energy), Pays::of(&b).to_string()),
                },
            };
            let accuracy = 100.0 * formed.accuracy;
            println!(
                "| {name} | {engine} | {} ({}) | {accuracy:.2} | {points} | {difference} | {time} | {energy} | {pays} |",
                formed.form, formed.recipe
            );
        }
        Ok(())
    }
}
