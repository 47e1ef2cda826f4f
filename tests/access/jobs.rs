//! The rules of [`rules`](super::rules) for the services that run jobs: ECS, CloudWatch Logs, STS and EC2; Cloud Run and
//! Logging.

use anycloud::aws::EcsRunner;
use anycloud::job_runner::{ListExecutions, LogMode, LogOptions};
use anycloud::{Config, ExecutionId, JobName, JobRequest, JobRunner, Provider};
use futures_util::TryStreamExt as _;

use super::rules::{aws, aws_keys, cloud, gcp};
use super::server::Server;
use super::{World, child, key_file};

const AWS_TASK: &str = "0123456789abcdef0123456789abcdef";

/// Runs, lists, looks at, reads the log of and cancels, whatever comes of it.
async fn use_jobs(jobs: &dyn JobRunner, id: &str) {
    let (job, id) = (JobName::new("train").expect("a name"), ExecutionId::new(id).expect("an id"));
    let _ = jobs.run(&job, JobRequest::default()).await;
    let _ = jobs.list(ListExecutions::default()).try_collect::<Vec<_>>().await;
    let _ = jobs.get(&id).await;
    let _ = jobs.logs(&id, LogOptions { mode: LogMode::Tail(3) }).try_collect::<Vec<_>>().await;
    let _ = jobs.cancel(&id).await;
}

#[tokio::test]
#[ignore = "started by others with an environment"]
async fn jobs_are_used() {
    let cloud = cloud();
    let id = if cloud.provider() == Provider::Aws { format!("default/-/{AWS_TASK}") } else { "train/train-1".into() };
    use_jobs(cloud.jobs().as_ref(), &id).await;
    if cloud.provider() == Provider::Aws {
        let config = Config::from_env().expect("the settings are complete");
        let runner = EcsRunner::new(&config, cloud.objects().clone()).expect("no network is needed");
        let _ = runner.account_id().await;
    }
}

#[tokio::test]
#[ignore = "started by others with an environment"]
async fn jobs_of_google_cloud_are_used_with_credentials() {
    use_jobs(super::cloud().jobs().as_ref(), "train/train-1").await;
}

fn json(kind: &str, body: &serde_json::Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!("HTTP/1.1 200 X\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 307 X\r\nconnection: close\r\ncontent-length: 0\r\nlocation: http://{to}/elsewhere\r\n\r\n")
}

/// ECS as far as it takes to come to the other services, which all redirect.
fn ecs(request: &str, elsewhere: &str) -> String {
    let arn = |rest: &str| format!("arn:aws:ecs:us-east-1:123456789012:{rest}");
    let definition = serde_json::json!({"taskDefinition": {
        "taskDefinitionArn": arn("task-definition/train:1"), "family": "train", "revision": 1, "networkMode": "awsvpc",
        "containerDefinitions": [{"name": "main", "essential": true, "logConfiguration": {
            "logDriver": "awslogs",
            "options": {"awslogs-group": "/jobs", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "train"},
        }}],
    }});
    let task = serde_json::json!({"tasks": [{
        "taskArn": arn(&format!("task/default/{AWS_TASK}")), "taskDefinitionArn": arn("task-definition/train:1"),
        "lastStatus": "RUNNING", "desiredStatus": "RUNNING", "createdAt": 1_700_000_000, "containers": [],
    }]});
    let request = request.to_ascii_lowercase();
    let answer = |body| json("application/x-amz-json-1.1", body);
    match request {
        _ if request.contains("describetaskdefinition") => answer(&definition),
        _ if request.contains("describetasks") => answer(&task),
        _ => redirect(elsewhere),
    }
}

#[test]
fn a_redirect_of_a_service_of_jobs_is_not_followed_on_aws() {
    let elsewhere = Server::plain(200, "");
    let to = elsewhere.host.clone();
    let real = Server::answering(move |request| ecs(request, &to));
    let mut environment = aws(&format!("http://{}", real.host));
    environment.extend(aws_keys());
    environment.push(("ECS_ALLOW_DEFAULT_VPC", "true".into()));
    child("jobs::jobs_are_used", &environment);
    environment.push(("ECS_SUBNETS", "subnet-1".into()));
    child("jobs::jobs_are_used", &environment);
    for call in ["DescribeSubnets", "RunTask", "ListTasks", "GetLogEvents", "StopTask", "GetCallerIdentity"] {
        let signed = |request: &&String| request.contains(call) && request.contains("AKIDEXAMPLE");
        assert!(real.requests().iter().any(|request| signed(&request)), "{call} was not sent with the credentials");
    }
    assert_eq!(elsewhere.requests(), Vec::<String>::new());
}

#[test]
fn a_redirect_of_a_service_of_jobs_is_not_followed_on_google_cloud() {
    let elsewhere = Server::plain(200, "");
    let to = elsewhere.host.clone();
    let execution = serde_json::json!({
        "name": "projects/p/locations/europe-west1/jobs/train/executions/train-1", "job": "train", "taskCount": 1,
        "runningCount": 1, "createTime": "2026-01-01T00:00:00Z", "startTime": "2026-01-01T00:00:01Z",
    });
    let real = Server::answering(move |request| match request.starts_with("GET ") && request.contains("/train-1") {
        true => json("application/json", &execution),
        false => redirect(&to),
    });
    let (file, _) = key_file();
    let world = World::new(|_| {}).credentials(&file);
    let mut environment = world.environment.clone();
    environment.retain(|(name, _)| *name != super::URL);
    environment.push((super::URL, format!("http://{}", real.host)));
    environment.push(("GOOGLE_CLOUD_PROJECT", "p".into()));
    environment.push(("CLOUD_RUN_REGION", "europe-west1".into()));
    child("jobs::jobs_of_google_cloud_are_used_with_credentials", &environment);
    for call in ["train:run", "/executions?", "/train-1:cancel", "entries:list"] {
        let authorized =
            |request: &String| request.contains(call) && request.to_ascii_lowercase().contains("authorization: bearer");
        assert!(real.requests().iter().any(authorized), "{call} was not sent with the credentials");
    }
    assert_eq!(elsewhere.requests(), Vec::<String>::new());
}

#[test]
fn beside_an_emulator_no_service_of_jobs_looks_up_credentials_or_metadata() {
    let metadata = Server::plain(200, "metadata-flavor: Google\r\n");
    let world = World::new(|config| config.identity = Default::default());
    let mut google = gcp(world.emulator.url());
    google.push(("GCE_METADATA_HOST", metadata.host.clone()));
    google.push(("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/credentials.json".into()));
    child("jobs::jobs_are_used", &google);
    assert!(world.calls("run.projects.locations.jobs.run") > 0, "the emulator was used");
    let emulator = Server::plain(404, "");
    let address = format!("http://{}", metadata.host);
    let mut amazon = aws(&format!("http://{}", emulator.host));
    amazon.extend([
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", address.clone()),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{address}/credentials")),
    ]);
    child("jobs::jobs_are_used", &amazon);
    assert_eq!(metadata.requests(), Vec::<String>::new());
}
