//! From what ECS says of a task to what it means: pure.

use std::time::{Duration, SystemTime};

use aws_sdk_ecs::types::{Container, Task, TaskStopCode};

use super::start_failure;
use crate::job_runner::{Evidence, JobState, StopCause, classify};

/// How the reason begins that the runner gives when it stops a task because somebody asked.
pub(super) const CANCELLED: &str = "anycloud: cancelled";
/// How the reason begins that the runner gives when it stops a task because its time was over.
pub(super) const TIMED_OUT: &str = "anycloud: timed out";

/// What a task says about itself.
#[derive(Clone, Debug)]
pub(super) struct Observation {
    pub(super) state: JobState,
    pub(super) exit_code: Option<i32>,
    pub(super) reason: Option<String>,
}

/// Concludes the state of a task from the judged container, which is never a sidecar; without one, from the task
/// alone.
pub(super) fn observe(task: &Task, container: Option<&str>) -> Observation {
    let judged = judged(task, container);
    let reason = reason(task, judged);
    let exit_code = judged.and_then(Container::exit_code);
    let state = match task.last_status().unwrap_or_default() {
        "PROVISIONING" | "PENDING" | "ACTIVATING" if !stop_asked(task) => JobState::Pending,
        "STOPPED" | "DELETED" => JobState::Finished(classify(&evidence(task, judged))),
        _ if stop_asked(task) => JobState::Stopping,
        _ => JobState::Running,
    };
    Observation { state, exit_code, reason }
}

fn judged<'a>(task: &'a Task, container: Option<&str>) -> Option<&'a Container> {
    match (container, task.containers()) {
        (Some(name), containers) => containers.iter().find(|container| container.name() == Some(name)),
        (None, [only]) => Some(only),
        (None, _) => None,
    }
}

/// A task that ends by itself is on its way to STOPPED as well, but nobody asked.
fn stop_asked(task: &Task) -> bool {
    task.desired_status() == Some("STOPPED") && task.stop_code() != Some(&TaskStopCode::EssentialContainerExited)
}

fn reason(task: &Task, judged: Option<&Container>) -> Option<String> {
    let of_task = task.stopped_reason().filter(|reason| !reason.is_empty());
    let of_container = judged.and_then(Container::reason).filter(|reason| !reason.is_empty());
    match (of_task, of_container) {
        (Some(task), Some(container)) if !task.contains(container) => Some(format!("{task}; {container}")),
        (Some(one), _) | (None, Some(one)) => Some(one.to_owned()),
        (None, None) => None,
    }
}

fn evidence(task: &Task, judged: Option<&Container>) -> Evidence {
    let said = reason(task, judged).unwrap_or_default();
    let exit_code = judged.and_then(Container::exit_code);
    Evidence {
        stop: stop_cause(task, &said, exit_code),
        exit_code,
        // 137 alone is any SIGKILL.
        out_of_memory: said.contains("OutOfMemory"),
        ..Evidence::default()
    }
}

/// Reasons that mean that the capacity went away: older events and hosts of one's own come without a code.
const INTERRUPTIONS: &[&str] = &["Spot Task was interrupted", "spot interruption", "performing maintenance"];

fn stop_cause(task: &Task, said: &str, exit_code: Option<i32>) -> Option<StopCause> {
    if said.starts_with(TIMED_OUT) {
        return Some(StopCause::TimedOut);
    }
    if said.starts_with(CANCELLED) {
        return Some(StopCause::Cancelled);
    }
    let host_gone = said.contains("Host EC2") && said.contains("terminated");
    if host_gone || INTERRUPTIONS.iter().any(|text| said.contains(text)) {
        return Some(StopCause::Interrupted);
    }
    let failed_to_start = || {
        let (cause, transient) = start_failure::classify(said);
        StopCause::StartFailure { cause, transient }
    };
    match task.stop_code() {
        Some(TaskStopCode::UserInitiated | TaskStopCode::ServiceSchedulerInitiated) => Some(StopCause::Cancelled),
        Some(TaskStopCode::SpotInterruption | TaskStopCode::TerminationNotice | TaskStopCode::InfrastructureHealth) => {
            Some(StopCause::Interrupted)
        }
        Some(TaskStopCode::TaskFailedToStart) => Some(failed_to_start()),
        // An image or command that fails in an essential container is told by the container's reason only.
        _ if exit_code.is_none() && start_failure::is_one(said) => Some(failed_to_start()),
        // It ended itself on the request to end that the job's own clock made.
        _ if exit_code == Some(143) && ran_out(task) => Some(StopCause::TimedOut),
        _ => None,
    }
}

fn ran_out(task: &Task) -> bool {
    let ended = time(task.execution_stopped_at()).or_else(|| time(task.stopped_at()));
    let (Some(limit), Some(started), Some(ended)) = (timeout(task), time(task.started_at()), ended) else {
        return false;
    };
    ended.duration_since(started).is_ok_and(|ran| ran >= limit)
}

/// A variable that the runner gave to the task.
pub(super) fn variable<'a>(task: &'a Task, name: &str) -> Option<&'a str> {
    let containers = task.overrides()?.container_overrides();
    let variables = containers.iter().flat_map(aws_sdk_ecs::types::ContainerOverride::environment);
    variables.into_iter().find(|variable| variable.name() == Some(name))?.value()
}

/// The container that the runner gave variables to.
pub(super) fn overridden(task: &Task) -> Option<&str> {
    variable(task, "ANYCLOUD_SUBMISSION")?;
    let containers = task.overrides()?.container_overrides();
    containers.iter().find(|container| !container.environment().is_empty())?.name()
}

/// How long the task may run.
pub(super) fn timeout(task: &Task) -> Option<Duration> {
    variable(task, "ANYCLOUD_TIMEOUT_SECONDS")?.parse().ok().map(Duration::from_secs)
}

pub(super) fn time(at: Option<&aws_sdk_ecs::primitives::DateTime>) -> Option<SystemTime> {
    at.and_then(|at| SystemTime::try_from(*at).ok())
}

#[cfg(test)]
mod tests;
