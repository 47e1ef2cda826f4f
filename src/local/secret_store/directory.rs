//! The directory of secrets: who may touch it, one lock for all who do, and records that are replaced whole.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use zeroize::Zeroizing;

use crate::local::error::failed;
use crate::local::file_operations::{FILE_MODE, FileOperations, Place, make_and_open, open_root};
use crate::{Error, ErrorKind, Result, SecretName};

const NAME: &str = "secrets";
/// The record being written. No secret is called so, and only the holder of the lock writes it.
const NEW: &str = ".new";
/// How long a change waits for another one, of this process or another.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Where the directory is, and how it is changed.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) root: PathBuf,
    pub(super) operations: Arc<dyn FileOperations>,
    /// The directory whose name is known to be durable, by device and inode.
    durable: Mutex<Option<(u64, u64)>>,
}

/// The directory, opened for one operation. Everything below it is reached through this descriptor, so that nobody
/// who swaps the path meanwhile can lead a read or a write elsewhere.
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    operations: Arc<dyn FileOperations>,
    operation: &'static str,
    identity: (u64, u64),
}

/// The right to change records, until dropped.
pub(super) struct Locked(Directory);

impl Home {
    pub(super) fn new(root: PathBuf, operations: Arc<dyn FileOperations>) -> Self {
        Self { root, operations, durable: Mutex::default() }
    }

    fn path(&self) -> PathBuf {
        self.root.join(NAME)
    }

    /// Whether nobody else can put another directory in the place of the one with the secrets. The path to the root
    /// may go through symbolic links: it is the operator's word.
    fn check_root(&self, root: &OwnedFd, operation: &'static str) -> Result<()> {
        let denied = |problem: String| Error::new(ErrorKind::PermissionDenied, operation, self.root.display(), problem);
        let stat = rustix::fs::fstat(root)
            .map_err(|error| failed(operation, self.root.display(), "the root cannot be used", error.into()))?;
        let own = rustix::process::geteuid().as_raw();
        // Root may do everything anyway.
        if stat.st_uid != own && stat.st_uid != 0 {
            return Err(denied(format!("the root of the secrets belongs to another user ({})", stat.st_uid)));
        }
        if stat.st_mode & 0o022 != 0 {
            let mode = stat.st_mode & 0o7777;
            let message = format!("others can write to the root of the secrets (mode {mode:o}); make it 0755 or less");
            return Err(denied(message));
        }
        Ok(())
    }

    /// The directory, made if it is missing. Its name is durable, also if somebody else has made it who did not come
    /// to that.
    fn make(&self, operation: &'static str) -> Result<Directory> {
        let cannot = |error| failed(operation, self.path().display(), "the directory of secrets cannot be made", error);
        let root = open_root(&*self.operations, &self.root).map_err(cannot)?;
        self.check_root(&root, operation)?;
        let place = Place { directory: root.as_fd(), name: NAME };
        make_and_open(&*self.operations, place).map_err(cannot)?;
        let made = Directory::open(self, operation)?.ok_or_else(|| cannot(io::ErrorKind::NotFound.into()))?;
        *self.durable.lock().unwrap_or_else(PoisonError::into_inner) = Some(made.identity);
        Ok(made)
    }

    fn is_durable(&self, directory: &Directory) -> bool {
        *self.durable.lock().unwrap_or_else(PoisonError::into_inner) == Some(directory.identity)
    }
}

impl Directory {
    /// Opens the directory if it is there.
    pub(super) fn open(home: &Home, operation: &'static str) -> Result<Option<Self>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match retry_on_intr(|| rustix::fs::open(&home.root, flags, Mode::empty())) {
            Ok(root) => root,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => {
                return Err(failed(operation, home.root.display(), "the root cannot be opened", error.into()));
            }
        };
        home.check_root(&root, operation)?;
        let path = home.path();
        match retry_on_intr(|| rustix::fs::openat(&root, NAME, DIRECTORY, Mode::empty())) {
            Ok(fd) => Self::checked(fd, path, Arc::clone(&home.operations), operation).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let message = "the directory of secrets is a symbolic link, or no directory";
                Err(Error::new(ErrorKind::PermissionDenied, operation, path.display(), message))
            }
            Err(error) => {
                Err(failed(operation, path.display(), "the directory of secrets cannot be opened", error.into()))
            }
        }
    }

    /// Refuses a directory that somebody else can change.
    fn checked(
        fd: OwnedFd,
        path: PathBuf,
        operations: Arc<dyn FileOperations>,
        operation: &'static str,
    ) -> Result<Self> {
        let stat = rustix::fs::fstat(&fd).map_err(|error| {
            failed(operation, path.display(), "the directory of secrets cannot be used", error.into())
        })?;
        let problem = if stat.st_mode & 0o022 != 0 {
            format!("others can write to the directory of secrets (mode {:o}); make it 0700", stat.st_mode & 0o7777)
        } else if stat.st_uid != rustix::process::geteuid().as_raw() {
            format!("the directory of secrets belongs to another user ({})", stat.st_uid)
        } else {
            return Ok(Self { fd, path, operations, operation, identity: (stat.st_dev, stat.st_ino) });
        };
        Err(Error::new(ErrorKind::PermissionDenied, operation, path.display(), problem))
    }

    /// Opens the directory, making it if it is missing, and waits for the right to change records.
    pub(super) fn lock(home: &Home, operation: &'static str) -> Result<Locked> {
        let directory = match Self::open(home, operation)? {
            Some(directory) if home.is_durable(&directory) => directory,
            _ => home.make(operation)?,
        };
        let begun = Instant::now();
        let mut wait = Duration::from_micros(100);
        while !directory.try_flock()? {
            if begun.elapsed() >= LOCK_PATIENCE {
                let message = format!("another process has held the lock for {} s", LOCK_PATIENCE.as_secs());
                return Err(Error::new(ErrorKind::Timeout, operation, directory.path.display(), message));
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(Duration::from_millis(2));
        }
        Ok(Locked(directory))
    }

    /// The right to change records if nobody else has it.
    pub(super) fn try_lock(self) -> Result<Option<Locked>> {
        Ok(if self.try_flock()? { Some(Locked(self)) } else { None })
    }

    /// The bytes of a record. They never change in place, so a reader needs no lock.
    pub(super) fn read(&self, name: &SecretName) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match retry_on_intr(|| rustix::fs::openat(&self.fd, name.as_str(), flags, Mode::empty())) {
            Ok(fd) => std::fs::File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.error(name, error.into())),
        };
        let read = file.metadata().and_then(|meta| {
            if !meta.is_file() {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            }
            // Room for all, so that no copy stays behind in a buffer that was outgrown.
            let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(usize::MAX)));
            (&file).take(meta.len()).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        read.map(Some).map_err(|error| self.error(name, error))
    }

    /// The names that have a record, in byte order.
    pub(super) fn names(&self, prefix: &str) -> Result<Vec<SecretName>> {
        let listed = retry_on_intr(|| rustix::fs::Dir::read_from(&self.fd)).and_then(|entries| {
            let mut names = Vec::new();
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_str().ok().filter(|name| name.starts_with(prefix));
                names.extend(name.and_then(|name| SecretName::new(name).ok()));
            }
            Ok(names)
        });
        let mut names = listed.map_err(|error| self.trouble(error))?;
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn path_of(&self, name: &SecretName) -> PathBuf {
        self.path.join(name.as_str())
    }

    fn try_flock(&self) -> Result<bool> {
        match rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
            Err(error) => Err(self.trouble(error)),
        }
    }

    fn trouble(&self, error: Errno) -> Error {
        failed(self.operation, self.path.display(), "the directory of secrets cannot be used", error.into())
    }

    fn error(&self, name: &SecretName, source: io::Error) -> Error {
        failed(self.operation, self.path_of(name).display(), "the file operation failed", source)
    }
}

impl std::ops::Deref for Locked {
    type Target = Directory;

    fn deref(&self) -> &Directory {
        &self.0
    }
}

impl Locked {
    /// Replaces a record whole, durably when this returns.
    pub(super) fn write(&self, name: &SecretName, bytes: &[u8]) -> Result<()> {
        let written =
            self.write_new(bytes).and_then(|()| self.operations.rename(self.place(NEW), self.place(name.as_str())));
        if let Err(error) = written {
            // What cannot be removed now is removed by the next write.
            let _ = self.operations.remove_file(self.place(NEW));
            return Err(self.error(name, error));
        }
        self.sync(name)
    }

    /// Removes a record, durably when this returns.
    pub(super) fn remove(&self, name: &SecretName) -> Result<()> {
        match self.operations.remove_file(self.place(name.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error(name, error)),
            _ => self.sync(name),
        }
    }

    fn write_new(&self, bytes: &[u8]) -> io::Result<()> {
        match self.operations.remove_file(self.place(NEW)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.operations.create(self.place(NEW), FILE_MODE)?;
        self.operations.write_at(&file, bytes, 0)?;
        self.operations.sync_file(&file)
    }

    /// Makes the names durable. They have changed already, so a failure leaves it open what a crash would find.
    fn sync(&self, name: &SecretName) -> Result<()> {
        self.operations.sync_directory(self.fd.as_fd()).map_err(|error| self.error(name, error).into_indeterminate())
    }

    fn place<'a>(&'a self, name: &'a str) -> Place<'a> {
        Place { directory: self.fd.as_fd(), name }
    }
}
