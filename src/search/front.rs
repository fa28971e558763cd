//! The Pareto front of a study's trials: accuracy up, energy per inference down, size of the file down.
//!
//! **What is compared.** The trials of a sweep are measured over hours on a machine that warms up and drifts, but each in
//! blocks interleaved with the reference. The comparable energy of a trial is therefore its *ratio* to the reference of
//! its own blocks, times one energy of the reference for the whole study: the median of all the readings of the reference
//! (gross ÷ ratio). The factor is common to all points, so it cannot change their order; the median, so that one disturbed
//! trial does not shift the scale. A trial without a ratio stands with its gross energy.
//!
//! **What is not compared.** Kinds, scopes and meters never mix: each [`Basis`] has a front of its own.
//!
//! **Two fronts.** `on_front` is the front of the three objectives accuracy, energy and size; it is the column of
//! `trials.csv`. `on_staircase` is its part that is also on the front of accuracy and energy alone: what the plot draws as
//! a staircase. A point that is only on the first is there because it is a smaller file.

use super::sure::{Bounds, probabilities};
use crate::energy::{Kind, Scope, Systematic};
use crate::lower::Form;
use crate::stats::{Interval, Verdict};
use crate::study::{Results, Trial};
use crate::units::Joules;

/// What figures of energy must share to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    /// Measured, estimated, simulated, apportioned.
    pub kind: Kind,
    /// The meter's name.
    pub meter: String,
    /// How much of the machine the meter sees.
    pub scope: Scope,
}

/// A trial as the front sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Index into the slice of trials that the front was made from.
    pub index: usize,
    /// The trial's number.
    pub id: u64,
    /// Accuracy on `validation`, share in 0..=1.
    pub accuracy: Interval,
    /// Original minus this, percentage points.
    pub drop_points: Option<Interval>,
    /// Comparable energy per inference, joules.
    pub energy: Interval,
    /// Ratio to the reference of the same blocks.
    pub ratio: Option<Interval>,
    /// Size of the file.
    pub model_bytes: u64,
    /// False for a form that was shown to take more energy or time than the original's float form on the same engine: it is never on a
    /// front, however small its file is.
    pub offered: bool,
    /// No trial that is offered is at least as good in accuracy, energy and size and better in one.
    pub on_front: bool,
    /// `on_front`, and no trial is at least as good in accuracy and energy and better in one.
    pub on_staircase: bool,
    /// Bounds that hold for all trials of the front at once: what a choice rests on.
    pub bounds: Bounds,
    /// How often it would be on the front, were everything measured again: a share, as far as the intervals are right.
    pub probability: f64,
}

/// All trials of one basis with accuracy and energy, by rising energy.
#[derive(Debug, Clone, PartialEq)]
pub struct Front {
    /// What the figures share.
    pub basis: Basis,
    /// The meter's own uncertainty, the widest that any of the trials states.
    pub systematic: Systematic,
    /// Energy per inference of the reference over the whole study; `None` when no trial has a ratio.
    pub reference: Option<Joules>,
    /// The trials.
    pub points: Vec<Point>,
}

/// One front for each basis, in the order of the first trial of each; so the first is the reference's.
pub fn fronts(trials: &[Trial]) -> Vec<Front> {
    let mut bases: Vec<(Basis, Vec<usize>)> = Vec::new();
    for (i, trial) in trials.iter().enumerate() {
        let Some(e) = trial.results().and_then(|r| r.measurement.energy.as_ref()) else { continue };
        let basis = Basis { kind: e.kind, meter: e.meter.clone(), scope: e.scope };
        match bases.iter_mut().find(|(b, _)| *b == basis) {
            Some((_, members)) => members.push(i),
            None => bases.push((basis, vec![i])),
        }
    }
    bases.into_iter().map(|(basis, members)| front(basis, trials, &members)).collect()
}

impl Front {
    /// The members of the front of accuracy, energy and size, by rising energy.
    pub fn members(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|p| p.on_front)
    }

    /// The members of the front of accuracy and energy alone, by rising energy (and so by rising accuracy).
    pub fn staircase(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|p| p.on_staircase)
    }

    /// The point of a trial.
    pub fn point(&self, id: u64) -> Option<&Point> {
        self.points.iter().find(|p| p.id == id)
    }

    /// The other members that the data cannot tell from `point`: the intervals of both the accuracy drop and the energy
    /// ratio overlap. Conservative: intervals that overlap a little can still differ in a paired test.
    pub fn not_distinguishable_from<'a>(&'a self, point: &'a Point) -> impl Iterator<Item = &'a Point> {
        self.members().filter(move |p| p.id != point.id && overlap(p.drop_points, point.drop_points) && overlap(p.ratio, point.ratio))
    }
}

fn overlap(a: Option<Interval>, b: Option<Interval>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a.lo <= b.hi && b.lo <= a.hi)
}

fn front(basis: Basis, trials: &[Trial], members: &[usize]) -> Front {
    let measured = |i: &usize| trials[*i].results().and_then(|r| Some((*i, r, r.measurement.energy.as_ref()?)));
    let positive = |r: &Interval| r.value.is_finite() && r.value > 0.0;

    let mut readings: Vec<f64> = members
        .iter()
        .filter_map(measured)
        .filter_map(|(_, _, e)| {
            let ratio = e.ratio.filter(positive)?;
            Some(e.gross.value / ratio.value).filter(|v| v.is_finite())
        })
        .collect();
    let reference = median(&mut readings);

    let comparisons = members.len().saturating_sub(1);
    let mut points: Vec<Point> = members
        .iter()
        .filter_map(measured)
        .filter_map(|(index, r, e)| {
            let ratio = e.ratio.filter(positive);
            let energy = match (ratio, reference) {
                // The reference's ratio to itself is exact; what is uncertain is its own energy.
                (Some(q), Some(j)) if q.lo == q.hi => {
                    let scale = q.value * j / e.gross.value;
                    Interval { value: q.value * j, lo: e.gross.lo * scale, hi: e.gross.hi * scale }
                }
                (Some(q), Some(j)) => Interval { value: q.value * j, lo: q.lo * j, hi: q.hi * j },
                _ => e.gross,
            };
            let accuracy = r.accuracy?;
            (accuracy.value.is_finite() && energy.value.is_finite()).then(|| Point {
                index,
                id: trials[index].id,
                accuracy,
                drop_points: r.accuracy_drop_points,
                energy,
                ratio,
                model_bytes: r.variant.model_bytes.0,
                offered: trials[index].configuration.lowering == Form::Float.name() || !is_slower(r),
                on_front: false,
                on_staircase: false,
                bounds: Bounds::new(r.accuracy_drop_points, ratio, r.measurement.processes, comparisons),
                probability: 0.0,
            })
        })
        .collect();
    points.sort_by(|a, b| a.energy.value.total_cmp(&b.energy.value).then(b.accuracy.value.total_cmp(&a.accuracy.value)));

    // What is not offered neither is on the front nor keeps others from it.
    let energy = |p: &Point| if p.offered { p.energy.value } else { f64::NAN };
    let costs: Vec<[f64; 3]> = points.iter().map(|p| [-p.accuracy.value, energy(p), p.model_bytes as f64]).collect();
    let plane: Vec<[f64; 2]> = costs.iter().map(|c| [c[0], c[1]]).collect();
    for (p, (three, two)) in points.iter_mut().zip(non_dominated(&costs).into_iter().zip(non_dominated(&plane))) {
        p.on_front = three;
        p.on_staircase = three && two;
    }
    let shares = probabilities(&points);
    points.iter_mut().zip(shares).for_each(|(p, share)| p.probability = share);
    Front { basis, systematic: widest(trials, members), reference: reference.map(Joules), points }
}

/// True when a variant was shown to be slower or dearer than the original on its engine.
fn is_slower(r: &Results) -> bool {
    let dearer = r.energy_ratio_engine.is_some_and(|ratio| ratio.lo > 1.0);
    // Where the original on this engine is the reference, the comparison with the reference is the one.
    let time = r.measurement.beside.and_then(|b| b.latency).map(|c| c.verdict);
    dearer || time == Some(Verdict::Worse)
}

/// Which of the points, each a list of costs to minimise, no other point dominates (is at least as good everywhere and
/// better somewhere). Equal points do not dominate each other; a point with a cost that is not finite neither stays nor
/// dominates. Quadratic: a study has thousands of trials at most.
///
/// ```
/// use joulefront::report::non_dominated;
/// assert_eq!(non_dominated(&[[1.0, 5.0], [2.0, 3.0], [2.0, 4.0], [f64::NAN, 0.0]]), [true, true, false, false]);
/// ```
pub fn non_dominated<const N: usize>(costs: &[[f64; N]]) -> Vec<bool> {
    let finite = |c: &[f64; N]| c.iter().all(|v| v.is_finite());
    let dominates = |a: &[f64; N], b: &[f64; N]| a != b && a.iter().zip(b).all(|(x, y)| x <= y);
    costs.iter().map(|c| finite(c) && !costs.iter().any(|o| finite(o) && dominates(o, c))).collect()
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (n, last) = (values.len(), values.len().checked_sub(1)?);
    Some((values[last / 2] + values[n / 2]) / 2.0)
}

fn widest(trials: &[Trial], members: &[usize]) -> Systematic {
    let all = members.iter().filter_map(|&i| Some(&trials[i].results()?.measurement.energy.as_ref()?.systematic));
    let mut widest: Option<Systematic> = None;
    for s in all {
        match &mut widest {
            None => widest = Some(s.clone()),
            Some(w) => {
                w.low = w.low.min(s.low);
                w.high = w.high.max(s.high);
                if !w.source.contains(&s.source) {
                    w.source = format!("{}; {}", w.source, s.source);
                }
            }
        }
    }
    // A front has at least one trial with energy; without one there is nothing to be uncertain about.
    widest.unwrap_or(Systematic { low: 1.0, high: 1.0, source: String::new() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::study::Outcome;
    use crate::study::samples::{configuration, done, trials};
    use proptest::prelude::*;

    fn energy(t: &mut Trial) -> &mut crate::measure::Energy {
        let Outcome::Done(r) = &mut t.outcome else { panic!("it is done") };
        r.measurement.energy.as_mut().unwrap()
    }

    #[test]
    fn drift_does_not_change_the_order() {
        let c = |e| configuration("original", "", e);
        // Trial 9 is read 3.6 % high; by ratio it is the cheapest all the same.
        let all = [done(0, c("tract"), 0.9, 1.0, 9), done(1, c("a"), 0.9, 0.5, 9), done(9, c("b"), 0.9, 0.495, 9)];
        let gross = |t: &Trial| t.results().unwrap().measurement.energy.as_ref().unwrap().gross.value;
        assert!(gross(&all[1]) < gross(&all[2]));
        let f = &fronts(&all)[0];
        assert_eq!(f.points.iter().map(|p| p.id).collect::<Vec<_>>(), [9, 1, 0]);
        assert!((f.reference.unwrap().0 - 1.9e-3 * 1.004).abs() < 1e-9, "the median reading");
    }

    #[test]
    fn kinds_scopes_and_meters_do_not_mix() {
        let mut all = trials();
        energy(&mut all[1]).kind = Kind::Measured;
        energy(&mut all[2]).scope = Scope::Package;
        energy(&mut all[5]).meter = "perf".into();
        let f = fronts(&all);
        assert_eq!(f.iter().map(|f| f.points.len()).collect::<Vec<_>>(), [21, 1, 1, 1]);
        assert!(f[1..].iter().all(|f| f.points[0].on_front));
    }

    #[test]
    fn without_a_ratio_gross_stands_and_nan_stays_out() {
        let mut all = trials();
        energy(&mut all[4]).ratio = None;
        energy(&mut all[5]).ratio = None;
        energy(&mut all[5]).gross.value = f64::NAN;
        let f = &fronts(&all)[0];
        assert_eq!(f.point(4).unwrap().energy, energy(&mut all[4]).gross);
        assert_eq!(f.point(5), None);
        assert_eq!(fronts(&[]), []);
    }

    #[test]
    fn the_staircase_is_part_of_the_front_and_rises() {
        let f = &fronts(&trials())[0];
        let stairs: Vec<_> = f.staircase().collect();
        assert_eq!(stairs.iter().map(|p| p.id).collect::<Vec<_>>(), [18, 17, 13, 12, 5, 23, 2]);
        assert!(stairs.is_sorted_by(|a, b| a.energy.value < b.energy.value && a.accuracy.value < b.accuracy.value));
        assert_eq!(f.members().filter(|p| !p.on_staircase).map(|p| p.id).collect::<Vec<_>>(), [14, 20]);
        let twins = |id| f.not_distinguishable_from(f.point(id).unwrap()).map(|p| p.id).collect::<Vec<_>>();
        assert_eq!(twins(5), [12, 23]);
        assert!(twins(18).is_empty());
    }

    #[test]
    fn a_form_that_is_slower_than_float_on_its_engine_is_never_on_the_front() {
        let original = done(0, configuration("original", "", "tract"), 0.92, 1.0, 300_000);
        // A quarter of the file, and dearer than the original on its engine, though cheaper than the reference.
        let mut int8 = done(1, configuration("w8a8", "", "ort"), 0.92, 0.5, 75_000);
        let set = |t: &mut Trial, ratio: f64| {
            let Outcome::Done(r) = &mut t.outcome else { panic!("it is done") };
            r.energy_ratio_engine = Some(Interval { value: ratio, lo: ratio - 0.02, hi: ratio + 0.02 });
        };
        set(&mut int8, 1.3);
        let f = &fronts(&[original.clone(), int8.clone()])[0];
        let point = f.point(1).unwrap();
        assert_eq!((point.offered, point.on_front, point.probability), (false, false, 0.0));
        assert!(f.point(0).unwrap().on_front, "and it keeps nothing from the front");
        set(&mut int8, 1.01);
        assert!(fronts(&[original.clone(), int8.clone()])[0].point(1).unwrap().on_front, "within the noise");
        set(&mut int8, 0.8);
        let worse = crate::measure::Compared { ratio: Interval { value: 1.2, lo: 1.1, hi: 1.3 }, verdict: Verdict::Worse };
        let Outcome::Done(r) = &mut int8.outcome else { panic!("it is done") };
        r.measurement.beside = Some(crate::measure::Beside { energy: None, latency: Some(worse) });
        assert!(!fronts(&[original, int8])[0].point(1).unwrap().offered);
    }

    fn cost() -> impl Strategy<Value = f64> {
        prop_oneof![8 => (0..6u8).prop_map(f64::from), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)]
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(costs in prop::collection::vec([cost(), cost(), cost()], 0..40)) {
            let kept = non_dominated(&costs);
            for (i, c) in costs.iter().enumerate() {
                let mut beaten = c.iter().any(|v| !v.is_finite());
                for o in &costs {
                    let better = (0..3).filter(|&k| o[k] < c[k]).count();
                    let worse = (0..3).filter(|&k| o[k] > c[k] || !o[k].is_finite()).count();
                    beaten |= better > 0 && worse == 0;
                }
                prop_assert_eq!(kept[i], !beaten);
            }
            // The order of the points does not matter.
            let mut turned = costs.clone();
            turned.reverse();
            let mut again = non_dominated(&turned);
            again.reverse();
            prop_assert_eq!(kept, again);
        }
    }
}
