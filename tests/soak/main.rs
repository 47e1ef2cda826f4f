//! Mixed load for a while, with faults: memory and descriptors stay flat, no call is stuck, and in the end every object
//! and secret is one that a writer was told of, or may have written.
//!
//! `ANYCLOUD_TEST_SOAK_SECONDS` says for how long (default 20); `.ci/soak` runs ten minutes. AWS takes part if there are
//! credentials in the environment, of which any will do; with `ANYCLOUD_TEST_REQUIRE_ALL` it has to.
#![allow(clippy::disallowed_methods, reason = "the environment says for how long, and against what")]
#![allow(clippy::print_stdout, reason = "trials print their counts")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aws;
mod load;
mod process;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anycloud::config::LocalJob;
use anycloud::retry::RetryPolicy;
use anycloud::{Cloud, Config, JobName};
use libtest_mimic::{Arguments, Failed, Trial};

use load::{Also, JOB, Tally, Worker};
use process::{Emulator, Usage};

/// Calls under way at the same time.
const IN_FLIGHT: usize = 64;

fn config(provider: &str, url: &str) -> Config {
    let mut config = Config::from_lookup(|name| {
        let value = match name {
            "CLOUD_PROVIDER" => provider,
            "ANYCLOUD_BUCKET" | "GOOGLE_CLOUD_PROJECT" => "soak",
            "AWS_REGION" => "us-east-1",
            "STORAGE_EMULATOR_HOST" | "SECRET_MANAGER_EMULATOR_HOST" | "AWS_ENDPOINT_URL" => url,
            _ => return None,
        };
        Some(value.to_owned())
    })
    .unwrap();
    config.retry = RetryPolicy {
        first_backoff: Duration::from_millis(10),
        max_backoff: Duration::from_millis(200),
        attempt_timeout: Duration::from_secs(10),
        call_timeout: Duration::from_secs(30),
        ..RetryPolicy::default()
    };
    config
}

fn local(root: &Path) -> Config {
    let command = LocalJob { command: vec!["/bin/true".to_owned()], ..LocalJob::default() };
    let mut config = Config::local(root).with_local_job(JobName::new(JOB).unwrap(), command);
    config.local.supervisor = Some(env!("CARGO_BIN_EXE_anycloud-supervisor").into());
    config
}

/// The server for AWS, or why there is none.
fn aws_server() -> Result<Option<aws::Server>, Failed> {
    let has = |name: &str| std::env::var_os(name).is_some();
    if has("AWS_ACCESS_KEY_ID") && has("AWS_SECRET_ACCESS_KEY") {
        return Ok(Some(aws::Server::start()));
    }
    let reason = "AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set";
    if has("ANYCLOUD_TEST_REQUIRE_ALL") {
        return Err(reason.into());
    }
    println!("aws: skipped, {reason}");
    Ok(None)
}

async fn soak(time: Duration) -> Result<(), Failed> {
    let root = std::env::temp_dir().join(format!("anycloud-soak-{}", std::process::id()));
    let emulator = Arc::new(Emulator::start("soak"));
    let aws = aws_server()?;
    let mut clouds =
        vec![("local", Cloud::connect(local(&root))?), ("gcp", Cloud::connect(config("gcp", &emulator.url))?)];
    if let Some(server) = &aws {
        clouds.push(("aws", Cloud::connect(config("aws", &server.url))?));
    }
    let end = Instant::now() + time;
    let workers = (0..IN_FLIGHT).map(|number| {
        let (name, cloud) = &clouds[number % clouds.len()];
        let faults = (*name == "gcp").then(|| Arc::clone(&emulator));
        let also = match number {
            _ if number < clouds.len() => Also::LargeObjects,
            _ if *name == "local" && number < 4 * clouds.len() => Also::Jobs,
            _ => Also::Nothing,
        };
        tokio::spawn(Worker::new(number, cloud.clone(), also, faults).run(end))
    });
    let workers: Vec<_> = workers.collect();
    let mut usage = Vec::new();
    while Instant::now() < end {
        tokio::time::sleep(time / 40).await;
        usage.push(Usage::now());
    }
    let mut total = Tally::default();
    for worker in workers {
        // Longer than any call may take.
        let ended = tokio::time::timeout(Duration::from_secs(90), worker).await.map_err(|_| "a call is stuck")?;
        let (worker, tally) = ended?;
        total.add(&tally);
        total.objects += worker.check().await?;
    }
    println!("{} s, {IN_FLIGHT} in flight: {total}", time.as_secs());
    drop(clouds);
    let _ = std::fs::remove_dir_all(root);
    let (requests, faults) = aws.map_or((0, 0), aws::Server::end);
    println!("{requests} requests to AWS, {faults} of them met a fault");
    Usage::judge(&usage)?;
    if total.large == 0 || total.jobs == 0 {
        return Err("no large objects, or no jobs".into());
    }
    if faults * 100 < requests * 3 {
        return Err("too few faults on AWS".into());
    }
    if total.faults * 100 < total.gcp_calls * 3 { Err("too few faults".into()) } else { Ok(()) }
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some(aws::ARGUMENT) {
        return aws::serve();
    }
    let seconds = std::env::var("ANYCLOUD_TEST_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let trial = Trial::test("mixed_load_with_faults_leaves_everything_right_and_nothing_growing", move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(soak(Duration::from_secs(seconds)))
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit();
}
