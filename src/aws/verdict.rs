//! What codes, statuses and broken connections mean, whichever way the call went.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::dns::ResolveDnsError;

use crate::ErrorKind;

pub(super) struct Verdict {
    pub(super) kind: ErrorKind,
    pub(super) message: &'static str,
    pub(super) may_have_applied: bool,
}

pub(super) fn definite(kind: ErrorKind, message: &'static str) -> Verdict {
    Verdict { kind, message, may_have_applied: false }
}

pub(super) fn lost(message: &'static str) -> Verdict {
    Verdict { kind: ErrorKind::Unavailable, message, may_have_applied: true }
}

/// A call that got no answer: what matters is whether anything was sent.
pub(super) fn of_dispatch(error: &(dyn StdError + 'static)) -> Verdict {
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
pub(super) fn of_answer(code: Option<&str>, status: Option<u16>) -> Verdict {
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
