#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::scene::{SIZE, width};
use super::*;
use crate::report::samples::{hostile, report, with};
use crate::study::samples::{configuration, done, failed, trials};

fn texts(shapes: &[Shape]) -> Vec<&str> {
    shapes.iter().filter_map(|s| if let Shape::Text { text, .. } = s { Some(text.as_str()) } else { None }).collect()
}

/// Every shape, text included, is inside the picture.
#[track_caller]
fn nothing_is_cut_off(shapes: &[Shape]) {
    let inside = |(x, y): (f64, f64)| (0.0..=f64::from(SIZE.0)).contains(&x) && (0.0..=f64::from(SIZE.1)).contains(&y);
    for s in shapes {
        let corners = match s {
            Shape::Line { points, .. } | Shape::Polygon { points, .. } => points.clone(),
            Shape::Disc { centre, radius: r, .. } | Shape::Ring { centre, radius: r, .. } => {
                vec![(centre.0 - r, centre.1 - r), (centre.0 + r, centre.1 + r)]
            }
            Shape::Text { at, text, size, bold, anchor, upward, .. } => {
                let w = width(text, *size, *bold);
                let left = match anchor {
                    Anchor::Left => 0.0,
                    Anchor::Centre => w / 2.0,
                    Anchor::Right => w,
                };
                let h = size / 2.0;
                let (across, down) = if *upward { ((-h, h), (-w / 2.0, w / 2.0)) } else { ((-left, w - left), (-h, h)) };
                vec![(at.0 + across.0, at.1 + down.0), (at.0 + across.1, at.1 + down.1)]
            }
        };
        assert!(corners.into_iter().all(inside), "{s:?}");
    }
}

#[test]
fn every_trial_has_one_mark_and_a_cross() {
    let report = report();
    let front = report.front().unwrap();
    let mut shapes = Vec::new();
    let engines = Engines::of(&report);
    chart::draw(&report, front, &engines, &key::named(&report, front, &engines), &mut shapes);
    let marks = shapes.iter().filter(|s| matches!(s, Shape::Disc { .. } | Shape::Polygon { .. })).count();
    assert_eq!(marks, 24, "two of the 26 trials failed");
    let crosses = shapes.iter().filter(|s| matches!(s, Shape::Line { points, width: 1, .. } if points.len() == 2)).count();
    let grid = shapes
        .iter()
        .filter(|s| matches!(s, Shape::Line { points, width: 1, colour } if points.len() == 2 && [GRID, PALE].contains(colour)))
        .count();
    let pale = shapes.iter().filter(|s| matches!(s, Shape::Line { colour, .. } if *colour == PALE)).count();
    assert_eq!(pale, 2 * front.points.iter().filter(|p| !p.on_front && p.accuracy.value > 0.5).count());
    let on_front = front.members().filter(|p| p.accuracy.value > 0.5).count();
    let leaders =
        shapes.iter().filter(|s| matches!(s, Shape::Line { points, width: 1, colour } if points.len() == 2 && *colour == FAINT)).count();
    assert_eq!(crosses - grid - leaders, 2 * on_front, "two lines for each member of the front");
    assert_eq!(shapes.iter().filter(|s| matches!(s, Shape::Ring { .. })).count(), 1, "the reference");
    for p in front.members() {
        assert!(texts(&shapes).contains(&p.id.to_string().as_str()), "trial {} has its number", p.id);
    }
}

#[test]
fn of_a_large_front_some_are_named_the_recommended_one_among_them() {
    let all: Vec<_> = (0..60)
        .map(|i| done(i, configuration("w8a8", "--weight-bits 8", "tract"), 0.921 - 0.0001 * i as f64, 1.0 - 0.01 * i as f64, 9))
        .collect();
    let report = with(all);
    let (front, engines) = (report.front().unwrap(), Engines::of(&report));
    assert_eq!(front.members().count(), 60);
    let named = key::named(&report, front, &engines);
    let best = crate::report::shipped(&report, 1.0).unwrap().id;
    assert!((8..=14).contains(&named.len()), "{}", named.len());
    for id in [0, best, 59] {
        assert!(named.iter().any(|p| p.id == id), "{id}");
    }
    let texts = drawing(&report).iter().filter(|s| matches!(s, Shape::Text { text, .. } if text.parse::<u64>().is_ok())).count();
    assert_eq!(texts, named.len() - 1, "as many numbers as rows of the key, and the reference's name");
}

#[test]
fn says_the_kind_the_meter_and_the_systematic_range() {
    let shapes = drawing(&report());
    let all = texts(&shapes).join("\n");
    for part in ["estimated from CPU time", "meter cpu-time", "0.60 to 1.70 times", "µJ", "Marked at the lower edge: 2 trials", "reference"]
    {
        assert!(all.contains(part) || part == "µJ" && all.contains("(mJ)"), "{part} in\n{all}");
    }
}

#[test]
fn nothing_is_cut_off_whatever_the_trials() {
    let c = || configuration("original", "", "tract");
    let wide: Vec<_> = (0..40)
        .map(|i| {
            done(i, configuration(&"long recipe ".repeat(20), "", "rten"), 0.5 + 0.012 * i as f64, 10f64.powf(0.1 * i as f64 - 3.0), 9)
        })
        .collect();
    let engines: Vec<_> = (0..9).map(|i| done(i, configuration("original", "", &format!("engine {i}")), 0.9, 1.0, 9)).collect();
    for r in [
        report(),
        hostile(),
        with(Vec::new()),
        with(vec![done(0, c(), 0.9, 1.0, 9)]),
        with(vec![failed(0, c(), "x")]),
        with(wide),
        with(engines),
    ] {
        nothing_is_cut_off(&drawing(&r));
        let svg = svg(&r).unwrap();
        assert!(!svg.contains("<script") && !svg.contains("NaN"));
    }
}

#[test]
fn png_is_a_picture_of_the_right_size_and_not_blank() {
    let bytes = png(&with(trials())).unwrap();
    let mut reader = &bytes[..];
    assert_eq!(&reader[..8], b"\x89PNG\r\n\x1a\n");
    reader = &reader[8..];
    let mut data = Vec::new();
    while !reader.is_empty() {
        let n = u32::from_be_bytes(reader[..4].try_into().unwrap()) as usize;
        let mut crc = flate2::Crc::new();
        crc.update(&reader[4..8 + n]);
        assert_eq!(crc.sum().to_be_bytes(), reader[8 + n..12 + n], "checksum");
        if &reader[4..8] == b"IHDR" {
            assert_eq!(reader[8..16], [2400u32.to_be_bytes(), 1600u32.to_be_bytes()].concat());
        }
        if &reader[4..8] == b"IDAT" {
            std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&reader[8..8 + n]), &mut data).unwrap();
        }
        reader = &reader[12 + n..];
    }
    assert_eq!(data.len(), 1600 * (1 + 2400 * 3));
    assert!(data.iter().filter(|&&b| b == 0x72).count() > 100, "there is blue");
    assert!(bytes.len() < 400_000, "{}", bytes.len());
}
