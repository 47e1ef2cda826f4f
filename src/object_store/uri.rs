use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorKind, ObjectKey, Result};

/// The kinds of address that an object can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `s3://bucket/key`.
    S3,
    /// `gs://bucket/key`.
    Gs,
    /// `local://bucket/key`.
    Local,
}

impl Scheme {
    /// The text before `://`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Local => "local",
        }
    }
}

/// The address of an object, such as `s3://bucket/path/to/key`. The key is taken exactly as written: nothing is
/// decoded or normalised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectUri {
    /// The kind of store.
    pub scheme: Scheme,
    /// The bucket; for `local` its name under the root.
    pub bucket: String,
    /// The key.
    pub key: ObjectKey,
}

impl fmt::Display for ObjectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.scheme.as_str(), self.bucket, self.key)
    }
}

impl FromStr for ObjectUri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |message: &str| Error::new(ErrorKind::InvalidInput, "object_uri", text, message);
        let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid("an address reads `scheme://bucket/key`"))?;
        let scheme = match scheme {
            "s3" => Scheme::S3,
            "gs" => Scheme::Gs,
            "local" => Scheme::Local,
            _ => return Err(invalid("the scheme is one of `s3`, `gs` and `local`")),
        };
        match rest.split_once('/') {
            Some((bucket, key)) if !bucket.is_empty() => {
                Ok(Self { scheme, bucket: bucket.to_owned(), key: ObjectKey::new(key)? })
            }
            _ => Err(invalid("an address reads `scheme://bucket/key`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_every_provider_parse_and_print_the_same() {
        for text in ["s3://b/a//b", "gs://b/%2F", "local://main/../x"] {
            assert_eq!(text.parse::<ObjectUri>().unwrap().to_string(), text);
        }
        for text in ["b/k", "ftp://b/k", "s3://b", "s3:///k", "gs://b/"] {
            assert_eq!(text.parse::<ObjectUri>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
        }
    }
}
