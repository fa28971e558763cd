//! The table for people, at most 120 columns wide.

use super::super::table::plain;
use super::super::words::{fixed, scope, threads};
use super::beside::Beside;
use crate::profile::{Profile, Row};
use crate::stats::Interval;
use crate::units::{Bytes, si};

/// The widest line.
const WIDTH: usize = 120;
const GAP: usize = 2;

/// One profile with all figures; with `pairs` two side by side with ratios. Ends with a line feed.
pub fn profile_table(profiles: &[Profile], pairs: &[Beside<'_>]) -> String {
    let mut out = String::new();
    match profiles {
        [original, variant] => {
            out += &format!("{}\n{}\n\n", headline(original), headline(variant));
            let header = ["layer", "time", "", "variant", "", "ratio", "energy", "variant", "ratio"];
            out += &aligned(&header, &pairs.iter().map(side_by_side).collect::<Vec<_>>());
        }
        _ => {
            for profile in profiles {
                out += &format!("{}\n\n", headline(profile));
                let checked = profile.rows.iter().any(|r| r.check.is_some());
                let mut header = vec!["layer", "time", "share", "madds", "moved", "FLOP/s", "FLOP/B", "of the roof", "energy"];
                header.extend(checked.then_some("alone"));
                out += &aligned(&header, &profile.rows.iter().map(|r| cells(r, checked)).collect::<Vec<_>>());
            }
        }
    }
    for profile in profiles {
        out.push('\n');
        out += &notes(profile);
    }
    out
}

fn headline(p: &Profile) -> String {
    let energy = p.energy.as_ref().map_or_else(|| "energy unknown".to_owned(), |e| format!("{} a run", with_half(e.run, "J")));
    let how = format!("{}, {}, batch {}", p.engine, threads(p.threads), p.batch);
    format!("{}: {} a run, {energy} ({how})", plain(&p.model), with_half(p.whole.plain, "s"))
}

fn cells(row: &Row, checked: bool) -> Vec<String> {
    let or_empty = |text: Option<String>| text.unwrap_or_default();
    let mut cells = vec![
        label(row),
        row.time.map_or_else(|| "none of its own".to_owned(), |t| with_half(t, "s")),
        or_empty(row.share.map(|s| format!("{} %", fixed(100.0 * s.value, 1)))),
        or_empty(row.cost.macs.map(|n| short(n as f64))),
        or_empty(row.cost.moved().map(|b| b.to_string())),
        or_empty(row.place.filter(|p| p.flops > 0.0).map(|p| short(p.flops))),
        or_empty(row.place.filter(|p| p.flops > 0.0).map(|p| fixed(p.intensity, 1))),
        or_empty(row.place.map(|p| format!("{} % {}", fixed(100.0 * p.share, 0), if p.flops > 0.0 { p.bound.name() } else { "memory" }))),
        or_empty(row.energy.map(|e| with_half(e, "J"))),
    ];
    if checked {
        cells.push(or_empty(row.check.map(|c| format!("{}{}", fixed(c.ratio, 2), if c.holds() { "" } else { " !" }))));
    }
    cells
}

fn side_by_side(pair: &Beside<'_>) -> Vec<String> {
    let row = |r: Option<&Row>, figure: &dyn Fn(&Row) -> Option<String>| r.and_then(figure).unwrap_or_else(|| "–".to_owned());
    let share = |r: &Row| r.share.map(|s| format!("{} %", fixed(100.0 * s.value, 1)));
    let time = |r: &Row| r.time.map(|t| si(t.value, "s"));
    let energy = |r: &Row| r.energy.map(|e| si(e.value, "J"));
    let ratio =
        |i: Option<Interval>| i.map_or_else(String::new, |i| format!("{}× ({}…{})", fixed(i.value, 2), fixed(i.lo, 2), fixed(i.hi, 2)));
    let name = pair.original.or(pair.variant).map_or_else(String::new, label);
    vec![
        name,
        row(pair.original, &time),
        row(pair.original, &share),
        row(pair.variant, &time),
        row(pair.variant, &share),
        ratio(pair.time_ratio()),
        row(pair.original, &energy),
        row(pair.variant, &energy),
        ratio(pair.energy_ratio()),
    ]
}

/// The name, and what runs in one go with it.
fn label(row: &Row) -> String {
    let fused = row.operators.iter().skip(1).map(|o| format!("+{o}")).collect::<String>();
    if fused.is_empty() { plain(&row.name) } else { format!("{} {}", plain(&row.name), plain(&fused)) }
}

/// How it was measured, and what limits it.
fn notes(p: &Profile) -> String {
    let w = &p.whole;
    let mut out = format!(
        "{}: clocks at {} nodes, {} processes, {} runs\n  a run with clocks takes {}, {}× ({}…{}) of one without;\n  nodes add up to {} % of \
         one without, and a run of next to nothing takes {}\n",
        plain(&p.model),
        p.rows.iter().map(|r| r.engine_nodes.len()).sum::<usize>(),
        w.processes,
        w.runs,
        with_half(w.instrumented, "s"),
        fixed(w.overhead.value, 3),
        fixed(w.overhead.lo, 3),
        fixed(w.overhead.hi, 3),
        fixed(100.0 * p.accounted(), 1),
        si(w.empty.value, "s"),
    );
    // Less than a nanosecond cannot be told from none.
    if w.clock.value >= 1e-9 {
        out += &format!("  reading the clock takes {} within each node, which is taken off\n", si(w.clock.value, "s"));
    }
    if let Some(e) = &p.energy {
        let whole = format!("{} (meter {}, {})", e.kind.sentence(), plain(&e.meter), scope(e.scope));
        out += &format!("  energy of layers is apportioned by time from that of a run without clocks,\n    {whole}\n");
    }
    out += &format!(
        "  roof: {}FLOP/s in float32, the better of our register tile and our matrix product;\n    {}B/s, a triad over {}, which is what a \
         run touches; the best of {} processes pinned as the model was\n",
        si(p.peak.flops, ""),
        si(p.peak.bytes_per_s, ""),
        Bytes(p.peak.working_set),
        w.processes
    );
    if p.rows.iter().any(|r| r.check.is_some()) {
        out += "  alone: apportioned energy over that of the layer measured alone; ! where they differ by more than 20 %\n";
    }
    p.warnings.iter().for_each(|line| out += &format!("warning: {}: {}\n", plain(&p.model), plain(line)));
    out
}

/// `12.3 µs ±1 %`.
fn with_half(i: Interval, symbol: &str) -> String {
    let half = 50.0 * (i.hi - i.lo) / i.value.abs();
    let text = si(i.value, symbol).replace('-', "−");
    if half.is_finite() && half < 1000.0 { format!("{text} ±{} %", fixed(half, usize::from(half < 1.0))) } else { text }
}

/// `1.23 M`, without the unit.
fn short(value: f64) -> String {
    si(value, "").trim_end().to_owned()
}

/// Columns as wide as their widest cell, the first on the left; names are cut in the middle so that lines fit.
fn aligned(header: &[&str], rows: &[Vec<String>]) -> String {
    let count = |text: &str| text.chars().count();
    let width =
        |column: usize| rows.iter().filter_map(|r| r.get(column)).map(|c| count(c)).chain([count(header[column])]).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..header.len()).map(width).collect();
    let others: usize = widths[1..].iter().map(|w| w + GAP).sum();
    widths[0] = widths[0].min(WIDTH.saturating_sub(others).max(8));
    let line = |cells: &mut dyn Iterator<Item = String>| {
        let padded = cells.zip(&widths).enumerate().map(|(i, (c, &w))| match i {
            0 => format!("{:<w$}", cut(&c, w)),
            _ => format!("{c:>w$}"),
        });
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut out = line(&mut header.iter().map(|&h| h.to_owned()));
    out += &line(&mut widths.iter().map(|&w| "─".repeat(w)));
    rows.iter().for_each(|r| out += &line(&mut r.iter().cloned()));
    out
}

/// The ends of a text that is too long: the tail tells layers apart.
fn cut(text: &str, room: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= room {
        return text.to_owned();
    }
    let head = (room - 1) / 3;
    let tail = room - 1 - head;
    chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::beside;
    use super::super::samples::{original, variant};
    use super::*;

    #[test]
    fn looks_like_this() {
        insta::assert_snapshot!("one", profile_table(&[original()], &[]));
        let (a, b) = (original(), variant());
        let pairs = beside(&a, &b, &[(0, 0), (2, 1)]);
        insta::assert_snapshot!("two", profile_table(&[a.clone(), b.clone()], &pairs));
    }

    #[test]
    fn fits_the_terminal_and_cannot_write_to_it() {
        let mut long = original();
        long.rows[0].name = "/a\u{1b}[2J/".to_owned() + &"very/".repeat(60) + "last";
        let (b, pairs_of) = (variant(), |a: &Profile, b: &Profile| profile_table(&[a.clone(), b.clone()], &beside(a, b, &[(0, 0)])));
        for text in [profile_table(std::slice::from_ref(&long), &[]), pairs_of(&long, &b)] {
            let wide: Vec<&str> = text.lines().filter(|l| l.chars().count() > WIDTH).collect();
            assert!(wide.is_empty(), "{wide:#?}");
            assert!(text.contains("very/last") && !text.contains('\u{1b}'), "{text}");
        }
    }
}
