//! Trains a marketing-mix model as a job, wherever `CLOUD_PROVIDER` says.
//!
//! The same program is both sides: started by hand it is the web application (`application.rs`), which uploads the
//! dataset, puts a secret, runs the job and waits; with the argument `train` it is the job (`job.rs`).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report is what the program is for")]

mod application;
mod calendar;
mod chart;
mod dataset;
mod design;
mod job;
mod model;
mod random;
mod report;
mod ridge;
mod search;
mod table;
mod train;

use std::error::Error;
use std::process::ExitCode;

/// What may go wrong on either side; shown to the reader, and never repeated.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    #[cfg(feature = "local")]
    anycloud::local::supervise_if_asked();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let run = async {
        match std::env::args().nth(1).as_deref() {
            None => application::run().await,
            Some("train") => job::run().await,
            Some(other) => Err(format!("`{other}`: the only argument is `train`, for the job").into()),
        }
    };
    let runtime = tokio::runtime::Runtime::new();
    match runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
