//! `joulefront compress`: one variant, and what was done to each layer.

mod touched;

use super::inputs::{ModelFile, SHIPPED_DATA, shipped};
use super::{Global, print, print_json, say, text, values};
use crate::compress::Calibration;
use crate::data::Dataset;
use crate::lower::{Form, lower, suggested};
use crate::make::{Variant, make};
use crate::onnx::Model;
use crate::recipe::{
    ActivationRange, DEFAULT_ROUND_TO, Distribution, FactorForm, Pattern, PruneMethod, Recipe, Step, WeightGranularity, WeightMethod,
};
use crate::tensor::DType;
use crate::{Error, Result, atomic, engine};
use serde_json::json;
use std::path::PathBuf;
use touched::Shares;

/// Make one compressed variant.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The model to compress
    model: PathBuf,
    /// Where the variant is written
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// A recipe file (TOML or JSON) instead of the options below
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prune", "prune_channels", "factorize", "factorize_form", "weight_bits", "activation_bits", "weight_granularity", "activation_range", "weight_method", "prune_method", "granularity", "per_layer", "round_to"])]
    recipe: Option<PathBuf>,
    /// Share to prune: of the multiply–adds for channels, of the weights for connections
    #[arg(long, value_name = "SHARE", value_parser = values::share)]
    prune: Option<f64>,
    /// Share of every prune group's channels to remove
    #[arg(long, value_name = "SHARE", value_parser = values::share, conflicts_with = "prune")]
    prune_channels: Option<f64>,
    /// What is pruned
    #[arg(long, value_name = "connection|2:4|channel", default_value_t = Granularity::Channel, value_parser = granularity)]
    granularity: Granularity,
    /// Split layers into two cheaper ones until this share of the multiply–adds is gone
    #[arg(long, value_name = "SHARE", value_parser = values::share)]
    factorize: Option<f64>,
    /// Which two layers take the place of one
    #[arg(long, value_enum, value_name = "FORM", default_value_t, requires = "factorize")]
    factorize_form: FactorForm,
    /// Which connections go
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    prune_method: PruneMethod,
    /// The same share of connections in every layer instead of one threshold over all
    #[arg(long)]
    per_layer: bool,
    /// Keep channel counts at multiples of this
    #[arg(long, default_value_t = DEFAULT_ROUND_TO, value_name = "N")]
    round_to: usize,
    /// Quantize weights to this many bits (2 to 8)
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u32).range(2..=8))]
    weight_bits: Option<u32>,
    /// Quantize activations to this many bits too (8)
    #[arg(long, value_name = "BITS", requires = "weight_bits")]
    activation_bits: Option<u32>,
    /// Which weights share a scale
    #[arg(long, value_enum, value_name = "WHICH", default_value_t, requires = "weight_bits")]
    weight_granularity: WeightGranularity,
    /// How the ranges of activations follow from the calibration samples
    #[arg(long, value_enum, value_name = "HOW", default_value_t, requires = "activation_bits")]
    activation_range: ActivationRange,
    /// How integers follow from weights
    #[arg(long, value_enum, value_name = "HOW", default_value_t, requires = "weight_bits")]
    weight_method: WeightMethod,
    /// Dataset whose `calibration` split gives ranges and repairs what pruning and rounding damage; `none` to do without [default: the shipped one where it fits]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Calibration samples to use: those of `calibration`, and when it has fewer, of `train`
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    calibration_samples: u64,
    /// Draw the calibration samples at random from both, with this seed [default: the first ones]
    #[arg(long, value_name = "SEED")]
    calibration_seed: Option<u64>,
    /// The engine the file is for: quantized layers are written in the form it was made for
    #[arg(long = "for", value_name = "ENGINE")]
    engine: Option<String>,
    /// The form itself: float, dequantize-linear, qdq, qlinear, dynamic, nbits, fp16
    #[arg(long, value_name = "FORM")]
    form: Option<Form>,
    /// A layer that gets the form, the others stay float; may be repeated [default: all that can have it]
    #[arg(long, value_name = "NAME", requires = "form")]
    layer: Vec<String>,
}

/// Calibration samples that are read at once.
const PART: usize = 64;

/// What is pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Granularity {
    /// Single weights become zero.
    Connection,
    /// Some of every few do.
    Pattern(Pattern),
    /// Whole channels (neurons, heads) are removed and the file shrinks.
    Channel,
}

fn granularity(text: &str) -> std::result::Result<Granularity, String> {
    match text {
        "connection" => Ok(Granularity::Connection),
        "channel" => Ok(Granularity::Channel),
        pattern if pattern.contains(':') => pattern.parse().map(Granularity::Pattern),
        other => Err(format!(
            "`{other}` is none of `connection` (single weights become zero), `channel` (whole channels go), or a pattern like `2:4`"
        )),
    }
}

impl std::fmt::Display for Granularity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Granularity::Connection => f.write_str("connection"),
            Granularity::Pattern(pattern) => pattern.fmt(f),
            Granularity::Channel => f.write_str("channel"),
        }
    }
}

/// Runs the subcommand.
pub(super) fn run(args: &Args, global: &Global) -> Result<()> {
    let recipe = recipe(args)?;
    if recipe.is_original() && args.form.is_none() {
        return Err(Error::bad_input("nothing to do").hint("give `--prune`, `--weight-bits`, `--form` or `--recipe`"));
    }
    if let Some(engine) = &args.engine {
        engine::by_name(engine)?;
    }
    let file = ModelFile::open(&args.model)?;
    let calibration = calibration(args, &file, &recipe, global)?;
    let variant = make(&file.model, &file.bytes()?, &recipe, calibration.as_ref())?;
    let (form, variant) = lowered(args, variant)?;
    atomic::write(&args.output, &variant.bytes)?;
    if global.json { print_json(as_json(args, &file, &recipe, form, &variant)?) } else { print(&as_text(args, &file, &recipe, &variant)?) }
}

fn recipe(args: &Args) -> Result<Recipe> {
    if let Some(path) = &args.recipe {
        return Recipe::load(path);
    }
    let mut steps = Vec::new();
    let distribution = if args.per_layer { Distribution::PerLayer } else { Distribution::Global };
    let connections = |share, pattern| Step::PruneConnections { share, pattern, distribution, method: args.prune_method };
    match (args.prune, args.prune_channels, args.granularity) {
        (None, None, Granularity::Pattern(pattern)) => steps.push(connections(None, Some(pattern))),
        (_, _, Granularity::Pattern(pattern)) => {
            return Err(Error::bad_input(format!("the pattern {pattern} says itself how many weights go")).hint("leave the share away"));
        }
        (Some(share), _, Granularity::Connection) => steps.push(connections(Some(share), None)),
        (None, Some(_), Granularity::Connection) => {
            return Err(Error::bad_input("`--prune-channels` removes channels").hint("leave `--granularity connection` away"));
        }
        (macs, channels, Granularity::Channel) if macs.is_some() || channels.is_some() => {
            steps.push(Step::PruneChannels { macs, channels, round_to: args.round_to });
        }
        _ => {}
    }
    steps.extend(args.factorize.map(|macs| Step::Factorize { macs, form: args.factorize_form, round_to: args.round_to }));
    steps.extend(args.weight_bits.map(|weight_bits| Step::Quantize {
        weight_bits,
        activation_bits: args.activation_bits,
        granularity: args.weight_granularity,
        range: args.activation_range,
        method: args.weight_method,
    }));
    let recipe = Recipe { steps };
    recipe.check()?;
    Ok(recipe)
}

/// Samples for ranges and for the repair: the dataset that was named, else the shipped one where it fits the model, else none.
fn calibration(args: &Args, file: &ModelFile, recipe: &Recipe, global: &Global) -> Result<Option<Calibration>> {
    let without = |note: &str| match recipe.needs_calibration() {
        true => Err(Error::bad_input("this recipe needs calibration samples").hint("give a dataset that fits the model: `--data DIR`")),
        false => {
            if !global.quiet && !note.is_empty() {
                say(note);
            }
            Ok(None)
        }
    };
    if !recipe.uses_calibration() || args.data.as_ref().is_some_and(|d| d.as_os_str() == "none") {
        return without("");
    }
    let note = "note: no calibration samples: what pruning and rounding damage is not repaired (give `--data DIR`)";
    let data = match &args.data {
        Some(dir) => {
            let data = Dataset::open(dir)?;
            file.check_fits(&data)?;
            data
        }
        None => match shipped(SHIPPED_DATA).and_then(Dataset::open) {
            Ok(data) if file.check_fits(&data).is_ok() => data,
            _ => return without(note),
        },
    };
    let gives_floats = data.input().is_ok_and(|input| input.dtype() == DType::F32);
    if !recipe.needs_calibration() && (!gives_floats || data.splits().all(|s| s != "calibration")) {
        return without("note: no calibration samples: they are floats of a single input, in the split `calibration`");
    }
    let count = usize::try_from(args.calibration_samples).unwrap_or(usize::MAX);
    Calibration::from_parts(data.input()?.name(), data.calibration_parts(count, args.calibration_seed, PART)?).map(Some)
}

/// The variant in the form that was asked for, or that its engine gets; as it is when neither was named.
fn lowered(args: &Args, variant: Variant) -> Result<(Option<Form>, Variant)> {
    if args.form.is_none() && args.engine.is_none() {
        return Ok((None, variant));
    }
    let model = Model::from_bytes(&variant.bytes, "the variant")?;
    let form = match (args.form, &args.engine) {
        (Some(form), _) => form,
        (None, engine) => suggested(engine.as_deref().unwrap_or_default(), &model)?,
    };
    let lowered = lower(&model, form, &|name| args.layer.is_empty() || args.layer.iter().any(|l| l == name))?;
    Ok((Some(form), variant.rewritten(&lowered.model, lowered.notes)?))
}

fn as_json(args: &Args, file: &ModelFile, recipe: &Recipe, form: Option<Form>, variant: &Variant) -> Result<serde_json::Value> {
    let touched = Shares::of(&file.model)?.touched(&variant.notes);
    Ok(json!({
        "model": file.path.display().to_string(),
        "model_sha256": file.sha256,
        "output": args.output.display().to_string(),
        "output_sha256": variant.sha256,
        "recipe": recipe,
        "lowering": form.map_or(recipe.lowering(), Form::name),
        "params": variant.totals.params,
        "macs": variant.totals.macs.exact(),
        "model_bytes": variant.size(),
        "weight_bits": variant.totals.weight_bits,
        "sparsity": variant.totals.sparsity,
        "pruning_ratio": variant.pruning_ratio,
        "layers": variant.notes,
        "touched": {
            "layers": touched.layers,
            "of_layers": touched.of_layers,
            "params_share": touched.share.params,
            "macs_share": touched.share.macs,
        },
    }))
}

fn as_text(args: &Args, file: &ModelFile, recipe: &Recipe, variant: &Variant) -> Result<String> {
    let before = make(&file.model, &file.bytes()?, &Recipe::default(), None)?;
    let change = |a: f64, b: f64| if a > 0.0 { format!("{:+.1} %", 100.0 * (b / a - 1.0)).replace('-', "−") } else { String::new() };
    let (t0, t1) = (&before.totals, &variant.totals);
    let mut out = format!("{}: {recipe}\n\n", args.output.display());
    let shares = Shares::of(&file.model)?;
    out += &shares.lines(&variant.notes);
    out += &format!("\n{}\n", shares.touched(&variant.notes));
    let rows = [
        ("multiply–adds", text::macs(&t0.macs), text::macs(&t1.macs), change(t0.macs.at_least as f64, t1.macs.at_least as f64)),
        ("parameters", text::count(t0.params), text::count(t1.params), change(t0.params as f64, t1.params as f64)),
        ("weight bits", format!("{:.1}", t0.weight_bits), format!("{:.1}", t1.weight_bits), String::new()),
        ("zero weights", text::percent(t0.sparsity), text::percent(t1.sparsity), String::new()),
        ("file", before.size().to_string(), variant.size().to_string(), change(before.size().0 as f64, variant.size().0 as f64)),
    ];
    let rows = rows.map(|(name, a, b, c)| vec![name.to_owned(), a, b, c]);
    out += "\n";
    out += &text::table(&["", "original", "variant", "change"], &rows);
    out += &format!("\nsha256 {}\n", variant.sha256);
    Ok(out)
}
