use std::sync::Arc;
use std::time::SystemTime;

use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use google_cloud_run_v2::model::Execution;

use super::api::Api;
use super::observe;
use crate::job_runner::{ListExecutions, SubmissionId};
use crate::{JobExecution, JobName, Result};

/// Every job of the region.
const ALL_JOBS: &str = "-";

/// The execution of a submission, among those created since then: the newest are looked at first.
pub(super) async fn by_submission(
    api: &Api,
    operation: &'static str,
    job: &JobName,
    id: &SubmissionId,
    since: Option<SystemTime>,
) -> Result<Option<Execution>> {
    let mut token = String::new();
    loop {
        let (page, next) = api.list(operation, job.as_str(), &token).await?;
        let past = page.last().is_some_and(|oldest| is_before(oldest, since));
        let found = page.into_iter().find(|one| observe::variable(one, "ANYCLOUD_SUBMISSION") == Some(id.as_str()));
        if found.is_some() || past || next.is_empty() {
            return Ok(found);
        }
        token = next;
    }
}

fn is_before(execution: &Execution, since: Option<SystemTime>) -> bool {
    let created = observe::time(execution.create_time.as_ref());
    since.is_some_and(|since| created.is_some_and(|created| created < since))
}

/// Executions, newest first; how failed ones failed is looked up as they are asked for.
pub(super) fn list(api: Arc<Api>, options: ListExecutions) -> BoxStream<'static, Result<JobExecution>> {
    const OPERATION: &str = "job_runner.list";
    let looking = api.clone();
    let found = async move { collect(&api, OPERATION, &options).await };
    stream::once(found)
        .map_ok(|executions| stream::iter(executions.into_iter().map(Ok)))
        .try_flatten()
        .and_then(move |execution| {
            let api = looking.clone();
            async move { api.observed(OPERATION, &execution).await }
        })
        .boxed()
}

async fn collect(api: &Api, operation: &'static str, options: &ListExecutions) -> Result<Vec<Execution>> {
    let job = options.job.as_ref().map_or(ALL_JOBS, JobName::as_str);
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let (page, next) = api.list(operation, job, &token).await?;
        // Of one job the newest come first; of all jobs the order is not stated.
        let past = options.job.is_some() && page.last().is_some_and(|oldest| is_before(oldest, options.since));
        found.extend(page.into_iter().filter(|execution| is_wanted(execution, options)));
        if past || next.is_empty() {
            break;
        }
        token = next;
    }
    found.sort_by_cached_key(|one| std::cmp::Reverse((observe::time(one.create_time.as_ref()), one.name.clone())));
    Ok(found)
}

fn is_wanted(execution: &Execution, options: &ListExecutions) -> bool {
    let labels = observe::labels(execution);
    let past = is_before(execution, options.since) || (options.active_only && observe::has_ended(execution));
    !past && options.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
}
