//! The plot's right part: what the numbers, shapes and fillings mean.

use super::super::words::{accuracy_change, energy_change, how, name};
use super::scene::{Anchor, Shape, fit};
use super::{Engines, FAINT, INK, PALETTE, Standing, text};
use crate::report::table::plain;
use crate::report::{DEFAULT_TOLERANCE_POINTS, Front, Point, Report, shipped};

const LEFT: f64 = 846.0;
const ROOM: f64 = 346.0;
const TOP: f64 = 104.0;
/// Rows of the key end here, above the notes.
const BOTTOM: f64 = 720.0;
const ROW: f64 = 40.0;
const LEGEND_ROW: f64 = 22.0;

/// The members of the front that the key has room for and the chart numbers. Of a large front: the ends of the staircase,
/// the recommended one, and others evenly between them.
pub(super) fn named<'a>(report: &'a Report, front: &'a Front, engines: &Engines) -> Vec<&'a Point> {
    let room = BOTTOM - TOP - 26.0 - legend_height(engines);
    let rows = (room / ROW) as usize;
    // First the staircase, from the top of the picture downwards; then who is on the front for its size.
    let mut members: Vec<&Point> = front.members().collect();
    members.sort_by(|a, b| b.on_staircase.cmp(&a.on_staircase).then(b.accuracy.value.total_cmp(&a.accuracy.value)));
    if members.len() <= rows {
        return members;
    }
    members.retain(|p| p.on_staircase);
    let (last, steps) = (members.len().saturating_sub(1), rows.saturating_sub(2).max(1));
    let best = shipped(report, DEFAULT_TOLERANCE_POINTS).map(|p| p.id);
    let mut chosen: Vec<usize> = (0..=steps).map(|k| (k * last + steps / 2) / steps).collect();
    chosen.extend(members.iter().position(|p| Some(p.id) == best));
    chosen.sort_unstable();
    chosen.dedup();
    chosen.into_iter().filter_map(|i| members.get(i).copied()).collect()
}

pub(super) fn draw(report: &Report, front: &Front, engines: &Engines, named: &[&Point], shapes: &mut Vec<Shape>) {
    let all = front.members().count();
    let heading =
        if named.len() == all { "The front".to_owned() } else { format!("The front ({} of {all}; all in front.csv)", named.len()) };
    shapes.push(Shape::Text { at: (LEFT, TOP), text: heading, size: 16.0, bold: true, anchor: Anchor::Left, colour: INK, upward: false });
    let mut y = TOP + 26.0;
    for p in named {
        row(report, p, engines, y, shapes);
        y += ROW;
    }
    legend(engines, front, y + 14.0, shapes);
}

fn legend_height(engines: &Engines) -> f64 {
    LEGEND_ROW * (engines.0.len().min(PALETTE.len()) + 3) as f64 + 14.0
}

/// `13: prune 50 % …` and below it what it saves and costs.
fn row(report: &Report, p: &Point, engines: &Engines, y: f64, shapes: &mut Vec<Shape>) {
    let c = &report.trial(p).configuration;
    shapes.push(engines.mark(&c.engine, Standing::of(p), (LEFT + 8.0, y)));
    let first = format!("{}: {}", p.id, plain(name(c)));
    shapes.push(Shape::Text {
        at: (LEFT + 24.0, y),
        text: fit(&first, 15.0, false, ROOM - 24.0),
        size: 15.0,
        bold: false,
        anchor: Anchor::Left,
        colour: INK,
        upward: false,
    });
    let figures = match p.id {
        0 => vec!["the reference".to_owned()],
        _ => [p.ratio.map(energy_change), p.drop_points.map(accuracy_change)].into_iter().flatten().collect(),
    };
    let second = std::iter::once(plain(&how(c))).chain(figures).collect::<Vec<_>>().join(" · ");
    shapes.push(faint((LEFT + 24.0, y + 17.0), second));
}

fn legend(engines: &Engines, front: &Front, top: f64, shapes: &mut Vec<Shape>) {
    let mut y = top;
    let mut line = |mark: Shape, words: String| {
        shapes.push(mark);
        shapes.push(text((LEFT + 24.0, y), fit(&words, 14.0, false, ROOM - 24.0), 14.0, Anchor::Left));
        y += LEGEND_ROW;
    };
    let at = |i: usize| (LEFT + 8.0, top + LEGEND_ROW * i as f64);
    let engine_count = engines.0.len().min(PALETTE.len());
    for (i, engine) in engines.0.iter().take(PALETTE.len()).enumerate() {
        line(engines.mark(engine, Standing::Staircase, at(i)), plain(engine));
    }
    let first = engines.0.first().map_or("", String::as_str);
    line(engines.mark(first, Standing::ForItsSize, at(engine_count)), "hollow: on the front for its smaller file only".to_owned());
    line(engines.mark(first, Standing::Dominated, at(engine_count + 1)), "grey: another trial is better (dominated)".to_owned());
    if front.point(0).is_some() {
        line(Shape::Ring { centre: at(engine_count + 2), radius: 8.0, colour: INK, width: 2 }, "ring: the reference".to_owned());
    }
}

fn faint(at: (f64, f64), text: String) -> Shape {
    let text = fit(&text, 13.0, false, ROOM - 24.0);
    Shape::Text { at, text, size: 13.0, bold: false, anchor: Anchor::Left, colour: FAINT, upward: false }
}
