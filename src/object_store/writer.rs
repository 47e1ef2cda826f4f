use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::{Crc32c, ObjectStore, PutOptions, PutResult, Upload};
use crate::transfer::{Pool, Pooled, Task};
use crate::{Error, ErrorKind, ObjectKey, Result};

/// Writes an object of unknown size in bounded memory, in parts that travel at the same time where that is possible.
///
/// What fits in one part is sent as one request when finished. Memory is at most `(parallel + 1)` parts of the size that
/// was set: parts grow with the object, and as they do fewer travel at once. Nothing is published unless
/// [`finish`](Self::finish) succeeds; dropping the writer throws the upload away.
#[derive(Debug)]
pub struct ObjectWriter<S: ObjectStore + ?Sized> {
    store: Arc<S>,
    key: ObjectKey,
    options: PutOptions,
    part_bytes: u64,
    parallel: usize,
    pool: Pool,
    buffer: Pooled,
    /// Parts that wait for more to come: alone they would be an object of one request, or one that is not large.
    waiting: VecDeque<Bytes>,
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
const SMALL_BYTES: usize = 256 * 1024;
/// How many parts travel at once unless the caller says otherwise: with the one being filled, 60 MiB.
pub(super) const DEFAULT_PARALLEL: usize = 11;
/// Where parts travel at the same time only if the size is known, so much of an object of unknown size is waited for.
const TELLING_BYTES: u64 = 32 * 1024 * 1024;

impl<S: ObjectStore + ?Sized> ObjectWriter<S> {
    /// A writer for `key`. No request is made before the first part is full or the writer is finished.
    pub fn new(store: Arc<S>, key: ObjectKey, options: PutOptions) -> Self {
        let pool = Pool::default();
        Self {
            store,
            key,
            options,
            part_bytes: DEFAULT_PART_BYTES,
            parallel: DEFAULT_PARALLEL,
            buffer: pool.buffer(0),
            pool,
            waiting: VecDeque::new(),
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
    /// As for [`ObjectStore::put`]. After an error, or a call that was dropped before its end, every further call fails.
    pub async fn write(&mut self, bytes: impl Into<Bytes> + Send) -> Result<()> {
        self.check()?;
        // Dropped midway, nobody knows which bytes are on their way.
        self.failed = true;
        self.take_in(bytes.into()).await?;
        self.failed = false;
        Ok(())
    }

    async fn take_in(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            // More comes, so that what waits is not all.
            if self.upload.is_some() || self.is_time_to_begin() {
                self.send_waiting().await?;
            }
            let target = self.target();
            if self.buffer.is_empty() && bytes.len() >= target {
                self.waiting.push_back(bytes.split_to(target));
                continue;
            }
            let taken = bytes.split_to(bytes.len().min(target.saturating_sub(self.buffer.len()).max(1)));
            let filled = self.buffer.len() + taken.len();
            if filled >= SMALL_BYTES || !self.is_first() {
                self.buffer.reserve_in_all(target.max(filled));
            }
            self.buffer.append(&taken);
            if filled >= target {
                let full = self.take_buffer();
                self.waiting.push_back(full);
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
        if self.upload.is_none() && self.waiting.len() + usize::from(!self.buffer.is_empty()) <= 1 {
            let body = self.waiting.pop_front().unwrap_or_else(|| self.take_buffer());
            return self.store.put(&self.key, body, self.options.clone()).await;
        }
        self.send_waiting().await?;
        if !self.buffer.is_empty() {
            let last = self.take_buffer();
            self.send_part(last).await?;
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

    /// The most bytes that may travel at the same time.
    fn most(&self) -> u64 {
        self.part_bytes.saturating_mul(self.parallel as u64)
    }

    fn waiting_bytes(&self) -> u64 {
        self.waiting.iter().map(|part| part.len() as u64).sum()
    }

    /// Whether enough is known of the object for the provider to choose how to send it.
    fn is_time_to_begin(&self) -> bool {
        let known = self.options.expected_bytes.is_some() || self.store.capabilities().parallel_parts;
        !self.waiting.is_empty() && (known || self.waiting_bytes() >= TELLING_BYTES.min(self.most()))
    }

    /// Whether this may still become a small object, for which no room is made in advance.
    fn is_first(&self) -> bool {
        self.upload.is_none() && self.waiting.is_empty()
    }

    fn take_buffer(&mut self) -> Bytes {
        std::mem::replace(&mut self.buffer, self.pool.buffer(0)).freeze()
    }

    async fn send_waiting(&mut self) -> Result<()> {
        if self.upload.is_none() {
            self.begin().await?;
        }
        while let Some(part) = self.waiting.pop_front() {
            self.send_part(part).await?;
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<()> {
        let so_far = self.waiting_bytes() + self.buffer.len() as u64;
        let expected_bytes = self.options.expected_bytes.or(Some(so_far));
        let options = PutOptions { expected_bytes, ..self.options.clone() };
        let started = self.store.start_upload(&self.key, options).await;
        self.upload = Some(started?);
        let cut = self.target();
        if self.waiting.iter().any(|part| part.len() != cut) {
            self.cut_again(cut);
        }
        Ok(())
    }

    /// Cuts by the rules what was cut before they were known.
    fn cut_again(&mut self, cut: usize) {
        let buffer = self.take_buffer();
        let pieces: Vec<Bytes> = self.waiting.drain(..).chain([buffer]).collect();
        let mut all = Bytes::from(pieces.concat());
        while all.len() >= cut {
            self.waiting.push_back(all.split_to(cut));
        }
        self.buffer.append(&all);
    }

    async fn send_part(&mut self, part: Bytes) -> Result<()> {
        let Some(upload) = &self.upload else { return Err(self.unusable()) };
        let bytes = part.len() as u64;
        let most = if upload.rules().parallel { self.most() } else { 0 };
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
        self.travelling -= sent?;
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
