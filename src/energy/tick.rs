//! How often a counter is updated, found by looking.

use crate::units::Seconds;
use std::time::{Duration, Instant};

/// Longest time spent on looking: some fifty updates of a RAPL counter, which comes about every millisecond.
const BOUND: Duration = Duration::from_millis(50);
/// Intervals between updates that are enough for their median.
const ENOUGH: usize = 9;

/// What looking at a counter for a while showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ticks {
    /// The median time between two updates.
    Every(Seconds),
    /// Updates were seen, too few to tell a period.
    Slow,
    /// The counter stood still, although this very process kept a CPU busy.
    StandsStill,
}

/// Spins on `read` until its value has changed ten times, for 50 ms at most. Unreadable values are passed over.
pub(super) fn observe(read: impl FnMut() -> Option<u64>) -> Ticks {
    observe_for(BOUND, Duration::ZERO, read)
}

/// The same for at most `bound`, with a pause after each reading.
pub(super) fn observe_for(bound: Duration, pause: Duration, mut read: impl FnMut() -> Option<u64>) -> Ticks {
    let begin = Instant::now();
    let mut last = read();
    let mut changes: Vec<Instant> = Vec::with_capacity(ENOUGH + 1);
    while changes.len() <= ENOUGH && begin.elapsed() < bound {
        let value = read();
        if value.is_some() && value != last {
            changes.push(Instant::now());
            last = value;
        }
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
    // The median, because a preempted reader sees one long interval.
    let mut gaps: Vec<Duration> = changes.windows(2).map(|w| w[1] - w[0]).collect();
    gaps.sort_unstable();
    match (gaps.get(gaps.len() / 2), changes.is_empty()) {
        (Some(gap), _) => Ticks::Every((*gap).into()),
        (None, false) => Ticks::Slow,
        (None, true) => Ticks::StandsStill,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn still_slow_and_ticking() {
        assert_eq!(observe(|| Some(7)), Ticks::StandsStill);
        assert_eq!(observe(|| None), Ticks::StandsStill);
        let mut reads = 0;
        let once = || {
            reads += 1;
            Some(u64::from(reads > 3))
        };
        assert_eq!(observe(once), Ticks::Slow);

        // A counter of whole 2 ms. On a busy machine the gaps may be of any length, but they are there.
        let begin = Instant::now();
        match observe(|| Some(begin.elapsed().as_micros() as u64 / 2000)) {
            Ticks::Every(period) => assert!(period.0 > 0.0),
            other => assert_eq!(other, Ticks::Slow),
        }
    }
}
