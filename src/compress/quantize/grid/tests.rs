#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use crate::compress::statistics::Moments;
use proptest::prelude::*;

/// Moments of made-up inputs, each like its neighbour, and of targets that the weights `w` would give, with noise.
fn centred(d: usize, o: usize, rows: usize, w: &[f64], seed: u32) -> Centred {
    let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503)) >> 8) as f32 / 1e7 - 0.8;
    let x: Vec<f32> = (0..rows * d).map(|i| value(i) + if i % d > 0 { 0.7 * value(i - 1) } else { 0.0 }).collect();
    let dot = |row: usize, out: usize| (0..d).map(|j| x[row * d + j] * w[out * d + j] as f32).sum::<f32>();
    let t: Vec<f32> = (0..rows * o).map(|i| dot(i / o, i % o) + 0.1 * value(i + 3)).collect();
    let mut moments = Moments::new(d, o);
    moments.add(&x, &t).unwrap();
    moments.centred().unwrap()
}

fn posed(systems: Vec<Centred>) -> Problem {
    Problem { systems, current: Vec::new() }
}

/// What is minimised: the squared error with the pull towards `w0`.
fn cost(c: &Centred, w: &[f64], w0: &[f64]) -> f64 {
    c.squared_error(w).0 + c.ridge() * w.iter().zip(w0).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
}

fn values(rows: &[Row], block: usize) -> Vec<f64> {
    rows.iter().flat_map(|r| r.q.iter().enumerate().map(|(j, q)| q * r.scales[j / block]).collect::<Vec<_>>()).collect()
}

fn rounded(w: &[f64], grid: Grid) -> Vec<f64> {
    let scales = grid.scales(w);
    w.iter().enumerate().map(|(j, w)| grid.nearest(w / scales[j / grid.block]) * scales[j / grid.block]).collect()
}

fn weights(d: usize, o: usize) -> impl Strategy<Value = Vec<f64>> {
    // Some weights are exactly zero, as after pruning.
    prop::collection::vec(prop_oneof![5 => -1.0f64..1.0, 1 => Just(0.0)], d * o)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn fitted_rows_are_never_worse_than_rounded_ones(w in weights(11, 3), bits in 2u32..=8, block in prop_oneof![Just(11usize), Just(4)], seed in 0u32..99) {
        let c = centred(11, 3, 60, &w, seed);
        let grid = Grid { bits, block };
        let rows = Search { problem: &posed(vec![c.clone()]), w0: &w }.fit(grid).unwrap().unwrap();
        let found = values(&rows, block);
        let nearest: Vec<f64> = w.chunks(11).flat_map(|row| rounded(row, grid)).collect();
        prop_assert!(cost(&c, &found, &w) <= cost(&c, &nearest, &w) * (1.0 + 1e-9) + 1e-12);
        let (least, most) = range(bits);
        for row in &rows {
            prop_assert!(row.q.iter().all(|q| q.fract() == 0.0 && (f64::from(least)..=f64::from(most)).contains(q)));
            prop_assert!(row.scales.iter().all(|s| *s > 0.0 && s.is_finite()));
        }
        prop_assert!(found.iter().zip(&w).all(|(f, w)| *w != 0.0 || *f == 0.0), "a pruned weight came back");
    }

    #[test]
    fn so_are_rows_that_share_a_scale(w in weights(9, 4), bits in 2u32..=8, seed in 0u32..99) {
        let systems: Vec<Centred> = w.chunks(18).map(|w| centred(9, 2, 50, w, seed)).collect();
        let rows = Search { problem: &posed(systems.clone()), w0: &w }.fit_alike(bits).unwrap().unwrap();
        prop_assert!(rows.iter().all(|r| r.scales == rows[0].scales));
        let found = values(&rows, 9);
        let nearest = rounded(&w, Grid { bits, block: w.len() });
        let total = |v: &[f64]| systems.iter().enumerate().map(|(i, c)| cost(c, &v[i * 18..][..18], &w[i * 18..][..18])).sum::<f64>();
        prop_assert!(total(&found) <= total(&nearest) * (1.0 + 1e-9) + 1e-12);
    }

    /// No other integer of the same row would be better, and no other scale.
    #[test]
    fn a_descent_ends_where_no_single_step_helps(w in prop::collection::vec(-1.0f64..1.0, 8), bits in 2u32..=4, seed in 0u32..99) {
        let c = centred(8, 1, 60, &w, seed);
        let grid = Grid { bits, block: 8 };
        let row = Search { problem: &posed(vec![c.clone()]), w0: &w }.fit(grid).unwrap().unwrap().remove(0);
        let at = |q: &[f64], scale: f64| cost(&c, &q.iter().map(|q| q * scale).collect::<Vec<_>>(), &w);
        let best = at(&row.q, row.scales[0]);
        for j in 0..8 {
            for step in [-1.0, 1.0] {
                let mut q = row.q.clone();
                q[j] = grid.nearest(q[j] + step);
                prop_assert!(at(&q, row.scales[0]) >= best - 1e-9 * (1.0 + best));
            }
        }
        for share in [0.99, 1.01] {
            prop_assert!(at(&row.q, row.scales[0] * share) >= best - 1e-9 * (1.0 + best));
        }
    }
}

/// The loss that the nearest plane reports is the one it has.
#[test]
fn losses_of_planes_add_up() {
    let w: Vec<f64> = (0..7).map(|i| f64::from(i % 4) / 3.0 - 0.4).collect();
    let c = centred(7, 1, 40, &w, 5);
    let (system, g) = regular(&c, &w).unwrap();
    let dense = system.solve(&g);
    let grid = Grid { bits: 3, block: 7 };
    let scales = [0.2, 0.35];
    let planes = system.nearest_planes(grid, &dense, &scales.map(|s| vec![s]));
    for ((q, loss), scale) in planes.into_iter().zip(scales) {
        let q: Vec<f64> = q.iter().map(|q| q * scale).collect();
        let excess = cost(&c, &q, &w) - cost(&c, &dense, &w);
        assert!((excess - loss).abs() < 1e-9, "{excess} {loss}");
    }
}

#[test]
fn dead_inputs_constant_activations_and_few_samples_give_the_rounded_weights_or_better() {
    let w = [0.5, -0.25, 0.75, 0.1];
    let fit = |x: &[f32], t: &[f32]| {
        let mut moments = Moments::new(4, 1);
        moments.add(x, t).unwrap();
        let c = moments.centred().unwrap();
        Search { problem: &posed(vec![c]), w0: &w }.fit(Grid { bits: 8, block: 4 }).unwrap().unwrap()
    };
    // All inputs constant: nothing is known but the weights.
    let found = values(&fit(&[1.0; 12], &[2.0; 3]), 4);
    assert!(found.iter().zip(w).all(|(f, w)| (f - w).abs() < 0.01), "{found:?}");
    // One input dead, and fewer samples than unknowns.
    let found = values(&fit(&[1.0, 0.0, 2.0, -1.0, 0.5, 0.0, 1.0, 3.0], &[1.0, -1.0]), 4);
    assert!(found.iter().all(|v| v.is_finite()) && (found[1] + 0.25).abs() < 0.05, "{found:?}");
}
