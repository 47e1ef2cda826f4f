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
use crate::{Error, ErrorKind, GetOptions, ObjectKey, ObjectStore, ObjectUri, PutOptions, Result};

#[derive(Debug)]
pub(super) struct Scripted {
    bytes: Bytes,
    capabilities: ObjectCapabilities,
    requests: AtomicUsize,
    break_every: AtomicUsize,
    replaced: AtomicBool,
    spoiled: AtomicBool,
    slow: AtomicBool,
}

impl Scripted {
    pub(super) fn of_size(size: usize) -> Arc<Self> {
        let capabilities =
            ObjectCapabilities { stored_crc32c: true, parallel_ranges: true, ..ObjectCapabilities::LEAST };
        Arc::new(Self {
            bytes: (0..size).map(|index| (index * 7 / 3) as u8).collect(),
            capabilities,
            requests: AtomicUsize::new(0),
            break_every: AtomicUsize::new(0),
            replaced: AtomicBool::new(false),
            spoiled: AtomicBool::new(false),
            slow: AtomicBool::new(false),
        })
    }

    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Every so many requests one breaks off half-way; every single one breaks off at once.
    pub(super) fn break_every(&self, count: usize) {
        self.break_every.store(count, Ordering::SeqCst);
    }

    pub(super) fn replace(&self) {
        self.replaced.store(true, Ordering::SeqCst);
    }

    pub(super) fn spoil_checksum(&self) {
        self.spoiled.store(true, Ordering::SeqCst);
    }

    /// From now on bytes come at 250 kB/s, so that one connection is not enough.
    pub(super) fn slow_down(&self) {
        self.slow.store(true, Ordering::SeqCst);
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, "scripted", "", "as scripted")
    }
}

fn trickle(body: Bytes, slow: bool) -> impl futures_util::Stream<Item = Result<Bytes>> + Send + 'static {
    stream::unfold(body, move |mut body| async move {
        if body.is_empty() {
            return None;
        }
        if slow {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let chunk = body.split_to(body.len().min(250));
        Some((Ok(chunk), body))
    })
}

#[async_trait]
impl ObjectStore for Scripted {
    fn uri(&self, key: &ObjectKey) -> ObjectUri {
        ObjectUri { scheme: Scheme::Local, bucket: "scripted".to_owned(), key: key.clone() }
    }

    fn capabilities(&self) -> &ObjectCapabilities {
        &self.capabilities
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let replaced = self.replaced.load(Ordering::SeqCst);
        if replaced && options.version.is_some() {
            return Err(self.error(ErrorKind::NotFound));
        }
        let size = self.bytes.len() as u64;
        let range = match options.range {
            Some(range) => range.resolve(size).ok_or_else(|| self.error(ErrorKind::RangeNotSatisfiable))?,
            None => 0..size,
        };
        let body = self.bytes.slice(range.start as usize..range.end as usize);
        let slow = self.slow.load(Ordering::SeqCst);
        let body = match self.break_every.load(Ordering::SeqCst) {
            1 => ByteStream::new(stream::iter([Err(self.error(ErrorKind::Unavailable))])),
            every if every > 0 && number.is_multiple_of(every) => {
                let half = body.slice(..body.len() / 2);
                ByteStream::new(stream::iter([Ok(half), Err(self.error(ErrorKind::Unavailable))]))
            }
            _ => ByteStream::new(trickle(body, slow)),
        };
        let crc = Crc32c::of(&self.bytes);
        let meta = ObjectMeta {
            key: key.clone(),
            size,
            version: Version::new("scripted", "1"),
            last_modified: SystemTime::UNIX_EPOCH,
            crc32c: Some(if self.spoiled.load(Ordering::SeqCst) { Crc32c(!crc.0) } else { crc }),
            headers: Default::default(),
            metadata: Default::default(),
            write_id: None,
            storage_class: None,
        };
        Ok(GetResult { meta, range, body })
    }

    async fn put(&self, _: &ObjectKey, _: Bytes, _: PutOptions) -> Result<PutResult> {
        Err(self.error(ErrorKind::Unsupported))
    }

    async fn start_upload(&self, _: &ObjectKey, _: PutOptions) -> Result<Box<dyn Upload>> {
        Err(self.error(ErrorKind::Unsupported))
    }

    async fn head(&self, _: &ObjectKey, _: HeadOptions) -> Result<ObjectMeta> {
        Err(self.error(ErrorKind::Unsupported))
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
