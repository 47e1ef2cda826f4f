use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::{Crc32c, ObjectStore, PutOptions, PutResult};
use crate::transfer::Task;
use crate::{Error, ErrorKind, ObjectKey, Result};

/// How an upload wants its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRules {
    /// The least that a part, other than the last, may hold.
    pub min_bytes: u64,
    /// Parts other than the last are a multiple of this.
    pub multiple_of: u64,
    /// The most that a part may hold.
    pub max_bytes: u64,
    /// The most parts that an object may have.
    pub max_parts: u32,
    /// Parts may be under way at the same time; otherwise one must end before the next is polled.
    pub parallel: bool,
}

impl PartRules {
    /// A size for the part of this number (from 0), so that an object of unknown size never runs out of parts:
    /// `base` for the first thousand, twice that for the next, and so on, within the rules.
    #[must_use]
    pub fn part_bytes(&self, base: u64, number: u32) -> u64 {
        let doublings = (number / 1000).min(16);
        let size = base.max(self.min_bytes).saturating_mul(1 << doublings).min(self.max_bytes);
        (size - size % self.multiple_of).max(self.multiple_of)
    }
}

/// An upload in parts that has begun.
///
/// Only [`finish`](Self::finish) publishes. Dropping it cleans up as well as can be; [`abort`](Self::abort) cleans up
/// and says whether it could.
#[async_trait]
pub trait Upload: fmt::Debug + Send + 'static {
    /// How the parts must be cut.
    fn rules(&self) -> PartRules;

    /// Takes the next part; the object is the parts in the order of these calls. The future sends it, retries
    /// included, and may be run on any task. All must have succeeded before [`finish`](Self::finish).
    ///
    /// # Errors
    /// Of the future: `InvalidInput` for a part that breaks the rules, `TooLarge` for one part too many, and those of
    /// [`ObjectStore::put`]. After an error the upload can only be aborted.
    fn put_part(&mut self, part: Bytes) -> BoxFuture<'static, Result<()>>;

    /// Publishes the parts as one object, if the precondition holds; all or nothing.
    ///
    /// `crc32c` is the checksum of the whole, which the store verifies where it can.
    ///
    /// # Errors
    /// As for [`ObjectStore::put`]. On a definite error the upload is cleaned up.
    async fn finish(self: Box<Self>, crc32c: Crc32c) -> Result<PutResult>;

    /// Throws the upload away.
    ///
    /// # Errors
    /// When what was stored could not be removed now; it is then left to
    /// [`abort_stale_uploads`](ObjectStore::abort_stale_uploads).
    async fn abort(self: Box<Self>) -> Result<()>;
}

/// How far a long transfer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Bytes done.
    pub bytes: u64,
    /// Bytes in all, where that is known.
    pub total: Option<u64>,
    /// Bytes a second since the beginning.
    pub rate: f64,
}

/// Is told of progress, from time to time and once at the end. Must return quickly.
pub type ProgressCallback = Arc<dyn Fn(Progress) + Send + Sync>;

/// Counts bytes and tells the callback.
pub(crate) struct Meter {
    callback: Option<ProgressCallback>,
    total: Option<u64>,
    begun: Instant,
    bytes: u64,
}

impl Meter {
    pub(crate) fn new(callback: Option<ProgressCallback>, total: Option<u64>) -> Self {
        Self { callback, total, begun: Instant::now(), bytes: 0 }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(callback) = &self.callback {
            let seconds = self.begun.elapsed().max(Duration::from_millis(1)).as_secs_f64();
            callback(Progress { bytes: self.bytes, total: self.total, rate: self.bytes as f64 / seconds });
        }
    }
}

/// Writes an object of unknown size in bounded memory, in parts that travel at the same time where that is possible.
///
/// What fits in one part is sent as one request when finished. Memory is at most `(parallel + 1)` parts of the size that
/// was set: parts grow with the object, and as they do fewer travel at once. Nothing is published unless [`finish`](Self::finish) succeeds; dropping the writer throws the upload away.
#[derive(Debug)]
pub struct ObjectWriter<S: ObjectStore + ?Sized> {
    store: Arc<S>,
    key: ObjectKey,
    options: PutOptions,
    part_bytes: u64,
    parallel: usize,
    buffer: BytesMut,
    /// A part that waits for more to come: alone it would be an object of one request.
    full: Bytes,
    crc: Crc32c,
    parts: u32,
    upload: Option<Box<dyn Upload>>,
    sending: FuturesUnordered<Task<u64>>,
    /// The bytes of the parts that travel.
    travelling: u64,
    failed: bool,
}

/// The size of a part unless the caller says otherwise: the least that
/// [S3 takes](https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html), so that many travel at once.
pub(super) const DEFAULT_PART_BYTES: u64 = 5 * 1024 * 1024;
/// Up to here the buffer grows as it fills.
const SMALL_BYTES: u64 = 256 * 1024;
/// How many parts travel at once unless the caller says otherwise: with the one being filled, 60 MiB.
pub(super) const DEFAULT_PARALLEL: usize = 11;

impl<S: ObjectStore + ?Sized> ObjectWriter<S> {
    /// A writer for `key`. No request is made before the first part is full or the writer is finished.
    pub fn new(store: Arc<S>, key: ObjectKey, options: PutOptions) -> Self {
        Self {
            store,
            key,
            options,
            part_bytes: DEFAULT_PART_BYTES,
            parallel: DEFAULT_PARALLEL,
            buffer: BytesMut::new(),
            full: Bytes::new(),
            crc: Crc32c(0),
            parts: 0,
            upload: None,
            sending: FuturesUnordered::new(),
            travelling: 0,
            failed: false,
        }
    }

    /// Sets the size of the first parts and how many travel at once.
    #[must_use]
    pub fn with_parts(mut self, part_bytes: u64, parallel: usize) -> Self {
        self.part_bytes = part_bytes.max(1);
        self.parallel = parallel.max(1);
        self
    }

    /// Adds bytes at the end. Waits while as much as the memory allows is under way.
    ///
    /// # Errors
    /// As for [`ObjectStore::put`]. After an error every further call fails.
    pub async fn write(&mut self, bytes: impl Into<Bytes> + Send) -> Result<()> {
        let mut bytes = bytes.into();
        self.check()?;
        while !bytes.is_empty() {
            if !self.full.is_empty() {
                // More comes, so that it is not the only part.
                let part = std::mem::take(&mut self.full);
                self.send_part(part, false).await?;
                continue;
            }
            let target = self.target();
            if self.buffer.is_empty() && bytes.len() >= target {
                self.full = bytes.split_to(target);
                continue;
            }
            let taken = bytes.split_to(bytes.len().min(target.saturating_sub(self.buffer.len()).max(1)));
            if taken.len() > self.buffer.capacity() - self.buffer.len() && !self.is_first() {
                // At once, rather than by doubling, which moves everything each time.
                self.buffer.reserve(target.saturating_sub(self.buffer.len()).max(taken.len()));
            }
            self.buffer.extend_from_slice(&taken);
            if self.buffer.len() >= target {
                self.full = self.buffer.split().freeze();
            }
        }
        Ok(())
    }

    /// Sends what is left and publishes the object.
    ///
    /// # Errors
    /// As for [`ObjectStore::put`]; nothing was published then, unless the error is `Indeterminate`.
    pub async fn finish(mut self) -> Result<PutResult> {
        self.check()?;
        let full = std::mem::take(&mut self.full);
        if self.upload.is_none() {
            let body = if full.is_empty() { self.buffer.split().freeze() } else { full };
            return self.store.put(&self.key, body, self.options.clone()).await;
        }
        if !full.is_empty() {
            self.send_part(full, false).await?;
        }
        if !self.buffer.is_empty() {
            let part = self.buffer.split().freeze();
            self.send_part(part, true).await?;
        }
        while let Some(sent) = self.sending.next().await {
            self.note(sent)?;
        }
        match self.upload.take() {
            Some(upload) => upload.finish(self.crc).await,
            None => Err(self.unusable()),
        }
    }

    /// Throws away what was written.
    ///
    /// # Errors
    /// As for [`Upload::abort`].
    pub async fn abort(mut self) -> Result<()> {
        self.sending.clear();
        match self.upload.take() {
            Some(upload) => upload.abort().await,
            None => Ok(()),
        }
    }

    fn target(&self) -> usize {
        let bytes = match &self.upload {
            Some(upload) => upload.rules().part_bytes(self.part_bytes, self.parts),
            None => self.part_bytes,
        };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Whether this may still become a small object, for which no room is made in advance.
    fn is_first(&self) -> bool {
        self.upload.is_none() && (self.buffer.len() as u64) < SMALL_BYTES
    }

    async fn send_part(&mut self, mut part: Bytes, last: bool) -> Result<()> {
        let rules = match &self.upload {
            Some(upload) => upload.rules(),
            None => {
                let started = self.store.start_upload(&self.key, self.options.clone()).await;
                let upload = started.inspect_err(|_| self.failed = true)?;
                self.upload.insert(upload).rules()
            }
        };
        let cut = usize::try_from(rules.part_bytes(self.part_bytes, self.parts)).unwrap_or(usize::MAX);
        if !last && part.len() != cut {
            // It was cut before the rules were known.
            let rest = part.split_off(cut.min(part.len()));
            if rest.is_empty() && part.len() < cut {
                self.buffer.extend_from_slice(&part);
                return Ok(());
            }
            self.buffer.extend_from_slice(&rest);
        }
        let bytes = part.len() as u64;
        let most = if rules.parallel { self.part_bytes.saturating_mul(self.parallel as u64) } else { 0 };
        while self.travelling > 0 && self.travelling + bytes > most {
            if let Some(sent) = self.sending.next().await {
                self.note(sent)?;
            }
        }
        self.crc = self.crc.append(&part);
        let Some(upload) = &mut self.upload else { return Err(self.unusable()) };
        self.parts += 1;
        // Travels while the next one is filled.
        let sending = upload.put_part(part);
        self.travelling += bytes;
        self.sending.push(Task::spawn(async move {
            sending.await?;
            Ok(bytes)
        }));
        Ok(())
    }

    fn note(&mut self, sent: Result<u64>) -> Result<()> {
        self.travelling -= sent.inspect_err(|_| self.failed = true)?;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.failed { Err(self.unusable()) } else { Ok(()) }
    }

    fn unusable(&self) -> Error {
        let subject = self.store.uri(&self.key);
        Error::new(ErrorKind::InvalidInput, "object_store.write", subject, "an earlier part of this upload failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_sizes_grow_so_that_the_largest_object_fits() {
        let gib = 1 << 30;
        let s3 =
            PartRules { min_bytes: 5 << 20, multiple_of: 1, max_bytes: 5 * gib, max_parts: 10_000, parallel: true };
        let total: u64 = (0..s3.max_parts).map(|number| s3.part_bytes(DEFAULT_PART_BYTES, number)).sum();
        assert!(total > 4_900 * gib, "{} GiB", total / gib);
        let gcs = PartRules { min_bytes: 1, multiple_of: 256 << 10, ..s3 };
        assert_eq!(gcs.part_bytes(300_000, 0), 262_144);
    }
}
