//! Which single weights stay, from a score of each.

use crate::recipe::{Distribution, Pattern};

/// Which weights stay when the share `ratio` goes, from how much each matters (`importance`, not negative), layer by layer.
pub(super) fn by_share(importance: &[Vec<f64>], ratio: f64, how: Distribution) -> Vec<Vec<bool>> {
    let scores: Vec<Vec<f64>> = importance.iter().map(|w| lamp(w)).collect();
    // Both scores grow with it within a layer, so one ranking serves both distributions. Ties go by position.
    // The largest weight of a layer has the largest score there is, so it stays as long as one per layer may stay.
    let cut = |mut all: Vec<(f64, usize, usize)>, layers: usize, masks: &mut Vec<Vec<bool>>| {
        let gone = ((all.len() as f64 * ratio).round() as usize).min(all.len().saturating_sub(layers));
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        all[..gone].iter().for_each(|&(_, layer, i)| masks[layer][i] = false);
    };
    let mut masks: Vec<Vec<bool>> = scores.iter().map(|s| vec![true; s.len()]).collect();
    let tagged = |layer: usize| scores[layer].iter().enumerate().map(move |(i, &s)| (s, layer, i));
    match how {
        Distribution::Global => cut((0..scores.len()).flat_map(tagged).collect(), scores.len(), &mut masks),
        Distribution::PerLayer => (0..scores.len()).for_each(|l| cut(tagged(l).collect(), 1, &mut masks)),
    }
    masks
}

/// Which weights of a layer stay when `pattern` holds in every group: the most important, the first among equals. `groups` are
/// those of the columns.
pub(super) fn by_pattern(importance: &[f64], groups: &[usize], pattern: Pattern) -> Vec<bool> {
    let mut keep = vec![false; importance.len()];
    let d = groups.len().max(1);
    for (row, keep) in importance.chunks(d).zip(keep.chunks_mut(d)) {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
        let mut kept = vec![0; groups.iter().max().map_or(0, |g| g + 1)];
        for i in order {
            if kept[groups[i]] < pattern.keep {
                kept[groups[i]] += 1;
                keep[i] = true;
            }
        }
    }
    keep
}

/// LAMP scores of one layer's weights.
fn lamp(w: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..w.len()).collect();
    order.sort_by(|&a, &b| w[b].abs().total_cmp(&w[a].abs()).then(b.cmp(&a)));
    let mut score = vec![0.0; w.len()];
    let mut sum = 0.0;
    for i in order {
        let square = w[i] * w[i];
        sum += square;
        score[i] = if sum > 0.0 { square / sum } else { 0.0 };
    }
    score
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    /// The definition, one weight at a time: w² over the sum of the squares that are not smaller.
    fn naive(w: &[f64], i: usize) -> f64 {
        let square = |v: f64| v * v;
        let larger: f64 = w
            .iter()
            .enumerate()
            .filter(|&(j, v): &(usize, &f64)| v.abs() > w[i].abs() || (v.abs() == w[i].abs() && j >= i))
            .map(|(_, &v)| square(v))
            .sum();
        if larger > 0.0 { square(w[i]) / larger } else { 0.0 }
    }

    proptest! {
        #[test]
        fn scores_are_those_of_the_paper(w in prop::collection::vec(prop_oneof![Just(0.0f64), -3.0f64..3.0, Just(1.0)], 1..40)) {
            for (i, score) in lamp(&w).into_iter().enumerate() {
                prop_assert!((score - naive(&w, i)).abs() < 1e-12);
            }
        }

        #[test]
        fn as_many_go_as_asked_and_the_smallest_first(rows in prop::collection::vec(prop::collection::vec(-3.0f64..3.0, 1..30), 1..6), ratio in 0.0f64..0.999) {
            let count: usize = rows.iter().map(Vec::len).sum();
            let gone = ((count as f64 * ratio).round() as usize).min(count - rows.len());
            let masks = by_share(&rows, ratio, Distribution::Global);
            prop_assert_eq!(masks.iter().flatten().filter(|k| !**k).count(), gone);
            for how in [Distribution::Global, Distribution::PerLayer] {
                for (row, mask) in rows.iter().zip(by_share(&rows, ratio, how)) {
                    let kept = row.iter().zip(&mask).filter(|(_, k)| **k).map(|(v, _)| v.abs()).fold(f64::INFINITY, f64::min);
                    prop_assert!(row.iter().zip(&mask).all(|(v, &k)| k || v.abs() <= kept));
                    prop_assert!(mask.contains(&true), "a layer is empty");
                }
            }
        }

        #[test]
        fn every_group_keeps_its_number(rows in 1usize..4, groups in 1usize..5, values in prop::collection::vec(0.0f64..1.0, 4 * 16)) {
            let pattern = Pattern { keep: 2, of: 4 };
            let d = groups * 4;
            // Groups need not lie together.
            let of: Vec<usize> = (0..d).map(|j| j % groups).collect();
            let importance = &values[..rows * d];
            let keep = by_pattern(importance, &of, pattern);
            for (row, keep) in importance.chunks(d).zip(keep.chunks(d)) {
                for g in 0..groups {
                    let inside = |j: &usize| of[*j] == g;
                    prop_assert_eq!((0..d).filter(inside).filter(|&j| keep[j]).count(), 2);
                    let least = (0..d).filter(inside).filter(|&j| keep[j]).map(|j| row[j]).fold(f64::INFINITY, f64::min);
                    prop_assert!((0..d).filter(inside).all(|j| keep[j] || row[j] <= least));
                }
            }
        }
    }
}
