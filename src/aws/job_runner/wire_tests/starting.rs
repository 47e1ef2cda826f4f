use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::script::{Asked, Ecs, Reply, Shelf, definition, job, keyed, stopped, task};
use crate::job_runner::{Capacity, StartFailure};
use crate::{ErrorKind, JobOutcome, JobRequest, JobRunner as _, JobState};

fn started(number: usize, asked: &Asked) -> Reply {
    Reply::Json(json!({"tasks": [task(number, &asked.body, json!({}))], "failures": []}))
}

fn refusal(reason: &str) -> Reply {
    Reply::Json(json!({"tasks": [], "failures": [{"reason": reason}]}))
}

fn variable(run: &Value, name: &str) -> Option<String> {
    let variables = run["overrides"]["containerOverrides"][0]["environment"].as_array()?;
    let found = variables.iter().find(|variable| variable["name"] == name)?;
    Some(found["value"].as_str()?.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_started_job_is_pending_and_was_asked_for_as_the_request_says() {
    let ecs = Ecs::new(|asked| match &*asked.operation {
        "DescribeTaskDefinition" => definition(),
        _ => started(1, asked),
    });
    let request = JobRequest {
        args: Some(vec!["--fast".to_owned()]),
        labels: [("team".to_owned(), "blue".to_owned())].into(),
        ..keyed("k")
    };
    let execution = ecs.runner(&Arc::default(), |_| {}).run(&job(), request.clone()).await.unwrap();
    assert_eq!((&execution.state, &execution.job), (&JobState::Pending, &job()));
    assert_eq!(execution.labels, request.labels);
    let [run] = &ecs.asked("RunTask")[..] else { panic!("one RunTask") };
    assert_eq!(run["startedBy"], execution.submission.as_ref().unwrap().as_str());
    assert_eq!(run["clientToken"].as_str().unwrap().len(), 64);
    assert_eq!((&run["launchType"], &run["count"]), (&json!("FARGATE"), &json!(1)));
    assert!(run["capacityProviderStrategy"].is_null(), "launch type and strategy exclude one another");
    assert_eq!(run["networkConfiguration"]["awsvpcConfiguration"]["subnets"], json!(["subnet-1"]));
    let container = &run["overrides"]["containerOverrides"][0];
    assert_eq!((&container["name"], &container["command"]), (&json!("main"), &json!(["--fast"])));
    assert_eq!(run["tags"], json!([{"key": "team", "value": "blue"}]));
}

// https://github.com/gchq/sleeper/issues/904
#[tokio::test(start_paused = true)]
async fn a_failure_under_status_200_is_an_error_and_leaves_the_key_free() {
    let ecs = Ecs::new(|asked| match (&*asked.operation, asked.before) {
        ("DescribeTaskDefinition", _) => definition(),
        (_, 0) => refusal("Capacity is unavailable at this time. Please try again later"),
        _ => started(1, asked),
    });
    let shelf = Arc::new(Shelf::default());
    let runner = ecs.runner(&shelf, |_| {});
    assert_eq!(runner.run(&job(), keyed("k")).await.unwrap_err().kind(), ErrorKind::ResourceExhausted);
    assert!(shelf.keys().is_empty(), "{:?}", shelf.keys());
    let other = JobRequest { args: Some(vec!["other".to_owned()]), ..keyed("k") };
    assert!(runner.run(&job(), other).await.is_ok());
}

// https://github.com/aws/containers-roadmap/issues/852
#[tokio::test(start_paused = true)]
async fn without_spot_capacity_the_task_goes_on_demand_under_another_token() {
    let ecs = Ecs::new(|asked| match (&*asked.operation, asked.before) {
        ("DescribeTaskDefinition", _) => definition(),
        (_, 0) => refusal("Capacity is unavailable at this time. Please try again later"),
        _ => started(1, asked),
    });
    let runner = ecs.runner(&Arc::default(), |_| {});
    let request = JobRequest { capacity: Capacity::SpotWithFallback, ..keyed("k") };
    runner.run(&job(), request).await.unwrap();
    let [spot, on_demand] = &ecs.asked("RunTask")[..] else { panic!("two RunTasks") };
    assert_eq!(spot["capacityProviderStrategy"][0]["capacityProvider"], "FARGATE_SPOT");
    assert!(spot["launchType"].is_null());
    assert_eq!(on_demand["launchType"], "FARGATE");
    assert_ne!(spot["clientToken"], on_demand["clientToken"]);
}

#[tokio::test(start_paused = true)]
async fn spot_alone_does_not_fall_back() {
    let ecs = Ecs::new(|asked| match &*asked.operation {
        "DescribeTaskDefinition" => definition(),
        _ => refusal("Capacity is unavailable at this time"),
    });
    let request = JobRequest { capacity: Capacity::Spot, ..keyed("k") };
    let error = ecs.runner(&Arc::default(), |_| {}).run(&job(), request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert_eq!(ecs.asked("RunTask").len(), 1);
}

// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/ECS_Idempotency.html
#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again_with_the_same_token() {
    let ecs = Ecs::new(|asked| match (&*asked.operation, asked.before) {
        ("DescribeTaskDefinition", _) => definition(),
        (_, 0) => Reply::Lost,
        _ => started(1, asked),
    });
    let execution = ecs.runner(&Arc::default(), |_| {}).run(&job(), keyed("k")).await.unwrap();
    let [first, second] = &ecs.asked("RunTask")[..] else { panic!("two RunTasks") };
    assert_eq!(first, second, "anything else would be another request under the same token");
    assert!(execution.id.as_str().ends_with('1'));
}

#[tokio::test(start_paused = true)]
async fn answers_that_stay_lost_are_indeterminate_and_the_same_call_finds_out() {
    let ecs = Ecs::new(|asked| match (&*asked.operation, asked.before) {
        ("DescribeTaskDefinition", _) => definition(),
        (_, 0..5) => Reply::Lost,
        _ => started(1, asked),
    });
    let runner = ecs.runner(&Arc::default(), |_| {});
    assert_eq!(runner.run(&job(), keyed("k")).await.unwrap_err().kind(), ErrorKind::Indeterminate);
    assert!(runner.run(&job(), keyed("k")).await.is_ok());
    let runs = ecs.asked("RunTask");
    assert!(runs.len() == 6 && runs.iter().all(|run| run == &runs[0]), "{runs:?}");
}

// http://botocore.readthedocs.io/en/latest/reference/services/ecs/client/exceptions/ConflictException.html
#[tokio::test(start_paused = true)]
async fn a_token_used_by_another_request_is_a_conflict_and_one_used_by_the_same_is_its_execution() {
    for same in [false, true] {
        let ecs = Ecs::new(move |asked| match &*asked.operation {
            "DescribeTaskDefinition" => definition(),
            "RunTask" => Reply::Refusal(json!({
                "__type": "ConflictException",
                "message": "The provided clientToken is already in use with a different RunTask request.",
                "resourceIds": [format!("arn:aws:ecs:eu-west-1:123456789012:task/main/{:032x}", 7)],
            })),
            _ => {
                let request = if same { keyed("k") } else { JobRequest { args: Some(vec!["x".into()]), ..keyed("k") } };
                let submission = crate::job_runner::Submission::new(&job(), &request).unwrap();
                let environment: Vec<Value> =
                    submission.env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
                let overrides = json!({"containerOverrides": [{"name": "main", "environment": environment}]});
                let run = json!({"startedBy": submission.id.as_str(), "overrides": overrides});
                Reply::Json(json!({"tasks": [task(7, &run, stopped(0))]}))
            }
        });
        let run = ecs.runner(&Arc::default(), |_| {}).run(&job(), keyed("k")).await;
        if same {
            // Old and stopped: it is the execution of this key all the same.
            assert_eq!(run.unwrap().outcome(), Some(&JobOutcome::Succeeded));
        } else {
            assert_eq!(run.unwrap_err().kind(), ErrorKind::PreconditionFailed);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_record_makes_the_same_key_run_once_even_where_tokens_are_ignored() {
    let ecs = Ecs::new(|asked| match &*asked.operation {
        "DescribeTaskDefinition" => definition(),
        "RunTask" => started(asked.before, asked),
        _ => Reply::Json(json!({"tasks": [task(0, &json!({}), stopped(0))]})),
    });
    let shelf = Arc::default();
    let first = ecs.runner(&shelf, |_| {}).run(&job(), keyed("k")).await.unwrap();
    let again = ecs.runner(&shelf, |_| {}).run(&job(), keyed("k")).await.unwrap();
    assert_eq!(first.id, again.id);
    assert_eq!(ecs.asked("RunTask").len(), 1);
    let other = JobRequest { args: Some(vec!["other".to_owned()]), ..keyed("k") };
    let error = ecs.runner(&shelf, |_| {}).run(&job(), other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
}

#[tokio::test(start_paused = true)]
async fn when_one_of_several_tasks_cannot_start_the_others_are_ended_and_the_key_is_spent() {
    let ecs = Ecs::new(|asked| match &*asked.operation {
        "DescribeTaskDefinition" => definition(),
        "RunTask" if variable(&asked.body, "ANYCLOUD_TASK_INDEX").as_deref() == Some("1") => refusal("RESOURCE:CPU"),
        "RunTask" => started(asked.before, asked),
        _ => Reply::Json(json!({})),
    });
    let shelf = Arc::default();
    let request = JobRequest { tasks: 3.try_into().unwrap(), ..keyed("k") };
    let error = ecs.runner(&shelf, |_| {}).run(&job(), request.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    let runs = ecs.asked("RunTask");
    let tokens: std::collections::BTreeSet<_> = runs.iter().map(|run| run["clientToken"].to_string()).collect();
    assert_eq!((runs.len(), tokens.len(), ecs.asked("StopTask").len()), (3, 3, 2));
    let again = ecs.runner(&shelf, |_| {}).run(&job(), request).await.unwrap();
    let expected = JobOutcome::FailedToStart { cause: StartFailure::Capacity, transient: true };
    assert_eq!((again.outcome(), ecs.asked("RunTask").len()), (Some(&expected), 3));
}

#[tokio::test(start_paused = true)]
async fn a_small_payload_goes_through_the_store_when_the_overrides_are_full() {
    let ecs = Ecs::new(|asked| match &*asked.operation {
        "DescribeTaskDefinition" => definition(),
        _ => started(1, asked),
    });
    let shelf = Arc::new(Shelf::default());
    let payload = Some(Bytes::from(vec![b'p'; 2_000]));
    let env = BTreeMap::from([("LARGE".to_owned(), "x".repeat(6_000))]);
    let request = JobRequest { payload, env, ..keyed("k") };
    ecs.runner(&shelf, |_| {}).run(&job(), request).await.unwrap();
    let [run] = &ecs.asked("RunTask")[..] else { panic!("one RunTask") };
    assert!(run["overrides"].to_string().len() <= 8_192);
    assert_eq!(variable(run, "ANYCLOUD_PAYLOAD"), None);
    let address = variable(run, "ANYCLOUD_PAYLOAD_URI").unwrap();
    assert!(shelf.keys().iter().any(|key| address == format!("s3://shelf/{key}")), "{address} {:?}", shelf.keys());
}

// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html
#[tokio::test(start_paused = true)]
async fn the_network_is_taken_over_from_the_named_service_once() {
    let ecs = Ecs::new(|asked| match &*asked.operation {
        "DescribeTaskDefinition" => definition(),
        "DescribeServices" => Reply::Json(json!({"services": [{"serviceName": "web", "networkConfiguration": {
            "awsvpcConfiguration": {"subnets": ["subnet-a", "subnet-b"], "securityGroups": ["sg-a"],
                                    "assignPublicIp": "ENABLED"}}}]})),
        _ => started(asked.before, asked),
    });
    let runner = ecs.runner(&Arc::default(), |config| {
        config.aws.subnets.clear();
        config.aws.ecs_service = Some("web".to_owned());
    });
    for key in ["a", "b"] {
        runner.run(&job(), keyed(key)).await.unwrap();
    }
    assert_eq!(ecs.asked("DescribeServices").len(), 1);
    for run in ecs.asked("RunTask") {
        let expected =
            json!({"subnets": ["subnet-a", "subnet-b"], "securityGroups": ["sg-a"], "assignPublicIp": "ENABLED"});
        assert_eq!(run["networkConfiguration"]["awsvpcConfiguration"], expected);
    }
}

// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate-response.html
#[tokio::test]
async fn inside_a_task_the_network_is_that_of_its_own_service() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/v4/abc", listener.local_addr().unwrap());
    let metadata = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 1_024];
        let length = socket.read(&mut request).await.unwrap();
        let arn = "arn:aws:ecs:eu-west-1:123456789012:task/main/158d1c8083dd49d6b527399fd6414f5c";
        let body = json!({"Cluster": "main", "TaskARN": arn, "Family": "web", "ServiceName": ""}).to_string();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        socket.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let ecs = Ecs::new(|asked| match &*asked.operation {
        "DescribeTaskDefinition" => definition(),
        "DescribeTasks" => Reply::Json(json!({"tasks": [{"group": "service:web"}]})),
        "DescribeServices" => Reply::Json(json!({"services": [{"networkConfiguration": {
            "awsvpcConfiguration": {"subnets": ["subnet-own"]}}}]})),
        _ => started(1, asked),
    });
    let runner = ecs.runner(&Arc::default(), |config| {
        config.aws.subnets.clear();
        config.aws.ecs_metadata_uri = Some(address);
        config.aws.security_groups = vec!["sg-set".to_owned()];
    });
    runner.run(&job(), keyed("k")).await.unwrap();
    assert!(metadata.await.unwrap().starts_with("GET /v4/abc/task HTTP/1.1\r\n"));
    assert_eq!(ecs.asked("DescribeServices")[0]["services"], json!(["web"]));
    let network = &ecs.asked("RunTask")[0]["networkConfiguration"]["awsvpcConfiguration"];
    assert_eq!(network, &json!({"subnets": ["subnet-own"], "securityGroups": ["sg-set"]}));
}

#[tokio::test]
async fn the_default_vpc_is_taken_if_that_is_allowed() {
    let subnets = "<DescribeSubnetsResponse><subnetSet><item><subnetId>subnet-7</subnetId></item></subnetSet>\
                   </DescribeSubnetsResponse>";
    let ec2 = crate::http::scripted::Server::start(vec![crate::http::scripted::Reply::ok(subnets)]).await;
    let ecs = Ecs::new(|asked| if asked.operation == "RunTask" { started(1, asked) } else { definition() });
    let runner = ecs.runner(&Arc::default(), |config| {
        config.aws.subnets.clear();
        config.aws.allow_default_vpc = true;
        config.aws.ec2_endpoint = Some(ec2.url().to_owned());
    });
    runner.run(&job(), keyed("k")).await.unwrap();
    let network = &ecs.asked("RunTask")[0]["networkConfiguration"]["awsvpcConfiguration"];
    assert_eq!(network, &json!({"subnets": ["subnet-7"], "assignPublicIp": "ENABLED"}));
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_in_the_time_of_one_call_however_many_requests_it_takes() {
    let late = |reply| match reply {
        Reply::Json(body) => Reply::Late(Duration::from_secs(25), body),
        other => other,
    };
    let ecs = Ecs::new(move |asked| match &*asked.operation {
        "DescribeTaskDefinition" => late(definition()),
        "DescribeServices" => late(Reply::Json(json!({"services": [{"networkConfiguration": {
            "awsvpcConfiguration": {"subnets": ["subnet-a"]}}}]}))),
        _ => late(started(1, asked)),
    });
    let shelf = Arc::new(Shelf::default());
    let runner = ecs.runner(&shelf, |config| {
        config.aws.subnets.clear();
        config.aws.ecs_service = Some("web".to_owned());
    });
    let begun = tokio::time::Instant::now();
    let error = runner.run(&job(), keyed("k")).await.unwrap_err();
    // The request to run was on its way, so that the key is not free.
    assert_eq!((error.kind(), begun.elapsed().as_secs()), (ErrorKind::Indeterminate, 60));
    assert_eq!((ecs.asked("RunTask").len(), shelf.keys().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn without_any_hint_the_network_is_not_guessed() {
    let ecs = Ecs::new(|_| definition());
    let runner = ecs.runner(&Arc::default(), |config| config.aws.subnets.clear());
    assert_eq!(runner.run(&job(), keyed("k")).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
}

// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTaskDefinition.html#API_DescribeTaskDefinition_Errors
#[tokio::test(start_paused = true)]
async fn a_family_that_is_not_there_is_not_found() {
    let ecs = Ecs::new(|_| Reply::Error("ClientException", "Unable to describe task definition."));
    let shelf = Arc::new(Shelf::default());
    let error = ecs.runner(&shelf, |_| {}).run(&job(), keyed("k")).await.unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::NotFound, "train"));
    assert!(shelf.keys().is_empty());
}
