//! Whether a form is worth it: its energy and its time against the float form's, both of the same rounds.

use crate::measure::{Beside, Compared};
use crate::stats::Verdict;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What was shown of a form against the float form of the same engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pays {
    /// It takes less energy, and not more time.
    Saves,
    /// It takes more energy, or more time.
    Costs,
    /// Neither was shown: a difference, if there is one, is within the noise.
    NotShown,
}

impl Pays {
    /// From a comparison: energy decides, time can only speak against. Where the energy is not known, time decides.
    ///
    /// ```
    /// use joulefront::{measure::{Beside, Compared}, screen::Pays, stats::{Interval, Verdict}};
    /// let better = Compared { ratio: Interval { value: 0.7, lo: 0.68, hi: 0.72 }, verdict: Verdict::Better };
    /// let worse = Compared { ratio: Interval { value: 1.9, lo: 1.7, hi: 2.1 }, verdict: Verdict::Worse };
    /// assert_eq!(Pays::of(&Beside { energy: Some(better), latency: Some(better) }), Pays::Saves);
    /// assert_eq!(Pays::of(&Beside { energy: Some(better), latency: Some(worse) }), Pays::Costs);
    /// assert_eq!(Pays::of(&Beside::default()), Pays::NotShown);
    /// ```
    pub fn of(beside: &Beside) -> Self {
        let verdict = |compared: &Option<Compared>| compared.map(|c| c.verdict);
        match (verdict(&beside.energy), verdict(&beside.latency)) {
            (Some(Verdict::Worse), _) | (_, Some(Verdict::Worse)) => Pays::Costs,
            (Some(Verdict::Better), _) | (None, Some(Verdict::Better)) => Pays::Saves,
            _ => Pays::NotShown,
        }
    }

    /// The word for it in tables.
    pub fn name(self) -> &'static str {
        match self {
            Pays::Saves => "pays",
            Pays::Costs => "costs",
            Pays::NotShown => "no difference shown",
        }
    }
}

impl fmt::Display for Pays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::measure::Plan;
    use crate::measure::simulation::{Machine, Truth, simulate};
    use crate::units::{Joules, Seconds};

    /// Screens subjects 2… against subject 1 on a noisy virtual machine.
    fn screened(forms: &[(f64, f64)], seed: u64) -> Vec<Pays> {
        let truth = |&(latency, energy): &(f64, f64)| Truth::new(Seconds(latency), Joules(energy));
        let float = (0.001, 0.02);
        let subjects = [(0.002, 0.04), float].iter().chain(forms).map(truth).collect();
        let machine = Machine { seed, ..Machine::rapl(subjects) };
        let pairs = (2..2 + forms.len()).map(|i| (i, 1)).collect();
        let plan = Plan { blocks: 2, window: Seconds(0.06), pairs, seed, ..Plan::default() };
        let results = simulate(&machine, &plan).unwrap().results;
        results[2..].iter().map(|r| Pays::of(&r.as_ref().unwrap().beside.unwrap())).collect()
    }

    #[test]
    fn what_saves_and_what_costs_is_found_and_equal_ones_are_hardly_ever_told_apart() {
        let mut wrong = 0;
        for seed in 0..40 {
            let found = screened(&[(0.0006, 0.012), (0.0019, 0.038), (0.001, 0.02)], seed);
            assert_eq!(found[..2], [Pays::Saves, Pays::Costs], "seed {seed}");
            wrong += usize::from(found[2] != Pays::NotShown);
        }
        // The comparisons of a run hold together at 95 %.
        assert!(wrong <= 4, "{wrong} of 40 equal forms were told apart");
    }

    #[test]
    fn less_energy_in_more_time_does_not_pay() {
        assert_eq!(screened(&[(0.0015, 0.004)], 1), [Pays::Costs]);
    }
}
