//! What the answers of Google's HTTP services mean.
//!
//! Statuses and reasons: <https://cloud.google.com/storage/docs/json_api/v1/status-codes>,
//! <https://cloud.google.com/storage/docs/xml-api/reference-status>.

use std::time::Duration;

use serde::Deserialize;

use crate::call::{Call, Effect};
use crate::http::Answer;
use crate::{Error, ErrorKind};

/// The most of an error's body that is read.
const MAX_ERROR_BYTES: usize = 256 << 10;
/// The most of a service's sentence that is passed on.
const MAX_MESSAGE_CHARS: usize = 500;
/// One object takes about one change a second: <https://cloud.google.com/storage/quotas#objects>
const THROTTLED_PAUSE: Duration = Duration::from_secs(1);

/// What a key of Cloud KMS needs: <https://cloud.google.com/storage/docs/encryption/using-customer-managed-keys>
pub(super) const KEY_ROLE: &str = "the service agent needs the role Cloud KMS CryptoKey Encrypter/Decrypter (roles/cloudkms.cryptoKeyEncrypterDecrypter) \
     on the key";

/// Whether the words of a denial are about a key and not about what was called.
pub(super) fn is_about_key(message: &str) -> bool {
    message.contains("Cloud KMS key") || message.contains("cloudkms.")
}

/// What the body of an error says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    code: Option<String>,
    message: String,
}

/// The error that an answer means.
pub(crate) async fn classify(call: Call<'_>, answer: Answer) -> Error {
    let status = answer.status;
    let request_id = answer.header("x-guploader-uploadid").map(str::to_owned);
    let retry_after = answer.header("retry-after").and_then(crate::retry::retry_after);
    // An error whose body cannot be read is still the error that its status says.
    let body = answer.bytes(MAX_ERROR_BYTES).await.unwrap_or_default();
    let said = said(&String::from_utf8_lossy(&body));
    let kind = kind(status, &said);
    let mut message: String = said.message.chars().take(MAX_MESSAGE_CHARS).collect();
    if kind == ErrorKind::PermissionDenied && is_about_key(&message) {
        message = format!("{KEY_ROLE}: {message}");
    } else if kind == ErrorKind::PermissionDenied {
        message = format!("{} is needed: {message}", call.permission);
    } else if (300..400).contains(&status) && status != 304 {
        message = "the service redirects elsewhere, and credentials follow no redirect".to_owned();
    } else if message.is_empty() {
        message = "the service gave no reason".to_owned();
    }
    let mut error = call.error(kind, message).with_status(status);
    if let Some(code) = said.code {
        error = error.with_code(code);
    }
    if let Some(id) = request_id {
        error = error.with_request_id(id);
    }
    match (kind, retry_after) {
        (ErrorKind::Throttled, asked) => {
            error = error.with_retry_after(asked.unwrap_or_default().max(THROTTLED_PAUSE));
        }
        (_, Some(asked)) => error = error.with_retry_after(asked),
        (_, None) => {}
    }
    if call.effect == Effect::Changes && (status >= 500 || status == 408) {
        error = error.with_may_have_applied();
    }
    error
}

fn kind(status: u16, said: &Said) -> ErrorKind {
    let code = said.code.as_deref().unwrap_or_default();
    match (status, code) {
        (304, _) => ErrorKind::NotModified,
        (400, "BadDigest") => ErrorKind::Corrupt,
        // The JSON API has no reason of its own for it: https://cloud.google.com/storage/docs/data-validation
        (400, _) if said.message.contains("hash") && said.message.contains("match") => ErrorKind::Corrupt,
        (400, "EntityTooLarge") => ErrorKind::TooLarge,
        (400 | 405 | 411, _) => ErrorKind::InvalidInput,
        (401, _) => ErrorKind::Unauthenticated,
        (403, "rateLimitExceeded" | "userRateLimitExceeded" | "SlowDown") => ErrorKind::Throttled,
        (403, "quotaExceeded" | "insufficientQuota") => ErrorKind::ResourceExhausted,
        (402 | 403, _) => ErrorKind::PermissionDenied,
        (404, "NoSuchBucket") => ErrorKind::InvalidConfig,
        (404, _) if said.message.starts_with("The specified bucket does not exist") => ErrorKind::InvalidConfig,
        (404 | 410, _) => ErrorKind::NotFound,
        (409, _) => ErrorKind::Conflict,
        (412, _) => ErrorKind::PreconditionFailed,
        (413, _) => ErrorKind::TooLarge,
        (416, _) => ErrorKind::RangeNotSatisfiable,
        (429, _) => ErrorKind::Throttled,
        (501, _) => ErrorKind::Unsupported,
        (408 | 500.., _) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

/// The JSON API's errors: `{"error": {"code": 404, "message": "…", "errors": [{"reason": "notFound"}]}}`.
#[derive(Deserialize)]
struct JsonError {
    error: JsonErrorBody,
}

#[derive(Deserialize)]
struct JsonErrorBody {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<JsonReason>,
    status: Option<String>,
}

#[derive(Deserialize)]
struct JsonReason {
    reason: Option<String>,
}

fn said(body: &str) -> Said {
    if let Ok(JsonError { error }) = serde_json::from_str::<JsonError>(body) {
        let reason = error.errors.into_iter().find_map(|reason| reason.reason);
        return Said { code: reason.or(error.status).filter(|code| !code.is_empty()), message: error.message };
    }
    // The XML API's errors: `<Error><Code>NoSuchKey</Code><Message>…</Message><Details>…</Details></Error>`.
    if body.contains("<Error>") {
        let message = match (element(body, "Message"), element(body, "Details")) {
            (Some(message), Some(details)) => format!("{message} {details}"),
            (one, other) => one.or(other).unwrap_or_default(),
        };
        return Said { code: element(body, "Code"), message };
    }
    // Resumable uploads and proxies answer in plain text; a web page says nothing.
    let plain = body.trim();
    Said { code: None, message: if plain.starts_with('<') { String::new() } else { plain.to_owned() } }
}

/// The text of the first element of this name, entities resolved.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    Some(text.replace("&#39;", "'").replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str) -> (ErrorKind, Option<String>) {
        let said = said(body);
        (kind(status, &said), said.code)
    }

    #[test]
    fn both_apis_tell_a_missing_bucket_from_a_missing_object() {
        let xml =
            "<?xml version='1.0'?><Error><Code>NoSuchBucket</Code><Message>a &lt;b&gt; &amp;amp;</Message></Error>";
        assert_eq!(judged(404, xml), (ErrorKind::InvalidConfig, Some("NoSuchBucket".to_owned())));
        assert_eq!(said(xml).message, "a <b> &amp;");
        let json = r#"{"error":{"code":404,"message":"The specified bucket does not exist.","errors":[{"reason":"notFound"}]}}"#;
        assert_eq!(judged(404, json), (ErrorKind::InvalidConfig, Some("notFound".to_owned())));
        let json = r#"{"error":{"code":404,"message":"No such object: b/k","errors":[{"reason":"notFound"}]}}"#;
        assert_eq!(judged(404, json).0, ErrorKind::NotFound);
    }

    /// <https://cloud.google.com/storage/docs/json_api/v1/status-codes>
    #[test]
    fn rate_limits_and_quotas_are_no_denials() {
        let json = |reason: &str| format!(r#"{{"error":{{"message":"m","errors":[{{"reason":"{reason}"}}]}}}}"#);
        assert_eq!(judged(403, &json("rateLimitExceeded")).0, ErrorKind::Throttled);
        assert_eq!(judged(403, &json("quotaExceeded")).0, ErrorKind::ResourceExhausted);
        assert_eq!(judged(403, &json("forbidden")).0, ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_web_page_is_not_passed_on_as_a_reason() {
        assert_eq!(said("<html><body>502</body></html>"), Said::default());
    }
}
