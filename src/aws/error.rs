//! What the answers of AWS mean: one classification for all services, by code, status and how far the call came.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::dns::ResolveDnsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::call::{Call, Effect};
use crate::{Error, ErrorKind};

/// The error of a call, with the provider's message and, as its source, what the SDK says of the cause.
pub(crate) fn classify<E>(error: SdkError<E, HttpResponse>, call: Call<'_>) -> Error
where
    E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
{
    let facts = Facts::of(&error);
    let said = error.as_service_error().and_then(|e| e.meta().message()).unwrap_or_default().to_owned();
    let message = facts.in_words(&said, call);
    facts.into_error(call, message).with_source(Told::by(&error))
}

/// What an error and its causes say. Not the errors themselves: their debug forms show whole answers, and S3 repeats
/// in one the token of a session that has expired, while the service of tokens and the metadata servers answer with
/// nothing but credentials.
#[derive(Debug)]
struct Told(String);

impl Told {
    fn by(error: &(dyn StdError + 'static)) -> Self {
        let mut words: Vec<String> = Vec::new();
        let mut next = Some(error);
        while let Some(cause) = next {
            let said = cause.to_string();
            if words.last().is_none_or(|last| !last.contains(&said)) {
                words.push(said);
            }
            // Below it even the words may be an answer's.
            next = cause.source().filter(|_| !cause.is::<CredentialsError>());
        }
        Self(words.join(": "))
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Told {}

/// The error of an answer that no SDK has read: its status, its code, and what the service said.
pub(crate) fn refused(status: u16, code: &str, said: &str, call: Call<'_>) -> Error {
    let verdict = of_answer(Some(code), Some(status));
    let facts = Facts {
        kind: verdict.kind,
        message: verdict.message,
        code: Some(code.to_owned()),
        status: Some(status),
        request_id: None,
        retry_after: None,
        may_have_applied: verdict.may_have_applied,
    };
    let message = facts.in_words(said, call);
    facts.into_error(call, message)
}

/// The error of a call whose request or answer holds a secret: neither the provider's message nor the SDK's error is
/// kept.
pub(crate) fn classify_secret<E>(error: &SdkError<E, HttpResponse>, call: Call<'_>) -> Error
where
    E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
{
    let mut facts = Facts::of(error);
    let said = error.as_service_error().and_then(|e| e.meta().message()).unwrap_or_default();
    let about_key = said.contains("KMS") || said.contains("kms:");
    // https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html
    let message = match facts.code.as_deref() {
        Some("DecryptionFailure" | "EncryptionFailure") => {
            facts.kind = ErrorKind::PermissionDenied;
            "the secret's KMS key cannot be used: the identity lacks kms:Decrypt or kms:GenerateDataKey, or the key \
             is disabled"
                .to_owned()
        }
        _ if facts.kind == ErrorKind::PermissionDenied && about_key => {
            "the identity lacks kms:Decrypt (for writing also kms:GenerateDataKey) on the secret's KMS key".to_owned()
        }
        _ if facts.kind == ErrorKind::PermissionDenied => format!("the identity lacks {}", call.permission),
        _ => facts.message.to_owned(),
    };
    facts.into_error(call, message)
}

/// The region of the bucket, where S3 says that it is another one than the request was signed for.
pub(crate) fn bucket_region<E>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.raw_response()?.headers().get("x-amz-bucket-region")
}

/// What a code means that stands alone, inside an answer of success; and whether the work may have been done.
pub(crate) fn of_code(code: &str) -> (ErrorKind, bool) {
    let verdict = of_answer(Some(code), None);
    (verdict.kind, verdict.may_have_applied)
}

struct Facts {
    kind: ErrorKind,
    message: &'static str,
    code: Option<String>,
    status: Option<u16>,
    request_id: Option<String>,
    retry_after: Option<Duration>,
    may_have_applied: bool,
}

impl Facts {
    fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: StdError + ProvideErrorMetadata + 'static,
    {
        let response = error.raw_response();
        let status = response.map(|response| response.status().as_u16());
        let header = |name: &str| response.and_then(|response| response.headers().get(name));
        let code = error.as_service_error().and_then(|error| error.meta().code()).map(str::to_owned);
        let verdict = match error {
            SdkError::ServiceError(_) => of_answer(code.as_deref(), status),
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(error) => of_dispatch(error),
                None => lost("the connection broke"),
            },
            SdkError::TimeoutError(_) => {
                Verdict { kind: ErrorKind::Timeout, message: "the call took too long", may_have_applied: true }
            }
            // Something on the way, or the service itself, refused in a language of its own. A 404 is left out: it
            // need not be about what was asked for.
            SdkError::ResponseError(_) if matches!(status, Some(401 | 403 | 407 | 413 | 429)) => {
                of_answer(None, status)
            }
            SdkError::ResponseError(_) => lost("the answer broke off or was not understood"),
            SdkError::ConstructionFailure(_) => definite(ErrorKind::Internal, "the request could not be built"),
            _ => lost("the call failed"),
        };
        Self {
            kind: verdict.kind,
            message: verdict.message,
            may_have_applied: verdict.may_have_applied,
            code,
            status,
            request_id: header("x-amz-request-id").or_else(|| header("x-amzn-requestid")).map(str::to_owned),
            retry_after: header("retry-after").and_then(crate::retry::retry_after),
        }
    }

    fn in_words(&self, said: &str, call: Call<'_>) -> String {
        match (self.kind, said) {
            (ErrorKind::PermissionDenied, "") => format!("the identity lacks {}", call.permission),
            (ErrorKind::PermissionDenied, said) => format!("the identity lacks {}: {said}", call.permission),
            (_, "") => self.message.to_owned(),
            (_, said) => said.to_owned(),
        }
    }

    fn into_error(self, call: Call<'_>, message: String) -> Error {
        let mut error = Error::new(self.kind, call.operation, call.subject, message);
        if let Some(code) = self.code {
            error = error.with_code(code);
        }
        if let Some(status) = self.status {
            error = error.with_status(status);
        }
        if let Some(id) = self.request_id {
            error = error.with_request_id(id);
        }
        if let Some(wait) = self.retry_after {
            error = error.with_retry_after(wait);
        }
        if self.may_have_applied && call.effect == Effect::Changes {
            error = error.with_may_have_applied();
        }
        error
    }
}

struct Verdict {
    kind: ErrorKind,
    message: &'static str,
    may_have_applied: bool,
}

fn definite(kind: ErrorKind, message: &'static str) -> Verdict {
    Verdict { kind, message, may_have_applied: false }
}

fn lost(message: &'static str) -> Verdict {
    Verdict { kind: ErrorKind::Unavailable, message, may_have_applied: true }
}

/// A call that got no answer: what matters is whether anything was sent.
/// The error of a call that could not be signed.
pub(crate) fn unsigned(error: CredentialsError, call: Call<'_>) -> Error {
    let verdict = of_dispatch(&error);
    Error::new(verdict.kind, call.operation, call.subject, verdict.message).with_source(Told::by(&error))
}

fn of_dispatch(error: &(dyn StdError + 'static)) -> Verdict {
    let mut next = Some(error);
    while let Some(cause) = next {
        next = cause.source();
        if let Some(credentials) = cause.downcast_ref::<CredentialsError>() {
            return match credentials {
                CredentialsError::ProviderTimedOut(_) => {
                    definite(ErrorKind::Unavailable, "looking up credentials took too long")
                }
                _ => definite(ErrorKind::Unauthenticated, "the default credential chain found no usable credentials"),
            };
        }
        let unconnected =
            cause.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect());
        if unconnected || cause.is::<ResolveDnsError>() {
            return definite(ErrorKind::Unavailable, "the endpoint could not be reached");
        }
        // The type is in a crate of the SDK's insides; such a bucket or region never gets as far as an address.
        if format!("{cause:?}").starts_with("ResolveEndpointError") {
            return definite(ErrorKind::InvalidConfig, "the bucket or region gives no valid address");
        }
    }
    lost("the connection broke")
}

/// An error that a service answered with. The codes are those of
/// [S3](https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html), of
/// [all JSON services](https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html) and of each
/// service's own pages.
fn of_answer(code: Option<&str>, status: Option<u16>) -> Verdict {
    use ErrorKind::{
        AlreadyExists, Conflict, Corrupt, Internal, InvalidConfig, InvalidInput, NotFound, NotModified,
        PermissionDenied, PreconditionFailed, RangeNotSatisfiable, ResourceExhausted, Throttled, TooLarge,
        Unauthenticated, Unavailable, Unsupported,
    };
    let by_code = match code.unwrap_or_default() {
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "PriorRequestNotComplete"
        | "RequestRateTooHigh"
        | "TransactionInProgressException" => Some(definite(Throttled, "the service asks to slow down")),
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired" => {
            Some(definite(Unauthenticated, "the credentials have expired"))
        }
        "RequestTimeTooSkewed" => Some(definite(Unauthenticated, "the clock of this machine is wrong")),
        "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "InvalidToken"
        | "AuthFailure" => Some(definite(Unauthenticated, "the credentials were refused")),
        "AccessDenied"
        | "AccessDeniedException"
        | "AllAccessDisabled"
        | "UnauthorizedOperation"
        | "NotAuthorized"
        | "OptInRequired" => Some(definite(PermissionDenied, "")),
        "NoSuchBucket" => Some(definite(InvalidConfig, "the bucket does not exist")),
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "InvalidBucketName" => Some(definite(InvalidConfig, "the bucket is not reached this way")),
        "PreconditionFailed" => Some(definite(PreconditionFailed, "the condition does not hold")),
        "ConditionalRequestConflict" | "OperationAborted" => {
            Some(definite(Conflict, "another write was under way at the same time"))
        }
        "InvalidRange" => Some(definite(RangeNotSatisfiable, "the range starts at or past the end")),
        "EntityTooLarge" | "MaxMessageLengthExceeded" | "RequestEntityTooLarge" | "MetadataTooLarge" => {
            Some(definite(TooLarge, "larger than the service takes"))
        }
        "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" => {
            Some(definite(Corrupt, "the bytes that arrived do not match their checksum"))
        }
        "LimitExceededException" | "LimitExceeded" | "ServiceQuotaExceededException" | "QuotaExceeded" => {
            Some(definite(ResourceExhausted, "a quota of the account is used up"))
        }
        "ResourceExistsException" => Some(definite(AlreadyExists, "there is one of this name")),
        "NoSuchKey" | "NoSuchVersion" | "NoSuchUpload" | "NotFound" => Some(definite(NotFound, "there is none")),
        "NotImplemented" | "MethodNotAllowed" => Some(definite(Unsupported, "the service cannot do this")),
        // The connection was too slow for S3, which then dropped what it had received.
        "RequestTimeout" => Some(definite(Unavailable, "the service waited too long for the request")),
        "InternalError"
        | "InternalFailure"
        | "InternalServiceError"
        | "InternalServerError"
        | "ServerException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => Some(lost("the service failed")),
        code if code.starts_with("KMS.") => Some(definite(InvalidConfig, "the KMS key cannot be used")),
        code if code.ends_with("NotFoundException") => Some(definite(NotFound, "there is none")),
        _ => None,
    };
    by_code.unwrap_or_else(|| match status.unwrap_or_default() {
        301 | 307 => definite(InvalidConfig, "the bucket is in another region"),
        304 => definite(NotModified, "the copy is current"),
        401 => definite(Unauthenticated, "the credentials were refused"),
        403 => definite(PermissionDenied, ""),
        404 => definite(NotFound, "there is none"),
        407 => definite(Unauthenticated, "a proxy on the way wants credentials"),
        405 | 501 => definite(Unsupported, "the service cannot do this"),
        408 => definite(Unavailable, "the service waited too long for the request"),
        409 => definite(Conflict, "another write was under way at the same time"),
        412 => definite(PreconditionFailed, "the condition does not hold"),
        413 => definite(TooLarge, "larger than the service takes"),
        416 => definite(RangeNotSatisfiable, "the range starts at or past the end"),
        429 => definite(Throttled, "the service asks to slow down"),
        400..=499 => definite(InvalidInput, "the service refused the request"),
        500..=599 => lost("the service failed"),
        // An error under a status of success came after the work had begun.
        200..=299 => lost("the service failed after it had begun to answer"),
        _ => definite(Internal, "the service answered in a way that is not understood"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(code: &str, status: u16) -> (ErrorKind, bool) {
        let verdict = of_answer((!code.is_empty()).then_some(code), Some(status));
        (verdict.kind, verdict.may_have_applied)
    }

    #[test]
    fn a_busy_service_has_done_nothing_and_a_failed_one_may_have() {
        assert_eq!(ends("SlowDown", 503), (ErrorKind::Throttled, false));
        assert_eq!(ends("ThrottlingException", 400), (ErrorKind::Throttled, false));
        assert_eq!(ends("InternalError", 500), (ErrorKind::Unavailable, true));
        assert_eq!(ends("InternalError", 200), (ErrorKind::Unavailable, true));
        assert_eq!(ends("", 502), (ErrorKind::Unavailable, true));
    }

    #[test]
    fn a_refusal_that_is_not_understood_is_one_all_the_same_and_a_missing_page_is_no_missing_object() {
        use aws_sdk_ecs::operation::run_task::RunTaskError;
        use aws_smithy_types::body::SdkBody;

        let call = Call::changing("t", "s", "ecs:RunTask");
        let ends = |status: u16| {
            let answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::from("<Error/>"));
            classify(SdkError::<RunTaskError, _>::response_error("malformed JSON", answer), call)
        };
        let denied = ends(403);
        assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
        assert!(denied.message().contains("ecs:RunTask") && !denied.may_have_applied(), "{denied}");
        assert_eq!(ends(429).kind(), ErrorKind::Throttled);
        for status in [200, 404, 502] {
            let lost = ends(status);
            assert_eq!((lost.kind(), lost.may_have_applied()), (ErrorKind::Unavailable, true), "{status}");
        }
    }

    #[test]
    fn only_412_says_that_the_condition_failed() {
        assert_eq!(ends("ConditionalRequestConflict", 409), (ErrorKind::Conflict, false));
        assert_eq!(ends("PreconditionFailed", 412), (ErrorKind::PreconditionFailed, false));
    }

    #[test]
    fn credentials_that_are_refused_differ_from_permissions_that_lack() {
        assert_eq!(ends("ExpiredToken", 400).0, ErrorKind::Unauthenticated);
        assert_eq!(ends("SignatureDoesNotMatch", 403).0, ErrorKind::Unauthenticated);
        assert_eq!(ends("", 403).0, ErrorKind::PermissionDenied);
    }
}
