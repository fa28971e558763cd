#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use crate::compress::statistics::Moments;
use proptest::prelude::*;
use serde::Deserialize;

/// What `tests/fixtures/scripts/least_squares.py` made with NumPy.
#[derive(Deserialize)]
struct Fixture {
    d: usize,
    o: usize,
    x: Vec<f32>,
    t: Vec<f32>,
    w0: Vec<f64>,
    keep: Vec<bool>,
    dense: Vec<f64>,
    dense_bias: Vec<f64>,
    on_support: Vec<f64>,
    relative_error_of_w0: f64,
    eliminations: Vec<Elimination>,
}

/// Removing `columns` after those before: what it adds to the loss, and the weights that are left.
#[derive(Deserialize)]
struct Elimination {
    columns: Vec<usize>,
    added: f64,
    weights: Vec<f64>,
}

/// Root of the squared error over the targets' variance.
fn relative_error(c: &Centred, w: &[f64]) -> f64 {
    let (residual, total) = c.squared_error(w);
    if total > 0.0 { (residual / total).sqrt() } else { 0.0 }
}

#[track_caller]
fn close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).for_each(|(x, y)| assert!((x - y).abs() <= tolerance * (1.0 + y.abs()), "{x} instead of {y}"));
}

#[test]
fn solutions_are_numpys() {
    let text = std::fs::read_to_string("tests/fixtures/least_squares.json").unwrap();
    let f: Fixture = serde_json::from_str(&text).unwrap();
    let mut moments = Moments::new(f.d, f.o);
    // In two parts, as chunks come.
    let half = f.x.len() / f.d / 2;
    moments.add(&f.x[..half * f.d], &f.t[..half * f.o]).unwrap();
    let mut rest = Moments::new(f.d, f.o);
    rest.add(&f.x[half * f.d..], &f.t[half * f.o..]).unwrap();
    moments.merge(&rest);
    let c = moments.centred().unwrap();

    let dense = c.dense(&f.w0).unwrap();
    close(&dense, &f.dense, 1e-9);
    close(&c.bias(&dense), &f.dense_bias, 1e-9);
    close(&c.on_support(&f.w0, &f.keep).unwrap(), &f.on_support, 1e-9);
    close(&[relative_error(&c, &f.w0)], &[f.relative_error_of_w0], 1e-9);

    let mut eliminator = Eliminator::new(&c, f.w0.clone()).unwrap();
    for step in &f.eliminations {
        close(&[eliminator.loss(&step.columns)], &[step.added], 1e-7);
        eliminator.remove(&step.columns);
        close(&eliminator.w, &step.weights, 1e-7);
    }
}

/// Solves a·x = b by elimination with pivots.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        let pivot = (i..n).max_by(|&p, &q| a[p][i].abs().total_cmp(&a[q][i].abs())).unwrap();
        a.swap(i, pivot);
        b.swap(i, pivot);
        for r in i + 1..n {
            let factor = a[r][i] / a[i][i];
            let row = a[i].clone();
            a[r].iter_mut().zip(&row).skip(i).for_each(|(x, y)| *x -= factor * y);
            b[r] -= factor * b[i];
        }
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| a[i][j] * b[j]).sum();
        b[i] = (b[i] - known) / a[i][i];
    }
    b
}

/// The loss of refitting without the columns `gone`, from the beginning: tr((W − W′)(H + rI)(W − W′)ᵀ), over tr(W·H·Wᵀ).
fn brute_force(c: &Centred, w: &[f64], gone: &[usize]) -> f64 {
    let (d, r) = (c.d, c.ridge());
    let h = |i: usize, j: usize| c.h[i * d + j] + if i == j { r } else { 0.0 };
    let left: Vec<usize> = (0..d).filter(|j| !gone.contains(j)).collect();
    let (mut loss, mut energy) = (0.0, 0.0);
    for row in w.chunks_exact(d) {
        let a = left.iter().map(|&i| left.iter().map(|&j| h(i, j)).collect()).collect();
        let b = left.iter().map(|&i| (0..d).map(|j| h(i, j) * row[j]).sum()).collect();
        let fitted = solve(a, b);
        let mut delta = row.to_vec();
        left.iter().zip(&fitted).for_each(|(&j, v)| delta[j] -= v);
        let product =
            |h: &dyn Fn(usize, usize) -> f64, v: &[f64]| -> f64 { (0..d * d).map(|k| v[k / d] * h(k / d, k % d) * v[k % d]).sum() };
        loss += product(&h, &delta);
        energy += product(&|i, j| c.h[i * d + j], row);
    }
    loss / energy
}

fn problem() -> impl Strategy<Value = (usize, usize, Vec<f32>, Vec<f32>, Vec<f64>)> {
    (2..7usize, 1..4usize, 8..40usize).prop_flat_map(|(d, o, n)| {
        let values = |count| prop::collection::vec(-2.0f32..2.0, count);
        (Just(d), Just(o), values(n * d), values(n * o), prop::collection::vec(-1.0f64..1.0, o * d))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn elimination_step_by_step_equals_refitting_from_the_beginning((d, o, x, t, w) in problem(), order in any::<prop::sample::Index>()) {
        let mut moments = Moments::new(d, o);
        moments.add(&x, &t).unwrap();
        let c = moments.centred().unwrap();
        let mut eliminator = Eliminator::new(&c, w.clone()).unwrap();
        let (mut gone, mut sum) = (Vec::new(), 0.0);
        for i in 0..d {
            let column = (i + order.index(d)) % d;
            sum += eliminator.loss(&[column]);
            eliminator.remove(&[column]);
            gone.push(column);
            let expect = brute_force(&c, &w, &gone);
            prop_assert!((sum - expect).abs() <= 1e-6 * (1.0 + expect), "{} instead of {}", sum, expect);
        }
        prop_assert!(eliminator.w.iter().all(|w| w.abs() < 1e-12));
    }

    /// With the pull towards the old weights the fit is no worse than they are, on any support that they respect.
    #[test]
    fn a_fit_is_never_worse_than_the_weights_it_started_from((d, o, x, t, w) in problem(), keep in prop::collection::vec(any::<bool>(), 28)) {
        let mut moments = Moments::new(d, o);
        moments.add(&x, &t).unwrap();
        let c = moments.centred().unwrap();
        prop_assert!(relative_error(&c, &c.dense(&w).unwrap()) <= relative_error(&c, &w) + 1e-9);
        let keep: Vec<bool> = (0..o * d).map(|i| keep[i % keep.len()]).collect();
        let masked: Vec<f64> = w.iter().zip(&keep).map(|(&w, &k)| if k { w } else { 0.0 }).collect();
        let fitted = c.on_support(&masked, &keep).unwrap();
        prop_assert!(fitted.iter().zip(&keep).all(|(w, &k)| k || *w == 0.0));
        prop_assert!(relative_error(&c, &fitted) <= relative_error(&c, &masked) + 1e-9);
    }
}

/// Inputs that are always zero, and more unknowns than samples.
#[test]
fn degenerate_systems_have_a_finite_solution() {
    for (d, n) in [(4, 10), (12, 3)] {
        let mut moments = Moments::new(d, 1);
        let x: Vec<f32> = (0..n * d).map(|i| if i % d == 0 { 0.0 } else { (i * 37 % 11) as f32 }).collect();
        moments.add(&x, &vec![1.0; n]).unwrap();
        let c = moments.centred().unwrap();
        assert!(c.dense(&vec![0.5; d]).unwrap().iter().all(|w| w.is_finite()));
        assert!(relative_error(&c, &vec![0.5; d]).is_finite());
    }
    let dead = Moments::new(3, 1);
    assert!(dead.centred().is_none());
}
