//! The intervals against SciPy's values, and their coverage by simulation with fixed seeds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

#[test]
fn quantiles_and_intervals_equal_scipys() {
    let fixture: Value = serde_json::from_str(include_str!("../../tests/fixtures/stats.json")).unwrap();
    let rows = |name: &str| fixture[name].as_array().unwrap().clone();
    let level = |v: &Value| Confidence::new(v.as_f64().unwrap()).unwrap();
    let interval = |v: &[Value]| {
        let [value, lo, hi] = [0, 1, 2].map(|i| v[i].as_f64().unwrap());
        Interval { value, lo, hi }
    };
    for r in rows("z") {
        near(level(&r[0]).z(), r[1].as_f64().unwrap(), 1e-11);
    }
    for r in rows("t") {
        near(level(&r[0]).t(r[1].as_u64().unwrap() as usize), r[2].as_f64().unwrap(), 1e-9);
    }
    for r in rows("wilson") {
        let got = wilson_at(level(&r[0]), r[1].as_u64().unwrap(), r[2].as_u64().unwrap());
        same(got, interval(&r.as_array().unwrap()[3..]), 1e-11);
    }
    for r in rows("paired") {
        let [n, b, c] = [1, 2, 3].map(|i| r[i].as_u64().unwrap());
        // The reference maximises the likelihood numerically, to about half of the digits.
        same(paired_difference_at(level(&r[0]), n, b, c), interval(&r.as_array().unwrap()[4..]), 1e-6);
    }
    for r in rows("ratio") {
        let pairs: Vec<(f64, f64)> = serde_json::from_value(r[0].clone()).unwrap();
        same(cluster_ratio(&pairs), interval(&r.as_array().unwrap()[1..]), 1e-9);
    }
    for r in rows("log_ratio") {
        let rounds: Vec<f64> = serde_json::from_value(r[0].clone()).unwrap();
        same(log_ratio(&rounds), interval(&r.as_array().unwrap()[1..]), 1e-9);
    }
}

#[track_caller]
fn near(got: f64, expect: f64, relative: f64) {
    assert!((got - expect).abs() <= relative * expect.abs().max(1e-3), "{got} instead of {expect}");
}

#[track_caller]
fn same(got: Option<Interval>, expect: Interval, relative: f64) {
    let got = got.unwrap();
    near(got.value, expect.value, relative);
    near(got.lo, expect.lo, relative);
    near(got.hi, expect.hi, relative);
}

#[test]
fn too_little_or_broken_data_has_no_interval() {
    let broken = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    assert_eq!(cluster_ratio(&[]), None);
    assert_eq!(cluster_ratio(&[(1.0, 1.0)]), None);
    assert_eq!(cluster_ratio(&[(1.0, 1.0), (1.0, 0.0)]), None);
    assert_eq!(cluster_ratio(&[(1.0, 1.0), (1.0, -1.0)]), None);
    assert_eq!(cluster_ratio(&[(1.0, f64::INFINITY), (1.0, 1.0)]), None);
    assert_eq!(cluster_ratio(&[(f64::MAX, 1.0), (f64::MAX, 1.0)]), None);
    assert_eq!(log_ratio(&[1.0]), None);
    assert_eq!(log_ratio(&[1.0, 0.0]), None);
    assert_eq!(log_ratio(&[1e300, 1e-300]), None, "an end beyond the largest number");
    for x in broken {
        assert_eq!(cluster_ratio(&[(x, 1.0), (1.0, 1.0)]), None);
        assert_eq!(cluster_ratio(&[(1.0, x), (1.0, 1.0)]), None);
        assert_eq!(log_ratio(&[x, 1.0]), None);
    }
    let net_near_idle = cluster_ratio(&[(-0.1, 10.0), (0.2, 10.0)]).unwrap();
    assert!(net_near_idle.lo < 0.0 && net_near_idle.hi > 0.0);
}

#[test]
fn shared_confidence_widens() {
    let ten = Confidence::P95.shared_by(10);
    assert!((ten.level() - 0.995).abs() < 1e-12);
    assert_eq!(Confidence::P95.shared_by(0), Confidence::P95);
    assert!(Confidence::P95.shared_by(usize::MAX).z().is_finite());
    assert!(Confidence::P95.shared_by(usize::MAX).t(1).is_finite());
    let (one, all) = (wilson(90, 100).unwrap(), wilson_at(ten, 90, 100).unwrap());
    assert!(all.lo < one.lo && all.hi > one.hi);
}

/// True energy per inference and ratio of the simulated machine.
const ENERGY: f64 = 0.25;
const RATIO: f64 = 0.32;

/// Relative noise of the simulated machine: AR(1) between the windows of a process, luck for the life of a process.
struct Machine {
    rng: ChaCha8Rng,
    rho: f64,
    window_sd: f64,
    process_sd: f64,
}

impl Machine {
    fn new(seed: u64, rho: f64) -> Self {
        Machine { rng: ChaCha8Rng::seed_from_u64(seed), rho, window_sd: 0.02, process_sd: 0.01 }
    }

    /// Standard normal (Box & Muller).
    fn normal(&mut self) -> f64 {
        let (u, v): (f64, f64) = (1.0 - self.rng.random::<f64>(), self.rng.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Windows of one fresh process as (joules, inferences).
    fn process(&mut self, per_inference: f64, windows: usize) -> Vec<(f64, f64)> {
        let luck = self.process_sd * self.normal();
        let mut noise = self.normal();
        let fresh = (1.0 - self.rho * self.rho).sqrt();
        (0..windows)
            .map(|_| {
                noise = self.rho * noise + fresh * self.normal();
                (per_inference * (1.0 + luck + self.window_sd * noise) * 100.0, 100.0)
            })
            .collect()
    }
}

fn total(windows: &[(f64, f64)]) -> (f64, f64) {
    windows.iter().fold((0.0, 0.0), |(e, n), w| (e + w.0, n + w.1))
}

const PROCESSES: usize = 5;
const WINDOWS: usize = 10;
const RUNS: u64 = 4000;

fn share_of_runs(mut holds: impl FnMut(u64) -> bool) -> f64 {
    (0..RUNS).filter(|&seed| holds(seed)).count() as f64 / RUNS as f64
}

#[test]
fn intervals_over_processes_cover_the_truth_as_often_as_they_say() {
    for rho in [0.0, 0.3, 0.6] {
        let energy = share_of_runs(|seed| {
            let mut machine = Machine::new(seed, rho);
            let clusters: Vec<_> = (0..PROCESSES).map(|_| total(&machine.process(ENERGY, WINDOWS))).collect();
            cluster_ratio(&clusters).unwrap().contains(ENERGY)
        });
        let ratio = share_of_runs(|seed| {
            let mut machine = Machine::new(seed, rho);
            let rounds: Vec<_> = (0..PROCESSES)
                .map(|_| {
                    // Both sides of a round share the heat and load of its minutes, which the ratio must cancel.
                    let shared = 1.0 + 0.05 * machine.normal();
                    let [this, reference] = [RATIO * ENERGY * shared, ENERGY * shared].map(|e| total(&machine.process(e, WINDOWS)).0);
                    this / reference
                })
                .collect();
            log_ratio(&rounds).unwrap().contains(RATIO)
        });
        assert!((0.93..=0.975).contains(&energy), "ΣE/ΣN with ρ = {rho}: {energy}");
        assert!((0.93..=0.975).contains(&ratio), "log ratio with ρ = {rho}: {ratio}");
    }
}

/// Why the process and not the window is the unit: windows taken as independent promise 95 % and hold about 60 %.
#[test]
fn an_interval_over_windows_covers_far_less_than_it_says() {
    let naive = share_of_runs(|seed| {
        let mut machine = Machine::new(seed, 0.6);
        let windows: Vec<_> = (0..PROCESSES).flat_map(|_| machine.process(ENERGY, WINDOWS)).collect();
        cluster_ratio(&windows).unwrap().contains(ENERGY)
    });
    assert!((0.4..0.75).contains(&naive), "{naive}");
}

#[test]
fn score_intervals_cover_the_truth_near_the_end_and_with_few_discordant_samples() {
    // Accuracy 0.98 on 200 samples: on average four errors.
    let accuracy = share_of_runs(|seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let right = (0..200).filter(|_| rng.random::<f64>() < 0.98).count();
        wilson(right as u64, 200).unwrap().contains(0.98)
    });
    assert!((0.93..=0.985).contains(&accuracy), "{accuracy}");
    // Shares right by one side alone: many, few and unequal discordant samples.
    for (samples, first, second) in [(500, 0.06, 0.03), (500, 0.01, 0.01), (200, 0.02, 0.002), (100, 0.15, 0.05)] {
        let difference = share_of_runs(|seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (mut b, mut c) = (0, 0);
            for _ in 0..samples {
                match rng.random::<f64>() {
                    u if u < first => b += 1,
                    u if u < first + second => c += 1,
                    _ => {}
                }
            }
            paired_difference(samples, b, c).unwrap().contains(first - second)
        });
        assert!((0.93..=0.985).contains(&difference), "{samples} {first} {second}: {difference}");
    }
}
