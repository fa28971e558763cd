//! What an external meter has sent, on our clock, and the energy between two moments.

use super::line::{Line, Value};
use crate::units::{Joules, Seconds, Watts};
use std::collections::{BTreeMap, VecDeque};

/// Samples that are kept: hours at one a second, minutes at a thousand.
const KEPT: usize = 1 << 17;
/// Delays of arrival that are kept.
const DELAYS: usize = 256;
/// Gaps are judged by the median of that many.
const GAPS: usize = 63;
/// Samples may be this many periods apart.
const MISSED: f64 = 5.0;
/// Headers that are kept; nobody needs more.
const HEADERS: usize = 32;
/// A clock may be off by that share of the window.
const OFFSET: f64 = 0.01;
/// Less is not asked of any clock.
const SMALLEST_OFFSET: Seconds = Seconds(1e-3);

/// One reading, watts or joules.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    time: f64,
    value: f64,
}

/// What the values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    Power,
    Energy,
}

/// Why a window's energy cannot be told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Missing {
    /// Its end has not been reported yet.
    NotYet,
    /// It will not become known.
    Never(String),
}

/// All that has arrived.
#[derive(Debug, Default)]
pub(super) struct Samples {
    ring: VecDeque<Sample>,
    /// Moments on the meter's clock at which something went wrong.
    breaks: VecDeque<(f64, String)>,
    quantity: Option<Quantity>,
    /// Arrival minus time: of `clock` lines if there are any, else of samples.
    delays: VecDeque<f64>,
    has_clock: bool,
    headers: BTreeMap<String, String>,
    lines: u64,
    garbage: u64,
    first_garbage: Option<String>,
    forgot: bool,
    ended: Option<String>,
}

impl Samples {
    /// Takes a line that arrived at `arrival` (seconds since the epoch); `None`: it is older than our listening, so that its
    /// delay says nothing.
    pub(super) fn line(&mut self, line: &str, arrival: Option<f64>) {
        self.lines += 1;
        let parsed = Line::parse(line).and_then(|line| self.take(line, arrival));
        if let Err(why) = parsed {
            self.garbage(&why);
        }
    }

    /// Counts a line that cannot be used.
    pub(super) fn garbage(&mut self, why: &str) {
        self.garbage += 1;
        self.first_garbage.get_or_insert_with(|| why.to_owned());
    }

    fn take(&mut self, line: Line, arrival: Option<f64>) -> Result<(), String> {
        match line {
            Line::Nothing => {}
            Line::Header(key, value) if self.headers.len() < HEADERS => drop(self.headers.insert(key, value)),
            Line::Header(..) => {}
            Line::Clock(time) => {
                if !std::mem::replace(&mut self.has_clock, true) {
                    self.delays.clear();
                }
                self.delay(arrival, time);
            }
            Line::Sample { time, value } => {
                let at = time.or(arrival).ok_or("`now` stands in a line that is older than our listening")?;
                let (quantity, value) = match value {
                    Value::Power(w) => (Quantity::Power, w.0),
                    Value::Energy(j) => (Quantity::Energy, j.0),
                };
                if *self.quantity.get_or_insert(quantity) != quantity {
                    return Err("watts and joules are mixed".into());
                }
                if !self.has_clock && time.is_some() {
                    self.delay(arrival, at);
                }
                self.sample(Sample { time: at, value }, quantity)?;
            }
        }
        Ok(())
    }

    fn sample(&mut self, sample: Sample, quantity: Quantity) -> Result<(), String> {
        if let Some(last) = self.ring.back().copied() {
            if sample.time == last.time && sample.value == last.value {
                return Ok(());
            }
            if sample.time <= last.time {
                self.broken(last.time, "the meter's time went backwards".into());
                // Its clock was set: what comes is later than what was, and not comparable with it.
                if sample.time < last.time {
                    self.ring.clear();
                    self.forgot = true;
                }
                self.garbage("time went backwards");
                if sample.time == last.time {
                    return Ok(());
                }
            } else if quantity == Quantity::Energy && sample.value < last.value {
                self.broken(sample.time, format!("the meter's energy went backwards from {} J to {} J", last.value, sample.value));
            }
        }
        if self.ring.len() >= KEPT {
            self.ring.pop_front();
            self.forgot = true;
        }
        self.ring.push_back(sample);
        Ok(())
    }

    fn broken(&mut self, at: f64, why: String) {
        if self.breaks.len() >= DELAYS {
            self.breaks.pop_front();
        }
        self.breaks.push_back((at, why));
    }

    fn delay(&mut self, arrival: Option<f64>, time: f64) {
        let Some(arrival) = arrival else { return };
        if self.delays.len() >= DELAYS {
            self.delays.pop_front();
        }
        self.delays.push_back(arrival - time);
    }

    /// Nothing more will come.
    pub(super) fn end(&mut self, why: String) {
        self.ended.get_or_insert(why);
    }

    pub(super) fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    pub(super) fn header(&self, key: &str) -> Option<&str> {
        self.headers.get(key).map(String::as_str)
    }

    pub(super) fn quantity(&self) -> Option<Quantity> {
        self.quantity
    }

    pub(super) fn count(&self) -> usize {
        self.ring.len()
    }

    /// Lines so far, and those that could not be used.
    pub(super) fn lines(&self) -> (u64, u64, Option<&str>) {
        (self.lines, self.garbage, self.first_garbage.as_deref())
    }

    /// The median time between two of the last samples; `None` for fewer than two.
    pub(super) fn period(&self) -> Option<Seconds> {
        let recent = || self.ring.iter().rev().take(GAPS + 1);
        let mut gaps: Vec<f64> = recent().zip(recent().skip(1)).map(|(late, early)| late.time - early.time).collect();
        gaps.sort_unstable_by(f64::total_cmp);
        gaps.get(gaps.len() / 2).map(|g| Seconds(*g))
    }

    /// The smallest difference between two of the last samples, watts or joules: the meter's step, as far as it has shown. Zero
    /// while nothing has changed.
    pub(super) fn step(&self) -> f64 {
        let recent = || self.ring.iter().rev().take(GAPS + 1);
        let steps = recent().zip(recent().skip(1)).map(|(a, b)| (a.value - b.value).abs()).filter(|d| *d > 0.0);
        steps.min_by(f64::total_cmp).unwrap_or(0.0)
    }

    /// Our clock minus the meter's, and how sure that is. The smallest delay is nearest to the truth, because a line cannot
    /// arrive before it was written.
    ///
    /// Lines `clock TIME` are sent for this purpose, so the offset they show is corrected, and what is not known is how much
    /// of the smallest delay was the way. Without them a delay may be the clock or the way: nothing is corrected, and all of
    /// it is uncertain.
    fn offset(&self) -> (Seconds, Seconds) {
        let smallest = self.delays.iter().copied().min_by(f64::total_cmp);
        let Some(smallest) = smallest else { return (Seconds(0.0), Seconds(0.0)) };
        if !self.has_clock {
            return (Seconds(0.0), Seconds(smallest.abs()));
        }
        let mut delays: Vec<f64> = self.delays.iter().copied().collect();
        delays.sort_unstable_by(f64::total_cmp);
        (Seconds(smallest), Seconds(delays[delays.len() / 2] - smallest))
    }

    /// The energy from `start` to `end`, seconds since the epoch on our clock, and its resolution.
    ///
    /// # Errors
    /// See [`Missing`].
    pub(super) fn energy(&self, start: f64, end: f64) -> Result<(Joules, Joules), Missing> {
        let never = |why: String| Err(Missing::Never(why));
        let length = Seconds(end - start);
        let (offset, uncertain) = self.offset();
        let tolerance = Seconds((OFFSET * length.0).max(SMALLEST_OFFSET.0));
        let (start, end) = (start - offset.0, end - offset.0);
        let Some(last) = self.ring.back() else { return never("the meter has sent no reading".into()) };
        if last.time < end {
            return match &self.ended {
                Some(why) => never(format!("the meter ended before the window did: {why}")),
                None => Err(Missing::NotYet),
            };
        }
        if uncertain.0 > tolerance.0 {
            return never(format!(
                "the meter's clock and this machine's may differ by {uncertain}, more than 1 % of the window of {length}: synchronise them, let the meter write each line at once, or send lines `clock TIME`"
            ));
        }
        if let Some((_, why)) = self.breaks.iter().find(|(at, _)| *at >= start && *at <= end) {
            return never(why.clone());
        }
        // The first sample at or after the start has one before it, or the window began before the meter did.
        let first = self.ring.partition_point(|s| s.time <= start);
        if first == 0 {
            let why = if self.forgot { "is longer than readings are kept" } else { "began before the meter's first reading" };
            return never(format!("the window {why}"));
        }
        let beyond = self.ring.partition_point(|s| s.time < end);
        let inside: Vec<Sample> = self.ring.range(first - 1..=beyond.min(self.ring.len() - 1)).copied().collect();
        self.along(&inside, start, end)
    }

    /// The same over the samples that enclose the window.
    fn along(&self, inside: &[Sample], start: f64, end: f64) -> Result<(Joules, Joules), Missing> {
        let period = self.period().unwrap_or(Seconds(0.0));
        let length = end - start;
        if length < 2.0 * period.0 {
            return Err(Missing::Never(format!("the window of {} is too short for a meter that reports every {period}", Seconds(length))));
        }
        let (mut total, mut low, mut high) = (0.0, f64::INFINITY, 0.0f64);
        for pair in inside.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            let gap = b.time - a.time;
            if gap > MISSED * period.0 {
                return Err(Missing::Never(format!("the meter sent nothing for {}, and it reports every {period}", Seconds(gap))));
            }
            // The part of this step that is inside.
            let (from, to) = (a.time.max(start), b.time.min(end));
            let watts = |t: f64| a.value + (b.value - a.value) * (t - a.time) / gap;
            let (power, energy) = match self.quantity {
                Some(Quantity::Energy) => {
                    let power = (b.value - a.value) / gap;
                    (power, power * (to - from))
                }
                _ => ((a.value + b.value) / 2.0, (watts(from) + watts(to)) / 2.0 * (to - from)),
            };
            total += energy.max(0.0);
            low = low.min(power);
            high = high.max(power);
        }
        // Within the steps at both edges the power is not known any better than its range.
        let resolution = Watts((high - low).max(0.0)) * period;
        Ok((Joules(total), resolution))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;

    const T: f64 = 1_700_000_000.0;

    /// Samples from lines `seconds value unit` that arrive `late` after their time.
    fn samples(lines: &[(f64, f64)], unit: &str, late: f64) -> Samples {
        let mut samples = Samples::default();
        for (time, value) in lines {
            samples.line(&format!("{} {value} {unit}", T + time), Some(T + time + late));
        }
        samples
    }

    fn every(n: usize, period: f64, value: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..n).map(|i| i as f64 * period).map(|t| (t, value(t))).collect()
    }

    #[track_caller]
    fn joules(samples: &Samples, start: f64, end: f64) -> f64 {
        samples.energy(T + start, T + end).unwrap().0.0
    }

    #[track_caller]
    fn never(samples: &Samples, start: f64, end: f64, word: &str) {
        match samples.energy(T + start, T + end) {
            Err(Missing::Never(why)) => assert!(why.contains(word), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn watts_are_integrated_and_joules_subtracted_between_samples_too() {
        let constant = samples(&every(50, 0.125, |_| 8.0), "W", 0.0);
        assert!((joules(&constant, 0.3, 2.8) - 20.0).abs() < 1e-6);
        let ramp = samples(&every(50, 0.125, |t| 2.0 * t), "watts", 0.0);
        assert!((joules(&ramp, 1.1, 3.1) - (3.1f64.powi(2) - 1.1f64.powi(2))).abs() < 1e-6);
        let counter = samples(&every(50, 0.125, |t| 100.0 + 8.0 * t), "J", 0.0);
        assert!((joules(&counter, 0.3, 2.8) - 20.0).abs() < 1e-6);
        assert_eq!((counter.period(), counter.step()), (Some(Seconds(0.125)), 1.0));
        assert_eq!(constant.step(), 0.0);
    }

    #[test]
    fn what_is_not_there_yet_and_what_will_not_come() {
        let mut s = samples(&every(50, 0.125, |_| 8.0), "W", 0.0);
        assert_eq!(s.energy(T + 1.0, T + 7.0), Err(Missing::NotYet));
        never(&s, -1.0, 3.0, "began before");
        never(&s, 1.0, 1.2, "too short");
        s.end("it exited".into());
        never(&s, 1.0, 7.0, "it exited");
        never(&Samples::default(), 1.0, 2.0, "no reading");
    }

    #[test]
    fn gaps_and_steps_backwards_break_only_the_windows_around_them() {
        let mut lines = every(40, 0.125, |_| 8.0);
        lines.drain(20..27);
        let s = samples(&lines, "W", 0.0);
        never(&s, 1.0, 4.0, "sent nothing for");
        assert!((joules(&s, 0.5, 2.0) - 12.0).abs() < 1e-6);

        let reset = samples(&every(40, 0.125, |t| if t < 2.0 { 50.0 + t } else { t }), "J", 0.0);
        never(&reset, 1.0, 3.0, "energy went backwards");
        assert!((joules(&reset, 2.5, 4.5) - 2.0).abs() < 1e-6);

        let mut set = samples(&every(40, 0.125, |_| 8.0), "W", 0.0);
        set.line(&format!("{} 8 W", T + 2.0), Some(T + 5.0));
        set.line(&format!("{} 8 W", T + 2.1), Some(T + 5.1));
        assert_eq!(set.lines().1, 1);
        assert!(set.energy(T + 1.0, T + 3.0).is_err());
    }

    #[test]
    fn a_clock_that_is_off_is_noticed_and_one_that_is_told_is_corrected() {
        // Three seconds behind: without `clock` lines nobody knows whether that is the clock or the way.
        let behind = samples(&every(100, 0.125, |t| t), "W", 3.0);
        never(&behind, 2.0, 8.0, "may differ by 3.00 s");
        let ahead = samples(&every(100, 0.125, |t| t), "W", -3.0);
        never(&ahead, 2.0, 8.0, "may differ by 3.00 s");
        // Small against a long window.
        let slightly = samples(&every(100, 0.125, |_| 1.0), "W", 0.02);
        assert!((joules(&slightly, 2.0, 8.0) - 6.0).abs() < 1e-6);
        never(&slightly, 2.0, 3.0, "may differ by");

        let mut told = Samples::default();
        for (t, watts) in every(100, 0.125, |t| t) {
            told.line(&format!("clock {}", T + t), Some(T + t + 3.0 + 1e-4));
            told.line(&format!("{} {watts} W", T + t), Some(T + t + 3.5));
        }
        let expect = (7.0f64.powi(2) - 2.0f64.powi(2)) / 2.0;
        assert!((joules(&told, 5.0, 10.0) - expect).abs() < 0.01);
    }

    #[test]
    fn garbage_is_counted_and_units_do_not_mix() {
        let mut s = samples(&every(20, 0.125, |_| 8.0), "W", 0.0);
        for bad in ["hello", "\0\0\0", "1700000001 5 J"] {
            s.line(bad, Some(T));
        }
        let (lines, garbage, first) = s.lines();
        assert_eq!((lines, garbage), (23, 3));
        assert!(first.unwrap().contains("TIME VALUE UNIT"));
        assert!((joules(&s, 0.3, 1.3) - 8.0).abs() < 1e-6);
        s.line("# scope: battery", None);
        assert_eq!((s.header("scope"), s.quantity(), s.count()), (Some("battery"), Some(Quantity::Power), 20));
        (0..1000).for_each(|i| s.line(&format!("# {i}: x"), None));
        assert!(s.headers.len() <= HEADERS);
    }
}
