use futures_util::TryStreamExt as _;
use futures_util::future::join_all;

use super::super::{Case, cases, kind, unique};
use super::{Fixture, request};
use crate::job_runner::ListExecutions;
use crate::{ErrorKind, IdempotencyKey, JobExecution, JobRequest};

pub(super) fn cases() -> Vec<Case<Fixture>> {
    cases![
        the_same_key_runs_once,
        racing_submissions_of_one_key_run_once,
        a_key_with_another_request_is_refused,
        the_next_attempt_of_a_key_runs_again,
        an_execution_is_found_by_its_key,
        executions_are_listed_newest_first,
        labels_are_kept_and_listed_by,
    ]
}

fn keyed(key: &IdempotencyKey, args: &[&str]) -> JobRequest {
    JobRequest { idempotency_key: Some(key.clone()), ..request(args) }
}

async fn listed(fixture: &Fixture, options: ListExecutions) -> Vec<JobExecution> {
    fixture.runner.list(options).try_collect().await.expect("executions can be listed")
}

async fn the_same_key_runs_once(fixture: Fixture) {
    let key = IdempotencyKey::random();
    let first = fixture.runner.run(&fixture.job, keyed(&key, &["exit", "0"])).await.unwrap();
    let again = fixture.runner.run(&fixture.job, keyed(&key, &["exit", "0"])).await.unwrap();
    assert_eq!(first.id, again.id);
    fixture.wait(&first).await;
    let after = fixture.runner.run(&fixture.job, keyed(&key, &["exit", "0"])).await.unwrap();
    assert_eq!(first.id, after.id);
    assert_eq!((first.submission, first.attempt), (after.submission, 1));
}

async fn racing_submissions_of_one_key_run_once(fixture: Fixture) {
    let key = IdempotencyKey::random();
    // One call that has been answered, and then many at once: what a user's double click and retries amount to.
    let first = fixture.runner.run(&fixture.job, keyed(&key, &["exit", "0"])).await.unwrap();
    let racing = join_all((0..4).map(|_| fixture.runner.run(&fixture.job, keyed(&key, &["exit", "0"])))).await;
    for again in racing {
        assert_eq!(again.unwrap().id, first.id);
    }
    fixture.wait(&first).await;
}

async fn a_key_with_another_request_is_refused(fixture: Fixture) {
    let key = IdempotencyKey::random();
    let first = fixture.runner.run(&fixture.job, keyed(&key, &["exit", "0"])).await.unwrap();
    let other = fixture.runner.run(&fixture.job, keyed(&key, &["exit", "7"])).await;
    assert_eq!(kind(other), ErrorKind::PreconditionFailed);
    fixture.wait(&first).await;
}

async fn the_next_attempt_of_a_key_runs_again(fixture: Fixture) {
    let key = IdempotencyKey::random();
    let first = fixture.runner.run(&fixture.job, keyed(&key, &["exit", "7"])).await.unwrap();
    fixture.wait(&first).await;
    let next = JobRequest { attempt: 2.try_into().unwrap(), ..keyed(&key, &["exit", "7"]) };
    let second = fixture.runner.run(&fixture.job, next).await.unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(fixture.wait(&second).await.attempt, 2);
}

async fn an_execution_is_found_by_its_key(fixture: Fixture) {
    let key = IdempotencyKey::random();
    assert!(fixture.runner.find(&fixture.job, &key, 1).await.unwrap().is_none());
    let execution = fixture.runner.run(&fixture.job, keyed(&key, &["exit", "0"])).await.unwrap();
    let found = fixture.runner.find(&fixture.job, &key, 1).await.unwrap().unwrap();
    assert_eq!(found.id, execution.id);
    assert!(fixture.runner.find(&fixture.job, &key, 2).await.unwrap().is_none());
    fixture.wait(&execution).await;
    assert_eq!(fixture.runner.find(&fixture.job, &key, 1).await.unwrap().unwrap().id, execution.id);
}

async fn executions_are_listed_newest_first(fixture: Fixture) {
    let since = std::time::SystemTime::now() - std::time::Duration::from_secs(5);
    let ended = fixture.finish(&["exit", "0"]).await;
    // Platforms tell the time of creation to the second.
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    let active = fixture.run(&["sleep"]).await;
    fixture.running(&active).await;
    let all = ListExecutions { job: Some(fixture.job.clone()), since: Some(since), ..ListExecutions::default() };
    let executions = listed(&fixture, all.clone()).await;
    let place = |wanted: &JobExecution| executions.iter().position(|execution| execution.id == wanted.id).unwrap();
    assert!(place(&active) < place(&ended), "{executions:?}");
    assert!(executions.iter().all(|execution| execution.job == fixture.job));
    let running = listed(&fixture, ListExecutions { active_only: true, ..all }).await;
    assert!(running.iter().any(|execution| execution.id == active.id), "{running:?}");
    assert!(running.iter().all(|execution| !execution.state.is_finished()), "{running:?}");
    fixture.runner.cancel(&active.id).await.unwrap();
    fixture.wait(&active).await;
    let future = std::time::SystemTime::now() + std::time::Duration::from_secs(3_600);
    let none = ListExecutions { since: Some(future), ..ListExecutions::default() };
    assert!(listed(&fixture, none).await.is_empty());
}

async fn labels_are_kept_and_listed_by(fixture: Fixture) {
    if !fixture.runner.capabilities().labels {
        return;
    }
    let labels = [("team".to_owned(), unique("team"))].into();
    let labelled = JobRequest { labels, ..request(&["exit", "0"]) };
    let execution = fixture.runner.run(&fixture.job, labelled.clone()).await.unwrap();
    let execution = fixture.wait(&execution).await;
    assert_eq!(execution.labels, labelled.labels);
    let options =
        ListExecutions { job: Some(fixture.job.clone()), labels: labelled.labels.clone(), ..ListExecutions::default() };
    let executions = listed(&fixture, options).await;
    assert_eq!(executions.into_iter().map(|execution| execution.id).collect::<Vec<_>>(), [execution.id]);
}
