use aws_sdk_ecs::primitives::DateTime;
use aws_sdk_ecs::types::{ContainerOverride, KeyValuePair, TaskOverride};

use super::*;
use crate::JobOutcome;
use crate::job_runner::StartFailure;

/// `API_Task.html` and `API_Container.html` below <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/>.
const API: &str = "https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Task.html";
const CODES: &str = "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html";
const PULL: &str = "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_cannot_pull_image.html";
const RESOURCE: &str = "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/resource-initialization-error.html";
const DAGSTER: &str = "https://github.com/dagster-io/dagster/blob/master/python_modules/libraries/dagster-aws/dagster_aws/ecs/launcher.py";

struct Row {
    name: &'static str,
    seen_at: &'static str,
    code: &'static str,
    task_reason: &'static str,
    exit: Option<i32>,
    container_reason: &'static str,
    outcome: JobOutcome,
}

fn stopped(row: &Row) -> Task {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let main = Container::builder().name("main").set_exit_code(row.exit).set_reason(text(row.container_reason));
    Task::builder()
        .last_status("STOPPED")
        .desired_status("STOPPED")
        .set_stop_code(text(row.code).map(|code| TaskStopCode::from(code.as_str())))
        .set_stopped_reason(text(row.task_reason))
        .containers(Container::builder().name("sidecar").exit_code(137).build())
        .containers(main.build())
        .build()
}

fn image(transient: bool) -> JobOutcome {
    JobOutcome::FailedToStart { cause: StartFailure::Image, transient }
}

fn start(cause: StartFailure, transient: bool) -> JobOutcome {
    JobOutcome::FailedToStart { cause, transient }
}

#[test]
fn every_recorded_ending_has_its_outcome() {
    let row = |name, seen_at, code, task_reason, exit, container_reason, outcome| Row {
        name,
        seen_at,
        code,
        task_reason,
        exit,
        container_reason,
        outcome,
    };
    let exited = "EssentialContainerExited";
    let essential = "Essential container in task exited";
    let rows = [
        row("exit 0 beside a killed sidecar", API, exited, essential, Some(0), "", JobOutcome::Succeeded),
        row("exit 7", API, exited, essential, Some(7), "", JobOutcome::Failed { exit_code: Some(7) }),
        row("bare 137", API, exited, essential, Some(137), "", JobOutcome::Killed { signal: 9 }),
        row("no exit code", API, exited, essential, None, "", JobOutcome::Unknown),
        row(
            "out of memory",
            "https://repost.aws/knowledge-center/ecs-resolve-outofmemory-errors",
            exited,
            essential,
            Some(137),
            "OutOfMemoryError: Container killed due to memory usage",
            JobOutcome::OutOfMemory,
        ),
        row("stopped by us", API, "UserInitiated", "anycloud: cancelled", Some(143), "", JobOutcome::Cancelled),
        row(
            "trapped and ended with 0",
            API,
            "UserInitiated",
            "anycloud: cancelled",
            Some(0),
            "",
            JobOutcome::Cancelled,
        ),
        row(
            "stopped in the console",
            CODES,
            "UserInitiated",
            "Task stopped by user",
            Some(0),
            "",
            JobOutcome::Cancelled,
        ),
        row("too long", API, "UserInitiated", "anycloud: timed out after 30 s", Some(137), "", JobOutcome::TimedOut),
        row(
            "spot",
            "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-capacity-providers.html",
            "SpotInterruption",
            "Your Spot Task was interrupted.",
            Some(143),
            "",
            JobOutcome::Interrupted,
        ),
        row(
            "spot without a code",
            "https://github.com/aws/containers-roadmap/issues/1565",
            "",
            "Your Spot Task was interrupted.",
            None,
            "",
            JobOutcome::Interrupted,
        ),
        row("spot by its code alone", API, "SpotInterruption", "", Some(143), "", JobOutcome::Interrupted),
        row("host retired", API, "InfrastructureHealth", "", None, "", JobOutcome::Interrupted),
        row("work done before the host went", API, "TerminationNotice", "", Some(0), "", JobOutcome::Succeeded),
        row(
            "host gone",
            "https://github.com/apache/airflow/blob/main/providers/amazon/src/airflow/providers/amazon/aws/operators/ecs.py",
            "",
            "Host EC2 (instance i-1234567890abcdef) terminated.",
            None,
            "",
            JobOutcome::Interrupted,
        ),
        row(
            "image not found",
            PULL,
            "TaskFailedToStart",
            "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref \
             docker.io/library/nothing:1: docker.io/library/nothing:1: not found",
            None,
            "",
            image(false),
        ),
        row(
            "image pull timed out",
            PULL,
            "TaskFailedToStart",
            "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref x: failed \
             to do request: Head \"https://registry/v2/x\": dial tcp 34.205.13.154:443: i/o timeout",
            None,
            "",
            image(true),
        ),
        row(
            "image pull broke off",
            DAGSTER,
            "TaskFailedToStart",
            "CannotPullContainerError: EOF",
            None,
            "",
            image(true),
        ),
        row(
            "image told by the container",
            PULL,
            exited,
            essential,
            None,
            "CannotPullContainerError: pull access denied for x, repository does not exist or may require 'docker login'",
            image(false),
        ),
        row(
            "secret denied",
            RESOURCE,
            "TaskFailedToStart",
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: \
             unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch secret \
             arn:aws:secretsmanager:eu-west-1:1:secret:s from secrets manager: AccessDeniedException",
            None,
            "",
            start(StartFailure::Secret, false),
        ),
        row(
            "no way to Secrets Manager",
            RESOURCE,
            "TaskFailedToStart",
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: \
             unable to retrieve secret from asm: There is a connection issue between the task and AWS Secrets Manager: \
             context deadline exceeded",
            None,
            "",
            start(StartFailure::Network, true),
        ),
        row(
            "network interface",
            DAGSTER,
            "TaskFailedToStart",
            "Timeout waiting for network interface provisioning to complete.",
            None,
            "",
            start(StartFailure::Network, true),
        ),
        row(
            "ephemeral storage",
            DAGSTER,
            "TaskFailedToStart",
            "Timeout waiting for EphemeralStorage provisioning to complete. ephemeral storage",
            None,
            "",
            start(StartFailure::Other, true),
        ),
        row(
            "capacity",
            "https://github.com/apache/airflow/issues/48001",
            "TaskFailedToStart",
            "Capacity is unavailable at this time. Please try again later or in a different availability zone",
            None,
            "",
            start(StartFailure::Capacity, true),
        ),
        row(
            "role",
            CODES,
            "TaskFailedToStart",
            "ECS was unable to assume the role 'arn:aws:iam::1:role/task' that was provided for this task.",
            None,
            "",
            start(StartFailure::Permission, false),
        ),
        row(
            "no such command",
            CODES,
            "TaskFailedToStart",
            "",
            None,
            "CannotStartContainerError: failed to create task: exec: \"/nothing\": stat /nothing: no such file or \
             directory: unknown",
            start(StartFailure::Command, false),
        ),
        row(
            "log group missing",
            RESOURCE,
            "TaskFailedToStart",
            "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: \
             ResourceNotFoundException: The specified log group does not exist.",
            None,
            "",
            start(StartFailure::Other, false),
        ),
    ];
    for row in &rows {
        let state = observe(&stopped(row), Some("main")).state;
        assert_eq!(state, JobState::Finished(row.outcome.clone()), "{}: {}", row.name, row.seen_at);
    }
}

// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html
#[test]
fn every_stage_of_the_life_of_a_task_has_its_state() {
    let rows = [
        ("PROVISIONING", "RUNNING", "", JobState::Pending),
        ("PENDING", "RUNNING", "", JobState::Pending),
        ("ACTIVATING", "RUNNING", "", JobState::Pending),
        ("PENDING", "STOPPED", "UserInitiated", JobState::Stopping),
        ("RUNNING", "RUNNING", "", JobState::Running),
        ("RUNNING", "STOPPED", "UserInitiated", JobState::Stopping),
        ("DEACTIVATING", "STOPPED", "UserInitiated", JobState::Stopping),
        ("STOPPING", "STOPPED", "SpotInterruption", JobState::Stopping),
        ("DEPROVISIONING", "STOPPED", "EssentialContainerExited", JobState::Running),
    ];
    for (last, desired, code, state) in rows {
        let code = (!code.is_empty()).then(|| TaskStopCode::from(code));
        // While it is provisioned it has no containers: https://github.com/apache/airflow/issues/51429
        let task = Task::builder().last_status(last).desired_status(desired).set_stop_code(code).build();
        assert_eq!(observe(&task, Some("main")).state, state, "{last} {desired}");
    }
}

#[test]
fn a_job_that_ends_itself_when_its_time_is_over_is_timed_out() {
    let ended = |seconds: i64, exit: i32| {
        let variable = |name: &str, value: &str| KeyValuePair::builder().name(name).value(value).build();
        let overrides = ContainerOverride::builder()
            .name("main")
            .environment(variable("ANYCLOUD_SUBMISSION", "x"))
            .environment(variable("ANYCLOUD_TIMEOUT_SECONDS", "30"));
        let task = Task::builder()
            .last_status("STOPPED")
            .stop_code(TaskStopCode::EssentialContainerExited)
            .started_at(DateTime::from_secs(1_000))
            .stopped_at(DateTime::from_secs(1_000 + seconds))
            .overrides(TaskOverride::builder().container_overrides(overrides.build()).build())
            .containers(Container::builder().name("main").exit_code(exit).build())
            .build();
        observe(&task, overridden(&task)).state
    };
    assert_eq!(ended(31, 143), JobState::Finished(JobOutcome::TimedOut));
    assert_eq!(ended(5, 143), JobState::Finished(JobOutcome::Failed { exit_code: Some(143) }));
    assert_eq!(ended(31, 0), JobState::Finished(JobOutcome::Succeeded));
    assert_eq!(ended(31, 1), JobState::Finished(JobOutcome::Failed { exit_code: Some(1) }));
}
