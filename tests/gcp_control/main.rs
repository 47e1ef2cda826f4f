//! Secret Manager and Cloud Run through this crate, against the emulator with scripted faults.
//!
//! With `ANYCLOUD_TEST_DISCOVERY` (a directory with Google's discovery documents) every test also asserts that each
//! request and answer conforms to them.

#![allow(clippy::disallowed_methods)] // the tests choose their judge by the environment

mod claim;
mod job;
mod permissions;
mod secret;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anycloud::gcp::{CloudRunRunner, SecretManagerStore};
use anycloud::gcp_emulator::{Emulator, EmulatorConfig, Fault, FaultAction};
use anycloud::local::FileStore;
use anycloud::{Config, JobName};
use serde_json::json;

const REGION: &str = "europe-west1";

/// An emulator of a test's own, and what talks to it.
struct World {
    emulator: Emulator,
    secrets: SecretManagerStore,
    jobs: CloudRunRunner,
    exchange: Arc<FileStore>,
    config: Config,
    root: PathBuf,
}

impl World {
    fn new() -> Self {
        // Names with the project's number, as the real service answers them.
        let mut config = EmulatorConfig { project_number: Some(123_456), ..EmulatorConfig::default() };
        config.discovery = std::env::var_os("ANYCLOUD_TEST_DISCOVERY").map(PathBuf::from);
        config.buckets.push("b".into());
        config.cancel_grace = Duration::from_millis(300);
        config.images.insert("sh".into(), vec!["/bin/sh".into(), "-c".into()]);
        for (name, retries) in [("sh", 0), ("stubborn", 2)] {
            let container = json!({"image": "sh", "args": ["echo from the definition"]});
            let template = json!({"template": {"containers": [container], "maxRetries": retries}});
            let full = format!("projects/p/locations/{REGION}/jobs/{name}");
            config.jobs.insert(full, json!({"template": template}));
        }
        let emulator = Emulator::start(config).expect("the emulator starts");
        let mut lookup = emulator.environment();
        for (name, value) in [
            ("CLOUD_PROVIDER", "gcp"),
            ("ANYCLOUD_BUCKET", "b"),
            ("GOOGLE_CLOUD_PROJECT", "p"),
            ("CLOUD_RUN_REGION", REGION),
        ] {
            lookup.push((name, value.to_owned()));
        }
        let config =
            Config::from_lookup(|name| lookup.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone()));
        let config = config.expect("the settings are complete");
        let port = emulator.url().rsplit(':').next().expect("a port");
        let root = std::env::temp_dir().join(format!("anycloud-gcp-control-{}-{port}", std::process::id()));
        let exchange = Arc::new(FileStore::new(&root, "exchange"));
        Self {
            secrets: SecretManagerStore::new(&config).expect("no network is needed"),
            jobs: CloudRunRunner::new(&config, exchange.clone()).expect("no network is needed"),
            emulator,
            exchange,
            config,
            root,
        }
    }

    fn fault(&self, method: &str, action: FaultAction) {
        self.emulator.add_fault(Fault::next(method, action));
    }

    /// A runner that shares nothing with others but the cloud, as one in another process.
    fn another_runner(&self) -> CloudRunRunner {
        CloudRunRunner::new(&self.config, self.exchange.clone()).expect("no network is needed")
    }

    /// How often a method was called.
    fn calls(&self, method: &str) -> usize {
        self.emulator.requests().iter().filter(|request| request.method == method).count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
        if !std::thread::panicking() {
            assert_eq!(self.emulator.violations(), Vec::<String>::new());
        }
    }
}

fn status(code: u16) -> FaultAction {
    FaultAction::Status { code, retry_after_seconds: None }
}

fn job(name: &str) -> JobName {
    JobName::new(name).expect("a job's name")
}
