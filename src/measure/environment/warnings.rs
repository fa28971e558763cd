//! What disturbs measurements on this machine: cause and remedy.

use super::Environment;
use crate::units::Bytes;
use serde::Serialize;
use std::fmt;

/// Load of others below this, in CPUs, is not worth a word.
const OTHERS: f64 = 0.1;
/// Stolen time below this, in CPUs, is not worth a word.
const STEAL: f64 = 0.02;

/// Something that makes figures noisier, or different from those of the machine that will run the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "warning", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "`cause` says what each is")]
pub enum EnvironmentWarning {
    DebugBuild { opt_level: String },
    PortableBuild { missing: Vec<String> },
    OthersBusy { cpus: f64 },
    Steal { cpus: f64 },
    SwapInUse { used: Bytes },
    SlowGovernor { governor: String },
    Boost,
    VirtualMachine,
    EnergyFiltering,
}

/// All that apply, the gravest first.
pub(super) fn of(e: &Environment) -> Vec<EnvironmentWarning> {
    use EnvironmentWarning as W;
    let mut found = Vec::new();
    if matches!(e.build.opt_level.as_str(), "0" | "1") {
        found.push(W::DebugBuild { opt_level: e.build.opt_level.clone() });
    }
    let missing = unused_features(e);
    if !missing.is_empty() {
        found.push(W::PortableBuild { missing });
    }
    if let Some(cpus) = e.moment.other_cpus.filter(|c| *c > OTHERS) {
        found.push(W::OthersBusy { cpus });
    }
    if let Some(cpus) = e.moment.steal_cpus.filter(|c| *c > STEAL) {
        found.push(W::Steal { cpus });
    }
    if let Some(used) = e.moment.swap_used.filter(|used| used.0 > 0) {
        found.push(W::SwapInUse { used });
    }
    if let Some(governor) = e.cpu.governor.as_ref().filter(|g| g.as_str() != "performance") {
        found.push(W::SlowGovernor { governor: governor.clone() });
    }
    if e.cpu.boost == Some(true) {
        found.push(W::Boost);
    }
    if e.virtual_machine {
        found.push(W::VirtualMachine);
    }
    if e.cpu.sgx {
        found.push(W::EnergyFiltering);
    }
    found
}

/// Instruction sets that the CPU has and the build does not use, of those that change the engines' kernels most.
fn unused_features(e: &Environment) -> Vec<String> {
    // The kernel's names and the compiler's.
    const PAIRS: [(&str, &str); 5] =
        [("avx2", "avx2"), ("fma", "fma"), ("avx512f", "avx512f"), ("avx512_vnni", "avx512vnni"), ("asimddp", "dotprod")];
    let has = |list: &[String], name: &str| list.iter().any(|f| f == name);
    let unused = |(cpu, build): &(&str, &str)| has(&e.cpu.features, cpu) && !has(&e.build.target_features, build);
    PAIRS.iter().filter(|pair| unused(pair)).map(|(cpu, _)| (*cpu).to_owned()).collect()
}

impl EnvironmentWarning {
    /// What is the matter.
    pub fn cause(&self) -> String {
        use EnvironmentWarning as W;
        match self {
            W::DebugBuild { opt_level } => {
                format!("this program was built with optimisation level {opt_level}; engines run many times slower")
            }
            W::PortableBuild { missing } => {
                format!("this program was built without the CPU's {}; integer kernels can be half as fast", missing.join(", "))
            }
            W::OthersBusy { cpus } => format!("other processes keep {cpus:.1} CPUs busy"),
            W::Steal { cpus } => format!("the hypervisor takes {cpus:.2} CPUs away while there is work"),
            W::SwapInUse { used } => format!("{used} of swap are in use"),
            W::SlowGovernor { governor } => format!("the CPU governor is `{governor}`: the frequency follows the load"),
            W::Boost => "boost is on: the frequency depends on temperature and on what the other cores do".into(),
            W::VirtualMachine => "this is a virtual machine: its neighbours are invisible and share the package".into(),
            W::EnergyFiltering => "SGX is on: the CPU may add noise to its energy readings (energy filtering)".into(),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        use EnvironmentWarning as W;
        match self {
            W::DebugBuild { .. } => "build with `cargo build --release`",
            W::PortableBuild { .. } => {
                "build on this machine with `RUSTFLAGS=\"-C target-cpu=native\"`, which the repository's settings do by themselves"
            }
            W::OthersBusy { .. } => "stop them, or wait; windows they disturb are thrown away",
            W::Steal { .. } => "use a dedicated host or another time of the day; windows it disturbs are thrown away",
            W::SwapInUse { .. } => "free memory, then `sudo swapoff -a && sudo swapon -a`",
            W::SlowGovernor { .. } => "`sudo cpupower frequency-set -g performance`",
            W::Boost => {
                "for comparisons: `echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost` (intel_pstate: 1 into `intel_pstate/no_turbo`)"
            }
            W::VirtualMachine => "measure on bare metal where joules matter; here trust ratios of interleaved runs",
            W::EnergyFiltering => "turn SGX off in the firmware for energy measurements",
        }
    }
}

impl fmt::Display for EnvironmentWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.cause(), self.remedy())
    }
}
