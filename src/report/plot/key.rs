//! The plot's right part: what the numbers, shapes and fillings mean.

use super::super::words::{accuracy_change, energy_change, how, name};
use super::scene::{Anchor, Shape, fit};
use super::{Engines, FAINT, INK, Standing, text};
use crate::report::table::plain;
use crate::report::{Front, Point, Report};

const LEFT: f64 = 846.0;
const ROOM: f64 = 334.0;
const TOP: f64 = 104.0;
/// Rows of the key end here, above the notes.
const BOTTOM: f64 = 720.0;
const ROW: f64 = 40.0;

pub(super) fn draw(report: &Report, front: &Front, engines: &Engines, shapes: &mut Vec<Shape>) {
    let legend_height = 22.0 * (engines.0.len().min(6) + 3) as f64 + 14.0;
    let rows = ((BOTTOM - TOP - 24.0 - legend_height) / ROW) as usize;
    // First the staircase, from the top of the picture downwards; then who is on the front for its size.
    let mut members: Vec<&Point> = front.members().collect();
    members.sort_by(|a, b| b.on_staircase.cmp(&a.on_staircase).then(b.accuracy.value.total_cmp(&a.accuracy.value)));
    shapes.push(bold((LEFT, TOP), "The front".to_owned()));
    let mut y = TOP + 26.0;
    let shown = if members.len() > rows { rows.saturating_sub(1) } else { members.len() };
    for p in &members[..shown] {
        row(report, p, engines, y, shapes);
        y += ROW;
    }
    if shown < members.len() {
        shapes.push(faint((LEFT, y), format!("and {} more in front.csv", members.len() - shown)));
        y += 26.0;
    }
    legend(engines, front, y + 14.0, shapes);
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
    let figures = [p.ratio.map(energy_change), p.drop_points.map(accuracy_change)].into_iter().flatten();
    let second = std::iter::once(plain(&how(c))).chain(figures).collect::<Vec<_>>().join(" · ");
    shapes.push(faint((LEFT + 24.0, y + 17.0), second));
}

fn legend(engines: &Engines, front: &Front, top: f64, shapes: &mut Vec<Shape>) {
    let mut y = top;
    let mut line = |mark: Shape, words: String| {
        shapes.push(mark);
        shapes.push(text((LEFT + 24.0, y), fit(&words, 14.0, false, ROOM - 24.0), 14.0, Anchor::Left));
        y += 22.0;
    };
    let at = |i: usize| (LEFT + 8.0, top + 22.0 * i as f64);
    let engine_count = engines.0.len().min(6);
    for (i, engine) in engines.0.iter().take(6).enumerate() {
        line(engines.mark(engine, Standing::Staircase, at(i)), plain(engine));
    }
    let first = engines.0.first().map_or("", String::as_str);
    line(engines.mark(first, Standing::ForItsSize, at(engine_count)), "hollow: on the front for its smaller file only".to_owned());
    line(engines.mark(first, Standing::Dominated, at(engine_count + 1)), "grey: another trial is better (dominated)".to_owned());
    if front.point(0).is_some() {
        line(Shape::Ring { centre: at(engine_count + 2), radius: 8.0, colour: INK, width: 2 }, "ring: the reference".to_owned());
    }
}

fn bold(at: (f64, f64), text: String) -> Shape {
    Shape::Text { at, text, size: 16.0, bold: true, anchor: Anchor::Left, colour: INK, upward: false }
}

fn faint(at: (f64, f64), text: String) -> Shape {
    let text = fit(&text, 13.0, false, ROOM - 24.0);
    Shape::Text { at, text, size: 13.0, bold: false, anchor: Anchor::Left, colour: FAINT, upward: false }
}
