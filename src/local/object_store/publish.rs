//! The moment at which a change becomes visible: under the key's lock the precondition is judged, one rename changes
//! the name, and the directory is made durable before anybody is told.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

use super::bucket::Bucket;
use super::call::Call;
use super::key_path::KeyPath;
use super::record::{PROVIDER, Record};
use super::temporary::Temporary;
use crate::local::file_operations::Place;
use crate::object_store::{PutMode, PutResult, Version};
use crate::{ErrorKind, Result, WriteId};

/// Gives a complete file the object's name.
pub(super) fn publish(call: &Call, temporary: &Temporary, record: &Record, mode: &PutMode) -> Result<PutResult> {
    let bucket = &*temporary.bucket;
    let path = KeyPath::of(call.key.as_str().as_bytes());
    let lock = bucket.lock_key(&call.key).map_err(|source| call.io("the key could not be locked", source))?;
    let old = bucket.open_object(&path).map_err(|source| call.io("what is there could not be opened", source))?;
    if let Some(ours) = judge(call, mode, old.as_ref(), record.write_id())? {
        // Whoever wrote it may have been killed before it was durable.
        let name = Name::make(call, bucket, &path)?;
        name.sync(bucket).map_err(|source| call.unknown(ours.write_id(), source))?;
        return Ok(ours.put_result());
    }
    let mut attempts = 0;
    let (name, swapped) = loop {
        let name = Name::make(call, bucket, &path)?;
        match give(bucket, temporary, name.place(), old.as_ref()) {
            Ok(swapped) => break (name, swapped),
            // Somebody has removed the directory, which was empty; that it happens again and again is no chance.
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempts < 20 => attempts += 1,
            Err(source) => return Err(call.io("the object could not be given its name", source)),
        }
    };
    if let Err(source) = name.sync(bucket) {
        take_back(bucket, temporary, name.place(), old.is_some(), swapped);
        return Err(call.unknown(record.write_id(), source));
    }
    if swapped {
        // What was replaced has the temporary's name now. Left behind it is found by a sweep.
        let _ = temporary.remove();
    } else {
        temporary.release();
    }
    let _ = flock(&temporary.file, FlockOperation::Unlock);
    drop(lock);
    Ok(record.put_result())
}

/// The name of an object, in its directory.
struct Name<'a> {
    path: &'a KeyPath,
    parent: OwnedFd,
    removals: u64,
}

impl<'a> Name<'a> {
    fn make(call: &Call, bucket: &Bucket, path: &'a KeyPath) -> Result<Self> {
        let removals = bucket.removals();
        let made = removals.and_then(|removals| Ok((removals, bucket.make_parent(path, removals)?)));
        let (removals, parent) = made.map_err(|source| call.io("the directory could not be made", source))?;
        Ok(Self { path, parent, removals })
    }

    fn place(&self) -> Place<'_> {
        Place { directory: self.parent.as_fd(), name: &self.path.file }
    }

    /// Makes the name durable, with all the directories above it.
    fn sync(&self, bucket: &Bucket) -> io::Result<()> {
        bucket.sync_names(self.parent.as_fd())?;
        let removals = bucket.removals()?;
        if removals != self.removals {
            // The directory may have been removed and made anew by somebody who has not come to syncing it.
            bucket.make_parent(self.path, removals)?;
        }
        Ok(())
    }
}

/// Changes what the name stands for; `true` if the old file has the temporary's name now.
fn give(bucket: &Bucket, temporary: &Temporary, target: Place<'_>, old: Option<&File>) -> io::Result<bool> {
    // Locked, so that no sweep takes it while it may have to go back.
    let swapped = match old {
        Some(old) => {
            retry_on_intr(|| flock(old, FlockOperation::NonBlockingLockExclusive)).is_ok()
                && possible(bucket.operations.exchange(temporary.place(), target))?
        }
        None => false,
    };
    if !swapped {
        bucket.operations.rename(temporary.place(), target)?;
    }
    Ok(swapped)
}

/// Shows the state before again. What a power cut would leave is not known any more, so the caller is told that.
fn take_back(bucket: &Bucket, temporary: &Temporary, target: Place<'_>, replaced: bool, swapped: bool) {
    let undone = match (replaced, swapped) {
        (_, true) => bucket.operations.exchange(temporary.place(), target),
        (false, false) => bucket.operations.rename(target, temporary.place()),
        // A file system that cannot swap has lost the old object by now: the new one stays.
        (true, false) => Err(io::ErrorKind::Unsupported.into()),
    };
    if undone.is_err() && !swapped {
        temporary.release();
    }
}

/// Whether the precondition holds; `Some` if this very write is what is there.
fn judge(call: &Call, mode: &PutMode, old: Option<&File>, write_id: Option<&WriteId>) -> Result<Option<Record>> {
    let wanted = match mode {
        PutMode::Overwrite => return Ok(None),
        PutMode::Create => None,
        PutMode::Replace(version) => Some(call.token(version)?),
    };
    let Some(old) = old else {
        return match wanted {
            None => Ok(None),
            Some(_) => Err(call.error(ErrorKind::PreconditionFailed, "there is no object to replace")),
        };
    };
    let current = Record::read(old, &call.key);
    let ours = current.as_ref().is_ok_and(|record| record.write_id().is_some() && record.write_id() == write_id);
    match (wanted, current) {
        (_, Ok(record)) if ours => Ok(Some(record)),
        (None, _) => Err(call.error(ErrorKind::AlreadyExists, "there is an object already")),
        (Some(wanted), Ok(record)) if record.version() == wanted => Ok(None),
        (Some(_), Ok(record)) => Err(call.stale(&record)),
        (Some(_), Err(error)) => Err(call.unreadable(error)),
    }
}

/// Removes an object.
pub(super) fn remove(call: &Call, bucket: &Bucket, if_match: Option<&Version>) -> Result<()> {
    let path = KeyPath::of(call.key.as_str().as_bytes());
    let wanted = if_match.map(|version| call.token(version)).transpose()?;
    let lock = bucket.lock_key(&call.key).map_err(|source| call.io("the key could not be locked", source))?;
    let old = bucket.open_object(&path).map_err(|source| call.io("what is there could not be opened", source))?;
    match (wanted, &old) {
        (None, _) => {}
        (Some(_), None) => return Err(call.error(ErrorKind::PreconditionFailed, "there is no such object")),
        (Some(wanted), Some(old)) => {
            let record = Record::read(old, &call.key).map_err(|error| call.unreadable(error))?;
            if record.version() != wanted {
                return Err(call.stale(&record));
            }
        }
    }
    let parent = bucket.parent(&path).map_err(|source| call.io("the directory could not be opened", source))?;
    let Some(parent) = parent else { return Ok(()) };
    let target = Place { directory: parent.as_fd(), name: &path.file };
    match old {
        // Whoever removed it may not have made that durable.
        None => bucket.sync_names(target.directory).map_err(|source| call.io("the deletion is not durable", source))?,
        Some(old) => remove_file(call, bucket, target, &old)?,
    }
    drop((lock, parent));
    bucket.prune(&path);
    Ok(())
}

fn remove_file(call: &Call, bucket: &Bucket, target: Place<'_>, old: &File) -> Result<()> {
    let aside = crate::random::uuid();
    let aside = Place { directory: bucket.unfinished.as_fd(), name: &aside };
    let _ = flock(old, FlockOperation::NonBlockingLockExclusive);
    let moved = match bucket.operations.rename(target, aside) {
        Ok(()) => true,
        // A full disk must not keep anybody from making room.
        Err(error) if error.raw_os_error() == Some(Errno::NOSPC.raw_os_error()) => {
            let removed = bucket.operations.remove_file(target);
            removed.map_err(|source| call.io("the object could not be removed", source))?;
            false
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(source) => return Err(call.io("the object could not be removed", source)),
    };
    if let Err(source) = bucket.sync_names(target.directory) {
        if moved {
            let _ = bucket.operations.rename(aside, target);
        }
        return Err(call.unknown(None, source));
    }
    if moved {
        let _ = bucket.operations.remove_file(aside);
    }
    Ok(())
}

/// Whether a swap was done, or is not possible on this file system.
fn possible(swapped: io::Result<()>) -> io::Result<bool> {
    match swapped {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOENT) => Ok(false),
            _ => Err(error),
        },
    }
}

impl Call {
    /// The token of a version of this provider.
    pub(super) fn token<'a>(&self, version: &'a Version) -> Result<&'a str> {
        version.token_for(PROVIDER, self.operation, &self.subject)
    }

    fn stale(&self, current: &Record) -> crate::Error {
        let current = Version::new(PROVIDER, current.version());
        self.error(ErrorKind::PreconditionFailed, format!("the current version is {current}"))
    }

    /// The error of a change that is not known to be durable.
    fn unknown(&self, write_id: Option<&WriteId>, source: io::Error) -> crate::Error {
        let error = self.io("the directory could not be synced", source).into_indeterminate();
        match write_id {
            Some(write_id) => error.with_write_id(write_id.clone()),
            None => error,
        }
    }
}
