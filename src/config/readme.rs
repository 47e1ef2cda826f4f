//! Keeps the README true.

use super::VARIABLES;

#[test]
fn the_readme_lists_exactly_the_variables_that_are_read() {
    let readme = include_str!("../../README.md");
    let (_, table) = readme.split_once("<!-- variables -->\n").expect("the README marks its table");
    let (table, _) = table.split_once("<!-- /variables -->").expect("the README marks its table");
    let rows: Vec<String> =
        VARIABLES.iter().map(|variable| format!("| `{}` | {} |", variable.name, variable.about)).collect();
    let expected = format!("| variable | sets |\n|---|---|\n{}\n", rows.join("\n"));
    assert_eq!(table, expected, "the table should read:\n{expected}");
}
