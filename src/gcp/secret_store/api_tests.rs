use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::http::scripted::{Reply, Server};
use crate::retry::RetryPolicy;

const OPERATION: &str = "t";

fn name() -> SecretName {
    SecretName::new("db").unwrap()
}

async fn api(script: Vec<Reply>) -> (Api, Server) {
    let server = Server::start(script).await;
    let mut config = crate::Config::local("/nonexistent");
    config.gcp.secret_manager_endpoint = Some(server.url().to_owned());
    config.gcp.project = Some("p".into());
    config.gcp.emulator = true;
    config.retry = RetryPolicy { max_attempts: 2, ..RetryPolicy::default() };
    let connection = Connection::new(&config).unwrap();
    let place = Arc::new(Place::new(connection.clone()));
    (Api::new(connection, place), server)
}

fn answer(body: &Value) -> Reply {
    Reply::ok(body.to_string()).header("content-type", "application/json")
}

fn payload(text: &str, crc: u32) -> Reply {
    let payload = json!({"data": BASE64_STANDARD.encode(text), "dataCrc32c": crc.to_string()});
    answer(&json!({"name": "projects/123/secrets/db/versions/7", "payload": payload}))
}

#[tokio::test]
async fn a_value_that_does_not_match_its_checksum_is_corrupt_and_not_handed_out() {
    let (api, server) = api(vec![payload("hunter2", 1), payload("hunter2", crc32c::crc32c(b"hunter2"))]).await;
    let error = api.access(OPERATION, &name(), "latest").await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let read = api.access(OPERATION, &name(), "latest").await.ok().unwrap();
    assert_eq!((read.number, read.value.expose()), (7, b"hunter2".as_slice()));
    assert!(server.requests()[0].line.contains("/v1/projects/p/secrets/db/versions/latest:access"));
    assert_eq!(server.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_value_is_sent_with_its_checksum() {
    let (api, server) = api(vec![answer(&json!({"name": "projects/123/secrets/db/versions/8"}))]).await;
    assert_eq!(api.add(OPERATION, &name(), &"hunter2".into()).await.unwrap(), 8);
    let sent = &server.requests()[0];
    assert!(sent.line.contains("POST /v1/projects/p/secrets/db:addVersion"), "{}", sent.line);
    let body: Value = serde_json::from_str(&sent.text()).unwrap();
    assert_eq!(body["payload"]["data"], json!(BASE64_STANDARD.encode("hunter2")));
    assert_eq!(body["payload"]["dataCrc32c"], json!(crc32c::crc32c(b"hunter2").to_string()));
}

#[tokio::test]
async fn adding_is_sent_once_when_its_answer_is_lost_and_reading_again() {
    let (api, server) = api(vec![Reply::Reset]).await;
    let error = api.add(OPERATION, &name(), &"hunter2".into()).await.unwrap_err();
    assert!(error.may_have_applied() && server.requests().len() == 1, "{error:?}");
    let (api, server) = self::api(vec![Reply::Reset, payload("x", crc32c::crc32c(b"x"))]).await;
    assert!(api.access(OPERATION, &name(), "latest").await.is_ok());
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_listing_that_repeats_its_page_is_an_error_and_not_a_loop() {
    let page = || answer(&json!({"secrets": [], "nextPageToken": "again"}));
    let (api, _server) = api(vec![page(), page()]).await;
    let (_, token) = api.secrets("", "").await.unwrap();
    assert_eq!(api.secrets("", &token).await.unwrap_err().kind(), ErrorKind::Internal);
}

#[test]
fn only_numbers_are_ids_of_versions() {
    let parsed = |text: &str| parse(&SecretVersionId::new(text).unwrap());
    assert_eq!(
        (parsed("12"), parsed("0"), parsed("latest"), parsed("+1"), parsed("1a")),
        (Some(12), None, None, None, None)
    );
}
