//! Two meters side by side over the same windows: do they say the same?
//!
//! perf and powercap read the same registers through different parts of the kernel. Where they differ by more than truncation
//! and a tick, one of them is wrong: an unknown wrap, a wrong unit, a domain that only one of them sees.

use super::kind::WindowEnergy;
use super::meter::{Meter, MeterInfo, Reading, Target};
use crate::units::{Joules, Seconds};
use serde::Serialize;
use std::sync::{Mutex, PoisonError};

/// Two meters of the same thing may differ by that much, and by one tick of each.
const ALLOWED: f64 = 0.01;

/// What two meters said of one window, over the domains that both count.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CrossCheck {
    /// The meter whose figure is used.
    pub meter: String,
    /// The other one.
    pub other: String,
    /// Domains that both have.
    pub domains: Vec<String>,
    /// What the first said.
    pub energy_j: Joules,
    /// What the other said.
    pub other_j: Joules,
    /// other ÷ first − 1.
    pub difference: f64,
    /// How far they may differ: 1 % and a tick of each.
    pub allowed: f64,
}

impl CrossCheck {
    /// Whether the two agree.
    pub fn agrees(&self) -> bool {
        self.difference.abs() <= self.allowed
    }

    /// Compares two meters by domain over the window from `start` to `end`, which are readings of the first with those of the
    /// second [beside](Reading::beside). `None`: they have no counted domain in common, or one of them cannot tell.
    pub fn of(meter: &dyn Meter, other: &dyn Meter, start: &Reading, end: &Reading) -> Option<Self> {
        let (other_start, other_end) = (start.beside()?, end.beside()?);
        let (ours, theirs) = (meter.domains_energy(start, end), other.domains_energy(other_start, other_end));
        let counts = |info: &MeterInfo, name: &str| info.domains.iter().any(|d| d.counted && d.name == name);
        let (mut sums, mut domains) = ((Joules(0.0), Joules(0.0)), Vec::new());
        for (name, energy) in ours.into_iter().filter(|(name, _)| counts(meter.info(), name) && counts(other.info(), name)) {
            let theirs = theirs.iter().find(|(n, _)| *n == name).map(|(_, e)| e);
            let (WindowEnergy::Valid { total: a, .. }, Some(WindowEnergy::Valid { total: b, .. })) = (energy, theirs) else { return None };
            sums.0 += a;
            sums.1 += *b;
            domains.push(name);
        }
        if sums.0.0 <= 0.0 {
            return None;
        }
        let length = Seconds::from(end.since(start)).0;
        let tick = |info: &MeterInfo| info.update_period.map_or(0.0, |p| p.0 / length.max(f64::MIN_POSITIVE));
        Some(CrossCheck {
            meter: meter.info().name.clone(),
            other: other.info().name.clone(),
            domains,
            energy_j: sums.0,
            other_j: sums.1,
            difference: sums.1 / sums.0 - 1.0,
            allowed: ALLOWED + tick(meter.info()) + tick(other.info()),
        })
    }
}

/// A meter with another one read at the same edges. All figures are those of the first; the two are compared over every window.
pub struct SideBySide {
    meter: Box<dyn Meter>,
    other: Box<dyn Meter>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    windows: u64,
    apart: u64,
    worst: Option<CrossCheck>,
}

impl SideBySide {
    /// Reads `other` beside `meter`.
    pub fn new(meter: Box<dyn Meter>, other: Box<dyn Meter>) -> Self {
        SideBySide { meter, other, seen: Mutex::default() }
    }
}

impl std::fmt::Debug for SideBySide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SideBySide").field("meter", self.meter.info()).field("other", self.other.info()).finish_non_exhaustive()
    }
}

impl Meter for SideBySide {
    fn info(&self) -> &MeterInfo {
        self.meter.info()
    }

    fn read(&mut self, target: Target) -> Reading {
        let reading = self.meter.read(target);
        reading.with_beside(self.other.read(target))
    }

    fn energy(&self, start: &Reading, end: &Reading) -> WindowEnergy {
        if let Some(check) = CrossCheck::of(self.meter.as_ref(), self.other.as_ref(), start, end) {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.windows += 1;
            if !check.agrees() {
                seen.apart += 1;
                if seen.worst.as_ref().is_none_or(|w| check.difference.abs() > w.difference.abs()) {
                    seen.worst = Some(check);
                }
            }
        }
        self.meter.energy(start, end)
    }

    fn domains_energy(&self, start: &Reading, end: &Reading) -> Vec<(String, WindowEnergy)> {
        self.meter.domains_energy(start, end)
    }

    fn longest_window(&self) -> Option<Seconds> {
        self.meter.longest_window()
    }

    fn modulus(&self, i: usize) -> Option<Joules> {
        self.meter.modulus(i)
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.meter.warnings();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worst) = &seen.worst {
            warnings.push(format!(
                "the meters `{}` and `{}` differ in {} of {} windows, by up to {:.1} % over {}; trust neither, and run `joulefront doctor --selftest`",
                worst.meter,
                worst.other,
                seen.apart,
                seen.windows,
                100.0 * worst.difference.abs(),
                worst.domains.join(" + "),
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use crate::energy::simulate::Ticker;
    use crate::energy::{Powercap, Tree};
    use crate::sys::Host;
    use crate::units::Watts;
    use std::time::Duration;

    fn pair(first: Watts, second: Watts) -> (SideBySide, [crate::energy::simulate::Ticking; 2]) {
        let start = |power: Watts| Ticker::default().start(move |t| power * Seconds::from(t)).unwrap();
        let trees = [start(first), start(second)];
        let open = |i: usize| Box::new(Powercap::open(&Tree::at(trees[i].root()), &Host::at("/nowhere")).unwrap());
        (SideBySide::new(open(0), open(1)), trees)
    }

    fn window(meter: &mut SideBySide) -> WindowEnergy {
        let me = Target::this_process();
        let start = meter.read(me);
        std::thread::sleep(Duration::from_millis(300));
        let end = meter.read(me);
        meter.energy(&start, &end)
    }

    #[test]
    fn meters_that_differ_are_told_and_those_that_agree_are_not() {
        let (mut meter, _trees) = pair(Watts(20.0), Watts(60.0));
        assert!(matches!(window(&mut meter), WindowEnergy::Valid { .. }));
        let warnings = meter.warnings();
        assert!(
            warnings.len() == 1 && warnings[0].contains("differ in 1 of 1 windows") && warnings[0].contains("package-0"),
            "{warnings:?}"
        );

        // One counter twice: they can differ by what happened between two readings only.
        let power = Watts(20.0);
        let tree = Ticker::default().start(move |t| power * Seconds::from(t)).unwrap();
        let open = || Box::new(Powercap::open(&Tree::at(tree.root()), &Host::at("/nowhere")).unwrap());
        let mut same = SideBySide::new(open(), open());
        let me = Target::this_process();
        let start = same.read(me);
        let end = loop {
            let end = same.read(me);
            if end.since(&start) > Duration::from_millis(200) {
                break end;
            }
        };
        let check = CrossCheck::of(same.meter.as_ref(), same.other.as_ref(), &start, &end).unwrap();
        assert!(check.difference.abs() < 0.5 && check.allowed >= ALLOWED, "{check:?}");
        assert_eq!(check.domains, ["package-0"]);
    }

    #[test]
    fn what_cannot_be_compared_is_no_check() {
        let (mut meter, _trees) = pair(Watts(20.0), Watts(20.0));
        let me = Target::this_process();
        let start = meter.read(me);
        assert_eq!(CrossCheck::of(meter.meter.as_ref(), meter.other.as_ref(), &start, &start), None);
        let alone = meter.meter.read(me);
        assert_eq!(CrossCheck::of(meter.meter.as_ref(), meter.other.as_ref(), &alone, &start), None);
    }
}
