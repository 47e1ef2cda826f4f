//! Listing executions, newest first.

use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use super::directory::Directory;
use super::home::Home;
use super::record::time;
use super::{off_thread, settle};
use crate::job_runner::ListExecutions;
use crate::{JobExecution, Result};

const OPERATION: &str = "job_runner.list";

pub(super) fn stream(home: Arc<Home>, options: ListExecutions) -> BoxStream<'static, Result<JobExecution>> {
    let active_only = options.active_only;
    let found = off_thread(OPERATION, move || matching(&home, &options));
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

fn matching(home: &Arc<Home>, options: &ListExecutions) -> Result<Vec<Directory>> {
    let jobs = match &options.job {
        Some(job) => vec![job.clone()],
        None => home.jobs()?,
    };
    let mut found = Vec::new();
    for job in jobs {
        for directory in home.executions(&job)? {
            // One that has just been withdrawn is none any more.
            let Some(claim) = directory.find_claim()? else { continue };
            let labelled = options.labels.iter().all(|(key, value)| claim.labels.get(key) == Some(value));
            if labelled && options.since.is_none_or(|since| time(claim.created) >= since) {
                found.push((claim.created, claim.submission, directory));
            }
        }
    }
    found.sort_by(|one, two| (two.0, &two.1).cmp(&(one.0, &one.1)));
    Ok(found.into_iter().map(|(_, _, directory)| directory).collect())
}
