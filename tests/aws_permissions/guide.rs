//! The guide says what the trials prove.

use libtest_mimic::{Failed, Trial};

use super::operations::{self, Operation};

const GUIDE: &str = include_str!("../../docs/permissions.md");

pub(crate) fn trial() -> Trial {
    Trial::test("the_guide_names_what_every_operation_needs", || {
        let (aws, _) = GUIDE.split_once("\n# Google Cloud\n").expect("the guide has a part for each provider");
        let missing: Vec<String> = operations::all().filter_map(|operation| lacks(aws, operation)).collect();
        if missing.is_empty() { Ok(()) } else { Err(Failed::from(missing.join("\n"))) }
    })
}

/// What the operation's row of the guide does not say.
fn lacks(guide: &str, operation: &Operation) -> Option<String> {
    let name = operation.name.split([' ', ',']).next().unwrap_or_default();
    let Some(row) = guide.lines().find(|line| line.starts_with(&format!("| `{name}` |"))) else {
        return Some(format!("no row for {name}"));
    };
    let missing: Vec<&str> =
        operation.needs.iter().copied().filter(|need| !row.contains(&format!("`{need}`"))).collect();
    (!missing.is_empty()).then(|| format!("the row of {name} lacks {missing:?}"))
}
