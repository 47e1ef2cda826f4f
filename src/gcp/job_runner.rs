mod api;
mod claim;
mod entries;
mod limiter;
mod logs;
mod lookup;
mod name;
mod observe;
mod submit;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::connection::Connection;
use super::place::Place;
use crate::job_runner::{JobCapabilities, ListExecutions, LogLine, LogOptions, SubmissionId};
use crate::retry::Calls;
use crate::{Config, ExecutionId, IdempotencyKey, JobExecution, JobName, JobRequest, JobRunner, ObjectStore, Result};
use api::Api;
use submit::Submitter;

/// [Cloud Run jobs](https://cloud.google.com/run/docs/create-jobs) of one project and region.
///
/// - An [`ExecutionId`] is `job/execution`, both by their short names; it holds in this project and region.
/// - `:run` takes no token, so the submission is recognised by a variable of the execution: a call with a key of the
///   caller's first looks through the job's executions, and one whose answer is lost looks for what it may have
///   started.
/// - Of several processes that submit a key and attempt at the same time, the one that creates the object
///   `anycloud/jobs/SUBMISSION/claim.json` in the exchange bucket submits; the others wait for its execution, and end
///   in a `Conflict`, which may be repeated, when none appears in time. A claim holds until two minutes after the last
///   moment at which its holder may send the run (together about four minutes), so that a holder that died blocks the
///   key no longer than that; a run that is turned away gives the claim up at once. The objects are small and stay;
///   a lifecycle rule on `anycloud/jobs/` may remove them after a day. An exchange store without
///   [`conditional_put`](crate::object_store::ObjectCapabilities::conditional_put) takes no claims: then a key and
///   attempt run at most once as long as one process at a time submits them. A process that is stopped for minutes
///   between its last look at the clock and the run is not fenced, as `:run` takes no condition.
/// - [`timeout`](JobRequest::timeout) is that of each attempt of each task, as Cloud Run counts it; a job definition
///   with retries (three by [default](https://cloud.google.com/run/docs/configuring/max-retries)) may run longer in
///   all. Retries are reported, and the job is told its attempt.
/// - [`labels`](JobRequest::labels) are kept in the execution's environment, because a run cannot set labels.
/// - There is no call that tells of many executions by their ids, so that each look is one: a thousand waits at the
///   default interval of ten seconds are 6,000 reads a minute, which count against the
///   [quota](https://cloud.google.com/run/quotas) of the project and region. For more than some hundreds choose a
///   longer interval, or look by [`list`](JobRunner::list), of which one call has a hundred executions of a job.
/// - Cloud Run keeps the newest [1000 executions](https://cloud.google.com/run/docs/managing/job-executions) of a
///   job; one that it has dropped is `NotFound`.
/// - Logs come from Cloud Logging, which takes them in some seconds late and allows
///   [60 reads a minute](https://cloud.google.com/logging/quotas#api-limits) and project; reads of one runner are
///   spaced to that. A line that is a JSON object is stored parsed, and comes formatted anew.
///
/// Permissions: `run.jobs.run` and `run.jobs.runWithOverrides`; `run.executions.get`, `run.executions.list` and
/// `run.executions.cancel`; `run.tasks.list` for exit codes; `logging.logEntries.list` for logs; for keys of the
/// caller's `storage.objects.create`, `storage.objects.get` and `storage.objects.delete` on the exchange bucket.
#[derive(Clone)]
pub struct CloudRunRunner {
    api: Calls<Api>,
    submitter: Arc<Submitter>,
    exchange: Arc<dyn ObjectStore>,
}

const CAPABILITIES: JobCapabilities = JobCapabilities {
    provider: "gcp",
    // https://cloud.google.com/run/quotas
    max_tasks: 10_000,
    resources: false,
    spot: false,
    clear_args: true,
    labels: true,
    platform_retries: true,
    log_streams: true,
    // https://cloud.google.com/run/docs/container-contract#instance-shutdown
    grace: Duration::from_secs(10),
    // Limited by number, not by time.
    remembered: None,
};

/// How many executions are looked at side by side.
const LOOKS_AT_ONCE: usize = 16;

impl CloudRunRunner {
    /// The jobs of the project and region in [`Config::gcp`]; payloads and results travel through `exchange`. Asks
    /// nobody anything.
    ///
    /// # Errors
    /// `InvalidConfig` for a plain-HTTP endpoint on another host, unless the configuration allows it.
    pub fn new(config: &Config, exchange: Arc<dyn ObjectStore>) -> Result<Self> {
        let connection = Connection::new(config)?;
        let place = Arc::new(Place::new(connection.clone()));
        Ok(Self::connected(connection, place, exchange))
    }

    pub(super) fn connected(connection: Connection, place: Arc<Place>, exchange: Arc<dyn ObjectStore>) -> Self {
        Self { api: Calls::new(Api::new(connection, place)), submitter: Arc::default(), exchange }
    }
}

impl fmt::Debug for CloudRunRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudRunRunner").field("api", self.api.each()).finish_non_exhaustive()
    }
}

#[async_trait]
impl JobRunner for CloudRunRunner {
    fn capabilities(&self) -> &JobCapabilities {
        &CAPABILITIES
    }

    fn exchange(&self) -> &Arc<dyn ObjectStore> {
        &self.exchange
    }

    async fn run(&self, job: &JobName, request: JobRequest) -> Result<JobExecution> {
        self.api.one(|api| self.submitter.run(api, &self.exchange, job, request)).await
    }

    async fn find(&self, job: &JobName, key: &IdempotencyKey, attempt: u32) -> Result<Option<JobExecution>> {
        const OPERATION: &str = "job_runner.find";
        let id = SubmissionId::of(job, key, attempt);
        let find = async |api: &Arc<Api>| match lookup::by_submission(api, OPERATION, job, &id, None).await? {
            Some(found) => api.observed(OPERATION, &found).await.map(Some),
            None => Ok(None),
        };
        self.api.one(find).await
    }

    async fn get(&self, id: &ExecutionId) -> Result<JobExecution> {
        const OPERATION: &str = "job_runner.get";
        let name = name::parse(OPERATION, id)?;
        let get = async |api: &Arc<Api>| api.observed(OPERATION, &api.execution(OPERATION, &name).await?).await;
        self.api.one(get).await
    }

    async fn get_within(&self, id: &ExecutionId, pause: Duration) -> Result<JobExecution> {
        tokio::time::sleep(pause).await;
        self.get(id).await
    }

    async fn get_many(&self, ids: &[ExecutionId]) -> Vec<Result<JobExecution>> {
        let looks = ids.iter().cloned().map(|id| {
            let runner = self.clone();
            async move { runner.get(&id).await }
        });
        stream::iter(looks.collect::<Vec<_>>()).buffered(LOOKS_AT_ONCE).collect().await
    }

    fn list(&self, options: ListExecutions) -> BoxStream<'static, Result<JobExecution>> {
        lookup::list(self.api.each().clone(), options)
    }

    async fn cancel(&self, id: &ExecutionId) -> Result<()> {
        let name = name::parse("job_runner.cancel", id)?;
        self.api.one(|api| api.cancel(&name)).await
    }

    fn logs(&self, id: &ExecutionId, options: LogOptions) -> BoxStream<'static, Result<LogLine>> {
        logs::read(self.api.each().clone(), id.clone(), options.mode)
    }
}
