//! Google's OAuth 2.0 server, as far as service accounts use it.
//!
//! <https://developers.google.com/identity/protocols/oauth2/service-account#httprest>

use serde_json::json;

use super::super::wire::{Call, Reply, query_pairs};
use super::{Identity, TOKEN_LIFE, refused, token};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// What tokens name as their audience, besides the address of this server.
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";

pub(super) fn token(identity: &Identity, url: &str, call: &Call) -> Reply {
    let form = query_pairs(&String::from_utf8_lossy(&call.body));
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    if field("grant_type") != GRANT {
        return refused("unsupported_grant_type", "Invalid grant_type.");
    }
    let Some(claims) = token::verify(field("assertion"), |account| identity.public_keys(account)) else {
        return refused("invalid_grant", "Invalid JWT Signature.");
    };
    let audience = claims.audience.as_deref().unwrap_or_default();
    if audience != AUDIENCE && audience != format!("{url}/token") {
        return refused("invalid_grant", "Invalid JWT: the audience is not this server.");
    }
    if claims.scope.is_none() {
        return refused("invalid_scope", "Missing required parameter: scope");
    }
    let token = identity.issue(&claims.issuer);
    Reply::json(&json!({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFE.as_secs()}))
}
