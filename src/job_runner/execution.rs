use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{JobOutcome, SubmissionId};
use crate::{ExecutionId, JobName};

/// Where an execution is: the same words for every platform.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Taken, and not running yet.
    Pending,
    /// At least one task runs.
    Running,
    /// Its end was asked for.
    Stopping,
    /// It has ended. Final: an execution never leaves this state, and its outcome never changes.
    Finished(JobOutcome),
}

impl JobState {
    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self, Self::Finished(_))
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn outcome(&self) -> Option<&JobOutcome> {
        match self {
            Self::Finished(outcome) => Some(outcome),
            _ => None,
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("pending"),
            Self::Running => f.write_str("running"),
            Self::Stopping => f.write_str("stopping"),
            Self::Finished(outcome) => outcome.fmt(f),
        }
    }
}

/// How many tasks of an execution are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// Tasks in all.
    pub total: u32,
    /// Running now.
    pub running: u32,
    /// Ended with exit code 0.
    pub succeeded: u32,
    /// Ended otherwise.
    pub failed: u32,
    /// Times that the platform started a failed task again.
    pub retried: u32,
}

/// One execution of a job, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobExecution {
    /// Its id.
    pub id: ExecutionId,
    /// The job definition.
    pub job: JobName,
    /// The submission that it came of, if it was started through this crate: the name of its payload and result.
    pub submission: Option<SubmissionId>,
    /// Which attempt of its idempotency key it is.
    pub attempt: u32,
    /// Where it is.
    pub state: JobState,
    /// Its tasks.
    pub tasks: TaskCounts,
    /// When it was taken.
    pub created: Option<SystemTime>,
    /// When its first task began to run.
    pub started: Option<SystemTime>,
    /// When it ended.
    pub finished: Option<SystemTime>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What the platform says about its state, in the platform's own words.
    pub reason: Option<String>,
    /// The platform's own fields that the state was concluded from.
    pub details: BTreeMap<String, String>,
}

impl JobExecution {
    /// How it ended, if it has.
    #[must_use]
    pub fn outcome(&self) -> Option<&JobOutcome> {
        self.state.outcome()
    }
}
