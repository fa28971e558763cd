//! JUnit XML, in the part of it that Jenkins, GitLab, GitHub's reporters and `xunit` readers agree on: `testsuites`, `testsuite`,
//! `testcase` with `failure` or `skipped`.

use super::super::judge::{Basis, Finding};
use super::super::outcome::{Outcome, basis, change, limit};
use super::escape::xml;
use crate::stats::Verdict;

/// One test case.
struct TestCase {
    name: String,
    class: String,
    result: TestResult,
    /// What was found, also where nothing failed.
    text: String,
}

enum TestResult {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Each gated metric and each limit is a test case: a regression is a failure; what could not be compared, or was not measured, is skipped.
pub fn junit(outcome: &Outcome) -> String {
    let regressions: Vec<TestCase> = outcome.findings.iter().filter(|f| f.gated).map(finding).collect();
    let limits: Vec<TestCase> = outcome
        .limits
        .iter()
        .map(|l| {
            let text = format!("{}: {}", l.limit, l.words());
            let result = if outcome.fails(l) { TestResult::Failed(text.clone()) } else { TestResult::Passed };
            TestCase { name: l.limit.to_string(), class: l.key.short(), result, text }
        })
        .collect();
    let suites: Vec<(&str, Vec<TestCase>)> =
        [("regressions", regressions), ("budgets", limits)].into_iter().filter(|(_, cases)| !cases.is_empty()).collect();
    let all = || suites.iter().flat_map(|(_, cases)| cases);
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out += &format!("<testsuites name=\"joulefront gate\"{}>\n", counts(all()));
    for (name, cases) in &suites {
        out += &format!("  <testsuite name=\"{name}\"{} time=\"0\">\n", counts(cases.iter()));
        cases.iter().for_each(|case| out += &element(case));
        out += "  </testsuite>\n";
    }
    out + "</testsuites>\n"
}

fn finding(f: &Finding) -> TestCase {
    let text = format!("{} {}, called from {}; {}", f.metric, change(f), limit(f), basis(f));
    let result = match (f.basis, f.verdict) {
        (Basis::New | Basis::NotMeasured | Basis::Disturbed, _) => TestResult::Skipped(basis(f)),
        (_, Verdict::Worse) => TestResult::Failed(format!("{} is worse: {}", f.metric, change(f))),
        _ => TestResult::Passed,
    };
    TestCase { name: f.metric.name().to_owned(), class: f.key.short(), result, text }
}

fn counts<'a>(cases: impl Iterator<Item = &'a TestCase>) -> String {
    let (mut tests, mut failures, mut skipped) = (0, 0, 0);
    for case in cases {
        tests += 1;
        match case.result {
            TestResult::Passed => {}
            TestResult::Failed(_) => failures += 1,
            TestResult::Skipped(_) => skipped += 1,
        }
    }
    format!(" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\"")
}

fn element(case: &TestCase) -> String {
    let inner = match &case.result {
        TestResult::Passed => format!("      <system-out>{}</system-out>\n", xml(&case.text)),
        TestResult::Failed(why) => format!("      <failure message=\"{}\" type=\"regression\">{}</failure>\n", xml(why), xml(&case.text)),
        TestResult::Skipped(why) => format!("      <skipped message=\"{}\"/>\n", xml(why)),
    };
    format!("    <testcase name=\"{}\" classname=\"{}\" time=\"0\">\n{inner}    </testcase>\n", xml(&case.name), xml(&case.class))
}
