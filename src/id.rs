//! Names and ids: validated newtypes, so that a wrong name fails before anything is sent.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::random;
use crate::{Error, ErrorKind, Result};

/// The longest object key, in bytes of UTF-8: the limit of
/// [S3](https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html) and of
/// [Cloud Storage](https://cloud.google.com/storage/docs/objects#naming).
pub const MAX_KEY_BYTES: usize = 1024;
/// The longest secret name: the limit of
/// [Secret Manager](https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/create).
pub const MAX_SECRET_NAME_BYTES: usize = 255;
/// The longest job name: the limit of
/// [Cloud Run](https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs/create).
pub const MAX_JOB_NAME_BYTES: usize = 63;

fn invalid(operation: &'static str, subject: &str, message: impl Into<String>) -> Error {
    let shown: String = subject.chars().take(80).flat_map(char::escape_debug).collect();
    Error::new(ErrorKind::InvalidInput, operation, shown, message)
}

macro_rules! string_newtype {
    ($name:ident) => {
        string_newtype!($name, |text: String| text);
    };
    // What is kept in `Arc<str>`, because it is cloned more often than it is made.
    ($name:ident shared) => {
        string_newtype!($name, |text: Arc<str>| String::from(&*text));
    };
    ($name:ident, $into_string:expr) => {
        impl $name {
            /// The text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }
        impl TryFrom<&str> for $name {
            type Error = Error;
            fn try_from(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                $into_string(value.0)
            }
        }
    };
}

/// The name of an object: 1 to 1024 bytes of UTF-8, taken exactly as given.
///
/// Slashes have no meaning beyond listing by delimiter; `//`, a leading or trailing `/`, `.`, `..` and `%2F` are
/// ordinary characters and round-trip on every provider. Carriage return, line feed and NUL are refused, as
/// [Cloud Storage](https://cloud.google.com/storage/docs/objects#naming) does, and so are `.` and `..` as a whole
/// key and keys that start with `.well-known/acme-challenge/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectKey(String);
string_newtype!(ObjectKey);

impl ObjectKey {
    /// Checks and wraps a key.
    ///
    /// # Errors
    /// `InvalidInput` for a key that is empty, too long or has characters that a provider refuses.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let problem = if text.is_empty() {
            "a key has at least one byte".to_owned()
        } else if text.len() > MAX_KEY_BYTES {
            format!("a key has at most {MAX_KEY_BYTES} bytes, this one {}", text.len())
        } else if text.contains(['\r', '\n', '\0']) {
            "a key has no carriage return, line feed or NUL".to_owned()
        } else if text == "." || text == ".." || text.starts_with(".well-known/acme-challenge/") {
            "Cloud Storage reserves this key".to_owned()
        } else {
            return Ok(Self(text));
        };
        Err(invalid("object_key", &text, problem))
    }

    /// Checks and wraps a key given as bytes.
    ///
    /// # Errors
    /// `InvalidInput` for bytes that are not UTF-8, and as for [`new`](Self::new).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::new(text),
            Err(error) => Err(invalid(
                "object_key",
                &String::from_utf8_lossy(bytes),
                format!("a key is UTF-8, byte {} is not", error.valid_up_to()),
            )),
        }
    }
}

/// The name of a secret: 1 to 255 characters of `[A-Za-z0-9_-]`, the set that every provider takes.
///
/// A name that ends in a hyphen and six letters or digits is refused: Secrets Manager
/// [cannot tell it from a partial ARN](https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(Arc<str>);
string_newtype!(SecretName shared);

impl SecretName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// `InvalidInput` for a name that a provider would refuse or confuse.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let problem = if text.is_empty() || text.len() > MAX_SECRET_NAME_BYTES {
            format!("a secret's name has 1 to {MAX_SECRET_NAME_BYTES} characters")
        } else if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
            "a secret's name is made of letters, digits, `_` and `-`".to_owned()
        } else if looks_like_arn_suffix(&text) {
            "a secret's name must not end in a hyphen and six letters or digits: AWS takes that for part of an ARN"
                .to_owned()
        } else {
            return Ok(Self(text.into()));
        };
        Err(invalid("secret_name", &text, problem))
    }
}

fn looks_like_arn_suffix(text: &str) -> bool {
    text.rsplit_once('-').is_some_and(|(_, tail)| tail.len() == 6 && tail.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// The name of a job definition: a task family, a Cloud Run job, an entry of the local job file.
///
/// 1 to 63 characters of `[a-z0-9-]`, starting with a letter and not ending in a hyphen.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobName(String);
string_newtype!(JobName);

impl JobName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// `InvalidInput` for a name that a provider would refuse.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let ok = (1..=MAX_JOB_NAME_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-');
        if ok {
            return Ok(Self(text));
        }
        Err(invalid(
            "job_name",
            &text,
            "a job's name has 1 to 63 characters of a-z, 0-9 and `-`, starts with a letter and ends in no hyphen",
        ))
    }
}

macro_rules! opaque_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);
        string_newtype!($name shared);
        impl $name {
            /// Wraps an id that a provider gave.
            ///
            /// # Errors
            /// `InvalidInput` for an empty or overlong id, and for one with white space or control characters.
            pub fn new(text: impl Into<String>) -> Result<Self> {
                let text = text.into();
                if text.is_empty() || text.len() > $max || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
                    return Err(invalid($what, &text, concat!("1 to ", $max, " characters without white space")));
                }
                Ok(Self(text.into()))
            }
        }
    };
}

opaque_id!(
    /// The id of one execution of a job, opaque, as the runner gave it. Keep it as text to find the execution again.
    ExecutionId, "execution_id", 2048
);
opaque_id!(
    /// The id of one version of a secret, opaque.
    SecretVersionId, "secret_version_id", 128
);
opaque_id!(
    /// A name that points to one version of a secret: a staging label on AWS, an alias on Google Cloud.
    ///
    /// Portable aliases are 1 to 63 characters of letters, digits, `_` and `-` and start with a letter.
    SecretAlias, "secret_alias", 63
);
opaque_id!(
    /// The caller's own key for one logical submission of a job: the same key and attempt never run twice.
    IdempotencyKey, "idempotency_key", 256
);

impl IdempotencyKey {
    /// A key that nobody else has.
    #[must_use]
    pub fn random() -> Self {
        Self(random::uuid().into())
    }
}

/// The id of one logical write, the same over all its attempts, by which a lost answer is recognised later.
///
/// A UUID in its usual text form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WriteId(String);
string_newtype!(WriteId);

impl WriteId {
    /// Wraps an id that was kept from an earlier call.
    ///
    /// # Errors
    /// `InvalidInput` for anything but 32 to 64 characters of `[0-9A-Za-z-]`.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if (32..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Ok(Self(text));
        }
        Err(invalid("write_id", &text, "32 to 64 letters, digits and hyphens"))
    }

    /// An id that nobody else has.
    #[must_use]
    pub fn random() -> Self {
        Self(random::uuid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_exactly_as_given() {
        for key in ["a//b", "/a", "a/", "a/../b", "%2F", "ä☃", " ", "a\tb"] {
            assert_eq!(ObjectKey::new(key).unwrap().as_str(), key);
        }
    }

    #[test]
    fn keys_that_a_provider_refuses_are_invalid_input() {
        let long = "k".repeat(MAX_KEY_BYTES + 1);
        for key in ["", "..", ".", "a\nb", "a\0b", ".well-known/acme-challenge/x", &long] {
            assert_eq!(ObjectKey::new(key).unwrap_err().kind(), ErrorKind::InvalidInput, "{key:?}");
        }
        assert_eq!(ObjectKey::from_bytes(b"a\xff").unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn secret_names_are_the_portable_set() {
        assert!(SecretName::new("db-password_1").is_ok());
        for name in ["", "a/b", "a.b", "../x", "db-AbC123", &"n".repeat(256)] {
            assert!(SecretName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn job_names_are_the_portable_set() {
        assert!(JobName::new("mmm-train").is_ok());
        for name in ["", "Train", "1train", "train-", "a_b", &"j".repeat(64)] {
            assert!(JobName::new(name).is_err(), "{name}");
        }
    }
}
