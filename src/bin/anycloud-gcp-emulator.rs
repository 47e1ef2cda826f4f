//! Starts the emulator of Google Cloud services and says how to reach it.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anycloud::gcp_emulator::{Emulator, EmulatorConfig};
use serde::Deserialize;
use serde_json::Value;

const HELP: &str = "\
Serves Secret Manager, Cloud Run jobs, Cloud Logging and Cloud Storage on 127.0.0.1.

Usage: anycloud-gcp-emulator [--port PORT] [--jobs FILE] [--bucket NAME]... [--discovery DIR]

  --port PORT      the port; without it, one that is free
  --jobs FILE      JSON: {\"jobs\": {\"projects/P/locations/L/jobs/J\": JOB},
                   \"images\": {\"IMAGE\": [\"PROGRAM\", \"ARG\"]}, \"environment\": {\"NAME\": \"VALUE\"}}
  --bucket NAME    a bucket that exists from the start
  --discovery DIR  Google's discovery documents, to check every request and answer
                   (also ANYCLOUD_GCP_EMULATOR_DISCOVERY)

Everybody who can reach the port can start processes as this user.";

/// The file of `--jobs`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Jobs {
    jobs: BTreeMap<String, Value>,
    images: BTreeMap<String, Vec<String>>,
    environment: BTreeMap<String, String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match config(std::env::args().skip(1)) {
        Ok(None) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Some(config)) => serve(config).await,
        Err(problem) => {
            eprintln!("{problem}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

async fn serve(config: EmulatorConfig) -> ExitCode {
    let emulator = match Emulator::start(config) {
        Ok(emulator) => emulator,
        Err(problem) => {
            eprintln!("cannot start: {problem}");
            return ExitCode::FAILURE;
        }
    };
    println!("# serving on {}", emulator.url());
    for (name, value) in emulator.environment() {
        println!("export {name}={value}");
    }
    let mut terminated = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminated) => terminated,
        Err(problem) => {
            eprintln!("cannot wait for signals: {problem}");
            return ExitCode::FAILURE;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
    ExitCode::SUCCESS
}

fn config(mut arguments: impl Iterator<Item = String>) -> Result<Option<EmulatorConfig>, String> {
    let mut config = EmulatorConfig { discovery: discovery_directory(), ..EmulatorConfig::default() };
    while let Some(argument) = arguments.next() {
        if argument == "--help" || argument == "-h" {
            return Ok(None);
        }
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--port" => config.port = value.parse().map_err(|_| "--port: not a port".to_owned())?,
            "--bucket" => config.buckets.push(value),
            "--discovery" => config.discovery = Some(PathBuf::from(value)),
            "--jobs" => {
                let text = std::fs::read(&value).map_err(|problem| format!("{value}: {problem}"))?;
                let jobs: Jobs = serde_json::from_slice(&text).map_err(|problem| format!("{value}: {problem}"))?;
                config.jobs = jobs.jobs;
                config.images = jobs.images;
                config.task_environment = jobs.environment;
            }
            _ => return Err(format!("unknown option {argument}")),
        }
    }
    Ok(Some(config))
}

/// The one variable that this program reads.
#[allow(clippy::disallowed_methods)]
fn discovery_directory() -> Option<PathBuf> {
    std::env::var_os("ANYCLOUD_GCP_EMULATOR_DISCOVERY").map(PathBuf::from)
}
