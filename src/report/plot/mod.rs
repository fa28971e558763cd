//! The front as a picture: accuracy against joules per inference, as SVG and PNG from one drawing.
//!
//! Points are trials, with a cross of their 95 % intervals; colour and shape say the engine (Wong's palette, which colour
//! blind people can tell apart). Filled: on the staircase. Hollow: on the front for its smaller file only. Grey: dominated.
//! The reference has a black ring.

pub(crate) mod axis;
mod chart;
mod key;
mod labels;
mod png;
pub(crate) mod scene;

use super::html::Escaped;
use super::table::plain;
use super::words::{accuracy, accuracy_change, energy_change, how, name, with_interval};
use super::{Front, Report};
use crate::Result;
use scene::{Anchor, Colour, Shape};

/// PNG pixels for each logical pixel, so that it is sharp on dense screens and in print.
const PNG_SCALE: u32 = 2;

pub(crate) const INK: Colour = plotters::style::RGBColor(0x22, 0x22, 0x22);
pub(crate) const FAINT: Colour = plotters::style::RGBColor(0x66, 0x66, 0x66);
pub(crate) const GRID: Colour = plotters::style::RGBColor(0xEA, 0xEA, 0xEA);
/// Crosses of dominated trials.
pub(crate) const PALE: Colour = plotters::style::RGBColor(0xC8, 0xC8, 0xC8);
pub(crate) const GREY: Colour = plotters::style::RGBColor(0xA8, 0xA8, 0xA8);
pub(crate) const PAPER: Colour = plotters::style::RGBColor(0xFF, 0xFF, 0xFF);

/// Wong, "Points of view: color blindness", Nature Methods 8, 441 (2011), without black and yellow.
pub(crate) const PALETTE: [Colour; 6] = [
    plotters::style::RGBColor(0x00, 0x72, 0xB2),
    plotters::style::RGBColor(0xD5, 0x5E, 0x00),
    plotters::style::RGBColor(0x00, 0x9E, 0x73),
    plotters::style::RGBColor(0xCC, 0x79, 0xA7),
    plotters::style::RGBColor(0x56, 0xB4, 0xE9),
    plotters::style::RGBColor(0xE6, 0x9F, 0x00),
];

/// The plot as SVG, 1200 × 800.
///
/// # Errors
/// Never in practice: it is drawn in memory with an embedded font.
pub fn svg(report: &Report) -> Result<String> {
    let text = scene::paint_svg(&drawing(report))?;
    // For screen readers and keyboards, which plotters knows nothing of: what the picture is, and a link at every point.
    let described = format!("<svg aria-label=\"{}\" ", Escaped(&headline(report)));
    let mut targets = String::new();
    if let Some(front) = report.front() {
        for (id, (x, y)) in chart::places(front) {
            let words = Escaped(&hover(report, front, id)).to_string();
            targets.push_str(&format!(
                "<a href=\"#trial-{id}\"><circle cx=\"{x:.0}\" cy=\"{y:.0}\" r=\"11\" fill=\"transparent\"/><title>{words}</title></a>\n"
            ));
        }
    }
    Ok(text.replacen("<svg ", &described, 1).replace("</svg>", &format!("{targets}</svg>")))
}

/// What a point says when it is pointed at.
fn hover(report: &Report, front: &Front, id: u64) -> String {
    let Some(p) = front.point(id) else { return String::new() };
    let c = &report.trial(p).configuration;
    if !p.on_front {
        // Short: there may be hundreds.
        return format!("Trial {id}: {} ({}), {}, {}", name(c), how(c), accuracy(p.accuracy), with_interval(p.energy, "J"));
    }
    let change = p.ratio.map(energy_change).into_iter().chain(p.drop_points.map(accuracy_change));
    let figures = [accuracy(p.accuracy), with_interval(p.energy, "J")].into_iter().chain(change).collect::<Vec<_>>().join(", ");
    format!("Trial {id}: {} ({}): {figures}, energy {}", name(c), how(c), front.basis.kind.sentence())
}

/// The plot as PNG, 2400 × 1600: the same drawing twice as fine.
///
/// # Errors
/// Never in practice: it is drawn in memory with an embedded font.
pub fn png(report: &Report) -> Result<Vec<u8>> {
    let pixels = scene::paint_rgb(&drawing(report), PNG_SCALE)?;
    png::encode(&pixels, scene::SIZE.0 * PNG_SCALE, scene::SIZE.1 * PNG_SCALE)
}

fn headline(report: &Report) -> String {
    format!("Accuracy against energy per inference: {} on {}", plain(&report.header.model), plain(&report.header.dataset))
}

fn drawing(report: &Report) -> Vec<Shape> {
    let mut shapes = vec![title(&headline(report))];
    match report.front() {
        Some(front) if !front.points.is_empty() => {
            let engines = Engines::of(report);
            let named = key::named(report, front, &engines);
            chart::draw(report, front, &engines, &named, &mut shapes);
            key::draw(report, front, &engines, &named, &mut shapes);
        }
        _ => shapes.push(text((600.0, 400.0), "no trial has both accuracy and energy", 18.0, Anchor::Centre)),
    }
    shapes
}

fn title(headline: &str) -> Shape {
    let headline = scene::fit(headline, 23.0, true, 1150.0);
    Shape::Text { at: (24.0, 30.0), text: headline, size: 23.0, bold: true, anchor: Anchor::Left, colour: INK, upward: false }
}

fn text(at: (f64, f64), text: impl Into<String>, size: f64, anchor: Anchor) -> Shape {
    Shape::Text { at, text: text.into(), size, bold: false, anchor, colour: INK, upward: false }
}

/// The engines in the order of their first trial: the index chooses colour and shape.
struct Engines(Vec<String>);

/// How a trial stands to the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Staircase,
    ForItsSize,
    Dominated,
}

impl Engines {
    fn of(report: &Report) -> Self {
        let mut names: Vec<String> = Vec::new();
        for t in &report.trials {
            if !names.contains(&t.configuration.engine) {
                names.push(t.configuration.engine.clone());
            }
        }
        Engines(names)
    }

    fn index(&self, engine: &str) -> usize {
        self.0.iter().position(|e| e == engine).unwrap_or(0)
    }

    fn colour(&self, engine: &str) -> Colour {
        PALETTE[self.index(engine) % PALETTE.len()]
    }

    /// The mark of a trial: its shape and colour say the engine, its filling the standing.
    fn mark(&self, engine: &str, standing: Standing, centre: (f64, f64)) -> Shape {
        let colour = self.colour(engine);
        let (fill, outline, r) = match standing {
            Standing::Staircase => (colour, colour, 7.0),
            Standing::ForItsSize => (PAPER, colour, 6.5),
            Standing::Dominated => (GREY, GREY, 5.0),
        };
        let corners = |points: &[(f64, f64)]| points.iter().map(|(x, y)| (centre.0 + x * r, centre.1 + y * r)).collect();
        match self.index(engine) % 4 {
            0 => Shape::Disc { centre, radius: r, fill, outline },
            1 => Shape::Polygon { points: corners(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]), fill, outline },
            2 => Shape::Polygon { points: corners(&[(0.0, -1.1), (1.1, 0.85), (-1.1, 0.85)]), fill, outline },
            _ => Shape::Polygon { points: corners(&[(0.0, -1.2), (1.2, 0.0), (0.0, 1.2), (-1.2, 0.0)]), fill, outline },
        }
    }
}

#[cfg(test)]
mod tests;
