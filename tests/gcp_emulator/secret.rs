//! Secret Manager.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::Server;

const PARENT: &str = "/v1/projects/p/secrets";

fn create(server: &Server, id: &str) -> Value {
    let body = json!({"replication": {"automatic": {}}, "labels": {"app": id}});
    server.post(&format!("{PARENT}?secretId={id}"), &body).ok()
}

fn add(server: &Server, id: &str, payload: &str) -> Value {
    let body = json!({"payload": {"data": BASE64_STANDARD.encode(payload)}});
    server.post(&format!("{PARENT}/{id}:addVersion"), &body).ok()
}

#[test]
fn latest_is_the_newest_version_whatever_its_state() {
    let server = Server::start();
    create(&server, "s");
    let latest = format!("{PARENT}/s/versions/latest:access");
    assert_eq!(server.get(&latest).error(), (404, "NOT_FOUND".into()));
    add(&server, "s", "one");
    let second = add(&server, "s", "two");
    let access = server.get(&latest).ok();
    assert_eq!(access["payload"]["data"], BASE64_STANDARD.encode("two"));
    assert_eq!(access["name"], "projects/p/secrets/s/versions/2");
    server.post(&format!("{PARENT}/s/versions/2:disable"), &json!({})).ok();
    let refused = server.get(&latest);
    assert_eq!(refused.error(), (400, "FAILED_PRECONDITION".into()));
    assert!(refused.json()["error"]["message"].to_string().contains("is in DISABLED state"));
    let stale = json!({"etag": second["etag"]});
    let again = server.post(&format!("{PARENT}/s/versions/2:enable"), &stale);
    assert_eq!(again.error(), (400, "FAILED_PRECONDITION".into()));
    server.post(&format!("{PARENT}/s/versions/2:destroy"), &json!({})).ok();
    let refused = server.post(&format!("{PARENT}/s/versions/2:enable"), &json!({}));
    assert_eq!(refused.error(), (400, "FAILED_PRECONDITION".into()));
    assert!(server.get(&format!("{PARENT}/s/versions/1:access")).status == 200);
}

#[test]
fn a_stale_etag_changes_nothing() {
    let server = Server::start();
    let first = create(&server, "s");
    let path = format!("{PARENT}/s?updateMask=labels");
    let change = json!({"labels": {"a": "1"}, "etag": first["etag"]});
    let second = server.json("PATCH", &path, &change).ok();
    assert_ne!(first["etag"], second["etag"]);
    assert_eq!(server.json("PATCH", &path, &change).error(), (400, "FAILED_PRECONDITION".into()));
    let etag = first["etag"].as_str().expect("an etag").replace('"', "%22");
    let refused = server.delete(&format!("{PARENT}/s?etag={etag}"));
    assert_eq!(refused.error(), (400, "FAILED_PRECONDITION".into()));
    let etag = second["etag"].as_str().expect("an etag").replace('"', "%22");
    assert_eq!(server.delete(&format!("{PARENT}/s?etag={etag}")).status, 200);
    assert_eq!(server.get(&format!("{PARENT}/s")).error(), (404, "NOT_FOUND".into()));
}

#[test]
fn payloads_are_verified_and_limited() {
    let server = Server::start();
    create(&server, "s");
    let path = format!("{PARENT}/s:addVersion");
    let data = BASE64_STANDARD.encode("x");
    let refused = |payload: Value| server.post(&path, &json!({"payload": payload})).error();
    let invalid = (400, "INVALID_ARGUMENT".to_owned());
    assert_eq!(refused(json!({"data": data, "dataCrc32c": "7"})), invalid);
    assert_eq!(refused(json!({"data": BASE64_STANDARD.encode([0; 65_537])})), invalid);
    assert_eq!(refused(json!({})), invalid);
    let crc = crc32c::crc32c(b"x").to_string();
    let right = json!({"payload": {"data": data, "dataCrc32c": crc}});
    assert_eq!(server.post(&path, &right).ok()["name"], "projects/p/secrets/s/versions/1");
    let versions = server.get(&format!("{PARENT}/s/versions")).ok();
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(1));
}

#[test]
fn unset_fields_sent_as_empty_parameters_count_as_absent() {
    let server = Server::start();
    create(&server, "a");
    create(&server, "b");
    let system = "%24alt=json%3Benum-encoding%3Dint";
    let path = format!("{PARENT}?{system}&pageSize=0&pageToken=&filter=");
    assert_eq!(server.get(&path).ok()["totalSize"], 2);
    let found = server.get(&format!("{PARENT}?filter=labels.app%3Da")).ok();
    assert_eq!(found["secrets"].as_array().map(Vec::len), Some(1));
    assert_eq!(server.delete(&format!("{PARENT}/a?{system}&etag=")).status, 200);
}

#[test]
fn regional_secrets_are_apart_and_have_no_replication() {
    let server = Server::start();
    let parent = "/v1/projects/p/locations/europe-west1/secrets";
    let secret = server.post(&format!("{parent}?secretId=s"), &json!({})).ok();
    assert_eq!(secret["name"], "projects/p/locations/europe-west1/secrets/s");
    assert_eq!(server.get(&format!("{PARENT}/s")).status, 404);
    let body = json!({"payload": {"data": "YQ=="}});
    let version = server.post(&format!("{parent}/s:addVersion"), &body).ok();
    assert!(version.get("replicationStatus").is_none());
    assert_eq!(server.get(&format!("{parent}/s/versions/latest:access")).status, 200);
    let global = server.post(&format!("{PARENT}?secretId=s"), &json!({}));
    assert_eq!(global.error(), (400, "INVALID_ARGUMENT".into()));
}

#[test]
fn names_have_the_number_of_the_project_where_it_is_configured() {
    let server = Server::with(|config| config.project_number = Some(123));
    assert_eq!(create(&server, "s")["name"], "projects/123/secrets/s");
    assert_eq!(add(&server, "s", "x")["name"], "projects/123/secrets/s/versions/1");
    assert_eq!(server.get("/v1/projects/123/secrets/s").status, 200);
    assert_eq!(server.get(&format!("{PARENT}/s/versions/1:access")).status, 200);
}

#[test]
fn nothing_that_the_server_tells_holds_a_payload() {
    let server = Server::start();
    create(&server, "s");
    add(&server, "s", "hunter2-hunter2");
    server.get(&format!("{PARENT}/s/versions/1:access"));
    let requests = server.get("/_emulator/requests").body;
    let text = String::from_utf8_lossy(&requests).into_owned() + &format!("{:?}", server.emulator);
    assert!(text.contains("secretmanager.projects.secrets.versions.access"));
    assert!(!text.contains("hunter2") && !text.contains(&BASE64_STANDARD.encode("hunter2-hunter2")));
}
