//! Jobs as processes on this machine.
//!
//! Each execution has a directory below `root/jobs` and a supervisor process of its own, which outlives the program
//! that started it: any program with the same root can list, follow, wait for and cancel it.

mod definitions;
mod directory;
mod home;
mod launch;
mod list;
mod logs;
mod processes;
mod record;
mod settle;
mod supervisor;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _};

pub use supervisor::supervise_if_asked;

use self::definitions::Definitions;
use self::directory::Directory;
use self::home::Home;
use self::record::{Claim, Plan};
use super::file_operations::System;
use crate::config::{LocalConfig, LocalJob};
use crate::job_runner::{Capacity, JobCapabilities, ListExecutions, LogLine, LogOptions, Submission, SubmissionId};
use crate::{
    Error, ErrorKind, ExecutionId, IdempotencyKey, JobExecution, JobName, JobRequest, JobRunner, ObjectStore, Result,
    random,
};

/// The most tasks of one execution: each is a process with two pipes, all read by one supervisor.
const MAX_TASKS: u32 = 64;

/// The time between SIGTERM and SIGKILL where the definition names none.
const GRACE: Duration = Duration::from_secs(10);

/// Runs job definitions as processes. Linux only.
///
/// - A process gets an environment made for it, no standard input, a process group of its own and the working
///   directory of the caller. No shell is involved.
/// - Its end is reported as it was seen. If the supervisor is killed, its tasks are killed with it, and the execution
///   is [`Lost`](crate::JobOutcome::Lost): never a success, and never run again.
/// - Ending an execution, by request, by time-out or because its tasks have ended, ends every process that it has
///   started, also those that have left its process group or session. Processes of another execution that it has
///   started through this crate are not part of it.
/// - What remains of an execution whose supervisor was killed is found by a variable in its environment; a process
///   that has cleared its environment and left its parents is not.
/// - Executions are remembered until their directories are removed.
#[derive(Clone)]
pub struct ProcessRunner {
    home: Arc<Home>,
    settings: BTreeMap<String, String>,
    supervisor: Option<PathBuf>,
    start_supervisor: Arc<StartSupervisor>,
    definitions: Definitions,
    exchange: Arc<dyn ObjectStore>,
    capabilities: JobCapabilities,
}

/// Starts this program as the supervisor of an execution, whose processes are marked so.
type StartSupervisor = dyn Fn(&Path, &Directory, &str) -> Result<()> + Send + Sync;

impl fmt::Debug for ProcessRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Definitions may hold values that are nobody's business.
        f.debug_struct("ProcessRunner").field("root", &self.home.root).finish_non_exhaustive()
    }
}

impl ProcessRunner {
    /// A runner for the definitions and the root of the configuration. Payloads and results go through `exchange`,
    /// which should be the local store of the same configuration, since that is what jobs find in their environment.
    /// Nothing is read or made before the first call.
    #[must_use]
    pub fn new(config: &LocalConfig, exchange: Arc<dyn ObjectStore>) -> Self {
        let root = absolute(&config.root);
        Self {
            settings: settings(config, &root),
            supervisor: config.supervisor.clone(),
            start_supervisor: Arc::new(launch::start),
            definitions: Definitions::new(config, &root),
            home: Arc::new(Home { root, operations: Arc::new(System) }),
            exchange,
            capabilities: JobCapabilities {
                provider: "local",
                max_tasks: MAX_TASKS,
                resources: false,
                spot: false,
                clear_args: true,
                labels: true,
                platform_retries: false,
                log_streams: true,
                grace: GRACE,
                remembered: None,
            },
        }
    }

    #[cfg(test)]
    fn with_operations(
        mut self,
        operations: Arc<dyn super::file_operations::FileOperations>,
        start_supervisor: Arc<StartSupervisor>,
    ) -> Self {
        self.home = Arc::new(Home { root: self.home.root.clone(), operations });
        self.start_supervisor = start_supervisor;
        self
    }

    fn check(&self, job: &JobName, request: &JobRequest) -> Result<()> {
        let missing = if request.tasks.get() > MAX_TASKS {
            "so many tasks"
        } else if request.resources.is_some() {
            "CPU and memory of its own for an execution"
        } else if request.capacity != Capacity::OnDemand {
            "spot capacity"
        } else {
            return Ok(());
        };
        let message = format!("`local` does not offer {missing}");
        Err(Error::new(ErrorKind::Unsupported, "job_runner.run", job, message))
    }

    fn claim(&self, job: &JobName, request: &JobRequest, submission: &Submission) -> Claim {
        Claim {
            job: job.clone(),
            submission: submission.id.clone(),
            key: submission.key.clone(),
            attempt: request.attempt.get(),
            fingerprint: submission.fingerprint.clone(),
            tasks: request.tasks.get(),
            labels: request.labels.clone(),
            created: record::now(),
            marker: random::uuid(),
        }
    }

    fn plan(&self, definition: LocalJob, request: &JobRequest, submission: &Submission, claim: &Claim) -> Result<Plan> {
        let directory =
            std::env::current_dir().map_err(|error| crate::files::error("job_runner.run", Path::new("."), error))?;
        let timeout = request.timeout.or(definition.timeout_seconds.map(Duration::from_secs));
        let mut env = launch::base_environment();
        env.extend(definition.env);
        env.extend(request.env.clone());
        env.extend(self.settings.clone());
        if let Some(timeout) = timeout {
            env.insert("ANYCLOUD_TIMEOUT_SECONDS".to_owned(), timeout.as_secs().to_string());
        }
        env.extend(submission.env.clone());
        env.insert(processes::MARKER.to_owned(), claim.marker.clone());
        let mut command = definition.command;
        command.extend(request.args.clone().unwrap_or(definition.args));
        let grace = definition.grace_seconds.map_or(GRACE, Duration::from_secs);
        Ok(Plan { command, env, directory, timeout, grace })
    }

    /// Starts what was claimed, in which any number of callers may meet: one supervisor wins.
    async fn start(
        &self,
        job: &JobName,
        request: &JobRequest,
        mut submission: Submission,
        directory: &Directory,
    ) -> Result<()> {
        let (definitions, name) = (self.definitions.clone(), job.clone());
        let definition = off_thread("job_runner.run", move || definitions.get("job_runner.run", &name)).await?;
        let configured = self.supervisor.clone();
        let program = off_thread("job_runner.run", move || launch::program(configured.as_deref())).await?;
        let own = self.claim(job, request, &submission);
        let at = directory.clone();
        let claim = off_thread("job_runner.run", move || {
            let claimed = at.claim_with(&own).and_then(|_| at.claim());
            claimed.map_err(|error| at.not_submitted(error))
        })
        .await?;
        if claim.fingerprint != submission.fingerprint {
            return Err(submission.conflict(job));
        }
        // After the claim: a request that conflicts must not replace the payload of the one that does not.
        let prepared = match submission.spill(&self.exchange).await {
            Ok(()) => self.plan(definition, request, &submission, &claim),
            Err(error) => Err(error),
        };
        let (at, start_supervisor) = (directory.clone(), Arc::clone(&self.start_supervisor));
        off_thread("job_runner.run", move || {
            let started = prepared.and_then(|plan| {
                if at.record()?.is_some() {
                    return Ok(());
                }
                at.set_plan(&plan)?;
                start_supervisor(&program, &at, &claim.marker)
            });
            match started {
                Ok(()) => Ok(()),
                // Another caller with the same key has given up and taken the claim away: nothing was started.
                Err(error) if matches!(at.exists(), Ok(false)) => Err(error.with_kind(ErrorKind::Unavailable)),
                Err(error) => match at.withdraw() {
                    Ok(true) => Err(error),
                    // What has been started is started, whatever became of the answer.
                    Ok(false) => Ok(()),
                    Err(_) => Err(error.into_indeterminate()),
                },
            }
        })
        .await
    }

    fn directory(&self, operation: &'static str, id: &ExecutionId) -> Result<Directory> {
        Directory::named(&self.home, id)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, operation, id, "there is no such execution"))
    }
}

/// What a job needs to reach the same stores.
fn settings(config: &LocalConfig, root: &Path) -> BTreeMap<String, String> {
    let path = |path: &Path| absolute(path).to_string_lossy().into_owned();
    let mut settings = BTreeMap::from([
        ("CLOUD_PROVIDER".to_owned(), "local".to_owned()),
        ("ANYCLOUD_LOCAL_ROOT".to_owned(), path(root)),
        ("ANYCLOUD_BUCKET".to_owned(), config.bucket.clone()),
    ]);
    let more = [
        ("ANYCLOUD_LOCAL_JOBS", config.jobs_file.as_deref().map(path)),
        ("ANYCLOUD_LOCAL_SUPERVISOR", config.supervisor.as_deref().map(path)),
        ("ANYCLOUD_LOCAL_URL", config.signed_url_base.clone()),
    ];
    settings.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    settings
}

/// The path from the root of the file system on, whatever the working directory will be.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Runs work that may block off the async threads. Once begun it is finished, also when nobody waits any more.
async fn off_thread<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Internal, operation, "local", "the work was abandoned").with_source(error))
    })
}

#[async_trait]
impl JobRunner for ProcessRunner {
    fn capabilities(&self) -> &JobCapabilities {
        &self.capabilities
    }

    fn exchange(&self) -> &Arc<dyn ObjectStore> {
        &self.exchange
    }

    async fn run(&self, job: &JobName, request: JobRequest) -> Result<JobExecution> {
        let submission = Submission::new(job, &request)?;
        self.check(job, &request)?;
        let directory = Directory::of(&self.home, job, &submission.id)?;
        let at = directory.clone();
        let existing = off_thread("job_runner.run", move || {
            Ok(if at.exists()? { Some((at.claim()?, at.record()?)) } else { None })
        });
        let existing = existing.await?;
        if existing.as_ref().is_some_and(|(claim, _)| claim.fingerprint != submission.fingerprint) {
            return Err(submission.conflict(job));
        }
        if existing.is_none_or(|(_, record)| record.is_none()) {
            self.start(job, &request, submission, &directory).await?;
        }
        // It has been submitted; only how it does could not be read.
        off_thread("job_runner.run", move || settle::look(&directory)).await.map_err(Error::into_indeterminate)
    }

    async fn find(&self, job: &JobName, key: &IdempotencyKey, attempt: u32) -> Result<Option<JobExecution>> {
        let directory = Directory::of(&self.home, job, &SubmissionId::of(job, key, attempt))?;
        let (definitions, job) = (self.definitions.clone(), job.clone());
        off_thread("job_runner.find", move || {
            if directory.exists()? {
                return settle::look(&directory).map(Some);
            }
            definitions.get("job_runner.find", &job).map(|_| None)
        })
        .await
    }

    async fn get(&self, id: &ExecutionId) -> Result<JobExecution> {
        let directory = self.directory("job_runner.get", id)?;
        off_thread("job_runner.get", move || settle::look(&directory)).await
    }

    async fn get_within(&self, id: &ExecutionId, pause: Duration) -> Result<JobExecution> {
        tokio::time::sleep(pause).await;
        self.get(id).await
    }

    async fn get_many(&self, ids: &[ExecutionId]) -> Vec<Result<JobExecution>> {
        stream::iter(ids).then(|id| self.get(id)).collect().await
    }

    fn list(&self, options: ListExecutions) -> BoxStream<'static, Result<JobExecution>> {
        list::stream(Arc::clone(&self.home), options)
    }

    async fn cancel(&self, id: &ExecutionId) -> Result<()> {
        let directory = self.directory("job_runner.cancel", id)?;
        let subject = id.clone();
        off_thread("job_runner.cancel", move || {
            let look = || settle::look(&directory).map_err(|error| error.with_operation("job_runner.cancel", &subject));
            if look()?.state.is_finished() {
                return Ok(());
            }
            directory.ask_to_cancel()?;
            // An execution that nobody looks after is settled here.
            look().map(drop)
        })
        .await
    }

    fn logs(&self, id: &ExecutionId, options: LogOptions) -> BoxStream<'static, Result<LogLine>> {
        match self.directory("job_runner.logs", id) {
            Ok(directory) => logs::stream(directory, options.mode),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }
}
