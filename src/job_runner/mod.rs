//! Jobs: the contract that every runner keeps, and the values it speaks in.
//!
//! [`JobRunner`] is what a provider implements; [`JobRunnerExt`] adds waiting and typed results. Inside the job,
//! [`JobContext`] hands over the payload and takes the result.

mod context;
mod contract;
mod execution;
mod ext;
mod options;
mod outcome;
mod submission;

pub use context::JobContext;
pub use contract::JobRunner;
pub use execution::{JobExecution, JobState, TaskCounts};
pub use ext::{JobRunnerExt, LookCallback, WaitOptions};
pub use options::{
    Capacity, JobCapabilities, JobRequest, ListExecutions, LogLine, LogMode, LogOptions, LogStream, Resources,
};
pub use outcome::{Evidence, JobOutcome, StartFailure, StopCause, classify};
pub use submission::{MAX_INLINE_PAYLOAD_BYTES, Submission, SubmissionId};

pub(crate) use context::JobEnvironment;
