//! Files on their way to becoming objects.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{Dir, FlockOperation, OFlags, flock};
use rustix::io::{Errno, retry_on_intr};

use super::bucket::Bucket;
use super::record::Record;
use crate::local::file_operations::{FILE_MODE, Place, open_beneath};
use crate::random;

/// Up to here copying the bytes costs less than another call to the system.
const SMALL_BYTES: usize = 64 << 10;

/// A file among the unfinished, locked as long as this lives, and removed when it is dropped unpublished.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) bucket: Arc<Bucket>,
    pub(super) file: File,
    name: String,
    there: AtomicBool,
}

impl Temporary {
    pub(super) fn create(bucket: &Arc<Bucket>) -> io::Result<Self> {
        loop {
            let name = random::uuid();
            let place = Place { directory: bucket.unfinished.as_fd(), name: &name };
            let file = bucket.operations.create(place, FILE_MODE)?;
            let this = Self { bucket: Arc::clone(bucket), file, name, there: AtomicBool::new(true) };
            // A sweep may have come between the two calls.
            if try_lock(&this.file)? && rustix::fs::fstat(&this.file)?.st_nlink > 0 {
                return Ok(this);
            }
        }
    }

    pub(super) fn place(&self) -> Place<'_> {
        Place { directory: self.bucket.unfinished.as_fd(), name: &self.name }
    }

    /// Writes the bytes and the record after them, and makes both durable.
    pub(super) fn fill(&self, body: &[u8], record: &Record) -> io::Result<()> {
        if body.len() > SMALL_BYTES {
            self.bucket.operations.write_at(&self.file, body, 0)?;
            return self.complete(record);
        }
        let whole = [body, &record.trailer()?].concat();
        self.bucket.operations.write_at(&self.file, &whole, 0)?;
        self.bucket.operations.sync_file(&self.file)
    }

    /// Adds the record after the bytes and makes both durable.
    pub(super) fn complete(&self, record: &Record) -> io::Result<()> {
        self.bucket.operations.write_at(&self.file, &record.trailer()?, record.size())?;
        self.bucket.operations.sync_file(&self.file)
    }

    /// Says that the name is another's now, or gone.
    pub(super) fn release(&self) {
        self.there.store(false, Ordering::Release);
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        if self.there.swap(false, Ordering::AcqRel) {
            return self.bucket.operations.remove_file(self.place());
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed now is found by a sweep.
        let _ = self.remove();
    }
}

/// Locks the file unless somebody else has.
fn try_lock(file: &File) -> io::Result<bool> {
    match retry_on_intr(|| flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes what was left unfinished so long ago, unless a living process holds it.
pub(super) fn sweep(bucket: &Bucket, older_than: Duration) -> io::Result<u64> {
    let now = SystemTime::now();
    let mut removed = 0;
    for entry in retry_on_intr(|| Dir::read_from(&bucket.unfinished))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") {
            continue;
        }
        let file: File = match open_beneath(bucket.unfinished.as_fd(), name, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => file.into(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        let age = meta.modified().ok().and_then(|modified| now.duration_since(modified).ok()).unwrap_or_default();
        if !meta.is_file() || age < older_than || !try_lock(&file)? {
            continue;
        }
        match bucket.operations.remove_file(Place { directory: bucket.unfinished.as_fd(), name }) {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}
