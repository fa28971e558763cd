//! `joulefront eval`: accuracy with its interval, per class, and what the scores are worth, on the engine that ships.

use super::inputs::{ModelFile, SHIPPED_DATA, shipped};
use super::progress::Bar;
use super::{Global, print, print_json, text};
use crate::data::{Dataset, Split};
use crate::engine::{self, Fit, LoadOptions, Predict, Rows, predict_rows};
use crate::runner::Program;
use crate::stats::{Interval, Quality, ScoreKind, Scores, Tally, agreement, top_classes};
use crate::{Error, Result};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Accuracy with its interval, per class; calibration; agreement with a reference model.
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
    /// Another model, to count how often both predict the same class; without labels that is the accuracy
    #[arg(long, value_name = "MODEL")]
    reference: Option<PathBuf>,
    /// Also the share of samples whose class is among the N with the largest scores [default: 5 where there are more classes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top_k: Option<u32>,
    /// Samples per run
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// A process that takes longer for 256 samples is given up
    #[arg(long, default_value = "120s", value_name = "TIME", value_parser = super::values::seconds)]
    timeout: crate::units::Seconds,
}

/// What the accuracy is a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Truth {
    /// The dataset's labels.
    Labels,
    /// The reference's classes.
    Agreement,
}

/// Everything that is printed.
struct Evaluation {
    truth: Truth,
    scores: Scores,
    quality: Quality,
    agreement: Option<Interval>,
}

/// Runs the subcommand.
pub(super) fn run(args: &Args, global: &Global) -> Result<()> {
    engine::by_name(&args.engine)?;
    let file = ModelFile::open(&args.model)?;
    let data = Dataset::open(args.data.clone().map_or_else(|| shipped(SHIPPED_DATA), Ok)?)?;
    let fit = file.check_fits(&data)?;
    let split = data.split(&args.split)?;
    if split.labels().is_none() && args.reference.is_none() {
        return Err(Error::bad_input(format!("the split `{}` has no labels, so there is no accuracy", args.split))
            .hint("give `--reference MODEL` to count agreement, or add `y` to the split in dataset.toml"));
    }
    let reference = args.reference.as_deref().map(|path| {
        let reference = ModelFile::open(path)?;
        let fit = reference.check_fits(&data)?;
        classes(args, &reference, &fit, &split, global, &|_| Ok(()))
    });
    let reference = reference.transpose()?;
    let (truth, labels) = match (split.labels(), &reference) {
        (Some(labels), _) => (Truth::Labels, labels),
        (None, reference) => (Truth::Agreement, reference.as_deref().unwrap_or_default()),
    };
    let tally = Mutex::new(None);
    let take = |rows: Rows<'_>| {
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = rows.scores.len() / rows.classes;
        let labels = labels.get(rows.first..rows.first + samples).unwrap_or_default();
        tally.get_or_insert_with(|| Tally::new(&ks(args, rows.classes))).add(rows.scores, rows.classes, labels)
    };
    let predicted = classes(args, &file, &fit, &split, global, &take)?;
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let evaluation = Evaluation {
        truth,
        scores: Scores::new(&predicted, labels, data.classes())?,
        quality: tally.unwrap_or_else(|| Tally::new(&[])).finish()?,
        agreement: reference.map(|r| agreement(&predicted, &r)).transpose()?,
    };
    if global.json { print_json(as_json(args, &file, &evaluation)) } else { print(&as_text(args, &file, &data, &evaluation)) }
}

/// The numbers of classes for top-k accuracy: 1, and what was asked for or 5.
fn ks(args: &Args, classes: usize) -> Vec<usize> {
    let more = args.top_k.map(|k| k as usize).or((classes > 5).then_some(5));
    std::iter::once(1).chain(more).collect()
}

/// The predicted class of each sample; `take` gets their scores.
fn classes(
    args: &Args,
    file: &ModelFile,
    fit: &Fit,
    split: &Split,
    global: &Global,
    take: &(dyn Fn(Rows<'_>) -> Result<()> + Sync),
) -> Result<Vec<u32>> {
    let cancel = super::progress::on_ctrl_c()?;
    let what = Predict {
        model: file.path.clone(),
        engine: args.engine.clone(),
        options: LoadOptions { batch: args.batch as usize, dims: fit.dims.clone(), ..LoadOptions::default() },
        count: split.len(),
        workers: 0,
        timeout: args.timeout.into(),
        cancel,
    };
    let bar = Bar::new(global, split.len() as u64, "samples");
    let top = Mutex::new(vec![0; split.len()]);
    let keep = |rows: Rows<'_>| {
        let mut top = top.lock().unwrap_or_else(PoisonError::into_inner);
        let classes = top_classes(rows.scores, rows.classes)?;
        top[rows.first..rows.first + classes.len()].copy_from_slice(&classes);
        drop(top);
        take(rows)
    };
    let done = predict_rows(&Program::find()?, &what, &|range| split.batches(&fit.inputs, range), &keep, &|done| bar.at(done as u64));
    bar.clear();
    done.map_err(|e| e.context(format!("`{}`", file.path.display())))?;
    Ok(top.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn as_json(args: &Args, file: &ModelFile, e: &Evaluation) -> Value {
    let Evaluation { scores, quality, .. } = e;
    let top_k = |k: &crate::stats::TopK| json!({ "k": k.k, "accuracy": k.accuracy.value, "lo": k.accuracy.lo, "hi": k.accuracy.hi });
    // Confidence is about the truth; another model's opinion is none.
    let labelled = e.truth == Truth::Labels;
    json!({
        "model": file.path.display().to_string(),
        "model_sha256": file.sha256,
        "engine": args.engine,
        "split": args.split,
        "accuracy_is": e.truth,
        "accuracy": scores.accuracy.value,
        "accuracy_lo": scores.accuracy.lo,
        "accuracy_hi": scores.accuracy.hi,
        "samples": scores.samples,
        "top_k": quality.top_k.iter().map(top_k).collect::<Vec<_>>(),
        "macro_f1": scores.macro_f1,
        "macro_f1_lo": scores.macro_f1_interval.map(|i| i.lo),
        "macro_f1_hi": scores.macro_f1_interval.map(|i| i.hi),
        "scores_are": quality.scores,
        "expected_calibration_error": quality.expected_calibration_error.filter(|_| labelled),
        "negative_log_likelihood": quality.negative_log_likelihood.filter(|_| labelled),
        "per_class": scores.per_class,
        "confusion": scores.confusion,
        "agreement": e.agreement.map(|a| a.value),
        "agreement_lo": e.agreement.map(|a| a.lo),
        "agreement_hi": e.agreement.map(|a| a.hi),
    })
}

fn as_text(args: &Args, file: &ModelFile, data: &Dataset, e: &Evaluation) -> String {
    let Evaluation { scores, quality, .. } = e;
    let interval = |i: Interval| format!("{:.2} % ({:.2}…{:.2})", 100.0 * i.value, 100.0 * i.lo, 100.0 * i.hi);
    let place = format!("{} `{}`, {} samples, {}", data.name(), args.split, scores.samples, args.engine);
    let mut out = String::new();
    if e.truth == Truth::Labels {
        out += &format!("{}: accuracy {}, {place}\n", file.name(), interval(scores.accuracy));
    }
    if let (Some(a), Some(reference)) = (e.agreement, &args.reference) {
        out += &format!("{}: same class as `{}` in {}, {place}\n", file.name(), reference.display(), interval(a));
    }
    for k in quality.top_k.iter().filter(|k| k.k > 1) {
        out += &format!("top-{} accuracy {}\n", k.k, interval(k.accuracy));
    }
    let bounds = scores.macro_f1_interval.map_or_else(String::new, |i| format!(" ({:.4}…{:.4})", i.lo, i.hi));
    out += &format!("macro F1 {:.4}{bounds}\n", scores.macro_f1);
    if let (Truth::Labels, Some(error), Some(nll)) = (e.truth, quality.expected_calibration_error, quality.negative_log_likelihood) {
        let read = match quality.scores {
            ScoreKind::Probabilities => "scores are probabilities",
            ScoreKind::Logits => "softmax of the scores",
        };
        out += &format!("expected calibration error {error:.4}, negative log likelihood {nll:.4} ({read})\n");
    }
    let rows: Vec<Vec<String>> = scores
        .per_class
        .iter()
        .map(|c| {
            let name = c.name.clone().unwrap_or_else(|| c.class.to_string());
            let share = |i: Option<Interval>| i.map_or_else(|| "–".to_owned(), interval);
            let f1 = c.f1.map_or_else(|| "–".to_owned(), |f| format!("{f:.4}"));
            vec![name, c.samples.to_string(), c.correct.to_string(), share(c.recall), share(c.precision), f1]
        })
        .collect();
    out += "\n";
    out + &text::table(&["class", "samples", "right", "recall (95 %)", "precision (95 %)", "F1"], &rows)
}
