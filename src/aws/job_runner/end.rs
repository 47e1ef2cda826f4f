//! Ending executions: because somebody asks, or because their time is over.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_ecs::types::Task;
use futures_util::future::join_all;
use tokio::time::sleep;

use super::handle::{Handle, short};
use super::{Inner, failure, observe};
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::retry::Safety;
use crate::{ErrorKind, ExecutionId, JobExecution, JobState, Result};

const OPERATION: &str = "job_runner.cancel";

/// How long a background look waits after one that failed, and between looks at a task that does not run yet.
const UNHURRIED: Duration = Duration::from_secs(5);

impl Inner {
    /// Ends what has run for longer than it may.
    pub(super) async fn stop_if_over(
        &self,
        mut execution: JobExecution,
        tasks: &[Option<Task>],
    ) -> Result<JobExecution> {
        let known: Vec<&Task> = tasks.iter().flatten().collect();
        let limit = known.iter().find_map(|task| observe::timeout(task));
        let (Some(limit), Some(started)) = (limit, execution.started) else { return Ok(execution) };
        if SystemTime::now().duration_since(started).unwrap_or_default() < limit {
            return Ok(execution);
        }
        let reason = format!("{} after {} s", observe::TIMED_OUT, limit.as_secs());
        let running = known.iter().filter(|task| task.desired_status() != Some("STOPPED"));
        let running: Vec<&str> = running.filter_map(|task| task.task_arn()).map(short).collect();
        if running.is_empty() {
            return Ok(execution);
        }
        match self.stop(&running, &reason).await {
            Ok(()) => execution.state = JobState::Stopping,
            // The look itself went well; the next one tries again.
            Err(error) => {
                tracing::warn!(execution = %execution.id, %error, "could not be stopped although its time is over")
            }
        }
        Ok(execution)
    }

    pub(super) async fn cancel(self: &Arc<Self>, id: &ExecutionId) -> Result<()> {
        let handle = Handle::parse(id, self.cluster(), OPERATION)?;
        let execution = self.get(id).await.map_err(|error| error.with_operation(OPERATION, id))?;
        if execution.state.is_finished() {
            return Ok(());
        }
        let tasks: Vec<&str> = handle.tasks.iter().map(String::as_str).collect();
        self.stop(&tasks, observe::CANCELLED).await.map_err(|error| error.with_operation(OPERATION, id))
    }

    /// Asks every one of these tasks to end; one that is gone has ended.
    pub(super) async fn stop(&self, tasks: &[&str], reason: &str) -> Result<()> {
        let client = self.ecs.client().await?;
        let cluster = &self.ecs.cluster;
        let stops = tasks.iter().map(|task| async move {
            let call = Call::changing(OPERATION, task, "ecs:StopTask");
            let stopped = self.ecs.retrier().run(OPERATION, task, Safety::Repeatable, |_| async move {
                let request = client.stop_task().cluster(cluster).task(*task).reason(reason);
                request.send().silently().await.map(drop).map_err(|error| failure::of(error, call))
            });
            match stopped.await {
                Err(error) if error.kind() == ErrorKind::NotFound && !self.is_new(task) => Ok(()),
                other => other,
            }
        });
        join_all(stops).await.into_iter().collect()
    }

    /// Looks at an execution until it has ended, beginning when its time is over: looking ends what runs too long.
    pub(super) fn enforce(self: &Arc<Self>, id: ExecutionId, limit: Duration) {
        let inner = self.clone();
        tokio::spawn(async move {
            let mut pause = limit;
            loop {
                sleep(pause).await;
                pause = match inner.get(&id).await {
                    Ok(execution) if execution.state.is_finished() => return,
                    Ok(JobExecution { started: Some(started), state: JobState::Running, .. }) => {
                        let ran = SystemTime::now().duration_since(started).unwrap_or_default();
                        limit.saturating_sub(ran).max(Duration::from_millis(100))
                    }
                    Ok(_) => UNHURRIED,
                    Err(error) if error.kind() == ErrorKind::NotFound => return,
                    Err(_) => UNHURRIED,
                };
            }
        });
    }
}
