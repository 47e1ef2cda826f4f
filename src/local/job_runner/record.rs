//! What is on disk about one execution, and who may change it.
//!
//! | file | written | by |
//! |---|---|---|
//! | `request.json` | once, before anything starts | whoever was first to ask |
//! | `plan.json` | before the supervisor starts | whoever asks, always the same |
//! | `state.json` | from the first step on, finally once | the supervisor, or who finds that it is gone, under the lock |
//! | `cancel` | once | whoever cancels |
//! | `log.jsonl` | appended | the supervisor |
//! | `lock` | never; locked by the supervisor as long as it lives | |

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::file_operations::{self, DIRECTORY_MODE, FILE_MODE, System};
use crate::job_runner::{SubmissionId, TaskCounts};
use crate::{Error, ErrorKind, ExecutionId, IdempotencyKey, JobName, JobOutcome, Result, random};

/// The claim to an idempotency key and attempt: who made it has the one execution.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) job: JobName,
    pub(super) submission: SubmissionId,
    pub(super) key: IdempotencyKey,
    pub(super) attempt: u32,
    pub(super) fingerprint: String,
    pub(super) tasks: u32,
    pub(super) labels: BTreeMap<String, String>,
    /// Nanoseconds since 1970.
    pub(super) created: u64,
    /// In the environment of every process of the execution, and of no other.
    pub(super) marker: String,
}

/// What the supervisor is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) command: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) directory: PathBuf,
    pub(super) timeout: Option<Duration>,
    pub(super) grace: Duration,
}

/// How far it has come. That it exists means that tasks may have been started.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) supervisor: u32,
    pub(super) started: Option<u64>,
    pub(super) finished: Option<u64>,
    pub(super) tasks: TaskCounts,
    pub(super) outcome: Option<JobOutcome>,
    pub(super) reason: Option<String>,
    pub(super) details: BTreeMap<String, String>,
}

/// Holds the execution's lock until dropped.
pub(super) struct Lock {
    _file: File,
}

/// The directory of one execution.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn of(jobs: &Path, job: &JobName, submission: &SubmissionId) -> Self {
        Self { path: jobs.join(job.as_str()).join(format!("{job}-{submission}")) }
    }

    /// The directory that an execution id names; `None` for text that is no id of this runner.
    pub(super) fn named(jobs: &Path, id: &ExecutionId) -> Option<Self> {
        let (job, submission) = id.as_str().rsplit_once('-')?;
        Some(Self::of(jobs, &JobName::new(job).ok()?, &SubmissionId::new(submission).ok()?))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn id(&self) -> Result<ExecutionId> {
        ExecutionId::new(self.path.file_name().unwrap_or_default().to_string_lossy())
    }

    pub(super) fn exists(&self) -> Result<bool> {
        let path = self.path.join("request.json");
        path.try_exists().map_err(|error| self.failed("request.json", error))
    }

    /// An error of a submission as it must be told: unknown, unless it is sure that nothing is there to be started.
    pub(super) fn not_submitted(&self, error: Error) -> Error {
        if matches!(self.exists(), Ok(false)) { error } else { error.into_indeterminate() }
    }

    /// Claims the directory: true if it is ours now, false if there was one. The claim is on disk, whole, before it
    /// has its name.
    pub(super) fn claim_with(&self, claim: &Claim) -> Result<bool> {
        let parent = self.path.parent().unwrap_or(&self.path);
        let fresh = parent.join(format!(".new-{}", random::uuid()));
        let made = private_directories(&fresh).and_then(|()| {
            drop(private_file(&fresh.join("lock"))?);
            write_atomically(&fresh.join("request.json"), &encode(claim)?, Durability::Synced)?;
            // A directory that is there is not empty, so it is never replaced.
            match fs::rename(&fresh, &self.path) {
                Ok(()) => sync_directory(parent).map(|()| true),
                Err(error) if taken(&error) => Ok(false),
                Err(error) => Err(error),
            }
        });
        if !matches!(made, Ok(true)) {
            let _ = fs::remove_dir_all(&fresh);
        }
        made.map_err(|error| self.failed("request.json", error))
    }

    /// Gives up a claim of which nothing has started. False if something has.
    pub(super) fn withdraw(&self) -> Result<bool> {
        let Some(_lock) = self.try_lock()? else { return Ok(false) };
        if self.record()?.is_some() {
            return Ok(false);
        }
        let aside = self.path.with_file_name(format!(".new-{}", random::uuid()));
        fs::rename(&self.path, &aside).map_err(|error| self.failed("", error))?;
        let _ = fs::remove_dir_all(&aside);
        Ok(true)
    }

    pub(super) fn claim(&self) -> Result<Claim> {
        match self.read("request.json")? {
            Some(claim) => Ok(claim),
            None => Err(Error::new(ErrorKind::NotFound, "job_runner.get", self.shown(), "there is no such execution")),
        }
    }

    pub(super) fn plan(&self) -> Result<Option<Plan>> {
        self.read("plan.json")
    }

    pub(super) fn set_plan(&self, plan: &Plan) -> Result<()> {
        self.write("plan.json", plan, Durability::Synced)
    }

    pub(super) fn record(&self) -> Result<Option<Record>> {
        self.read("state.json")
    }

    /// To be called with the lock held.
    pub(super) fn set_record(&self, record: &Record, durability: Durability) -> Result<()> {
        self.write("state.json", record, durability)
    }

    pub(super) fn ask_to_cancel(&self) -> Result<()> {
        let made = private_file(&self.path.join("cancel")).and_then(|_| sync_directory(&self.path));
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(self.failed("cancel", error)),
            _ => Ok(()),
        }
    }

    pub(super) fn is_asked_to_cancel(&self) -> bool {
        self.path.join("cancel").exists()
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log.jsonl")
    }

    /// Whether somebody holds the lock: the supervisor, or who judges that it is gone.
    pub(super) fn is_locked(&self) -> Result<bool> {
        let lock = File::open(self.path.join("lock")).map_err(|error| self.failed("lock", error))?;
        match retry_on_intr(|| flock(&lock, FlockOperation::NonBlockingLockShared)) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(self.failed("lock", error.into())),
        }
    }

    /// The lock, unless somebody else has it.
    pub(super) fn try_lock(&self) -> Result<Option<Lock>> {
        let path = self.path.join("lock");
        let attempt = || {
            let file = File::open(&path)?;
            match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            // The claim may have been withdrawn and made anew in between: then this is the lock of nothing.
            let (held, named) = (file.metadata()?, fs::metadata(&path)?);
            let same = (held.dev(), held.ino()) == (named.dev(), named.ino());
            Ok(same.then_some(Lock { _file: file }))
        };
        attempt().map_err(|error| self.failed("lock", error))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => crate::formats::json::parse(&bytes, "job_runner.get", path.display()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T, durability: Durability) -> Result<()> {
        let written = encode(value).and_then(|bytes| write_atomically(&self.path.join(name), &bytes, durability));
        written.map_err(|error| self.failed(name, error))
    }

    fn failed(&self, name: &str, error: io::Error) -> Error {
        crate::files::error("job_runner", &self.path.join(name), error)
    }

    fn shown(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Whether a written file must survive a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    Synced,
    Cached,
}

fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::other)
}

fn taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty)
}

/// Makes a directory of mode 0700, and those above it that are missing, durably: a claim that a power failure undid
/// could be made a second time.
fn private_directories(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            private_directories(parent)?;
            return private_directories(path);
        }
        Err(error) => return Err(error),
    }
    // The mode above is cut by the process's umask.
    fs::set_permissions(path, fs::Permissions::from_mode(DIRECTORY_MODE))?;
    sync_directory(parent)
}

/// Makes a file of mode 0600.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
    Ok(file)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn write_atomically(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    match (durability, path.parent(), path.file_name().and_then(OsStr::to_str)) {
        (Durability::Synced, Some(parent), Some(name)) => {
            let directory = File::open(parent)?;
            file_operations::write_atomically(&System, directory.as_fd(), name, bytes, FILE_MODE)
        }
        _ => replace_in_cache(path, bytes),
    }
}

fn replace_in_cache(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_file_name(format!(".{}.tmp", random::uuid()));
    let written = private_file(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Nanoseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn time(nanoseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}
