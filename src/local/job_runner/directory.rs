//! The directory of one execution, and who may change what is in it.
//!
//! | file | written | by |
//! |---|---|---|
//! | `request.json` | once, before anything starts | whoever was first to ask |
//! | `plan.json` | before the supervisor starts | whoever asks, always the same |
//! | `state.json` | from the first step on, finally once | the supervisor, or who finds that it is gone, under the lock |
//! | `cancel` | once | whoever cancels |
//! | `log.jsonl` | appended | the supervisor |
//! | `supervisor.log` | when the supervisor panics | the supervisor |
//! | `lock` | never; locked by the supervisor as long as it lives | |

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, OFlags, flock, fstat};
use rustix::io::{Errno, retry_on_intr};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::home::{Home, JOBS, failed, names_in};
use super::record::{Claim, Plan, Record};
use crate::job_runner::SubmissionId;
use crate::local::file_operations::{
    DIRECTORY_MODE, FILE_MODE, FileOperations, Place, make_and_open, open_beneath, open_directory, open_root,
    replace_whole, write_atomically,
};
use crate::{Error, ErrorKind, ExecutionId, JobName, Result, random};

const CLAIM: &str = "request.json";
const PLAN: &str = "plan.json";
const RECORD: &str = "state.json";
const CANCEL: &str = "cancel";
const LOCK: &str = "lock";
const LOG: &str = "log.jsonl";
/// Not to wait for a pipe that somebody has put there.
const READING: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK);

/// Holds the execution's lock until dropped.
pub(super) struct Lock {
    _file: File,
}

/// The directory of one execution. Whatever is done in it begins at the root, and no way from there goes through a
/// symbolic link, so that nobody who swaps directories meanwhile leads it elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    home: Arc<Home>,
    job: JobName,
    id: ExecutionId,
}

/// What a power failure may do to a written file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// Nothing.
    Synced,
    /// Bring back the one that it has replaced.
    Whole,
}

impl Directory {
    pub(super) fn of(home: &Arc<Home>, job: &JobName, submission: &SubmissionId) -> Result<Self> {
        let id = ExecutionId::new(format!("{job}-{submission}"))?;
        Ok(Self { home: Arc::clone(home), job: job.clone(), id })
    }

    /// The directory that an execution id names; `None` for text that is no id of this runner.
    pub(super) fn named(home: &Arc<Home>, id: &ExecutionId) -> Option<Self> {
        let (job, submission) = id.as_str().rsplit_once('-')?;
        Self::of(home, &JobName::new(job).ok()?, &SubmissionId::new(submission).ok()?).ok()
    }

    pub(super) fn job(&self) -> &JobName {
        &self.job
    }

    pub(super) fn root(&self) -> &Path {
        &self.home.root
    }

    pub(super) fn operations(&self) -> &dyn FileOperations {
        &*self.home.operations
    }

    pub(super) fn id(&self) -> &ExecutionId {
        &self.id
    }

    /// For messages.
    pub(super) fn path(&self) -> PathBuf {
        self.home.root.join(self.below_root())
    }

    pub(super) fn exists(&self) -> Result<bool> {
        self.has(CLAIM)
    }

    /// An error of a submission as it must be told: unknown, unless it is sure that nothing is there to be started.
    pub(super) fn not_submitted(&self, error: Error) -> Error {
        if matches!(self.exists(), Ok(false)) { error } else { error.into_indeterminate() }
    }

    /// Claims the directory: true if it is ours now, false if there was one. The claim is on disk, whole, before it
    /// has its name, and that name is durable, whoever gave it: a claim that a power failure undid could be made a
    /// second time.
    pub(super) fn claim_with(&self, claim: &Claim) -> Result<bool> {
        self.try_claim(claim).map_err(|error| self.failed(CLAIM, error))
    }

    fn try_claim(&self, claim: &Claim) -> io::Result<bool> {
        let operations = &*self.home.operations;
        let root = open_root(operations, &self.home.root)?;
        let jobs = make_and_open(operations, Place { directory: root.as_fd(), name: JOBS })?;
        let parent = make_and_open(operations, Place { directory: jobs.as_fd(), name: self.job.as_str() })?;
        let fresh = aside();
        let fresh = Place { directory: parent.as_fd(), name: &fresh };
        let named = Place { directory: parent.as_fd(), name: self.id.as_str() };
        // A directory that is there is not empty, so it is never replaced.
        let ours = match fill(operations, fresh, claim).and_then(|()| operations.rename(fresh, named)) {
            Ok(()) => true,
            Err(error) => {
                clear(operations, fresh);
                if !matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty) {
                    return Err(error);
                }
                false
            }
        };
        operations.sync_directory(parent.as_fd())?;
        Ok(ours)
    }

    /// Gives up a claim of which nothing has started. False if something has.
    pub(super) fn withdraw(&self) -> Result<bool> {
        let Some(_lock) = self.try_lock()? else { return Ok(false) };
        if self.record()?.is_some() {
            return Ok(false);
        }
        let operations = &*self.home.operations;
        let withdrawn = self.root_or_absent().and_then(|root| {
            let parent = open_directory(root.as_fd(), &format!("{JOBS}/{}", self.job))?;
            let aside = aside();
            let aside = Place { directory: parent.as_fd(), name: &aside };
            operations.rename(Place { directory: parent.as_fd(), name: self.id.as_str() }, aside)?;
            // Or a power failure could bring the name back, and with it half of the files.
            operations.sync_directory(parent.as_fd())?;
            clear(operations, aside);
            Ok(true)
        });
        withdrawn.map_err(|error| self.failed("", error))
    }

    /// The claim, if there is one.
    pub(super) fn find_claim(&self) -> Result<Option<Claim>> {
        self.read(CLAIM)
    }

    pub(super) fn claim(&self) -> Result<Claim> {
        self.find_claim()?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "job_runner.get", &self.id, "there is no such execution"))
    }

    pub(super) fn plan(&self) -> Result<Option<Plan>> {
        self.read(PLAN)
    }

    pub(super) fn set_plan(&self, plan: &Plan) -> Result<()> {
        self.write(PLAN, plan, Durability::Synced)
    }

    pub(super) fn record(&self) -> Result<Option<Record>> {
        self.read(RECORD)
    }

    /// To be called with the lock held.
    pub(super) fn set_record(&self, record: &Record, durability: Durability) -> Result<()> {
        self.write(RECORD, record, durability)
    }

    pub(super) fn ask_to_cancel(&self) -> Result<()> {
        let directory = self.open().map_err(|error| self.failed(CANCEL, error))?;
        let place = Place { directory: directory.as_fd(), name: CANCEL };
        match self.home.operations.create(place, FILE_MODE) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(self.failed(CANCEL, error)),
            // Whoever was first may not have come to syncing it.
            _ => {}
        }
        let synced = self.home.operations.sync_directory(directory.as_fd());
        synced.map_err(|error| self.failed(CANCEL, error).into_indeterminate())
    }

    pub(super) fn is_asked_to_cancel(&self) -> Result<bool> {
        self.has(CANCEL)
    }

    /// Makes a file that was not there.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        let directory = self.open()?;
        self.home.operations.create(Place { directory: directory.as_fd(), name }, FILE_MODE)
    }

    /// Makes the names of the files durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.home.operations.sync_directory(self.open()?.as_fd())
    }

    pub(super) fn create_log(&self) -> io::Result<File> {
        self.create(LOG)
    }

    /// The log, if anything has been started.
    pub(super) fn open_log(&self) -> Result<Option<File>> {
        self.open_file(LOG, READING).map_err(|error| self.failed(LOG, error))
    }

    /// For messages.
    pub(super) fn log_path(&self) -> PathBuf {
        self.path().join(LOG)
    }

    /// Whether somebody holds the lock: the supervisor, or who judges that it is gone.
    pub(super) fn is_locked(&self) -> Result<bool> {
        let lock = self.lock_file().map_err(|error| self.failed(LOCK, error))?;
        match retry_on_intr(|| flock(&lock, FlockOperation::NonBlockingLockShared)) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(self.failed(LOCK, error.into())),
        }
    }

    /// The lock, unless somebody else has it.
    pub(super) fn try_lock(&self) -> Result<Option<Lock>> {
        let attempt = || {
            let file = self.lock_file()?;
            match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            // The claim may have been withdrawn and made anew in between: then this is the lock of nothing.
            let (held, named) = (fstat(&file)?, fstat(self.lock_file()?)?);
            let same = (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino);
            Ok(same.then_some(Lock { _file: file }))
        };
        attempt().map_err(|error| self.failed(LOCK, error))
    }

    fn lock_file(&self) -> io::Result<File> {
        self.open_file(LOCK, READING)?.ok_or_else(|| Errno::NOENT.into())
    }

    fn below_root(&self) -> String {
        format!("{JOBS}/{}/{}", self.job, self.id)
    }

    fn root_or_absent(&self) -> io::Result<OwnedFd> {
        self.home.open()?.ok_or_else(|| Errno::NOENT.into())
    }

    fn open(&self) -> io::Result<OwnedFd> {
        open_directory(self.root_or_absent()?.as_fd(), &self.below_root())
    }

    /// Opens a file of the execution; `None` if there is none.
    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<Option<File>> {
        let Some(root) = self.home.open()? else { return Ok(None) };
        match open_beneath(root.as_fd(), &format!("{}/{name}", self.below_root()), flags) {
            Ok(file) => Ok(Some(file.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn has(&self, name: &str) -> Result<bool> {
        let opened = self.open_file(name, OFlags::PATH).map_err(|error| self.failed(name, error))?;
        Ok(opened.is_some())
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let read = || {
            let Some(mut file) = self.open_file(name, READING)? else { return Ok(None) };
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        };
        let bytes: Option<Vec<u8>> = read().map_err(|error| self.failed(name, error))?;
        let parse =
            |bytes: Vec<u8>| crate::formats::json::parse(&bytes, "job_runner.get", self.path().join(name).display());
        bytes.map(parse).transpose()
    }

    fn write<T: Serialize>(&self, name: &str, value: &T, durability: Durability) -> Result<()> {
        let write = match durability {
            Durability::Synced => write_atomically,
            Durability::Whole => replace_whole,
        };
        let written = encode(value).and_then(|bytes| {
            let directory = self.open()?;
            write(&*self.home.operations, directory.as_fd(), name, &bytes, FILE_MODE)
        });
        written.map_err(|error| self.failed(name, error))
    }

    pub(super) fn failed(&self, name: &str, source: io::Error) -> Error {
        failed(&self.path().join(name), source)
    }
}

/// A name for what is no execution yet, or none any more.
fn aside() -> String {
    format!(".new-{}", random::uuid())
}

/// Makes a directory with a claim in it.
fn fill(operations: &dyn FileOperations, place: Place<'_>, claim: &Claim) -> io::Result<()> {
    operations.make_directory(place, DIRECTORY_MODE)?;
    let directory = open_directory(place.directory, place.name)?;
    operations.create(Place { directory: directory.as_fd(), name: LOCK }, FILE_MODE)?;
    write_atomically(operations, directory.as_fd(), CLAIM, &encode(claim)?, FILE_MODE)
}

/// Removes a directory and the files in it. What stays is hidden and does no harm, so there is nobody to tell.
fn clear(operations: &dyn FileOperations, place: Place<'_>) {
    let Ok(directory) = open_directory(place.directory, place.name) else { return };
    for name in names_in(&directory).unwrap_or_default() {
        let _ = operations.remove_file(Place { directory: directory.as_fd(), name: &name });
    }
    let _ = operations.remove_directory(place);
}

fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::other)
}
