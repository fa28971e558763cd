//! The front as a text table for the terminal.

use super::Report;
use super::words::{accuracy, accuracy_change, fixed, name, ratio, with_interval};
use crate::units::si;

const COLUMNS: usize = 12;
const HEADINGS: [&str; COLUMNS] =
    ["trial", "accuracy", "change", "energy/inference", "ratio", "p50", "size", "engine", "form", "threads", "batch", "recipe"];

/// The front by rising energy, then for each row the command that makes and measures it again. The energy's kind stands
/// above the table, so no row can be read without it. Ends with a line feed.
pub fn table(report: &Report) -> String {
    let Some(front) = report.front() else { return "no trial has energy\n".to_owned() };
    let members: Vec<_> = front.members().collect();
    let mut lines: Vec<[String; COLUMNS]> = vec![HEADINGS.map(str::to_owned)];
    for p in &members {
        let t = report.trial(p);
        let p50 = t.results().map(|r| si(r.measurement.latency.p50.0, "s")).unwrap_or_default();
        lines.push([
            p.id.to_string(),
            accuracy(p.accuracy),
            p.drop_points.map(accuracy_change).unwrap_or_default(),
            with_interval(p.energy, "J"),
            p.ratio.map(ratio).unwrap_or_default(),
            p50,
            crate::units::Bytes(p.model_bytes).to_string(),
            plain(&t.configuration.engine),
            plain(&t.configuration.lowering),
            t.configuration.threads.to_string(),
            t.configuration.batch.to_string(),
            plain(name(&t.configuration)),
        ]);
    }
    let s = &front.systematic;
    let mut text = format!(
        "energy {}, meter {}; 95 % intervals; systematic: {}–{} × the value ({})\n",
        front.basis.kind.sentence(),
        plain(&front.basis.meter),
        fixed(s.low, 2),
        fixed(s.high, 2),
        plain(&s.source),
    );
    text.push_str(&aligned(&lines));
    text.push('\n');
    for p in members {
        text.push_str(&format!("{}: {}\n", p.id, plain(&report.command(p))));
    }
    text
}

/// Columns as wide as their widest cell: numbers to the right, names to the left.
fn aligned(lines: &[[String; COLUMNS]]) -> String {
    const RIGHT: [bool; COLUMNS] = [true, true, true, true, true, true, true, false, false, true, true, false];
    let width: [usize; COLUMNS] = std::array::from_fn(|k| lines.iter().map(|l| l[k].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for line in lines {
        let cells =
            line.iter().zip(width).zip(RIGHT).map(|((cell, w), right)| if right { format!("{cell:>w$}") } else { format!("{cell:<w$}") });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Text of a study's author without characters that could move the cursor or turn the writing direction.
pub(super) fn plain(text: &str) -> String {
    let hidden =
        |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use crate::report::samples::{hostile, report, with};

    #[test]
    fn looks_like_this() {
        insta::assert_snapshot!(super::table(&report()));
    }

    #[test]
    fn cannot_be_used_to_write_to_the_terminal() {
        let text = super::table(&hostile());
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
        assert!(!text.contains('\u{202e}'));
        assert_eq!(super::table(&with(Vec::new())), "no trial has energy\n");
    }
}
