//! From windows to one pair (quantity, inferences) for each process, and what the meter's reading leaves open in each.

use super::protocol::{Round, Track};
use super::windows::Window;

/// Whether a window counts.
pub(super) type Count = dyn Fn(&&Window) -> bool;

/// A quantity of the windows of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    /// Energy from reading to reading, joules.
    Gross,
    /// That minus the idle machine's, joules.
    Net,
    /// Sum of the latencies, seconds.
    Latency,
}

/// What the windows of one process (a cluster: they share its memory layout) add up to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cluster {
    /// The quantity, in its unit.
    pub(super) sum: f64,
    /// Inferences.
    pub(super) inferences: f64,
    /// Variance of `sum` that comes from reading the meter, whatever the windows scatter: with a counter of coarse steps all
    /// windows may look equal and still be wrong by a step.
    pub(super) reading: f64,
}

impl Cluster {
    /// Of one process; `None` when none of its windows counts.
    pub(super) fn of(round: &Round, count: &Count, quantity: Quantity) -> Option<Cluster> {
        let (mut sum, mut inferences, mut reading, mut span) = (0.0, 0.0, 0.0, 0.0);
        for w in round.windows.iter().filter(|w| count(w)) {
            let (value, error) = match (quantity, &w.energy) {
                (Quantity::Latency, _) => (w.latencies.iter().map(|&ns| ns as f64).sum::<f64>() * 1e-9, 0.0),
                (Quantity::Gross, Ok(read)) => (read.energy.0, read.error.0),
                (Quantity::Net, Ok(read)) => (read.energy.0 - (round.idle?.power * w.span).0, read.error.0),
                (_, Err(_)) => continue,
            };
            sum += value;
            inferences += w.inferences as f64;
            reading += error * error;
            span += w.span.0;
        }
        if quantity == Quantity::Net {
            // All windows of the process share its idle power, right or wrong.
            reading += (round.idle?.error.0 * span).powi(2);
        }
        (inferences > 0.0).then_some(Cluster { sum, inferences, reading })
    }

    /// The quantity for one inference.
    pub(super) fn each(&self) -> f64 {
        self.sum / self.inferences
    }

    /// Variance of [`Cluster::each`] relative to itself.
    fn relative(&self) -> f64 {
        self.reading / (self.sum * self.sum)
    }
}

/// All processes that have windows that count.
pub(super) fn clusters(track: &Track, count: &Count, quantity: Quantity) -> Vec<Cluster> {
    track.rounds.iter().filter_map(|round| Cluster::of(round, count, quantity)).collect()
}

/// The pairs that [`crate::stats::cluster_ratio`] takes.
pub(super) fn pairs(clusters: &[Cluster]) -> Vec<(f64, f64)> {
    clusters.iter().map(|c| (c.sum, c.inferences)).collect()
}

/// Standard error of the quantity for one inference over all `clusters`, from the readings alone.
pub(super) fn reading_error(clusters: &[Cluster]) -> f64 {
    let (variance, inferences) = clusters.iter().fold((0.0, 0.0), |(v, n), c| (v + c.reading, n + c.inferences));
    variance.sqrt() / inferences
}

/// A subject's quantity for one inference over the reference's, of rounds in which both have one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ratios {
    /// One for each round.
    pub(super) rounds: Vec<f64>,
    /// Standard error of the mean of their logarithms, from the readings alone.
    pub(super) error: f64,
}

/// See [`Ratios`].
pub(super) fn ratios(track: &Track, reference: &Track, count: &Count, quantity: Quantity) -> Ratios {
    let both = track.rounds.iter().zip(&reference.rounds);
    let both = both.filter_map(|(a, b)| Some((Cluster::of(a, count, quantity)?, Cluster::of(b, count, quantity)?)));
    let (rounds, variances): (Vec<f64>, Vec<f64>) = both.map(|(a, b)| (a.each() / b.each(), a.relative() + b.relative())).unzip();
    let error = variances.iter().sum::<f64>().sqrt() / (rounds.len().max(1) as f64);
    Ratios { rounds, error }
}

/// Energy per inference of one process, from its valid windows.
pub(super) fn energy_per_inference(round: &Round) -> Option<f64> {
    Cluster::of(round, &|w| w.invalid().is_none(), Quantity::Gross).map(|c| c.each())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::windows::{Idle, Read};
    use super::*;
    use crate::units::{Joules, Seconds, Watts};

    fn round(energies: &[f64], idle: Option<Idle>) -> Round {
        let window = |&e: &f64| Window {
            inferences: 10,
            span: Seconds(2.0),
            energy: Ok(Read { energy: Joules(e), error: Joules(0.3) }),
            ..Window::empty()
        };
        Round { windows: energies.iter().map(window).collect(), idle }
    }

    #[test]
    fn what_a_reading_leaves_open_is_kept_although_windows_look_equal() {
        let track = |energies: &[&[f64]]| {
            let mut track = Track::default();
            track.rounds = energies.iter().map(|e| round(e, None)).collect();
            track
        };
        let (mine, other) = (track(&[&[3.0, 3.0], &[3.0, 3.0]]), track(&[&[6.0, 6.0], &[6.0, 6.0]]));
        let found = clusters(&mine, &|_| true, Quantity::Gross);
        assert_eq!(pairs(&found), [(6.0, 20.0), (6.0, 20.0)]);
        // Four windows of an error of 0.3 J over 40 inferences.
        assert!((reading_error(&found) - 0.6 / 40.0).abs() < 1e-12);
        let ratios = ratios(&mine, &other, &|_| true, Quantity::Gross);
        assert_eq!(ratios.rounds, [0.5, 0.5]);
        let variance: f64 = 0.18 / 36.0 + 0.18 / 144.0;
        assert!((ratios.error - (variance / 2.0).sqrt()).abs() < 1e-12);
        assert!(reading_error(&clusters(&mine, &|_| true, Quantity::Latency)) == 0.0);
    }

    #[test]
    fn all_windows_of_a_process_share_the_error_of_its_idle_power() {
        let idle = Idle { power: Watts(1.0), error: Watts(0.1) };
        let cluster = Cluster::of(&round(&[3.0, 3.0], Some(idle)), &|_| true, Quantity::Net).unwrap();
        assert!((cluster.sum - 2.0).abs() < 1e-12);
        assert!((cluster.reading - (0.18 + 0.16)).abs() < 1e-12);
        assert_eq!(Cluster::of(&round(&[3.0], None), &|_| true, Quantity::Net), None);
        assert_eq!(Cluster::of(&round(&[], None), &|_| true, Quantity::Gross), None);
    }
}
