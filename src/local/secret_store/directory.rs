//! The directory of secrets: who may touch it, one lock for all who do, and records that are replaced whole.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Result, SecretName, files};

/// The record being written. No secret is called so, and only the holder of the lock writes it.
const NEW: &str = ".new";
/// How long a change waits for another one, of this process or another.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directory, opened for one operation. Everything below it is reached through this descriptor, so that nobody
/// who swaps the path meanwhile can lead a read or a write elsewhere.
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    operation: &'static str,
}

/// The right to change records, until dropped.
pub(super) struct Locked(Directory);

impl Directory {
    /// Opens the directory if it is there.
    pub(super) fn open(root: &Path, operation: &'static str) -> Result<Option<Self>> {
        let path = root.join("secrets");
        let opened = rustix::fs::open(&path, DIRECTORY, Mode::empty()).or_else(|error| match error {
            Errno::ACCESS => {
                give_owner_access(&path)?;
                rustix::fs::open(&path, DIRECTORY, Mode::empty()).map_err(io::Error::from)
            }
            other => Err(other.into()),
        });
        match opened {
            Ok(fd) => {
                let directory = Self { fd, path, operation };
                directory.check_owner()?;
                Ok(Some(directory))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::LOOP | Errno::NOTDIR)) => {
                let message = "the directory of secrets is a symbolic link, or no directory";
                Err(Error::new(ErrorKind::PermissionDenied, operation, path.display(), message))
            }
            Err(error) => Err(files::error(operation, &path, error)),
        }
    }

    /// Opens the directory, making it if it is missing, and waits for the right to change records.
    pub(super) fn lock(root: &Path, operation: &'static str) -> Result<Locked> {
        let directory = match Self::open(root, operation)? {
            Some(directory) => directory,
            None => {
                make(root).map_err(|error| files::error(operation, root, error))?;
                Self::open(root, operation)?.ok_or_else(|| {
                    files::error(operation, &root.join("secrets"), io::Error::from(io::ErrorKind::NotFound))
                })?
            }
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
        let file = match rustix::fs::openat(&self.fd, name.as_str(), flags, Mode::empty()) {
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
        let listed = rustix::fs::Dir::read_from(&self.fd).and_then(|entries| {
            let mut names = Vec::new();
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_str().ok().filter(|name| name.starts_with(prefix));
                names.extend(name.and_then(|name| SecretName::new(name).ok()));
            }
            Ok(names)
        });
        let mut names = listed.map_err(|error| files::error(self.operation, &self.path, error.into()))?;
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
            Err(error) => Err(files::error(self.operation, &self.path, error.into())),
        }
    }

    fn check_owner(&self) -> Result<()> {
        let stat =
            rustix::fs::fstat(&self.fd).map_err(|error| files::error(self.operation, &self.path, error.into()))?;
        let problem = if stat.st_mode & 0o022 != 0 {
            format!("others can write to the directory of secrets (mode {:o}); make it 0700", stat.st_mode & 0o7777)
        } else if stat.st_uid != rustix::process::geteuid().as_raw() {
            format!("the directory of secrets belongs to another user ({})", stat.st_uid)
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::PermissionDenied, self.operation, self.path.display(), problem))
    }

    fn error(&self, name: &SecretName, source: io::Error) -> Error {
        files::error(self.operation, &self.path_of(name), source)
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
        let written = self
            .write_new(bytes)
            .and_then(|()| rustix::fs::renameat(&self.fd, NEW, &self.fd, name.as_str()).map_err(io::Error::from));
        if let Err(error) = written {
            // What cannot be removed now is removed by the next write.
            let _ = rustix::fs::unlinkat(&self.fd, NEW, AtFlags::empty());
            return Err(self.error(name, error));
        }
        self.sync(name)
    }

    /// Removes a record, durably when this returns.
    pub(super) fn remove(&self, name: &SecretName) -> Result<()> {
        match rustix::fs::unlinkat(&self.fd, name.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => self.sync(name),
            Err(error) => Err(self.error(name, error.into())),
        }
    }

    fn write_new(&self, bytes: &[u8]) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, NEW, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat(&self.fd, NEW, flags, mode)?;
        // A umask may have taken the owner's own rights away.
        rustix::fs::fchmod(&fd, mode)?;
        let mut file = std::fs::File::from(fd);
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Makes the names durable. They have changed already, so a failure leaves it open what a crash would find.
    fn sync(&self, name: &SecretName) -> Result<()> {
        rustix::fs::fsync(&self.fd).map_err(|error| self.error(name, error.into()).into_indeterminate())
    }
}

fn make(root: &Path) -> io::Result<()> {
    let parent = root.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    make_one(root, 0o755)?;
    make_one(&root.join("secrets"), 0o700)?;
    for directory in [root, parent] {
        std::fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn make_one(path: &Path, mode: u32) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => give_owner_access(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives the owner of a directory the rights that a umask took away; others get none.
fn give_owner_access(path: &Path) -> io::Result<()> {
    let meta = std::fs::symlink_metadata(path)?;
    let mode = meta.mode() & 0o7777;
    if !meta.is_dir() || mode & 0o700 == 0o700 {
        return Ok(());
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | 0o700))
}
