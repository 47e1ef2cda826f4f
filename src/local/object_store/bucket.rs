//! The directories of one bucket: opened once, and from then on known by their descriptors, whatever becomes of the
//! paths.
//!
//! `objects` holds the objects, `unfinished` what is being written, `locks` the locks of the keys. The length of
//! `removals` counts how often somebody has set out to remove empty directories: when it changes, what was known of
//! durable directories is forgotten, because one of them may be gone and made anew.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Dir, FlockOperation, OFlags, fstat};

use super::key_path::KeyPath;
use super::syncing::Syncing;
use crate::ObjectKey;
use crate::local::file_operations::{
    FileOperations, Lock, Place, lock, make_and_open, open_beneath, open_directory, open_or_make, open_root,
};
use crate::object_store::Crc32c;

/// So many locks guard all keys.
const LOCKS: u32 = 256;
/// So many directories are remembered as durable.
const MAX_KNOWN: usize = 1 << 16;
const REMOVALS: &str = "removals";

#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) operations: Arc<dyn FileOperations>,
    pub(super) home: OwnedFd,
    pub(super) objects: OwnedFd,
    pub(super) unfinished: OwnedFd,
    locks: OwnedFd,
    removals: File,
    known: Mutex<Known>,
    syncing: Syncing,
}

/// Directories whose names are durable, up to the root.
#[derive(Debug, Default)]
struct Known {
    removals: u64,
    paths: HashSet<String>,
}

impl Bucket {
    /// Opens the bucket, made if it is missing.
    pub(super) fn open(operations: Arc<dyn FileOperations>, root: &Path, name: &str) -> io::Result<Self> {
        let inside =
            |directory: &OwnedFd, name: &str| make_and_open(&*operations, Place { directory: directory.as_fd(), name });
        let root = open_root(&*operations, root)?;
        let all = inside(&root, "objects")?;
        let home = inside(&all, name)?;
        let (objects, unfinished, locks) =
            (inside(&home, "objects")?, inside(&home, "unfinished")?, inside(&home, "locks")?);
        let removals = open_or_make(Place { directory: home.as_fd(), name: REMOVALS })?;
        Ok(Self {
            operations,
            home,
            objects,
            unfinished,
            locks,
            removals,
            known: Mutex::default(),
            syncing: Syncing::default(),
        })
    }

    /// Whether somebody has removed the bucket meanwhile.
    pub(super) fn is_gone(&self) -> bool {
        [&self.objects, &self.unfinished, &self.locks]
            .iter()
            .any(|fd| fstat(fd).map_or(true, |stat| stat.st_nlink == 0))
    }

    /// Opens an object's file; `None` if there is none.
    pub(super) fn open_object(&self, path: &KeyPath) -> io::Result<Option<File>> {
        // Not to wait if it is a pipe.
        match open_beneath(self.objects.as_fd(), &path.path(), OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => Ok(Some(file.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until no other writer of this key is at work.
    pub(super) fn lock_key(&self, key: &ObjectKey) -> io::Result<Lock> {
        let name = format!("{:02x}", Crc32c::of(key.as_str().as_bytes()).0 % LOCKS);
        lock(Place { directory: self.locks.as_fd(), name: &name }, FlockOperation::LockExclusive)
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_names(&self, directory: BorrowedFd<'_>) -> io::Result<()> {
        self.syncing.sync(directory, |directory| self.operations.sync_directory(directory))
    }

    /// How often empty directories were removed, by any process.
    pub(super) fn removals(&self) -> io::Result<u64> {
        Ok(self.removals.metadata()?.len())
    }

    /// The directory that an object lies in, if there is one.
    pub(super) fn parent(&self, path: &KeyPath) -> io::Result<Option<OwnedFd>> {
        match self.open_parent(&path.directory()) {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same, made if it is missing; its name and those above it are durable, unless the number of removals is
    /// another than this by now.
    pub(super) fn make_parent(&self, path: &KeyPath, removals: u64) -> io::Result<OwnedFd> {
        let whole = path.directory();
        if self.is_known(&whole, removals) {
            match self.open_parent(&whole) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened,
            }
        }
        let mut current = self.objects.try_clone()?;
        let mut so_far = String::new();
        for name in &path.directories {
            if !so_far.is_empty() {
                so_far.push('/');
            }
            so_far.push_str(name);
            current = make_and_open(&*self.operations, Place { directory: current.as_fd(), name })?;
            self.remember(&so_far, removals);
        }
        Ok(current)
    }

    /// Removes the directories that an object's removal has left empty. An empty directory does no harm, so there is
    /// nobody to tell of a failure.
    pub(super) fn prune(&self, path: &KeyPath) {
        if !path.directories.is_empty() && matches!(self.parent(path), Ok(Some(directory)) if is_empty(&directory)) {
            let _ = self.try_prune(path);
        }
    }

    fn try_prune(&self, path: &KeyPath) -> io::Result<()> {
        // Two at once would count as one.
        let place = Place { directory: self.home.as_fd(), name: REMOVALS };
        let counter = lock(place, FlockOperation::LockExclusive)?;
        self.operations.write_at(counter.file(), &[0], counter.file().metadata()?.len())?;
        for end in (0..path.directories.len()).rev() {
            let above = self.open_parent(&path.directories[..end].join("/"))?;
            self.operations.remove_directory(Place { directory: above.as_fd(), name: &path.directories[end] })?;
        }
        Ok(())
    }

    fn open_parent(&self, path: &str) -> io::Result<OwnedFd> {
        if path.is_empty() { self.objects.try_clone() } else { open_directory(self.objects.as_fd(), path) }
    }

    fn is_known(&self, path: &str, removals: u64) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.removals < removals || known.paths.len() > MAX_KNOWN {
            *known = Known { removals, paths: HashSet::new() };
        }
        path.is_empty() || (known.removals == removals && known.paths.contains(path))
    }

    fn remember(&self, path: &str, removals: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.removals == removals {
            known.paths.insert(path.to_owned());
        }
    }
}

fn is_empty(directory: &OwnedFd) -> bool {
    let Ok(mut entries) = rustix::io::retry_on_intr(|| Dir::read_from(directory)) else { return false };
    entries.all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")))
}
