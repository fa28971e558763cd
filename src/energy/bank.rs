//! Several domains read together: the sum over the counted ones, and each by itself.

use super::follow::{Follower, ReadAll};
use super::gauge::Gauge;
use super::kind::{Kind, Scope, Systematic, WindowEnergy};
use super::meter::{Domain, MeterInfo, Reading, Target};
use crate::units::{Joules, Seconds};
use std::time::Duration;

/// A counter is read at least this often before it can have wrapped once, at the highest power there is.
const READINGS_PER_WRAP: f64 = 4.0;
/// Faster than this no counter is followed; what would need it is invalid.
const FASTEST: Duration = Duration::from_millis(2);

/// What RAPL's figures are worth, whichever interface they are read through.
pub(super) fn rapl_systematic(kind: Kind) -> Systematic {
    if kind == Kind::Simulated {
        return Systematic { low: 1.0, high: 1.0, source: "a simulated counter is its own truth".into() };
    }
    Systematic {
        low: 0.9,
        high: 1.1,
        source: "an allowance of 10 %: the makers of RAPL guarantee no accuracy. It ranks configurations and cancels in their ratios on one machine;                  it is not wall power, and its gap to it is not constant (Jay et al. 2023)"
            .into(),
    }
}

/// What a meter says of itself beyond its domains.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) scope: Scope,
    pub(super) update_period: Option<Seconds>,
    pub(super) systematic: Systematic,
}

/// The domains of a meter and how they are read.
#[derive(Debug)]
pub(super) struct Bank {
    info: MeterInfo,
    gauges: Vec<Gauge>,
    follower: Follower,
}

impl Bank {
    /// Counters that can wrap are also read by a thread, four times per wrap at the highest power there is, so that a window
    /// may be of any length. Power is sampled every `sampled`.
    pub(super) fn new(about: About, entries: Vec<(Domain, Gauge)>, sampled: Option<Duration>, read: ReadAll) -> Self {
        let (domains, gauges): (Vec<Domain>, Vec<Gauge>) = entries.into_iter().unzip();
        let unit = domains.iter().zip(&gauges).filter(|(d, _)| d.counted).map(|(_, g)| g.unit().0).fold(0.0, f64::max);
        let gap = gauges.iter().filter_map(Gauge::longest_gap).map(|gap| gap.0).min_by(f64::total_cmp);
        let by_gap = gap.map(|gap| Duration::from(Seconds(gap / READINGS_PER_WRAP)).max(FASTEST));
        let info = MeterInfo {
            name: about.name.into(),
            kind: about.kind,
            scope: about.scope,
            domains,
            unit: Joules(unit),
            update_period: about.update_period,
            systematic: about.systematic,
            attributes_idle: true,
        };
        let follower = match sampled.or(by_gap) {
            Some(period) => Follower::every(period, read),
            None => Follower::still(read),
        };
        Bank { info, gauges, follower }
    }

    pub(super) fn info(&self) -> &MeterInfo {
        &self.info
    }

    pub(super) fn read(&self, target: Target) -> Reading {
        self.follower.read(target)
    }

    pub(super) fn longest_window(&self) -> Option<Seconds> {
        self.follower.span()
    }

    pub(super) fn modulus(&self, i: usize) -> Option<Joules> {
        self.gauges.get(i)?.modulus()
    }

    /// The last `n` readings of the thread.
    pub(super) fn latest(&self, n: usize) -> Vec<std::sync::Arc<Reading>> {
        self.follower.latest(n)
    }

    /// Something about all readings of a window.
    pub(super) fn along<R: Default>(&self, start: &Reading, end: &Reading, about: impl FnOnce(&[&Reading]) -> R) -> R {
        self.follower.chain(start, end, about).unwrap_or_default()
    }

    /// Each domain by itself.
    pub(super) fn each(&self, start: &Reading, end: &Reading) -> Vec<(String, WindowEnergy)> {
        let names = self.info.domains.iter().map(|d| d.name.clone());
        let each = self.follower.chain(start, end, |chain| (0..self.gauges.len()).map(|i| self.one(i, chain)).collect::<Vec<_>>());
        let each = each.unwrap_or_else(|reason| vec![WindowEnergy::Invalid(reason); self.gauges.len()]);
        names.zip(each).collect()
    }

    /// The sum over the counted domains, with one tick at the window's power as its resolution. A sum that did not move is not
    /// zero energy: the window is shorter than a tick, or the counter is dead.
    pub(super) fn total(&self, start: &Reading, end: &Reading) -> WindowEnergy {
        let (mut sum, mut steps) = (Joules(0.0), Joules(0.0));
        for ((name, energy), domain) in self.each(start, end).into_iter().zip(&self.info.domains) {
            match energy {
                _ if !domain.counted => {}
                WindowEnergy::Valid { total, resolution } => {
                    sum += total;
                    steps += resolution;
                }
                WindowEnergy::Invalid(reason) => return WindowEnergy::Invalid(format!("`{name}`: {reason}")),
            }
        }
        let length = Seconds::from(end.since(start));
        if sum.0 <= 0.0 {
            return WindowEnergy::Invalid(match self.info.update_period {
                Some(period) if length.0 < 2.0 * period.0 => {
                    format!("the window of {length} is too short for a counter that is updated every {period}")
                }
                _ => format!("the counter stood still for {length}"),
            });
        }
        // An integral says itself what its samples leave open.
        let counts = self.gauges.iter().zip(&self.info.domains).all(|(g, d)| !d.counted || matches!(g, Gauge::Counter(_)));
        let tick = match self.info.update_period {
            Some(period) if counts && length.0 > 0.0 => sum * (period.0 / length.0).min(1.0),
            _ => steps,
        };
        WindowEnergy::Valid { total: sum, resolution: if tick.0 > steps.0 { tick } else { steps } }
    }

    fn one(&self, i: usize, chain: &[&Reading]) -> WindowEnergy {
        self.gauges[i].energy(chain.iter().map(|r| (r.value(i), r.at())))
    }
}

/// A meter that is a bank of domains, in its field `bank`.
macro_rules! meter_of_a_bank {
    ($meter:ty) => {
        impl $crate::energy::Meter for $meter {
            fn info(&self) -> &$crate::energy::MeterInfo {
                self.bank.info()
            }
            fn read(&mut self, target: $crate::energy::Target) -> $crate::energy::Reading {
                self.bank.read(target)
            }
            fn energy(&self, start: &$crate::energy::Reading, end: &$crate::energy::Reading) -> $crate::energy::WindowEnergy {
                self.bank.total(start, end)
            }
            fn domains_energy(
                &self,
                start: &$crate::energy::Reading,
                end: &$crate::energy::Reading,
            ) -> Vec<(String, $crate::energy::WindowEnergy)> {
                self.bank.each(start, end)
            }
            fn longest_window(&self) -> Option<$crate::units::Seconds> {
                self.bank.longest_window()
            }
            fn modulus(&self, i: usize) -> Option<$crate::units::Joules> {
                self.bank.modulus(i)
            }
        }
    };
}
pub(super) use meter_of_a_bank;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use crate::energy::Counter;

    fn bank(update_period: Option<Seconds>) -> Bank {
        let domain = |name: &str, counted| Domain { name: name.into(), counted };
        let counter = Gauge::Counter(Counter::new(Some(999_999_999), Joules(1e-6)));
        let entries = vec![
            (domain("package-0", true), counter),
            (domain("package-0/core", false), counter),
            (domain("package-0/dram", true), counter),
        ];
        let systematic = rapl_systematic(Kind::Simulated);
        let about = About { name: "powercap", kind: Kind::Simulated, scope: Scope::PackageDram, update_period, systematic };
        Bank::new(about, entries, Some(Duration::from_secs(3600)), Box::new(|| vec![Ok(0), Ok(0), Ok(0)]))
    }

    fn reading(values: [Result<u64, String>; 3]) -> Reading {
        Reading::take(Target { pid: 1 }, || values.to_vec())
    }

    #[test]
    fn only_counted_domains_are_added() {
        let bank = bank(None);
        let (start, end) = (reading([Ok(0), Ok(0), Ok(999_999_990)]), reading([Ok(100), Ok(70), Ok(10)]));
        let WindowEnergy::Valid { total, resolution } = bank.total(&start, &end) else { panic!("invalid") };
        assert!((total.0 - 120e-6).abs() < 1e-12);
        assert_eq!((resolution, bank.modulus(0), bank.modulus(9)), (Joules(2e-6), Some(Joules(1000.0)), None));
        assert_eq!(bank.each(&start, &end).len(), 3);
    }

    #[test]
    fn a_fault_in_a_counted_domain_is_the_windows_fault() {
        let bank = bank(None);
        let start = reading([Ok(0), Ok(0), Ok(0)]);
        let end = reading([Ok(1), Ok(1), Err("gone".into())]);
        assert_eq!(bank.total(&start, &end), WindowEnergy::Invalid("`package-0/dram`: gone".into()));
        let end = reading([Ok(1), Err("gone".into()), Ok(1)]);
        assert!(matches!(bank.total(&start, &end), WindowEnergy::Valid { .. }));
    }

    #[test]
    fn standing_still_is_not_zero_energy() {
        let start = reading([Ok(5), Ok(0), Ok(5)]);
        assert!(matches!(bank(None).total(&start, &start), WindowEnergy::Invalid(r) if r.contains("stood still")));
        let slow = bank(Some(Seconds(1e3)));
        assert!(matches!(slow.total(&start, &start), WindowEnergy::Invalid(r) if r.contains("too short")));
    }

    #[test]
    fn one_tick_is_the_resolution_of_a_long_window() {
        let bank = bank(Some(Seconds(1e-3)));
        let start = reading([Ok(0), Ok(0), Ok(0)]);
        std::thread::sleep(Duration::from_millis(4));
        let end = reading([Ok(1_000_000), Ok(0), Ok(0)]);
        let WindowEnergy::Valid { total, resolution } = bank.total(&start, &end) else { panic!("invalid") };
        let expect = 1e-3 / end.since(&start).as_secs_f64();
        assert!((total.0 - 1.0).abs() < 1e-9 && (resolution.0 - expect).abs() < 1e-9, "{resolution}");
    }
}
