#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::super::budget::Budgets;
use super::super::judge::{Rules, judge};
use super::super::outcome::Outcome;
use super::super::samples::run;
use super::super::store::Saved;
use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn outcome(factor: f64, model: &str) -> Outcome {
    let named = |mut run: super::super::run::Run| {
        run.cases[0].key.model = model.to_owned();
        run
    };
    let saved: Vec<Saved> = (0..8).map(|seed| Saved { number: seed, run: named(run(seed, 1.0)) }).collect();
    let mut now = named(run(99, factor));
    now.cases[1].measurement.energy = None;
    let mut outcome = judge("main", &saved, std::slice::from_ref(&now), &Rules::default()).unwrap();
    outcome.limits =
        Budgets::from_toml("[budget]\n\"b.onnx\" = [\"p99 <= 1 us\", \"size <= 1 MB\", \"energy <= 1 J\"]").unwrap().judge(&now);
    outcome
}

/// An element of XML, by a grammar that knows elements, attributes, character data, references and the declaration.
#[derive(Debug, PartialEq)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
    text: String,
}

impl Element {
    fn attribute(&self, name: &str) -> &str {
        &self.attributes.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{} has no {name}", self.name)).1
    }
}

struct Parser<'a>(&'a str);

impl Parser<'_> {
    fn take(&mut self, token: &str) -> bool {
        match self.0.strip_prefix(token) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) {
        assert!(self.take(token), "{token:?} is wanted at {:?}", &self.0[..self.0.len().min(60)]);
    }

    fn until(&mut self, stop: &[char]) -> String {
        let end = self.0.find(stop).expect("the document ends too early");
        let (text, rest) = self.0.split_at(end);
        self.0 = rest;
        text.to_owned()
    }

    fn space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\n']);
    }

    fn text(raw: &str) -> String {
        assert!(raw.chars().all(|c| c == '\n' || c >= ' ') && !raw.contains('<'), "{raw:?}");
        let mut parts = raw.split('&');
        let mut out = parts.next().unwrap().to_owned();
        for part in parts {
            let (entity, rest) = part.split_once(';').expect("a reference ends with a semicolon");
            out.push(match entity {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                "apos" => '\'',
                number => char::from_u32(number.strip_prefix('#').unwrap().parse().unwrap()).unwrap(),
            });
            out += rest;
        }
        out
    }

    fn element(&mut self) -> Element {
        self.expect("<");
        let name = self.until(&[' ', '/', '>']);
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
        let mut element = Element { name, attributes: vec![], children: vec![], text: String::new() };
        loop {
            self.space();
            if self.take("/>") {
                return element;
            }
            if self.take(">") {
                break;
            }
            let name = self.until(&['=']);
            self.expect("=\"");
            let value = self.until(&['"']);
            self.expect("\"");
            assert!(!element.attributes.iter().any(|(n, _)| *n == name), "{name} twice");
            element.attributes.push((name, Self::text(&value)));
        }
        loop {
            let text = self.until(&['<']);
            element.text += &Self::text(&text);
            if self.take(&format!("</{}>", element.name)) {
                return element;
            }
            element.children.push(self.element());
        }
    }
}

fn parse(xml: &str) -> Element {
    let mut parser = Parser(xml);
    parser.expect("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
    parser.space();
    let root = parser.element();
    parser.space();
    assert_eq!(parser.0, "");
    root
}

/// What the readers of JUnit's XML agree on: names, required attributes, and counts that are those of the content.
fn check_junit(root: &Element) -> (usize, usize, usize) {
    let sums = |e: &Element| ["tests", "failures", "skipped"].map(|n| e.attribute(n).parse::<usize>().unwrap());
    assert_eq!(root.name, "testsuites");
    let mut total = [0; 3];
    for suite in &root.children {
        assert_eq!((suite.name.as_str(), suite.attribute("errors")), ("testsuite", "0"));
        assert!(!suite.attribute("name").is_empty() && suite.attribute("time").parse::<f64>().is_ok());
        let mut counts = [suite.children.len(), 0, 0];
        for case in &suite.children {
            assert_eq!((case.name.as_str(), case.children.len()), ("testcase", 1));
            assert!(!case.attribute("name").is_empty() && !case.attribute("classname").is_empty());
            match case.children[0].name.as_str() {
                "failure" => {
                    counts[1] += 1;
                    assert!(!case.children[0].attribute("message").is_empty() && !case.children[0].attribute("type").is_empty());
                }
                "skipped" => counts[2] += 1,
                other => assert_eq!(other, "system-out"),
            }
        }
        assert_eq!(sums(suite), counts);
        total.iter_mut().zip(counts).for_each(|(t, c)| *t += c);
    }
    assert_eq!(sums(root), total);
    (total[0], total[1], total[2])
}

#[test]
fn junit_is_well_formed_and_counts_right() {
    // Five gated metrics of two models, one energy missing, three limits of which one is broken and one not measured.
    assert_eq!(check_junit(&parse(&junit(&outcome(1.0, "a.onnx")))), (13, 1, 1));
    let (_, failures, _) = check_junit(&parse(&junit(&outcome(1.2, "a.onnx"))));
    assert_eq!(failures, 4, "energy of one model, latency of both, the limit");
    assert_eq!(check_junit(&parse(&junit(&Outcome::without_baseline()))), (0, 0, 0));
}

#[test]
fn github_lines() {
    let text = annotations(&outcome(1.2, "a,b:c%\n.onnx"));
    let errors: Vec<&str> = text.lines().filter(|l| l.starts_with("::error ")).collect();
    assert_eq!(errors.len(), 4);
    assert!(errors[0].starts_with("::error title=energy got worse::a,b:c%25%0A.onnx (tract"), "{text}");
    assert!(text.lines().all(|l| l.starts_with("::error title=") || l.starts_with("::warning title=")), "{text}");
    assert!(!annotations(&outcome(1.0, "a.onnx")).contains("got worse"));
}

#[test]
fn markdown_tables_keep_their_columns() {
    let text = markdown(&outcome(1.2, "a|b<script>`x`.onnx"));
    assert!(text.starts_with("<!-- joulefront gate main -->\n### joulefront gate: failed\n"), "{text}");
    assert!(text.contains("**regression**") && !text.contains("<script>"), "{text}");
    for line in text.lines().filter(|l| l.starts_with('|')) {
        let bars = line.replace("\\|", "").matches('|').count();
        assert!(bars == 9 || bars == 4, "{line}");
    }
}

/// The schema of Bencher's documentation (bmf.json): objects of objects of objects whose `value`, `lower_value` and `upper_value` are
/// numbers, the first of them required; names to 1024 characters, slugs to 64.
fn check_bencher(value: &Value) {
    for (name, measures) in value.as_object().unwrap() {
        assert!(!name.is_empty() && name.chars().count() <= 1024);
        for (slug, metric) in measures.as_object().unwrap() {
            assert!(slug.len() <= 64 && slug.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{slug}");
            let metric = metric.as_object().unwrap();
            assert!(metric["value"].is_number());
            assert!(metric.iter().all(|(k, v)| ["value", "lower_value", "upper_value"].contains(&k.as_str()) && v.is_number()));
            if let (Some(lo), Some(hi)) = (metric.get("lower_value"), metric.get("upper_value")) {
                assert!(lo.as_f64() <= metric["value"].as_f64() && metric["value"].as_f64() <= hi.as_f64());
            }
        }
    }
}

/// What github-action-benchmark reads of `customSmallerIsBetter`: a list of objects with a string `name`, a string `unit` and a number
/// `value`, and maybe strings `range` and `extra`.
fn check_benchmark_action(value: &Value) {
    let list = value.as_array().unwrap();
    let mut names: Vec<&str> = list.iter().map(|e| e["name"].as_str().unwrap()).collect();
    for entry in list {
        assert!(entry["unit"].is_string() && entry["value"].as_f64().is_some_and(|v| v >= 0.0));
        let known = ["name", "unit", "value", "range", "extra"];
        assert!(entry.as_object().unwrap().iter().all(|(k, v)| known.contains(&k.as_str()) && (k == "value" || v.is_string())));
    }
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "a name is a series");
}

#[test]
fn series_for_others() {
    let run = run(3, 1.0);
    check_bencher(&bencher(&run));
    check_benchmark_action(&benchmark_action(&run));
    let latency = bencher(&run)["a.onnx [simulated energy]"]["latency"]["value"].as_f64().unwrap();
    assert!((latency / 0.5e6 - 1.0).abs() < 0.05, "nanoseconds: {latency}");
    let wrong = benchmark_action(&run).as_array().unwrap().iter().find(|e| e["name"] == "a.onnx: wrong answers").unwrap()["value"].clone();
    assert!((wrong.as_f64().unwrap() - 7.92).abs() < 1e-9);
    assert!(benchmark_action(&run)[0]["extra"].as_str().unwrap().contains("simulated counter"));
}

proptest! {
    #[test]
    fn any_name_of_a_model_is_well_formed_everywhere(name in "\\PC{0,20}[\u{0}-\u{1f}<&\"'|:%]{0,5}\\PC{0,10}") {
        let outcome = outcome(1.2, &format!("{name}.x"));
        check_junit(&parse(&junit(&outcome)));
        prop_assert!(annotations(&outcome).lines().all(|l| l.starts_with("::")));
        for line in markdown(&outcome).lines().filter(|l| l.starts_with('|')) {
            let bars = line.replace("\\\\", "").replace("\\|", "").matches('|').count();
            prop_assert!(bars == 9 || bars == 4, "{}", line);
        }
    }
}
