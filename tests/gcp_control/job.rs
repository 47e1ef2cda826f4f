use std::time::{Duration, Instant};

use anycloud::gcp_emulator::FaultAction;
use anycloud::job_runner::{ListExecutions, LogLine, LogMode, LogOptions, LogStream, WaitOptions};
use anycloud::{
    ErrorKind, IdempotencyKey, JobExecution, JobOutcome, JobRequest, JobRunner as _, JobRunnerExt as _, JobState,
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::future::join_all;

use super::{World, job, status};

pub(crate) const RUN: &str = "run.projects.locations.jobs.run";
const LIST: &str = "run.projects.locations.jobs.executions.list";
const CANCEL: &str = "run.projects.locations.jobs.executions.cancel";
const ENTRIES: &str = "logging.entries.list";

pub(crate) fn script(text: &str) -> JobRequest {
    JobRequest { args: Some(vec![text.to_owned()]), ..JobRequest::default() }
}

pub(crate) fn keyed(key: &IdempotencyKey, text: &str) -> JobRequest {
    JobRequest { idempotency_key: Some(key.clone()), ..script(text) }
}

impl World {
    pub(crate) async fn executions(&self) -> Vec<JobExecution> {
        self.jobs.list(ListExecutions::default()).try_collect().await.expect("executions can be listed")
    }

    async fn wait(&self, execution: &JobExecution) -> JobExecution {
        let options = WaitOptions {
            first_interval: Duration::from_millis(20),
            max_interval: Duration::from_millis(200),
            deadline: Some(Duration::from_secs(30)),
            ..WaitOptions::default()
        };
        self.jobs.wait(&execution.id, options).await.expect("the execution ends")
    }

    async fn finish(&self, name: &str, request: JobRequest) -> JobExecution {
        let begun = self.jobs.run(&job(name), request).await.expect("the job is taken");
        self.wait(&begun).await
    }

    async fn lines(&self, execution: &JobExecution, mode: LogMode) -> Vec<LogLine> {
        self.jobs.logs(&execution.id, LogOptions { mode }).try_collect().await.expect("the logs can be read")
    }
}

#[tokio::test]
async fn a_run_whose_answer_is_lost_is_found_and_not_made_again() {
    for fault in [FaultAction::LoseAnswer, FaultAction::Truncate { after_bytes: 20 }] {
        for key in [None, Some(IdempotencyKey::random())] {
            let world = World::new();
            world.fault(RUN, fault.clone());
            let request = JobRequest { idempotency_key: key, ..script("exit 0") };
            let execution = world.finish("sh", request).await;
            assert_eq!(execution.outcome(), Some(&JobOutcome::Succeeded));
            assert_eq!((world.executions().await.len(), world.calls(RUN)), (1, 1));
        }
    }
}

#[tokio::test]
async fn a_run_that_the_service_turned_away_is_made_again() {
    for code in [500, 503] {
        let world = World::new();
        world.fault(RUN, status(code));
        world.finish("sh", script("exit 0")).await;
        assert_eq!((world.executions().await.len(), world.calls(RUN)), (1, 2), "{code}");
    }
}

#[tokio::test]
async fn a_run_of_which_nothing_is_known_is_indeterminate_and_the_same_key_may_be_used_again() {
    let world = World::new();
    world.fault(RUN, FaultAction::Reset);
    let key = IdempotencyKey::random();
    let error = world.jobs.run(&job("sh"), keyed(&key, "exit 0")).await.expect_err("unknown");
    assert!(error.is_indeterminate() && !error.is_retryable(), "{error:?}");
    assert_eq!(world.calls(RUN), 1);
    assert!(world.jobs.find(&job("sh"), &key, 1).await.expect("listed").is_none());
    let execution = world.finish("sh", keyed(&key, "exit 0")).await;
    assert_eq!(execution.outcome(), Some(&JobOutcome::Succeeded));
    assert_eq!(world.executions().await.len(), 1);
}

#[tokio::test]
async fn being_asked_to_slow_down_is_obeyed() {
    let world = World::new();
    world.fault(RUN, FaultAction::Status { code: 429, retry_after_seconds: Some(1) });
    let begun = Instant::now();
    world.finish("sh", script("exit 0")).await;
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!((world.executions().await.len(), world.calls(RUN)), (1, 2));
}

#[tokio::test]
async fn only_a_key_of_the_callers_is_looked_for_before() {
    let world = World::new();
    world.jobs.run(&job("sh"), script("exit 0")).await.expect("taken");
    assert_eq!((world.calls(LIST), world.calls(RUN)), (0, 1));
    world.jobs.run(&job("sh"), keyed(&IdempotencyKey::random(), "exit 0")).await.expect("taken");
    assert_eq!((world.calls(LIST), world.calls(RUN)), (1, 2));
}

#[tokio::test]
async fn first_submissions_of_one_key_at_once_run_once() {
    let world = World::new();
    let key = IdempotencyKey::random();
    let sh = job("sh");
    let racing = join_all((0..5).map(|_| world.jobs.run(&sh, keyed(&key, "exit 0")))).await;
    let ids: Vec<_> = racing.into_iter().map(|one| one.expect("taken").id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(world.executions().await.len(), 1);
    let other = world.jobs.run(&sh, keyed(&key, "exit 1")).await.expect_err("another request");
    assert_eq!(other.kind(), ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn a_large_payload_is_handed_over_before_the_run_and_not_when_it_was_made_already() {
    let world = World::new();
    let key = IdempotencyKey::random();
    let request = |byte| JobRequest {
        payload: Some(Bytes::from(vec![byte; 50_000])),
        ..keyed(&key, "test -n \"$ANYCLOUD_PAYLOAD_URI\"")
    };
    let execution = world.finish("sh", request(1)).await;
    assert_eq!(execution.outcome(), Some(&JobOutcome::Succeeded), "{execution:?}");
    let other = world.jobs.run(&job("sh"), request(2)).await.expect_err("another payload");
    assert_eq!(other.kind(), ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn the_platforms_retries_are_reported() {
    let world = World::new();
    let execution = world.finish("stubborn", script("exit 5")).await;
    assert_eq!(execution.outcome(), Some(&JobOutcome::Failed { exit_code: Some(5) }), "{execution:?}");
    assert_eq!((execution.tasks.failed, execution.tasks.retried), (1, 1));
    assert_eq!(execution.details["task.retried"], "2");
    let second = "test \"$CLOUD_RUN_TASK_ATTEMPT\" = 1";
    let execution = world.finish("stubborn", script(second)).await;
    assert_eq!((execution.outcome(), execution.tasks.retried), (Some(&JobOutcome::Succeeded), 1));
}

#[tokio::test]
async fn a_signal_is_told_from_an_exit_code() {
    let world = World::new();
    let execution = world.finish("sh", script("kill -SEGV $$")).await;
    assert_eq!(execution.outcome(), Some(&JobOutcome::Killed { signal: 11 }), "{execution:?}");
}

#[tokio::test]
async fn arguments_are_kept_replaced_or_cleared() {
    let world = World::new();
    let kept = world.finish("sh", JobRequest::default()).await;
    let lines = world.lines(&kept, LogMode::All).await;
    assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["from the definition"]);
    // A shell without its script ends with 2.
    let cleared = world.finish("sh", JobRequest { args: Some(Vec::new()), ..JobRequest::default() }).await;
    assert_eq!(cleared.outcome(), Some(&JobOutcome::Failed { exit_code: Some(2) }), "{cleared:?}");
}

#[tokio::test]
async fn executions_of_all_jobs_are_listed_newest_first() {
    let world = World::new();
    let mut ids = Vec::new();
    for name in ["sh", "stubborn", "sh"] {
        ids.push(world.finish(name, script("exit 0")).await.id);
    }
    ids.reverse();
    assert_eq!(world.executions().await.into_iter().map(|one| one.id).collect::<Vec<_>>(), ids);
}

#[tokio::test]
async fn a_cancellation_whose_answer_is_lost_has_been_taken() {
    let world = World::new();
    let execution = world.jobs.run(&job("sh"), script("sleep 60")).await.expect("taken");
    world.fault(CANCEL, FaultAction::LoseAnswer);
    world.jobs.cancel(&execution.id).await.expect("taken");
    let execution = world.wait(&execution).await;
    assert_eq!(execution.state, JobState::Finished(JobOutcome::Cancelled));
}

#[tokio::test]
async fn a_denied_run_names_the_permission() {
    let world = World::new();
    world.fault(RUN, status(403));
    let error = world.jobs.run(&job("sh"), script("exit 0")).await.expect_err("denied");
    assert_eq!((error.kind(), world.calls(RUN)), (ErrorKind::PermissionDenied, 1));
    assert!(error.message().contains("run.jobs.runWithOverrides"), "{error}");
}

#[tokio::test]
async fn logs_tell_the_stream_and_the_task_and_survive_faults() {
    let world = World::new();
    let both = "echo out $CLOUD_RUN_TASK_INDEX; sleep 0.2; echo err >&2; sleep 0.2";
    let request = JobRequest { tasks: 2.try_into().expect("not zero"), ..script(both) };
    let execution = world.jobs.run(&job("sh"), request).await.expect("taken");
    for fault in [FaultAction::Reset, status(503), FaultAction::LoseAnswer] {
        world.fault(ENTRIES, fault);
    }
    let followed = world.lines(&execution, LogMode::Follow).await;
    assert_eq!(followed.len(), 4, "{followed:?}");
    for task in 0..2 {
        let own: Vec<_> = followed.iter().filter(|line| line.task == task).collect();
        assert_eq!((own[0].text.as_str(), own[0].stream), (format!("out {task}").as_str(), LogStream::Stdout));
        assert_eq!((own[1].text.as_str(), own[1].stream), ("err", LogStream::Stderr));
    }
    assert_eq!(world.lines(&execution, LogMode::All).await, followed);
    assert_eq!(world.lines(&execution, LogMode::Tail(1)).await, followed[3..]);
    assert_eq!(world.lines(&execution, LogMode::Tail(0)).await, []);
}

#[tokio::test]
async fn logs_of_what_never_was_are_not_found() {
    let world = World::new();
    let id = anycloud::ExecutionId::new("sh/sh-nobody").expect("an id");
    let read: Result<Vec<_>, _> = world.jobs.logs(&id, LogOptions::default()).try_collect().await;
    assert_eq!(read.expect_err("nothing").kind(), ErrorKind::NotFound);
}
