use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// One state of one object, opaque: an ETag on S3, a generation on Cloud Storage, a sequence number on `local`.
///
/// Equal versions of one key are the same bytes. A version means nothing to another provider, which refuses it. Kept
/// as text by `Display` and read back by `FromStr`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    provider: Cow<'static, str>,
    token: String,
}

impl Version {
    /// A version as a provider knows it.
    #[must_use]
    pub fn new(provider: impl Into<Cow<'static, str>>, token: impl Into<String>) -> Self {
        Self { provider: provider.into(), token: token.into() }
    }

    /// The provider's own token.
    ///
    /// # Errors
    /// `InvalidInput` if the version comes from another provider.
    pub fn token_for(&self, provider: &str, operation: &'static str, subject: impl fmt::Display) -> Result<&str> {
        if self.provider == provider {
            return Ok(&self.token);
        }
        let message = format!("a version of `{}` means nothing to `{provider}`", self.provider);
        Err(Error::new(ErrorKind::InvalidInput, operation, subject, message))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.provider, self.token)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({self})")
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some((provider, token)) if !provider.is_empty() && !token.is_empty() => {
                Ok(Self::new(provider.to_owned(), token))
            }
            _ => Err(Error::new(ErrorKind::InvalidInput, "version", text, "a version reads `provider:token`")),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_survives_as_text_and_is_refused_by_another_provider() {
        let version = Version::new("aws", "\"abc:def\"");
        assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
        assert_eq!(version.token_for("gcp", "t", "x").unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
