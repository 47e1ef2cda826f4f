use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tracing::{Span, field, info_span};

use super::{Observed, traced};
use crate::job_runner::{Capacity, JobCapabilities, ListExecutions, LogLine, LogOptions};
use crate::{
    Error, ErrorKind, ExecutionId, IdempotencyKey, JobExecution, JobName, JobRequest, JobRunner, ObjectStore, Result,
};

impl Observed<Arc<dyn JobRunner>> {
    fn span(&self, operation: &'static str, subject: &str) -> Span {
        info_span!(
            "job_runner",
            otel.name = operation,
            otel.kind = "client",
            otel.status_code = field::Empty,
            error.type = field::Empty,
            cloud.provider = self.inner.capabilities().provider,
            anycloud.job = subject,
        )
    }

    fn check(&self, job: &JobName, request: &JobRequest) -> Result<()> {
        request.check(job)?;
        let can = self.inner.capabilities();
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
impl JobRunner for Observed<Arc<dyn JobRunner>> {
    fn capabilities(&self) -> &JobCapabilities {
        self.inner.capabilities()
    }

    fn exchange(&self) -> &Arc<dyn ObjectStore> {
        self.inner.exchange()
    }

    async fn run(&self, job: &JobName, request: JobRequest) -> Result<JobExecution> {
        self.check(job, &request)?;
        traced(self.span("job_runner.run", job.as_str()), self.inner.run(job, request)).await
    }

    async fn find(&self, job: &JobName, key: &IdempotencyKey, attempt: u32) -> Result<Option<JobExecution>> {
        traced(self.span("job_runner.find", job.as_str()), self.inner.find(job, key, attempt)).await
    }

    async fn get(&self, id: &ExecutionId) -> Result<JobExecution> {
        traced(self.span("job_runner.get", id.as_str()), self.inner.get(id)).await
    }

    async fn get_many(&self, ids: &[ExecutionId]) -> Vec<Result<JobExecution>> {
        self.inner.get_many(ids).await
    }

    fn list(&self, options: ListExecutions) -> BoxStream<'static, Result<JobExecution>> {
        self.inner.list(options)
    }

    async fn cancel(&self, id: &ExecutionId) -> Result<()> {
        traced(self.span("job_runner.cancel", id.as_str()), self.inner.cancel(id)).await
    }

    fn logs(&self, id: &ExecutionId, options: LogOptions) -> BoxStream<'static, Result<LogLine>> {
        self.inner.logs(id, options)
    }
}
