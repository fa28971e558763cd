//! The environment record: what a reader must know of the machine to judge or repeat a measurement.

mod warnings;

pub use warnings::EnvironmentWarning;

use super::cpu_times::{CpuTimes, contamination};
use crate::sys::{Host, container, cpu_list, process_cpu_time};
use crate::units::{Bytes, Seconds, Watts};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// CPU features that decide which kernels the engines run.
const ENGINE_FEATURES: [&str; 24] = [
    "sse4_1",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512dq",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimdhp",
    "asimddp",
    "fphp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
];

/// How long the load of others is watched when the record is made.
const WATCH: Duration = Duration::from_millis(100);

/// The machine, the system and the build, as they were when a measurement began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of joulefront.
    pub joulefront: String,
    /// How this program was built.
    pub build: Build,
    /// The CPU.
    pub cpu: Cpu,
    /// Total memory.
    pub memory: Option<Bytes>,
    /// Operating system with its version.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// A hypervisor runs this machine.
    pub virtual_machine: bool,
    /// Container runtime, where one can be told.
    pub container: Option<String>,
    /// Engines and their versions.
    pub engines: Vec<EngineVersion>,
    /// What changes from minute to minute; not part of the [key](Environment::key).
    pub moment: Moment,
}

/// How the program was built; the engines' speed depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Build {
    pub target: String,
    pub profile: String,
    pub opt_level: String,
    pub rustflags: String,
    /// Instruction sets the compiler was allowed to use.
    pub target_features: Vec<String>,
}

/// The CPU and how its frequency is governed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// `GenuineIntel`, `AuthenticAMD`; on ARM the implementer's number.
    pub vendor: String,
    /// As the kernel names it.
    pub model_name: String,
    /// `cpu family`.
    pub family: Option<u32>,
    /// `model`.
    pub model: Option<u32>,
    /// Logical cores.
    pub logical_cores: usize,
    /// Features that decide which kernels the engines run.
    pub features: Vec<String>,
    /// Two logical cores share one physical core.
    pub smt: Option<bool>,
    /// Frequencies above the nominal one are allowed.
    pub boost: Option<bool>,
    /// `cpufreq` driver.
    pub frequency_driver: Option<String>,
    /// `cpufreq` governor of the first CPU.
    pub governor: Option<String>,
    /// Lowest and highest frequency that the governor may choose, kHz.
    pub frequency_limits_khz: Option<(u64, u64)>,
    /// Long-term power limit of the first package.
    pub power_limit: Option<Watts>,
    /// SGX is on, which may make the CPU add noise to its energy readings (energy filtering).
    pub sgx: bool,
}

/// An engine and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct EngineVersion {
    pub name: String,
    pub version: String,
    /// The library's file, where the engine is not part of this program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<PathBuf>,
}

/// What changes from minute to minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// One-minute load average.
    pub load_average: Option<f64>,
    /// CPU time of other processes, in CPUs (1: one CPU was busy with others).
    pub other_cpus: Option<f64>,
    /// Stolen CPU time, in CPUs.
    pub steal_cpus: Option<f64>,
    /// Swap in use.
    pub swap_used: Option<Bytes>,
    /// Temperatures the kernel shows, by sensor.
    pub temperatures: Vec<Temperature>,
}

/// One sensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Temperature {
    pub sensor: String,
    pub celsius: f64,
}

impl Environment {
    /// Takes the record of this machine; watches the load of others for 0.1 s meanwhile.
    pub fn collect(engines: Vec<EngineVersion>) -> Self {
        Self::collect_from(&Host::default(), engines)
    }

    /// The same with `proc` and `sys` read from `host`. What cannot be read is left out, never guessed.
    pub fn collect_from(host: &Host, engines: Vec<EngineVersion>) -> Self {
        let system = sysinfo::System::new().ok().map(|mut system| {
            system.refresh_memory();
            system
        });
        Environment {
            joulefront: env!("CARGO_PKG_VERSION").into(),
            build: Build::this(),
            cpu: Cpu::of(host),
            memory: system.as_ref().map(|s| Bytes(s.total_memory())),
            os: sysinfo::System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.into()),
            kernel: sysinfo::System::kernel_version().unwrap_or_default(),
            virtual_machine: host.cpu().is_virtual(),
            container: container(host).map(str::to_owned),
            engines,
            moment: Moment::now(host, system.map(|s| Bytes(s.used_swap()))),
        }
    }

    /// A name for this class of machine and build: the first 16 hexadecimal digits of the SHA-256 of everything but
    /// [`moment`](Environment::moment) and of engines that are not part of this program: one more of these on the machine changes
    /// nothing for the others, and what ran on it says its version itself. Equal keys: measurements are comparable as far as the
    /// machine goes.
    pub fn key(&self) -> String {
        let stable = (&self.joulefront, &self.build, &self.cpu, self.memory, &self.os, &self.kernel);
        let linked: Vec<&EngineVersion> = self.engines.iter().filter(|e| e.library.is_none()).collect();
        let rest = (self.virtual_machine, &self.container, linked);
        // Plain data without maps: it always serialises, and always in the same order.
        let text = serde_json::to_vec(&(stable, rest)).unwrap_or_default();
        Sha256::digest(&text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The version of an engine that is there.
    pub fn engine_version(&self, name: &str) -> Option<&str> {
        self.engines.iter().find(|e| e.name == name).map(|e| e.version.as_str())
    }

    /// What disturbs measurements here.
    pub fn warnings(&self) -> Vec<EnvironmentWarning> {
        warnings::of(self)
    }
}

impl Build {
    fn this() -> Self {
        let list = |text: &str| text.split(',').filter(|t| !t.is_empty()).map(str::to_owned).collect();
        Build {
            target: env!("JOULEFRONT_BUILD_TARGET").into(),
            profile: env!("JOULEFRONT_BUILD_PROFILE").into(),
            opt_level: env!("JOULEFRONT_BUILD_OPT_LEVEL").into(),
            rustflags: env!("JOULEFRONT_BUILD_RUSTFLAGS").into(),
            target_features: list(env!("JOULEFRONT_BUILD_FEATURES")),
        }
    }
}

impl Cpu {
    fn of(host: &Host) -> Self {
        const CPU: &str = "sys/devices/system/cpu";
        let info = host.cpu();
        let frequency = |file: &str| host.number(format!("{CPU}/cpu0/cpufreq/{file}"));
        let flag = |file: &str| host.number(format!("{CPU}/{file}")).map(|v| v != 0);
        Cpu {
            features: info.flags.iter().filter(|f| ENGINE_FEATURES.contains(&f.as_str())).cloned().collect(),
            sgx: info.flags.iter().any(|f| f == "sgx"),
            vendor: info.vendor,
            model_name: info.model_name,
            family: info.family,
            model: info.model,
            // All of them, not those that this process may use: the record is of the machine.
            logical_cores: host
                .text(format!("{CPU}/online"))
                .and_then(|list| cpu_list(&list))
                .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), |cpus| cpus.len()),
            smt: flag("smt/active"),
            boost: flag("cpufreq/boost").or_else(|| flag("intel_pstate/no_turbo").map(|off| !off)),
            frequency_driver: host.text(format!("{CPU}/cpu0/cpufreq/scaling_driver")),
            governor: host.text(format!("{CPU}/cpu0/cpufreq/scaling_governor")),
            frequency_limits_khz: frequency("scaling_min_freq").zip(frequency("scaling_max_freq")),
            power_limit: host
                .number("sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw")
                .map(|microwatts| Watts(microwatts as f64 * 1e-6)),
        }
    }
}

impl Moment {
    fn now(host: &Host, swap_used: Option<Bytes>) -> Self {
        let own = || process_cpu_time(std::process::id()).map_or(Seconds(0.0), Seconds::from);
        let (begin, before, own_before) = (Instant::now(), CpuTimes::read(host).ok(), own());
        std::thread::sleep(WATCH);
        let after = CpuTimes::read(host).ok();
        let seen = before.zip(after).map(|(a, b)| contamination(&a, &b, own() - own_before, begin.elapsed().into()));
        Moment {
            load_average: host.text("proc/loadavg").and_then(|t| t.split_whitespace().next()?.parse().ok()),
            // Two jiffies in a tenth of a second are 20 %: what may be rounding is not reported as load.
            other_cpus: seen.map(|c| (c.other_share - c.rounding).max(0.0)),
            steal_cpus: seen.map(|c| (c.steal_share - c.rounding / 3.0).max(0.0)),
            swap_used,
            temperatures: temperatures(host),
        }
    }
}

fn temperatures(host: &Host) -> Vec<Temperature> {
    let zone = |i: usize| {
        let folder = format!("sys/class/thermal/thermal_zone{i}");
        let millidegrees: f64 = host.text(format!("{folder}/temp"))?.parse().ok()?;
        Some(Temperature { sensor: host.text(format!("{folder}/type"))?, celsius: millidegrees / 1000.0 })
    };
    (0..64).filter_map(zone).collect()
}

#[cfg(test)]
mod tests;
