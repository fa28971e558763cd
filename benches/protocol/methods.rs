//! The protocol, and weaker methods that are often used, on the same simulated machine.

use joulefront::Result;
use joulefront::measure::simulation::{Machine, Outcome, Truth, simulate};
use joulefront::measure::{Energy, Plan};
use joulefront::stats::{Interval, Verdict, log_ratio, quantile};
use joulefront::units::{Joules, Seconds};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The gross power of a busy machine: 20 W above 10 W of idle power, so 0.3 J for a run of 10 ms.
const ABOVE_IDLE: f64 = 20.0;
const IDLE: f64 = 10.0;
const RUN: f64 = 0.01;

/// A machine like one with a RAPL counter, and two subjects of which the second uses `difference` less energy in all (0.03: 3 %).
pub(crate) fn machine(seed: u64, difference: f64) -> Machine {
    let subject = |gross: f64| Truth::new(Seconds(RUN), Joules((gross - IDLE) * RUN));
    let gross = ABOVE_IDLE + IDLE;
    Machine { seed, ..Machine::rapl(vec![subject(gross), subject(gross * (1.0 - difference))]) }
}

/// What `bench` does unless told otherwise, with `processes` processes.
pub(crate) fn plan(seed: u64, processes: usize) -> Plan {
    Plan { seed, processes, window: Seconds(0.2), ..Plan::default() }
}

/// The second subject's energy.
pub(crate) fn energy(outcome: &Outcome) -> Option<&Energy> {
    outcome.results.get(1)?.as_ref().ok()?.energy.as_ref()
}

/// The energy ratio and its interval by the protocol, whether it calls a difference, and the time it took.
pub(crate) fn protocol(machine: &Machine, plan: &Plan) -> Result<(Interval, bool, Seconds)> {
    let outcome = simulate(machine, plan)?;
    let energy = energy(&outcome).ok_or_else(|| joulefront::Error::engine("no energy"))?;
    let called = matches!(energy.verdict, Some(Verdict::Better | Verdict::Worse));
    let ratio = energy.ratio.ok_or_else(|| joulefront::Error::engine("no ratio"))?;
    Ok((ratio, called, outcome.took))
}

/// Ratios of the second subject's energy to the first's, one for each round of processes.
pub(crate) fn rounds(machine: &Machine, plan: &Plan) -> Result<Vec<f64>> {
    let outcome = simulate(machine, plan)?;
    let of =
        |i: usize| outcome.results.get(i).and_then(|r| r.as_ref().ok()).and_then(|m| m.energy.clone()).unwrap_or_else(none).per_process;
    Ok(of(1).iter().zip(of(0)).map(|(mine, other)| mine / other).collect())
}

fn none() -> Energy {
    Energy {
        kind: joulefront::energy::Kind::Simulated,
        meter: String::new(),
        scope: joulefront::energy::Scope::Package,
        gross: Interval { value: 0.0, lo: 0.0, hi: 0.0 },
        net: None,
        ratio: None,
        verdict: None,
        per_process: Vec::new(),
        systematic: joulefront::energy::Systematic { low: 1.0, high: 1.0, source: String::new() },
    }
}

/// The percentile bootstrap of the mean ratio, with the usual thousand resamples of the rounds.
pub(crate) fn bootstrap(rounds: &[f64], seed: u64) -> Option<Interval> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let n = rounds.len();
    let mut means: Vec<f64> = (0..1000).map(|_| (0..n).map(|_| rounds[rng.random_range(0..n)]).sum::<f64>() / n as f64).collect();
    means.sort_unstable_by(f64::total_cmp);
    let value = rounds.iter().sum::<f64>() / n as f64;
    Some(Interval { value, lo: quantile(&means, 0.025)?, hi: quantile(&means, 0.975)? })
}

/// Measuring until something is found: looks after each round from the third on, and stops when the interval excludes 1.
pub(crate) fn until_found(rounds: &[f64]) -> Option<Interval> {
    (3..=rounds.len()).find_map(|k| log_ratio(&rounds[..k]).filter(|i| !i.contains(1.0))).or_else(|| log_ratio(rounds))
}

/// All of the first subject's processes, then all of the second's: the interval of the ratio of their means on the logarithms, as if
/// the processes were alike (Welch).
pub(crate) fn one_after_the_other(machine: &Machine, plan: &Plan) -> Result<Option<Interval>> {
    let alone = |i: usize, begin: Seconds, seed: u64| {
        let one = Machine { subjects: vec![machine.subjects[i]], begin, seed, ..machine.clone() };
        simulate(&one, plan).map(|o| {
            let logs = o.results.first().and_then(|r| r.as_ref().ok()).and_then(|m| m.energy.clone());
            (logs.map_or_else(Vec::new, |e| e.per_process.iter().map(|x| x.ln()).collect::<Vec<_>>()), o.took)
        })
    };
    let (first, took) = alone(0, machine.begin, machine.seed)?;
    let (second, _) = alone(1, machine.begin + took, machine.seed.wrapping_add(1 << 32))?;
    let sums = |v: &[f64]| {
        let n = v.len() as f64;
        let mean = v.iter().sum::<f64>() / n;
        (mean, v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0) / n)
    };
    let ((a, va), (b, vb)) = (sums(&first), sums(&second));
    // Student's t with the degrees of freedom of both sides together.
    let t = joulefront::stats::Confidence::P95.t((first.len() + second.len()).saturating_sub(2));
    let half = t * (va + vb).sqrt();
    Ok(half.is_finite().then(|| Interval { value: (b - a).exp(), lo: (b - a - half).exp(), hi: (b - a + half).exp() }))
}
