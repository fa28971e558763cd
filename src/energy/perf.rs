//! The `power` PMU of perf: RAPL in steps of 2⁻³² J, in 64-bit counts that no window can wrap.

use super::bank::{About, Bank, meter_of_a_bank, rapl_systematic};
use super::counter::Counter;
use super::gauge::Gauge;
use super::kind::{Kind, Scope};
use super::meter::Domain;
use super::tick::{self, Ticks};
use super::unavailable::Unavailable;
use crate::sys::perf::{Event, OpenError};
use crate::sys::{Host, cpu_list};
use crate::units::Joules;
use std::io;

/// Where the PMU describes itself.
const PMU: &str = "sys/bus/event_source/devices/power";

/// Reads one open counter.
pub type ReadCount = Box<dyn FnMut() -> io::Result<u64> + Send>;

/// The meter over all packages (`energy-pkg`) and their memory (`energy-ram`), one counter per domain and package.
///
/// `energy-cores`, `energy-gpu` and `energy-psys` are shown beside and never added.
#[derive(Debug)]
pub struct Perf {
    bank: Bank,
}

/// An event of the PMU that is a domain of energy.
struct Kept {
    event: &'static str,
    /// Its name within a package; empty for the package itself.
    part: &'static str,
    counted: bool,
}

const EVENTS: [Kept; 5] = [
    Kept { event: "energy-pkg", part: "", counted: true },
    Kept { event: "energy-ram", part: "dram", counted: true },
    Kept { event: "energy-cores", part: "core", counted: false },
    Kept { event: "energy-gpu", part: "uncore", counted: false },
    Kept { event: "energy-psys", part: "psys", counted: false },
];

impl Perf {
    /// Opens the kernel's counters.
    ///
    /// # Errors
    /// There is no `power` PMU, it may not be opened, or its count stands still.
    pub fn open(host: &Host) -> Result<Self, Unavailable> {
        Self::open_with(host, Kind::Measured, |event, cpu| {
            let mut counter = crate::sys::perf::Counter::open(event, cpu)?;
            Ok(Box::new(move || counter.read()))
        })
    }

    /// The same with another way of opening an event on a CPU: the description is read from `host`, the counts come from
    /// `opener`, and they are of the given kind.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        host: &Host,
        kind: Kind,
        mut opener: impl FnMut(Event, usize) -> Result<ReadCount, OpenError>,
    ) -> Result<Self, Unavailable> {
        let pmu = host.number(format!("{PMU}/type")).and_then(|t| u32::try_from(t).ok()).ok_or_else(|| Unavailable::no_pmu(host))?;
        let cpus = host.text(format!("{PMU}/cpumask")).and_then(|text| cpu_list(&text)).ok_or_else(|| {
            Unavailable::new("the `power` PMU has no readable `cpumask`", "report it to the maker of this kernel; use `powercap`")
        })?;
        let (mut entries, mut counters, mut packages_with_dram) = (Vec::new(), Vec::new(), 0);
        let packages = package_names(host, &cpus);
        for kept in EVENTS {
            let Some((config, unit)) = describe(host, kept.event) else { continue };
            for (cpu, package) in cpus.iter().zip(&packages) {
                match opener(Event { pmu, config }, *cpu) {
                    Ok(counter) => counters.push(counter),
                    Err(e) if kept.part.is_empty() => return Err(Unavailable::perf(&e, kept.event, host)),
                    Err(_) => continue,
                }
                packages_with_dram += usize::from(kept.part == "dram");
                let name = if kept.part.is_empty() { package.clone() } else { format!("{package}/{}", kept.part) };
                entries.push((Domain { name, counted: kept.counted }, Gauge::Counter(Counter::new(None, unit))));
            }
        }
        if !entries.iter().any(|(d, _)| packages.contains(&d.name)) {
            return Err(Unavailable::new("the `power` PMU has no event `energy-pkg` in joules", "use `powercap` or the estimator"));
        }
        // Memory counts only when every package has it; else its energy is unknown.
        let with_dram = packages_with_dram == cpus.len();
        for (domain, _) in &mut entries {
            domain.counted &= with_dram || !domain.name.ends_with("/dram");
        }

        let update_period = match counters.first_mut().map(|first| tick::observe(|| first().ok())) {
            Some(Ticks::Every(period)) => Some(period),
            Some(Ticks::StandsStill) if kind == Kind::Measured => return Err(Unavailable::stands_still("power/energy-pkg/")),
            _ => None,
        };
        let about = About {
            name: "perf",
            kind,
            scope: if with_dram { Scope::PackageDram } else { Scope::Package },
            update_period,
            systematic: rapl_systematic(kind),
        };
        let mut value = |read: &mut ReadCount| read().map_err(|e| format!("cannot read the perf counter: {e}"));
        let read = move || counters.iter_mut().map(&mut value).collect();
        Ok(Perf { bank: Bank::new(about, entries, None, Box::new(read)) })
    }
}

/// `config` and the energy of one count, from the event's own files; `None` if it is not there or not in joules.
fn describe(host: &Host, event: &str) -> Option<(u64, Joules)> {
    let text = host.text(format!("{PMU}/events/{event}"))?;
    let config = text.split(',').find_map(|term| term.trim().strip_prefix("event=0x"))?;
    let config = u64::from_str_radix(config, 16).ok()?;
    let scale: f64 = host.text(format!("{PMU}/events/{event}.scale"))?.parse().ok()?;
    let unit = host.text(format!("{PMU}/events/{event}.unit"))?;
    (unit == "Joules" && scale.is_finite() && scale > 0.0).then_some((config, Joules(scale)))
}

/// Names of the packages that `cpus` stand for, as powercap has them: with the die where a package has several.
fn package_names(host: &Host, cpus: &[usize]) -> Vec<String> {
    let id = |cpu: usize, what: &str| host.number(format!("sys/devices/system/cpu/cpu{cpu}/topology/{what}"));
    let package = |cpu: usize| id(cpu, "physical_package_id");
    let named = |cpu: &usize| match (package(*cpu), id(*cpu, "die_id")) {
        (Some(p), Some(die)) if cpus.iter().filter(|other| package(**other) == Some(p)).count() > 1 => format!("package-{p}-die-{die}"),
        (Some(p), _) if cpus.iter().filter(|other| package(**other) == Some(p)).count() == 1 => format!("package-{p}"),
        _ => format!("package-of-cpu-{cpu}"),
    };
    cpus.iter().map(named).collect()
}

meter_of_a_bank!(Perf);

#[cfg(test)]
mod tests;
