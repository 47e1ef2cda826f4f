use std::fmt;

use crate::Result;
use crate::object_store::Version;

const PROVIDER: &str = "aws";

/// The version that an answer tells of: the ETag and, where the bucket keeps versions, the version id.
pub(super) fn version(etag: &str, version_id: Option<&str>) -> Version {
    match version_id {
        // What was written while versioning was off or suspended has no id of its own.
        None | Some("" | "null") => Version::new(PROVIDER, etag),
        Some(id) => Version::new(PROVIDER, format!("{etag}|{id}")),
    }
}

/// What a version says to S3.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) etag: String,
    pub(super) version_id: Option<String>,
}

pub(super) fn state(version: &Version, operation: &'static str, subject: impl fmt::Display) -> Result<State> {
    let token = version.token_for(PROVIDER, operation, subject)?;
    // An ETag ends in a quotation mark; what a version id may hold is not said.
    Ok(match token.split_once("\"|").map(|(etag, id)| (format!("{etag}\""), id)) {
        Some((etag, id)) => State { etag, version_id: Some(id.to_owned()) },
        None => State { etag: token.to_owned(), version_id: None },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_keeps_the_etag_and_the_version_id() {
        let versioned = version("\"abc-2\"", Some("x|y"));
        let expected = State { etag: "\"abc-2\"".to_owned(), version_id: Some("x|y".to_owned()) };
        assert_eq!(state(&versioned, "t", "x").unwrap(), expected);
        assert_eq!(version("\"abc\"", Some("null")), version("\"abc\"", None));
        assert_eq!(state(&version("\"abc\"", None), "t", "x").unwrap().version_id, None);
    }
}
