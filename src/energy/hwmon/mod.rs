//! Sensors of the board in `class/hwmon`: energy counters, and power sensors such as the INA chips of single-board computers.

mod rails;

use super::bank::{About, Bank, meter_of_a_bank, rapl_systematic};
use super::counter::Counter;
use super::follow::ReadAll;
use super::gauge::Gauge;
use super::kind::{Kind, Scope, Systematic};
use super::meter::Domain;
use super::tick::{self, Ticks};
use super::tree::Tree;
use super::unavailable::Unavailable;
use crate::units::{Joules, Seconds, Watts};
use rails::{Rail, Source};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// `energyN_input` counts microjoules, `powerN_input` shows microwatts.
const ENERGY_UNIT: Joules = Joules(1e-6);
const POWER_UNIT: Watts = Watts(1e-6);

/// Power is sampled this often if nothing asks for less: 200 samples in the longest window, 10 s.
const SAMPLED: Duration = Duration::from_millis(50);
/// Never less often than this.
const SELDOM: Duration = Duration::from_secs(1);
/// Reading the sensors (over I²C it takes milliseconds) may keep one CPU busy for a 25th of the time.
const LEISURE: u32 = 25;
/// Samples further apart than this many periods say nothing of what was between.
const MISSED: f64 = 10.0;
/// How long sensors are watched to see how often they change.
const WATCH: Duration = Duration::from_millis(300);

/// The meter over the rails that are the input of the board or a processor package.
///
/// Energy counters are read at the edges of a window. A board that has nothing but power sensors is sampled between them by a
/// thread on the first CPU, away from the measured process, and the samples are integrated by the trapezoid rule; what that
/// leaves open goes into the resolution, and the systematic source says it. Rails that are parts of others are shown beside.
#[derive(Debug)]
pub struct Hwmon {
    bank: Bank,
}

impl Hwmon {
    /// Finds the rails; with `wanted` those whose names (`ina3221/VDD_CPU`) or labels (`VDD_CPU`) are in it are counted.
    ///
    /// # Errors
    /// There are no sensors, none is known to be an input, one that is wanted is not there, or a counted one cannot be read.
    pub fn open(tree: &Tree, wanted: &[String]) -> Result<Self, Unavailable> {
        let mut rails = rails::find(tree);
        let (scope, counted) = headline(&rails, wanted, tree)?;
        // Only what the headline is made of stays with its chip's other rails: sampling costs time and energy.
        let devices: Vec<usize> = rails.iter().zip(&counted).filter(|(_, c)| **c).map(|(r, _)| r.device).collect();
        let mut counted = counted.into_iter();
        let mut flags = Vec::new();
        rails.retain(|rail| {
            let is_counted = counted.next().unwrap_or(false);
            let keep = is_counted || (devices.contains(&rail.device) && rail.read(tree).is_ok());
            if keep {
                flags.push(is_counted);
            }
            keep
        });
        for (rail, _) in rails.iter().zip(&flags).filter(|(_, counted)| **counted) {
            rail.read(tree).map_err(|(path, e)| Unavailable::unreadable(&path, &e, "hwmon"))?;
        }
        Self::over(tree, rails, flags, scope)
    }

    fn over(tree: &Tree, rails: Vec<Rail>, counted: Vec<bool>, scope: Scope) -> Result<Self, Unavailable> {
        let real = rails.iter().all(|rail| rail.files().iter().all(|file| tree.is_real(file)));
        let kind = if real { Kind::Measured } else { Kind::Simulated };
        let headline = rails.iter().zip(&counted).find(|(_, c)| **c).map(|(r, _)| r);
        let sampled = rails.iter().any(|r| !matches!(r.source, Source::Energy(_))).then(|| sampling(tree, &rails));
        let update_period = match headline {
            Some(rail @ Rail { source: Source::Energy(file), .. }) => match tick::observe(|| rail.read(tree).ok()) {
                Ticks::Every(period) => Some(period),
                Ticks::StandsStill if real => return Err(Unavailable::stands_still(&file.to_string_lossy())),
                Ticks::Slow | Ticks::StandsStill => None,
            },
            Some(rail) => sampled.map(|s| sensor_period(tree, rail).map_or(s.into(), |p| Seconds(p.0.max(s.as_secs_f64())))),
            None => None,
        };
        let integrates = headline.is_some_and(|r| !matches!(r.source, Source::Energy(_)));
        let about = About { name: "hwmon", kind, scope, update_period, systematic: systematic(kind, scope, integrates, sampled) };
        let period = update_period.or(sampled.map(Seconds::from)).unwrap_or(Seconds(0.0));
        let entries = rails.iter().zip(&counted).map(|(rail, counted)| {
            let gauge = match rail.source {
                Source::Energy(_) => Gauge::Counter(Counter::new(None, ENERGY_UNIT)),
                _ => Gauge::Power { unit: POWER_UNIT, period, longest_gap: Seconds::from(sampled.unwrap_or(SAMPLED)) * MISSED },
            };
            (Domain { name: rail.name.clone(), counted: *counted }, gauge)
        });
        let entries = entries.collect();
        Ok(Hwmon { bank: Bank::new(about, entries, sampled, read_all(tree.clone(), rails)) })
    }
}

/// Which rails are counted, and what they cover together.
fn headline(rails: &[Rail], wanted: &[String], tree: &Tree) -> Result<(Scope, Vec<bool>), Unavailable> {
    let names = || rails.iter().map(|r| format!("`{}`", r.name)).collect::<Vec<_>>().join(", ");
    if rails.is_empty() {
        let class = tree.root().join("class/hwmon");
        return Err(Unavailable::new(
            format!("there is no sensor of energy or power under `{}`", class.display()),
            "boards with INA sensors need their driver (`ina2xx`, `ina3221`) and a device tree that names the rails; others have none",
        ));
    }
    if !wanted.is_empty() {
        let is = |rail: &Rail, name: &str| rail.name == name || rail.name.split_once('/').is_some_and(|(_, label)| label == name);
        if let Some(absent) = wanted.iter().find(|w| !rails.iter().any(|r| is(r, w))) {
            return Err(Unavailable::new(format!("there is no rail `{absent}`"), format!("name one of {}", names())));
        }
        let counted: Vec<bool> = rails.iter().map(|r| wanted.iter().any(|w| is(r, w))).collect();
        let scopes: Vec<Option<Scope>> = rails.iter().zip(&counted).filter(|(_, c)| **c).map(|(r, _)| r.scope).collect();
        let scope = scopes.first().copied().flatten().filter(|first| scopes.iter().all(|s| *s == Some(*first)));
        return Ok((scope.unwrap_or(Scope::Rail), counted));
    }
    // One input is the whole board: a second one would be counted twice. Packages add up.
    if let Some(input) = rails.iter().position(|r| r.scope == Some(Scope::Board)) {
        return Ok((Scope::Board, (0..rails.len()).map(|i| i == input).collect()));
    }
    let first = rails.iter().find(|r| r.scope == Some(Scope::Package)).map(|r| chip(r).to_owned());
    match first {
        Some(first) => Ok((Scope::Package, rails.iter().map(|r| r.scope == Some(Scope::Package) && chip(r) == first).collect())),
        None => Err(Unavailable::new(
            format!("no sensor is known to be the input of the board ({})", names()),
            "look up in the board's manual which one it is, and name it: `--meter hwmon:LABEL`, or `hwmon:A+B` for a sum",
        )),
    }
}

fn chip(rail: &Rail) -> &str {
    rail.name.split('/').next().unwrap_or_default()
}

/// How often all rails are sampled: as often as reading them stays cheap.
fn sampling(tree: &Tree, rails: &[Rail]) -> Duration {
    let begin = Instant::now();
    rails.iter().for_each(|rail| drop(rail.read(tree)));
    (begin.elapsed() * LEISURE).clamp(SAMPLED, SELDOM)
}

/// How often the sensor has a new value: what the driver says, else what is seen.
fn sensor_period(tree: &Tree, rail: &Rail) -> Option<Seconds> {
    let files = rail.files();
    let interval = files.first()?.parent()?.join("update_interval");
    if let Some(milliseconds) = tree.number(&interval).ok().filter(|ms| (1..=60_000).contains(ms)) {
        return Some(Seconds(milliseconds as f64 * 1e-3));
    }
    match tick::observe_for(WATCH, Duration::from_millis(1), || rail.read(tree).ok()) {
        Ticks::Every(period) => Some(period),
        Ticks::Slow | Ticks::StandsStill => None,
    }
}

fn systematic(kind: Kind, scope: Scope, integrates: bool, sampled: Option<Duration>) -> Systematic {
    if kind == Kind::Simulated || (!integrates && scope == Scope::Package) {
        return rapl_systematic(kind);
    }
    let sampled = sampled.map(Seconds::from).filter(|_| integrates);
    let how = sampled.map_or_else(String::new, |every| {
        format!(
            "; the sensor shows power and there is no counter, so its readings were integrated by sampling every {every}: what changes faster is seen only as far as the sensor averages"
        )
    });
    Systematic {
        low: 0.95,
        high: 1.05,
        source: format!(
            "an allowance of 5 %: shunt resistors of 1 % and monitors of 0.5 to 2 % are usual, and this board's are not known{how}"
        ),
    }
}

impl Rail {
    fn files(&self) -> Vec<PathBuf> {
        match &self.source {
            Source::Energy(file) | Source::Power(file) => vec![file.clone()],
            Source::VoltageTimesCurrent(voltage, current) => vec![voltage.clone(), current.clone()],
        }
    }

    /// The raw value: microjoules or microwatts.
    fn read(&self, tree: &Tree) -> Result<u64, (PathBuf, std::io::Error)> {
        let number = |file: &PathBuf| tree.number(file).map_err(|e| (file.clone(), e));
        match &self.source {
            Source::Energy(file) | Source::Power(file) => number(file),
            // Millivolts times milliamperes are microwatts.
            Source::VoltageTimesCurrent(voltage, current) => Ok(number(voltage)?.saturating_mul(number(current)?)),
        }
    }
}

fn read_all(tree: Tree, rails: Vec<Rail>) -> ReadAll {
    Box::new(move || rails.iter().map(|r| r.read(&tree).map_err(|(file, e)| format!("cannot read `{}`: {e}", file.display()))).collect())
}

meter_of_a_bank!(Hwmon);

#[cfg(test)]
mod tests;
