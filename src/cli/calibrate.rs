//! `joulefront calibrate`: a power profile of this CPU, for estimates where there is no counter.

use super::meters::MeterOptions;
use super::progress::{Bar, on_ctrl_c};
use super::{Global, print, print_json, say, text, values};
use crate::Result;
use crate::energy::{CalibrationPlan, PowerProfile, calibrate};
use crate::sys::Host;
use crate::units::Seconds;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Fit what this CPU draws by the number of busy cores; needs a counter.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the profile is written (TOML)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Length of a window
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = values::seconds)]
    window: Seconds,
    /// Windows of each load and number of cores
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: u32,
    /// Seed of the order
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    meter: MeterOptions,
}

/// Runs the subcommand.
pub(super) fn run(args: &Args, global: &Global) -> Result<()> {
    let cancel = on_ctrl_c()?;
    let mut meter = args.meter.open(global)?;
    let plan = CalibrationPlan { window: args.window, repeats: args.repeats as usize, seed: args.seed, cancel: Arc::clone(cancel) };
    let bar = Bar::new(global, 0, "windows");
    let outcome = calibrate(meter.as_mut(), &Host::default().cpu(), &plan, &mut |done, total| {
        bar.set_length(total as u64);
        bar.at(done as u64);
    });
    bar.clear();
    let (profile, warnings) = outcome?;
    profile.save(&args.output)?;
    if !global.quiet {
        warnings.iter().for_each(|w| say(&format!("warning: {w}")));
    }
    match global.json {
        true => print_json(json!({ "file": args.output.display().to_string(), "profile": profile, "warnings": warnings })),
        false => print(&as_text(&profile, &args.output)),
    }
}

fn as_text(profile: &PowerProfile, path: &Path) -> String {
    let row = |cores: String, watts: String, more: String| vec![cores, watts, more];
    let mut rows = vec![row("idle".into(), profile.idle_w.to_string(), String::new())];
    let mut before = 0;
    for busy in &profile.busy {
        let each = (profile.watts(busy.cores) - profile.watts(before)) / (busy.cores - before).max(1) as f64;
        rows.push(row(busy.cores.to_string(), format!("+{}", busy.watts), format!("+{each}")));
        before = busy.cores;
    }
    format!(
        "Power of {} by busy cores, {} by `{}` ({})\n\n{}\nThe loads differ from these means by {:.2} to {:.2} times. To use it on another machine with this CPU:\n  joulefront bench MODEL --meter estimate --power-profile {}\n",
        if profile.cpu.model_name.is_empty() { "this CPU" } else { &profile.cpu.model_name },
        profile.kind,
        profile.meter,
        profile.scope,
        text::table(&["busy cores", "above idle", "each core more"], &rows),
        profile.low,
        profile.high,
        crate::report::quote(&path.display().to_string()),
    )
}
