use bytes::Bytes;
use serde_json::{Value, json};

use super::super::naughty::TEXTS;
use super::super::{Case, cases, kind};
use super::{Fixture, request};
use crate::job_runner::{Capacity, Resources};
use crate::object_store::Crc32c;
use crate::{ErrorKind, JobOutcome, JobRequest, JobRunnerExt as _};

pub(super) fn cases() -> Vec<Case<Fixture>> {
    cases![
        variables_and_the_place_reach_the_job,
        payloads_of_any_size_reach_the_job,
        arguments_of_any_text_reach_the_job_or_are_refused,
        every_task_is_told_its_index_and_hands_over_its_result,
        one_failed_task_fails_the_execution,
        a_job_without_a_result_has_none,
        what_a_platform_would_refuse_is_refused_before_sending,
        what_the_capabilities_deny_is_unsupported,
    ]
}

async fn variables_and_the_place_reach_the_job(fixture: Fixture) {
    let env = [("GREETING".to_owned(), "grüße \"you\" $HOME %".to_owned()), ("EMPTY_ISH".to_owned(), " ".to_owned())];
    let request = JobRequest { env: env.into(), ..request(&["report", "GREETING", "EMPTY_ISH", "ABSENT_ONE"]) };
    let execution = fixture.runner.run(&fixture.job, request).await.unwrap();
    let execution = fixture.wait(&execution).await;
    assert_eq!(execution.outcome(), Some(&JobOutcome::Succeeded), "{execution:?}");
    let result: Value = fixture.runner.result(&execution).await.unwrap();
    assert_eq!(result["variables"], json!({"GREETING": "grüße \"you\" $HOME %", "EMPTY_ISH": " ", "ABSENT_ONE": null}));
    assert_eq!((&result["task"], &result["tasks"], &result["attempt"]), (&json!(0), &json!(1), &json!(1)));
    assert_eq!(result["payload_bytes"], 0);
}

async fn arguments_of_any_text_reach_the_job_or_are_refused(fixture: Fixture) {
    let (refused, taken): (Vec<&str>, Vec<&str>) = TEXTS.iter().partition(|text| text.contains('\0'));
    for text in refused {
        let run = fixture.runner.run(&fixture.job, request(&["report", text])).await;
        assert_eq!(kind(run), ErrorKind::InvalidInput, "{text:?}");
    }
    let args: Vec<&str> = ["report", ""].into_iter().chain(taken).collect();
    let execution = fixture.finish(&args).await;
    assert_eq!(execution.outcome(), Some(&JobOutcome::Succeeded), "{execution:?}");
    let result: Value = fixture.runner.result(&execution).await.unwrap();
    // The job tells of each argument whether there is a variable of this name.
    let mut arrived: Vec<&str> = result["variables"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = args[1..].to_vec();
    arrived.sort_unstable();
    expected.sort_unstable();
    assert_eq!(arrived, expected);
}

async fn payloads_of_any_size_reach_the_job(fixture: Fixture) {
    for size in [1, 3_000, 100_000] {
        let payload = Bytes::from(vec![b'p'; size]);
        let request = JobRequest { payload: Some(payload.clone()), ..request(&["report"]) };
        let execution = fixture.runner.run(&fixture.job, request).await.unwrap();
        let execution = fixture.wait(&execution).await;
        assert_eq!(execution.outcome(), Some(&JobOutcome::Succeeded), "{size}: {execution:?}");
        let result: Value = fixture.runner.result(&execution).await.unwrap();
        assert_eq!((&result["payload_bytes"], &result["payload_crc"]), (&json!(size), &json!(Crc32c::of(&payload).0)));
    }
}

async fn every_task_is_told_its_index_and_hands_over_its_result(fixture: Fixture) {
    let request = JobRequest { tasks: 3.try_into().unwrap(), ..request(&["report"]) };
    let execution = fixture.runner.run(&fixture.job, request).await.unwrap();
    let execution = fixture.wait(&execution).await;
    assert_eq!(execution.outcome(), Some(&JobOutcome::Succeeded), "{execution:?}");
    assert_eq!((execution.tasks.total, execution.tasks.succeeded), (3, 3));
    for task in 0..3 {
        let result: Value = fixture.runner.task_result(&execution, task).await.unwrap();
        assert_eq!((&result["task"], &result["tasks"]), (&json!(task), &json!(3)));
    }
}

async fn one_failed_task_fails_the_execution(fixture: Fixture) {
    let request = JobRequest { tasks: 2.try_into().unwrap(), ..request(&["exit", "3"]) };
    let execution = fixture.runner.run(&fixture.job, request).await.unwrap();
    let execution = fixture.wait(&execution).await;
    assert_eq!(execution.outcome(), Some(&JobOutcome::Failed { exit_code: Some(3) }), "{execution:?}");
}

async fn a_job_without_a_result_has_none(fixture: Fixture) {
    let execution = fixture.finish(&["exit", "0"]).await;
    assert_eq!(kind(fixture.runner.result::<Value>(&execution).await), ErrorKind::NotFound);
}

async fn what_a_platform_would_refuse_is_refused_before_sending(fixture: Fixture) {
    let reserved = JobRequest { env: [("ANYCLOUD_JOB".to_owned(), "x".to_owned())].into(), ..JobRequest::default() };
    let run = fixture.runner.run(&fixture.job, reserved).await;
    assert_eq!(kind(run), ErrorKind::InvalidInput);
    let long = JobRequest { args: Some(vec!["x".repeat(40_000)]), ..JobRequest::default() };
    assert_eq!(kind(fixture.runner.run(&fixture.job, long).await), ErrorKind::TooLarge);
}

async fn what_the_capabilities_deny_is_unsupported(fixture: Fixture) {
    let can = fixture.runner.capabilities().clone();
    let tasks = JobRequest { tasks: (can.max_tasks + 1).try_into().unwrap(), ..request(&["exit", "0"]) };
    assert_eq!(kind(fixture.runner.run(&fixture.job, tasks).await), ErrorKind::Unsupported);
    if !can.resources {
        let resources = Some(Resources { cpu_millis: 1000, memory_mib: 2048 });
        let run = fixture.runner.run(&fixture.job, JobRequest { resources, ..request(&["exit", "0"]) }).await;
        assert_eq!(kind(run), ErrorKind::Unsupported);
    }
    let spot = JobRequest { capacity: Capacity::Spot, ..request(&["exit", "0"]) };
    let run = fixture.runner.run(&fixture.job, spot).await;
    if can.spot {
        let execution = fixture.wait(&run.unwrap()).await;
        assert_eq!(execution.outcome(), Some(&JobOutcome::Succeeded), "{execution:?}");
    } else {
        assert_eq!(kind(run), ErrorKind::Unsupported);
    }
}
