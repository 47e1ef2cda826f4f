//! The record of an execution in the exchange store: made before the platform is asked to start it, and closed when its
//! end is first seen. ECS keeps ended tasks for an hour or so, and its tokens for a day.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::job_runner::{SubmissionId, TaskCounts};
use crate::object_store::{DeleteOptions, PutMode, Version};
use crate::retry::in_time;
use crate::{ErrorKind, GetOptions, JobExecution, JobOutcome, JobState, ObjectKey, ObjectStore, PutOptions, Result};

const OPERATION: &str = "job_runner.record";

/// How long the closing of a record may hold up the answer that it is about.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is kept of one submission.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) job: String,
    pub(super) attempt: u32,
    pub(super) fingerprint: String,
    pub(super) cluster: String,
    /// Unix time in milliseconds.
    pub(super) created: u64,
    pub(super) labels: BTreeMap<String, String>,
    /// The revision that was asked for, so that the same request can be made again.
    pub(super) task_definition: String,
    /// Indexes of tasks that found no spot capacity and went on demand instead.
    #[serde(default)]
    pub(super) on_demand: Vec<u32>,
    /// The ids of the tasks in the order of their indexes; empty until ECS has answered.
    #[serde(default)]
    pub(super) tasks: Vec<String>,
    #[serde(default)]
    pub(super) ended: Option<Ended>,
}

/// How it ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) outcome: JobOutcome,
    pub(super) counts: TaskCounts,
    pub(super) started: Option<u64>,
    pub(super) finished: Option<u64>,
    pub(super) reason: Option<String>,
    pub(super) details: BTreeMap<String, String>,
}

/// The records in a store.
#[derive(Clone, Debug)]
pub(super) struct Records {
    store: Arc<dyn ObjectStore>,
}

/// What a claim came to.
pub(super) enum Claim {
    /// It is the caller's; the version of its record, if it could be kept.
    New(Option<Version>),
    /// The submission was made before.
    Before(Box<Record>, Version),
}

impl Records {
    pub(super) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Puts down that a submission is about to be made, unless it was before.
    ///
    /// A store that cannot be written to is no reason not to run: within a day the platform's own token does the same.
    pub(super) async fn claim(&self, id: &SubmissionId, record: &Record) -> Result<Claim> {
        let key = key(id)?;
        match self.put(&key, record, PutMode::Create).await {
            Ok(version) => Ok(Claim::New(Some(version))),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match self.load(id).await? {
                Some((before, version)) => Ok(Claim::Before(Box::new(before), version)),
                None => Ok(Claim::New(None)),
            },
            Err(error) => {
                tracing::warn!(submission = %id, %error, "the execution will not be known after ECS forgets it");
                Ok(Claim::New(None))
            }
        }
    }

    /// The record of a submission, if there is one.
    pub(super) async fn load(&self, id: &SubmissionId) -> Result<Option<(Record, Version)>> {
        let found = match self.store.get(&key(id)?, GetOptions::default()).await {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let version = found.meta.version.clone();
        let record = crate::formats::json::parse(&in_time(OPERATION, id, found.bytes()).await?, OPERATION, id)?;
        Ok(Some((record, version)))
    }

    /// Replaces a record of which this is the current version.
    pub(super) async fn replace(&self, id: &SubmissionId, record: &Record, version: Version) -> Result<Version> {
        self.put(&key(id)?, record, PutMode::Replace(version)).await
    }

    async fn put(&self, key: &ObjectKey, record: &Record, mode: PutMode) -> Result<Version> {
        let bytes = crate::formats::json::encode(record, OPERATION, key)?;
        let mut options = PutOptions { mode, ..PutOptions::default() };
        options.headers.content_type = Some("application/json".to_owned());
        self.store.put(key, bytes, options).await.map(|result| result.version)
    }

    /// Notes how an execution ended, if its record says nothing yet. Failing to is not a failure of the call that saw
    /// the end: the next one tries again.
    pub(super) async fn close(&self, id: &SubmissionId, execution: &JobExecution) -> bool {
        let Some(ended) = Ended::of(execution) else { return false };
        let close = async {
            let Some((mut record, version)) = self.load(id).await? else { return Ok(()) };
            if record.ended.is_none() {
                record.ended = Some(ended);
                self.replace(id, &record, version).await?;
            }
            Ok::<_, crate::Error>(())
        };
        match tokio::time::timeout(PATIENCE, close).await {
            Ok(Ok(())) => true,
            // Somebody else saw the end at the same time.
            Ok(Err(error)) if error.kind() == ErrorKind::PreconditionFailed => true,
            Ok(Err(error)) => {
                tracing::debug!(submission = %id, %error, "the end could not be recorded");
                false
            }
            Err(_) => {
                tracing::debug!(submission = %id, "recording the end took too long");
                false
            }
        }
    }

    /// Takes back a claim of which nothing came.
    pub(super) async fn release(&self, id: &SubmissionId) {
        let released = match key(id) {
            Ok(key) => self.store.delete(&key, DeleteOptions::default()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = released {
            tracing::debug!(submission = %id, %error, "a claim could not be taken back");
        }
    }
}

impl Ended {
    fn of(execution: &JobExecution) -> Option<Self> {
        Some(Self {
            outcome: execution.outcome()?.clone(),
            counts: execution.tasks,
            started: execution.started.map(millis),
            finished: execution.finished.map(millis),
            reason: execution.reason.clone(),
            details: execution.details.clone(),
        })
    }
}

impl Record {
    /// The execution as the record has it; with another state where the record does not know the end.
    pub(super) fn execution(
        &self,
        id: crate::ExecutionId,
        submission: SubmissionId,
        otherwise: JobState,
    ) -> Result<JobExecution> {
        let total = u32::try_from(self.tasks.len()).unwrap_or(u32::MAX);
        let ended = self.ended.as_ref();
        Ok(JobExecution {
            id,
            job: crate::JobName::new(&*self.job)?,
            submission: Some(submission),
            attempt: self.attempt,
            state: ended.map_or(otherwise, |ended| JobState::Finished(ended.outcome.clone())),
            tasks: ended.map_or(TaskCounts { total, ..TaskCounts::default() }, |ended| ended.counts),
            created: Some(from_millis(self.created)),
            started: ended.and_then(|ended| ended.started).map(from_millis),
            finished: ended.and_then(|ended| ended.finished).map(from_millis),
            labels: self.labels.clone(),
            reason: ended.and_then(|ended| ended.reason.clone()),
            details: ended.map(|ended| ended.details.clone()).unwrap_or_default(),
        })
    }
}

fn key(id: &SubmissionId) -> Result<ObjectKey> {
    ObjectKey::new(format!("anycloud/jobs/{id}/execution.json"))
}

pub(super) fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn from_millis(at: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at)
}
