//! Scripted faults.

use std::time::{Duration, Instant};

use anycloud::gcp_emulator::{Fault, FaultAction};
use serde_json::json;

use crate::Server;

const SECRETS: &str = "/v1/projects/p/secrets";
const CREATE: &str = "secretmanager.projects.secrets.create";

fn body() -> Vec<u8> {
    json!({"replication": {"automatic": {}}}).to_string().into_bytes()
}

#[test]
fn a_reset_call_has_no_effect_and_a_lost_answer_has() {
    let server = Server::start();
    server.emulator.add_fault(Fault::next(CREATE, FaultAction::Reset));
    let path = format!("{SECRETS}?secretId=a");
    assert!(server.http.send("POST", &path, &[], &body()).is_err());
    assert_eq!(server.get(&format!("{SECRETS}/a")).status, 404);
    server.emulator.add_fault(Fault::next(CREATE, FaultAction::LoseAnswer));
    assert!(server.http.send("POST", &path, &[], &body()).is_err());
    assert_eq!(server.get(&format!("{SECRETS}/a")).status, 200);
    let again = server.http.send("POST", &path, &[], &body()).expect("an answer");
    assert_eq!(again.error(), (409, "ALREADY_EXISTS".into()));
    let statuses: Vec<u16> =
        server.emulator.requests().iter().filter(|call| call.method == CREATE).map(|call| call.status).collect();
    assert_eq!(statuses, [0, 0, 409]);
}

#[test]
fn a_status_comes_with_its_retry_after_on_the_attempts_named() {
    let server = Server::start();
    let script = json!({"operation": "storage.objects.*", "skip": 1, "times": 2, "action": {
        "kind": "status", "code": 429, "retryAfterSeconds": 3,
    }});
    server.post("/_emulator/faults", &script).ok();
    let list = || server.get("/storage/v1/b/data/o");
    assert_eq!(list().status, 200);
    for _ in 0..2 {
        let refused = list();
        assert_eq!(refused.reason(), (429, "rateLimitExceeded".into()));
        assert_eq!(refused.header("retry-after"), Some("3"));
    }
    assert_eq!(list().status, 200);
    assert_eq!(server.get("/_emulator/faults").ok(), json!([]));
}

#[test]
fn a_truncated_answer_ends_early_after_its_effect() {
    let server = Server::start();
    server.emulator.add_fault(Fault::next(CREATE, FaultAction::Truncate { after_bytes: 10 }));
    let broken = server.http.send("POST", &format!("{SECRETS}?secretId=a"), &[], &body());
    assert_eq!(broken.expect_err("a broken answer").to_string(), "10");
    assert_eq!(server.get(&format!("{SECRETS}/a")).status, 200);
}

#[test]
fn a_delayed_call_is_served_late() {
    let server = Server::start();
    server.emulator.add_fault(Fault::next("storage.objects.list", FaultAction::Delay { millis: 300 }));
    let start = Instant::now();
    assert_eq!(server.get("/storage/v1/b/data/o").status, 200);
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_script_that_is_not_understood_is_refused_and_one_can_be_dropped() {
    let server = Server::start();
    assert_eq!(server.post("/_emulator/faults", &json!({"operation": "x"})).status, 400);
    let script = json!([{"operation": "*", "action": {"kind": "reset"}}]);
    server.post("/_emulator/faults", &script).ok();
    assert_eq!(server.get("/_emulator/faults").ok().as_array().map(Vec::len), Some(1));
    assert_eq!(server.delete("/_emulator/faults").status, 200);
    assert_eq!(server.get("/storage/v1/b/data/o").status, 200);
}
