//! Service Account Credentials.
//!
//! <https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts>

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::failure::Failure;
use super::super::wire::{Call, Reply, duration};
use super::{Identity, TOKEN_LIFE};

/// The account of the path, if the caller may act as it.
fn account<'a>(identity: &Identity, call: &'a Call, permission: &str) -> Result<&'a str, Failure> {
    let caller = identity.principal(&call.headers)?;
    let project = call.path.first().map_or("", String::as_str);
    let account = call.path.get(1).map_or("", String::as_str);
    if project != "-" {
        return Err(Failure::invalid("The project of a service account is given as `-`."));
    }
    if identity.may_act_as(&caller, account) {
        return Ok(account);
    }
    Err(Failure::denied(format!("Permission '{permission}' denied on resource (or it may not exist).")))
}

/// <https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signBlob>
pub(super) fn sign_blob(identity: &Identity, call: &Call) -> Result<Reply, Failure> {
    let account = account(identity, call, "iam.serviceAccounts.signBlob")?;
    let body = call.json()?;
    let payload = body.get("payload").and_then(Value::as_str).and_then(|text| BASE64_STANDARD.decode(text).ok());
    let payload = payload.ok_or_else(|| Failure::invalid("The payload is not base64."))?;
    let (id, signature) = identity.sign(account, &payload)?;
    Ok(Reply::json(&json!({"keyId": id, "signedBlob": signature})))
}

/// <https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken>
pub(super) fn generate_access_token(identity: &Identity, call: &Call) -> Result<Reply, Failure> {
    let account = account(identity, call, "iam.serviceAccounts.getAccessToken")?;
    let body = call.json()?;
    let scopes = body.get("scope").and_then(Value::as_array).is_some_and(|scopes| !scopes.is_empty());
    if !scopes {
        return Err(Failure::invalid("Scopes are required."));
    }
    let lifetime = match body.get("lifetime").and_then(Value::as_str) {
        Some(text) => duration(text).filter(|lifetime| *lifetime <= TOKEN_LIFE),
        None => Some(TOKEN_LIFE),
    };
    let lifetime = lifetime.ok_or_else(|| Failure::invalid("The lifetime is at most 3600s."))?;
    let end = Timestamp::now() + SignedDuration::try_from(lifetime).unwrap_or_default();
    // In whole seconds, as the service writes it.
    let end = end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Ok(Reply::json(&json!({"accessToken": identity.issue(account), "expireTime": end})))
}
