//! What the README says is what the program does.

use crate::support::{joulefront, repository};
use joulefront::search::SweepConfig;

/// The contents of a document's code blocks in the given language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(repository(document)).unwrap();
    let fence = format!("```{language}\n");
    readme.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_settings_shown_are_the_defaults() {
    let shown: Vec<String> = blocks("README.md", "toml").into_iter().filter(|b| b.contains("[space]")).collect();
    assert_eq!(shown.len(), 1);
    assert_eq!(SweepConfig::from_toml(&shown[0], "README.md").unwrap(), SweepConfig::default());
}

#[test]
fn the_budget_shown_is_one() {
    let shown = blocks("docs/GATE.md", "toml").into_iter().find(|b| b.starts_with("[budget]")).unwrap();
    joulefront::gate::Budgets::from_toml(&shown).unwrap();
}

#[test]
fn every_command_shown_has_the_options_it_uses() {
    let mut count = 0;
    for block in ["README.md", "docs/GATE.md", "docs/ENGINES.md"].iter().flat_map(|document| blocks(document, "sh")) {
        for line in block.replace("\\\n", " ").lines() {
            // Everything up to a comment, a pipe, a redirection or the next command.
            let command = line.split(['#', '|', '>', '&', ';']).next().unwrap().trim();
            let Some(words) = command.strip_prefix("joulefront ") else { continue };
            let mut words: Vec<&str> = words.split_whitespace().map(|w| w.trim_matches(['\'', '"'])).collect();
            words.push("--help");
            let out = joulefront(&words);
            assert_eq!(out.code, Some(0), "{command}: {}", out.stderr);
            count += 1;
        }
    }
    assert!(count >= 10, "only {count} commands were found");
}
