//! The energy counters and power sensors of `class/hwmon`, and what each one measures, by chip and label.
//!
//! Files and units: the kernel's `Documentation/hwmon/sysfs-interface.rst` (µJ, µW, mV, mA).

use super::super::tree::Tree;
use crate::energy::Scope;
use std::path::PathBuf;

/// Files to read for one rail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// `energyN_input`: a counter in microjoules.
    Energy(PathBuf),
    /// `powerN_average` or `powerN_input`: microwatts.
    Power(PathBuf),
    /// `inN_input` (millivolts) and `currN_input` (milliamperes): their product is in microwatts. Chips such as INA3221 give
    /// no power.
    VoltageTimesCurrent(PathBuf, PathBuf),
}

/// One supply rail or counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rail {
    /// `ina3221/VDD_IN`; without a label the file's own name: `ina226/power1`.
    pub(super) name: String,
    /// Where hwmon has the chip: two chips may have the same name.
    pub(super) device: usize,
    /// What a headline may be made of; `None`: some part of the machine.
    pub(super) scope: Option<Scope>,
    pub(super) source: Source,
}

/// Chips of graphics cards, disks and batteries, whose energy is not the processor's.
const OTHERS: [&str; 9] = ["amdgpu", "i915", "xe", "nouveau", "radeon", "nvme", "drivetemp", "bat", "ucsi"];

/// Words of labels that stand for everything the board or the computer takes in.
const INPUT: [&str; 5] = ["in", "vin", "input", "system", "total"];

/// What the rail of that chip and label is the energy of.
fn scope(chip: &str, label: &str) -> Option<Scope> {
    let label = label.to_lowercase();
    let words = || label.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    match chip {
        // Per-socket counters stand beside per-core ones (`Ecore000`), which are parts of them.
        "amd_energy" => label.starts_with("esocket").then_some(Scope::Package),
        "fam15h_power" => Some(Scope::Package),
        "power_meter" => Some(Scope::Board),
        "xgene" | "apm_xgene" => (label == "cpu power").then_some(Scope::Package),
        _ if words().any(|w| INPUT.contains(&w)) => Some(Scope::Board),
        _ => None,
    }
}

/// All rails with their sources, by the number of the device and of the sensor.
pub(super) fn find(tree: &Tree) -> Vec<Rail> {
    let class = tree.root().join("class/hwmon");
    let entries = std::fs::read_dir(class).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let number = |name: &str| name.strip_prefix("hwmon")?.parse::<usize>().ok();
    let mut devices: Vec<(usize, PathBuf)> =
        entries.iter().filter_map(|e| Some((number(e.file_name().to_str()?)?, e.path()))).filter(|(_, path)| path.is_dir()).collect();
    devices.sort();
    devices.iter().flat_map(|(device, folder)| of_device(tree, *device, folder)).collect()
}

fn of_device(tree: &Tree, device: usize, folder: &PathBuf) -> Vec<Rail> {
    let Ok(chip) = tree.text(&folder.join("name")) else { return Vec::new() };
    let lower = chip.to_lowercase();
    if chip.is_empty() || OTHERS.iter().any(|other| lower.starts_with(other)) {
        return Vec::new();
    }
    let files = std::fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let mut sensors: Vec<(usize, &str, String)> = files
        .iter()
        .filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let (kind, rest) =
                ["energy", "power", "in"].into_iter().find_map(|kind| name.strip_prefix(kind).map(|rest| (kind, rest.to_owned())))?;
            let (number, what) = rest.split_once('_')?;
            let wanted = what == "input" || (kind == "power" && what == "average");
            wanted.then_some(())?;
            Some((number.parse().ok()?, kind, what.to_owned()))
        })
        .collect();
    // `power1_average` comes before `power1_input`, and a sensor is taken once.
    sensors.sort();
    sensors.dedup_by(|later, kept| (later.0, later.1) == (kept.0, kept.1));
    let has = |kind: &str, n: usize| sensors.iter().any(|(number, k, _)| (*number, *k) == (n, kind));
    let mut rails = Vec::new();
    for (n, kind, what) in &sensors {
        let label_of = |kind: &str| tree.text(&folder.join(format!("{kind}{n}_label"))).ok().filter(|l| !l.is_empty());
        let file = folder.join(format!("{kind}{n}_{what}"));
        let current = folder.join(format!("curr{n}_input"));
        let (label, source) = match *kind {
            "energy" => (label_of("energy"), Source::Energy(file)),
            // Where the chip counts energy, its power says nothing more.
            "power" if !has("energy", *n) => (label_of("power"), Source::Power(file)),
            "in" if lower.starts_with("ina") && !has("power", *n) && current.is_file() => {
                (label_of("in").or_else(|| label_of("curr")), Source::VoltageTimesCurrent(file, current))
            }
            _ => continue,
        };
        // The sum of the channels of an INA3221 repeats them.
        if label.as_deref().is_some_and(|l| l.eq_ignore_ascii_case("sum of shunt voltages")) {
            continue;
        }
        let label = label.unwrap_or_else(|| format!("{kind}{n}"));
        rails.push(Rail { scope: scope(&lower, &label), name: format!("{chip}/{label}"), device, source });
    }
    rails
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn what_labels_stand_for() {
        for (chip, label, expect) in [
            ("ina3221", "VDD_IN", Some(Scope::Board)),
            ("ina3221", "POM_5V_IN", Some(Scope::Board)),
            ("ina3221", "VIN_SYS_5V0", Some(Scope::Board)),
            ("macsmc_hwmon", "Total System Power", Some(Scope::Board)),
            ("power_meter", "power1", Some(Scope::Board)),
            ("ina3221", "VDD_CPU_GPU_CV", None),
            ("ina3221", "VDD_SOC", None),
            ("ina226", "power1", None),
            // A regulator's input is not the board's.
            ("max16601", "pin", None),
            ("amd_energy", "Esocket0", Some(Scope::Package)),
            ("amd_energy", "Ecore017", None),
            ("fam15h_power", "power1", Some(Scope::Package)),
        ] {
            assert_eq!(scope(chip, label), expect, "{chip} {label}");
        }
    }
}
