//! Executions that are looked for: by their submission, or all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_ecs::types::{DesiredStatus, Task};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use super::handle::{Handle, short};
use super::look::{family, submission};
use super::observe::{time, variable};
use super::record::Record;
use super::{Inner, failure};
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::job_runner::{ListExecutions, SubmissionId};
use crate::retry::Safety;
use crate::{Error, ErrorKind, IdempotencyKey, JobExecution, JobName, JobState, Result};

/// What to list tasks by. `startedBy` must be
/// [the only filter](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html) beside the status.
#[derive(Clone, Copy)]
enum Filter<'a> {
    All,
    Family(&'a str),
    StartedBy(&'a str),
}

pub(super) async fn find(
    inner: &Arc<Inner>,
    job: &JobName,
    key: &IdempotencyKey,
    attempt: u32,
) -> Result<Option<JobExecution>> {
    const OPERATION: &str = "job_runner.find";
    let id = SubmissionId::of(job, key, attempt);
    match inner.records.load(&id).await {
        Ok(Some((record, _))) if !record.tasks.is_empty() => recorded(inner, &id, &record).await.map(Some),
        Ok(_) => by_submission(inner, OPERATION, &id).await,
        // ECS may know it all the same.
        Err(error) => match by_submission(inner, OPERATION, &id).await? {
            Some(execution) => Ok(Some(execution)),
            None => Err(error.with_operation(OPERATION, job)),
        },
    }
}

/// The execution of a record with tasks.
pub(super) async fn recorded(inner: &Arc<Inner>, id: &SubmissionId, record: &Record) -> Result<JobExecution> {
    let handle = Handle { cluster: record.cluster.clone(), submission: Some(id.clone()), tasks: record.tasks.clone() };
    let name = handle.id()?;
    match &record.ended {
        Some(_) => record.execution(name, id.clone(), JobState::Pending),
        None => inner.get(&name).await,
    }
}

/// The execution whose tasks carry this submission, while ECS knows them.
pub(super) async fn by_submission(
    inner: &Arc<Inner>,
    operation: &'static str,
    id: &SubmissionId,
) -> Result<Option<JobExecution>> {
    let mut tasks = Vec::new();
    for status in [DesiredStatus::Running, DesiredStatus::Stopped] {
        tasks.extend(ids(inner, operation, Filter::StartedBy(id.as_str()), status).await?);
    }
    Ok(executions(inner, tasks).await?.into_iter().find(|execution| execution.submission.as_ref() == Some(id)))
}

pub(super) fn list(inner: Arc<Inner>, options: ListExecutions) -> BoxStream<'static, Result<JobExecution>> {
    let all = async move {
        match collect(&inner, &options).await {
            Ok(executions) => stream::iter(executions.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(error)]),
        }
    };
    stream::once(all).flatten().boxed()
}

async fn collect(inner: &Arc<Inner>, options: &ListExecutions) -> Result<Vec<JobExecution>> {
    const OPERATION: &str = "job_runner.list";
    let filter = options.job.as_ref().map_or(Filter::All, |job| Filter::Family(job.as_str()));
    let mut tasks = ids(inner, OPERATION, filter, DesiredStatus::Running).await?;
    // What is being stopped is wanted to be stopped already.
    tasks.extend(ids(inner, OPERATION, filter, DesiredStatus::Stopped).await?);
    let mut found = executions(inner, tasks).await?;
    found.retain(|execution| {
        options.job.as_ref().is_none_or(|job| execution.job == *job)
            && !(options.active_only && execution.state.is_finished())
            && options.labels.iter().all(|(key, value)| execution.labels.get(key) == Some(value))
            && options.since.is_none_or(|since| execution.created.is_some_and(|created| created >= since))
    });
    found.sort_by_key(|execution| std::cmp::Reverse(execution.created.unwrap_or(SystemTime::UNIX_EPOCH)));
    Ok(found)
}

async fn ids(
    inner: &Arc<Inner>,
    operation: &'static str,
    filter: Filter<'_>,
    status: DesiredStatus,
) -> Result<Vec<String>> {
    let ecs = &inner.ecs;
    let client = ecs.client().await?;
    let subject = ecs.cluster.as_str();
    let call = Call::reading(operation, subject, "ecs:ListTasks");
    let (family, started_by) = match filter {
        Filter::All => (None, None),
        Filter::Family(family) => (Some(family.to_owned()), None),
        Filter::StartedBy(id) => (None, Some(id.to_owned())),
    };
    let mut found = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let page = ecs
            .retrier()
            .run(operation, subject, Safety::Read, |_| async {
                let request = client
                    .list_tasks()
                    .cluster(subject)
                    .set_family(family.clone())
                    .set_started_by(started_by.clone())
                    .desired_status(status.clone())
                    .set_next_token(token.clone());
                request.send().silently().await.map_err(|error| failure::of(error, call))
            })
            .await?;
        found.extend(page.task_arns().iter().map(|arn| short(arn).to_owned()));
        match page.next_token {
            None => return Ok(found),
            Some(next) if Some(&next) == token.as_ref() => {
                let message = "ECS gives the same page again and again";
                return Err(Error::new(ErrorKind::Internal, operation, subject, message));
            }
            Some(next) => token = Some(next),
        }
    }
}

/// The executions that these tasks belong to.
async fn executions(inner: &Arc<Inner>, mut ids: Vec<String>) -> Result<Vec<JobExecution>> {
    ids.sort_unstable();
    ids.dedup();
    let mut groups: BTreeMap<SubmissionId, Vec<Task>> = BTreeMap::new();
    let mut found = Vec::new();
    for task in inner.poller.look(&ids, Duration::ZERO).await {
        // Forgotten between the listing and the look.
        let Some(task) = task? else { continue };
        if family(&task).is_none_or(|family| JobName::new(family).is_err()) {
            continue;
        }
        match submission(&task) {
            Some(id) => groups.entry(id).or_default().push(task),
            None => found.push(alone(inner, task).await?),
        }
    }
    for (id, tasks) in groups {
        found.push(together(inner, id, tasks).await?);
    }
    Ok(found)
}

async fn alone(inner: &Arc<Inner>, task: Task) -> Result<JobExecution> {
    let id = short(task.task_arn().unwrap_or_default()).to_owned();
    let handle = Handle { cluster: inner.cluster().to_owned(), submission: None, tasks: vec![id] };
    inner.conclude(&handle, &[Some(task)]).await
}

async fn together(inner: &Arc<Inner>, id: SubmissionId, mut tasks: Vec<Task>) -> Result<JobExecution> {
    let number = |task: &Task, name: &str| variable(task, name).and_then(|text| text.parse::<usize>().ok());
    tasks.sort_by_key(|task| (number(task, "ANYCLOUD_TASK_INDEX"), time(task.created_at())));
    let named: Vec<(String, Task)> =
        tasks.into_iter().map(|task| (short(task.task_arn().unwrap_or_default()).to_owned(), task)).collect();
    let count = named.first().and_then(|(_, task)| number(task, "ANYCLOUD_TASK_COUNT")).unwrap_or(1);
    let mut ids: Vec<String> = named.iter().map(|(id, _)| id.clone()).collect();
    if ids.len() != count
        && let Some((record, _)) = inner.records.load(&id).await?
        && !record.tasks.is_empty()
    {
        ids = record.tasks;
    }
    let mut known: BTreeMap<String, Task> = named.into_iter().collect();
    let tasks: Vec<Option<Task>> = ids.iter().map(|id| known.remove(id)).collect();
    let handle = Handle { cluster: inner.cluster().to_owned(), submission: Some(id), tasks: ids };
    inner.conclude(&handle, &tasks).await
}
