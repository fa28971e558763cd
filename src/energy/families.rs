//! Watts per busy hardware thread, by CPU family.
//!
//! Source: Cloud Carbon Footprint, `ccf-coefficients`, `output/coefficients-aws-use.csv` of 2026 (Apache-2.0): the power of
//! whole servers at full load in the published SPECpower_ssj2008 results, divided by their hardware threads and averaged by
//! microarchitecture. EPYC of the fifth generation is left out, because its average mixes 4-to-16-core and 192-core parts
//! (8.96 W), and Graviton, because its figure is a copy of EPYC 2's. Models by number: the kernel's `intel-family.h`, and
//! AMD's revision guides.

use crate::sys::CpuInfo;
use crate::units::Watts;

/// The mean over all microarchitectures in Cloud Carbon Footprint's methodology (AWS), for a CPU that is not in the table.
pub(super) const AVERAGE: Watts = Watts(3.5);
/// The range of the table (EPYC 2 … Sandy Bridge), in multiples of [`AVERAGE`].
pub(super) const SPREAD: (f64, f64) = (1.69 / 3.5, 8.63 / 3.5);

/// A microarchitecture and its power.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Family {
    vendor: &'static str,
    family: u32,
    models: &'static [u32],
    pub(super) name: &'static str,
    pub(super) watts: Watts,
}

const fn intel(name: &'static str, models: &'static [u32], watts: f64) -> Family {
    Family { vendor: "GenuineIntel", family: 6, models, name, watts: Watts(watts) }
}

const fn amd(name: &'static str, family: u32, models: &'static [u32], watts: f64) -> Family {
    Family { vendor: "AuthenticAMD", family, models, name, watts: Watts(watts) }
}

const FAMILIES: [Family; 15] = [
    intel("Sandy Bridge", &[0x2a, 0x2d], 8.63),
    intel("Ivy Bridge", &[0x3a, 0x3e], 5.56),
    intel("Haswell", &[0x3c, 0x3f, 0x45, 0x46], 5.60),
    intel("Broadwell", &[0x3d, 0x47, 0x4f, 0x56], 3.69),
    intel("Skylake", &[0x4e, 0x5e], 4.10),
    // One model number for Skylake-SP and Cascade Lake, which differ by 1 %.
    intel("Skylake-SP or Cascade Lake", &[0x55], 4.08),
    intel("Coffee Lake", &[0x8e, 0x9e], 5.42),
    intel("Ice Lake-SP", &[0x6a, 0x6c], 3.76),
    intel("Sapphire Rapids", &[0x8f], 4.16),
    intel("Emerald Rapids", &[0xcf], 4.48),
    intel("Granite Rapids", &[0xad, 0xae], 2.53),
    amd("EPYC 1 (Naples)", 23, &[0x01], 2.60),
    amd("EPYC 2 (Rome)", 23, &[0x31], 1.69),
    amd("EPYC 3 (Milan)", 25, &[0x01], 1.96),
    amd("EPYC 4 (Genoa, Bergamo, Siena)", 25, &[0x11, 0xa0], 2.28),
];

/// The microarchitecture of `cpu`, if the table has it.
pub(super) fn find(cpu: &CpuInfo) -> Option<Family> {
    let (family, model) = (cpu.family?, cpu.model?);
    FAMILIES.into_iter().find(|f| f.vendor == cpu.vendor && f.family == family && f.models.contains(&model))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(vendor: &str, family: u32, model: u32) -> CpuInfo {
        CpuInfo { vendor: vendor.into(), family: Some(family), model: Some(model), ..CpuInfo::default() }
    }

    #[test]
    fn known_and_unknown_families() {
        assert_eq!(find(&cpu("AuthenticAMD", 25, 17)).map(|f| f.watts), Some(Watts(2.28)));
        assert_eq!(find(&cpu("GenuineIntel", 6, 85)).map(|f| f.watts), Some(Watts(4.08)));
        // Turin, a number of the wrong vendor, and nothing known at all.
        assert_eq!(find(&cpu("AuthenticAMD", 26, 2)), None);
        assert_eq!(find(&cpu("AuthenticAMD", 6, 85)), None);
        assert_eq!(find(&CpuInfo::default()), None);
    }

    #[test]
    fn the_spread_is_the_tables() {
        let watts = || FAMILIES.iter().map(|f| f.watts.0);
        let (low, high) = (watts().fold(f64::INFINITY, f64::min), watts().fold(0.0, f64::max));
        assert_eq!(SPREAD, (low / AVERAGE.0, high / AVERAGE.0));
        // No model number stands twice.
        let mut all: Vec<_> = FAMILIES.iter().flat_map(|f| f.models.iter().map(move |m| (f.vendor, f.family, m))).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
