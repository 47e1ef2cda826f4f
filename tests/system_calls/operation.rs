//! The operations whose calls are made to fail, and what can be seen of them afterwards.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anycloud::config::LocalJob;
use anycloud::job_runner::WaitOptions;
use anycloud::local::{FileSecretStore, FileStore, ProcessRunner};
use anycloud::object_store::{CopyOptions, Crc32c, DeleteOptions, ListOptions};
use anycloud::secret_store::{CreateSecretOptions, DeleteSecret, ListSecrets};
use anycloud::{
    Config, Error, ErrorKind, IdempotencyKey, JobExecution, JobName, JobRequest, JobRunner as _, JobRunnerExt as _,
    ObjectKey, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, Result, SecretName, SecretStore as _,
    SecretStoreExt as _,
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Put,
    Replace,
    Upload,
    Copy,
    Delete,
    Get,
    List,
    AbortStale,
    CreateSecret,
    PutSecret,
    GetSecret,
    DeleteSecret,
    RunJob,
    SettleJob,
}

pub(crate) const ALL: [Operation; 14] = [
    Operation::Put,
    Operation::Replace,
    Operation::Upload,
    Operation::Copy,
    Operation::Delete,
    Operation::Get,
    Operation::List,
    Operation::AbortStale,
    Operation::CreateSecret,
    Operation::PutSecret,
    Operation::GetSecret,
    Operation::DeleteSecret,
    Operation::RunJob,
    Operation::SettleJob,
];

const LARGE: usize = 200_000;

fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).unwrap()
}

fn secret(text: &str) -> SecretName {
    SecretName::new(text).unwrap()
}

fn large() -> Bytes {
    let mut bytes = vec![0; LARGE];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    bytes.into()
}

fn objects(root: &Path) -> Arc<FileStore> {
    Arc::new(FileStore::new(root, "main"))
}

fn job() -> JobName {
    JobName::new("job").unwrap()
}

/// A runner whose job writes a line for each time that it runs.
fn jobs(root: &Path, script: &str) -> ProcessRunner {
    let script = script.replace("RAN", &root.join("ran").display().to_string());
    let command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
    let definition = LocalJob { command, grace_seconds: Some(1), ..LocalJob::default() };
    ProcessRunner::new(&Config::local(root).with_local_job(job(), definition).local, objects(root))
}

async fn submit(root: &Path, script: &str) -> Result<JobExecution> {
    let idempotency_key = Some(IdempotencyKey::new("once").unwrap());
    jobs(root, script).run(&job(), JobRequest { idempotency_key, ..JobRequest::default() }).await
}

const SCRIPT: &str = "echo ran >> RAN";

impl Operation {
    pub(crate) fn named(name: &str) -> Self {
        ALL.into_iter().find(|operation| format!("{operation:?}") == name).unwrap()
    }

    fn is_of_objects(self) -> bool {
        use Operation::{AbortStale, Copy, Delete, Get, List, Put, Replace, Upload};
        matches!(self, Put | Replace | Upload | Copy | Delete | Get | List | AbortStale)
    }

    fn is_of_secrets(self) -> bool {
        !self.is_of_objects() && !matches!(self, Self::RunJob | Self::SettleJob)
    }

    /// What is there before.
    pub(crate) async fn prepare(self, root: &Path) {
        if self.is_of_objects() {
            let store = objects(root);
            store.put_bytes(&key("d/old"), "old").await.unwrap();
            store.put_bytes(&key("d/source"), large()).await.unwrap();
            if self == Self::AbortStale {
                std::fs::write(root.join("objects/main/unfinished/left"), "half").unwrap();
            }
        } else if self.is_of_secrets() {
            FileSecretStore::new(root).put_value(&secret("db"), "old").await.unwrap();
        } else if self == Self::SettleJob {
            let execution = submit(root, "echo started >> RAN; exec sleep 600").await.unwrap();
            let directory = root.join("jobs/job").join(execution.id.as_str());
            while !root.join("ran").exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let record: serde_json::Value =
                serde_json::from_slice(&std::fs::read(directory.join("state.json")).unwrap()).unwrap();
            let pid = i32::try_from(record["supervisor"].as_i64().unwrap()).unwrap();
            let supervisor = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
            // Dead, whether or not anybody has asked how it died.
            while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Does it, and returns what it says that it has done or read.
    pub(crate) async fn perform(self, root: &Path) -> Result<String> {
        let (store, secrets) = (objects(root), FileSecretStore::new(root));
        let done = |()| "done".to_owned();
        match self {
            Self::Put => store.put(&key("new/dir/k"), "fresh".into(), create_only()).await.map(|_| done(())),
            Self::Replace => {
                let version = store.head(&key("d/old"), Default::default()).await?.version;
                let options = PutOptions { mode: PutMode::Replace(version), ..PutOptions::default() };
                store.put(&key("d/old"), "fresh".into(), options).await.map(|_| done(()))
            }
            Self::Upload => {
                let mut upload = store.start_upload(&key("d/old"), PutOptions::default()).await?;
                let bytes = large();
                for part in 0..4 {
                    upload.put_part(bytes.slice(part * LARGE / 4..(part + 1) * LARGE / 4).into()).await?;
                }
                upload.finish(Crc32c::of(&bytes)).await.map(|_| done(()))
            }
            Self::Copy => store.copy(&key("d/source"), &key("d/old"), CopyOptions::default()).await.map(|_| done(())),
            Self::Delete => store.delete(&key("d/old"), DeleteOptions::default()).await.map(done),
            Self::Get => store.get_bytes(&key("d/source")).await.map(|bytes| format!("{:?}", Crc32c::of(&bytes))),
            Self::List => {
                let entries: Vec<_> = store.list(ListOptions::default()).try_collect().await?;
                Ok(entries.iter().map(|entry| entry.name().to_owned()).collect::<Vec<_>>().join(" "))
            }
            Self::AbortStale => store.abort_stale_uploads(Duration::ZERO).await.map(|stale| stale.aborted.to_string()),
            Self::CreateSecret => {
                let name = secret("new");
                let created = secrets.create(&name, "fresh".into(), CreateSecretOptions::default());
                created.await.map(|version| version.to_string())
            }
            Self::PutSecret => secrets.put_value(&secret("db"), "fresh").await.map(|put| put.version.to_string()),
            Self::GetSecret => {
                secrets.get_latest(&secret("db")).await.map(|found| found.value.expose_str().unwrap().to_owned())
            }
            Self::DeleteSecret => secrets.delete(&secret("db"), DeleteSecret::Immediate).await.map(done),
            Self::RunJob => submit(root, SCRIPT).await.map(|execution| execution.id.to_string()),
            Self::SettleJob => {
                let found =
                    jobs(root, SCRIPT).find(&job(), &IdempotencyKey::new("once")?, 1.try_into().unwrap()).await?;
                Ok(found.map_or("none".to_owned(), |execution| format!("{:?}", execution.state)))
            }
        }
    }

    /// What another process sees.
    pub(crate) async fn state(self, root: &Path) -> String {
        let mut seen = String::new();
        if self.is_of_objects() {
            let store = objects(root);
            for object in store.list_all("").await.unwrap() {
                let bytes = store.get_bytes(&object.key).await.unwrap();
                assert_eq!(object.size, bytes.len() as u64);
                write!(seen, "{}: {} bytes {:?}; ", object.key, bytes.len(), Crc32c::of(&bytes)).unwrap();
            }
        } else if self.is_of_secrets() {
            let store = FileSecretStore::new(root);
            let listed: Vec<_> = store.list(ListSecrets::default()).try_collect().await.unwrap();
            for meta in listed {
                let found = store.get_latest(&meta.name).await.unwrap();
                write!(seen, "{} {} {}; ", meta.name, found.version, found.value.expose_str().unwrap()).unwrap();
            }
        } else {
            for entry in std::fs::read_dir(root.join("jobs/job")).into_iter().flatten().flatten() {
                let name = entry.file_name().into_string().unwrap();
                if name.starts_with('.') {
                    continue;
                }
                let record = std::fs::read(entry.path().join("state.json")).unwrap_or_else(|_| b"null".to_vec());
                let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
                let outcome = if self == Self::SettleJob { record["outcome"].to_string() } else { String::new() };
                write!(seen, "{name} {outcome}; ").unwrap();
            }
        }
        seen
    }

    /// That nothing stands in the way of those who come after, and nothing is left that is not collected.
    pub(crate) async fn check_aftermath(self, root: &Path) {
        if self.is_of_objects() {
            let store = objects(root);
            store.put_bytes(&key("d/old"), "after").await.unwrap();
            store.put_bytes(&key("new/dir/k"), "after").await.unwrap();
            assert_eq!(store.get_text(&key("new/dir/k")).await.unwrap(), "after");
            store.abort_stale_uploads(Duration::ZERO).await.unwrap();
            assert_eq!(std::fs::read_dir(root.join("objects/main/unfinished")).unwrap().count(), 0);
        } else if self.is_of_secrets() {
            let store = FileSecretStore::new(root);
            for name in ["db", "new"] {
                store.put_value(&secret(name), "after").await.unwrap();
            }
            assert_eq!(std::fs::read_dir(root.join("secrets")).unwrap().count(), 2);
        } else if self == Self::RunJob {
            let execution = submit(root, SCRIPT).await.unwrap();
            let options = WaitOptions {
                first_interval: Duration::from_millis(5),
                max_interval: Duration::from_millis(50),
                deadline: Some(Duration::from_secs(30)),
                on_look: None,
            };
            let ended = jobs(root, SCRIPT).wait(&execution.id, options).await.unwrap();
            let runs = std::fs::read_to_string(root.join("ran")).unwrap_or_default().lines().count();
            let succeeded = ended.state.outcome().is_some_and(|outcome| outcome.is_success());
            assert!(succeeded && runs == 1, "{runs} runs, {ended:?}");
        } else {
            let settled = self.perform(root).await.unwrap();
            assert!(settled.contains("Lost"), "{settled}");
        }
    }
}

fn create_only() -> PutOptions {
    PutOptions { mode: PutMode::Create, ..PutOptions::default() }
}

/// How a call ended, in one word.
pub(crate) fn word(result: &Result<String, Error>) -> String {
    match result {
        Ok(detail) => format!("ok {detail}"),
        Err(error) if error.kind() == ErrorKind::Indeterminate => "unknown".to_owned(),
        Err(error) => format!("error {:?} {}", error.kind(), error.to_string().replace('\n', " ")),
    }
}
