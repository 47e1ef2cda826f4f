//! Errors in the three forms that Google's services use.

use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::json;

use super::routes::Service;
use super::wire::Reply;

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Failure {
    code: StatusCode,
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Failure {
    fn new(code: u16, status: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code: StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            status,
            reason,
            message: message.into(),
        }
    }

    // The pairs of HTTP code and status: https://cloud.google.com/apis/design/errors#handling_errors
    // The reasons: https://cloud.google.com/storage/docs/json_api/v1/status-codes

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "INVALID_ARGUMENT", "invalid", message)
    }

    pub(super) fn precondition(message: impl Into<String>) -> Self {
        Self::new(400, "FAILED_PRECONDITION", "failedPrecondition", message)
    }

    pub(super) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(401, "UNAUTHENTICATED", "authError", message)
    }

    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::new(403, "PERMISSION_DENIED", "forbidden", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "NOT_FOUND", "notFound", message)
    }

    pub(super) fn exists(message: impl Into<String>) -> Self {
        Self::new(409, "ALREADY_EXISTS", "conflict", message)
    }

    pub(super) fn aborted(message: impl Into<String>) -> Self {
        Self::new(409, "ABORTED", "aborted", message)
    }

    pub(super) fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(501, "UNIMPLEMENTED", "notImplemented", message)
    }

    /// A precondition of Cloud Storage that does not hold.
    ///
    /// <https://cloud.google.com/storage/docs/json_api/v1/status-codes#412_Precondition_Failed>
    pub(super) fn condition_not_met() -> Self {
        Self::new(
            412,
            "FAILED_PRECONDITION",
            "conditionNotMet",
            "At least one of the pre-conditions you specified did not hold.",
        )
    }

    /// A read whose `…NotMatch` condition does not hold; it has no body.
    ///
    /// <https://cloud.google.com/storage/docs/json_api/v1/status-codes#304_Not_Modified>
    pub(super) fn not_modified() -> Self {
        Self::new(304, "", "notModified", "")
    }

    /// <https://cloud.google.com/storage/docs/json_api/v1/status-codes#416_Requested_Range_Not_Satisfiable>
    pub(super) fn range_not_satisfiable() -> Self {
        Self::new(416, "OUT_OF_RANGE", "requestedRangeNotSatisfiable", "Request range not satisfiable")
    }

    /// A hold or a retention policy.
    ///
    /// <https://cloud.google.com/storage/docs/json_api/v1/status-codes#403_Forbidden>
    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "PERMISSION_DENIED", "retentionPolicyNotMet", message)
    }

    /// Too many changes of one object.
    ///
    /// <https://cloud.google.com/storage/docs/json_api/v1/status-codes#429_Too_Many_Requests>
    pub(super) fn too_fast() -> Self {
        let message = "The object exceeded the rate limit for object mutation operations (create, update, and delete).";
        Self::new(429, "RESOURCE_EXHAUSTED", "rateLimitExceeded", message)
    }

    /// A session that no longer takes data.
    ///
    /// <https://cloud.google.com/storage/docs/json_api/v1/status-codes#410_Gone>
    pub(super) fn gone(message: impl Into<String>) -> Self {
        Self::new(410, "NOT_FOUND", "uploadBrokenConnection", message)
    }

    /// A signature that does not hold.
    ///
    /// <https://cloud.google.com/storage/docs/xml-api/reference-status#403%E2%80%94forbidden>
    pub(super) fn signature(message: impl Into<String>) -> Self {
        Self::new(403, "PERMISSION_DENIED", "SignatureDoesNotMatch", message)
    }

    /// A signed URL past its time.
    ///
    /// <https://cloud.google.com/storage/docs/xml-api/reference-status#400%E2%80%94bad-request>
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(400, "INVALID_ARGUMENT", "ExpiredToken", message)
    }

    /// A failure that a script asked for.
    pub(super) fn scripted(code: u16) -> Self {
        let (status, reason) = match code {
            401 => ("UNAUTHENTICATED", "authError"),
            403 => ("PERMISSION_DENIED", "forbidden"),
            404 => ("NOT_FOUND", "notFound"),
            409 => ("ABORTED", "conflict"),
            429 => ("RESOURCE_EXHAUSTED", "rateLimitExceeded"),
            500 => ("INTERNAL", "internalError"),
            503 => ("UNAVAILABLE", "backendError"),
            504 => ("DEADLINE_EXCEEDED", "gatewayTimeout"),
            _ => ("UNKNOWN", "unknown"),
        };
        Self::new(code, status, reason, "A scripted fault.")
    }

    /// The answer in the form of `service`.
    pub(super) fn reply(self, service: Service) -> Reply {
        if self.code == StatusCode::NOT_MODIFIED {
            return Reply::empty(self.code);
        }
        match service {
            Service::SecretManager | Service::CloudRun | Service::Logging | Service::Iam | Service::Tokens => {
                Reply::json_with(
                    self.code,
                    &json!({"error": {
                        "code": self.code.as_u16(),
                        "message": self.message,
                        "status": self.status,
                    }}),
                )
            }
            Service::Storage => Reply::json_with(
                self.code,
                &json!({"error": {
                    "code": self.code.as_u16(),
                    "message": self.message,
                    "errors": [{
                        "message": self.message,
                        "domain": "global",
                        "reason": self.reason,
                    }],
                }}),
            ),
            Service::Xml => self.xml(),
        }
    }

    /// <https://cloud.google.com/storage/docs/xml-api/reference-status>
    fn xml(self) -> Reply {
        let code = match self.reason {
            "notFound" => "NoSuchKey",
            "conditionNotMet" => "PreconditionFailed",
            "requestedRangeNotSatisfiable" => "InvalidRange",
            "invalid" => "InvalidArgument",
            "authError" => "AuthenticationRequired",
            "forbidden" => "AccessDenied",
            "notImplemented" => "NotImplemented",
            other => other,
        };
        let text = self.message.replace('&', "&amp;").replace('<', "&lt;");
        let mut reply = Reply::empty(self.code).with("content-type", "application/xml; charset=UTF-8");
        reply.body = Bytes::from(format!(
            "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{text}</Message></Error>"
        ));
        reply
    }
}
