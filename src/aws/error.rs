//! What the answers of AWS mean: one classification for all services, by code, status and how far the call came.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::verdict::{Verdict, definite, lost, of_answer, of_dispatch};
use super::xml::Said;
use crate::call::{Call, Effect};
use crate::http::Answer;
use crate::{Error, ErrorKind};

/// The most of an error's body that is read.
const MAX_ERROR_BYTES: usize = 256 << 10;

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

/// The error that an answer means which no SDK has read.
pub(crate) async fn refusal(answer: Answer, call: Call<'_>) -> Error {
    let (facts, said) = Facts::of_answer(answer).await;
    let message = facts.in_words(&said, call);
    facts.into_error(call, message)
}

/// The error of a call that could not be signed.
pub(crate) fn unsigned(error: CredentialsError, call: Call<'_>) -> Error {
    // A session that was refused is an error of this crate already.
    if let Some(refused) = error.source().and_then(|source| source.downcast_ref::<Error>()) {
        let same = call.error(refused.kind(), refused.message()).with_code(refused.code().unwrap_or_default());
        return same.with_source(Told::by(&error));
    }
    let verdict = of_dispatch(&error);
    call.error(verdict.kind, verdict.message).with_source(Told::by(&error))
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
            SdkError::ResponseError(_) => not_understood(status),
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

    async fn of_answer(mut answer: Answer) -> (Self, String) {
        let status = Some(answer.status);
        let headers = std::mem::take(&mut answer.headers);
        let header = |name: &str| headers.get(name)?.to_str().ok();
        let request_id = header("x-amz-request-id").or_else(|| header("x-amzn-requestid")).map(str::to_owned);
        let retry_after = header("retry-after").and_then(crate::retry::retry_after);
        let said = match answer.bytes(MAX_ERROR_BYTES).await {
            // Answers to HEAD have no body.
            Ok(body) if body.is_empty() && status == Some(404) => {
                Some(Said { code: "NotFound".to_owned(), ..Said::default() })
            }
            Ok(body) if body.is_empty() => Some(Said::default()),
            Ok(body) => Said::read(&body),
            Err(_) => None,
        };
        let Verdict { kind, message, may_have_applied } = match &said {
            Some(said) => of_answer(Some(&said.code), status),
            None => not_understood(status),
        };
        let Said { code, message: said } = said.unwrap_or_default();
        let code = (!code.is_empty()).then_some(code);
        (Self { kind, message, code, status, request_id, retry_after, may_have_applied }, said)
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

/// Something on the way, or the service itself, answered in a language of its own. A 404 says nothing: it need not be
/// about what was asked for.
fn not_understood(status: Option<u16>) -> Verdict {
    match status {
        Some(401 | 403 | 407 | 413 | 429) => of_answer(None, status),
        _ => lost("the answer broke off or was not understood"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
