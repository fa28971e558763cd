//! Readings that a background thread takes between the edges of windows: so seldom that they disturb nothing, so often that no
//! counter can wrap twice unseen and that power can be integrated where there is no counter.
//!
//! The energy of a window is then a sum over the chain of readings from its start to its end. A reading of the chain that
//! failed, or two that are too far apart because the thread did not get to run, make the window invalid.

use super::meter::{Reading, Target};
use crate::sys::{allowed_cpus, pin_current_thread};
use crate::units::Seconds;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Readings that are kept. At the fastest rate in use (20 a second) these are 13 minutes, for a RAPL counter days.
const KEPT: usize = 1 << 14;

/// Raw values of all domains, now.
pub(super) type ReadAll = Box<dyn FnMut() -> Vec<Result<u64, String>> + Send>;

/// The readings of one meter: those at edges and those between them, in one order.
pub(super) struct Follower {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    period: Option<Duration>,
}

struct Shared {
    // One lock around each reading: their instants are in the order in which the values were read, so that a value can never
    // seem to have gone backwards by a tick (which would look like a whole wrap).
    state: Mutex<State>,
    stop: AtomicBool,
}

struct State {
    read: ReadAll,
    log: VecDeque<Arc<Reading>>,
    /// Readings up to here are no longer in the log.
    forgotten: Option<Instant>,
}

impl Follower {
    /// Reads at edges only.
    pub(super) fn still(read: ReadAll) -> Self {
        let state = Mutex::new(State { read, log: VecDeque::new(), forgotten: None });
        Follower { shared: Arc::new(Shared { state, stop: AtomicBool::new(false) }), thread: None, period: None }
    }

    /// Reads every `period` as well. If no thread can be started, spans that need one will be invalid.
    pub(super) fn every(period: Duration, read: ReadAll) -> Self {
        let mut follower = Self::still(read);
        let shared = Arc::clone(&follower.shared);
        follower.period = Some(period);
        follower.thread = std::thread::Builder::new().name("meter".into()).spawn(move || shared.follow(period)).ok();
        follower
    }

    /// Reads now, for the edge of a window.
    pub(super) fn read(&self, target: Target) -> Reading {
        let mut state = self.shared.lock();
        let reading = Reading::take(target, &mut state.read);
        if reading.values().iter().any(Result::is_err) {
            // It may lie within a window of somebody else.
            state.keep(reading.clone());
        }
        reading
    }

    /// Gives `sum` all readings from `start` to `end`, both included, in order of time.
    ///
    /// # Errors
    /// The window began before the oldest reading that is kept.
    pub(super) fn chain<R>(&self, start: &Reading, end: &Reading, sum: impl FnOnce(&[&Reading]) -> R) -> Result<R, String> {
        let between: Vec<Arc<Reading>> = {
            let state = self.shared.lock();
            if state.forgotten.is_some_and(|until| until >= start.at()) {
                return Err(format!("the window of {} is longer than readings are kept", Seconds::from(end.since(start))));
            }
            state.log.iter().filter(|r| r.at() > start.at() && r.at() < end.at()).cloned().collect()
        };
        let chain: Vec<&Reading> = std::iter::once(start).chain(between.iter().map(|r| &**r)).chain(std::iter::once(end)).collect();
        Ok(sum(&chain))
    }

    /// The longest span that the kept readings cover; `None`: there is no thread, and nothing that it would be needed for.
    pub(super) fn span(&self) -> Option<Seconds> {
        self.period.map(|p| Seconds::from(p) * KEPT as f64)
    }

    /// The last `n` readings that were kept, oldest first.
    pub(super) fn latest(&self, n: usize) -> Vec<Arc<Reading>> {
        let state = self.shared.lock();
        state.log.iter().skip(state.log.len().saturating_sub(n)).cloned().collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, period: Duration) {
        // Measured processes get the last CPUs; with one CPU there is no choice.
        if let Ok(&[first, ..]) = allowed_cpus().as_deref() {
            let _ = pin_current_thread(&[first]);
        }
        while !self.stop.load(Ordering::Relaxed) {
            let mut state = self.lock();
            let reading = Reading::take(Target::this_process(), &mut state.read);
            state.keep(reading);
            drop(state);
            // An early wake-up costs one reading more.
            std::thread::park_timeout(period);
        }
    }
}

impl State {
    fn keep(&mut self, reading: Reading) {
        if self.log.len() >= KEPT {
            self.forgotten = self.log.pop_front().map(|r| r.at());
        }
        self.log.push_back(Arc::new(reading));
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("period", &self.period).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;

    fn counting() -> ReadAll {
        let mut n = 0;
        Box::new(move || {
            n += 1;
            vec![if n == 3 { Err("gone".into()) } else { Ok(n) }]
        })
    }

    #[test]
    fn a_fault_at_an_edge_is_seen_by_every_window_around_it() {
        let follower = Follower::still(counting());
        let me = Target::this_process();
        let readings: Vec<Reading> = (0..5).map(|_| follower.read(me)).collect();
        let seen = |a: usize, b: usize| {
            follower.chain(&readings[a], &readings[b], |chain| chain.iter().map(|r| r.value(0)).collect::<Vec<_>>()).unwrap()
        };
        assert_eq!(seen(0, 1), [Ok(1), Ok(2)]);
        assert_eq!(seen(1, 3), [Ok(2), Err("gone".into()), Ok(4)]);
        assert_eq!(seen(3, 4), [Ok(4), Ok(5)]);
        assert_eq!(follower.span(), None);
    }

    #[test]
    fn the_thread_reads_on_and_values_are_in_the_order_of_time() {
        let mut n = 0;
        let follower = Follower::every(
            Duration::from_micros(200),
            Box::new(move || {
                n += 1;
                vec![Ok(n)]
            }),
        );
        let me = Target::this_process();
        let start = follower.read(me);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let end = follower.read(me);
            let values: Vec<u64> = follower.chain(&start, &end, |c| c.iter().map(|r| r.value(0).unwrap()).collect()).unwrap();
            assert!(values.windows(2).all(|w| w[0] < w[1]), "{values:?}");
            if values.len() > 5 {
                break;
            }
            assert!(Instant::now() < deadline, "the thread does not run");
            std::thread::yield_now();
        }
        assert!(follower.span().unwrap().0 > 3.0 && !follower.latest(3).is_empty());
    }

    #[test]
    fn what_is_forgotten_is_said() {
        let follower = Follower::still(Box::new(|| vec![Err("no".into())]));
        let me = Target::this_process();
        let start = follower.read(me);
        let middle = follower.read(me);
        (0..KEPT).for_each(|_| drop(follower.read(me)));
        let end = follower.read(me);
        assert!(follower.chain(&start, &end, |_| ()).unwrap_err().contains("longer than readings are kept"));
        assert!(follower.chain(&middle, &end, |_| ()).is_err());
        assert!(follower.chain(&end, &end, |_| ()).is_ok());
    }
}
