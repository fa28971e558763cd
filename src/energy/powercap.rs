//! The powercap zones of sysfs: `class/powercap/*/energy_uj`.

use super::bank::{About, Bank, meter_of_a_bank, rapl_systematic};
use super::counter::Counter;
use super::gauge::Gauge;
use super::kind::{Kind, Scope};
use super::meter::Domain;
use super::tick::{self, Ticks};
use super::tree::Tree;
use super::unavailable::Unavailable;
use super::zones::{self, Role, Zone};
use crate::sys::Host;
use crate::units::Joules;
use std::path::PathBuf;

/// `energy_uj` counts in microjoules.
const POWERCAP_ENERGY_UNIT: Joules = Joules(1e-6);

/// The meter over all packages, and their memory where it has zones of its own.
///
/// The headline is Σ packages + Σ dram. `core` and `uncore` are parts of a package and `psys` contains it: they are shown
/// beside. Where memory has no zone its energy is unknown, not 0, and the scope says [`Scope::Package`].
#[derive(Debug)]
pub struct Powercap {
    pub(super) bank: Bank,
}

impl Powercap {
    /// Finds the zones and looks at the first counter for at most 50 ms to learn its update period.
    ///
    /// # Errors
    /// There is no package zone, a package's counter cannot be read, or a real counter stands still.
    pub fn open(tree: &Tree, host: &Host) -> Result<Self, Unavailable> {
        let zones = readable(tree, host, zones::find(tree))?;
        let packages = zones.iter().filter(|z| z.role == Role::Package).count();
        let with_dram = zones.iter().filter(|z| z.role == Role::Dram).count() == packages;
        let counted = |role| role == Role::Package || (role == Role::Dram && with_dram);

        let files: Vec<PathBuf> = zones.iter().map(|z| z.dir.join("energy_uj")).collect();
        let kind = if files.iter().all(|f| tree.is_real(f)) { Kind::Measured } else { Kind::Simulated };
        let entries = zones.iter().map(|zone| {
            let max = tree.number(&zone.dir.join("max_energy_range_uj")).ok();
            let counter = Counter::new(max, POWERCAP_ENERGY_UNIT);
            (Domain { name: zone.label.clone(), counted: counted(zone.role) }, Gauge::Counter(counter))
        });

        let first = zones.iter().position(|z| z.role == Role::Package).unwrap_or(0);
        let update_period = match tick::observe(|| tree.number(&files[first]).ok()) {
            Ticks::Every(period) => Some(period),
            Ticks::StandsStill if kind == Kind::Measured => return Err(Unavailable::stands_still(&files[first].to_string_lossy())),
            Ticks::Slow | Ticks::StandsStill => None,
        };
        let about = About {
            name: "powercap",
            kind,
            scope: if with_dram { Scope::PackageDram } else { Scope::Package },
            update_period,
            systematic: rapl_systematic(kind),
        };
        Ok(Powercap { bank: Bank::new(about, entries.collect(), None, tree.read_all(files)) })
    }
}

/// The zones whose counters can be read now. A package must be readable, or the sum would silently lack a socket; any other
/// zone is left out, and with it the claim to cover memory.
fn readable(tree: &Tree, host: &Host, zones: Vec<Zone>) -> Result<Vec<Zone>, Unavailable> {
    if zones.iter().all(|z| z.role != Role::Package) {
        return Err(Unavailable::no_zones(tree, host));
    }
    let mut kept = Vec::with_capacity(zones.len());
    for zone in zones {
        let file = zone.dir.join("energy_uj");
        match tree.number(&file) {
            Ok(_) => kept.push(zone),
            Err(e) if zone.role == Role::Package => return Err(Unavailable::unreadable(&file, &e, "powercap")),
            Err(_) => {}
        }
    }
    Ok(kept)
}

meter_of_a_bank!(Powercap);

#[cfg(test)]
mod tests;
