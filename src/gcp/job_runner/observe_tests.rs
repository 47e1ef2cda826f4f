use serde_json::{Value, json};

use super::*;

const NAME: &str = "projects/1/locations/europe-west1/jobs/train/executions/train-x7k2p";

/// An execution in the form of
/// <https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs.executions>.
fn execution(completed: Value, change: Value) -> Execution {
    let mut execution = json!({
        "name": NAME,
        "job": "train",
        "taskCount": 1,
        "createTime": "2026-01-02T03:04:05Z",
        "conditions": [{"type": "ResourcesAvailable", "state": "CONDITION_SUCCEEDED"}],
        "template": {"containers": [{"env": [
            {"name": "ANYCLOUD_SUBMISSION", "value": "0123456789abcdef0123456789abcdef"},
            {"name": "ANYCLOUD_ATTEMPT", "value": "2"},
            {"name": "ANYCLOUD_LABELS", "value": "{\"team\":\"a\"}"},
        ]}]},
    });
    if !completed.is_null() {
        let mut condition = json!({"type": "Completed"});
        condition.as_object_mut().unwrap().extend(completed.as_object().unwrap().clone());
        execution["conditions"].as_array_mut().unwrap().push(condition);
    }
    execution.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    serde_json::from_value(execution).unwrap()
}

/// A task in the form of
/// <https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs.executions.tasks>.
fn task(result: Value) -> Task {
    let conditions = [json!({"type": "Completed", "state": "CONDITION_FAILED"})];
    serde_json::from_value(json!({"name": "t", "conditions": conditions, "lastAttemptResult": result})).unwrap()
}

fn seen(execution: &Execution, task: Option<&Task>) -> JobState {
    observe("t", execution, task).unwrap().state
}

fn succeeded() -> Value {
    json!({"state": "CONDITION_SUCCEEDED", "message": "Execution completed successfully."})
}

fn failed(reason: &str) -> Value {
    json!({"state": "CONDITION_FAILED", "executionReason": reason, "message": "The execution failed."})
}

const OVER: &str = "2026-01-02T03:05:05Z";

#[test]
fn before_the_end_the_counts_tell_where_it_is() {
    let reconciling = || json!({"state": "CONDITION_RECONCILING"});
    let rows = [
        ("just taken", Value::Null, json!({"reconciling": true}), JobState::Pending),
        ("waiting for capacity", reconciling(), json!({"reconciling": true}), JobState::Pending),
        (
            "delayed",
            json!({"state": "CONDITION_PENDING", "executionReason": "DELAYED_START_PENDING"}),
            json!({"reconciling": true}),
            JobState::Pending,
        ),
        ("running", reconciling(), json!({"runningCount": 1, "reconciling": true}), JobState::Running),
        (
            "between two tasks",
            reconciling(),
            json!({"taskCount": 2, "succeededCount": 1, "reconciling": true}),
            JobState::Running,
        ),
        (
            "being cancelled",
            json!({"state": "CONDITION_RECONCILING", "executionReason": "CANCELLING"}),
            json!({"runningCount": 1, "reconciling": true}),
            JobState::Stopping,
        ),
        (
            "success that the counts do not bear out yet",
            succeeded(),
            json!({"taskCount": 2, "succeededCount": 1, "reconciling": true, "completionTime": OVER}),
            JobState::Running,
        ),
    ];
    for (name, condition, change, state) in rows {
        assert_eq!(seen(&execution(condition, change), None), state, "{name}");
    }
}

#[test]
fn success_needs_the_condition_and_the_counts() {
    let finished = JobState::Finished;
    let all = json!({"taskCount": 2, "succeededCount": 2, "completionTime": OVER});
    assert_eq!(seen(&execution(succeeded(), all.clone()), None), finished(JobOutcome::Succeeded));
    let some = json!({"taskCount": 2, "succeededCount": 1, "completionTime": OVER});
    assert_eq!(seen(&execution(succeeded(), some), None), finished(JobOutcome::Unknown));
    assert_eq!(seen(&execution(Value::Null, all), None), finished(JobOutcome::Unknown));
}

#[test]
fn a_cancelled_execution_is_cancelled_by_its_reason_or_its_counts() {
    let cancelled = JobState::Finished(JobOutcome::Cancelled);
    let counts = json!({"cancelledCount": 1, "completionTime": OVER});
    assert_eq!(seen(&execution(failed("CANCELLED"), counts.clone()), None), cancelled);
    assert_eq!(seen(&execution(failed("EXECUTION_REASON_UNDEFINED"), counts), None), cancelled);
    assert_eq!(seen(&execution(failed("DELETED"), json!({"completionTime": OVER})), None), cancelled);
    let trapped = execution(failed("CANCELLED"), json!({"failedCount": 1, "completionTime": OVER}));
    assert!(!needs_task(&trapped));
    assert_eq!(seen(&trapped, None), cancelled);
}

#[test]
fn how_the_deciding_task_failed_is_how_the_execution_failed() {
    let start = |cause| JobOutcome::FailedToStart { cause, transient: false };
    let rows = [
        (json!({"status": {"code": 2, "message": "x"}, "exitCode": 7}), JobOutcome::Failed { exit_code: Some(7) }),
        (json!({"status": {"code": 2, "message": "x"}, "termSignal": 11}), JobOutcome::Killed { signal: 11 }),
        (json!({"status": {"code": 2, "message": "x"}, "exitCode": 137}), JobOutcome::Killed { signal: 9 }),
        (
            json!({"status": {"code": 2, "message": "Memory limit of 512 MiB exceeded with 514 MiB used."},
                   "termSignal": 9}),
            JobOutcome::OutOfMemory,
        ),
        (
            json!({"status": {"code": 4, "message": "The configured timeout was reached."}, "termSignal": 15}),
            JobOutcome::TimedOut,
        ),
        (json!({"status": {"code": 10, "message": "Task attempt timed out."}, "exitCode": 143}), JobOutcome::TimedOut),
        (json!({"status": {"code": 5, "message": "Image 'gcr.io/p/i' not found."}}), start(StartFailure::Image)),
        (
            json!({"status": {"code": 2, "message": "The container failed to start: /x: No such file."}}),
            start(StartFailure::Command),
        ),
        (json!({"status": {"code": 9, "message": "Secret s was not found."}}), start(StartFailure::Secret)),
        // Zero stands for unset: neither a success nor a code.
        (json!({"status": {"code": 2, "message": "Internal error."}}), JobOutcome::Failed { exit_code: None }),
    ];
    let over = execution(failed("NON_ZERO_EXIT_CODE"), json!({"failedCount": 1, "completionTime": OVER}));
    assert!(needs_task(&over));
    for (result, outcome) in rows {
        let task = task(result.clone());
        assert!(decides(&task), "{result}");
        assert_eq!(seen(&over, Some(&task)), JobState::Finished(outcome), "{result}");
    }
    assert_eq!(seen(&over, None), JobState::Finished(JobOutcome::Failed { exit_code: None }));
}

#[test]
fn tasks_that_were_only_cancelled_or_succeeded_do_not_decide() {
    assert!(!decides(&task(json!({"status": {}}))));
    let conditions = [json!({"type": "Completed", "state": "CONDITION_FAILED", "executionReason": "CANCELLED"})];
    let result = json!({"status": {"code": 1}, "termSignal": 15});
    let cancelled = json!({"name": "t", "conditions": conditions, "lastAttemptResult": result});
    assert!(!decides(&serde_json::from_value(cancelled).unwrap()));
}

#[test]
fn an_execution_that_was_refused_says_what_was_in_the_way() {
    for (reason, cause) in [
        ("CONTAINER_MISSING", StartFailure::Image),
        ("CONTAINER_PERMISSION_DENIED", StartFailure::Permission),
        ("SECRETS_ACCESS_CHECK_FAILED", StartFailure::Secret),
        ("VPC_NETWORK_NOT_FOUND", StartFailure::Network),
    ] {
        let condition = json!({"state": "CONDITION_FAILED", "reason": reason, "message": "It could not start."});
        let seen = observe("t", &execution(condition, json!({"completionTime": OVER})), None).unwrap();
        let outcome = JobOutcome::FailedToStart { cause, transient: false };
        assert_eq!(seen.state, JobState::Finished(outcome), "{reason}");
        assert_eq!(seen.reason.as_deref(), Some("It could not start."));
    }
}

#[test]
fn what_the_run_has_set_is_read_back() {
    let seen = observe("t", &execution(Value::Null, json!({"retriedCount": 1, "labels": {"x": "y"}})), None).unwrap();
    assert_eq!((seen.id.as_str(), seen.job.as_str()), ("train/train-x7k2p", "train"));
    assert_eq!(seen.submission.unwrap().as_str(), "0123456789abcdef0123456789abcdef");
    assert_eq!((seen.attempt, seen.tasks.retried), (2, 1));
    assert_eq!(seen.labels, [("team".to_owned(), "a".to_owned())].into());
    let foreign = execution(Value::Null, json!({"template": {"containers": [{}]}, "labels": {"x": "y"}}));
    let seen = observe("t", &foreign, None).unwrap();
    assert_eq!((seen.submission, seen.attempt), (None, 1));
    assert_eq!(seen.labels, [("x".to_owned(), "y".to_owned())].into());
}
