use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

use super::super::EcsRunner;
use super::script::{Asked, Ecs, Reply, Shelf, definition, id_of, job, keyed, missing, stopped, task};
use crate::job_runner::{LogMode, LogOptions};
use crate::{ErrorKind, ExecutionId, JobExecution, JobOutcome, JobRequest, JobRunner as _, JobState};

/// ECS with one task, whose looks go by this script.
fn looked_at(look: impl Fn(usize, &Asked, &Value) -> Reply + Send + Sync + 'static) -> Ecs {
    let run = std::sync::Mutex::new(Value::Null);
    Ecs::new(move |asked| match &*asked.operation {
        "DescribeTaskDefinition" => definition(),
        "RunTask" => {
            *run.lock().unwrap() = asked.body.clone();
            Reply::Json(json!({"tasks": [task(1, &asked.body, json!({}))]}))
        }
        "DescribeTasks" => look(asked.before, asked, &run.lock().unwrap()),
        _ => Reply::Json(json!({})),
    })
}

fn described(run: &Value, changes: Value) -> Reply {
    Reply::Json(json!({"tasks": [task(1, run, changes)]}))
}

async fn started(runner: &EcsRunner, request: JobRequest) -> JobExecution {
    runner.run(&job(), request).await.unwrap()
}

// https://github.com/boto/boto3/issues/842
#[tokio::test(start_paused = true)]
async fn a_task_that_is_missing_after_its_start_is_pending_and_one_that_vanishes_later_is_lost() {
    let ecs = looked_at(|number, asked, run| match number {
        0 => missing(asked),
        1 => described(run, json!({"lastStatus": "RUNNING", "startedAt": 1_700_000_001.0})),
        _ => missing(asked),
    });
    let runner = ecs.runner(&Arc::default(), |_| {});
    let execution = started(&runner, keyed("k")).await;
    for state in [JobState::Pending, JobState::Running, JobState::Finished(JobOutcome::Lost)] {
        assert_eq!(runner.get(&execution.id).await.unwrap().state, state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_stays_missing_is_lost_after_the_grace() {
    let ecs = looked_at(|_, asked, _| missing(asked));
    let shelf = Arc::new(Shelf::default());
    let runner = ecs.runner(&shelf, |_| {});
    let execution = started(&runner, keyed("k")).await;
    tokio::time::advance(Duration::from_secs(290)).await;
    assert_eq!(runner.get(&execution.id).await.unwrap().state, JobState::Pending);
    // Another process, which did not see it start, goes by the record.
    assert_eq!(ecs.runner(&shelf, |_| {}).get(&execution.id).await.unwrap().state, JobState::Pending);
    shelf.change(|record| record["created"] = json!(0));
    tokio::time::advance(Duration::from_secs(20)).await;
    let lost = JobState::Finished(JobOutcome::Lost);
    assert_eq!(runner.get(&execution.id).await.unwrap().state, lost);
    assert_eq!(ecs.runner(&shelf, |_| {}).get(&execution.id).await.unwrap().state, lost);
}

#[tokio::test(start_paused = true)]
async fn the_end_is_known_after_ecs_forgets_it_and_unknown_without_a_record() {
    let forgets = looked_at(|number, asked, run| match number {
        0 => described(run, stopped(7)),
        _ => missing(asked),
    });
    let shelf = Arc::new(Shelf::default());
    let runner = forgets.runner(&shelf, |_| {});
    let execution = started(&runner, keyed("k")).await;
    let ended = runner.get(&execution.id).await.unwrap();
    assert_eq!(ended.outcome(), Some(&JobOutcome::Failed { exit_code: Some(7) }));
    // Another process, later.
    let later = forgets.runner(&shelf, |_| {}).get(&execution.id).await.unwrap();
    assert_eq!((later.state, later.tasks, later.finished), (ended.state, ended.tasks, ended.finished));
    let found =
        forgets.runner(&shelf, |_| {}).find(&job(), &crate::IdempotencyKey::new("k").unwrap(), 1).await.unwrap();
    assert_eq!(found.unwrap().id, execution.id);
    let without = forgets.runner(&Arc::default(), |_| {}).get(&execution.id).await.unwrap();
    assert_eq!(without.outcome(), Some(&JobOutcome::Unknown));
}

// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-capacity-providers.html
#[tokio::test(start_paused = true)]
async fn a_spot_interruption_is_interrupted() {
    let ecs = looked_at(|_, _, run| {
        let mut changes = stopped(143);
        changes["stopCode"] = json!("SpotInterruption");
        changes["stoppedReason"] = json!("Your Spot Task was interrupted.");
        described(run, changes)
    });
    let runner = ecs.runner(&Arc::default(), |_| {});
    let execution = started(&runner, keyed("k")).await;
    let seen = runner.get(&execution.id).await.unwrap();
    assert_eq!(seen.outcome(), Some(&JobOutcome::Interrupted));
    assert!(seen.outcome().unwrap().is_retryable() && seen.reason.unwrap().contains("Spot"));
}

// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html
#[tokio::test(start_paused = true)]
async fn throttling_is_waited_out() {
    let ecs = looked_at(|number, _, run| match number {
        0 | 1 => Reply::Error("ThrottlingException", "Rate exceeded"),
        _ => described(run, json!({"lastStatus": "RUNNING"})),
    });
    let runner = ecs.runner(&Arc::default(), |_| {});
    let execution = started(&runner, keyed("k")).await;
    assert_eq!(runner.get(&execution.id).await.unwrap().state, JobState::Running);
    assert_eq!(ecs.asked("DescribeTasks").len(), 3);
}

fn running_for(seconds: u64) -> Value {
    let started = SystemTime::now() - Duration::from_secs(seconds);
    let started = started.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    json!({"lastStatus": "RUNNING", "startedAt": started, "containers": [{"name": "main"}]})
}

#[tokio::test(start_paused = true)]
async fn what_has_run_too_long_is_stopped_by_whoever_looks_and_timed_out() {
    let stops = Arc::new(AtomicUsize::new(0));
    let seen = stops.clone();
    let run = std::sync::Mutex::new(Value::Null);
    let ecs = Ecs::new(move |asked| match &*asked.operation {
        "DescribeTaskDefinition" => definition(),
        "RunTask" => {
            *run.lock().unwrap() = asked.body.clone();
            Reply::Json(json!({"tasks": [task(1, &asked.body, json!({}))]}))
        }
        "StopTask" => {
            seen.fetch_add(1, Ordering::Relaxed);
            Reply::Json(json!({}))
        }
        _ if seen.load(Ordering::Relaxed) == 0 => described(&run.lock().unwrap(), running_for(31)),
        _ => {
            let mut changes = stopped(0);
            changes["stopCode"] = json!("UserInitiated");
            changes["stoppedReason"] = json!("anycloud: timed out after 30 s");
            described(&run.lock().unwrap(), changes)
        }
    });
    let shelf = Arc::new(Shelf::default());
    let request = JobRequest { timeout: Some(Duration::from_secs(30)), ..keyed("k") };
    let execution = started(&ecs.runner(&shelf, |_| {}), request).await;
    // Another process.
    let runner = ecs.runner(&shelf, |_| {});
    assert_eq!(runner.get(&execution.id).await.unwrap().state, JobState::Stopping);
    assert_eq!(stops.load(Ordering::Relaxed), 1);
    let [stop] = &ecs.asked("StopTask")[..] else { panic!("one StopTask") };
    assert_eq!(stop["reason"], "anycloud: timed out after 30 s");
    assert_eq!(runner.get(&execution.id).await.unwrap().outcome(), Some(&JobOutcome::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn the_process_that_started_a_job_ends_it_when_its_time_is_over_though_nobody_looks() {
    let ecs = looked_at(|_, _, run| described(run, running_for(31)));
    let runner = ecs.runner(&Arc::default(), |_| {});
    started(&runner, JobRequest { timeout: Some(Duration::from_secs(30)), ..keyed("k") }).await;
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(ecs.asked("StopTask").is_empty());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!ecs.asked("StopTask").is_empty());
}

#[tokio::test(start_paused = true)]
async fn cancelling_asks_once_for_what_runs_and_not_for_what_has_ended() {
    let ecs = looked_at(|number, _, run| match number {
        0 => described(run, running_for(1)),
        _ => described(run, stopped(0)),
    });
    let runner = ecs.runner(&Arc::default(), |_| {});
    let execution = started(&runner, keyed("k")).await;
    for _ in 0..2 {
        runner.cancel(&execution.id).await.unwrap();
    }
    let [stop] = &ecs.asked("StopTask")[..] else { panic!("one StopTask") };
    assert_eq!((&stop["task"], &stop["reason"]), (&json!(id_of(1)), &json!("anycloud: cancelled")));
}

#[tokio::test(start_paused = true)]
async fn without_a_record_a_submission_is_found_by_started_by_alone_in_both_states() {
    let ecs = Ecs::new(|asked| match (&*asked.operation, asked.body["desiredStatus"].as_str()) {
        ("ListTasks", Some("STOPPED")) => {
            let arn = format!("arn:aws:ecs:eu-west-1:123456789012:task/main/{}", id_of(1));
            Reply::Json(json!({"taskArns": [arn]}))
        }
        ("ListTasks", _) => Reply::Json(json!({"taskArns": []})),
        _ => {
            let submission = crate::job_runner::Submission::new(&job(), &keyed("k")).unwrap();
            let variable = json!({"name": "ANYCLOUD_SUBMISSION", "value": submission.id.as_str()});
            let overrides = json!({"containerOverrides": [{"name": "main", "environment": [variable]}]});
            Reply::Json(json!({"tasks": [task(1, &json!({"startedBy": submission.id.as_str(), "overrides": overrides}),
                                                stopped(0))]}))
        }
    });
    let key = crate::IdempotencyKey::new("k").unwrap();
    let found = ecs.runner(&Arc::default(), |_| {}).find(&job(), &key, 1).await.unwrap().unwrap();
    assert_eq!(found.outcome(), Some(&JobOutcome::Succeeded));
    let lists = ecs.asked("ListTasks");
    assert_eq!(lists.iter().map(|list| list["desiredStatus"].clone()).collect::<Vec<_>>(), ["RUNNING", "STOPPED"]);
    assert!(lists.iter().all(|list| list["family"].is_null() && !list["startedBy"].is_null()));
}

// https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html
#[tokio::test(start_paused = true)]
async fn an_empty_page_of_a_log_is_not_its_end() {
    let ecs = Ecs::new(|asked| match &*asked.operation {
        "DescribeTaskDefinition" => definition(),
        "RunTask" => Reply::Json(json!({"tasks": [task(1, &asked.body, json!({}))]})),
        "DescribeTasks" => Reply::Json(json!({"tasks": [task(1, &json!({}), stopped(0))]})),
        "GetLogEvents" => {
            assert_eq!(asked.body["logStreamName"], format!("train/main/{}", id_of(1)));
            let line = |text: &str| json!([{"timestamp": 1_700_000_000_000_u64, "message": text}]);
            let (events, next) = match asked.body["nextToken"].as_str() {
                None => (line("first"), "f/1"),
                Some("f/1") => (json!([]), "f/2"),
                Some("f/2") => (line("last"), "f/3"),
                _ => (json!([]), "f/3"),
            };
            Reply::Json(json!({"events": events, "nextForwardToken": next, "nextBackwardToken": "b/1"}))
        }
        other => panic!("{other}"),
    });
    let runner = ecs.runner(&Arc::default(), |_| {});
    let execution = started(&runner, keyed("k")).await;
    let lines: Vec<_> = runner.logs(&execution.id, LogOptions::default()).try_collect().await.unwrap();
    assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["first", "last"]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_not_there_yet_is_empty_and_following_reads_on_after_the_end() {
    let ecs = Ecs::new(|asked| match &*asked.operation {
        "DescribeTaskDefinition" => definition(),
        "RunTask" => Reply::Json(json!({"tasks": [task(1, &asked.body, json!({}))]})),
        "DescribeTasks" => {
            let mut changes = stopped(0);
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            changes["stoppedAt"] = json!(now);
            Reply::Json(json!({"tasks": [task(1, &json!({}), changes)]}))
        }
        "GetLogEvents" if asked.before < 4 => {
            Reply::Error("ResourceNotFoundException", "The specified log stream does not exist.")
        }
        "GetLogEvents" => {
            let late = asked.body["nextToken"].is_null();
            let events = if late { json!([{"timestamp": 1, "message": "late"}]) } else { json!([]) };
            Reply::Json(json!({"events": events, "nextForwardToken": "f/1"}))
        }
        other => panic!("{other}"),
    });
    let runner = ecs.runner(&Arc::default(), |_| {});
    let execution = started(&runner, keyed("k")).await;
    let all: Vec<_> = runner.logs(&execution.id, LogOptions::default()).try_collect().await.unwrap();
    assert!(all.is_empty());
    let follow = LogOptions { mode: LogMode::Follow };
    let lines: Vec<_> = runner.logs(&execution.id, follow).try_collect().await.unwrap();
    assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["late"]);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_not_there_is_a_matter_of_configuration() {
    let ecs = Ecs::new(|_| Reply::Error("ClusterNotFoundException", "Cluster not found."));
    let id = ExecutionId::new(format!("main/-/{}", id_of(1))).unwrap();
    let error = ecs.runner(&Arc::default(), |_| {}).get(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}
