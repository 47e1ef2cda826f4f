use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::{JobCapabilities, JobExecution, JobRequest, ListExecutions, LogLine, LogOptions};
use crate::{ExecutionId, IdempotencyKey, JobName, ObjectStore, Result};

/// Runs job definitions that an operator has made: task families on ECS, Cloud Run jobs, commands on `local`.
///
/// # Errors
/// Besides those named at each method, every method may fail with `PermissionDenied`, `Unauthenticated`,
/// `Throttled`, `Unavailable`, `Timeout`, `InvalidConfig` and `Internal`.
#[async_trait]
pub trait JobRunner: Debug + Send + Sync + 'static {
    /// What this runner can do. Pure.
    fn capabilities(&self) -> &JobCapabilities;

    /// The store through which payloads and results travel. Pure.
    fn exchange(&self) -> &Arc<dyn ObjectStore>;

    /// Starts an execution and returns as soon as the platform has taken it.
    ///
    /// At most one execution comes of a key and attempt: a call repeated with the same ones returns the execution that
    /// is there already, whatever its state. To run again, count the attempt up.
    ///
    /// # Errors
    /// - `NotFound`: no such job definition.
    /// - `PreconditionFailed`: the key and attempt were used with another request.
    /// - `InvalidInput`, `TooLarge` (arguments and environment), `Unsupported` (see the capabilities).
    /// - `ResourceExhausted`: the platform has no capacity for it now.
    /// - `Indeterminate`: it may have been started; [`find`](Self::find) with the same key tells, and calling again
    ///   with the same key is safe.
    async fn run(&self, job: &JobName, request: JobRequest) -> Result<JobExecution>;

    /// The execution that was started with this key and attempt, if there is one that the platform still knows.
    ///
    /// # Errors
    /// `NotFound` for the job definition, where the platform tells.
    async fn find(&self, job: &JobName, key: &IdempotencyKey, attempt: u32) -> Result<Option<JobExecution>>;

    /// The state of an execution.
    ///
    /// # Errors
    /// `NotFound` for an execution that never was. One that the platform has forgotten is reported with the outcome
    /// [`Unknown`](super::JobOutcome::Unknown) or [`Lost`](super::JobOutcome::Lost), never with a guess.
    async fn get(&self, id: &ExecutionId) -> Result<JobExecution>;

    /// The state of an execution as it is after a pause: what [`wait`](super::JobRunnerExt::wait) looks by. A runner
    /// may look earlier where that makes one request of many looks, but not later than the pause and the time of a
    /// call.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    async fn get_within(&self, id: &ExecutionId, pause: Duration) -> Result<JobExecution>;

    /// The states of many executions, in the order asked, with as few calls as the platform allows.
    ///
    /// # Errors
    /// Each has its own result, as for [`get`](Self::get).
    async fn get_many(&self, ids: &[ExecutionId]) -> Vec<Result<JobExecution>>;

    /// Lists executions that the platform still knows, newest first.
    ///
    /// # Errors
    /// In the stream; after an error it ends.
    fn list(&self, options: ListExecutions) -> BoxStream<'static, Result<JobExecution>>;

    /// Asks an execution to end: SIGTERM, then SIGKILL after the grace (10 seconds on Cloud Run, 30 on ECS unless the
    /// task definition says otherwise; plan for 10). Returns when the platform has taken the request; an execution
    /// that has ended is left as it is, and that is a success.
    ///
    /// # Errors
    /// `NotFound`.
    async fn cancel(&self, id: &ExecutionId) -> Result<()>;

    /// The lines that the execution wrote to its output, in order of time. Before the first line there is none, not
    /// an error. Following ends after the execution has, and what it wrote last was read.
    ///
    /// # Errors
    /// In the stream: `NotFound`; `Unsupported` when the platform's logs cannot be read from here.
    fn logs(&self, id: &ExecutionId, options: LogOptions) -> BoxStream<'static, Result<LogLine>>;
}
