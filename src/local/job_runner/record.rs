//! What is written down about one execution.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::job_runner::{SubmissionId, TaskCounts};
use crate::{IdempotencyKey, JobName, JobOutcome};

/// The claim to an idempotency key and attempt: who made it has the one execution.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) job: JobName,
    pub(super) submission: SubmissionId,
    pub(super) key: IdempotencyKey,
    pub(super) attempt: u32,
    pub(super) fingerprint: String,
    pub(super) tasks: u32,
    pub(super) labels: BTreeMap<String, String>,
    /// Nanoseconds since 1970.
    pub(super) created: u64,
    /// In the environment of every process of the execution, and of no other.
    pub(super) marker: String,
}

/// What the supervisor is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) command: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) directory: PathBuf,
    pub(super) timeout: Option<Duration>,
    pub(super) grace: Duration,
}

/// How far it has come. That it exists means that tasks may have been started.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) supervisor: u32,
    pub(super) started: Option<u64>,
    pub(super) finished: Option<u64>,
    pub(super) tasks: TaskCounts,
    pub(super) outcome: Option<JobOutcome>,
    pub(super) reason: Option<String>,
    pub(super) details: BTreeMap<String, String>,
}

/// Nanoseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn time(nanoseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}
