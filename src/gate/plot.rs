//! The history of one metric as a picture: every run that may be compared, what was learnt of the noise, and the run that is judged.

use super::conditions::{State, differences};
use super::judge::Finding;
use super::metric::{Better, Metric};
use super::outcome::{basis, change, word};
use super::run::{Case, Run};
use super::store::Saved;
use crate::Result;
use crate::report::plot::axis::{Scale, Tick};
use crate::report::plot::scene::{Anchor, Colour, Shape, fit, paint_svg};
use crate::report::plot::{FAINT, GRID, INK, PALE, PALETTE};
use crate::stats::Verdict;

const LEFT: f64 = 120.0;
const RIGHT: f64 = 1160.0;
const TOP: f64 = 110.0;
const BOTTOM: f64 = 690.0;

/// The colour of runs of the baseline, of the band, of a regression, of an improvement.
const RUNS: Colour = PALETTE[0];
const BAND: Colour = plotters::style::RGBColor(0xE3, 0xEE, 0xF6);
const WORSE: Colour = PALETTE[1];
const BETTER: Colour = PALETTE[2];

/// One run in the picture.
struct Mark {
    number: Option<u64>,
    value: f64,
    /// A state begins here.
    new_state: bool,
}

/// The history of a finding's metric as SVG, 1200 × 800: the runs of `saved` that `now` may be compared with, in their order, a vertical
/// line wherever the model, the engine or the system changed, and `now` at the right in the colour of its verdict. Shaded: within what
/// is not called.
///
/// # Errors
/// Never in practice: it is drawn in memory with an embedded font.
pub fn history_plot(finding: &Finding, saved: &[Saved], now: &Run) -> Result<String> {
    paint_svg(&drawing(finding, saved, now))
}

fn drawing(finding: &Finding, saved: &[Saved], now: &Run) -> Vec<Shape> {
    let marks = now.case(&finding.key).map_or_else(Vec::new, |case| marks(finding, saved, now, case));
    let mut shapes = vec![
        text((24.0, 30.0), &format!("{}: {} from run to run", finding.key.short(), long(finding.metric)), 23.0, true, Anchor::Left, INK),
        text((24.0, 62.0), &subtitle(finding), 17.0, false, Anchor::Left, INK),
    ];
    if marks.is_empty() {
        shapes.push(text((600.0, 400.0), "no run has this figure", 18.0, false, Anchor::Centre, INK));
        return shapes;
    }
    let band = band(finding);
    let values = marks.iter().map(|m| m.value).chain(band.iter().flat_map(|&(lo, hi)| [lo, hi]));
    let (lo, hi) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
    let room = 0.15 * (hi - lo).max(0.01 * hi.abs());
    let y = Scale::new(lo - room, hi + room, BOTTOM, TOP, false);
    let step = (RIGHT - LEFT) / marks.len() as f64;
    let x = |i: usize| LEFT + (i as f64 + 0.5) * step;
    if let Some((lo, hi)) = band {
        let (top, bottom) = (y.pixel(hi), y.pixel(lo));
        let corners = vec![(LEFT, top), (RIGHT, top), (RIGHT, bottom), (LEFT, bottom)];
        shapes.push(Shape::Polygon { points: corners, fill: BAND, outline: BAND });
    }
    axes(finding.metric, &y, &mut shapes);
    if let Some(baseline) = finding.baseline {
        shapes.push(Shape::Line { points: vec![(LEFT, y.pixel(baseline)), (RIGHT, y.pixel(baseline))], colour: RUNS, width: 1 });
    }
    for (i, mark) in marks.iter().enumerate() {
        if mark.new_state && i > 0 {
            let border = LEFT + i as f64 * step;
            shapes.push(Shape::Line { points: vec![(border, TOP), (border, BOTTOM)], colour: PALE, width: 2 });
        }
    }
    shapes.push(Shape::Line { points: marks.iter().enumerate().map(|(i, m)| (x(i), y.pixel(m.value))).collect(), colour: PALE, width: 1 });
    let every = marks.len().div_ceil(20);
    for (i, mark) in marks.iter().enumerate() {
        let centre = (x(i), y.pixel(mark.value));
        let (colour, radius) = if mark.number.is_none() { (colour(finding), 9.0) } else { (RUNS, 5.0) };
        shapes.push(Shape::Disc { centre, radius, fill: colour, outline: colour });
        let label = match mark.number {
            None => "now".to_owned(),
            Some(n) if i % every == 0 && (i + 1 < marks.len() - every.min(marks.len() - 1) / 2 || every == 1) => n.to_string(),
            Some(_) => continue,
        };
        shapes.push(text((centre.0, BOTTOM + 18.0), &label, 15.0, false, Anchor::Centre, INK));
    }
    shapes.push(text(((LEFT + RIGHT) / 2.0, BOTTOM + 44.0), "run, in the order of saving", 17.0, false, Anchor::Centre, INK));
    let legend = "Shaded: not called. Vertical line: the model, the engine or the system changed.";
    shapes.push(text((24.0, BOTTOM + 80.0), legend, 14.0, false, Anchor::Left, FAINT));
    shapes
}

/// The runs that may be compared, then the one that is judged.
fn marks(finding: &Finding, saved: &[Saved], now: &Run, case: &Case) -> Vec<Mark> {
    let mut last: Option<State> = None;
    let mut marks = Vec::new();
    let earlier = saved.iter().filter_map(|s| Some((Some(s.number), &s.run, s.run.case(&finding.key)?)));
    let comparable = earlier.filter(|(_, run, old)| differences((run, old), (now, case)).is_empty());
    for (number, run, case) in comparable.chain([(None, now, case)]) {
        let state = State::of(run, case);
        let new_state = last.as_ref().is_none_or(|l| *l != state);
        last = Some(state);
        // Several sessions are judged by their mean.
        let value = if number.is_none() { finding.now } else { finding.metric.compared(case) };
        marks.extend(value.filter(|v| v.is_finite()).map(|value| Mark { number, value, new_state }));
    }
    marks
}

/// Between which figures nothing is called.
fn band(finding: &Finding) -> Option<(f64, f64)> {
    let (baseline, limit) = (finding.baseline?, finding.limit?);
    Some(match finding.metric.better() {
        Better::Lower => (baseline / (1.0 + limit), baseline * (1.0 + limit)),
        Better::Higher => (baseline - limit, (baseline + limit).min(1.0)),
    })
}

fn axes(metric: Metric, y: &Scale, shapes: &mut Vec<Shape>) {
    let (unit, ticks) = match metric.unit() {
        "" => (String::new(), percent(y)),
        symbol => y.si_ticks(symbol),
    };
    for Tick { value, label } in ticks {
        let at = y.pixel(value);
        shapes.push(Shape::Line { points: vec![(LEFT, at), (RIGHT, at)], colour: GRID, width: 1 });
        shapes.push(text((LEFT - 9.0, at), &label, 15.0, false, Anchor::Right, INK));
    }
    shapes.push(Shape::Line { points: vec![(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)], colour: FAINT, width: 1 });
    let unit = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
    shapes.push(Shape::Text {
        at: (26.0, (TOP + BOTTOM) / 2.0),
        text: long(metric).to_owned() + &unit,
        size: 17.0,
        bold: false,
        anchor: Anchor::Centre,
        colour: INK,
        upward: true,
    });
}

/// Ticks of shares.
fn percent(y: &Scale) -> Vec<Tick> {
    let hundred = y.times(100.0);
    hundred.percent_ticks().into_iter().map(|t| Tick { value: t.value / 100.0, label: t.label }).collect()
}

fn subtitle(finding: &Finding) -> String {
    let how = finding.kind.map_or_else(String::new, |k| format!("Energy {}. ", k.sentence()));
    let change = change(finding);
    let change = if change.is_empty() { String::new() } else { format!(" {change}") };
    format!("{how}Now:{change}, {} ({})", word(finding), basis(finding))
}

fn colour(finding: &Finding) -> Colour {
    match finding.verdict {
        Verdict::Worse => WORSE,
        Verdict::Better => BETTER,
        Verdict::Same | Verdict::Undecided => INK,
    }
}

fn long(metric: Metric) -> &'static str {
    match metric {
        Metric::Energy => "energy per inference",
        Metric::Latency => "mean latency",
        Metric::P50 => "median latency",
        Metric::P90 => "90th percentile of the latency",
        Metric::P99 => "99th percentile of the latency",
        Metric::Memory => "peak memory",
        Metric::Size => "size of the file",
        Metric::Accuracy => "accuracy",
    }
}

fn text(at: (f64, f64), words: &str, size: f64, bold: bool, anchor: Anchor, colour: Colour) -> Shape {
    Shape::Text { at, text: fit(words, size, bold, 1150.0), size, bold, anchor, colour, upward: false }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::judge::{Rules, judge};
    use super::super::samples::run;
    use super::*;

    #[test]
    fn each_metric_has_a_picture_of_all_runs() {
        let mut saved: Vec<Saved> = (0..12).map(|seed| Saved { number: seed + 1, run: run(seed, 1.0) }).collect();
        saved[7].run.environment.cpu.model_name = "another".into();
        for s in &mut saved[9..] {
            s.run.environment.kernel = "6.2".into();
        }
        let now = run(99, 1.1);
        let outcome = judge("main", &saved, std::slice::from_ref(&now), &Rules::default()).unwrap();
        for finding in outcome.findings.iter().filter(|f| f.key.model == "models/a.onnx") {
            let svg = history_plot(finding, &saved, &now).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            assert!(svg.contains("a.onnx") && svg.contains("now"));
            // Eleven comparable runs and this one; a disc without an outline of its own is one circle.
            assert_eq!(svg.matches("<circle").count(), 12, "{}", finding.metric);
        }
        let energy = outcome.findings.iter().find(|f| f.metric == Metric::Energy).unwrap();
        let shapes = drawing(energy, &saved, &now);
        let borders = shapes.iter().filter(|s| matches!(s, Shape::Line { colour, width: 2, .. } if *colour == PALE)).count();
        assert_eq!(borders, 2, "the system changed, and changed back for this run");
        assert!(shapes.iter().any(|s| matches!(s, Shape::Disc { fill, .. } if *fill == WORSE)));
    }
}
