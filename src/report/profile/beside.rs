//! Rows of two profiles side by side.

use crate::profile::{Profile, Row};
use crate::stats::Interval;
use std::collections::HashMap;

/// A row of the original, of the variant, or of both.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    /// In the first profile.
    pub original: Option<&'a Row>,
    /// In the second.
    pub variant: Option<&'a Row>,
}

impl Beside<'_> {
    /// The variant's time over the original's.
    pub fn time_ratio(&self) -> Option<Interval> {
        quotient(self.variant?.time?, self.original?.time?)
    }

    /// The variant's energy over the original's.
    pub fn energy_ratio(&self) -> Option<Interval> {
        quotient(self.variant?.energy?, self.original?.energy?)
    }
}

/// Pairs the rows of two profiles: `layers` are pairs of nodes (original, variant) of layers that belong together, as
/// [`crate::model::diff`] finds them; other rows belong together when they have the same name.
pub fn beside<'a>(original: &'a Profile, variant: &'a Profile, layers: &[(usize, usize)]) -> Vec<Beside<'a>> {
    let place = |profile: &Profile, node: usize| profile.rows.iter().position(|r| r.nodes.contains(&node));
    let mut partner: HashMap<usize, usize> = HashMap::new();
    let mut taken = vec![false; variant.rows.len()];
    let by_layer = layers.iter().filter_map(|&(a, b)| Some((place(original, a)?, place(variant, b)?)));
    let by_name = original
        .rows
        .iter()
        .enumerate()
        .filter_map(|(i, row)| Some((i, variant.rows.iter().position(|r| r.name == row.name && r.is_layer == row.is_layer)?)));
    for (i, j) in by_layer.chain(by_name) {
        if !taken[j] && !partner.contains_key(&i) {
            partner.insert(i, j);
            taken[j] = true;
        }
    }
    let mut rows: Vec<Beside<'a>> = original
        .rows
        .iter()
        .enumerate()
        .map(|(i, row)| Beside { original: Some(row), variant: partner.get(&i).map(|&j| &variant.rows[j]) })
        .collect();
    // Before the time between nodes, which stays last.
    let at = rows.len().saturating_sub(1);
    let only = variant.rows.iter().zip(&taken).filter(|(_, taken)| !**taken).map(|(row, _)| Beside { original: None, variant: Some(row) });
    rows.splice(at..at, only.collect::<Vec<_>>());
    rows
}

/// The quotient of two independent figures above zero: relative half-widths add up as squares.
fn quotient(a: Interval, b: Interval) -> Option<Interval> {
    if !(a.lo > 0.0 && b.lo > 0.0) {
        return None;
    }
    let half = (b.hi.ln() - b.lo.ln()) / 2.0;
    let scaled = Interval { value: a.value / b.value, lo: a.lo / b.value, hi: a.hi / b.value };
    Some(scaled.widened_log(half))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::super::samples::{original, variant};
    use super::*;

    #[test]
    fn layers_are_paired_by_their_nodes_and_others_by_name() {
        let (a, b) = (original(), variant());
        // The variant's second convolution has another name.
        let rows = beside(&a, &b, &[(0, 0), (2, 1)]);
        let names: Vec<(Option<&str>, Option<&str>)> =
            rows.iter().map(|r| (r.original.map(|r| r.name.as_str()), r.variant.map(|r| r.name.as_str()))).collect();
        let expect = [
            (Some("/s1/c1/Conv"), Some("/s1/c1/Conv")),
            (Some("/s1/c2/Conv"), Some("/s1/c2/Conv_int8")),
            (Some("/pool"), None),
            (Some("Reorder; a b"), Some("Reorder; a b")),
            (None, Some("QuantizeInput")),
            (Some("between nodes"), Some("between nodes")),
        ];
        assert_eq!(names, expect);
        let ratio = rows[1].time_ratio().unwrap();
        assert!((ratio.value - 0.5).abs() < 1e-12 && ratio.lo < 0.5 && ratio.hi > 0.5, "{ratio:?}");
        assert!(rows[2].time_ratio().is_none());
        assert!(quotient(Interval { value: 1.0, lo: -1.0, hi: 3.0 }, ratio).is_none());
    }
}
