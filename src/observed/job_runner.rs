use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tracing::{Span, field, info_span};

use super::{Observed, check_labels, note, traced, traced_stream};
use crate::job_runner::{Capacity, JobCapabilities, ListExecutions, LogLine, LogOptions};
use crate::{
    Error, ErrorKind, ExecutionId, IdempotencyKey, JobExecution, JobName, JobRequest, JobRunner, ObjectStore, Result,
};

/// A runner, and the store of its payloads and results as the caller sees it: checked and traced.
#[derive(Debug)]
pub(crate) struct Exchanging {
    runner: Arc<dyn JobRunner>,
    exchange: Arc<dyn ObjectStore>,
}

impl Exchanging {
    /// `exchange` is the runner's own, observed.
    pub(crate) fn new(runner: Arc<dyn JobRunner>, exchange: Arc<dyn ObjectStore>) -> Self {
        Self { runner, exchange }
    }
}

impl Observed<Exchanging> {
    fn span(&self, operation: &'static str, subject: &str) -> Span {
        info_span!(
            "job_runner",
            otel.name = operation,
            otel.kind = "client",
            otel.status_code = field::Empty,
            error.type = field::Empty,
            http.response.status_code = field::Empty,
            cloud.provider = self.inner.runner.capabilities().provider,
            anycloud.job = subject,
            anycloud.executions = field::Empty,
        )
    }

    fn check(&self, job: &JobName, request: &JobRequest) -> Result<()> {
        request.check(job)?;
        let can = self.inner.runner.capabilities();
        let missing = if request.tasks.get() > can.max_tasks {
            format!("{} tasks; at most {} are possible", request.tasks, can.max_tasks)
        } else if request.resources.is_some() && !can.resources {
            "CPU and memory of its own for an execution".to_owned()
        } else if request.capacity != Capacity::OnDemand && !can.spot {
            "spot capacity".to_owned()
        } else if request.args.as_ref().is_some_and(Vec::is_empty) && !can.clear_args {
            "clearing the definition's arguments".to_owned()
        } else {
            return Ok(());
        };
        let message = format!("`{}` does not offer {missing}", can.provider);
        Err(Error::new(ErrorKind::Unsupported, "job_runner.run", job, message))
    }
}

#[async_trait]
impl JobRunner for Observed<Exchanging> {
    fn capabilities(&self) -> &JobCapabilities {
        self.inner.runner.capabilities()
    }

    fn exchange(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.exchange
    }

    async fn run(&self, job: &JobName, request: JobRequest) -> Result<JobExecution> {
        let call = async {
            self.check(job, &request)?;
            self.inner.runner.run(job, request).await
        };
        traced(self.span("job_runner.run", job.as_str()), call).await
    }

    async fn find(&self, job: &JobName, key: &IdempotencyKey, attempt: u32) -> Result<Option<JobExecution>> {
        traced(self.span("job_runner.find", job.as_str()), self.inner.runner.find(job, key, attempt)).await
    }

    async fn get(&self, id: &ExecutionId) -> Result<JobExecution> {
        traced(self.span("job_runner.get", id.as_str()), self.inner.runner.get(id)).await
    }

    async fn get_within(&self, id: &ExecutionId, pause: Duration) -> Result<JobExecution> {
        traced(self.span("job_runner.get_within", id.as_str()), self.inner.runner.get_within(id, pause)).await
    }

    async fn get_many(&self, ids: &[ExecutionId]) -> Vec<Result<JobExecution>> {
        use tracing::Instrument as _;
        let span = self.span("job_runner.get_many", "");
        span.record("anycloud.executions", ids.len());
        let results = self.inner.runner.get_many(ids).instrument(span.clone()).await;
        if let Some(error) = results.iter().find_map(|result| result.as_ref().err()) {
            note(&span, error);
        }
        results
    }

    fn list(&self, options: ListExecutions) -> BoxStream<'static, Result<JobExecution>> {
        const OPERATION: &str = "job_runner.list";
        let job = options.job.as_ref().map(JobName::as_str).unwrap_or_default().to_owned();
        let checked = check_labels(OPERATION, &job, &options.labels);
        traced_stream(self.span(OPERATION, &job), checked, || self.inner.runner.list(options))
    }

    async fn cancel(&self, id: &ExecutionId) -> Result<()> {
        traced(self.span("job_runner.cancel", id.as_str()), self.inner.runner.cancel(id)).await
    }

    fn logs(&self, id: &ExecutionId, options: LogOptions) -> BoxStream<'static, Result<LogLine>> {
        let span = self.span("job_runner.logs", id.as_str());
        traced_stream(span, Ok(()), || self.inner.runner.logs(id, options))
    }
}
