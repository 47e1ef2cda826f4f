use std::fmt;

use crate::object_store::Version;
use crate::{Error, ErrorKind, Result};

const PROVIDER: &str = "gcp";

pub(super) fn version(generation: i64) -> Version {
    Version::new(PROVIDER, generation.to_string())
}

/// The generation that a version stands for.
pub(super) fn generation(version: &Version, operation: &'static str, subject: impl fmt::Display) -> Result<i64> {
    let token = version.token_for(PROVIDER, operation, &subject)?;
    token.parse().ok().filter(|generation| *generation > 0).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, operation, subject, "the version is no generation of Cloud Storage")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_positive_generation() {
        assert_eq!(generation(&version(17), "t", "x").unwrap(), 17);
        // 0 would mean "no object" to the service.
        for token in ["0", "-1", "", "1a", "1&x=2"] {
            assert!(generation(&Version::new(PROVIDER, token), "t", "x").is_err(), "{token}");
        }
    }
}
