//! Cloud Run jobs and their logs.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Server;

const PARENT: &str = "/v2/projects/p/locations/l";

/// A job that runs a script; the answer is its name in the API.
fn create(server: &Server, id: &str, script: &str, task: &Value) -> String {
    let mut template = json!({"containers": [{"image": "sh", "args": [script]}]});
    for (name, value) in task.as_object().into_iter().flatten() {
        template[name] = value.clone();
    }
    let body = json!({"template": {"template": template}});
    server.post(&format!("{PARENT}/jobs?jobId={id}"), &body).ok();
    format!("{PARENT}/jobs/{id}")
}

fn run(server: &Server, job: &str, request: &Value) -> Value {
    server.post(&format!("{job}:run"), request).ok()
}

/// The execution of a run when it is over.
fn finished(server: &Server, operation: &Value) -> Value {
    let name = operation["metadata"]["name"].as_str().expect("a name");
    wait_for(server, name, |execution| execution.get("completionTime").is_some())
}

fn wait_for(server: &Server, name: &str, ready: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let execution = server.get(&format!("/v2/{name}")).ok();
        if ready(&execution) {
            return execution;
        }
        assert!(Instant::now() < end, "{execution}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn tasks(server: &Server, execution: &Value) -> Vec<Value> {
    let name = execution["name"].as_str().expect("a name");
    let tasks = server.get(&format!("/v2/{name}/tasks")).ok();
    tasks["tasks"].as_array().cloned().unwrap_or_default()
}

fn lines(server: &Server, execution: &Value) -> Vec<String> {
    let short = execution["name"].as_str().and_then(|name| name.rsplit('/').next()).expect("a name");
    let filter =
        format!("resource.type=\"cloud_run_job\" AND labels.\"run.googleapis.com/execution_name\"=\"{short}\"");
    let body = json!({"resourceNames": ["projects/p"], "filter": filter, "orderBy": "timestamp asc"});
    let found = server.post("/v2/entries:list", &body).ok();
    let entries = found["entries"].as_array().cloned().unwrap_or_default();
    entries.iter().filter_map(|entry| entry["textPayload"].as_str().map(str::to_owned)).collect()
}

fn completed(execution: &Value) -> (&str, &str) {
    let condition = &execution["conditions"][0];
    assert_eq!(condition["type"], "Completed");
    let reason = condition["executionReason"].as_str().unwrap_or("");
    (condition["state"].as_str().unwrap_or(""), reason)
}

/// Whether a process is alive, and no zombie.
fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_task_gets_its_overrides_its_identity_and_nothing_of_the_server() {
    let server = Server::start();
    let script = r#"env | grep -v -E '^(PWD|SHLVL|_|OLDPWD)=' | sort"#;
    let job = create(&server, "show", script, &json!({}));
    let env = json!([{"name": "COLOUR", "value": "red"}]);
    let request = json!({"overrides": {"containerOverrides": [{"env": env}], "taskCount": 1}});
    let operation = run(&server, &job, &request);
    assert!(operation.get("done").is_none());
    let execution = finished(&server, &operation);
    assert_eq!(completed(&execution), ("CONDITION_SUCCEEDED", ""));
    assert_eq!(execution["succeededCount"], 1);
    assert!(execution.get("failedCount").is_none());
    let short = execution["name"].as_str().and_then(|name| name.rsplit('/').next()).expect("a name");
    assert_eq!(
        lines(&server, &execution),
        [
            format!("CLOUD_RUN_EXECUTION={short}").as_str(),
            "CLOUD_RUN_JOB=show",
            "CLOUD_RUN_TASK_ATTEMPT=0",
            "CLOUD_RUN_TASK_COUNT=1",
            "CLOUD_RUN_TASK_INDEX=0",
            "COLOUR=red",
            "PATH=/usr/local/bin:/usr/bin:/bin",
        ]
    );
    let name = operation["name"].as_str().expect("a name");
    let done = server.get(&format!("/v2/{name}")).ok();
    assert_eq!(done["done"], true);
    assert_eq!(done["response"]["name"], execution["name"]);
}

#[test]
fn a_failing_task_is_retried_three_times_and_says_its_exit_code() {
    let server = Server::start();
    let job = create(&server, "fails", "echo $CLOUD_RUN_TASK_ATTEMPT; exit 7", &json!({}));
    let operation = run(&server, &job, &json!({}));
    let execution = finished(&server, &operation);
    assert_eq!(completed(&execution), ("CONDITION_FAILED", "NON_ZERO_EXIT_CODE"));
    assert_eq!((&execution["failedCount"], &execution["retriedCount"]), (&json!(1), &json!(1)));
    assert_eq!(lines(&server, &execution), ["0", "1", "2", "3"]);
    let task = tasks(&server, &execution).remove(0);
    assert_eq!(task["retried"], 3);
    assert_eq!(task["lastAttemptResult"]["exitCode"], 7);
    assert!(task["lastAttemptResult"].get("termSignal").is_none());
    let done = server.get(&format!("/v2/{}", operation["name"].as_str().expect("a name"))).ok();
    assert!(done["error"]["message"].as_str().is_some_and(|text| text.contains("-task0 failed")));
}

#[test]
fn a_later_attempt_can_succeed() {
    let server = Server::start();
    let script = "test $CLOUD_RUN_TASK_ATTEMPT = 2";
    let job = create(&server, "later", script, &json!({"maxRetries": 2}));
    let execution = finished(&server, &run(&server, &job, &json!({})));
    assert_eq!(completed(&execution), ("CONDITION_SUCCEEDED", ""));
    assert_eq!(execution["retriedCount"], 1);
}

#[test]
fn a_task_that_kills_itself_says_its_signal() {
    let server = Server::start();
    let job = create(&server, "dies", "kill -9 $$", &json!({"maxRetries": 0}));
    let execution = finished(&server, &run(&server, &job, &json!({})));
    let task = tasks(&server, &execution).remove(0);
    assert_eq!(task["lastAttemptResult"]["termSignal"], 9);
    assert!(task["lastAttemptResult"].get("exitCode").is_none());
}

#[test]
fn a_timeout_ends_the_whole_process_group() {
    let server = Server::start();
    let script = "trap '' TERM; sleep 100 & echo $!; wait; sleep 100";
    let job = create(&server, "slow", script, &json!({"maxRetries": 0}));
    let request = json!({"overrides": {"timeout": "1s"}});
    let execution = finished(&server, &run(&server, &job, &request));
    assert_eq!(completed(&execution).0, "CONDITION_FAILED");
    let task = tasks(&server, &execution).remove(0);
    assert_eq!(task["timeout"], "1s");
    assert_eq!(task["lastAttemptResult"]["status"]["code"], 4);
    let pid = lines(&server, &execution).remove(0);
    assert!(!alive(&pid));
}

#[test]
fn what_a_task_leaves_behind_ends_with_it() {
    let server = Server::start();
    let job = create(&server, "leaves", "sleep 100 & echo $!", &json!({}));
    let execution = finished(&server, &run(&server, &job, &json!({})));
    assert_eq!(completed(&execution), ("CONDITION_SUCCEEDED", ""));
    assert!(!alive(&lines(&server, &execution).remove(0)));
}

#[test]
fn a_cancelled_execution_ends_without_an_error_and_counts_its_tasks() {
    let server = Server::start();
    let job = create(&server, "long", "trap 'echo bye; exit 0' TERM; echo hi; sleep 100 & wait", &json!({}));
    let operation = run(&server, &job, &json!({"overrides": {"taskCount": 2}}));
    let name = operation["metadata"]["name"].as_str().expect("a name").to_owned();
    let end = Instant::now() + Duration::from_secs(10);
    while lines(&server, &operation["metadata"]).len() < 2 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(10));
    }
    server.post(&format!("/v2/{name}:cancel"), &json!({})).ok();
    let execution = finished(&server, &operation);
    assert_eq!(completed(&execution), ("CONDITION_FAILED", "CANCELLED"));
    assert_eq!(execution["cancelledCount"], 2);
    assert!(lines(&server, &execution).contains(&"bye".to_owned()));
    let done = server.get(&format!("/v2/{}", operation["name"].as_str().expect("a name"))).ok();
    assert!(done.get("error").is_none() && done.get("response").is_some());
    let again = server.post(&format!("/v2/{name}:cancel"), &json!({}));
    assert_eq!(again.error(), (400, "FAILED_PRECONDITION".into()));
}

#[test]
fn a_task_that_fails_for_good_cancels_those_that_have_not_ended() {
    let server = Server::start();
    let script = "exit $CLOUD_RUN_TASK_INDEX";
    let body = json!({"template": {
        "taskCount": 4, "parallelism": 1,
        "template": {"maxRetries": 0, "containers": [{"image": "sh", "args": [script]}]},
    }});
    server.post(&format!("{PARENT}/jobs?jobId=some"), &body).ok();
    let execution = finished(&server, &run(&server, &format!("{PARENT}/jobs/some"), &json!({})));
    let count = |name: &str| execution[name].as_u64().unwrap_or(0);
    assert_eq!((count("succeededCount"), count("failedCount"), count("cancelledCount")), (1, 1, 2));
}

#[test]
fn waiting_for_an_operation_returns_at_its_end_or_after_the_time() {
    let server = Server::start();
    let job = create(&server, "nap", "sleep 1", &json!({}));
    let operation = run(&server, &job, &json!({}));
    let path = format!("/v2/{}:wait", operation["name"].as_str().expect("a name"));
    assert!(server.post(&path, &json!({"timeout": "0.1s"})).ok().get("done").is_none());
    assert_eq!(server.post(&path, &json!({"timeout": "20s"})).ok()["done"], true);
}

#[test]
fn executions_are_listed_newest_first_and_paged() {
    let server = Server::start();
    let job = create(&server, "many", "true", &json!({}));
    let names: Vec<Value> =
        (0..3).map(|_| finished(&server, &run(&server, &job, &json!({})))["name"].clone()).collect();
    let first = server.get(&format!("{job}/executions?pageSize=2")).ok();
    assert_eq!(first["executions"][0]["name"], names[2]);
    let token = first["nextPageToken"].as_str().expect("a token");
    let second = server.get(&format!("{job}/executions?pageSize=2&pageToken={token}")).ok();
    assert_eq!(second["executions"][0]["name"], names[0]);
    assert_eq!(server.get(&job).ok()["executionCount"], 3);
    let path = format!("/v2/{}", names[0].as_str().expect("a name"));
    assert_eq!(server.delete(&path).ok()["done"], true);
    assert_eq!(server.get(&path).error(), (404, "NOT_FOUND".into()));
}

#[test]
fn a_variable_can_refer_to_a_secret() {
    let server = Server::start();
    let replication = json!({"replication": {"automatic": {}}});
    server.post("/v1/projects/p/secrets?secretId=word", &replication).ok();
    let payload = json!({"payload": {"data": "c2VzYW1l"}});
    server.post("/v1/projects/p/secrets/word:addVersion", &payload).ok();
    let source = json!({"secretKeyRef": {"secret": "word", "version": "latest"}});
    let env = json!([{"name": "WORD", "valueSource": source}]);
    let container = json!({"image": "any", "command": ["/bin/sh"], "args": ["-c", "test $WORD = sesame"], "env": env});
    let body = json!({"template": {"template": {"maxRetries": 0, "containers": [container]}}});
    server.post(&format!("{PARENT}/jobs?jobId=opens"), &body).ok();
    let execution = finished(&server, &run(&server, &format!("{PARENT}/jobs/opens"), &json!({})));
    assert_eq!(completed(&execution), ("CONDITION_SUCCEEDED", ""));
}

#[test]
fn an_image_that_is_not_known_fails_without_an_exit_code() {
    let server = Server::start();
    let body = json!({"template": {"template": {"maxRetries": 0, "containers": [{"image": "none"}]}}});
    server.post(&format!("{PARENT}/jobs?jobId=none"), &body).ok();
    let execution = finished(&server, &run(&server, &format!("{PARENT}/jobs/none"), &json!({})));
    assert_eq!(completed(&execution).0, "CONDITION_FAILED");
    let result = tasks(&server, &execution).remove(0)["lastAttemptResult"].clone();
    assert!(result.get("exitCode").is_none() && result.get("termSignal").is_none());
}

#[test]
fn jobs_are_created_once_changed_and_deleted() {
    let server = Server::start();
    let job = create(&server, "one", "true", &json!({}));
    let template = json!({"template": {"containers": [{"image": "sh", "args": ["false"]}]}});
    let body = json!({"template": template});
    let again = server.post(&format!("{PARENT}/jobs?jobId=one"), &body);
    assert_eq!(again.error(), (409, "ALREADY_EXISTS".into()));
    let bad = server.post(&format!("{PARENT}/jobs?jobId=One"), &body);
    assert_eq!(bad.error(), (400, "INVALID_ARGUMENT".into()));
    let before = server.get(&job).ok();
    assert_eq!(before["template"]["template"]["maxRetries"], 3);
    server.json("PATCH", &job, &body).ok();
    let after = server.get(&job).ok();
    assert_eq!(after["generation"], "2");
    assert_eq!(after["template"]["template"]["containers"][0]["args"], json!(["false"]));
    let etag = before["etag"].as_str().expect("an etag").replace('"', "%22");
    assert_eq!(server.delete(&format!("{job}?etag={etag}")).error(), (409, "ABORTED".into()));
    assert_eq!(server.delete(&job).ok()["done"], true);
    assert_eq!(server.get(&job).error(), (404, "NOT_FOUND".into()));
    let refused = server.post(&format!("{job}:run"), &json!({}));
    assert_eq!(refused.error(), (404, "NOT_FOUND".into()));
}

#[test]
fn log_pages_hold_every_line_once_in_both_orders() {
    let server = Server::start();
    let job = create(&server, "talks", "for i in 1 2 3 4 5; do echo $i; done; echo e >&2", &json!({}));
    let execution = finished(&server, &run(&server, &job, &json!({})));
    assert_eq!(lines(&server, &execution).len(), 6);
    let read = |order: &str| {
        let mut all = Vec::new();
        let mut token = String::new();
        loop {
            let body = json!({
                "resourceNames": ["projects/p"], "filter": r#"logName="projects/p/logs/run.googleapis.com%2Fstdout""#,
                "orderBy": order, "pageSize": 2, "pageToken": token,
            });
            let page = server.post("/v2/entries:list", &body).ok();
            let entries = page["entries"].as_array().cloned().unwrap_or_default();
            all.extend(entries.iter().map(|entry| entry["textPayload"].to_string()));
            match page["nextPageToken"].as_str() {
                Some(next) => token = next.to_owned(),
                None => return all,
            }
        }
    };
    let ascending = read("timestamp asc");
    let mut descending = read("timestamp desc");
    descending.reverse();
    assert_eq!(ascending, ["\"1\"", "\"2\"", "\"3\"", "\"4\"", "\"5\""]);
    assert_eq!(ascending, descending);
    let bad = server.post("/v2/entries:list", &json!({"resourceNames": ["projects/p"], "pageSize": -1}));
    assert_eq!(bad.error(), (400, "INVALID_ARGUMENT".into()));
}

#[test]
fn no_task_outlives_the_server() {
    let server = Server::start();
    let job = create(&server, "stays", "sleep 100 & echo $!; wait", &json!({}));
    let operation = run(&server, &job, &json!({}));
    let end = Instant::now() + Duration::from_secs(10);
    while lines(&server, &operation["metadata"]).is_empty() {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = lines(&server, &operation["metadata"]).remove(0);
    assert!(alive(&pid));
    drop(server);
    let end = Instant::now() + Duration::from_secs(5);
    while alive(&pid) {
        assert!(Instant::now() < end, "{pid} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}
