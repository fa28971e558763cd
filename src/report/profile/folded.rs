//! Folded stacks, one line per row: what `flamegraph.pl`, inferno and speedscope read.

use super::frames;
use crate::profile::Profile;

/// `model;block;layer count` lines, the count being nanoseconds of a run with clocks. Blocks are the folders of a layer's name. Rows
/// that take no whole nanosecond are left out: the format has no place for them.
pub fn folded_stacks(profiles: &[Profile]) -> String {
    let mut out = String::new();
    for profile in profiles {
        for row in &profile.rows {
            let ns = row.time.map_or(0.0, |t| (t.value * 1e9).round());
            if ns >= 1.0 {
                let stack: Vec<String> = std::iter::once(profile.model.as_str()).chain(frames(&row.name)).map(frame).collect();
                out += &format!("{} {ns:.0}\n", stack.join(";"));
            }
        }
    }
    out
}

/// A frame without what separates frames and lines.
fn frame(text: &str) -> String {
    text.chars().map(|c| if c == ';' || c.is_whitespace() || c.is_control() { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::{original, variant};
    use super::*;

    #[test]
    fn looks_like_this() {
        insta::assert_snapshot!(folded_stacks(&[original(), variant()]));
    }

    #[test]
    fn every_line_is_a_stack_and_a_count() {
        for line in folded_stacks(&[original(), variant()]).lines() {
            let (stack, count) = line.rsplit_once(' ').unwrap_or_default();
            assert!(!stack.contains(' ') && stack.split(';').all(|f| !f.is_empty()) && count.parse::<u64>().is_ok_and(|n| n > 0), "{line}");
        }
    }
}
