//! A simulated powercap tree whose counter ticks, with a known truth: for tests of meters and of the measurement protocol,
//! and for trying things out on machines without a counter. What is read from it is always `simulated`.

use crate::units::Joules;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Energy = dyn Fn(Duration) -> Joules + Send + Sync;

/// A temporary folder built like `/sys` with one or more zones, whose `energy_uj` a thread rewrites until this is dropped.
pub struct Ticking {
    dir: tempfile::TempDir,
    energy: Arc<Energy>,
    begin: Instant,
    stop: Arc<AtomicBool>,
    longest_gap_ns: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// One zone of a simulated tree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Zone<'a> {
    /// Its folder: `intel-rapl:1`.
    pub id: &'a str,
    /// Its name: `package-1-die-0`, `psys`.
    pub name: &'a str,
    /// The share of all energy that it shows.
    pub share: f64,
    /// Its range; `None`: the ticker's.
    pub max_uj: Option<u64>,
}

/// A counter that is written to.
struct Written {
    file: PathBuf,
    next: PathBuf,
    share: f64,
    max_uj: u64,
}

/// How the counter behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ticker {
    /// Time between two updates.
    pub period: Duration,
    /// `max_energy_range_uj`; the counter starts at 0 again after it.
    pub max_uj: u64,
    /// Where the counter starts, microjoules.
    pub start_uj: u64,
}

impl Default for Ticker {
    /// A RAPL counter: updated each millisecond, 262 kJ range.
    fn default() -> Self {
        Ticker { period: Duration::from_millis(1), max_uj: 262_143_328_850, start_uj: 0 }
    }
}

impl Ticker {
    /// Starts the counter. `energy` is the true energy used since the start as a function of the time since then; it may also
    /// look at something else that only grows, as the CPU time of a process.
    ///
    /// ```
    /// use joulefront::energy::simulate::Ticker;
    /// use joulefront::units::{Seconds, Watts};
    /// # fn main() -> joulefront::Result<()> {
    /// let constant_50_w = Ticker::default().start(|t| Watts(50.0) * Seconds::from(t))?;
    /// assert!(constant_50_w.root().join("class/powercap/intel-rapl:0/energy_uj").exists());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Environment: the temporary folder cannot be written.
    pub fn start(self, energy: impl Fn(Duration) -> Joules + Send + Sync + 'static) -> Result<Ticking> {
        self.start_zones(&[Zone { id: "intel-rapl:0", name: "package-0", share: 1.0, max_uj: None }], energy)
    }

    /// The same with any zones, each of which shows a share of the energy.
    ///
    /// # Errors
    /// Environment: the temporary folder cannot be written.
    pub fn start_zones(self, zones: &[Zone<'_>], energy: impl Fn(Duration) -> Joules + Send + Sync + 'static) -> Result<Ticking> {
        let dir = tempfile::tempdir().map_err(|e| Error::write(std::env::temp_dir(), e))?;
        let mut written = Vec::with_capacity(zones.len());
        for zone in zones {
            let folder = dir.path().join("class/powercap").join(zone.id);
            std::fs::create_dir_all(&folder).map_err(|e| Error::write(&folder, e))?;
            let write = |name: &str, text: String| {
                let path = folder.join(name);
                std::fs::write(&path, text).map_err(|e| Error::write(path, e))
            };
            let max_uj = zone.max_uj.unwrap_or(self.max_uj);
            write("name", format!("{}\n", zone.name))?;
            write("max_energy_range_uj", format!("{max_uj}\n"))?;
            write("energy_uj", format!("{}\n", self.start_uj))?;
            written.push(Written { file: folder.join("energy_uj"), next: folder.join(".energy_uj"), share: zone.share, max_uj });
        }

        let energy: Arc<Energy> = Arc::new(energy);
        let (stop, longest_gap_ns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let begin = Instant::now();
        let thread = {
            let (energy, stop, gap) = (energy.clone(), stop.clone(), longest_gap_ns.clone());
            std::thread::spawn(move || self.tick(begin, &written, energy.as_ref(), &stop, &gap))
        };
        Ok(Ticking { dir, energy, begin, stop, longest_gap_ns, thread: Some(thread) })
    }

    fn tick(self, begin: Instant, zones: &[Written], energy: &Energy, stop: &AtomicBool, longest_gap_ns: &AtomicU64) {
        let mut last = begin;
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let used = energy(now - begin).0 * 1e6;
            for zone in zones {
                let shown = (u128::from(self.start_uj) + (used * zone.share) as u128) % (u128::from(zone.max_uj) + 1);
                // Renamed into place, so that no reader sees a half-written number. A failed write shows as a counter that stands
                // still.
                let _ = std::fs::write(&zone.next, format!("{shown}\n")).and_then(|()| std::fs::rename(&zone.next, &zone.file));
            }
            let written = Instant::now();
            longest_gap_ns.fetch_max(u64::try_from((written - last).as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            last = now;
            std::thread::sleep(self.period.saturating_sub(written - now));
        }
    }
}

impl Ticking {
    /// The folder that stands for `/sys` (`--sysfs-root`).
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// The true energy used from the start until `at`.
    pub fn truth(&self, at: Instant) -> Joules {
        (self.energy)(at.saturating_duration_since(self.begin))
    }

    /// The longest time so far that the counter was behind the truth: its period, or more when the machine was busy.
    pub fn longest_lag(&self) -> Duration {
        Duration::from_nanos(self.longest_gap_ns.load(Ordering::Relaxed))
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
