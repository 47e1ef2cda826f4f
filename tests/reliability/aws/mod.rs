//! S3, Secrets Manager and ECS in this process, behind two proxies: one that makes faults, and one that does not.

mod ecs;
mod s3;
mod secrets_manager;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anycloud::retry::RetryPolicy;
use anycloud::{Cloud, Config, JobName, ObjectStore, SecretStore};

use crate::gcp;
use crate::operation::{Begun, Clients, Scene};
use crate::proxy::{Proxy, Upstream, stall_of};
use crate::sockets::aws_config;

type Secrets = Option<Arc<dyn SecretStore>>;

/// The server, its faults, and the clients of all its scenes.
pub(crate) struct Server {
    pub(crate) faulted: Proxy,
    clean: Proxy,
    upstream: Upstream,
    state: Arc<Mutex<State>>,
    policy: RetryPolicy,
    /// Those of all scenes, for whose secrets a name is enough: it takes time to make a client.
    secrets: (Secrets, Secrets),
}

#[derive(Default)]
struct State {
    buckets: BTreeMap<String, s3::S3>,
    secrets: secrets_manager::SecretsManager,
    ecs: ecs::Ecs,
}

fn serve(state: &Mutex<State>, bytes: &[u8]) -> Vec<u8> {
    let Some(request) = wire::Request::parse(bytes) else { return Vec::new() };
    let mut state = state.lock().expect("no panic before");
    let answer = match request.header("x-amz-target") {
        Some(target) if target.starts_with("secretsmanager") => state.secrets.serve(target, &request),
        Some(target) => state.ecs.serve(target, &request),
        None => {
            let bucket = request.path.split('/').next().unwrap_or_default().to_owned();
            state.buckets.entry(bucket).or_default().serve(&request)
        }
    };
    // A HEAD has the length and no body.
    match answer.windows(4).position(|four| four == b"\r\n\r\n") {
        Some(end) if request.method == "HEAD" => answer[..end + 4].to_vec(),
        _ => answer,
    }
}

/// The clients of one scene, in a cluster and with a bucket of its own.
fn clients(url: &str, scene: &str, policy: RetryPolicy) -> Clients {
    let mut config = Config { retry: policy, ..aws_config(url, scene) };
    scene.clone_into(&mut config.aws.bucket);
    config.aws.ecs_cluster = Some(scene.to_owned());
    let cloud = Cloud::connect(config).expect("no network is needed");
    Clients {
        objects: Some(cloud.objects().clone()),
        secrets: Some(cloud.secrets().clone()),
        jobs: Some(cloud.jobs().clone()),
    }
}

impl Server {
    pub(crate) async fn start(policy: RetryPolicy) -> Self {
        let stall = stall_of(&policy);
        let state = Arc::new(Mutex::new(State::default()));
        let serving = state.clone();
        let upstream = Upstream::Within(Arc::new(move |bytes| serve(&serving, bytes)));
        let faulted = Proxy::start(upstream.clone(), stall).await;
        let clean = Proxy::start(upstream.clone(), stall).await;
        // What the budget does is tested elsewhere; here all cells of a server share it.
        let unbounded = RetryPolicy { budget: u32::MAX, ..policy.clone() };
        let secrets =
            (clients(&faulted.url, "", unbounded).secrets, clients(&clean.url, "", gcp::judges_policy()).secrets);
        Self { faulted, clean, upstream, state, policy, secrets }
    }

    /// The server for a proxy of one's own, and a client that goes through it.
    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    pub(crate) fn objects_at(&self, url: &str) -> Arc<dyn ObjectStore> {
        clients(url, "histories", self.policy.clone()).objects.expect("it has objects")
    }

    pub(crate) fn scene(&self, name: &str, canary: &str) -> Scene {
        let job = |kind| JobName::new(format!("{name}-{kind}")).expect("a name");
        let (state, cluster) = (self.state.clone(), name.to_owned());
        let begun: Begun = Arc::new(move |job| {
            let begun = state.lock().expect("no panic before").ecs.begun(&cluster, job.as_str());
            Box::pin(std::future::ready(Ok(begun)))
        });
        Scene {
            name: name.to_owned(),
            faulted: Clients {
                secrets: self.secrets.0.clone(),
                ..clients(&self.faulted.url, name, self.policy.clone())
            },
            clean: Clients { secrets: self.secrets.1.clone(), ..clients(&self.clean.url, name, gcp::judges_policy()) },
            quick: job("quick"),
            long: job("long"),
            begun: Some(begun),
            canary: canary.to_owned(),
            noted: Mutex::new(BTreeMap::new()),
        }
    }
}
