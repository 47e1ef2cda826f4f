//! S3 and Secrets Manager in this process, behind two proxies: one that makes faults, and one that does not.

mod s3;
mod secrets_manager;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anycloud::retry::RetryPolicy;
use anycloud::{Cloud, JobName};

use crate::operation::{Clients, Scene};
use crate::proxy::{Proxy, Upstream};
use crate::sockets::aws_config;

/// The server, its faults, and the clients of all its scenes.
pub(crate) struct Server {
    pub(crate) faulted: Proxy,
    _clean: Proxy,
    clients: (Clients, Clients),
}

#[derive(Default)]
struct State {
    s3: s3::S3,
    secrets: secrets_manager::SecretsManager,
}

fn serve(state: &Mutex<State>, bytes: &[u8]) -> Vec<u8> {
    let Some(request) = wire::Request::parse(bytes) else { return Vec::new() };
    let mut state = state.lock().expect("no panic before");
    let answer = match request.header("x-amz-target") {
        Some(target) => state.secrets.serve(&target.to_owned(), &request),
        None => state.s3.serve(&request),
    };
    // A HEAD has the length and no body.
    match answer.windows(4).position(|four| four == b"\r\n\r\n") {
        Some(end) if request.method == "HEAD" => answer[..end + 4].to_vec(),
        _ => answer,
    }
}

fn clients(url: &str, policy: RetryPolicy) -> Clients {
    let mut config = aws_config(url, "");
    config.retry = policy;
    let cloud = Cloud::connect(config).expect("no network is needed");
    Clients { objects: Some(cloud.objects().clone()), secrets: Some(cloud.secrets().clone()), jobs: None }
}

impl Server {
    pub(crate) async fn start(policy: RetryPolicy) -> Self {
        let stall = policy.attempt_timeout + Duration::from_millis(300);
        let state = Arc::new(Mutex::new(State::default()));
        let upstream = Upstream::Within(Arc::new(move |bytes| serve(&state, bytes)));
        let faulted = Proxy::start(upstream.clone(), stall).await;
        let clean = Proxy::start(upstream, stall).await;
        // What the budget does is tested elsewhere; here all cells of a server share it.
        let policy = RetryPolicy { budget: u32::MAX, ..policy };
        let clients = (clients(&faulted.url, policy.clone()), clients(&clean.url, policy));
        Self { faulted, _clean: clean, clients }
    }

    pub(crate) fn scene(&self, name: &str, canary: &str) -> Scene {
        let job = |name| JobName::new(name).expect("a name");
        Scene {
            name: name.to_owned(),
            faulted: self.clients.0.clone(),
            clean: self.clients.1.clone(),
            quick: job("quick"),
            long: job("long"),
            canary: canary.to_owned(),
            noted: Mutex::new(BTreeMap::new()),
        }
    }
}
