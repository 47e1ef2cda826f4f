//! What an execution and the task that decides say, in common terms. Pure.

use std::collections::BTreeMap;
use std::time::SystemTime;

use google_cloud_run_v2::model::condition::{CommonReason, ExecutionReason, State};
use google_cloud_run_v2::model::{Condition, Execution, Task};

use super::name::Name;
use super::submit::LABELS_VARIABLE;
use crate::job_runner::{Evidence, StartFailure, StopCause, SubmissionId, TaskCounts, classify};
use crate::{Error, ErrorKind, JobExecution, JobOutcome, JobState, Result};

/// `google.rpc.Code.DEADLINE_EXCEEDED`.
const DEADLINE_EXCEEDED: i32 = 4;

pub(super) fn time(time: Option<&google_cloud_wkt::Timestamp>) -> Option<SystemTime> {
    time.and_then(|time| SystemTime::try_from(*time).ok())
}

/// A variable that the run has set, in whichever container.
pub(super) fn variable<'a>(execution: &'a Execution, name: &str) -> Option<&'a str> {
    let containers = execution.template.iter().flat_map(|template| &template.containers);
    let mut variables = containers.flat_map(|container| &container.env);
    variables.find(|variable| variable.name == name)?.value().map(String::as_str)
}

/// The labels of the run, or for a run that was not started through this crate those of the execution.
pub(super) fn labels(execution: &Execution) -> BTreeMap<String, String> {
    if variable(execution, "ANYCLOUD_SUBMISSION").is_none() {
        return execution.labels.clone().into_iter().collect();
    }
    variable(execution, LABELS_VARIABLE).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.r#type == kind)
}

fn completed(execution: &Execution) -> Option<&Condition> {
    condition(&execution.conditions, "Completed")
}

fn reason(execution: &Execution) -> Option<&ExecutionReason> {
    completed(execution)?.execution_reason()
}

/// Whether everything succeeded: by the condition and by the counts.
fn has_succeeded(execution: &Execution) -> bool {
    completed(execution).is_some_and(|condition| condition.state == State::ConditionSucceeded)
        && execution.succeeded_count == execution.task_count
}

pub(super) fn has_ended(execution: &Execution) -> bool {
    match completed(execution).map(|condition| &condition.state) {
        Some(State::ConditionFailed) => true,
        // Condition and counts come from different places; until they agree, or nothing more is to come, it is open.
        Some(State::ConditionSucceeded) => {
            has_succeeded(execution) || (execution.completion_time.is_some() && !execution.reconciling)
        }
        _ => execution.completion_time.is_some() && !execution.reconciling,
    }
}

/// Whether the outcome hangs on how a task failed.
pub(super) fn needs_task(execution: &Execution) -> bool {
    has_ended(execution) && execution.failed_count > 0 && !is_cancelled(execution)
}

/// Whether this task made the execution fail.
pub(super) fn decides(task: &Task) -> bool {
    let completed = condition(&task.conditions, "Completed");
    let failed = completed.is_none_or(|condition| {
        condition.state == State::ConditionFailed && condition.execution_reason() != Some(&ExecutionReason::Cancelled)
    });
    let result = task.last_attempt_result.as_ref();
    failed
        && result.is_some_and(|result| {
            result.exit_code != 0 || result.term_signal != 0 || result.status.as_ref().is_some_and(|s| s.code != 0)
        })
}

/// Cancelled executions fail without an error, with the reason or only by their counts.
fn is_cancelled(execution: &Execution) -> bool {
    matches!(reason(execution), Some(ExecutionReason::Cancelled | ExecutionReason::Deleted))
        || (execution.cancelled_count > 0 && execution.failed_count == 0)
}

pub(super) fn observe(operation: &'static str, execution: &Execution, task: Option<&Task>) -> Result<JobExecution> {
    let name = Name::of_resource(&execution.name).ok_or_else(|| {
        let message = "the service answered with an execution that has no name";
        Error::new(ErrorKind::Internal, operation, &execution.job, message)
    })?;
    let count = |count: i32| u32::try_from(count).unwrap_or_default();
    Ok(JobExecution {
        id: name.id()?,
        job: name.job,
        submission: variable(execution, "ANYCLOUD_SUBMISSION").and_then(|id| SubmissionId::new(id).ok()),
        attempt: variable(execution, "ANYCLOUD_ATTEMPT").and_then(|text| text.parse().ok()).unwrap_or(1),
        state: state(execution, task),
        tasks: TaskCounts {
            total: count(execution.task_count),
            running: count(execution.running_count),
            succeeded: count(execution.succeeded_count),
            failed: count(execution.failed_count),
            retried: count(execution.retried_count),
        },
        created: time(execution.create_time.as_ref()),
        started: time(execution.start_time.as_ref()),
        finished: time(execution.completion_time.as_ref()).filter(|_| has_ended(execution)),
        labels: labels(execution),
        reason: words(execution, task),
        details: details(execution, task),
    })
}

fn state(execution: &Execution, task: Option<&Task>) -> JobState {
    if has_ended(execution) {
        return JobState::Finished(outcome(execution, task));
    }
    let stopping = reason(execution) == Some(&ExecutionReason::Cancelling)
        || execution.delete_time.is_some()
        || execution.cancelled_count > 0;
    let begun = execution.running_count > 0 || execution.succeeded_count > 0 || execution.failed_count > 0;
    match (stopping, begun) {
        (true, _) => JobState::Stopping,
        (false, true) => JobState::Running,
        (false, false) => JobState::Pending,
    }
}

fn outcome(execution: &Execution, task: Option<&Task>) -> JobOutcome {
    if has_succeeded(execution) {
        return JobOutcome::Succeeded;
    }
    let verdict = match completed(execution).map(|condition| &condition.state) {
        Some(State::ConditionFailed) => Some(false),
        // The counts do not bear it out.
        _ if execution.failed_count > 0 => Some(false),
        _ => None,
    };
    let mut evidence = Evidence { completed: verdict, ..Evidence::default() };
    if is_cancelled(execution) {
        evidence.stop = Some(StopCause::Cancelled);
        return classify(&evidence);
    }
    evidence.stop = refused(&execution.conditions);
    if let Some(result) = task.and_then(|task| task.last_attempt_result.as_ref()) {
        let (code, message) = result.status.as_ref().map_or((0, ""), |status| (status.code, status.message.as_str()));
        let message = message.to_ascii_lowercase();
        // Zero is how the API leaves a field out.
        evidence.exit_code = Some(result.exit_code).filter(|code| *code != 0);
        evidence.signal = Some(result.term_signal).filter(|signal| *signal != 0);
        evidence.out_of_memory = message.contains("memory limit") && message.contains("exceeded");
        if code == DEADLINE_EXCEEDED || message.contains("timeout was reached") || message.contains("timed out") {
            evidence.stop = Some(StopCause::TimedOut);
        } else if evidence.exit_code.is_none() && evidence.signal.is_none() && !evidence.out_of_memory {
            evidence.stop = never_ran(&message).or(evidence.stop);
        }
    }
    classify(&evidence)
}

/// A condition that failed for a reason that keeps tasks from starting.
fn refused(conditions: &[Condition]) -> Option<StopCause> {
    let reasons = conditions.iter().filter(|one| one.state == State::ConditionFailed).filter_map(Condition::reason);
    let cause = reasons.filter_map(|reason| match reason {
        CommonReason::ContainerMissing
        | CommonReason::ContainerImageUnauthorized
        | CommonReason::ContainerImageAuthorizationCheckFailed => Some(StartFailure::Image),
        CommonReason::ContainerPermissionDenied
        | CommonReason::EncryptionKeyPermissionDenied
        | CommonReason::EncryptionKeyCheckFailed => Some(StartFailure::Permission),
        CommonReason::SecretsAccessCheckFailed => Some(StartFailure::Secret),
        CommonReason::VpcNetworkNotFound => Some(StartFailure::Network),
        _ => None,
    });
    cause.map(|cause| StopCause::StartFailure { cause, transient: false }).next()
}

/// What the words about an attempt without exit code and signal say: nothing else tells that it never ran.
fn never_ran(message: &str) -> Option<StopCause> {
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    let cause = if says(&["failed to start", "failed to load", "no such file", "has no command", "exec format"]) {
        StartFailure::Command
    } else if message.contains("secret") {
        StartFailure::Secret
    } else if message.contains("image") {
        StartFailure::Image
    } else {
        return None;
    };
    Some(StopCause::StartFailure { cause, transient: false })
}

fn words(execution: &Execution, task: Option<&Task>) -> Option<String> {
    let told = completed(execution).map(|condition| condition.message.clone());
    let attempt = task.and_then(|task| Some(task.last_attempt_result.as_ref()?.status.as_ref()?.message.clone()));
    told.filter(|text| !text.is_empty()).or(attempt).filter(|text| !text.is_empty())
}

fn details(execution: &Execution, task: Option<&Task>) -> BTreeMap<String, String> {
    let mut details = BTreeMap::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            details.insert(name.to_owned(), value);
        }
    };
    add("completed.state", completed(execution).and_then(|one| one.state.name().map(str::to_owned)));
    add("completed.execution_reason", reason(execution).and_then(|reason| reason.name().map(str::to_owned)));
    let common = completed(execution).and_then(Condition::reason);
    add("completed.reason", common.and_then(|reason| reason.name().map(str::to_owned)));
    add("cancelled_count", Some(execution.cancelled_count.to_string()).filter(|_| execution.cancelled_count > 0));
    add("log_uri", Some(execution.log_uri.clone()));
    if let Some((task, result)) = task.and_then(|task| Some((task, task.last_attempt_result.as_ref()?))) {
        add("task.index", Some(task.index.to_string()));
        add("task.retried", Some(task.retried.to_string()));
        add("task.exit_code", Some(result.exit_code.to_string()));
        add("task.term_signal", Some(result.term_signal.to_string()));
        add("task.status_code", result.status.as_ref().map(|status| status.code.to_string()));
        add("task.message", result.status.as_ref().map(|status| status.message.clone()));
    }
    details
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
