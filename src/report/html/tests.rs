#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::samples::{HOSTILE, hostile, report, with};
use super::super::svg;
use super::html;
use crate::energy::Kind;
use crate::study::samples::trials;
use crate::study::{Outcome, Trial};

fn page(r: &super::Report) -> String {
    html(r, &svg(r).unwrap())
}

/// The tags in order, and whether they are balanced: what a parser would see.
#[track_caller]
fn tags(page: &str) -> Vec<String> {
    const VOID: [&str; 2] = ["meta", "!doctype"];
    let (mut open, mut all, mut rest) = (Vec::new(), Vec::new(), page);
    while let Some(at) = rest.find('<') {
        let tag = &rest[at + 1..at + rest[at..].find('>').unwrap()];
        rest = &rest[at + 1 + tag.len()..];
        let name: String = tag.trim_start_matches('/').chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '!').collect();
        match (tag.starts_with('/'), tag.ends_with('/') || VOID.contains(&name.as_str())) {
            (true, _) => assert_eq!(open.pop().as_deref(), Some(name.as_str())),
            (false, false) => open.push(name.clone()),
            (false, true) => {}
        }
        all.push(name);
    }
    assert_eq!(open, Vec::<String>::new());
    all
}

#[test]
fn one_file_without_network_or_script() {
    let page = page(&report());
    assert!(page.len() < 300_000, "{} bytes", page.len());
    let outside = page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "");
    for part in ["http", "url(", "@import", "<script", "<link", "src=", "NaN"] {
        assert!(!outside.contains(part), "{part}");
    }
    let count = |name: &str| tags(&page).iter().filter(|t| *t == name).count();
    assert_eq!(count("svg"), 2, "the plot is in it, once");
    assert_eq!(count("table"), 4);
}

#[test]
fn says_what_a_reader_must_know() {
    let page = page(&report());
    for part in [
        "Ship w8a8: −61 % J",
        "estimated from CPU time",
        "meter cpu-time (the process’s share)",
        "0.60 to 1.70 times the value",
        "the child ended with signal 9 (out of memory?)",
        "joulefront compress fashion-resnet8.onnx -o trial-5.onnx --weight-bits 8 --activation-bits 8 &amp;&amp; joulefront bench",
        "<dt>build rustflags</dt><dd>-C target-cpu=native</dd>",
        "<dt>cpu governor</dt><dd>not known</dd>",
        "2 not valid",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn hostile_names_stay_text() {
    let page = page(&hostile());
    let clean = tags(&super::html(&report(), ""));
    // The same tags as any other report has, and no attribute or text that broke out.
    assert!(
        tags(&page)
            .iter()
            .all(|t| clean.contains(t) || ["svg", "a", "text", "circle", "rect", "line", "polyline", "polygon"].contains(&t.as_str()))
    );
    assert!(!page.contains("<script") && !page.contains("<b>µ") && !page.contains("onload='") && !page.contains(" onload=\""));
    assert!(!page.contains('\u{202e}') && !page.contains('\u{7}'));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{HOSTILE}");
}

#[test]
fn other_kinds_are_named_and_not_mixed() {
    let mut all: Vec<Trial> = trials();
    if let Outcome::Done(r) = &mut all[2].outcome {
        r.measurement.energy.as_mut().unwrap().kind = Kind::Simulated;
    }
    assert!(page(&with(all)).contains("do not mix: 1 trials simulated counter, meter cpu-time"));
    assert!(page(&with(Vec::new())).contains("no energy is known"));
}
