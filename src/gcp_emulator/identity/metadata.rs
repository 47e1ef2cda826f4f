//! The metadata server of a machine.
//!
//! <https://cloud.google.com/compute/docs/metadata/querying-metadata>,
//! <https://cloud.google.com/run/docs/container-contract#metadata-server>

use axum::http::StatusCode;
use serde_json::json;

use super::super::failure::Failure;
use super::super::wire::{Call, Reply};
use super::{Identity, TOKEN_LIFE};

const FLAVOR: &str = "metadata-flavor";

pub(super) fn call(identity: &Identity, call: &Call) -> Result<Reply, Failure> {
    // Requests that something passed on, or that a page made a browser send, are refused.
    if call.header(FLAVOR) != Some("Google") || call.header("x-forwarded-for").is_some() {
        return Ok(text(StatusCode::FORBIDDEN, "Missing Metadata-Flavor:Google header."));
    }
    let place = identity.config.place.as_ref();
    let account = identity.config.accounts.first();
    let found = match call.id {
        "metadata.project" => place.map(|(project, _)| project.clone()),
        "metadata.region" => place.map(|(_, region)| format!("projects/123456/regions/{region}")),
        "metadata.universe" => Some("googleapis.com".to_owned()),
        "metadata.email" => account.cloned(),
        "metadata.token" => account.map(|account| {
            let token = identity.issue(account);
            json!({"access_token": token, "expires_in": TOKEN_LIFE.as_secs(), "token_type": "Bearer"}).to_string()
        }),
        _ => None,
    };
    Ok(match found {
        Some(found) => text(StatusCode::OK, &found),
        None => text(StatusCode::NOT_FOUND, "Not Found"),
    })
}

fn text(status: StatusCode, body: &str) -> Reply {
    let kind = if body.starts_with('{') { "application/json" } else { "application/text" };
    let mut reply = Reply::empty(status).with(FLAVOR, "Google").with("content-type", kind);
    reply.body = body.to_owned().into();
    reply
}
