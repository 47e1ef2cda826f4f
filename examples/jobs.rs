//! Runs itself as a job and reads what the job found out: `CLOUD_PROVIDER=local cargo run --example jobs`.
#![allow(clippy::print_stdout, reason = "it is a program")]

use anycloud::config::LocalJob;
use anycloud::job_runner::WaitOptions;
use anycloud::{Cloud, Config, JobContext, JobName, JobRequest, JobRunnerExt as _, Result};

#[tokio::main]
async fn main() -> Result<()> {
    anycloud::local::supervise_if_asked();
    if std::env::args().nth(1).as_deref() == Some("work") {
        return work().await;
    }
    let name = JobName::new("example-sum")?;
    // In the clouds the definition is there already: a task family, a Cloud Run job.
    let program = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
    let definition = LocalJob { command: vec![program], ..LocalJob::default() };
    let cloud = Cloud::connect(Config::from_env()?.with_local_job(name.clone(), definition))?;

    let request = JobRequest { args: Some(vec!["work".to_owned()]), ..JobRequest::with_payload(&[1, 2, 39])? };
    let execution = cloud.jobs().run(&name, request).await?;
    let execution = cloud.jobs().wait(&execution.id, WaitOptions::default()).await?;
    assert!(execution.state.outcome().is_some_and(|outcome| outcome.is_success()), "{execution:?}");
    println!("{} {}: {}", execution.id, execution.state, cloud.jobs().result::<u32>(&execution).await?);
    Ok(())
}

/// What runs as the job, in a process of its own.
async fn work() -> Result<()> {
    let context = JobContext::from_env()?;
    let numbers: Vec<u32> = context.payload().await?;
    context.finish(&numbers.iter().sum::<u32>()).await
}
