//! Runs the tasks of an execution to their end.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tokio::sync::watch;

use super::super::logging::Source;
use super::super::server::{Shared, lock};
use super::super::wire::duration;
use super::container;
use super::execution::{Execution, Halt};
use super::process::{self, Ended, Launch};
use super::task::{Attempt, Phase, Task};

/// The longest a task runs. <https://cloud.google.com/run/docs/configuring/task-timeout>
const LONGEST: std::time::Duration = std::time::Duration::from_secs(168 * 3600);

/// Runs an execution.
pub(super) async fn drive(shared: Arc<Shared>, name: String) {
    let Some(plan) = Plan::of(&shared, &name) else {
        return;
    };
    // Without a limit, all at once: https://cloud.google.com/run/docs/configuring/parallelism
    let together = if plan.parallelism == 0 { plan.count } else { plan.parallelism };
    stream::iter(0..plan.count).for_each_concurrent(together, |index| run_task(&shared, &plan, index)).await;
    change(&shared, &name, Execution::complete);
}

/// What all tasks of an execution have in common.
struct Plan {
    name: String,
    project: String,
    location: String,
    job: String,
    template: Value,
    count: usize,
    parallelism: usize,
    halting: watch::Receiver<Halt>,
}

impl Plan {
    fn of(shared: &Shared, name: &str) -> Option<Self> {
        let mut state = lock(&shared.run.state);
        let execution = state.executions.get_mut(name)?;
        execution.start();
        let parts: Vec<&str> = name.split('/').collect();
        Some(Self {
            name: name.to_owned(),
            project: (*parts.get(1)?).to_owned(),
            location: (*parts.get(3)?).to_owned(),
            job: execution.job.clone(),
            template: execution.template().clone(),
            count: execution.tasks.len(),
            parallelism: execution.parallelism,
            halting: execution.halting(),
        })
    }

    fn short(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or("")
    }

    /// The variables that every task has.
    ///
    /// <https://cloud.google.com/run/docs/container-contract#jobs-env-vars>
    fn identity(&self, index: usize, attempt: u32) -> [(&'static str, String); 5] {
        [
            ("CLOUD_RUN_JOB", self.job.clone()),
            ("CLOUD_RUN_EXECUTION", self.short().to_owned()),
            ("CLOUD_RUN_TASK_INDEX", index.to_string()),
            ("CLOUD_RUN_TASK_ATTEMPT", attempt.to_string()),
            ("CLOUD_RUN_TASK_COUNT", self.count.to_string()),
        ]
    }
}

fn change(shared: &Shared, name: &str, act: impl FnOnce(&mut Execution)) {
    if let Some(execution) = lock(&shared.run.state).executions.get_mut(name) {
        act(execution);
    }
    shared.run.tell();
}

fn change_task(shared: &Shared, plan: &Plan, index: usize, act: impl FnOnce(&mut Task)) {
    change(shared, &plan.name, |execution| {
        if let Some(task) = execution.tasks.get_mut(index) {
            act(task);
        }
    });
}

async fn run_task(shared: &Arc<Shared>, plan: &Plan, index: usize) {
    let retries = plan.template["maxRetries"].as_u64().unwrap_or(0);
    for number in 0.. {
        if *plan.halting.borrow() != Halt::No {
            change_task(shared, plan, index, |task| task.end(Phase::Cancelled));
            return;
        }
        change_task(shared, plan, index, |task| task.start(number));
        let (attempt, halted) = attempt(shared, plan, index, number).await;
        let succeeded = attempt.code == 0;
        change_task(shared, plan, index, |task| task.record(attempt));
        if halted {
            change_task(shared, plan, index, |task| task.end(Phase::Cancelled));
            return;
        }
        if succeeded {
            change_task(shared, plan, index, |task| task.end(Phase::Succeeded));
            return;
        }
        if u64::from(number) >= retries {
            break;
        }
    }
    // A task past its retries fails the execution, and what has not ended is cancelled:
    // https://cloud.google.com/run/docs/configuring/max-retries and the counts in
    // https://github.com/GoogleCloudPlatform/workflows-demos/issues/40.
    change_task(shared, plan, index, |task| task.end(Phase::Failed));
    change(shared, &plan.name, |execution| execution.halt(Halt::Failed));
}

/// One attempt, and whether the execution was halted meanwhile.
async fn attempt(shared: &Arc<Shared>, plan: &Plan, index: usize, number: u32) -> (Attempt, bool) {
    let failed = |code, message: String| Attempt { code, message, exit: None, signal: None };
    let command = match container::command_line(shared, &plan.template) {
        Ok(command) => command,
        Err(problem) => return (failed(5, problem), false),
    };
    let environment = match container::environment(shared, &plan.project, &plan.template) {
        Ok(environment) => environment,
        Err(problem) => return (failed(9, problem), false),
    };
    let timeout = plan.template["timeout"].as_str().and_then(duration).unwrap_or(LONGEST);
    let launch = Launch {
        command,
        environment: environment
            .into_iter()
            .chain(plan.identity(index, number).map(|(name, value)| (name.to_owned(), value)))
            .collect(),
        directory: plan.template["containers"][0]["workingDir"].as_str().map(str::to_owned),
        timeout: timeout.min(LONGEST),
        source: Source {
            project: plan.project.clone(),
            location: plan.location.clone(),
            job: plan.job.clone(),
            execution: plan.short().to_owned(),
            index,
            attempt: number,
        },
    };
    let failure = "The container exited with an error.";
    match process::run(shared, launch, plan.halting.clone()).await {
        Ended::Exited(0) => (Attempt { code: 0, message: String::new(), exit: Some(0), signal: None }, false),
        Ended::Exited(code) => (Attempt { exit: Some(code), ..failed(2, failure.into()) }, false),
        Ended::Killed(signal) => (Attempt { signal: Some(signal), ..failed(2, failure.into()) }, false),
        // https://cloud.google.com/run/docs/configuring/task-timeout: the attempt fails.
        Ended::TimedOut { exit, signal } => {
            let message = "The configured timeout was reached.".to_owned();
            (Attempt { code: 4, message, exit, signal }, false)
        }
        Ended::Halted { exit, signal } => (Attempt { code: 1, message: "Cancelled.".into(), exit, signal }, true),
        Ended::NotStarted(problem) => (failed(2, problem), false),
    }
}
