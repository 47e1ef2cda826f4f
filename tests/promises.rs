//! Every test that docs/reliability.md names is there, and every promise names one.
#![allow(clippy::print_stdout, reason = "the test prints its counts")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

const PAGE: &str = include_str!("../docs/reliability.md");

/// Names of functions, of trials part by part, and of the files that they are in.
fn collect(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        names.insert(path.file_stem().unwrap().to_string_lossy().into_owned());
        if path.is_dir() {
            collect(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(path).unwrap();
            let word = |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned);
            names.extend(text.split("fn ").skip(1).filter_map(word));
            let is_trial = |text: &&str| text.contains('_') && !text.contains(char::is_whitespace);
            names.extend(text.split('"').filter(is_trial).flat_map(|text| text.split("::")).map(str::to_owned));
        }
    }
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether it names a test, or what comes before or after a few words of one.
fn is_a_name(text: &str) -> bool {
    let is_path = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:…".contains(c));
    is_path && (text.contains("::") || text.contains('…') || text.matches('_').count() >= 3)
}

fn is_there(name: &str, names: &BTreeSet<String>) -> bool {
    name.split("::").all(|part| match part.split_once('…') {
        None => names.contains(part),
        Some((start, rest)) => {
            let end = rest.rsplit('…').next().unwrap();
            let inner = rest.split('…').next().unwrap();
            names.iter().any(|name| name.starts_with(start) && name.contains(inner) && name.ends_with(end))
        }
    })
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let (root, mut names) = (Path::new(env!("CARGO_MANIFEST_DIR")), BTreeSet::new());
    for directory in ["src", "tests"] {
        collect(&root.join(directory), &mut names);
    }
    let named: BTreeSet<&str> = quoted(PAGE).filter(|text| is_a_name(text)).collect();
    let missing: Vec<_> = named.iter().filter(|name| !is_there(name, &names)).collect();
    println!("{} tests are named", named.len());
    assert!(named.len() > 70 && missing.is_empty(), "not there: {missing:?}");
    let other = "rules::a_redirect_is_not_followed".replace("not_", "");
    assert!(!is_there(&other, &names), "{other} is not there");
}

#[test]
fn every_promise_names_what_proves_it() {
    let tables = PAGE.split("\n\n").filter(|part| part.starts_with("| promise |"));
    let rows: Vec<&str> = tables.flat_map(|table| table.lines().skip(2)).collect();
    assert!(rows.len() > 40, "{} promises", rows.len());
    let bare: Vec<_> = rows.iter().filter(|row| quoted(row.rsplit(" | ").next().unwrap()).next().is_none()).collect();
    assert!(bare.is_empty(), "without a proof: {bare:?}");
}
