//! The house rule of `src/lib.rs`: a module does not know those that stand in a later block.

use crate::support::repository;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Names at the crate's root that are re-exported from a module.
const REEXPORTED: [(&str, &str); 4] = [("Error", "error"), ("ErrorKind", "error"), ("Result", "error"), ("runner", "engine")];

/// Block number of each module; modules in one block (no blank line between) may know each other.
fn blocks(lib: &str) -> HashMap<String, usize> {
    let mut blocks = HashMap::new();
    let mut block = 0;
    for line in lib.lines().map(str::trim) {
        match line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ").and_then(|l| l.strip_suffix(';')) {
            Some(name) => drop(blocks.insert(name.to_owned(), block)),
            None if line.is_empty() => block += 1,
            None => {}
        }
    }
    blocks
}

/// All Rust files below `dir`, but for those that hold tests.
fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        match path.is_dir() {
            _ if stem == "tests" => {}
            true => sources(&path, out),
            false if path.extension().is_some_and(|e| e == "rs") => out.push(path),
            false => {}
        }
    }
}

/// The code with comments and `#[cfg(test)]` modules blanked, lines kept.
fn code(text: &str) -> String {
    let mut out = String::new();
    let (mut after_cfg, mut inside) = (false, false);
    for line in text.lines() {
        if inside {
            inside = line != "}";
        } else if line.trim_start().starts_with("#[cfg(test)]") {
            after_cfg = true;
        } else if after_cfg && line.starts_with("mod ") && line.ends_with('{') {
            (after_cfg, inside) = (false, true);
        } else {
            // An attribute may stand between; an item other than a module is skipped as a line.
            if !after_cfg {
                out.push_str(line.split("//").next().unwrap());
            }
            after_cfg = after_cfg && line.trim_start().starts_with("#[");
        }
        out.push('\n');
    }
    out
}

/// First segments of all `crate::` paths, with the byte where each stands.
fn paths(code: &str) -> Vec<(usize, String)> {
    let segment = |at: usize| code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (start, _) in code.match_indices("crate::") {
        let at = start + "crate::".len();
        if !code[at..].starts_with('{') {
            found.push((start, segment(at)));
            continue;
        }
        let (mut depth, mut expect) = (0, false);
        for (i, c) in code[at..].char_indices() {
            match c {
                '{' => (depth, expect) = (depth + 1, depth == 0),
                '}' => depth -= 1,
                ',' => expect = depth == 1,
                c if c.is_whitespace() => {}
                _ if expect => {
                    found.push((at + i, segment(at + i)));
                    expect = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

fn violations(file: &str, text: &str, blocks: &HashMap<String, usize>) -> Vec<String> {
    let own = file.strip_prefix("src/").unwrap().split(['/', '.']).next().unwrap();
    let Some(&block) = blocks.get(own) else { return Vec::new() };
    let code = code(text);
    let complaint = |(at, name): (usize, String)| {
        let line = code[..at].matches('\n').count() + 1;
        let module = REEXPORTED.iter().find(|(n, _)| *n == name).map_or(name.as_str(), |(_, m)| m);
        match blocks.get(module) {
            Some(&other) if other <= block => None,
            Some(_) => Some(format!("{file}:{line}: `{own}` uses `{module}`, which stands later in src/lib.rs")),
            None => Some(format!("{file}:{line}: `crate::{name}` is no module of src/lib.rs")),
        }
    };
    paths(&code).into_iter().filter_map(complaint).collect()
}

#[test]
fn modules_know_only_what_stands_before_them() {
    let lib = std::fs::read_to_string(repository("src/lib.rs")).unwrap();
    let blocks = blocks(&lib);
    assert!(blocks["onnx"] < blocks["model"] && blocks["report"] < blocks["cli"]);
    let mut files = Vec::new();
    sources(&repository("src"), &mut files);
    files.sort();
    assert!(files.len() > 50);
    let found: Vec<String> = files
        .iter()
        .flat_map(|f| {
            let name = f.strip_prefix(repository("")).unwrap().to_str().unwrap();
            violations(name, &std::fs::read_to_string(f).unwrap(), &blocks)
        })
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_violation_would_be_found() {
    let blocks = blocks("mod error;\npub mod units;\n\npub mod onnx;\n\npub mod model;\n");
    let check = |text: &str| violations("src/onnx/mod.rs", text, &blocks);
    assert!(check("use crate::{Error, Result, units::{Joules, Watts}};\n// crate::model\nuse crate::onnx::pb;").is_empty());
    assert!(check("#[cfg(test)]\nmod tests {\n    use crate::model::Graph;\n}\n").is_empty());
    assert_eq!(check("\nuse crate::model::Graph;"), ["src/onnx/mod.rs:2: `onnx` uses `model`, which stands later in src/lib.rs"]);
    assert_eq!(
        check("use crate::{\n    Result,\n    model,\n};"),
        ["src/onnx/mod.rs:3: `onnx` uses `model`, which stands later in src/lib.rs"]
    );
    assert_eq!(check("fn f() -> crate::nowhere::X {}").len(), 1);
}
