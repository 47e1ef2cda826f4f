//! JSON Web Tokens that a service account signs itself.
//!
//! <https://developers.google.com/identity/protocols/oauth2/service-account#authorizingrequests>

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

/// The longest life: an hour, and the half minute by which clients allow for clocks.
const LONGEST: i64 = 3600 + 30;
const CLOCK_SKEW: i64 = 30;

/// What a token with a valid signature says.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    #[serde(rename = "iss")]
    pub(super) issuer: String,
    pub(super) scope: Option<String>,
    #[serde(rename = "aud")]
    pub(super) audience: Option<String>,
    #[serde(rename = "iat")]
    issued: i64,
    #[serde(rename = "exp")]
    expires: i64,
}

/// The claims, if a key of the issuer signed them and the time is right.
pub(super) fn verify(token: &str, keys: impl Fn(&str) -> Vec<Vec<u8>>) -> Option<Claims> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (head, body) = signed.split_once('.')?;
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
    let head: Value = serde_json::from_slice(&decode(head)?).ok()?;
    let claims: Claims = serde_json::from_slice(&decode(body)?).ok()?;
    let signature = decode(signature)?;
    let valid = keys(&claims.issuer).iter().any(|key| {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(signed.as_bytes(), &signature).is_ok()
    });
    let now = jiff::Timestamp::now().as_second();
    let in_time = claims.issued <= now + CLOCK_SKEW
        && now < claims.expires
        && (1..=LONGEST).contains(&(claims.expires - claims.issued));
    (head["alg"] == "RS256" && valid && in_time).then_some(claims)
}
