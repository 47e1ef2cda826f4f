//! Many executions that are waited for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::script::{Asked, Ecs, Reply, definition, id_of, stopped, task};
use crate::job_runner::WaitOptions;
use crate::{ErrorKind, ExecutionId, JobRunner as _, JobRunnerExt as _};

const MANY: usize = 1_000;

fn id(number: usize) -> ExecutionId {
    ExecutionId::new(format!("main/-/{}", id_of(number))).unwrap()
}

fn numbers(asked: &Asked) -> Vec<usize> {
    let tasks = asked.body["tasks"].as_array().unwrap();
    assert!(tasks.len() <= 100);
    tasks.iter().map(|id| usize::from_str_radix(id.as_str().unwrap(), 16).unwrap()).collect()
}

/// The tasks that a call asks for, all of them running but those that have ended.
fn seen(asked: &Asked, has_ended: impl Fn(usize) -> bool) -> Reply {
    let running = || json!({"lastStatus": "RUNNING"});
    let state = |number| if has_ended(number) { stopped(0) } else { running() };
    let tasks: Vec<Value> = numbers(asked).into_iter().map(|number| task(number, &json!({}), state(number))).collect();
    Reply::Json(json!({"tasks": tasks}))
}

#[tokio::test(start_paused = true)]
async fn a_thousand_looks_at_the_same_moment_are_ten_calls() {
    let ecs = Ecs::new(|asked| seen(asked, |_| false));
    let runner = ecs.runner(&Arc::default(), |_| {});
    let ids: Vec<_> = (0..MANY).map(id).collect();
    let found = join_all(ids.iter().map(|id| runner.get(id))).await;
    assert!(found.into_iter().zip(&ids).all(|(found, id)| found.unwrap().id == *id));
    assert_eq!(ecs.asked("DescribeTasks").len(), 10);
}

/// Waits of a thousand executions that began at fifty moments of an interval. When each call was made, and how late
/// after its end, at any moment, an execution was known to have ended.
async fn waits(interval: Duration) -> (Vec<Duration>, Duration) {
    let begun = Instant::now();
    let ends = begun + interval.mul_f64(4.37);
    let calls = Arc::new(Mutex::new(Vec::new()));
    let made = Arc::clone(&calls);
    let ecs = Ecs::new(move |asked| {
        if asked.operation == "DescribeTaskDefinition" {
            return definition();
        }
        made.lock().unwrap().push(begun.elapsed());
        seen(asked, |number| number == 500 && Instant::now() >= ends)
    });
    let runner = ecs.runner(&Arc::default(), |_| {});
    let options = WaitOptions { first_interval: interval, max_interval: interval, ..WaitOptions::default() };
    let wait = |number: usize| {
        let (runner, options) = (runner.clone(), options.clone());
        async move {
            sleep(interval.mul_f64((number % 50) as f64 / 50.0)).await;
            runner.wait(&id(number), options).await
        }
    };
    let others: Vec<_> = (0..MANY).filter(|number| *number != 500).map(|number| tokio::spawn(wait(number))).collect();
    let ended = wait(500).await.unwrap();
    assert!(ended.outcome().is_some_and(crate::JobOutcome::is_success));
    let late = ends.elapsed();
    sleep(interval).await;
    others.into_iter().for_each(|wait| wait.abort());
    // Nobody is looked for who has given up.
    let calls = calls.lock().unwrap().clone();
    sleep(3 * interval).await;
    assert!(ecs.asked("DescribeTasks").len() <= calls.len() + 1);
    (calls, late)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waits_cost_ten_calls_an_interval_and_see_an_end_within_two_seconds_of_it() {
    for seconds in [2, 10, 30] {
        let interval = Duration::from_secs(seconds);
        let (calls, late) = waits(interval).await;
        println!("{seconds} s: {} calls in all, the end seen {late:?} late", calls.len());
        // Beginning to wait is a look of its own.
        let calls: Vec<_> = calls.into_iter().filter(|at| *at > interval).collect();
        assert!(calls.len() >= 30, "{calls:?}");
        for eleven in calls.windows(11) {
            assert!(eleven[10] - eleven[0] >= interval, "eleven calls within {interval:?}: {eleven:?}");
        }
        assert!(late <= interval + Duration::from_secs(2), "{late:?} of {interval:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_travel_side_by_side_and_a_look_waits_no_longer_than_a_call_lasts() {
    let ecs = Ecs::new(|asked| match asked.before {
        0..3 => Reply::Late(Duration::from_secs(5), seen_value(asked)),
        _ => Reply::Late(Duration::from_secs(3600), json!({})),
    });
    let runner = ecs.runner(&Arc::default(), |config| config.retry.max_attempts = 1);
    let begun = Instant::now();
    let ids: Vec<_> = (0..300).map(id).collect();
    assert!(runner.get_many(&ids).await.iter().all(Result::is_ok));
    assert_eq!(begun.elapsed().as_secs(), 5);
    let begun = Instant::now();
    let error = runner.get(&id(1)).await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed().as_secs()), (ErrorKind::Timeout, 30));
}

fn seen_value(asked: &Asked) -> Value {
    match seen(asked, |_| false) {
        Reply::Json(value) => value,
        _ => unreachable!("tasks are seen"),
    }
}
