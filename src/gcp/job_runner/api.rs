//! The calls of the services, one each, in terms of this crate.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use google_cloud_logging_v2::client::LoggingServiceV2;
use google_cloud_logging_v2::model::ListLogEntriesResponse;
use google_cloud_run_v2::client::{Executions, Jobs, Tasks};
use google_cloud_run_v2::model::run_job_request::Overrides;
use google_cloud_run_v2::model::{Execution, Task};
use tokio::sync::OnceCell;

use super::super::connection::Connection;
use super::super::gax::{self, Call, Words};
use super::super::place::Place;
use super::limiter::Limiter;
use super::name::Name;
use super::observe;
use crate::retry::{Retrier, Retrying, Safety};
use crate::{Error, ErrorKind, JobExecution, JobName, Result};

/// <https://cloud.google.com/logging/quotas#api-limits>: 60 reads a minute and project; with a rest before, ten at
/// once.
const LOG_READ_INTERVAL: Duration = Duration::from_secs(1);
const LOG_READS_AT_ONCE: u32 = 10;
const EXECUTIONS_A_PAGE: i32 = 100;
const TASKS_A_PAGE: i32 = 100;
/// The most pages of tasks that are searched for the one that failed: those of 10 000 tasks.
const TASK_PAGES: u32 = 100;
pub(super) const ENTRIES_A_PAGE: i32 = 1000;

/// The services as the other rooms see them.
pub(super) struct Api {
    connection: Connection,
    place: Arc<Place>,
    jobs: OnceCell<Jobs>,
    executions: OnceCell<Executions>,
    tasks: OnceCell<Tasks>,
    logging: OnceCell<LoggingServiceV2>,
    log_reads: Limiter,
}

/// What `:run` answered.
pub(super) enum Begun {
    /// The execution.
    Execution(Box<Execution>),
    /// Nothing that names it.
    Unnamed,
}

fn call(operation: &'static str, permission: &'static str) -> Call {
    Call { operation, permission, words: Words::Quoted }
}

impl Api {
    pub(super) fn new(connection: Connection, place: Arc<Place>) -> Self {
        let interval = if connection.is_emulator() { Duration::ZERO } else { LOG_READ_INTERVAL };
        Self {
            connection,
            place,
            jobs: OnceCell::new(),
            executions: OnceCell::new(),
            tasks: OnceCell::new(),
            logging: OnceCell::new(),
            log_reads: Limiter::new(interval, LOG_READS_AT_ONCE),
        }
    }

    pub(super) fn is_emulator(&self) -> bool {
        self.connection.is_emulator()
    }

    pub(super) fn max_attempts(&self) -> u32 {
        self.connection.retrier().policy().max_attempts
    }

    pub(super) fn call_timeout(&self) -> Duration {
        self.connection.retrier().policy().call_timeout
    }

    fn endpoint(&self) -> Result<Option<&String>> {
        let endpoint = self.connection.config().cloud_run_endpoint.as_ref();
        gax::endpoint(&self.connection, endpoint, "CLOUD_RUN_EMULATOR_HOST", ErrorKind::InvalidConfig)
    }

    async fn jobs(&self) -> Result<&Jobs> {
        let build = || async { gax::build!(Jobs, self.connection, self.endpoint()?, "gcp.cloud_run") };
        self.jobs.get_or_try_init(build).await
    }

    async fn executions(&self) -> Result<&Executions> {
        let build = || async { gax::build!(Executions, self.connection, self.endpoint()?, "gcp.cloud_run") };
        self.executions.get_or_try_init(build).await
    }

    async fn tasks(&self) -> Result<&Tasks> {
        let build = || async { gax::build!(Tasks, self.connection, self.endpoint()?, "gcp.cloud_run") };
        self.tasks.get_or_try_init(build).await
    }

    async fn logging(&self) -> Result<&LoggingServiceV2> {
        let endpoint = self.connection.config().logging_endpoint.as_ref();
        let variable = "CLOUD_LOGGING_EMULATOR_HOST";
        let endpoint = gax::endpoint(&self.connection, endpoint, variable, ErrorKind::Unsupported)?;
        let build = || async { gax::build!(LoggingServiceV2, self.connection, endpoint, "gcp.logging") };
        self.logging.get_or_try_init(build).await
    }

    pub(super) async fn project(&self) -> Result<&str> {
        self.place.project().await
    }

    pub(super) async fn region(&self) -> Result<&str> {
        self.place.region().await
    }

    /// `projects/P/locations/L/jobs/J`.
    async fn job_path(&self, job: &str) -> Result<String> {
        Ok(format!("projects/{}/locations/{}/jobs/{job}", self.project().await?, self.region().await?))
    }

    async fn execution_path(&self, name: &Name) -> Result<String> {
        Ok(format!("{}/executions/{}", self.job_path(name.job.as_str()).await?, name.execution))
    }

    async fn send<T, Fut>(&self, call: Call, subject: &str, safety: Safety, request: impl Fn() -> Fut) -> Result<T>
    where
        Fut: Future<Output = google_cloud_gax::Result<T>>,
    {
        let attempt = |_| {
            let sent = request();
            async move { sent.await.map_err(|error| gax::error(call, subject, &error)) }
        };
        self.connection.retrier().run(call.operation, subject, safety, attempt).await
    }

    /// Asks for a run, once: an error says whether it may have been taken.
    pub(super) async fn run(&self, job: &JobName, overrides: Overrides) -> Result<Begun> {
        const OPERATION: &str = "job_runner.run";
        let named = |error: Error| error.with_operation(OPERATION, job);
        let client = self.jobs().await.map_err(named)?;
        let path = self.job_path(job.as_str()).await.map_err(named)?;
        let request = || client.run_job().set_name(&path).set_overrides(overrides.clone()).send();
        let call = call(OPERATION, "run.jobs.runWithOverrides");
        let operation = self.send(call, job.as_str(), Safety::Once, request).await?;
        let execution = operation.metadata.as_ref().and_then(|any| any.to_msg::<Execution>().ok());
        match execution.filter(|execution| Name::of_resource(&execution.name).is_some()) {
            Some(execution) => Ok(Begun::Execution(Box::new(execution))),
            None => match operation.error() {
                // RESOURCE_EXHAUSTED: https://cloud.google.com/run/quotas
                Some(status) if status.code == 8 => {
                    Err(Error::new(ErrorKind::ResourceExhausted, OPERATION, job, status.message.clone()))
                }
                Some(status) => Err(Error::new(ErrorKind::Internal, OPERATION, job, status.message.clone())),
                None => Ok(Begun::Unnamed),
            },
        }
    }

    pub(super) async fn execution(&self, operation: &'static str, name: &Name) -> Result<Execution> {
        let id = name.id()?;
        let named = |error: Error| error.with_operation(operation, &id);
        let client = self.executions().await.map_err(named)?;
        let path = self.execution_path(name).await.map_err(named)?;
        let request = || client.get_execution().set_name(&path).send();
        self.send(call(operation, "run.executions.get"), id.as_str(), Safety::Read, request).await
    }

    /// A page of executions of a job (newest first) or of all (`-`), and the token of the next one.
    pub(super) async fn list(
        &self,
        operation: &'static str,
        job: &str,
        token: &str,
    ) -> Result<(Vec<Execution>, String)> {
        let named = |error: Error| error.with_operation(operation, job);
        let client = self.executions().await.map_err(named)?;
        let path = self.job_path(job).await.map_err(named)?;
        let request =
            || client.list_executions().set_parent(&path).set_page_size(EXECUTIONS_A_PAGE).set_page_token(token).send();
        let page = self.send(call(operation, "run.executions.list"), job, Safety::Read, request).await?;
        if !token.is_empty() && page.next_page_token == token {
            let message = "the service repeats a page of its listing";
            return Err(Error::new(ErrorKind::Internal, operation, job, message));
        }
        Ok((page.executions, page.next_page_token))
    }

    pub(super) async fn cancel(&self, name: &Name) -> Result<()> {
        const OPERATION: &str = "job_runner.cancel";
        let id = name.id()?;
        let named = |error: Error| error.with_operation(OPERATION, &id);
        let client = self.executions().await.map_err(named)?;
        let path = self.execution_path(name).await.map_err(named)?;
        let request = || client.cancel_execution().set_name(&path).send();
        let call = call(OPERATION, "run.executions.cancel");
        match self.send(call, id.as_str(), Safety::Repeatable, request).await {
            Ok(_) => Ok(()),
            // What has ended cannot be cancelled, and need not be.
            Err(error) if matches!(error.kind(), ErrorKind::PreconditionFailed | ErrorKind::InvalidInput) => {
                let execution = self.execution(OPERATION, name).await?;
                if observe::has_ended(&execution) { Ok(()) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    /// What is seen of an execution; of one that failed, with the task that decides.
    pub(super) async fn observed(&self, operation: &'static str, execution: &Execution) -> Result<JobExecution> {
        let task = if observe::needs_task(execution) { self.failed_task(operation, execution).await? } else { None };
        observe::observe(operation, execution, task.as_ref())
    }

    async fn failed_task(&self, operation: &'static str, execution: &Execution) -> Result<Option<Task>> {
        let client = self.tasks().await?;
        let mut token = String::new();
        for _ in 0..TASK_PAGES {
            let request = || {
                let list = client.list_tasks().set_parent(&execution.name).set_page_size(TASKS_A_PAGE);
                list.set_page_token(&token).send()
            };
            let page = self.send(call(operation, "run.tasks.list"), &execution.name, Safety::Read, request).await?;
            if let Some(task) = page.tasks.into_iter().find(observe::decides) {
                return Ok(Some(task));
            }
            if page.next_page_token.is_empty() || page.next_page_token == token {
                return Ok(None);
            }
            token = page.next_page_token;
        }
        Ok(None)
    }

    /// A page of log entries.
    pub(super) async fn entries(
        &self,
        subject: &str,
        filter: &str,
        order: &str,
        size: i32,
        token: &str,
    ) -> Result<ListLogEntriesResponse> {
        let named = |error: Error| error.with_operation("job_runner.logs", subject);
        let client = self.logging().await.map_err(named)?;
        let project = format!("projects/{}", self.project().await.map_err(named)?);
        let request = || async {
            self.log_reads.turn().await;
            let list = client.list_log_entries().set_resource_names([project.as_str()]).set_filter(filter);
            list.set_order_by(order).set_page_size(size).set_page_token(token).send().await
        };
        self.send(call("job_runner.logs", "logging.logEntries.list"), subject, Safety::Read, request).await
    }
}

impl Retrying for Api {
    fn retrier(&self) -> &Retrier {
        self.connection.retrier()
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("connection", &self.connection).field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
