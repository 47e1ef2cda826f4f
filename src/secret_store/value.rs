use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Result, SecretName, SecretVersionId};

/// The largest value of a secret: the limit of
/// [Secrets Manager](https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html) and of
/// [Secret Manager](https://cloud.google.com/secret-manager/quotas#content_limits).
pub const MAX_SECRET_BYTES: usize = 65_536;

/// The bytes of a secret: wiped from memory when the last clone is dropped, and shown neither by `Debug` nor by any
/// error, log or span of this crate.
#[derive(Clone)]
pub struct SecretValue(Arc<Zeroizing<Vec<u8>>>);

impl SecretValue {
    /// Takes the bytes over; the buffer is wiped with the value.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes.into())))
    }

    /// The bytes, for the one place that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value as text, for the one place that needs it.
    ///
    /// # Errors
    /// `InvalidFormat` for bytes that are not UTF-8.
    pub fn expose_str(&self) -> Result<&str> {
        std::str::from_utf8(&self.0)
            .map_err(|_| Error::new(ErrorKind::InvalidFormat, "secret_value", "", "the secret is not UTF-8"))
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both hold the same bytes, found in time that depends on their length only.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let (one, two) = (self.expose(), other.expose());
        one.len() == two.len() && one.iter().zip(two).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
    }

    /// Refuses a value that no provider takes.
    ///
    /// # Errors
    /// `InvalidInput` for an empty value, `TooLarge` for one above [`MAX_SECRET_BYTES`].
    pub fn check(&self, operation: &'static str, name: &SecretName) -> Result<()> {
        if self.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, operation, name, "a secret has at least one byte"));
        }
        if self.len() > MAX_SECRET_BYTES {
            let message = format!("a secret has at most {MAX_SECRET_BYTES} bytes, this one {}", self.len());
            return Err(Error::new(ErrorKind::TooLarge, operation, name, message));
        }
        Ok(())
    }
}

impl From<&str> for SecretValue {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

impl From<String> for SecretValue {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<Vec<u8>> for SecretValue {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue([redacted])")
    }
}

/// A secret as it was read: the value, and which version it is.
#[derive(Clone, Debug)]
pub struct Secret {
    /// The name.
    pub name: SecretName,
    /// The version that was read.
    pub version: SecretVersionId,
    /// The value.
    pub value: SecretValue,
    /// When the version was made, if the provider tells with the value.
    pub created: Option<SystemTime>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_the_value_nor_its_length() {
        let secret = Secret {
            name: SecretName::new("db").unwrap(),
            version: SecretVersionId::new("1").unwrap(),
            value: "hunter2".into(),
            created: None,
        };
        let shown = format!("{secret:?}");
        assert!(shown.contains("[redacted]") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn equal_values_are_the_same_and_others_are_not() {
        assert!(SecretValue::from("a").same_as(&"a".into()));
        assert!(!SecretValue::from("a").same_as(&"b".into()) && !SecretValue::from("a").same_as(&"ab".into()));
    }

    #[test]
    fn a_value_over_64_kib_is_too_large() {
        let name = SecretName::new("big").unwrap();
        let at_limit = SecretValue::new(vec![1; MAX_SECRET_BYTES]);
        assert!(at_limit.check("t", &name).is_ok());
        let over = SecretValue::new(vec![1; MAX_SECRET_BYTES + 1]);
        assert_eq!(over.check("t", &name).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}
