//! A drawing as data: shapes in logical pixels, painted by plotters at any scale into SVG or PNG.

use crate::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};
use std::sync::OnceLock;

/// Width and height of a drawing in logical pixels.
pub(crate) const SIZE: (u32, u32) = (1200, 800);

/// The embedded font's name in plotters. An SVG viewer without Roboto takes the next in the list.
const FONT: &str = "Roboto, Arial, sans-serif";

/// A colour, opaque.
pub(crate) type Colour = RGBColor;

/// Where a text's anchor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Left,
    Centre,
    Right,
}

/// One shape. Points are (right, down) from the top left corner.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Line {
        points: Vec<(f64, f64)>,
        colour: Colour,
        width: u32,
    },
    /// Closed; `outline` is drawn over `fill`.
    Polygon {
        points: Vec<(f64, f64)>,
        fill: Colour,
        outline: Colour,
    },
    Disc {
        centre: (f64, f64),
        radius: f64,
        fill: Colour,
        outline: Colour,
    },
    Ring {
        centre: (f64, f64),
        radius: f64,
        colour: Colour,
        width: u32,
    },
    /// Vertically centred on `at`.
    Text {
        at: (f64, f64),
        text: String,
        size: f64,
        bold: bool,
        anchor: Anchor,
        colour: Colour,
        upward: bool,
    },
}

/// Registers the embedded fonts, once.
fn fonts() -> Result<()> {
    static DONE: OnceLock<bool> = OnceLock::new();
    let register = || {
        register_font(FONT, FontStyle::Normal, include_bytes!("../../../assets/fonts/Roboto-Regular-subset.ttf")).is_ok()
            && register_font(FONT, FontStyle::Bold, include_bytes!("../../../assets/fonts/Roboto-Bold-subset.ttf")).is_ok()
    };
    if *DONE.get_or_init(register) { Ok(()) } else { Err(Error::environment("the embedded font cannot be read")) }
}

/// Registers an embedded font under the name that other users of plotters ask for: without one their drawings fail in a program
/// that has this library's font back end.
#[cfg(feature = "criterion")]
pub(crate) fn default_font() {
    let regular = include_bytes!("../../../assets/fonts/Roboto-Regular-subset.ttf");
    let bold = include_bytes!("../../../assets/fonts/Roboto-Bold-subset.ttf");
    for name in ["sans-serif", "serif", "monospace"] {
        // A font that cannot be read is none, as before.
        let _ = register_font(name, FontStyle::Normal, regular);
        let _ = register_font(name, FontStyle::Bold, bold);
    }
}

fn font(size: f64, bold: bool) -> FontDesc<'static> {
    FontDesc::new(FontFamily::Name(FONT), size, if bold { FontStyle::Bold } else { FontStyle::Normal })
}

/// Width of `text` in logical pixels, with some room for viewers that show the SVG in a wider font.
pub(crate) fn width(text: &str, size: f64, bold: bool) -> f64 {
    const ROOM: f64 = 1.08;
    let known = fonts().ok().and_then(|()| font(size, bold).layout_box(text).ok());
    // Without the font (never): wider than any text is.
    known.map_or(size * text.chars().count() as f64, |((x0, _), (x1, _))| f64::from(x1 - x0) * ROOM)
}

/// `text`, or as much of its start as fits with an ellipsis.
pub(crate) fn fit(text: &str, size: f64, bold: bool, room: f64) -> String {
    if width(text, size, bold) <= room {
        return text.to_owned();
    }
    let mut kept: Vec<char> = text.chars().collect();
    while kept.pop().is_some() {
        let short = format!("{}…", kept.iter().collect::<String>().trim_end());
        if width(&short, size, bold) <= room {
            return short;
        }
    }
    String::new()
}

/// Paints as SVG.
pub(crate) fn paint_svg(shapes: &[Shape]) -> Result<String> {
    let mut text = String::new();
    paint(SVGBackend::with_string(&mut text, SIZE), shapes, 1.0, 0.0)?;
    // The default; plotters says it at every shape.
    Ok(text.replace(" opacity=\"1\"", ""))
}

/// Paints as 8-bit RGB rows from the top, `scale` pixels for each logical one.
pub(crate) fn paint_rgb(shapes: &[Shape], scale: u32) -> Result<Vec<u8>> {
    let size = (SIZE.0 * scale, SIZE.1 * scale);
    let mut pixels = vec![0; size.0 as usize * size.1 as usize * 3];
    paint(BitMapBackend::with_buffer(&mut pixels, size), shapes, f64::from(scale), BITMAP_BASELINE)?;
    Ok(pixels)
}

/// plotters centres text differently in its two back ends: the bitmap's baseline is this share of the size too high.
const BITMAP_BASELINE: f64 = 0.11;

fn paint<B: DrawingBackend>(backend: B, shapes: &[Shape], scale: f64, baseline: f64) -> Result<()> {
    fonts()?;
    let failed = |e: DrawingAreaErrorKind<B::ErrorType>| Error::environment(format!("cannot draw: {e}"));
    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    for shape in shapes {
        draw(&area, shape, scale, baseline).map_err(failed)?;
    }
    area.present().map_err(failed)
}

fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    shape: &Shape,
    scale: f64,
    baseline: f64,
) -> std::result::Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let pixel = |v: f64| (v * scale).round() as i32;
    let place = |p: (f64, f64)| (pixel(p.0), pixel(p.1));
    let stroke = |colour: &Colour, width: u32| colour.stroke_width((f64::from(width) * scale) as u32);
    match shape {
        Shape::Line { points, colour, width } => {
            area.draw(&PathElement::new(points.iter().map(|&p| place(p)).collect::<Vec<_>>(), stroke(colour, *width)))
        }
        Shape::Polygon { points, fill, outline } => {
            let mut around: Vec<_> = points.iter().map(|&p| place(p)).collect();
            area.draw(&Polygon::new(around.clone(), fill.filled()))?;
            if fill == outline {
                return Ok(());
            }
            around.extend(around.first().copied());
            area.draw(&PathElement::new(around, stroke(outline, 1)))
        }
        Shape::Disc { centre, radius, fill, outline } => {
            area.draw(&Circle::new(place(*centre), pixel(*radius), outline.filled()))?;
            if fill == outline {
                return Ok(());
            }
            area.draw(&Circle::new(place(*centre), pixel(*radius - 1.0), fill.filled()))
        }
        Shape::Ring { centre, radius, colour, width } => area.draw(&Circle::new(place(*centre), pixel(*radius), stroke(colour, *width))),
        Shape::Text { at, text, size, bold, anchor, colour, upward } => {
            let horizontal = match anchor {
                Anchor::Left => HPos::Left,
                Anchor::Centre => HPos::Center,
                Anchor::Right => HPos::Right,
            };
            let turned = if *upward { FontTransform::Rotate270 } else { FontTransform::None };
            let style = TextStyle::from(font(size * scale, *bold).transform(turned)).color(colour);
            let shift = baseline * size;
            let at = if *upward { (at.0 + shift, at.1) } else { (at.0, at.1 + shift) };
            area.draw(&Text::new(text.as_str(), place(at), style.pos(Pos::new(horizontal, VPos::Center))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fonts_have_every_character_we_write() {
        assert!(fonts().is_ok());
        // A character that is not in the font is as wide as this one, which is in no font.
        let missing = width("\u{e000}", 1000.0, false);
        for c in "aZ09µ−±%·…×≤≥–’δλ".chars() {
            let found = width(&c.to_string(), 1000.0, false);
            assert!(found > 0.0 && found != missing, "{c}");
        }
    }

    #[test]
    fn long_texts_are_cut_with_an_ellipsis() {
        assert_eq!(fit("short", 14.0, false, 100.0), "short");
        let cut = fit("a very long recipe that does not fit", 14.0, false, 100.0);
        assert!(cut.starts_with("a very") && cut.ends_with('…') && width(&cut, 14.0, false) <= 100.0, "{cut}");
        assert_eq!(fit("x", 14.0, false, 0.0), "");
    }
}
