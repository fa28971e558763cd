//! Who else used the CPU: the machine's busy and stolen time from `/proc/stat`, against the child's own CPU time.

use crate::sys::Host;
use crate::units::Seconds;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// `USER_HZ`: `/proc/stat` counts hundredths of a second on every architecture that is supported here.
const JIFFY: Seconds = Seconds(0.01);

/// CPU time of all CPUs together since the machine started.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CpuTimes {
    /// user + nice + system + irq + softirq.
    pub busy: Seconds,
    /// Time in which the hypervisor let somebody else run although this machine had work.
    pub steal: Seconds,
    /// idle + iowait.
    pub idle: Seconds,
}

/// What else went on in a window. Shares are multiples of the CPU time that the window is about: the child's own, or one
/// CPU's for the length of the window if that is more (so that an idle window has a measure too).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Contamination {
    /// CPU time of other processes; what is below the rounding of the kernel's jiffies (10 ms) is in it too.
    pub other_share: f64,
    /// Stolen time.
    pub steal_share: f64,
    /// How much of `other_share` may be rounding: in short windows a large part.
    pub rounding: f64,
}

impl CpuTimes {
    /// Reads them now.
    ///
    /// # Errors
    /// Environment: there is no `/proc/stat`, or it has another form.
    pub fn read(host: &Host) -> Result<Self> {
        let text = host.text("proc/stat").unwrap_or_default();
        Self::parse(&text).ok_or_else(|| {
            let path = host.path("proc/stat");
            Error::environment(format!("cannot read the CPU times in `{}`", path.display())).hint("contamination is watched on Linux only")
        })
    }

    /// The line `cpu`: user nice system idle iowait irq softirq steal (guest times are in user already), `proc(5)`.
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|l| l.strip_prefix("cpu "))?;
        let fields: Vec<u64> = line.split_whitespace().map(|f| f.parse().ok()).collect::<Option<_>>()?;
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = fields[..] else { return None };
        let seconds = |jiffies: &[u64]| JIFFY * jiffies.iter().map(|j| *j as f64).sum::<f64>();
        Some(CpuTimes { busy: seconds(&[user, nice, system, irq, softirq]), steal: seconds(&[steal]), idle: seconds(&[idle, iowait]) })
    }
}

/// What others did between `start` and `end`, `wall` apart, when the child itself used `own_cpu`.
pub fn contamination(start: &CpuTimes, end: &CpuTimes, own_cpu: Seconds, wall: Seconds) -> Contamination {
    let about = own_cpu.0.max(wall.0).max(JIFFY.0);
    // user and system are rounded to jiffies at both edges, and each CPU the child runs on is sampled at its own tick.
    let own_cpus = (own_cpu.0 / wall.0.max(JIFFY.0)).ceil();
    let rounding = JIFFY * (2.0 + own_cpus);
    let share = |time: Seconds| (time.0 / about).max(0.0);
    Contamination {
        other_share: share(end.busy - start.busy - own_cpu),
        steal_share: share(end.steal - start.steal),
        rounding: share(rounding),
    }
}

impl Contamination {
    /// Whether others, or the hypervisor, certainly took more than `limit` (0.05: 5 %), after the allowance for rounding.
    ///
    /// ```
    /// use joulefront::measure::{CpuTimes, contamination};
    /// use joulefront::units::Seconds;
    /// let at = |busy, steal| CpuTimes { busy: Seconds(busy), steal: Seconds(steal), idle: Seconds(0.0) };
    /// // In one second the machine was busy for 1.3 s, of which the child was 1 s.
    /// let c = contamination(&at(10.0, 0.0), &at(11.3, 0.0), Seconds(1.0), Seconds(1.0));
    /// assert!(c.exceeds(0.05) && !c.exceeds(0.3));
    /// ```
    pub fn exceeds(&self, limit: f64) -> bool {
        // One field, rounded at both edges: a third of the allowance for busy time at the least.
        self.other_share - self.rounding > limit || self.steal_share - self.rounding / 3.0 > limit
    }

    /// The larger of the two, for people: `other processes used 12 % of the CPU time`.
    pub fn sentence(&self) -> String {
        match self.steal_share > self.other_share {
            true => format!("the hypervisor took {:.0} % of the CPU time", self.steal_share * 100.0),
            false => format!("other processes used {:.0} % of the CPU time", self.other_share * 100.0),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use crate::ErrorKind;

    fn at(busy: f64, steal: f64) -> CpuTimes {
        CpuTimes { busy: Seconds(busy), steal: Seconds(steal), idle: Seconds(0.0) }
    }

    #[test]
    fn the_line_of_all_cpus() {
        let stat = "cpu  100 20 30 4000 50 6 7 8 90 9\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5\n";
        let times = CpuTimes::parse(stat).unwrap();
        assert!((times.busy.0 - 1.63).abs() < 1e-9 && (times.steal.0 - 0.08).abs() < 1e-9 && (times.idle.0 - 40.5).abs() < 1e-9);
        for bad in ["", "cpu 1 2 3\n", "cpu  a b c d e f g h\n"] {
            assert_eq!(CpuTimes::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_host_without_proc_is_an_environment_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(CpuTimes::read(&Host::at(dir.path())).unwrap_err().kind(), ErrorKind::Environment);
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        std::fs::write(dir.path().join("proc/stat"), "cpu  100 0 0 0 0 0 0 0 0 0\n").unwrap();
        assert_eq!(CpuTimes::read(&Host::at(dir.path())).unwrap().busy, Seconds(1.0));
    }

    #[track_caller]
    fn check(busy: f64, steal: f64, own: f64, wall: f64, exceeds_5_percent: bool) {
        let c = contamination(&at(100.0, 5.0), &at(100.0 + busy, 5.0 + steal), Seconds(own), Seconds(wall));
        assert_eq!(c.exceeds(0.05), exceeds_5_percent, "{c:?}");
        assert!(c.other_share >= 0.0 && c.steal_share >= 0.0);
    }

    #[test]
    fn others_count_only_beyond_the_rounding() {
        check(1.00, 0.0, 1.0, 1.0, false);
        check(1.07, 0.0, 1.0, 1.0, false); // 70 ms: 30 of them may be rounding
        check(1.09, 0.0, 1.0, 1.0, true);
        check(0.24, 0.0, 0.2, 0.2, false); // a short window cannot tell 40 ms from rounding well enough
        check(0.30, 0.0, 0.2, 0.2, true);
        check(0.98, 0.0, 1.0, 1.0, false); // rounding can make others negative: that is none
        check(1.00, 0.1, 1.0, 1.0, true); // stolen
        check(8.30, 0.0, 8.0, 1.0, false); // eight threads: 30 % of one CPU is 4 % of what they use
        check(0.20, 0.0, 0.0, 1.0, true); // an idle window
    }

    #[test]
    fn the_sentence_names_the_larger() {
        assert!(
            contamination(&at(0.0, 0.0), &at(1.5, 0.1), Seconds(1.0), Seconds(1.0)).sentence().starts_with("other processes used 50 %")
        );
        assert!(contamination(&at(0.0, 0.0), &at(1.0, 0.2), Seconds(1.0), Seconds(1.0)).sentence().contains("hypervisor took 20 %"));
    }
}
