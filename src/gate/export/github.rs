//! Workflow commands of GitHub Actions, which become annotations.

use super::super::outcome::{Outcome, change, limit};
use super::escape::{message, property};

/// One `::error` line for each regression and each limit that fails, a `::warning` for each remark. GitHub shows ten of a kind for a
/// step; the rest is in the summary ([`super::markdown`]).
pub fn annotations(outcome: &Outcome) -> String {
    let line = |level: &str, title: &str, text: &str| format!("::{level} title={}::{}\n", property(title), message(text));
    let mut out = String::new();
    for f in outcome.regressions() {
        let text = format!("{}: {} {} against `{}`; called from {}", f.key, f.metric, change(f), outcome.baseline, limit(f));
        out += &line("error", &format!("{} got worse", f.metric), &text);
    }
    for l in outcome.broken() {
        out += &line("error", "budget", &format!("{}: {}: {}", l.key, l.limit, l.words()));
    }
    for note in &outcome.notes {
        out += &line("warning", "joulefront gate", note);
    }
    out
}
