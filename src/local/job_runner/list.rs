//! Listing executions, newest first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use super::record::{Directory, time};
use super::{off_thread, settle};
use crate::job_runner::ListExecutions;
use crate::{JobExecution, Result};

const OPERATION: &str = "job_runner.list";

pub(super) fn stream(jobs: PathBuf, options: ListExecutions) -> BoxStream<'static, Result<JobExecution>> {
    let active_only = options.active_only;
    let found = off_thread(OPERATION, move || matching(&jobs, &options));
    stream::once(found)
        .map_ok(|directories| stream::iter(directories.into_iter().map(Ok)))
        .try_flatten()
        .and_then(|directory| off_thread(OPERATION, move || settle::look(&directory)))
        .try_filter(move |execution| {
            let wanted = !active_only || !execution.state.is_finished();
            async move { wanted }
        })
        .boxed()
}

fn matching(jobs: &Path, options: &ListExecutions) -> Result<Vec<Directory>> {
    let of_jobs = match &options.job {
        Some(job) => vec![jobs.join(job.as_str())],
        None => entries(jobs)?,
    };
    let mut found = Vec::new();
    for of_job in of_jobs {
        for path in entries(&of_job)? {
            let directory = Directory::at(path);
            // What is not an execution, or not one yet.
            if directory.id().is_err() || !directory.exists()? {
                continue;
            }
            let claim = directory.claim()?;
            let labelled = options.labels.iter().all(|(key, value)| claim.labels.get(key) == Some(value));
            if labelled && options.since.is_none_or(|since| time(claim.created) >= since) {
                found.push((claim.created, claim.submission, directory));
            }
        }
    }
    found.sort_by(|one, two| (two.0, &two.1).cmp(&(one.0, &one.1)));
    Ok(found.into_iter().map(|(_, _, directory)| directory).collect())
}

/// The entries of a directory without the hidden ones; none if it does not exist.
fn entries(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(crate::files::error(OPERATION, path, error)),
    };
    let visible = entries.flatten().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    Ok(visible.map(|entry| entry.path()).collect())
}
