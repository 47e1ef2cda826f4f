//! The process that makes the calls, whose credentials are those of its environment.

use std::process::{Command, Stdio};

use anycloud::{Cloud, Config, ErrorKind, ExecutionId, JobName, ObjectKey, SecretName};
use serde::{Deserialize, Serialize};

use super::operations;
use super::policy::REGION;

/// Set for the processes that this program starts of itself.
const SCENE: &str = "ANYCLOUD_PERMISSIONS_SCENE";
const MODE: &str = "ANYCLOUD_PERMISSIONS_MODE";

/// What a process does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Makes what the operations find.
    Prepare,
    /// Runs every operation.
    Run,
}

/// Where one trial plays.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scene {
    /// Of the bucket, the cluster, the service, the family, the log group and the user.
    pub(crate) name: String,
    pub(crate) endpoint: String,
    /// The id of an execution that was started.
    pub(crate) execution: String,
}

/// What became of an operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum End {
    Allowed,
    Denied(String),
    Failed(String),
}

impl Scene {
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), endpoint: String::new(), execution: String::new() }
    }

    /// The scene that this process was started for.
    pub(crate) fn of_this_process() -> Option<Self> {
        std::env::var(SCENE).ok().map(|text| serde_json::from_str(&text).expect("the scene is JSON"))
    }

    pub(crate) fn key(&self, name: &str) -> ObjectKey {
        ObjectKey::new(name).expect("a key")
    }

    pub(crate) fn secret(&self, suffix: &str) -> SecretName {
        SecretName::new(format!("mmm-{}-{suffix}", self.name)).expect("a secret's name")
    }

    pub(crate) fn job(&self) -> JobName {
        JobName::new(self.name.as_str()).expect("a job's name")
    }

    pub(crate) fn execution(&self) -> ExecutionId {
        ExecutionId::new(self.execution.as_str()).expect("an execution's id")
    }

    fn cloud(&self) -> Cloud {
        let config = Config::from_lookup(|name| {
            let value = match name {
                "CLOUD_PROVIDER" => "aws",
                "AWS_REGION" => REGION,
                "AWS_ENDPOINT_URL" => &self.endpoint,
                "ANYCLOUD_BUCKET" | "ECS_CLUSTER" | "ECS_SERVICE" => &self.name,
                _ => return None,
            };
            Some(value.to_owned())
        });
        Cloud::connect(config.expect("the settings are complete")).expect("no network is needed")
    }
}

/// What a process with these keys writes to its output.
pub(crate) fn in_process(mode: Mode, scene: &Scene, (id, secret): (&str, &str)) -> String {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", id)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("LD_LIBRARY_PATH", std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default())
        .env(SCENE, serde_json::to_string(scene).expect("a scene is JSON"))
        .env(MODE, if mode == Mode::Prepare { "prepare" } else { "run" })
        .stderr(Stdio::inherit())
        .output()
        .expect("this program can be started");
    assert!(output.status.success(), "the process that makes the calls failed");
    String::from_utf8(output.stdout).expect("it writes text")
}

/// Does in this process what it was started for.
pub(crate) fn make(scene: &Scene) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let cloud = scene.cloud();
        if std::env::var(MODE).is_ok_and(|mode| mode == "prepare") {
            let execution = operations::prepare(&cloud, scene).await.expect("the scene can be prepared");
            println!("{execution}");
            return;
        }
        for operation in operations::all() {
            let end = match (operation.run)(&cloud, scene).await {
                Ok(()) => End::Allowed,
                Err(error) if error.kind() == ErrorKind::PermissionDenied => End::Denied(error.to_string()),
                Err(error) => End::Failed(format!("{error:?}")),
            };
            println!("{}", serde_json::to_string(&(operation.name, end)).expect("an end is JSON"));
        }
    });
}
