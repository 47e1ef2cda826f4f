//! Cases for [`JobRunner`], and the program that their jobs run.

mod endings;
mod handover;
mod identity;
mod logging;
mod program;

use std::sync::Arc;
use std::time::Duration;

pub use program::main as program;

use super::Case;
use crate::job_runner::WaitOptions;
use crate::{JobExecution, JobName, JobRequest, JobRunner, JobRunnerExt as _};

/// What the definition allows a job that is asked to end, at most.
const GRACE_OF_THE_FIXTURE: Duration = Duration::from_secs(10);

/// A runner and the job definitions that the cases need.
#[derive(Clone, Debug)]
pub struct Fixture {
    runner: Arc<dyn JobRunner>,
    job: JobName,
    broken: JobName,
}

impl Fixture {
    /// A fixture on a runner with two definitions: `job`, whose command is a program that calls [`program`] with its
    /// arguments (the binary `anycloud-conformance-job` is one), with at most ten seconds of grace and no retries of
    /// its own; and `broken`, which cannot start.
    #[must_use]
    pub fn new(runner: Arc<dyn JobRunner>, job: JobName, broken: JobName) -> Self {
        Self { runner, job, broken }
    }

    async fn run(&self, args: &[&str]) -> JobExecution {
        self.runner.run(&self.job, request(args)).await.expect("the job is taken")
    }

    async fn wait(&self, execution: &JobExecution) -> JobExecution {
        let options = WaitOptions {
            first_interval: Duration::from_millis(100),
            max_interval: Duration::from_secs(1),
            deadline: Some(Duration::from_secs(120)),
            on_look: None,
        };
        self.runner.wait(&execution.id, options).await.expect("the execution ends")
    }

    async fn finish(&self, args: &[&str]) -> JobExecution {
        let execution = self.run(args).await;
        self.wait(&execution).await
    }

    /// Waits until the job says that it runs.
    async fn running(&self, execution: &JobExecution) {
        for _ in 0..600 {
            let now = self.runner.get(&execution.id).await.expect("the execution is known");
            let lines = logging::lines(self, &now, crate::job_runner::LogMode::All).await;
            if lines.iter().any(|line| line == "ready") {
                return;
            }
            assert!(!now.state.is_finished(), "{now:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the job did not begin to run");
    }
}

fn request(args: &[&str]) -> JobRequest {
    JobRequest { args: Some(args.iter().map(|arg| (*arg).to_owned()).collect()), ..JobRequest::default() }
}

/// All cases.
#[must_use]
pub fn cases() -> Vec<Case<Fixture>> {
    [endings::cases(), handover::cases(), identity::cases(), logging::cases()].concat()
}
