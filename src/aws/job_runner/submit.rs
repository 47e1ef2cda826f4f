//! Starting an execution: at most once for a key and attempt, whatever gets lost on the way.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_ecs::operation::run_task::RunTaskError;
use aws_sdk_ecs::types::{CapacityProviderStrategyItem, LaunchType, NetworkConfiguration, Tag, Task, TaskOverride};
use futures_util::future::join_all;
use sha2::{Digest as _, Sha256};

use super::definition::Definition;
use super::handle::{Handle, short};
use super::record::{Claim, Ended, Record, from_millis, millis};
use super::{Inner, failure, list, observe, overrides};
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::job_runner::{Capacity, StartFailure, Submission, TaskCounts};
use crate::object_store::Version;
use crate::retry::Safety;
use crate::{Error, ErrorKind, JobExecution, JobName, JobOutcome, JobRequest, JobState, Result, random};

pub(super) const OPERATION: &str = "job_runner.run";

/// How long ECS keeps a client token, less an hour:
/// [idempotency](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/ECS_Idempotency.html).
const TOKENS_LAST: Duration = Duration::from_secs(23 * 60 * 60);

/// On which capacity a task is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    OnDemand,
    Spot,
}

/// A request on its way.
struct Start<'a> {
    inner: &'a Arc<Inner>,
    job: &'a JobName,
    request: &'a JobRequest,
    submission: Submission,
    definition: Arc<Definition>,
    record: Record,
    version: Option<Version>,
}

/// What became of one RunTask.
enum Answer {
    Started(Box<Task>),
    /// The token was used with other parameters, for these tasks.
    Taken(Vec<String>),
}

pub(super) async fn run(inner: &Arc<Inner>, job: &JobName, request: &JobRequest) -> Result<JobExecution> {
    let submission = Submission::new(job, request)?;
    let definition = match inner.definitions.get(&inner.ecs, OPERATION, job.as_str()).await {
        Ok(definition) => definition,
        // The definition may have been retired since the same request was made before.
        Err(error) if error.kind() == ErrorKind::NotFound => match inner.records.load(&submission.id).await {
            Ok(Some((record, _))) if !record.tasks.is_empty() => {
                return made_before(inner, job, &submission, &record).await;
            }
            _ => return Err(error),
        },
        Err(error) => return Err(error),
    };
    overrides::check_resources(&definition, job, request)?;
    let record = Record {
        job: job.to_string(),
        attempt: request.attempt.get(),
        fingerprint: submission.fingerprint.clone(),
        cluster: inner.cluster().to_owned(),
        created: millis(SystemTime::now()),
        labels: request.labels.clone(),
        task_definition: definition.arn.clone(),
        on_demand: Vec::new(),
        tasks: Vec::new(),
        ended: None,
    };
    let mut start = Start { inner, job, request, submission, definition, record, version: None };
    match inner.records.claim(&start.submission.id, &start.record).await? {
        Claim::New(version) => {
            start.version = version;
            let begun = start.begin().await;
            if begun.as_ref().is_err_and(|error| !error.is_indeterminate()) && start.record.tasks.is_empty() {
                // Nothing was started, so that the key is as free as before.
                inner.ecs.retrier().cleaning_up(inner.records.release(&start.submission.id)).await;
            }
            begun
        }
        Claim::Before(record, version) => {
            if record.fingerprint != start.submission.fingerprint || !record.tasks.is_empty() {
                return made_before(inner, job, &start.submission, &record).await;
            }
            // The answer to an earlier call was lost, or it is still under way.
            let age = SystemTime::now().duration_since(from_millis(record.created)).unwrap_or_default();
            if age > TOKENS_LAST {
                return match list::by_submission(inner, OPERATION, &start.submission.id).await? {
                    Some(execution) => Ok(execution),
                    None => {
                        let message = "an earlier call with this key did not learn whether ECS started it, and ECS \
                                       does not know any more; count the attempt up to run it";
                        Err(Error::new(ErrorKind::Indeterminate, OPERATION, job, message))
                    }
                };
            }
            // The same parameters, or ECS would take it for another request.
            start.definition = inner.definitions.get(&inner.ecs, OPERATION, &record.task_definition).await?;
            (start.record, start.version) = (*record, Some(version));
            start.begin().await
        }
    }
}

async fn made_before(
    inner: &Arc<Inner>,
    job: &JobName,
    submission: &Submission,
    record: &Record,
) -> Result<JobExecution> {
    if record.fingerprint != submission.fingerprint {
        return Err(submission.conflict(job));
    }
    list::recorded(inner, &submission.id, record).await
}

impl Start<'_> {
    async fn begin(&mut self) -> Result<JobExecution> {
        overrides::add_labels(&mut self.submission, self.request)?;
        self.submission.spill(&self.inner.exchange).await?;
        if !overrides::fit(&self.definition, &self.submission, self.request) {
            self.submission.spill_all(&self.inner.exchange).await?;
        }
        overrides::check_size(&self.definition, &self.submission, self.job, self.request)?;
        let network = match self.definition.awsvpc {
            true => Some(self.inner.network.get(&self.inner.ecs).await?),
            false => None,
        };
        let mut answers = self.start_all(network.as_ref()).await?;
        let started: Vec<Task> = answers.iter().filter_map(|answer| answer.as_ref().ok().cloned()).collect();
        let ids: Vec<String> = started.iter().filter_map(|task| Some(short(task.task_arn()?).to_owned())).collect();
        self.inner.note_started(&ids);
        let Some(failed) = answers.iter().position(Result::is_err) else { return self.started(ids, started).await };
        let unclear = answers.iter().position(|answer| answer.as_ref().is_err_and(Error::is_indeterminate));
        let Err(error) = answers.swap_remove(unclear.unwrap_or(failed)) else {
            return Err(Error::new(ErrorKind::Internal, OPERATION, self.job, "no task failed"));
        };
        if unclear.is_none() && !ids.is_empty() {
            let retrier = self.inner.ecs.retrier().clone();
            return Err(retrier.cleaning_up(self.undo(ids, error)).await);
        }
        Err(error)
    }

    async fn started(&mut self, ids: Vec<String>, tasks: Vec<Task>) -> Result<JobExecution> {
        self.record.tasks = ids.clone();
        self.save_record().await;
        let handle = self.handle(ids);
        let tasks: Vec<Option<Task>> = tasks.into_iter().map(Some).collect();
        // Not as seen: a look may not find them yet.
        let execution = self.inner.assemble(&handle, &tasks, &JobState::Pending).await?;
        if let Some(limit) = self.request.timeout {
            self.inner.enforce(execution.id.clone(), limit);
        }
        Ok(execution)
    }

    /// Some of the tasks could not be started: the others are ended, and the key is spent.
    async fn undo(&mut self, ids: Vec<String>, error: Error) -> Error {
        let tasks: Vec<&str> = ids.iter().map(String::as_str).collect();
        let reason = format!("{}: another task of the execution could not be started", observe::CANCELLED);
        if let Err(error) = self.inner.stop(&tasks, &reason).await {
            tracing::warn!(job = %self.job, %error, "tasks of an incomplete execution could not be ended");
        }
        let capacity = error.kind() == ErrorKind::ResourceExhausted;
        let cause = if capacity { StartFailure::Capacity } else { StartFailure::Other };
        let total = self.request.tasks.get();
        self.record.tasks = ids;
        self.record.ended = Some(Ended {
            outcome: JobOutcome::FailedToStart { cause, transient: capacity },
            counts: TaskCounts { total, failed: total, ..TaskCounts::default() },
            started: None,
            finished: Some(millis(SystemTime::now())),
            reason: Some(error.message().to_owned()),
            details: std::collections::BTreeMap::default(),
        });
        self.save_record().await;
        let message = format!(
            "{} of {total} tasks were started and ended again; count the attempt up to run again: {}",
            self.record.tasks.len(),
            error.message()
        );
        error.with_message(message)
    }

    async fn save_record(&mut self) {
        let Some(version) = self.version.take() else { return };
        match self.inner.records.replace(&self.submission.id, &self.record, version).await {
            Ok(version) => self.version = Some(version),
            // Somebody who made the same call at the same time was told of the same tasks.
            Err(error) if error.kind() == ErrorKind::PreconditionFailed => {}
            Err(error) => {
                tracing::warn!(submission = %self.submission.id, %error, "the execution will not be known after ECS forgets it");
            }
        }
    }

    fn handle(&self, tasks: Vec<String>) -> Handle {
        Handle { cluster: self.inner.cluster().to_owned(), submission: Some(self.submission.id.clone()), tasks }
    }

    /// One answer for each index.
    async fn start_all(&mut self, network: Option<&NetworkConfiguration>) -> Result<Vec<Result<Task>>> {
        let wanted = if self.request.capacity == Capacity::OnDemand { Place::OnDemand } else { Place::Spot };
        let place = |index: u32| if self.record.on_demand.contains(&index) { Place::OnDemand } else { wanted };
        let indexes = 0..self.request.tasks.get();
        let mut answers = join_all(indexes.clone().map(|index| self.start_one(index, place(index), network))).await;
        let exhausted =
            |answer: &Result<Task>| answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::ResourceExhausted);
        let short_of: Vec<u32> = indexes.filter(|index| exhausted(&answers[*index as usize])).collect();
        if self.request.capacity != Capacity::SpotWithFallback || short_of.is_empty() {
            return Ok(answers);
        }
        let retried: Vec<u32> = short_of.into_iter().filter(|index| place(*index) == Place::Spot).collect();
        if retried.is_empty() {
            return Ok(answers);
        }
        // Put down first: a repeated call that found spot capacity after all would start the task a second time.
        self.record.on_demand.extend(&retried);
        if let Some(version) = self.version.clone() {
            match self.inner.records.replace(&self.submission.id, &self.record, version).await {
                Ok(version) => self.version = Some(version),
                // What has been started is for the caller to end.
                Err(error) => {
                    answers[retried[0] as usize] = Err(error);
                    return Ok(answers);
                }
            }
        }
        tracing::info!(job = %self.job, tasks = ?retried, "no spot capacity; running on demand");
        let on_demand = retried.iter().map(|index| self.start_one(*index, Place::OnDemand, network));
        for (index, answer) in retried.iter().zip(join_all(on_demand).await) {
            answers[*index as usize] = answer;
        }
        Ok(answers)
    }

    async fn start_one(&self, index: u32, place: Place, network: Option<&NetworkConfiguration>) -> Result<Task> {
        let ecs = &self.inner.ecs;
        let client = ecs.client().await?;
        let overrides = overrides::of_task(&self.definition, &self.submission, self.request, index);
        let token = token(&self.submission, index, place);
        let asked = ecs.retrier().run(OPERATION, self.job.as_str(), Safety::Repeatable, |_| {
            self.ask(client, place, network, overrides.clone(), &token)
        });
        match asked.await? {
            Answer::Started(task) => Ok(*task),
            Answer::Taken(tasks) => self.taken(&tasks).await,
        }
    }

    async fn ask(
        &self,
        client: &aws_sdk_ecs::Client,
        place: Place,
        network: Option<&NetworkConfiguration>,
        overrides: TaskOverride,
        token: &str,
    ) -> Result<Answer> {
        let mut request = client
            .run_task()
            .cluster(&self.inner.ecs.cluster)
            .task_definition(&self.definition.arn)
            .count(1)
            .client_token(token)
            .started_by(self.submission.id.as_str())
            .overrides(overrides)
            .set_network_configuration(network.cloned());
        request = match place {
            // Unlike the provider FARGATE, it needs not be associated with the cluster.
            Place::OnDemand if self.definition.fargate => request.launch_type(LaunchType::Fargate),
            Place::OnDemand => request,
            Place::Spot => request.capacity_provider_strategy(spot()),
        };
        for (key, value) in &self.request.labels {
            request = request.tags(Tag::builder().key(key).value(value).build());
        }
        let answer = match request.send().silently().await {
            Ok(answer) => answer,
            Err(error) => {
                if let Some(RunTaskError::ConflictException(taken)) = error.as_service_error() {
                    return Ok(Answer::Taken(taken.resource_ids().to_vec()));
                }
                let permission = "ecs:RunTask (with iam:PassRole on the roles of the task definition)";
                let subject = self.job.as_str();
                let call = Call::changing(OPERATION, subject, permission);
                return Err(failure::of(error, call));
            }
        };
        // Status 200 says nothing: the failures do.
        match (answer.tasks.unwrap_or_default().into_iter().next(), answer.failures.unwrap_or_default().first()) {
            (Some(task), _) => Ok(Answer::Started(Box::new(task))),
            (None, Some(refused)) => Err(failure::of_answer(refused, OPERATION, self.job.as_str())),
            (None, None) => {
                let message = "ECS answered with neither a task nor a failure";
                Err(Error::new(ErrorKind::Internal, OPERATION, self.job, message))
            }
        }
    }

    /// A token that was used with other parameters: of the same request if only the surroundings changed meanwhile,
    /// such as the network of the service.
    async fn taken(&self, tasks: &[String]) -> Result<Task> {
        let tasks: Vec<String> = tasks.iter().map(|task| short(task).to_owned()).collect();
        for task in self.inner.poller.look(&tasks, Duration::ZERO).await {
            if let Some(task) = task?
                && observe::variable(&task, "ANYCLOUD_FINGERPRINT") == Some(&self.submission.fingerprint)
            {
                return Ok(task);
            }
        }
        Err(self.submission.conflict(self.job))
    }
}

fn spot() -> CapacityProviderStrategyItem {
    let item = CapacityProviderStrategyItem::builder().capacity_provider("FARGATE_SPOT").weight(1);
    item.build().unwrap_or_else(|_| unreachable!("the provider is named"))
}

/// The client token of one task: 64 characters, the most that
/// [RunTask](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html) takes. The request itself is
/// not part of it, so that ECS refuses the key for another one.
fn token(submission: &Submission, index: u32, place: Place) -> String {
    random::hex(&Sha256::digest(format!("{}\n{index}\n{place:?}", submission.id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_and_capacity_has_a_token_of_its_own_and_the_same_submission_the_same() {
        let job = JobName::new("train").unwrap();
        let request =
            JobRequest { idempotency_key: Some(crate::IdempotencyKey::new("k").unwrap()), ..JobRequest::default() };
        let (one, two) = (Submission::new(&job, &request).unwrap(), Submission::new(&job, &request).unwrap());
        assert_eq!(token(&one, 0, Place::Spot), token(&two, 0, Place::Spot));
        assert_ne!(token(&one, 0, Place::Spot), token(&one, 1, Place::Spot));
        assert_ne!(token(&one, 0, Place::Spot), token(&one, 0, Place::OnDemand));
        assert_eq!(token(&one, 0, Place::Spot).len(), 64);
    }
}
