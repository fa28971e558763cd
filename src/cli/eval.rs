//! `joulefront eval`: accuracy with its interval, per class, on the engine that ships.

use super::inputs::{ModelFile, SHIPPED_DATA, shipped};
use super::progress::Bar;
use super::{Global, print, print_json, text};
use crate::data::{Dataset, Split};
use crate::engine::{self, LoadOptions, Predict, predict};
use crate::runner::Program;
use crate::stats::{Interval, Scores, agreement};
use crate::{Error, Result};
use serde_json::json;
use std::path::PathBuf;

/// Accuracy with its interval, per class.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The model
    model: PathBuf,
    /// The dataset's folder [default: the shipped Fashion-MNIST]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Which split
    #[arg(long, default_value = "test", value_name = "NAME")]
    split: String,
    /// The engine
    #[arg(long, default_value = "tract", value_name = "E")]
    engine: String,
    /// Another model, to count how often both predict the same class
    #[arg(long, value_name = "MODEL")]
    reference: Option<PathBuf>,
    /// Samples per run
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// A process that takes longer for 256 samples is given up
    #[arg(long, default_value = "120s", value_name = "TIME", value_parser = super::values::seconds)]
    timeout: crate::units::Seconds,
}

/// Runs the subcommand.
pub(super) fn run(args: &Args, global: &Global) -> Result<()> {
    engine::by_name(&args.engine)?;
    let file = ModelFile::open(&args.model)?;
    let data = Dataset::open(args.data.clone().map_or_else(|| shipped(SHIPPED_DATA), Ok)?)?;
    file.check_fits(&data)?;
    let split = data.split(&args.split)?;
    let classes = top_classes(args, &file, &split, global)?;
    let scores = match split.labels() {
        Some(labels) => Some(Scores::new(&classes, labels, data.classes())?),
        None if args.reference.is_none() => {
            return Err(Error::bad_input(format!("the split `{}` has no labels, so there is no accuracy", args.split))
                .hint("give `--reference MODEL` to count agreement, or add `y` to the split in dataset.toml"));
        }
        None => None,
    };
    let agrees = match &args.reference {
        Some(path) => {
            let reference = ModelFile::open(path)?;
            reference.check_fits(&data)?;
            Some(agreement(&classes, &top_classes(args, &reference, &split, global)?)?)
        }
        None => None,
    };
    let samples = split.len();
    if global.json {
        print_json(as_json(args, &file, samples, scores.as_ref(), agrees))
    } else {
        print(&as_text(args, &file, &data, samples, scores.as_ref(), agrees))
    }
}

fn top_classes(args: &Args, file: &ModelFile, split: &Split, global: &Global) -> Result<Vec<u32>> {
    let cancel = super::progress::on_ctrl_c()?;
    let what = Predict {
        model: file.path.clone(),
        engine: args.engine.clone(),
        options: LoadOptions { batch: args.batch as usize, ..LoadOptions::default() },
        count: split.len(),
        workers: 0,
        timeout: args.timeout.into(),
        cancel,
    };
    let bar = Bar::new(global, split.len() as u64, "samples");
    let inputs = |range| Ok(vec![split.batch(range)?]);
    let predicted = predict(&Program::find()?, &what, &inputs, &|done| bar.at(done as u64));
    bar.clear();
    let predicted = predicted.map_err(|e| e.context(format!("`{}`", file.path.display())))?;
    Ok(predicted.top)
}

fn as_json(args: &Args, file: &ModelFile, samples: usize, scores: Option<&Scores>, agrees: Option<Interval>) -> serde_json::Value {
    json!({
        "model": file.path.display().to_string(),
        "model_sha256": file.sha256,
        "engine": args.engine,
        "split": args.split,
        "accuracy": scores.map(|s| s.accuracy.value),
        "accuracy_lo": scores.map(|s| s.accuracy.lo),
        "accuracy_hi": scores.map(|s| s.accuracy.hi),
        "samples": samples,
        "per_class": scores.map(|s| &s.per_class),
        "agreement": agrees.map(|a| a.value),
        "agreement_lo": agrees.map(|a| a.lo),
        "agreement_hi": agrees.map(|a| a.hi),
    })
}

fn as_text(args: &Args, file: &ModelFile, data: &Dataset, samples: usize, scores: Option<&Scores>, agrees: Option<Interval>) -> String {
    let interval = |i: Interval| format!("{:.2} % ({:.2}…{:.2})", 100.0 * i.value, 100.0 * i.lo, 100.0 * i.hi);
    let place = format!("{} `{}`, {samples} samples, {}", data.name(), args.split, args.engine);
    let mut out = String::new();
    if let Some(scores) = scores {
        out += &format!("{}: accuracy {}, {place}\n", file.name(), interval(scores.accuracy));
    }
    if let (Some(a), Some(reference)) = (agrees, &args.reference) {
        out += &format!("{}: same class as `{}` in {}, {place}\n", file.name(), reference.display(), interval(a));
    }
    if let Some(scores) = scores {
        let rows: Vec<Vec<String>> = scores
            .per_class
            .iter()
            .map(|c| {
                let name = c.name.clone().unwrap_or_else(|| c.class.to_string());
                let recall = c.recall.map_or_else(|| "–".to_owned(), interval);
                vec![name, c.samples.to_string(), c.correct.to_string(), recall]
            })
            .collect();
        out += "\n";
        out += &text::table(&["class", "samples", "right", "recall (95 %)"], &rows);
    }
    out
}
