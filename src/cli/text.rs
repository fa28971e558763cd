//! Tables and numbers for people.

/// A table with a header: the first column on the left, all others on the right.
pub(super) fn table<R: AsRef<[String]>>(header: &[&str], rows: &[R]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|r| r.as_ref().get(column)).map(|c| c.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.into_iter().zip(&widths).enumerate();
        let padded = cells.map(|(i, (c, &w))| if i == 0 { format!("{c:<w$}") } else { format!("{c:>w$}") });
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut out = line(header.to_vec());
    out += &line(widths.iter().map(|&w| "─".repeat(w)).collect::<Vec<_>>().iter().map(String::as_str).collect());
    rows.iter().for_each(|r| out += &line(r.as_ref().iter().map(String::as_str).collect()));
    out
}

/// Sentences as a list, one line each.
pub(super) fn list(sentences: &[String]) -> String {
    sentences.iter().map(|s| format!("- {s}\n")).collect()
}

/// A count with a suffix: `9.35 M`.
pub(super) fn count(n: u64) -> String {
    let v = n as f64;
    match n {
        0..=9_999 => n.to_string(),
        10_000..=999_999 => format!("{:.1} k", v / 1e3),
        1_000_000..=999_999_999 => format!("{:.2} M", v / 1e6),
        _ => format!("{:.2} G", v / 1e9),
    }
}

/// A share as `12.3 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Multiply–adds of a model: a count, or a lower bound.
pub(super) fn macs(macs: &crate::model::Macs) -> String {
    match macs.exact() {
        Some(n) => count(n),
        None => format!("at least {}", count(macs.at_least)),
    }
}

/// Dimensions: `64×3×7×7`.
pub(super) fn dims(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// A name that fits a table: of a longer one the ends.
pub(super) fn elided(name: &str) -> String {
    const HEAD: usize = 16;
    const TAIL: usize = 31;
    let chars: Vec<char> = name.chars().collect();
    if chars.len() <= HEAD + TAIL + 1 {
        return name.to_owned();
    }
    let ends = chars[..HEAD].iter().chain(&['…']).chain(&chars[chars.len() - TAIL..]);
    ends.collect()
}

/// The first names of a list in backticks, and how many more there are.
pub(super) fn some(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let mut text = names.iter().take(SHOWN).map(|n| format!("`{}`", elided(n))).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}
