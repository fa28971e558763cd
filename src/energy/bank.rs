//! Several counters read together: the sum over the counted ones, and each by itself.

use super::counter::Counter;
use super::kind::{Kind, Systematic, WindowEnergy};
use super::meter::{Domain, Reading};
use crate::units::{Joules, Seconds};

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

/// The counters of a meter, in the order of its domains.
#[derive(Debug, Clone)]
pub(super) struct Bank {
    entries: Vec<(Domain, Counter)>,
    update_period: Option<Seconds>,
}

impl Bank {
    pub(super) fn new(entries: Vec<(Domain, Counter)>) -> Self {
        Bank { entries, update_period: None }
    }

    pub(super) fn set_update_period(&mut self, period: Option<Seconds>) {
        self.update_period = period;
    }

    pub(super) fn domains(&self) -> Vec<Domain> {
        self.entries.iter().map(|(d, _)| d.clone()).collect()
    }

    /// The coarsest step among the counted domains.
    pub(super) fn unit(&self) -> Joules {
        Joules(self.counted().map(|(_, (_, c))| c.unit().0).fold(0.0, f64::max))
    }

    pub(super) fn longest_gap(&self) -> Option<Seconds> {
        self.entries.iter().filter_map(|(_, c)| c.longest_gap()).min_by(|a, b| a.0.total_cmp(&b.0))
    }

    pub(super) fn each(&self, start: &Reading, end: &Reading) -> Vec<(String, WindowEnergy)> {
        self.entries.iter().enumerate().map(|(i, (d, _))| (d.name.clone(), self.one(i, start, end))).collect()
    }

    /// The sum over the counted domains, with one tick at the window's power as its resolution. A sum that did not move is not
    /// zero energy: the window is shorter than a tick, or the counter is dead.
    pub(super) fn total(&self, start: &Reading, end: &Reading) -> WindowEnergy {
        let (mut sum, mut units) = (Joules(0.0), Joules(0.0));
        for (i, (domain, _)) in self.counted() {
            match self.one(i, start, end) {
                WindowEnergy::Valid { total, resolution } => {
                    sum += total;
                    units += resolution;
                }
                WindowEnergy::Invalid(reason) => return WindowEnergy::Invalid(format!("`{}`: {reason}", domain.name)),
            }
        }
        let length = Seconds::from(end.since(start));
        if sum.0 == 0.0 {
            return WindowEnergy::Invalid(match self.update_period {
                Some(period) if length.0 < 2.0 * period.0 => {
                    format!("the window of {length} is too short for a counter that is updated every {period}")
                }
                _ => format!("the counter stood still for {length}"),
            });
        }
        let tick = match self.update_period {
            Some(period) if length.0 > 0.0 => sum * (period.0 / length.0).min(1.0),
            _ => units,
        };
        WindowEnergy::Valid { total: sum, resolution: if tick.0 > units.0 { tick } else { units } }
    }

    fn counted(&self) -> impl Iterator<Item = (usize, &(Domain, Counter))> {
        self.entries.iter().enumerate().filter(|(_, (d, _))| d.counted)
    }

    fn one(&self, i: usize, start: &Reading, end: &Reading) -> WindowEnergy {
        match (start.value(i), end.value(i)) {
            (Ok(a), Ok(b)) => self.entries[i].1.energy(a, b, end.since(start)),
            (Err(reason), _) | (_, Err(reason)) => WindowEnergy::Invalid(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use crate::energy::Target;

    fn bank() -> Bank {
        let domain = |name: &str, counted| Domain { name: name.into(), counted };
        let counter = Counter::new(Some(999_999_999), Joules(1e-6));
        Bank::new(vec![
            (domain("package-0", true), counter),
            (domain("package-0/core", false), counter),
            (domain("package-0/dram", true), counter),
        ])
    }

    fn reading(values: [Result<u64, String>; 3]) -> Reading {
        Reading::take(Target { pid: 1 }, || values.to_vec())
    }

    #[test]
    fn only_counted_domains_are_added() {
        let (start, end) = (reading([Ok(0), Ok(0), Ok(999_999_990)]), reading([Ok(100), Ok(70), Ok(10)]));
        let WindowEnergy::Valid { total, resolution } = bank().total(&start, &end) else { panic!("invalid") };
        assert!((total.0 - 120e-6).abs() < 1e-12);
        assert_eq!(resolution, Joules(2e-6));
        assert_eq!(bank().each(&start, &end).len(), 3);
    }

    #[test]
    fn a_fault_in_a_counted_domain_is_the_windows_fault() {
        let start = reading([Ok(0), Ok(0), Ok(0)]);
        let end = reading([Ok(1), Ok(1), Err("gone".into())]);
        assert_eq!(bank().total(&start, &end), WindowEnergy::Invalid("`package-0/dram`: gone".into()));
        let end = reading([Ok(1), Err("gone".into()), Ok(1)]);
        assert!(matches!(bank().total(&start, &end), WindowEnergy::Valid { .. }));
    }

    #[test]
    fn standing_still_is_not_zero_energy() {
        let start = reading([Ok(5), Ok(0), Ok(5)]);
        assert!(matches!(bank().total(&start, &start), WindowEnergy::Invalid(r) if r.contains("stood still")));
        let mut ticking = bank();
        ticking.set_update_period(Some(Seconds(1e3)));
        assert!(matches!(ticking.total(&start, &start), WindowEnergy::Invalid(r) if r.contains("too short")));
    }

    #[test]
    fn one_tick_is_the_resolution_of_a_long_window() {
        let mut ticking = bank();
        ticking.set_update_period(Some(Seconds(1e-3)));
        let start = reading([Ok(0), Ok(0), Ok(0)]);
        std::thread::sleep(std::time::Duration::from_millis(4));
        let end = reading([Ok(1_000_000), Ok(0), Ok(0)]);
        let WindowEnergy::Valid { total, resolution } = ticking.total(&start, &end) else { panic!("invalid") };
        let expect = 1e-3 / end.since(&start).as_secs_f64();
        assert!((total.0 - 1.0).abs() < 1e-9 && (resolution.0 - expect).abs() < 1e-9, "{resolution}");
    }
}
