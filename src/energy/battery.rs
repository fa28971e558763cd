//! The battery's gauge in `class/power_supply`: what a laptop or a phone draws while it runs on its battery.
//!
//! Files and units: the kernel's `Documentation/ABI/testing/sysfs-class-power` (µWh; µAh and µV).

use super::bank::{About, Bank};
use super::counter::Counter;
use super::follow::ReadAll;
use super::gauge::Gauge;
use super::kind::{Kind, Scope, Systematic, WindowEnergy};
use super::meter::{Domain, Meter, MeterInfo, Reading, Target};
use super::tree::Tree;
use super::unavailable::Unavailable;
use crate::units::{Joules, Seconds};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// One microwatt-hour.
const MICROWATT_HOUR: Joules = Joules(3.6e-3);
/// The gauge is looked at this often, to see when it changes.
const LOOK: Duration = Duration::from_secs(1);
/// A window must hold at least this many changes of the gauge, so that its edges err by less than a fifth.
const CHANGES: usize = 10;
/// Looks that are used to tell how often the gauge changes.
const RECENT: usize = 600;

/// The meter over all batteries that are being discharged.
///
/// A gauge changes every few seconds to minutes, so windows have to be minutes long: one with fewer than ten changes of the
/// gauge is invalid.
#[derive(Debug)]
pub struct Battery {
    bank: Bank,
    // What is known of the gauge's period grows while the meter is in use.
    info: MeterInfo,
}

/// How a battery says what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gives {
    /// `energy_now`, µWh.
    Energy,
    /// `charge_now`, µAh, and `voltage_now`, µV.
    Charge,
}

#[derive(Debug, Clone)]
struct Cell {
    name: String,
    folder: PathBuf,
    gives: Gives,
}

impl Battery {
    /// Finds the batteries.
    ///
    /// # Errors
    /// There is none, none is being discharged, or its gauge cannot be read.
    pub fn open(tree: &Tree) -> Result<Self, Unavailable> {
        let cells = cells(tree)?;
        let real = cells.iter().all(|c| tree.is_real(&c.folder.join("status")));
        let kind = if real { Kind::Measured } else { Kind::Simulated };
        let systematic = match kind {
            Kind::Simulated => super::bank::rapl_systematic(kind),
            _ => Systematic {
                low: 0.9,
                high: 1.1,
                source: "an allowance of 10 %: gauges are calibrated for the state of charge, not for energy; with `charge_now` the voltage is taken as the mean of two readings".into(),
            },
        };
        let about = About { name: "battery", kind, scope: Scope::Battery, update_period: None, systematic };
        let counter = |cell: &Cell| {
            let unit = match cell.gives {
                Gives::Energy => MICROWATT_HOUR,
                Gives::Charge => Joules(1e-6),
            };
            (Domain { name: cell.name.clone(), counted: true }, Gauge::Counter(Counter::new(None, unit)))
        };
        let entries = cells.iter().map(counter).collect();
        let bank = Bank::new(about, entries, Some(LOOK), read_all(tree.clone(), cells));
        Ok(Battery { info: bank.info().clone(), bank })
    }
}

/// The batteries that are being discharged.
fn cells(tree: &Tree) -> Result<Vec<Cell>, Unavailable> {
    let class = tree.root().join("class/power_supply");
    let folders: BTreeMap<String, PathBuf> = std::fs::read_dir(&class)
        .map(|entries| entries.flatten().filter_map(|e| Some((e.file_name().into_string().ok()?, e.path()))).collect())
        .unwrap_or_default();
    let text = |folder: &PathBuf, file: &str| tree.text(&folder.join(file)).unwrap_or_default();
    // A mouse has a battery too (`scope` is `Device`).
    let is_ours = |folder: &PathBuf| text(folder, "type") == "Battery" && text(folder, "scope") != "Device";
    let ours: Vec<(String, PathBuf)> = folders.into_iter().filter(|(_, folder)| is_ours(folder)).collect();
    if ours.is_empty() {
        return Err(Unavailable::new(
            format!("there is no battery under `{}`", class.display()),
            "use a meter at the wall: `--meter external:…`",
        ));
    }
    let states: Vec<(String, PathBuf, String)> =
        ours.into_iter().map(|(n, f)| (text(&f, "status"), f, n)).map(|(s, f, n)| (n, f, s)).collect();
    let mut cells = Vec::new();
    for (name, folder, _) in states.iter().filter(|(_, _, status)| status == "Discharging") {
        let readable = |file: &str| tree.number(&folder.join(file));
        let gives = match (readable("energy_now"), readable("charge_now"), readable("voltage_now")) {
            (Ok(_), ..) => Gives::Energy,
            (_, Ok(_), Ok(_)) => Gives::Charge,
            (Err(e), ..) => return Err(Unavailable::unreadable(&folder.join("energy_now"), &e, "power_supply")),
        };
        cells.push(Cell { name: name.clone(), folder: folder.clone(), gives });
    }
    if cells.is_empty() {
        let said = states.iter().map(|(name, _, status)| format!("`{name}` is {}", if status.is_empty() { "unknown" } else { status }));
        return Err(Unavailable::new(
            format!("no battery is being discharged ({})", said.collect::<Vec<_>>().join(", ")),
            "unplug the charger",
        ));
    }
    Ok(cells)
}

/// Counts up what was drawn from each battery since the first reading.
fn read_all(tree: Tree, cells: Vec<Cell>) -> ReadAll {
    let mut gauges: Vec<Drawn> = cells.iter().map(|_| Drawn::default()).collect();
    Box::new(move || cells.iter().zip(&mut gauges).map(|(cell, drawn)| cell.read(&tree, drawn)).collect())
}

/// What was drawn so far, in steps of the cell's gauge.
#[derive(Debug, Default)]
struct Drawn {
    total: f64,
    last: Option<(u64, u64)>,
}

impl Cell {
    fn read(&self, tree: &Tree, drawn: &mut Drawn) -> Result<u64, String> {
        let now = self.now(tree);
        let before = std::mem::replace(&mut drawn.last, now.as_ref().ok().copied());
        let (content, voltage) = now?;
        let Some((before, voltage_before)) = before else { return Ok(drawn.total as u64) };
        if content > before {
            return Err(format!("the gauge of `{}` went up from {before} to {content}", self.name));
        }
        let step = (before - content) as f64;
        drawn.total += match self.gives {
            Gives::Energy => step,
            // µAh · 3600 s/h · µV is 10⁻¹² J: 10⁻⁶ of a microjoule.
            Gives::Charge => step * 3600.0 * (voltage as f64 + voltage_before as f64) / 2.0 * 1e-6,
        };
        Ok(drawn.total as u64)
    }

    /// What is in it, and its voltage where that is needed.
    fn now(&self, tree: &Tree) -> Result<(u64, u64), String> {
        let cannot = |file: &str, e: &std::io::Error| format!("cannot read `{}`: {e}", self.folder.join(file).display());
        let status = tree.text(&self.folder.join("status")).map_err(|e| cannot("status", &e))?;
        if status != "Discharging" {
            return Err(format!("the battery `{}` is {status}: what it gives is not what the machine draws", self.name));
        }
        let number = |file: &str| tree.number(&self.folder.join(file)).map_err(|e| cannot(file, &e));
        match self.gives {
            Gives::Energy => Ok((number("energy_now")?, 0)),
            Gives::Charge => Ok((number("charge_now")?, number("voltage_now")?)),
        }
    }
}

/// Changes of any gauge along the readings, and the mean time between them if there are at least two.
fn changes<'a>(readings: impl Iterator<Item = &'a Reading>) -> (usize, Option<Seconds>) {
    let (mut times, mut last): (Vec<std::time::Instant>, Option<&Reading>) = (Vec::new(), None);
    for reading in readings {
        if last.is_some_and(|last| last.values() != reading.values()) {
            times.push(reading.at());
        }
        last = Some(reading);
    }
    let period = match times[..] {
        [first, .., last] => Some(Seconds::from(last.duration_since(first)) / (times.len() - 1) as f64),
        _ => None,
    };
    (times.len(), period)
}

impl Meter for Battery {
    fn info(&self) -> &MeterInfo {
        &self.info
    }

    fn read(&mut self, target: Target) -> Reading {
        let recent = self.bank.latest(RECENT);
        self.info.update_period = changes(recent.iter().map(|r| &**r)).1.or(self.info.update_period);
        self.bank.read(target)
    }

    fn energy(&self, start: &Reading, end: &Reading) -> WindowEnergy {
        let energy = self.bank.total(start, end);
        let WindowEnergy::Valid { total, resolution } = energy else { return energy };
        let (seen, period) = self.bank.along(start, end, |chain| changes(chain.iter().copied()));
        let length = Seconds::from(end.since(start));
        if seen < CHANGES {
            let needed = period.or(self.info.update_period).map(|p| p * (CHANGES + 1) as f64).filter(|n| n.0 > length.0);
            let needed = needed.unwrap_or(length * (CHANGES as f64 / seen.max(1) as f64));
            return WindowEnergy::Invalid(format!(
                "the battery's gauge changed {seen} times in the window of {length}, and {CHANGES} changes are needed: use windows of {needed} or more"
            ));
        }
        let tick = total / seen as f64;
        WindowEnergy::Valid { total, resolution: if tick.0 > resolution.0 { tick } else { resolution } }
    }

    fn domains_energy(&self, start: &Reading, end: &Reading) -> Vec<(String, WindowEnergy)> {
        self.bank.each(start, end)
    }

    fn longest_window(&self) -> Option<Seconds> {
        self.bank.longest_window()
    }
}

#[cfg(test)]
mod tests;
