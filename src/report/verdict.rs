//! The one sentence: which configuration to ship, what it saves, what it costs, and how sure that is.

use super::words::{accuracy_change, energy_change, fixed_points, how, name};
use super::{Front, Point, Report};
use crate::stats::Verdict;
use crate::study::{Configuration, Trial};
use crate::units::si;

/// Accuracy a shipped variant may lose, in percentage points, unless the user says otherwise.
pub const DEFAULT_TOLERANCE_POINTS: f64 = 1.0;

/// The member of the front with the lowest energy whose accuracy drop is *shown* to stay within `tolerance_points`: the
/// upper bound of the drop, not its estimate, must not exceed the tolerance, and the bounds of all variants hold together.
/// Otherwise, out of many variants, a lucky one would be picked. `None` when no member's is.
pub fn pick(front: &Front, tolerance_points: f64) -> Option<&Point> {
    front.members().find(|p| p.bounds.drop_points.is_some_and(|d| d.hi <= tolerance_points))
}

/// The member that [`verdict`] says to ship instead of the original: the [`pick`], if its energy is shown to be lower.
pub fn shipped(report: &Report, tolerance_points: f64) -> Option<&Point> {
    let best = pick(report.front()?, tolerance_points)?;
    let original = report.trial(best).configuration == report.header.reference;
    (!original && best.bounds.ratio.is_some_and(|r| r.hi < 1.0)).then_some(best)
}

/// One sentence for people, as in "Ship X: −68 % J (−66…−70), −0.4 pt (−0.9…+0.1), tract, 1 thread, estimated from CPU
/// time; not distinguishable from Y." It says to ship the original when no variant is shown to use less energy within the
/// tolerance, and why.
pub fn verdict(report: &Report, tolerance_points: f64) -> String {
    let Some(front) = report.front() else { return "Ship the original: no energy is known for any trial.".to_owned() };
    let kind = front.basis.kind.sentence();
    let within = fixed_points(tolerance_points);
    let Some(best) = pick(front, tolerance_points) else {
        return format!("Ship the original: no variant on the front is shown to stay within {within} of its accuracy.");
    };
    let configuration = &report.trial(best).configuration;
    if *configuration == report.header.reference {
        return format!("Ship the original: nothing that stays within {within} of its accuracy uses less energy ({kind}).");
    }
    let Some(ratio) = best.ratio else {
        return format!("Ship the original: {} was not measured in the same blocks, so no energy saving is shown.", name(configuration));
    };
    let accuracy = best.drop_points.map_or_else(|| "accuracy not compared".to_owned(), accuracy_change);
    let figures = format!("{}, {accuracy}, {}, {kind}", energy_change(ratio), how(configuration));
    // The comparison is written so that an end that is not a number shows no saving either.
    let bound = best.bounds.ratio.unwrap_or(ratio);
    if bound.hi < 1.0 {
        format!("Ship {}: {figures}{}.", name(configuration), others(report, front, best))
    } else if bound.lo > 1.0 {
        format!("Ship the original: nothing saves energy within {within}; nearest is {}: {figures}.", name(configuration))
    } else {
        format!("Ship the original: no energy saving is shown; nearest is {}: {figures}.", name(configuration))
    }
}

/// The sentence for configurations that were measured side by side without accuracy; the first is the reference. The one
/// with the lowest energy is named, if its energy is shown to be lower.
pub fn side_by_side(trials: &[Trial]) -> String {
    let Some(reference) = trials.first() else { return "Nothing was measured.".to_owned() };
    let energy = |t: &Trial| t.results().and_then(|r| r.measurement.energy.clone());
    let Some(own) = energy(reference) else { return "No energy is known for the reference.".to_owned() };
    let per_inference = format!("{} per inference", si(own.gross.value, "J"));
    if trials.len() == 1 {
        return format!("{}: {per_inference}, {}, {}.", name(&reference.configuration), how(&reference.configuration), own.kind.sentence());
    }
    let ratios = trials.iter().skip(1).filter_map(|t| {
        let e = energy(t)?;
        Some((t, e.ratio?, e.verdict))
    });
    match ratios.min_by(|a, b| a.1.value.total_cmp(&b.1.value)) {
        Some((t, r, Some(Verdict::Better))) => {
            let c = &t.configuration;
            format!("Ship {}: {}, accuracy not compared, {}, {}.", name(c), energy_change(r), how(c), own.kind.sentence())
        }
        Some((t, r, _)) => {
            let nearest = format!("nearest is {}: {}", name(&t.configuration), energy_change(r));
            format!("Ship {}: no energy saving is shown; {nearest}, {}.", name(&reference.configuration), own.kind.sentence())
        }
        None => format!("Ship {}: no other configuration has a ratio to it.", name(&reference.configuration)),
    }
}

/// `; not distinguishable from Y`, with two names at most.
fn others(report: &Report, front: &Front, best: &Point) -> String {
    const NAMED: usize = 2;
    let own = &report.trial(best).configuration;
    let twins: Vec<String> = front.not_distinguishable_from(best).map(|p| told_apart(&report.trial(p).configuration, own)).collect();
    let named = twins[..twins.len().min(NAMED)].join(", ");
    match twins.len() {
        0 => String::new(),
        1..=NAMED => format!("; not distinguishable from {named}"),
        n => format!("; not distinguishable from {named} and {} more", n - NAMED),
    }
}

/// The recipe, and in brackets how it is run where that differs from `own`.
fn told_apart(c: &Configuration, own: &Configuration) -> String {
    if how(c) == how(own) { name(c).to_owned() } else { format!("{} ({})", name(c), how(c)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::Kind;
    use crate::report::samples::with;
    use crate::study::Outcome;
    use crate::study::samples::{around, configuration, done, failed, trials};

    #[track_caller]
    fn check(trials: Vec<Trial>, tolerance: f64, expect: &str) {
        assert_eq!(verdict(&with(trials), tolerance), expect);
    }

    fn set(t: &mut Trial, change: impl FnOnce(&mut crate::study::Results)) {
        if let Outcome::Done(r) = &mut t.outcome {
            change(r);
        }
    }

    /// The reference and one int8 variant.
    fn pair(drop: f64, half: f64, ratio: f64) -> Vec<Trial> {
        let mut v = done(1, configuration("w8a8", "--weight-bits 8", "ort"), 0.9, ratio, 90_000);
        set(&mut v, |r| {
            r.accuracy_drop_points = Some(around(drop, half));
            r.energy_ratio_engine = None;
        });
        vec![done(0, configuration("original", "", "tract"), 0.921, 1.0, 312_000), v]
    }

    #[test]
    fn the_sentence() {
        check(pair(0.4, 0.5, 0.32), 1.0, "Ship w8a8: −68 % J (−66…−70), −0.4 pt (−0.9…+0.1), ort, 1 thread, estimated from CPU time.");
        check(
            trials(),
            1.0,
            "Ship w8a8: −61 % J (−59…−63), −0.1 pt (−0.5…+0.4), ort, 1 thread, estimated from CPU time; \
             not distinguishable from prune 50 % channels + fine-tune 3, w8a8 + distil 2.",
        );
        // Shown among 23 others: its own interval ends at 1.5 points, the bound that holds with all theirs at 1.75.
        check(
            trials(),
            1.8,
            "Ship prune 50 % channels + fine-tune 3 + w8a8: −72 % J (−69…−74), −1.1 pt (−1.5…−0.6), ort, 1 thread, \
             estimated from CPU time.",
        );
    }

    #[test]
    fn the_upper_end_of_the_drop_decides() {
        let none = "Ship the original: nothing that stays within 1 pt of its accuracy uses less energy (estimated from CPU time).";
        check(pair(0.6, 0.5, 0.32), 1.0, none);
        check(pair(0.6, f64::NAN, 0.32), 1.0, none);
        check(pair(0.6, 0.5, 0.32), 1.2, "Ship w8a8: −68 % J (−66…−70), −0.6 pt (−1.1…−0.1), ort, 1 thread, estimated from CPU time.");
    }

    #[test]
    fn no_saving_shown() {
        check(
            pair(0.1, 0.2, 0.98),
            1.0,
            "Ship the original: no energy saving is shown; nearest is w8a8: −2 % J (+1…−5), −0.1 pt (−0.3…+0.1), ort, 1 thread, \
             estimated from CPU time.",
        );
    }

    #[test]
    fn nothing_to_choose_from() {
        let original = || configuration("original", "", "tract");
        check(vec![failed(0, original(), "crashed")], 1.0, "Ship the original: no energy is known for any trial.");
        check(Vec::new(), 1.0, "Ship the original: no energy is known for any trial.");
        let mut all = pair(0.4, 0.5, 0.32);
        all.iter_mut().for_each(|t| set(t, |r| r.accuracy_drop_points = None));
        check(all, 1.0, "Ship the original: no variant on the front is shown to stay within 1 pt of its accuracy.");
    }

    #[test]
    fn says_the_kind_and_counts_what_it_cannot_tell_apart() {
        let mut all = pair(0.4, 0.5, 0.32);
        for id in 2..6 {
            let mut c = configuration("w8a8", "--weight-bits 8", "ort");
            c.threads = id as usize;
            // Each a little dearer and a little better, so that all are on the front.
            let mut t = done(id, c, 0.9 + 0.001 * id as f64, 0.32 + 0.001 * id as f64, 90_000);
            set(&mut t, |r| r.accuracy_drop_points = Some(around(0.3, 0.5)));
            all.push(t);
        }
        for t in &mut all {
            set(t, |r| r.measurement.energy.iter_mut().for_each(|e| e.kind = Kind::Measured));
        }
        // Five comparisons share the confidence.
        check(
            all,
            1.2,
            "Ship w8a8: −68 % J (−66…−70), −0.4 pt (−0.9…+0.1), ort, 1 thread, measured; not distinguishable from \
             w8a8 (ort, 2 threads), w8a8 (ort, 3 threads) and 2 more.",
        );
    }
}
