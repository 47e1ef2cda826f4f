//! What refusals of ECS mean: the codes that many causes share are told apart by their text.

use std::error::Error as StdError;

use aws_sdk_ecs::types::Failure;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::aws::error::classify;
use crate::call::Call;
use crate::{Error, ErrorKind};

/// The error of a call to ECS.
pub(super) fn of<E>(error: SdkError<E, HttpResponse>, call: Call<'_>) -> Error
where
    E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
{
    let error = classify(error, call);
    match kind(error.code().unwrap_or_default(), error.message()) {
        Some(kind) => error.with_kind(kind),
        None => error,
    }
}

/// The kinds that code and status alone do not tell. The codes are those of
/// [RunTask](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html#API_RunTask_Errors).
fn kind(code: &str, message: &str) -> Option<ErrorKind> {
    let says = |words: &[&str]| words.iter().any(|word| message.to_ascii_lowercase().contains(word));
    Some(match code {
        "ClusterNotFoundException" | "ServiceNotFoundException" => ErrorKind::InvalidConfig,
        "PlatformTaskDefinitionIncompatibilityException"
        | "PlatformUnknownException"
        | "UnsupportedFeatureException" => ErrorKind::InvalidConfig,
        "BlockedException" => ErrorKind::PermissionDenied,
        "ConflictException" => ErrorKind::PreconditionFailed,
        "ClientException" | "InvalidParameterException" => {
            if is_capacity(message) {
                ErrorKind::ResourceExhausted
            } else if says(&["8192", "length must be at most"]) {
                ErrorKind::TooLarge
            } else if says(&[
                "unable to describe task definition",
                "taskdefinition not found",
                "taskdefinition is inactive",
                "task was not found",
                "task not found",
            ]) {
                ErrorKind::NotFound
            } else if says(&["no fargate configuration exists"]) {
                ErrorKind::InvalidInput
            } else {
                // What is left is the operator's: network, roles, capacity providers, the definition itself.
                ErrorKind::InvalidConfig
            }
        }
        _ => return None,
    })
}

fn is_capacity(text: &str) -> bool {
    text.starts_with("RESOURCE")
        || text.contains("Capacity is unavailable")
        || text.contains("reached the limit on the number of")
        || text.contains("insufficient capacity")
}

/// The error of a request that was answered with status 200 and a failure. The reasons are listed
/// [here](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html).
pub(super) fn of_answer(failure: &Failure, operation: &'static str, subject: &str) -> Error {
    let reason = failure.reason().unwrap_or_default();
    let kind = match reason {
        _ if is_capacity(reason) => ErrorKind::ResourceExhausted,
        // The agent of a container instance is away for now.
        "AGENT" => ErrorKind::Unavailable,
        "MISSING" => ErrorKind::NotFound,
        "ATTRIBUTE" | "LOCATION" | "INACTIVE" => ErrorKind::InvalidConfig,
        _ => ErrorKind::Internal,
    };
    let message = match failure.detail() {
        Some(detail) => format!("ECS started nothing: {reason}: {detail}"),
        None => format!("ECS started nothing: {reason}"),
    };
    Error::new(kind, operation, subject, message).with_code(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_that_many_causes_share_are_told_apart() {
        let rows = [
            ("ClientException", "Unable to describe task definition.", ErrorKind::NotFound),
            ("ClientException", "TaskDefinition not found.", ErrorKind::NotFound),
            ("InvalidParameterException", "The referenced task was not found.", ErrorKind::NotFound),
            ("InvalidParameterException", "Container Overrides length must be at most 8192", ErrorKind::TooLarge),
            (
                "ClientException",
                "You've reached the limit on the number of tasks you can run concurrently",
                ErrorKind::ResourceExhausted,
            ),
            (
                "InvalidParameterException",
                "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
                ErrorKind::InvalidConfig,
            ),
            ("ClusterNotFoundException", "Cluster not found.", ErrorKind::InvalidConfig),
        ];
        for (code, message, expected) in rows {
            assert_eq!(kind(code, message), Some(expected), "{message}");
        }
        assert_eq!(kind("ThrottlingException", "Rate exceeded"), None);
    }

    #[test]
    fn failures_under_status_200_have_their_kinds() {
        let rows = [
            // https://github.com/gchq/sleeper/issues/904
            (
                "Capacity is unavailable at this time. Please try again later or in a different availability zone",
                ErrorKind::ResourceExhausted,
            ),
            // https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html
            ("RESOURCE:MEMORY", ErrorKind::ResourceExhausted),
            ("RESOURCE:ENI", ErrorKind::ResourceExhausted),
            ("AGENT", ErrorKind::Unavailable),
            ("ATTRIBUTE", ErrorKind::InvalidConfig),
            ("something new", ErrorKind::Internal),
        ];
        for (reason, expected) in rows {
            let failure = Failure::builder().reason(reason).build();
            assert_eq!(of_answer(&failure, "job_runner.run", "train").kind(), expected, "{reason}");
        }
    }
}
