//! Looking at executions.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_ecs::types::Task;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::handle::{Handle, short};
use super::observe::{Observation, observe, overridden, time, variable};
use super::{Inner, record};
use crate::job_runner::{SubmissionId, TaskCounts};
use crate::{ExecutionId, JobExecution, JobName, JobOutcome, JobState, Result};

const OPERATION: &str = "job_runner.get";

/// For how long ECS may not know a task that it has just started:
/// [eventual consistency](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html) is to be waited
/// for up to five minutes.
const GRACE: Duration = Duration::from_secs(5 * 60);

/// How many ended executions and tasks are kept in mind.
const MOST_KEPT: usize = 4_096;

/// What this process knows of a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    since: Instant,
    seen: bool,
}

impl Inner {
    pub(super) async fn get(self: &Arc<Self>, id: &ExecutionId) -> Result<JobExecution> {
        self.look(id, Duration::ZERO).await
    }

    pub(super) async fn get_many(self: &Arc<Self>, ids: &[ExecutionId]) -> Vec<Result<JobExecution>> {
        // All are asked about at once, so that they come into the same round.
        join_all(ids.iter().map(|id| self.get(id))).await
    }

    /// Looks within this time from now: earlier where others look.
    pub(super) async fn look(self: &Arc<Self>, id: &ExecutionId, within: Duration) -> Result<JobExecution> {
        if let Some(ended) = self.ended.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Ok(ended.clone());
        }
        let handle = Handle::parse(id, self.cluster(), OPERATION)?;
        let mut tasks = Vec::with_capacity(handle.tasks.len());
        for seen in self.poller.look(&handle.tasks, within).await {
            tasks.push(seen.map_err(|error| error.with_operation(OPERATION, id))?);
        }
        let execution = self.conclude(&handle, &tasks).await?;
        if execution.state.is_finished() {
            self.keep(&handle, &execution).await;
            return Ok(execution);
        }
        self.stop_if_over(execution, &tasks).await
    }

    /// The execution that these tasks are, with those that ECS does not know as `None`.
    pub(super) async fn conclude(&self, handle: &Handle, tasks: &[Option<Task>]) -> Result<JobExecution> {
        self.note_seen(handle, tasks);
        let missing = handle.tasks.iter().zip(tasks).filter(|(_, task)| task.is_none());
        let missing: Vec<&str> = missing.map(|(id, _)| id.as_str()).collect();
        if missing.is_empty() || missing.iter().all(|id| self.is_new(id)) {
            return self.assemble(handle, tasks, &JobState::Pending).await;
        }
        let id = handle.id()?;
        let Some(submission) = &handle.submission else {
            return self.assemble(handle, tasks, &JobState::Finished(JobOutcome::Unknown)).await;
        };
        match self.records.load(submission).await? {
            Some((record, _)) if record.ended.is_some() => record.execution(id, submission.clone(), JobState::Pending),
            Some((record, _)) => {
                let age = SystemTime::now().duration_since(record::from_millis(record.created)).unwrap_or_default();
                let young = age < GRACE && !missing.iter().any(|id| self.was_seen(id));
                let state = if young { JobState::Pending } else { JobState::Finished(JobOutcome::Lost) };
                match tasks.iter().flatten().next() {
                    Some(_) => self.assemble(handle, tasks, &state).await,
                    None => record.execution(id, submission.clone(), state),
                }
            }
            None => self.assemble(handle, tasks, &JobState::Finished(JobOutcome::Unknown)).await,
        }
    }

    /// The execution that these tasks say it is; `missing` is the state of those that are not there.
    pub(super) async fn assemble(
        &self,
        handle: &Handle,
        tasks: &[Option<Task>],
        missing: &JobState,
    ) -> Result<JobExecution> {
        let mut observed = Vec::with_capacity(tasks.len());
        for task in tasks {
            observed.push(match task {
                Some(task) => observe(task, self.container(task).await?.as_deref()),
                None => Observation { state: missing.clone(), exit_code: None, reason: None },
            });
        }
        let known: Vec<&Task> = tasks.iter().flatten().collect();
        let first = known.first().copied();
        let job = first.and_then(family).map(JobName::new).transpose()?;
        let job = match job {
            Some(job) => job,
            // Nothing is known of it but its id.
            None => JobName::new("unknown")?,
        };
        let worst = observed.iter().max_by_key(|seen| weight(&seen.state));
        let reasons = worst.and_then(|seen| seen.reason.clone());
        let state = overall(&observed);
        let ended = state.is_finished();
        Ok(JobExecution {
            id: handle.id()?,
            job,
            submission: handle.submission.clone(),
            attempt: first.and_then(|task| variable(task, "ANYCLOUD_ATTEMPT")?.parse().ok()).unwrap_or(1),
            tasks: counts(&observed),
            created: known.iter().filter_map(|task| time(task.created_at())).min(),
            started: known.iter().filter_map(|task| time(task.started_at())).min(),
            finished: known.iter().filter_map(|task| time(task.stopped_at())).max().filter(|_| ended),
            labels: first.and_then(labels).unwrap_or_default(),
            reason: reasons,
            details: first.map(|task| details(task, &observed)).unwrap_or_default(),
            state,
        })
    }

    /// The container that is judged: the one that was given its arguments, or else the definition's.
    async fn container(&self, task: &Task) -> Result<Option<String>> {
        if let Some(name) = overridden(task) {
            return Ok(Some(name.to_owned()));
        }
        match (task.containers(), task.task_definition_arn()) {
            ([] | [_], _) | (_, None) => Ok(None),
            (_, Some(arn)) => match self.definitions.get(&self.ecs, OPERATION, arn).await {
                Ok(definition) => Ok(Some(definition.container.clone())),
                Err(error) if error.is_retryable() => Err(error),
                // It was deleted since.
                Err(_) => Ok(None),
            },
        }
    }

    async fn keep(&self, handle: &Handle, execution: &JobExecution) {
        let recorded = match &handle.submission {
            // What is lost may yet turn out to be known to somebody else.
            Some(_) if matches!(execution.outcome(), Some(JobOutcome::Lost | JobOutcome::Unknown)) => false,
            Some(submission) => self.records.close(submission, execution).await,
            None => true,
        };
        if recorded {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            if ended.len() >= MOST_KEPT {
                ended.clear();
            }
            ended.insert(execution.id.clone(), execution.clone());
        }
    }

    fn note_seen(&self, handle: &Handle, tasks: &[Option<Task>]) {
        let mut known = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, task) in handle.tasks.iter().zip(tasks) {
            if task.is_some() {
                note(&mut known, id, true);
            }
        }
    }

    /// Notes that this process has just started a task.
    pub(super) fn note_started(&self, tasks: &[String]) {
        let mut known = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for id in tasks {
            note(&mut known, id, false);
        }
    }

    pub(super) fn is_new(&self, id: &str) -> bool {
        let known = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(id).is_some_and(|known| !known.seen && known.since.elapsed() < GRACE)
    }

    fn was_seen(&self, id: &str) -> bool {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).get(id).is_some_and(|known| known.seen)
    }
}

fn note(known: &mut HashMap<String, Known>, id: &str, seen: bool) {
    if known.len() >= MOST_KEPT {
        known.retain(|_, known| known.since.elapsed() < GRACE);
    }
    let entry = known.entry(id.to_owned()).or_insert_with(|| Known { since: Instant::now(), seen });
    entry.seen |= seen;
}

/// The family of a task's definition: `arn:…:task-definition/family:revision`.
pub(super) fn family(task: &Task) -> Option<&str> {
    short(task.task_definition_arn()?).split(':').next()
}

/// The submission that a task is of.
pub(super) fn submission(task: &Task) -> Option<SubmissionId> {
    let id = SubmissionId::new(variable(task, "ANYCLOUD_SUBMISSION")?).ok()?;
    // Somebody may have copied the variables of a task in the console.
    (task.started_by() == Some(id.as_str())).then_some(id)
}

/// The labels as the environment has them: StopTask
/// [removes tags](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_StopTask.html).
fn labels(task: &Task) -> Option<BTreeMap<String, String>> {
    serde_json::from_str(variable(task, "ANYCLOUD_LABELS")?).ok()
}

fn details(task: &Task, observed: &[Observation]) -> BTreeMap<String, String> {
    let facts = [
        ("lastStatus", task.last_status().map(str::to_owned)),
        ("stopCode", task.stop_code().map(|code| code.as_str().to_owned())),
        ("taskArn", task.task_arn().map(str::to_owned)),
        ("taskDefinition", task.task_definition_arn().map(str::to_owned)),
        ("capacityProvider", task.capacity_provider_name().map(str::to_owned)),
        ("exitCode", observed.first().and_then(|seen| seen.exit_code).map(|code| code.to_string())),
    ];
    let told = facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    told.filter(|(_, value)| !value.is_empty()).collect()
}

/// Which of several endings speaks for all: what nobody but the job is answerable for comes last.
fn weight(state: &JobState) -> u32 {
    match state {
        JobState::Finished(outcome) => match outcome {
            JobOutcome::Succeeded => 0,
            JobOutcome::Unknown => 1,
            JobOutcome::Lost => 2,
            JobOutcome::Interrupted => 3,
            JobOutcome::FailedToStart { transient: true, .. } => 4,
            JobOutcome::FailedToStart { .. } => 5,
            JobOutcome::Killed { .. } => 6,
            JobOutcome::Failed { .. } => 7,
            JobOutcome::OutOfMemory => 8,
            JobOutcome::Cancelled => 9,
            JobOutcome::TimedOut => 10,
        },
        _ => 0,
    }
}

/// The state of an execution of several tasks: ended when all are, and successful when all were.
fn overall(tasks: &[Observation]) -> JobState {
    let states: Vec<&JobState> = tasks.iter().map(|task| &task.state).collect();
    let going: Vec<&&JobState> = states.iter().filter(|state| !state.is_finished()).collect();
    if going.is_empty() {
        // Of equals the one of the lowest index.
        let worst = states.iter().rev().max_by_key(|state| weight(state));
        return worst.map_or(JobState::Finished(JobOutcome::Unknown), |state| (**state).clone());
    }
    if going.iter().all(|state| ***state == JobState::Stopping) {
        JobState::Stopping
    } else if states.iter().all(|state| **state == JobState::Pending) {
        JobState::Pending
    } else {
        JobState::Running
    }
}

fn counts(tasks: &[Observation]) -> TaskCounts {
    let count = |matches: fn(&JobState) -> bool| {
        u32::try_from(tasks.iter().filter(|task| matches(&task.state)).count()).unwrap_or(u32::MAX)
    };
    TaskCounts {
        total: u32::try_from(tasks.len()).unwrap_or(u32::MAX),
        running: count(|state| matches!(state, JobState::Running | JobState::Stopping)),
        succeeded: count(|state| *state == JobState::Finished(JobOutcome::Succeeded)),
        failed: count(|state| state.outcome().is_some_and(|outcome| !outcome.is_success())),
        retried: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: JobState) -> Observation {
        Observation { state, exit_code: None, reason: None }
    }

    #[test]
    fn an_execution_has_succeeded_only_when_all_its_tasks_have() {
        let ended = |outcome| seen(JobState::Finished(outcome));
        let failed = || ended(JobOutcome::Failed { exit_code: Some(3) });
        let succeeded = || ended(JobOutcome::Succeeded);
        let rows = [
            (vec![succeeded(), succeeded()], JobState::Finished(JobOutcome::Succeeded)),
            (vec![succeeded(), failed()], JobState::Finished(JobOutcome::Failed { exit_code: Some(3) })),
            (
                vec![ended(JobOutcome::Interrupted), failed()],
                JobState::Finished(JobOutcome::Failed { exit_code: Some(3) }),
            ),
            (vec![failed(), ended(JobOutcome::Cancelled)], JobState::Finished(JobOutcome::Cancelled)),
            (vec![succeeded(), ended(JobOutcome::Lost)], JobState::Finished(JobOutcome::Lost)),
            (vec![succeeded(), seen(JobState::Pending)], JobState::Running),
            (vec![seen(JobState::Pending), seen(JobState::Pending)], JobState::Pending),
            (vec![failed(), seen(JobState::Stopping)], JobState::Stopping),
        ];
        for (tasks, state) in rows {
            assert_eq!(overall(&tasks), state, "{tasks:?}");
        }
    }
}
