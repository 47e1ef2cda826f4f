use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{JobExecution, JobRunner};
use crate::{Error, ErrorKind, ExecutionId, ObjectStoreExt as _, Result};

/// Is told of every look at an execution. Must return quickly.
pub type LookCallback = Arc<dyn Fn(&JobExecution) + Send + Sync>;

/// How to wait for an execution. Take what is not said from `..Default::default()`.
#[derive(Clone)]
pub struct WaitOptions {
    /// The first pause between two looks.
    pub first_interval: Duration,
    /// The longest pause; pauses grow by half each time up to this. Where many wait, some looks come earlier
    /// ([`get_within`](JobRunner::get_within)); one is later only if the provider asked to wait for longer.
    pub max_interval: Duration,
    /// How long to wait at most. Not the job's own limit: when it passes, the job goes on.
    pub deadline: Option<Duration>,
    /// Is told of every look.
    pub on_look: Option<LookCallback>,
}

impl Default for WaitOptions {
    /// Half a second, growing to ten, with no deadline.
    fn default() -> Self {
        Self {
            first_interval: Duration::from_millis(500),
            max_interval: Duration::from_secs(10),
            deadline: None,
            on_look: None,
        }
    }
}

impl fmt::Debug for WaitOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitOptions")
            .field("first_interval", &self.first_interval)
            .field("max_interval", &self.max_interval)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// What every [`JobRunner`] can do with the contract's calls: import it and call the methods on any runner.
#[async_trait]
pub trait JobRunnerExt: JobRunner {
    /// Waits until the execution has ended and returns how. A look that fails for a passing reason is not an outcome:
    /// the waiting goes on.
    ///
    /// # Errors
    /// `Timeout` when the deadline of the options passes first; otherwise those of [`JobRunner::get`] that do not
    /// pass by themselves.
    async fn wait(&self, id: &ExecutionId, options: WaitOptions) -> Result<JobExecution> {
        let begun = Instant::now();
        let mut interval = options.first_interval.max(Duration::from_millis(10));
        let mut look = self.get(id).await;
        loop {
            let mut pause = interval;
            match look {
                Ok(execution) => {
                    if let Some(on_look) = &options.on_look {
                        on_look(&execution);
                    }
                    if execution.state.is_finished() {
                        return Ok(execution);
                    }
                }
                Err(error) if error.is_retryable() => {
                    pause = pause.max(error.retry_after().unwrap_or_default());
                }
                Err(error) => return Err(error),
            }
            if let Some(deadline) = options.deadline {
                let left = deadline.saturating_sub(begun.elapsed());
                if left.is_zero() {
                    let message = format!("the execution has not ended within {deadline:?}; it goes on");
                    return Err(Error::new(ErrorKind::Timeout, "job_runner.wait", id, message));
                }
                pause = pause.min(left);
            }
            look = self.get_within(id, pause).await;
            interval = interval.mul_f64(1.5).min(options.max_interval.max(options.first_interval));
        }
    }

    /// What the job handed to [`JobContext::finish`](super::JobContext::finish): of task 0 where there are several.
    ///
    /// # Errors
    /// `NotFound` if it handed over nothing; `InvalidFormat` for another type; `InvalidInput` for an execution that
    /// was not started through this crate.
    async fn result<T: DeserializeOwned>(&self, execution: &JobExecution) -> Result<T> {
        self.task_result(execution, 0).await
    }

    /// What one task of the job handed to [`JobContext::finish`](super::JobContext::finish).
    ///
    /// # Errors
    /// As for [`result`](Self::result).
    async fn task_result<T: DeserializeOwned>(&self, execution: &JobExecution, task: u32) -> Result<T> {
        let Some(submission) = &execution.submission else {
            let message = "the execution was not started through this crate and has no result";
            return Err(Error::new(ErrorKind::InvalidInput, "job_runner.result", &execution.id, message));
        };
        self.exchange().get_json(&submission.result_key(task)?).await
    }
}

impl<S: JobRunner + ?Sized> JobRunnerExt for S {}
