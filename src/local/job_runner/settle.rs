//! Looking at an execution, and judging those that nobody looks after any more.

use std::time::{Duration, SystemTime};

use super::directory::{Directory, Durability};
use super::processes::Tree;
use super::record::{Claim, Record, now, time};
use crate::job_runner::{Evidence, StartFailure, StopCause, classify};
use crate::{JobExecution, JobState, Result};

/// How long a claim may wait for its supervisor before it counts as failed to start.
const START_WINDOW: Duration = Duration::from_secs(if cfg!(test) { 3600 } else { 30 });

/// How long the end of processes that a supervisor has left is waited for.
const HUNT_LIMIT: Duration = Duration::from_secs(5);

/// The execution as it is now.
pub(super) fn look(directory: &Directory) -> Result<JobExecution> {
    let claim = directory.claim()?;
    let mut record = directory.record()?;
    let finished = |record: &Option<Record>| record.as_ref().is_some_and(|record| record.outcome.is_some());
    if !finished(&record) && !directory.is_locked()? {
        settle(directory, &claim)?;
        record = directory.record()?;
    }
    execution(directory, claim, record)
}

fn settle(directory: &Directory, claim: &Claim) -> Result<()> {
    let Some(_lock) = directory.try_lock()? else { return Ok(()) };
    let record = directory.record()?;
    let (evidence, reason) = match &record {
        Some(record) if record.outcome.is_some() => return Ok(()),
        Some(_) => {
            // Declared only when nothing runs any more; until then the next look tries again.
            // Executions of unit tests have no processes, and looking for them takes long.
            if !cfg!(test) && !Tree::marked(&claim.marker).kill(HUNT_LIMIT, || ()) {
                return Ok(());
            }
            let evidence = Evidence { vanished: true, ..Evidence::default() };
            (evidence, "the supervisor disappeared before the end was seen")
        }
        None if directory.is_asked_to_cancel()? => {
            (Evidence { stop: Some(StopCause::Cancelled), ..Evidence::default() }, "cancelled before it began")
        }
        None => {
            let age = SystemTime::now().duration_since(time(claim.created)).unwrap_or_default();
            if age < START_WINDOW {
                return Ok(());
            }
            let stop = StopCause::StartFailure { cause: StartFailure::Other, transient: true };
            (Evidence { stop: Some(stop), ..Evidence::default() }, "the caller ended before the execution began")
        }
    };
    let mut record = record.unwrap_or_default();
    record.tasks.failed += record.tasks.running;
    record.tasks.running = 0;
    record.finished = Some(now());
    record.outcome = Some(classify(&evidence));
    record.reason = Some(reason.to_owned());
    directory.set_record(&record, Durability::Synced)
}

fn execution(directory: &Directory, claim: Claim, record: Option<Record>) -> Result<JobExecution> {
    let record = record.unwrap_or_default();
    let state = match record.outcome {
        Some(outcome) => JobState::Finished(outcome),
        None if directory.is_asked_to_cancel()? => JobState::Stopping,
        None if record.started.is_some() => JobState::Running,
        None => JobState::Pending,
    };
    let mut details = record.details;
    if record.supervisor != 0 {
        details.insert("supervisor_pid".to_owned(), record.supervisor.to_string());
    }
    let mut tasks = record.tasks;
    tasks.total = claim.tasks;
    Ok(JobExecution {
        id: directory.id().clone(),
        job: claim.job,
        submission: Some(claim.submission),
        attempt: claim.attempt,
        state,
        tasks,
        created: Some(time(claim.created)),
        started: record.started.map(time),
        finished: record.finished.map(time),
        labels: claim.labels,
        reason: record.reason,
        details,
    })
}
