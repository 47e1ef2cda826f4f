use serde_json::{Value, json};

use super::*;
use crate::ErrorKind;
use crate::http::scripted::{Reply, Server};

async fn api(script: Vec<Reply>) -> (Api, Server) {
    let server = Server::start(script).await;
    let mut config = crate::Config::local("/nonexistent");
    config.gcp.cloud_run_endpoint = Some(server.url().to_owned());
    config.gcp.project = Some("p".into());
    config.gcp.region = Some("r".into());
    config.gcp.emulator = true;
    let connection = Connection::new(&config).unwrap();
    let place = Arc::new(Place::new(connection.clone()));
    (Api::new(connection, place), server)
}

fn answer(body: Value) -> Reply {
    Reply::ok(body.to_string()).header("content-type", "application/json")
}

fn refusal(status: u16, code: &str) -> Reply {
    let body = json!({"error": {"code": status, "status": code, "message": "words"}});
    Reply::status(status).body(body.to_string()).header("content-type", "application/json")
}

fn job() -> JobName {
    JobName::new("train").unwrap()
}

fn name() -> Name {
    Name { job: job(), execution: "train-x".into() }
}

#[tokio::test]
async fn the_execution_is_taken_from_the_operation_without_waiting_for_it() {
    let execution = json!({
        "@type": "type.googleapis.com/google.cloud.run.v2.Execution",
        "name": "projects/1/locations/r/jobs/train/executions/train-x",
    });
    let (api, server) = api(vec![answer(json!({"name": "op", "metadata": execution}))]).await;
    let begun = api.run(&job(), Overrides::new().set_task_count(2)).await.unwrap();
    assert!(matches!(begun, Begun::Execution(one) if one.name.ends_with("executions/train-x")));
    let sent = &server.requests()[0];
    assert!(sent.line.starts_with("POST /v2/projects/p/locations/r/jobs/train:run"), "{}", sent.line);
    let body: Value = serde_json::from_str(&sent.text()).unwrap();
    assert_eq!(body["overrides"], json!({"taskCount": 2}));
}

#[tokio::test]
async fn an_operation_that_names_no_execution_is_told_apart_and_its_error_read() {
    let full = json!({"name": "op", "done": true, "error": {"code": 8, "message": "quota"}});
    let (api, _server) = api(vec![answer(full), answer(json!({"name": "op"}))]).await;
    let error = api.run(&job(), Overrides::new()).await.err().unwrap();
    assert_eq!((error.kind(), error.message()), (ErrorKind::ResourceExhausted, "quota"));
    assert!(matches!(api.run(&job(), Overrides::new()).await, Ok(Begun::Unnamed)));
}

#[tokio::test]
async fn cancelling_what_has_ended_succeeds_and_what_has_not_tells_why() {
    let execution = |state: &str| json!({"name": "x", "conditions": [{"type": "Completed", "state": state}]});
    let refused = || refusal(400, "FAILED_PRECONDITION");
    let script = vec![
        refused(),
        answer(execution("CONDITION_SUCCEEDED")),
        refused(),
        answer(execution("CONDITION_RECONCILING")),
        refusal(404, "NOT_FOUND"),
    ];
    let (api, _server) = api(script).await;
    api.cancel(&name()).await.unwrap();
    assert_eq!(api.cancel(&name()).await.unwrap_err().kind(), ErrorKind::PreconditionFailed);
    assert_eq!(api.cancel(&name()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_listing_that_repeats_its_page_is_an_error_and_not_a_loop() {
    let page = || answer(json!({"nextPageToken": "again"}));
    let (api, _server) = api(vec![page(), page()]).await;
    let (_, token) = api.list("t", "train", "").await.unwrap();
    assert_eq!(api.list("t", "train", &token).await.err().unwrap().kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn logs_beside_an_emulator_without_them_are_unsupported() {
    let (api, server) = api(Vec::new()).await;
    let error = api.entries("x", "", "", 1, "").await.err().unwrap();
    assert_eq!((error.kind(), server.requests().len()), (ErrorKind::Unsupported, 0));
}
