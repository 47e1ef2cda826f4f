//! A store that serves one object, and breaks off or spoils what it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};

use crate::object_store::{
    ByteStream, CopyOptions, Crc32c, DeleteOptions, GetResult, HeadOptions, ListEntry, ListOptions, ObjectCapabilities,
    ObjectMeta, PutResult, Scheme, SignOptions, SignedRequest, StaleUploads, Upload, Version,
};
use crate::retry::{Retrier, RetryPolicy, Safety};
use crate::{Error, ErrorKind, GetOptions, ObjectKey, ObjectStore, ObjectUri, PutOptions, Result, TransferPolicy};

#[derive(Debug)]
pub(crate) struct Scripted {
    bytes: Bytes,
    crc: Crc32c,
    capabilities: ObjectCapabilities,
    requests: AtomicUsize,
    at_once: Arc<AtomicUsize>,
    most_at_once: AtomicUsize,
    /// How many it serves at the same time before it asks for fewer.
    tolerance: AtomicUsize,
    refusals: AtomicUsize,
    served: Arc<AtomicUsize>,
    /// How many bytes it serves before the network is gone.
    serves: Arc<AtomicUsize>,
    retrier: Retrier,
    break_every: AtomicUsize,
    replaced: AtomicBool,
    spoiled: AtomicBool,
    slow: AtomicBool,
}

impl Scripted {
    pub(crate) fn of_size(size: usize) -> Arc<Self> {
        let capabilities =
            ObjectCapabilities { stored_crc32c: true, parallel_ranges: true, ..ObjectCapabilities::LEAST };
        let bytes: Bytes = (0..size).map(|index| (index * 7 / 3) as u8).collect();
        Arc::new(Self {
            crc: Crc32c::of(&bytes),
            bytes,
            capabilities,
            requests: AtomicUsize::new(0),
            at_once: Arc::default(),
            most_at_once: AtomicUsize::new(0),
            tolerance: AtomicUsize::new(usize::MAX),
            refusals: AtomicUsize::new(0),
            served: Arc::default(),
            serves: Arc::new(AtomicUsize::new(usize::MAX)),
            retrier: Retrier::new(RetryPolicy { max_attempts: 100, budget: 10_000, ..RetryPolicy::default() }),
            break_every: AtomicUsize::new(0),
            replaced: AtomicBool::new(false),
            spoiled: AtomicBool::new(false),
            slow: AtomicBool::new(false),
        })
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// How many bodies are being read.
    pub(crate) fn at_once(&self) -> usize {
        self.at_once.load(Ordering::SeqCst)
    }

    /// The most bodies that were being read at the same time since this was last asked.
    pub(crate) fn most_at_once(&self) -> usize {
        self.most_at_once.swap(0, Ordering::SeqCst)
    }

    /// How many bytes were taken from it.
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// After so many more bytes the network is gone.
    pub(crate) fn break_after(&self, bytes: usize) {
        self.serves.store(self.served().saturating_add(bytes), Ordering::SeqCst);
    }

    /// From now on it answers 503 while so many bodies are being read.
    pub(crate) fn tolerate(&self, at_once: usize) {
        self.tolerance.store(at_once, Ordering::SeqCst);
    }

    /// How many requests it answered with 503.
    pub(crate) fn refusals(&self) -> usize {
        self.refusals.load(Ordering::SeqCst)
    }

    /// Every so many requests one breaks off half-way; every single one breaks off at once.
    pub(crate) fn break_every(&self, count: usize) {
        self.break_every.store(count, Ordering::SeqCst);
    }

    pub(crate) fn replace(&self) {
        self.replaced.store(true, Ordering::SeqCst);
    }

    pub(crate) fn spoil_checksum(&self) {
        self.spoiled.store(true, Ordering::SeqCst);
    }

    /// From now on bytes come at 250 kB/s, so that one connection is not enough.
    pub(crate) fn slow_down(&self) {
        self.slow.store(true, Ordering::SeqCst);
    }

    fn meta(&self, key: &ObjectKey) -> ObjectMeta {
        ObjectMeta {
            key: key.clone(),
            size: self.bytes.len() as u64,
            version: Version::new("scripted", if self.replaced.load(Ordering::SeqCst) { "2" } else { "1" }),
            last_modified: SystemTime::UNIX_EPOCH,
            crc32c: Some(if self.spoiled.load(Ordering::SeqCst) { Crc32c(!self.crc.0) } else { self.crc }),
            headers: Default::default(),
            metadata: Default::default(),
            write_id: None,
            storage_class: None,
        }
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, "scripted", "", "as scripted")
    }
}

/// One body that is being read.
struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The bytes of one answer.
struct Trickle {
    body: Bytes,
    chunk: usize,
    slow: bool,
    _busy: Busy,
    served: Arc<AtomicUsize>,
    serves: Arc<AtomicUsize>,
}

impl Trickle {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.body.is_empty() {
            return None;
        }
        if self.slow {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if self.served.load(Ordering::SeqCst) >= self.serves.load(Ordering::SeqCst) {
            return Some(Err(Error::new(ErrorKind::Unavailable, "scripted", "", "the network is gone")));
        }
        let chunk = self.body.split_to(self.body.len().min(self.chunk));
        self.served.fetch_add(chunk.len(), Ordering::SeqCst);
        Some(Ok(chunk))
    }
}

#[async_trait]
impl ObjectStore for Scripted {
    fn uri(&self, key: &ObjectKey) -> ObjectUri {
        ObjectUri { scheme: Scheme::Local, bucket: "scripted".to_owned(), key: key.clone() }
    }

    fn capabilities(&self) -> &ObjectCapabilities {
        &self.capabilities
    }

    fn transfer(&self) -> TransferPolicy {
        TransferPolicy::default()
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        if options.version.as_ref().is_some_and(|version| *version != self.meta(key).version) {
            return Err(self.error(ErrorKind::NotFound));
        }
        let size = self.bytes.len() as u64;
        let range = match options.range {
            Some(range) => range.resolve(size).ok_or_else(|| self.error(ErrorKind::RangeNotSatisfiable))?,
            None => 0..size,
        };
        let body = self.bytes.slice(range.start as usize..range.end as usize);
        let slow = self.slow.load(Ordering::SeqCst);
        let tolerated = self.retrier.run("scripted", "", Safety::Read, |_| async {
            match self.at_once.load(Ordering::SeqCst) >= self.tolerance.load(Ordering::SeqCst) {
                true => {
                    self.refusals.fetch_add(1, Ordering::SeqCst);
                    Err(self.error(ErrorKind::Unavailable).with_status(503))
                }
                false => Ok(Busy(self.at_once.clone())),
            }
        });
        let busy = tolerated.await?;
        let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        let body = match self.break_every.load(Ordering::SeqCst) {
            1 => ByteStream::new(stream::iter([Err(self.error(ErrorKind::Unavailable))])),
            every if every > 0 && number.is_multiple_of(every) => {
                let half = body.slice(..body.len() / 2);
                self.served.fetch_add(half.len(), Ordering::SeqCst);
                ByteStream::new(stream::iter([Ok(half), Err(self.error(ErrorKind::Unavailable))]))
            }
            _ => {
                let (served, serves) = (Arc::clone(&self.served), Arc::clone(&self.serves));
                // Of large objects more at a time, so that tests take no longer.
                let chunk = if size > 1 << 20 { 64 << 10 } else { 250 };
                let trickle = Trickle { body, chunk, slow, _busy: busy, served, serves };
                ByteStream::new(stream::unfold(trickle, |mut trickle| async move {
                    trickle.next().await.map(|chunk| (chunk, trickle))
                }))
            }
        };
        Ok(GetResult { meta: self.meta(key), range, body })
    }

    async fn put(&self, _: &ObjectKey, _: Bytes, _: PutOptions) -> Result<PutResult> {
        Err(self.error(ErrorKind::Unsupported))
    }

    async fn start_upload(&self, _: &ObjectKey, _: PutOptions) -> Result<Box<dyn Upload>> {
        Err(self.error(ErrorKind::Unsupported))
    }

    async fn head(&self, key: &ObjectKey, _: HeadOptions) -> Result<ObjectMeta> {
        Ok(self.meta(key))
    }

    fn list(&self, _: ListOptions) -> BoxStream<'static, Result<ListEntry>> {
        Box::pin(stream::empty())
    }

    async fn delete(&self, _: &ObjectKey, _: DeleteOptions) -> Result<()> {
        Err(self.error(ErrorKind::Unsupported))
    }

    async fn delete_many(&self, _: Vec<ObjectKey>) -> Vec<(ObjectKey, Result<()>)> {
        Vec::new()
    }

    async fn copy(&self, _: &ObjectKey, _: &ObjectKey, _: CopyOptions) -> Result<PutResult> {
        Err(self.error(ErrorKind::Unsupported))
    }

    async fn sign(&self, _: &ObjectKey, _: SignOptions) -> Result<SignedRequest> {
        Err(self.error(ErrorKind::Unsupported))
    }

    async fn abort_stale_uploads(&self, _: Duration) -> Result<StaleUploads> {
        Err(self.error(ErrorKind::Unsupported))
    }
}
