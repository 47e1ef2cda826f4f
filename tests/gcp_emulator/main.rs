//! Drives the emulator over plain HTTP, with a client that shares no code with the crate.
//!
//! With `ANYCLOUD_TEST_DISCOVERY` (a directory with Google's discovery documents) every
//! test also asserts that each request and answer conforms to them. With
//! `ANYCLOUD_TEST_GOOGLE_PYTHON` (an interpreter that has Google's own clients) those clients run
//! too.

// The tests choose their judges by the environment, and say which are missing.
#![allow(clippy::disallowed_methods, clippy::print_stderr)]

mod fault;
mod google;
mod http;
mod job;
mod object;
mod program;
#[cfg(feature = "gcp")]
mod rust_clients;
mod secret;
mod signed_url;
#[cfg(feature = "gcp")]
mod uploads;

use std::path::PathBuf;

use anycloud::gcp_emulator::{Emulator, EmulatorConfig};
use http::{Answer, Http};
use serde_json::Value;

/// A server of a test's own.
struct Server {
    emulator: Emulator,
    http: Http,
}

/// What the environment names; where nothing may be passed over, it must name it.
fn judge(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if found.is_none() {
        let required = std::env::var_os("ANYCLOUD_TEST_REQUIRE_ALL").is_some();
        assert!(!required, "{name} is not set");
        eprintln!("{name} is not set: what it judges is not judged");
    }
    found
}

fn discovery() -> Option<PathBuf> {
    judge("ANYCLOUD_TEST_DISCOVERY")
}

impl Server {
    fn start() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut EmulatorConfig)) -> Self {
        let mut config =
            EmulatorConfig { discovery: discovery(), buckets: vec!["data".into()], ..EmulatorConfig::default() };
        config.images.insert("sh".into(), vec!["/bin/sh".into(), "-c".into()]);
        config.cancel_grace = std::time::Duration::from_millis(300);
        change(&mut config);
        let emulator = Emulator::start(config).expect("the server starts");
        let http = Http::new(emulator.url());
        Self { emulator, http }
    }

    fn get(&self, path: &str) -> Answer {
        self.http.send("GET", path, &[], b"").expect("an answer")
    }

    fn delete(&self, path: &str) -> Answer {
        self.http.send("DELETE", path, &[], b"").expect("an answer")
    }

    fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        let kind = [("content-type", "application/json")];
        self.http.send(method, path, &kind, body.to_string().as_bytes()).expect("an answer")
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.json("POST", path, body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.emulator.violations(), Vec::<String>::new());
        }
    }
}

#[test]
fn a_request_that_google_does_not_know_is_a_violation() {
    let Some(discovery) = discovery() else {
        return;
    };
    let emulator = Emulator::start(EmulatorConfig { discovery: Some(discovery), ..EmulatorConfig::default() })
        .expect("the server starts");
    let http = Http::new(emulator.url());
    let path = "/v1/projects/p/secrets?secretId=a&colour=red";
    let body = br#"{"replication": {"automatic": {}}, "shape": "round"}"#;
    assert_eq!(http.send("POST", path, &[], body).expect("an answer").status, 200);
    let violations = emulator.violations();
    assert_eq!(violations.len(), 2, "{violations:?}");
    assert!(violations.concat().contains("colour") && violations.concat().contains("shape"));
    assert_eq!(http.send("GET", "/v2/nonsense", &[], b"").expect("an answer").status, 501);
    assert_eq!(emulator.violations().len(), 3);
}

#[test]
fn the_environment_leads_to_the_server() {
    let server = Server::start();
    let environment = server.emulator.environment();
    assert!(environment.iter().any(|(name, _)| *name == "STORAGE_EMULATOR_HOST"));
    assert!(environment.iter().all(|(_, value)| value == server.emulator.url()));
    assert_eq!(server.get("/_emulator/health").status, 200);
}
