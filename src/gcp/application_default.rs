//! What the application default credentials are, as far as signing has to know.
//!
//! The auth crate finds and uses them; which account they are, it tells of some kinds only. The places are those of
//! <https://google.aip.dev/auth/4110>.

use std::path::PathBuf;

use serde_json::Value;

use crate::config::process_variable;
use crate::{Error, ErrorKind, Result};

/// The kinds of credentials, by how they sign.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// A service account whose key is in the file.
    Key(Value),
    /// A service account that others act as.
    Account(String),
    /// The service account of the machine.
    Machine,
    /// A person, or a federated identity that acts as no service account; the type in the file.
    Nobody(String),
}

/// Finds and reads the file.
///
/// # Errors
/// `Unauthenticated` for a file that is named and cannot be read, or that makes no sense.
pub(super) fn identity() -> Result<Identity> {
    let named = process_variable("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from);
    let well_known = || {
        process_variable("HOME")
            .map(|home| PathBuf::from(home).join(".config/gcloud/application_default_credentials.json"))
    };
    let Some(path) = named.clone().or_else(well_known) else { return Ok(Identity::Machine) };
    match std::fs::read(&path) {
        Ok(text) => of_file(&text).ok_or_else(|| unusable("is not a file of credentials")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(Identity::Machine),
        Err(error) => Err(unusable(&format!("cannot be read: {}", error.kind()))),
    }
}

fn unusable(why: &str) -> Error {
    let message = format!("the file of the application default credentials {why}");
    Error::new(ErrorKind::Unauthenticated, "gcp.signer", "application default", message)
}

fn of_file(text: &[u8]) -> Option<Identity> {
    let file: Value = serde_json::from_slice(text).ok()?;
    let kind = file.get("type")?.as_str()?.to_owned();
    if kind == "service_account" {
        return Some(Identity::Key(file));
    }
    Some(match file.get("service_account_impersonation_url").and_then(Value::as_str) {
        Some(url) => Identity::Account(account_of(url)?.to_owned()),
        None => Identity::Nobody(kind),
    })
}

/// The account of `https://iamcredentials.…/serviceAccounts/EMAIL:generateAccessToken`.
fn account_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("/serviceAccounts/")?;
    rest.strip_suffix(":generateAccessToken").filter(|email| !email.is_empty() && !email.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_file_is_told_apart() {
        let of = |text: &str| of_file(text.as_bytes());
        assert!(matches!(of(r#"{"type": "service_account", "client_email": "a@b"}"#), Some(Identity::Key(_))));
        let impersonated = r#"{"type": "impersonated_service_account", "service_account_impersonation_url":
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@b.test:generateAccessToken"}"#;
        assert_eq!(of(impersonated), Some(Identity::Account("a@b.test".into())));
        assert_eq!(
            of(&impersonated.replace("impersonated_service", "external")),
            Some(Identity::Account("a@b.test".into()))
        );
        assert_eq!(of(r#"{"type": "external_account"}"#), Some(Identity::Nobody("external_account".into())));
        assert_eq!(of(r#"{"type": "authorized_user"}"#), Some(Identity::Nobody("authorized_user".into())));
        for text in ["", "[]", r#"{"type": 1}"#, r#"{"type": "x", "service_account_impersonation_url": "https://x"}"#] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
