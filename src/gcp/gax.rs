//! The official clients: how they are built, and what their errors mean.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use google_cloud_auth::errors::CredentialsError;
use google_cloud_gax::error::Error as ClientError;
use google_cloud_gax::error::rpc::{Code, StatusDetails};

use super::connection::{Connection, no_token};
use super::error::{KEY_ROLE, is_about_key};
use crate::{Error, ErrorKind, Result};

/// One call of an official client: what it is called here, and the permission that it needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) operation: &'static str,
    pub(super) permission: &'static str,
    pub(super) words: Words,
}

/// Whether the service's own words may be repeated: they quote what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    Quoted,
    Withheld,
}

/// What the error of an official client means. The client's error itself is not kept: it may hold what was sent.
pub(super) fn error(call: Call, subject: impl fmt::Display, error: &ClientError) -> Error {
    let Call { operation, permission, words } = call;
    let plain = |kind, message: &str| Error::new(kind, operation, &subject, message);
    if error.is_connect() {
        return plain(ErrorKind::Unavailable, "no connection could be made");
    }
    if error.is_authentication() {
        return match error.source().and_then(|source| source.downcast_ref::<CredentialsError>()) {
            Some(source) => no_token(source, operation, &subject),
            None => plain(ErrorKind::Unauthenticated, "there are no usable credentials"),
        };
    }
    if error.is_binding() || error.is_serialization() {
        return plain(ErrorKind::InvalidInput, "the request cannot be put into the form of the API");
    }
    if error.is_timeout() {
        return plain(ErrorKind::Timeout, "no answer came in time").with_may_have_applied();
    }
    if error.is_deserialization() {
        return plain(ErrorKind::Internal, "the answer cannot be read").with_may_have_applied();
    }
    let http = error.http_status_code();
    let Some(code) = error.status().map(|status| status.code).or_else(|| http.map(code_of_http)) else {
        return plain(ErrorKind::Unavailable, "the connection broke before the answer").with_may_have_applied();
    };
    let kind = kind(code, http);
    let said = error.status().map(|status| status.message.as_str());
    let mut message = match said {
        Some(_) if words == Words::Withheld => withheld(error),
        Some(said) => said.to_owned(),
        None => "the service did not say more".to_owned(),
    };
    if kind == ErrorKind::PermissionDenied && said.is_some_and(is_about_key) {
        message = format!("{KEY_ROLE}: {message}");
    } else if kind == ErrorKind::PermissionDenied && !message.contains(permission) {
        message = format!("{message}; this needs the permission `{permission}`");
    }
    let mut mapped = plain(kind, &message);
    if error.status().is_some() {
        mapped = mapped.with_code(code.name());
    }
    if let Some(http) = http {
        mapped = mapped.with_status(http);
    }
    if let Some(wait) = retry_after(error) {
        mapped = mapped.with_retry_after(wait);
    }
    // The service was at work on it: whether it got to the end is not said.
    let undecided = http.is_none_or(|http| http >= 500 || http == 408)
        && matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Internal);
    if undecided { mapped.with_may_have_applied() } else { mapped }
}

/// What may be said of a refusal that holds a secret: the reason, which is a word of a fixed list such as
/// `SERVICE_DISABLED`.
fn withheld(error: &ClientError) -> String {
    let details = error.status().map_or(&[][..], |status| &status.details);
    let reason = details.iter().find_map(|detail| match detail {
        StatusDetails::ErrorInfo(info) => Some(info.reason.as_str()),
        _ => None,
    });
    let is_word = |text: &&str| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    let reason = reason.filter(is_word).map_or(String::new(), |reason| format!(" ({reason})"));
    format!("the service refused the request{reason}; its words are withheld, because they may quote it")
}

/// Whether the service itself answered, so that nothing of the call is on its way any more.
pub(super) fn is_settled(error: &Error) -> bool {
    error.code().is_some() && matches!(error.status(), Some(500 | 503))
}

fn kind(code: Code, http: Option<u16>) -> ErrorKind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidInput,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::FailedPrecondition => ErrorKind::PreconditionFailed,
        Code::Aborted => ErrorKind::Conflict,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::ResourceExhausted => ErrorKind::Throttled,
        Code::Unavailable | Code::Cancelled => ErrorKind::Unavailable,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::DataLoss => ErrorKind::Corrupt,
        _ if http.is_some_and(|http| http >= 500) => ErrorKind::Unavailable,
        // Google's form has no word of its own for a request that took too long to arrive.
        _ if http == Some(408) => ErrorKind::Timeout,
        _ => ErrorKind::Internal,
    }
}

/// The inverse of the table in <https://google.aip.dev/193>, for answers that are not in Google's form.
fn code_of_http(status: u16) -> Code {
    match status {
        400 | 411 | 413 | 416 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        408 | 504 => Code::DeadlineExceeded,
        409 => Code::Aborted,
        412 => Code::FailedPrecondition,
        429 => Code::ResourceExhausted,
        499 => Code::Cancelled,
        501 => Code::Unimplemented,
        502 | 503 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

fn retry_after(error: &ClientError) -> Option<Duration> {
    crate::retry::retry_after(error.http_headers()?.get("retry-after")?.to_str().ok()?)
}

/// Where to send a service's calls; `None` is Google's own address, which is never used beside an emulator.
pub(super) fn endpoint<'a>(
    connection: &Connection,
    endpoint: Option<&'a String>,
    variable: &'static str,
    missing: ErrorKind,
) -> Result<Option<&'a String>> {
    if endpoint.is_none() && connection.is_emulator() {
        let message = format!("{variable} is not set, and beside an emulator the real service is not called");
        return Err(Error::new(missing, "gcp.connect", variable, message));
    }
    Ok(endpoint)
}

/// The client of one service: ours are the endpoint, the credentials, and the retries and redirects, which are off.
///
/// Evaluates to a [`Result`](crate::Result); used in an async function.
macro_rules! build {
    ($client:ty, $connection:expr, $endpoint:expr, $operation:expr) => {{
        let credentials = $connection.credentials()?.clone();
        // The clients follow redirects unless told otherwise, and would send a secret's value along. What tells them is
        // public, but not shown in their documentation.
        let builder = google_cloud_gax::client_builder::internal::with_follow_redirects(<$client>::builder(), false);
        let mut builder =
            builder.with_retry_policy(google_cloud_gax::retry_policy::NeverRetry).with_credentials(credentials);
        if let Some(endpoint) = $endpoint {
            builder = builder.with_endpoint(endpoint.as_str());
        }
        builder.build().await.map_err(|error| {
            let message = format!("the client cannot be made: {error}");
            $crate::Error::new($crate::ErrorKind::InvalidConfig, $operation, stringify!($client), message)
        })
    }};
}
pub(super) use build;

#[cfg(test)]
mod tests {
    use google_cloud_gax::error::rpc::Status;

    use super::*;

    const CALL: Call = Call { operation: "t", permission: "p.q.r", words: Words::Withheld };

    fn answered(code: Code, http: u16, message: &str) -> Error {
        let status = Status::default().set_code(code).set_message(message);
        error(CALL, "x", &ClientError::service_with_http_metadata(status, Some(http), None))
    }

    #[test]
    fn every_answer_has_its_kind_and_says_whether_it_may_have_been_applied() {
        let rows = [
            (Code::InvalidArgument, 400, ErrorKind::InvalidInput, false),
            (Code::FailedPrecondition, 400, ErrorKind::PreconditionFailed, false),
            (Code::Unauthenticated, 401, ErrorKind::Unauthenticated, false),
            (Code::PermissionDenied, 403, ErrorKind::PermissionDenied, false),
            (Code::NotFound, 404, ErrorKind::NotFound, false),
            (Code::AlreadyExists, 409, ErrorKind::AlreadyExists, false),
            (Code::Aborted, 409, ErrorKind::Conflict, false),
            (Code::ResourceExhausted, 429, ErrorKind::Throttled, false),
            (Code::Internal, 500, ErrorKind::Unavailable, true),
            (Code::Unknown, 500, ErrorKind::Unavailable, true),
            (Code::Unknown, 408, ErrorKind::Timeout, true),
            (Code::Unimplemented, 501, ErrorKind::Unsupported, false),
            (Code::Unavailable, 503, ErrorKind::Unavailable, true),
            (Code::DeadlineExceeded, 504, ErrorKind::Timeout, true),
        ];
        for (code, http, kind, applied) in rows {
            let error = answered(code, http, "words");
            assert_eq!((error.kind(), error.may_have_applied()), (kind, applied), "{code:?}");
            assert_eq!((error.code(), error.status()), (Some(code.name()), Some(http)));
        }
    }

    #[test]
    fn what_never_left_may_be_sent_again_and_what_got_lost_may_not() {
        assert!(error(CALL, "x", &ClientError::connect("refused")).is_retryable());
        let lost = error(CALL, "x", &ClientError::io("reset"));
        assert!(lost.may_have_applied() && lost.kind() == ErrorKind::Unavailable);
        assert!(error(CALL, "x", &ClientError::timeout("slow")).may_have_applied());
        assert!(error(CALL, "x", &ClientError::deser("cut")).may_have_applied());
    }

    #[test]
    fn a_refusal_does_not_quote_what_was_sent_and_keeps_no_source() {
        for (code, http) in [(Code::InvalidArgument, 400), (Code::PermissionDenied, 403), (Code::Unavailable, 503)] {
            let error = answered(code, http, "Invalid value at 'payload.data': \"aHVudGVyMg==\"");
            assert!(!format!("{error} {error:?}").contains("aHVudGVyMg"), "{error:?}");
            assert!(std::error::Error::source(&error).is_none());
        }
    }

    #[test]
    fn of_what_is_withheld_the_reason_is_told_if_it_is_a_word() {
        for (reason, told) in [("SERVICE_DISABLED", true), ("the value is aHVudGVyMg", false)] {
            let info = serde_json::json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason});
            let info: StatusDetails = serde_json::from_value(info).unwrap();
            let status = Status::default().set_code(Code::PermissionDenied).set_details([info]);
            let error = super::error(CALL, "x", &ClientError::service_with_http_metadata(status, Some(403), None));
            assert_eq!(error.message().contains(reason), told, "{error}");
        }
    }

    #[test]
    fn a_denial_names_the_permission() {
        let error = answered(Code::PermissionDenied, 403, "no");
        assert!(error.message().contains("`p.q.r`"), "{error}");
        let status = Status::default().set_code(Code::PermissionDenied).set_message("Permission 'p.q.r' denied");
        let denied = ClientError::service_with_http_metadata(status, Some(403), None);
        let named = super::error(Call { words: Words::Quoted, ..CALL }, "x", &denied);
        assert_eq!(named.message(), "Permission 'p.q.r' denied");
    }

    #[test]
    fn beside_an_emulator_the_real_service_is_not_called() {
        let mut config = crate::Config::local("/nonexistent");
        let of = |config: &crate::Config| {
            let connection = Connection::new(config).unwrap();
            endpoint(&connection, None, "X_HOST", ErrorKind::InvalidConfig).map(drop).map_err(|error| error.kind())
        };
        assert_eq!(of(&config), Ok(()));
        config.gcp.emulator = true;
        assert_eq!(of(&config), Err(ErrorKind::InvalidConfig));
    }

    #[test]
    fn retry_after_is_read() {
        let headers = [(http::header::RETRY_AFTER, http::HeaderValue::from_static("7"))].into_iter().collect();
        let slow = ClientError::http(429, headers, bytes::Bytes::from_static(b"slow down"));
        let error = error(CALL, "x", &slow);
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Throttled, Some(Duration::from_secs(7))));
        assert_eq!(error.code(), None);
    }

    #[test]
    fn only_an_answer_of_the_service_settles_a_failure() {
        assert!(is_settled(&answered(Code::Unavailable, 503, "")));
        assert!(!is_settled(&answered(Code::DeadlineExceeded, 504, "")));
        assert!(!is_settled(&error(CALL, "x", &ClientError::io("reset"))));
        let proxy = ClientError::http(503, http::HeaderMap::new(), bytes::Bytes::from_static(b"<html>"));
        assert!(!is_settled(&error(CALL, "x", &proxy)));
    }
}
