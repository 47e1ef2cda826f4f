//! The Security Token Service, which takes tokens of other identity providers.
//!
//! <https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token>

use serde_json::json;

use super::super::wire::{Call, Reply, query_pairs};
use super::{Identity, TOKEN_LIFE, refused};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const SUBJECT_TOKENS: [&str; 2] = ["urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"];

pub(super) fn token(identity: &Identity, call: &Call) -> Reply {
    let form = query_pairs(&String::from_utf8_lossy(&call.body));
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    if field("grant_type") != GRANT {
        return refused("unsupported_grant_type", "The grant_type is invalid.");
    }
    if field("requested_token_type") != ACCESS_TOKEN || !SUBJECT_TOKENS.contains(&field("subject_token_type")) {
        return refused("invalid_request", "The type of a token is invalid.");
    }
    if field("scope").is_empty() {
        return refused("invalid_scope", "Scopes are required for this audience.");
    }
    let known = &identity.config.federated;
    let Some(pool) = known.iter().find(|token| token.audience == field("audience")) else {
        return refused("invalid_target", "The target service indicated by the audience parameters is invalid.");
    };
    let known =
        known.iter().find(|token| token.audience == pool.audience && token.subject_token == field("subject_token"));
    let Some(known) = known else {
        return refused("invalid_grant", "The subject token is not one that the provider has signed.");
    };
    Reply::json(&json!({
        "access_token": identity.issue(&known.principal),
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": TOKEN_LIFE.as_secs(),
    }))
}
