//! Bars: where the time goes, the largest first to be seen.

use super::super::plot::axis::Scale;
use super::super::plot::scene::{Anchor, Colour, Shape, fit, paint_svg, width};
use super::super::plot::{FAINT, GREY, GRID, INK, PALETTE};
use super::super::table::plain;
use super::super::words::{fixed, threads};
use super::beside::Beside;
use crate::Result;
use crate::profile::{Bound, Profile, Row};
use crate::units::si;

/// Rows that the picture has room for; the least are added up.
const ROWS: usize = 24;
const LEFT: f64 = 330.0;
const RIGHT: f64 = 880.0;
const TOP: f64 = 104.0;
const BOTTOM: f64 = 716.0;

/// A bar with what stands beside it.
struct Bar {
    seconds: (f64, f64, f64),
    colour: Colour,
    words: String,
}

/// A line of the picture: a name and a bar for each profile.
struct Line {
    name: String,
    bars: Vec<Bar>,
}

/// One profile, or with `pairs` two, as bars in the order of the file: time of a run with its 95 % interval, share and apportioned
/// energy. 1200 × 800.
///
/// # Errors
/// Never in practice: it is drawn in memory with an embedded font.
pub fn profile_svg(profiles: &[Profile], pairs: &[Beside<'_>]) -> Result<String> {
    paint_svg(&drawing(profiles, pairs))
}

fn drawing(profiles: &[Profile], pairs: &[Beside<'_>]) -> Vec<Shape> {
    let two = profiles.len() == 2;
    let lines = match two {
        true => kept(pairs.iter().map(|p| vec![p.original, p.variant]).collect()),
        false => kept(profiles.iter().flat_map(|p| p.rows.iter().map(|r| vec![Some(r)])).collect()),
    };
    let longest = lines.iter().flat_map(|l| &l.bars).map(|b| b.seconds.2.max(b.seconds.0)).fold(0.0f64, f64::max);
    let x = Scale::new(0.0, longest.max(1e-12), LEFT, RIGHT, false);
    let mut shapes = titles(profiles);
    let (unit, ticks) = x.si_ticks("s");
    for t in ticks {
        let at = x.pixel(t.value);
        shapes.push(Shape::Line { points: vec![(at, TOP), (at, BOTTOM)], colour: GRID, width: 1 });
        shapes.push(text((at, BOTTOM + 15.0), t.label, 14.0, Anchor::Centre, INK));
    }
    let unit = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
    shapes.push(text(((LEFT + RIGHT) / 2.0, BOTTOM + 38.0), format!("time in a run with clocks{unit}"), 16.0, Anchor::Centre, INK));
    let step = (BOTTOM - TOP) / lines.len().max(1) as f64;
    for (i, line) in lines.iter().enumerate() {
        draw(line, (TOP + i as f64 * step, step.min(46.0).min(step)), &x, &mut shapes);
    }
    shapes.push(Shape::Line { points: vec![(LEFT, TOP), (LEFT, BOTTOM)], colour: FAINT, width: 1 });
    legend(two, &mut shapes);
    shapes
}

/// One line in the strip from `top`, `height` high.
fn draw(line: &Line, (top, height): (f64, f64), x: &Scale, shapes: &mut Vec<Shape>) {
    let size = (height * 0.62).clamp(9.0, 15.0);
    let each = height * 0.78 / line.bars.len().max(1) as f64;
    let name = from_the_end(&line.name, size, LEFT - 40.0);
    shapes.push(text((LEFT - 10.0, top + height / 2.0), name, size, Anchor::Right, INK));
    for (k, bar) in line.bars.iter().enumerate() {
        let (y, (value, lo, hi)) = (top + height * 0.11 + k as f64 * each, bar.seconds);
        let (right, bottom) = (x.pixel(value), y + each * 0.9);
        let corners = vec![(LEFT, y), (right, y), (right, bottom), (LEFT, bottom)];
        shapes.push(Shape::Polygon { points: corners, fill: bar.colour, outline: bar.colour });
        let middle = (y + bottom) / 2.0;
        shapes.push(Shape::Line { points: vec![(x.pixel(lo), middle), (x.pixel(hi), middle)], colour: INK, width: 1 });
        let small = size.min(each).max(8.0);
        let words = fit(&bar.words, small, false, 1190.0 - x.pixel(hi.max(value)) - 8.0);
        shapes.push(text((x.pixel(hi.max(value)) + 8.0, middle), words, small, Anchor::Left, INK));
    }
}

fn titles(profiles: &[Profile]) -> Vec<Shape> {
    let names: Vec<String> = profiles.iter().map(|p| plain(&p.model)).collect();
    let first = format!("Where the time of a run goes: {}", names.join(" and "));
    let mut shapes = vec![Shape::Text {
        at: (24.0, 30.0),
        text: fit(&first, 23.0, true, 1150.0),
        size: 23.0,
        bold: true,
        anchor: Anchor::Left,
        colour: INK,
        upward: false,
    }];
    if let Some(p) = profiles.first() {
        let energy = p.energy.as_ref().map_or_else(
            || "energy unknown".to_owned(),
            |e| format!("energy apportioned by time from the whole's ({}, meter {})", e.kind.sentence(), plain(&e.meter)),
        );
        let how = format!("{} {}, {}, batch {}; {energy}", p.engine, p.engine_version, threads(p.threads), p.batch);
        shapes.push(text((24.0, 60.0), fit(&how, 16.0, false, 1150.0), 16.0, Anchor::Left, INK));
    }
    shapes
}

fn legend(two: bool, shapes: &mut Vec<Shape>) {
    let entries: &[(Colour, &str)] = match two {
        true => &[(ORIGINAL, "original"), (VARIANT, "variant")],
        false => &[(COMPUTE, "limited by arithmetic"), (MEMORY, "limited by memory"), (GREY, "not known")],
    };
    let mut x = 24.0;
    for (colour, words) in entries {
        let corners = vec![(x, 774.0), (x + 14.0, 774.0), (x + 14.0, 788.0), (x, 788.0)];
        shapes.push(Shape::Polygon { points: corners, fill: *colour, outline: *colour });
        shapes.push(text((x + 20.0, 781.0), *words, 14.0, Anchor::Left, INK));
        x += 44.0 + width(words, 14.0, false);
    }
    shapes.push(text((1176.0, 781.0), "lines: 95 % intervals over processes", 14.0, Anchor::Right, FAINT));
}

const COMPUTE: Colour = PALETTE[0];
const MEMORY: Colour = PALETTE[5];
const ORIGINAL: Colour = PALETTE[0];
const VARIANT: Colour = PALETTE[1];

/// The rows that take most, in their order, and the sum of the others.
fn kept(rows: Vec<Vec<Option<&Row>>>) -> Vec<Line> {
    let most = |row: &Vec<Option<&Row>>| row.iter().flatten().filter_map(|r| r.time).map(|t| t.value).fold(0.0f64, f64::max);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| most(&rows[b]).total_cmp(&most(&rows[a])));
    let shown = if rows.len() > ROWS { ROWS - 1 } else { ROWS };
    let (mut large, small) = order.split_at(shown.min(order.len()));
    let mut sorted = large.to_vec();
    sorted.sort_unstable();
    large = &sorted;
    let mut lines: Vec<Line> = large.iter().map(|&i| line(&rows[i])).collect();
    if !small.is_empty() {
        let profiles = rows[0].len();
        let sum = |k: usize| {
            let times = small.iter().filter_map(|&i| rows[i][k]?.time);
            times.fold((0.0, 0.0, 0.0), |s, t| (s.0 + t.value, s.1 + t.lo, s.2 + t.hi))
        };
        let colour = |k: usize| if profiles == 1 { GREY } else { [ORIGINAL, VARIANT][k % 2] };
        let bars = (0..profiles).map(|k| Bar { seconds: sum(k), colour: colour(k), words: si(sum(k).0, "s") });
        lines.push(Line { name: format!("{} others", small.len()), bars: bars.collect() });
    }
    lines
}

fn line(rows: &[Option<&Row>]) -> Line {
    let name = rows.iter().flatten().next().map_or_else(String::new, |r| plain(&r.name));
    let bar = |(k, row): (usize, &Option<&Row>)| {
        let time = row.and_then(|r| r.time);
        let colour = match (rows.len(), row.and_then(|r| r.place).map(|p| p.bound)) {
            (2, _) => [ORIGINAL, VARIANT][k % 2],
            (_, Some(Bound::Compute)) => COMPUTE,
            (_, Some(Bound::Memory)) => MEMORY,
            (_, None) => GREY,
        };
        let share = row.and_then(|r| r.share).map(|s| format!("{} %", fixed(100.0 * s.value, 1)));
        let energy = row.and_then(|r| r.energy).map(|e| si(e.value, "J").replace('-', "−"));
        let words = time.map(|t| si(t.value, "s")).into_iter().chain(share).chain(energy).collect::<Vec<_>>().join(" · ");
        Bar { seconds: time.map_or((0.0, 0.0, 0.0), |t| (t.value, t.lo, t.hi)), colour, words }
    };
    Line { name, bars: rows.iter().enumerate().map(bar).collect() }
}

/// The end of a name, which tells layers apart, as far as there is room.
fn from_the_end(name: &str, size: f64, room: f64) -> String {
    let chars: Vec<char> = name.chars().collect();
    let ends = (0..chars.len()).map(|from| match from {
        0 => name.to_owned(),
        _ => format!("…{}", chars[from..].iter().collect::<String>()),
    });
    ends.into_iter().find(|text| width(text, size, false) <= room).unwrap_or_default()
}

fn text(at: (f64, f64), text: impl Into<String>, size: f64, anchor: Anchor, colour: Colour) -> Shape {
    Shape::Text { at, text: text.into(), size, bold: false, anchor, colour, upward: false }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::super::beside;
    use super::super::samples::{original, variant};
    use super::*;

    /// left, top, right, bottom.
    fn boxes(shapes: &[Shape]) -> Vec<(String, [f64; 4])> {
        let of = |s: &Shape| match s {
            Shape::Text { at, text, size, bold, anchor, .. } if !text.is_empty() => {
                let w = width(text, *size, *bold);
                let left = match anchor {
                    Anchor::Left => at.0,
                    Anchor::Centre => at.0 - w / 2.0,
                    Anchor::Right => at.0 - w,
                };
                Some((text.clone(), [left, at.1 - size * 0.4, left + w, at.1 + size * 0.4]))
            }
            _ => None,
        };
        shapes.iter().filter_map(of).collect()
    }

    #[track_caller]
    fn assert_readable(shapes: &[Shape]) {
        let boxes = boxes(shapes);
        for (i, (text, a)) in boxes.iter().enumerate() {
            assert!(a[0] >= 0.0 && a[2] <= 1201.0 && a[1] >= 0.0 && a[3] <= 800.0, "{text} leaves the picture: {a:?}");
            for (other, b) in &boxes[..i] {
                let apart = a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1];
                assert!(apart, "`{text}` and `{other}` overlap: {a:?} {b:?}");
            }
        }
    }

    #[test]
    fn no_two_texts_overlap_however_many_rows_there_are() {
        let (mut a, b) = (original(), variant());
        assert_readable(&drawing(std::slice::from_ref(&a), &[]));
        assert_readable(&drawing(&[a.clone(), b.clone()], &beside(&a, &b, &[(0, 0)])));
        let long = a.rows[1].clone();
        a.rows.splice(1..1, (0..60).map(|i| crate::profile::Row { name: format!("{}{i}", "/block".repeat(i)), ..long.clone() }));
        let shapes = drawing(std::slice::from_ref(&a), &[]);
        assert_readable(&shapes);
        assert!(boxes(&shapes).iter().any(|(t, _)| t == "42 others"), "nothing is dropped");
        assert_readable(&drawing(&[a.clone(), b.clone()], &beside(&a, &b, &[(0, 0)])));
    }

    #[test]
    fn the_picture_is_svg() {
        let (a, b) = (original(), variant());
        let svg = profile_svg(&[a.clone(), b.clone()], &beside(&a, &b, &[])).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("net-int8.onnx"));
    }
}
