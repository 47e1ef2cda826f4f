use std::time::Duration;

use super::super::{Case, cases, kind};
use super::{Fixture, GRACE_OF_THE_FIXTURE, logging, request};
use crate::job_runner::{LogMode, WaitOptions};
use crate::{ErrorKind, ExecutionId, JobExecution, JobName, JobOutcome, JobRequest, JobRunnerExt as _, JobState};

pub(super) fn cases() -> Vec<Case<Fixture>> {
    cases![
        a_job_that_exits_with_0_has_succeeded,
        a_job_that_exits_otherwise_has_failed_with_its_code,
        a_bare_137_is_a_kill_and_not_lack_of_memory,
        a_job_that_cannot_start_says_so,
        a_job_that_runs_too_long_is_timed_out,
        a_cancelled_job_is_cancelled,
        a_cancelled_job_that_exits_with_0_is_cancelled_all_the_same,
        a_job_that_is_asked_to_end_has_the_grace_to_save_its_work,
        a_job_that_ignores_the_request_to_end_is_killed,
        cancelling_an_ended_job_changes_nothing,
        waiting_has_a_deadline_of_its_own,
        what_is_not_there_is_not_found,
    ]
}

async fn a_job_that_exits_with_0_has_succeeded(fixture: Fixture) {
    let execution = fixture.finish(&["exit", "0"]).await;
    assert_eq!(execution.outcome(), Some(&JobOutcome::Succeeded), "{execution:?}");
    assert_eq!((execution.tasks.total, execution.tasks.succeeded, execution.tasks.failed), (1, 1, 0));
    let (created, finished) = (execution.created.unwrap(), execution.finished.unwrap());
    assert!(created <= finished, "{execution:?}");
    // Final, however often it is looked at.
    assert_eq!(fixture.runner.get(&execution.id).await.unwrap().state, execution.state);
}

async fn a_job_that_exits_otherwise_has_failed_with_its_code(fixture: Fixture) {
    let execution = fixture.finish(&["exit", "7"]).await;
    assert_eq!(execution.outcome(), Some(&JobOutcome::Failed { exit_code: Some(7) }), "{execution:?}");
    assert_eq!((execution.tasks.succeeded, execution.tasks.failed), (0, 1));
}

async fn a_bare_137_is_a_kill_and_not_lack_of_memory(fixture: Fixture) {
    let execution = fixture.finish(&["exit", "137"]).await;
    assert_eq!(execution.outcome(), Some(&JobOutcome::Killed { signal: 9 }), "{execution:?}");
}

async fn a_job_that_cannot_start_says_so(fixture: Fixture) {
    // A platform may see at once, or only when it tries.
    match fixture.runner.run(&fixture.broken, JobRequest::default()).await {
        Ok(execution) => {
            let execution = fixture.wait(&execution).await;
            assert!(matches!(execution.outcome(), Some(JobOutcome::FailedToStart { .. })), "{execution:?}");
            assert!(execution.reason.is_some(), "{execution:?}");
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}"),
    }
}

async fn a_job_that_runs_too_long_is_timed_out(fixture: Fixture) {
    let limited = JobRequest { timeout: Some(Duration::from_secs(3)), ..request(&["sleep"]) };
    let execution = fixture.runner.run(&fixture.job, limited).await.unwrap();
    let execution = fixture.wait(&execution).await;
    assert_eq!(execution.outcome(), Some(&JobOutcome::TimedOut), "{execution:?}");
}

async fn cancelled(fixture: &Fixture, args: &[&str]) -> JobExecution {
    let execution = fixture.run(args).await;
    fixture.running(&execution).await;
    fixture.runner.cancel(&execution.id).await.unwrap();
    fixture.runner.cancel(&execution.id).await.unwrap();
    let execution = fixture.wait(&execution).await;
    assert_eq!(execution.outcome(), Some(&JobOutcome::Cancelled), "{execution:?}");
    execution
}

async fn a_cancelled_job_is_cancelled(fixture: Fixture) {
    cancelled(&fixture, &["sleep"]).await;
}

async fn a_cancelled_job_that_exits_with_0_is_cancelled_all_the_same(fixture: Fixture) {
    cancelled(&fixture, &["trap"]).await;
}

async fn a_job_that_is_asked_to_end_has_the_grace_to_save_its_work(fixture: Fixture) {
    // Most of what is promised, leaving some for a busy machine.
    let work = fixture.runner.capabilities().grace.min(GRACE_OF_THE_FIXTURE).mul_f64(0.6);
    let execution = cancelled(&fixture, &["save", &work.as_millis().to_string()]).await;
    assert_eq!(logging::settled(&fixture, &execution, LogMode::All, 2).await, ["ready", "saved"]);
}

async fn a_job_that_ignores_the_request_to_end_is_killed(fixture: Fixture) {
    cancelled(&fixture, &["ignore"]).await;
}

async fn cancelling_an_ended_job_changes_nothing(fixture: Fixture) {
    let execution = fixture.finish(&["exit", "7"]).await;
    fixture.runner.cancel(&execution.id).await.unwrap();
    let after = fixture.runner.get(&execution.id).await.unwrap();
    assert_eq!(after.state, execution.state);
}

async fn waiting_has_a_deadline_of_its_own(fixture: Fixture) {
    let execution = fixture.run(&["sleep"]).await;
    let impatient = WaitOptions { deadline: Some(Duration::from_millis(300)), ..WaitOptions::default() };
    let waited = fixture.runner.wait(&execution.id, impatient).await;
    assert_eq!(kind(waited), ErrorKind::Timeout);
    let state = fixture.runner.get(&execution.id).await.unwrap().state;
    assert!(matches!(state, JobState::Pending | JobState::Running), "{state:?}");
    fixture.running(&execution).await;
    fixture.runner.cancel(&execution.id).await.unwrap();
    fixture.wait(&execution).await;
}

async fn what_is_not_there_is_not_found(fixture: Fixture) {
    let nobody = JobName::new("no-such-job-here").unwrap();
    let error = fixture.runner.run(&nobody, JobRequest::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.subject().contains("no-such-job-here"), "{error}");
    // An id of the right form, whatever that is, of an execution that never was.
    let execution = fixture.finish(&["exit", "0"]).await;
    let id: String = execution.id.as_str().chars().rev().collect::<String>();
    let unknown = ExecutionId::new(format!("x{id}")).unwrap();
    assert_eq!(kind(fixture.runner.get(&unknown).await), ErrorKind::NotFound);
    assert_eq!(kind(fixture.runner.cancel(&unknown).await), ErrorKind::NotFound);
    let both = fixture.runner.get_many(&[unknown, execution.id.clone()]).await;
    assert_eq!(both.len(), 2);
    assert_eq!(both[0].as_ref().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(both[1].as_ref().unwrap().id, execution.id);
}
