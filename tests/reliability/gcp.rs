//! Google Cloud's emulator as a scene: a project and a bucket for each cell, so that faults of one do not meet another.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use anycloud::gcp_emulator::{Emulator, EmulatorConfig};
use anycloud::retry::RetryPolicy;
use anycloud::{Cloud, Config, JobName};
use serde_json::json;

use crate::operation::{Clients, Scene};

pub(crate) const REGION: &str = "europe-west1";

/// How the clients of all lanes repeat: quickly, so that many cells fit.
pub(crate) fn policy() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 4,
        first_backoff: Duration::from_millis(2),
        max_backoff: Duration::from_millis(20),
        attempt_timeout: Duration::from_millis(1500),
        call_timeout: Duration::from_secs(12),
        budget: 100,
    }
}

/// How the clients repeat that prepare a cell and see what became of it: with patience, for their server may be busy.
pub(crate) fn judges_policy() -> RetryPolicy {
    RetryPolicy {
        attempt_timeout: Duration::from_secs(10),
        call_timeout: Duration::from_secs(60),
        budget: u32::MAX,
        ..policy()
    }
}

/// An emulator with so many scenes.
pub(crate) fn emulator(scenes: &[String]) -> Emulator {
    let job = |scene: &String, name: &str| {
        let template = json!({"taskCount": 1, "template": {
            "maxRetries": 0, "timeout": "600s", "containers": [{"image": name}],
        }});
        (format!("projects/{scene}/locations/{REGION}/jobs/{name}"), json!({"template": template}))
    };
    Emulator::start(EmulatorConfig {
        buckets: scenes.to_vec(),
        jobs: scenes.iter().flat_map(|scene| [job(scene, "quick"), job(scene, "long")]).collect(),
        images: [
            ("quick".to_owned(), vec!["/bin/true".to_owned()]),
            ("long".to_owned(), vec!["/bin/sleep".to_owned(), "60".to_owned()]),
        ]
        .into(),
        cancel_grace: Duration::from_millis(100),
        ..EmulatorConfig::default()
    })
    .expect("the emulator starts")
}

/// The settings of a client of one scene.
pub(crate) fn config(url: &str, scene: &str) -> Config {
    let mut config = Config::from_lookup(|name| {
        let value = match name {
            "CLOUD_PROVIDER" => "gcp",
            "ANYCLOUD_BUCKET" | "GOOGLE_CLOUD_PROJECT" => scene,
            "CLOUD_RUN_REGION" => REGION,
            "STORAGE_EMULATOR_HOST"
            | "SECRET_MANAGER_EMULATOR_HOST"
            | "CLOUD_RUN_EMULATOR_HOST"
            | "CLOUD_LOGGING_EMULATOR_HOST" => url,
            _ => return None,
        };
        Some(value.to_owned())
    })
    .expect("the settings are complete");
    config.retry = policy();
    config
}

pub(crate) fn clients(config: &Config) -> Clients {
    let cloud = Cloud::connect(config.clone()).expect("no network is needed");
    Clients {
        objects: Some(cloud.objects().clone()),
        secrets: Some(cloud.secrets().clone()),
        jobs: Some(cloud.jobs().clone()),
    }
}

pub(crate) fn scene(url: &str, name: &str, canary: &str, policy: &RetryPolicy) -> Scene {
    let config = config(url, name);
    let faulted = Config { retry: policy.clone(), ..config.clone() };
    let clean = Config { retry: judges_policy(), ..config };
    Scene {
        name: name.to_owned(),
        faulted: clients(&faulted),
        clean: clients(&clean),
        quick: JobName::new("quick").expect("a name"),
        long: JobName::new("long").expect("a name"),
        begun: None,
        canary: canary.to_owned(),
        noted: Mutex::new(BTreeMap::new()),
    }
}
