//! What a CPU draws by the number of its busy cores: fitted where there is a counter, used where there is none.

use super::kind::{Kind, Scope};
use crate::sys::CpuInfo;
use crate::units::{Seconds, Watts};
use crate::{Error, Result, atomic};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Version of the file's form.
const SCHEMA_VERSION: u32 = 1;
/// No computer has more cores than that (the kernel's limit), nor draws more than a megawatt.
const MOST_CORES: usize = 8192;
const MOST_WATTS: f64 = 1e6;

/// A power profile, as `joulefront calibrate` writes it (TOML).
///
/// ```
/// use joulefront::energy::PowerProfile;
/// use joulefront::units::Watts;
/// let profile = PowerProfile::from_toml(r#"
///     schema_version = 1
///     joulefront = "0.1.0"
///     meter = "perf"
///     kind = "measured"
///     scope = "package_dram"
///     idle_w = 12.0
///     low = 0.8
///     high = 1.25
///     windows = 54
///     [cpu]
///     vendor = "GenuineIntel"
///     model_name = "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz"
///     family = 6
///     model = 106
///     [[busy]]
///     cores = 1
///     watts = 9.0
///     [[busy]]
///     cores = 4
///     watts = 21.0
/// "#, "profile.toml")?;
/// assert_eq!(profile.watts(1), Watts(9.0));
/// assert_eq!(profile.watts(2), Watts(13.0));
/// // Beyond what was measured it goes on as it ended.
/// assert_eq!(profile.watts(5), Watts(25.0));
/// # Ok::<(), joulefront::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerProfile {
    schema_version: u32,
    /// Version of joulefront that made it.
    pub joulefront: String,
    /// The meter it was fitted on.
    pub meter: String,
    /// Of what kind that was: `measured` or `simulated`.
    pub kind: Kind,
    /// What that meter saw.
    pub scope: Scope,
    /// Power of the idle machine. It is not attributed to anybody.
    pub idle_w: Watts,
    /// The true power lies between `low` and `high` times the fitted one: the residuals over loads of different kinds, times
    /// the meter's own accuracy.
    pub low: f64,
    /// See [`low`](PowerProfile::low).
    pub high: f64,
    /// Windows it was fitted to.
    pub windows: usize,
    /// The CPU it is of.
    pub cpu: ProfiledCpu,
    /// Power above idle, by the number of busy cores, ascending.
    pub busy: Vec<Busy>,
}

/// The CPU of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ProfiledCpu {
    pub vendor: String,
    pub model_name: String,
    pub family: Option<u32>,
    pub model: Option<u32>,
}

/// Power above idle with that many busy cores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Busy {
    pub cores: usize,
    pub watts: Watts,
}

impl From<&CpuInfo> for ProfiledCpu {
    fn from(cpu: &CpuInfo) -> Self {
        ProfiledCpu { vendor: cpu.vendor.clone(), model_name: cpu.model_name.clone(), family: cpu.family, model: cpu.model }
    }
}

/// What was found by measuring, for [`PowerProfile::new`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fit {
    pub(super) idle: Watts,
    pub(super) busy: Vec<Busy>,
    pub(super) range: (f64, f64),
    pub(super) windows: usize,
}

impl PowerProfile {
    pub(super) fn new(info: &super::MeterInfo, cpu: &CpuInfo, fit: Fit) -> Self {
        PowerProfile {
            schema_version: SCHEMA_VERSION,
            joulefront: env!("CARGO_PKG_VERSION").into(),
            meter: info.name.clone(),
            kind: info.kind,
            scope: info.scope,
            idle_w: fit.idle,
            low: fit.range.0 * info.systematic.low,
            high: fit.range.1 * info.systematic.high,
            windows: fit.windows,
            cpu: cpu.into(),
            busy: fit.busy,
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Bad input: it is not there, no power profile, or its numbers make no sense.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
        Self::from_toml(&text, &path.display().to_string())
    }

    /// Reads the text of a file called `name`.
    ///
    /// # Errors
    /// Bad input: it is no power profile, or its numbers make no sense.
    pub fn from_toml(text: &str, name: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::bad_input(format!("`{name}` is not a power profile: {why}")).hint("make one with `joulefront calibrate -o profile.toml`")
        };
        let profile: PowerProfile = toml::from_str(text).map_err(|e| wrong(e.message().trim().to_owned()))?;
        profile.check().map_err(wrong)?;
        Ok(profile)
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// Environment: it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).map_err(|e| Error::environment(format!("cannot write the power profile: {e}")))?;
        atomic::write(path, text.as_bytes())
    }

    /// Eight hexadecimal digits that are another profile's with a probability of 2⁻³².
    pub fn digest(&self) -> String {
        let text = toml::to_string(self).unwrap_or_default();
        Sha256::digest(text.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    fn check(&self) -> Result<(), String> {
        if self.schema_version != SCHEMA_VERSION {
            return Err(format!("its form has version {}, and this program knows {SCHEMA_VERSION}", self.schema_version));
        }
        if !matches!(self.kind, Kind::Measured | Kind::Simulated) {
            return Err(format!("it was made from {} energy", self.kind));
        }
        let sensible = |w: Watts| (0.0..=MOST_WATTS).contains(&w.0);
        if !sensible(self.idle_w) || !self.busy.iter().all(|b| sensible(b.watts)) {
            return Err("its watts are out of range".into());
        }
        let ascending = self.busy.windows(2).all(|w| w[0].cores < w[1].cores);
        let cores_fit = self.busy.iter().all(|b| (1..=MOST_CORES).contains(&b.cores));
        if self.busy.is_empty() || !ascending || !cores_fit {
            return Err("`busy` must have numbers of cores that go up".into());
        }
        if !(self.low > 0.0 && self.low <= 1.0 && self.high >= 1.0 && self.high.is_finite()) {
            return Err("`low` to `high` must be a range around 1".into());
        }
        Ok(())
    }

    /// Power above idle with `cores` busy: between two numbers that were measured on the line between them, beyond the last
    /// one as it ended.
    pub fn watts(&self, cores: usize) -> Watts {
        let mut below = Busy { cores: 0, watts: Watts(0.0) };
        let mut slope = 0.0;
        for busy in &self.busy {
            slope = (busy.watts - below.watts).0 / (busy.cores - below.cores).max(1) as f64;
            if cores <= busy.cores {
                break;
            }
            below = *busy;
        }
        // After the loop `below` is the last number below `cores`, and the slope is that of the step to the next, or the last.
        below.watts + Watts(slope * (cores - below.cores.min(cores)) as f64)
    }

    /// Energy above idle of threads that were busy for `times`.
    ///
    /// Nobody tells when they were busy, only for how long. They are taken to have been busy together as far as they can (the
    /// threads of one engine share one inference): for the shortest time all were, for the next all but one, and so on. Each
    /// step costs the power of one more core.
    pub(super) fn energy(&self, mut times: Vec<Seconds>) -> crate::units::Joules {
        times.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        times.iter().enumerate().map(|(i, t)| (self.watts(i + 1) - self.watts(i)) * *t).sum()
    }

    /// What is different about `cpu`, if it is.
    pub fn mismatch(&self, cpu: &CpuInfo) -> Option<String> {
        let name =
            |cpu: &ProfiledCpu| if cpu.model_name.is_empty() { "a CPU without a name".to_owned() } else { format!("`{}`", cpu.model_name) };
        let here = ProfiledCpu::from(cpu);
        (here != self.cpu).then(|| format!("the power profile was made on {}, and this is {}", name(&self.cpu), name(&here)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use crate::units::Joules;

    /// Twelve watts for the first core, and less for each one more.
    pub(crate) fn concave() -> PowerProfile {
        PowerProfile {
            schema_version: SCHEMA_VERSION,
            joulefront: "0".into(),
            meter: "perf".into(),
            kind: Kind::Measured,
            scope: Scope::Package,
            idle_w: Watts(5.0),
            low: 0.8,
            high: 1.2,
            windows: 9,
            cpu: (&CpuInfo::default()).into(),
            busy: [(1, 12.0), (2, 18.0), (4, 24.0)].map(|(cores, w)| Busy { cores, watts: Watts(w) }).to_vec(),
        }
    }

    #[test]
    fn power_by_busy_cores() {
        let profile = concave();
        let watts: Vec<f64> = (0..7).map(|n| profile.watts(n).0).collect();
        assert_eq!(watts, [0.0, 12.0, 18.0, 21.0, 24.0, 27.0, 30.0]);
    }

    #[test]
    fn the_energy_of_threads_that_were_busy_together() {
        let profile = concave();
        let energy = |times: &[f64]| profile.energy(times.iter().map(|t| Seconds(*t)).collect());
        assert_eq!(energy(&[]), Joules(0.0));
        assert_eq!(energy(&[2.0]), Joules(24.0));
        // Two seconds with one core, one of them with both; the order of the threads does not matter.
        assert_eq!(energy(&[1.0, 2.0]), Joules(30.0));
        assert_eq!(energy(&[1.0, 1.0, 1.0, 1.0]), Joules(24.0));
    }

    #[test]
    fn a_file_comes_back_and_nonsense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        concave().save(&path).unwrap();
        assert_eq!(PowerProfile::load(&path).unwrap(), concave());
        let good = std::fs::read_to_string(&path).unwrap();
        for (from, to, word) in [
            ("schema_version = 1", "schema_version = 2", "version 2"),
            ("kind = \"measured\"", "kind = \"estimated\"", "estimated"),
            ("idle_w = 5.0", "idle_w = nan", "out of range"),
            ("watts = 12.0", "watts = -1.0", "out of range"),
            ("cores = 2", "cores = 1", "go up"),
            ("cores = 1", "cores = 0", "go up"),
            ("cores = 4", "cores = 99999999999", "go up"),
            ("low = 0.8", "low = 1.8", "around 1"),
            ("high = 1.2", "high = inf", "around 1"),
            ("idle_w", "idle_watts", "unknown field"),
        ] {
            assert!(good.contains(from), "{from} is not in {good}");
            let error = PowerProfile::from_toml(&good.replace(from, to), "p.toml").unwrap_err();
            assert!(error.to_string().contains(word) && error.kind() == crate::ErrorKind::BadInput, "{error}");
        }
        assert!(PowerProfile::from_toml("\0", "p.toml").is_err());
        assert_eq!(PowerProfile::load(Path::new("/nowhere/p.toml")).unwrap_err().kind(), crate::ErrorKind::BadInput);
    }

    #[test]
    fn another_cpu_is_noticed() {
        assert_eq!(concave().mismatch(&CpuInfo::default()), None);
        let other = CpuInfo { model_name: "Other".into(), ..CpuInfo::default() };
        assert!(concave().mismatch(&other).unwrap().contains("this is `Other`"));
    }
}
