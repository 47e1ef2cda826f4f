//! Scripted faults.

use std::io::Write as _;
use std::net::TcpStream;
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
fn a_delayed_call_is_served_though_its_caller_has_gone() {
    let server = Server::start();
    server.emulator.add_fault(Fault::next(CREATE, FaultAction::Delay { millis: 400 }));
    let (url, body) = (server.emulator.url(), body());
    let host = url.trim_start_matches("http://");
    let head = format!(
        "POST {SECRETS}?secretId=a HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(host).expect("it listens");
    stream.write_all(&[head.as_bytes(), &body].concat()).expect("it is sent");
    // It has arrived, and is waited for no longer.
    std::thread::sleep(Duration::from_millis(150));
    drop(stream);
    let begun = Instant::now();
    while server.get(&format!("{SECRETS}/a")).status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the call was given up with its caller");
        std::thread::sleep(Duration::from_millis(20));
    }
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
