//! The plot's left part: axes, staircase, crosses, points, labels, notes.

use super::super::words::{fixed, scope};
use super::axis::Scale;
use super::labels::{Placer, Rect};
use super::scene::{Anchor, Colour, Shape, fit, width};
use super::{Engines, FAINT, GREY, GRID, INK, PALE, Standing, text};
use crate::report::table::plain;
use crate::report::{Front, Point, Report};

const LEFT: f64 = 96.0;
const RIGHT: f64 = 812.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = 676.0;

/// Trials worse than the best by more than this many points are marked at the lower edge: one ruined variant would
/// otherwise press all that matter into one line.
const DEPTH_POINTS: f64 = 15.0;

/// Energies that differ by more than this factor get a logarithmic axis.
const LINEAR_UP_TO: f64 = 12.0;

const LABEL: f64 = 15.0;

struct Axes {
    energy: Scale,
    /// Percent.
    accuracy: Scale,
}

impl Standing {
    pub(super) fn of(p: &Point) -> Self {
        match (p.on_staircase, p.on_front) {
            (true, _) => Standing::Staircase,
            (false, true) => Standing::ForItsSize,
            (false, false) => Standing::Dominated,
        }
    }
}

impl Axes {
    fn of(front: &Front) -> Self {
        let best = front.points.iter().map(|p| p.accuracy.value).fold(f64::NEG_INFINITY, f64::max) * 100.0;
        let shown: Vec<&Point> = front.points.iter().filter(|p| p.accuracy.value * 100.0 >= best - DEPTH_POINTS).collect();
        let finite = |values: Vec<f64>| values.into_iter().filter(|v| v.is_finite()).collect::<Vec<_>>();
        let percent = finite(shown.iter().flat_map(|p| [p.accuracy.lo, p.accuracy.value, p.accuracy.hi]).map(|v| v * 100.0).collect());
        let joules = finite(front.points.iter().flat_map(|p| [p.energy.lo, p.energy.value, p.energy.hi]).filter(|v| *v > 0.0).collect());
        let (low, high) = ends(&percent);
        let room = 0.06 * (high - low).max(0.1);
        let (least, most) = ends(&joules);
        let log = most > LINEAR_UP_TO * least;
        let energy =
            if log { Scale::new(least / 1.15, most * 1.15, LEFT, RIGHT, true) } else { Scale::new(0.0, most * 1.05, LEFT, RIGHT, false) };
        Axes { energy, accuracy: Scale::new((low - room).max(0.0), (high + room).min(100.0), BOTTOM, TOP, false) }
    }

    fn place(&self, p: &Point) -> (f64, f64) {
        (self.energy.pixel(p.energy.value), self.accuracy.pixel(p.accuracy.value * 100.0))
    }

    /// Where the mark stands: at the point, or at the lower edge for those far below.
    fn mark(&self, p: &Point) -> (f64, f64) {
        let (x, y) = self.place(p);
        (x, if self.below(p) { BOTTOM - 7.0 } else { y })
    }

    fn below(&self, p: &Point) -> bool {
        !self.accuracy.contains(p.accuracy.value * 100.0)
    }
}

fn ends(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), &v| (lo.min(v), hi.max(v)))
}

/// Where each trial's mark is.
pub(super) fn places(front: &Front) -> impl Iterator<Item = (u64, (f64, f64))> {
    let axes = Axes::of(front);
    front.points.iter().map(move |p| (p.id, axes.mark(p)))
}

pub(super) fn draw(report: &Report, front: &Front, engines: &Engines, named: &[&Point], shapes: &mut Vec<Shape>) {
    let axes = Axes::of(front);
    shapes.push(kind(front));
    grid(&axes, shapes);
    shapes.push(Shape::Line { points: staircase(front, &axes), colour: FAINT, width: 2 });
    let engine = |p: &Point| report.trial(p).configuration.engine.as_str();
    // Dominated trials first: the front lies over them.
    let mut order: Vec<&Point> = front.points.iter().collect();
    order.sort_by_key(|p| p.on_front);
    for p in &order {
        let colour = if p.on_front { engines.colour(engine(p)) } else { PALE };
        cross(p, &axes, colour, shapes);
    }
    for p in &order {
        shapes.push(if axes.below(p) { below(&axes, p) } else { engines.mark(engine(p), Standing::of(p), axes.place(p)) });
    }
    let reference = front.point(0);
    shapes.extend(reference.map(|p| Shape::Ring { centre: axes.place(p), radius: 11.0, colour: INK, width: 2 }));
    labels(front, &axes, named, shapes);
    notes(front, &axes, shapes);
}

fn kind(front: &Front) -> Shape {
    let b = &front.basis;
    let line = format!("Energy {}; meter {} ({}). Crosses: 95 % intervals.", b.kind.sentence(), plain(&b.meter), scope(b.scope));
    text((24.0, 60.0), fit(&line, 17.0, false, 1150.0), 17.0, Anchor::Left)
}

fn grid(axes: &Axes, shapes: &mut Vec<Shape>) {
    let line = |points, colour, width| Shape::Line { points, colour, width };
    for t in axes.accuracy.percent_ticks() {
        let y = axes.accuracy.pixel(t.value);
        shapes.push(line(vec![(LEFT, y), (RIGHT, y)], GRID, 1));
        shapes.push(text((LEFT - 9.0, y), t.label, 15.0, Anchor::Right));
    }
    let (unit, ticks) = axes.energy.si_ticks("J");
    for t in ticks {
        let x = axes.energy.pixel(t.value);
        shapes.push(line(vec![(x, TOP), (x, BOTTOM)], GRID, 1));
        shapes.push(text((x, BOTTOM + 17.0), t.label, 15.0, Anchor::Centre));
    }
    shapes.push(line(vec![(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)], FAINT, 1));
    let unit = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
    shapes.push(text(((LEFT + RIGHT) / 2.0, BOTTOM + 42.0), format!("energy per inference{unit}"), 17.0, Anchor::Centre));
    shapes.push(Shape::Text {
        at: (26.0, (TOP + BOTTOM) / 2.0),
        text: "accuracy on validation".to_owned(),
        size: 17.0,
        bold: false,
        anchor: Anchor::Centre,
        colour: INK,
        upward: true,
    });
}

/// For each energy the best accuracy that was reached with no more: nothing lies above the line.
fn staircase(front: &Front, axes: &Axes) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for p in front.staircase() {
        let (x, y) = axes.place(p);
        points.push((x, points.last().map_or(BOTTOM, |l| l.1)));
        points.push((x, y));
    }
    points.extend(points.last().map(|l| (RIGHT, l.1)));
    points
}

fn cross(p: &Point, axes: &Axes, colour: Colour, shapes: &mut Vec<Shape>) {
    if axes.below(p) {
        return;
    }
    let (x, y) = axes.place(p);
    let (left, right) = (axes.energy.pixel(p.energy.lo), axes.energy.pixel(p.energy.hi));
    let (low, high) = (axes.accuracy.pixel(p.accuracy.lo * 100.0), axes.accuracy.pixel(p.accuracy.hi * 100.0));
    shapes.push(Shape::Line { points: vec![(left, y), (right, y)], colour, width: 1 });
    shapes.push(Shape::Line { points: vec![(x, low), (x, high)], colour, width: 1 });
}

/// A triangle that points down at the lower edge.
fn below(axes: &Axes, p: &Point) -> Shape {
    let (x, y) = axes.mark(p);
    Shape::Polygon { points: vec![(x - 5.0, y - 4.0), (x + 5.0, y - 4.0), (x, y + 5.0)], fill: GREY, outline: GREY }
}

/// The numbers of the `named` trials and the reference's name, each with a line to its point where it stands off.
fn labels(front: &Front, axes: &Axes, named: &[&Point], shapes: &mut Vec<Shape>) {
    let mut boxes: Vec<Rect> = front.points.iter().map(|p| Rect::around(axes.mark(p), 15.0, 15.0)).collect();
    // The staircase, the crosses of the front, and the reference's ring.
    boxes.extend(staircase(front, axes).windows(2).map(|s| Rect::between(s[0], s[1])));
    for p in front.points.iter().filter(|p| (p.on_front || p.id == 0) && !axes.below(p)) {
        let (x, y) = axes.place(p);
        let (left, right) = (axes.energy.pixel(p.energy.lo), axes.energy.pixel(p.energy.hi));
        boxes.push(Rect::between((left, y), (right, y)));
        let (top, bottom) = (axes.accuracy.pixel(p.accuracy.hi * 100.0), axes.accuracy.pixel(p.accuracy.lo * 100.0));
        boxes.push(Rect::between((x, top), (x, bottom)));
    }
    boxes.extend(front.point(0).map(|p| Rect::around(axes.place(p), 24.0, 24.0)));
    let points = front.points.iter().map(|p| axes.mark(p)).collect();
    let mut placer = Placer::new(Rect { left: LEFT + 2.0, top: TOP, right: RIGHT, bottom: BOTTOM - 2.0 }, points, boxes);
    // The reference's label is the longest, so it has the fewest places to go.
    let others = named.iter().copied().filter(|p| p.id != 0);
    let named: Vec<&Point> = front.point(0).into_iter().chain(others).filter(|p| !axes.below(p)).collect();
    for p in named {
        let label = if p.id == 0 { "reference".to_owned() } else { p.id.to_string() };
        let at = axes.place(p);
        let (w, h) = (width(&label, LABEL, true), LABEL);
        let centre = placer.place(at, w, h);
        let near = (at.0.clamp(centre.0 - w / 2.0, centre.0 + w / 2.0), at.1.clamp(centre.1 - h / 2.0, centre.1 + h / 2.0));
        if (near.0 - at.0).hypot(near.1 - at.1) > 22.0 {
            shapes.push(Shape::Line { points: vec![at, near], colour: FAINT, width: 1 });
        }
        shapes.push(Shape::Text { at: centre, text: label, size: LABEL, bold: true, anchor: Anchor::Centre, colour: INK, upward: false });
    }
}

fn notes(front: &Front, axes: &Axes, shapes: &mut Vec<Shape>) {
    let s = &front.systematic;
    let mut lines = vec![format!(
        "Systematic, not in the crosses: the true energy is {} to {} times the value ({}).",
        fixed(s.low, 2),
        fixed(s.high, 2),
        plain(&s.source)
    )];
    if let Some(reference) = front.reference {
        lines.push(format!("Energies are ratios to the reference in the same blocks, times the reference’s {reference}."));
    }
    let hidden: Vec<f64> = front.points.iter().filter(|p| axes.below(p)).map(|p| p.accuracy.value * 100.0).collect();
    if !hidden.is_empty() {
        let (low, high) = ends(&hidden);
        let which = if hidden.len() == 1 { "1 trial".to_owned() } else { format!("{} trials", hidden.len()) };
        lines.push(format!("Marked at the lower edge: {which} of {} to {} % accuracy.", fixed(low, 1), fixed(high, 1)));
    }
    for (i, line) in lines.iter().enumerate() {
        let at = (24.0, BOTTOM + 72.0 + 20.0 * i as f64);
        let line = fit(line, 14.0, false, 1150.0);
        shapes.push(Shape::Text { at, text: line, size: 14.0, bold: false, anchor: Anchor::Left, colour: FAINT, upward: false });
    }
}
