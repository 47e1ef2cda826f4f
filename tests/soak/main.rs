//! Mixed load for a while, with faults: memory and descriptors stay flat, no call is stuck, and in the end every object
//! and secret is one that a writer was told of, or may have written.
//!
//! `ANYCLOUD_TEST_SOAK_SECONDS` says for how long (default 20); `.ci/soak` runs ten minutes. `ANYCLOUD_TEST_LOCALSTACK`
//! adds S3.
#![allow(clippy::disallowed_methods, reason = "the environment says for how long, and against what")]
#![allow(clippy::print_stdout, reason = "trials print their counts")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod load;
mod process;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anycloud::retry::RetryPolicy;
use anycloud::{Cloud, Config};
use libtest_mimic::{Arguments, Failed, Trial};

use load::{Tally, Worker};
use process::{Emulator, Usage};

/// Calls under way at the same time.
const IN_FLIGHT: usize = 64;

fn gcp(url: &str) -> Config {
    let mut config = Config::from_lookup(|name| {
        let value = match name {
            "CLOUD_PROVIDER" => "gcp",
            "ANYCLOUD_BUCKET" | "GOOGLE_CLOUD_PROJECT" => "soak",
            "STORAGE_EMULATOR_HOST" | "SECRET_MANAGER_EMULATOR_HOST" => url,
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

fn aws(url: &str, bucket: &str) -> Config {
    Config::from_lookup(|name| {
        let value = match name {
            "CLOUD_PROVIDER" => "aws",
            "ANYCLOUD_BUCKET" => bucket,
            "AWS_REGION" => "us-east-1",
            "AWS_ENDPOINT_URL" => url,
            _ => return None,
        };
        Some(value.to_owned())
    })
    .unwrap()
}

async fn soak(time: Duration) -> Result<(), Failed> {
    let root = std::env::temp_dir().join(format!("anycloud-soak-{}", std::process::id()));
    let emulator = Arc::new(Emulator::start("soak"));
    let mut clouds =
        vec![("local", Cloud::connect(Config::local(&root))?), ("gcp", Cloud::connect(gcp(&emulator.url))?)];
    match (std::env::var("ANYCLOUD_TEST_LOCALSTACK"), std::env::var("ANYCLOUD_TEST_SOAK_BUCKET")) {
        (Ok(url), Ok(bucket)) => clouds.push(("aws", Cloud::connect(aws(&url, &bucket))?)),
        _ => println!("aws: skipped, ANYCLOUD_TEST_LOCALSTACK or ANYCLOUD_TEST_SOAK_BUCKET is not set"),
    }
    let end = Instant::now() + time;
    let workers = (0..IN_FLIGHT).map(|number| {
        let (name, cloud) = &clouds[number % clouds.len()];
        let faults = (*name == "gcp").then(|| Arc::clone(&emulator));
        tokio::spawn(Worker::new(number, cloud.clone(), faults).run(end))
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
    Usage::judge(&usage)?;
    if total.faults * 100 < total.gcp_calls * 3 { Err("too few faults".into()) } else { Ok(()) }
}

fn main() {
    let seconds = std::env::var("ANYCLOUD_TEST_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let trial = Trial::test("mixed_load_with_faults_leaves_everything_right_and_nothing_growing", move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(soak(Duration::from_secs(seconds)))
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit();
}
