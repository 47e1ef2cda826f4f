//! A bucket in memory that counts the ranges asked of it. Only what the formats use.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use std::sync::Arc;

use crate::object_store::*;
use crate::{Error, ErrorKind, ObjectKey, Result, TransferPolicy, WriteId};

/// Which bytes were read, and how they were asked for.
pub(super) type Read = (std::ops::Range<u64>, GetOptions);

#[derive(Clone, Debug, Default)]
pub(super) struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<ObjectKey, (Bytes, ObjectMeta)>>>,
    gets: Arc<Mutex<Vec<Read>>>,
    largest_part: Arc<Mutex<usize>>,
}

impl MemoryStore {
    /// The reads since the last call.
    #[allow(dead_code, reason = "not with every set of features")]
    pub(super) fn take_gets(&self) -> Vec<Read> {
        std::mem::take(&mut self.gets.lock().unwrap())
    }

    /// The largest part that an upload was given.
    #[allow(dead_code, reason = "not with every set of features")]
    pub(super) fn largest_part(&self) -> usize {
        *self.largest_part.lock().unwrap()
    }

    fn store(&self, key: &ObjectKey, body: Bytes, options: PutOptions) -> PutResult {
        let write_id = options.write_id.unwrap_or_else(WriteId::random);
        let meta = ObjectMeta {
            key: key.clone(),
            size: body.len() as u64,
            version: Version::new("memory", write_id.as_str()),
            last_modified: SystemTime::now(),
            crc32c: Some(Crc32c::of(&body)),
            headers: options.headers,
            metadata: options.metadata,
            write_id: Some(write_id.clone()),
            storage_class: None,
        };
        let result = PutResult { version: meta.version.clone(), write_id, crc32c: meta.crc32c };
        self.objects.lock().unwrap().insert(key.clone(), (body, meta));
        result
    }

    fn find(&self, key: &ObjectKey) -> Result<(Bytes, ObjectMeta)> {
        let found = self.objects.lock().unwrap().get(key).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "object_store.get", key, "there is no such object"))
    }
}

fn unused<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "memory", "", "the formats do not use this"))
}

#[async_trait]
impl ObjectStore for MemoryStore {
    fn uri(&self, key: &ObjectKey) -> ObjectUri {
        ObjectUri { scheme: Scheme::Local, bucket: "memory".to_owned(), key: key.clone() }
    }

    fn capabilities(&self) -> &ObjectCapabilities {
        const { &ObjectCapabilities { parallel_parts: true, ..ObjectCapabilities::LEAST } }
    }

    fn transfer(&self) -> TransferPolicy {
        TransferPolicy::default()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, options: PutOptions) -> Result<PutResult> {
        Ok(self.store(key, body, options))
    }

    async fn start_upload(&self, key: &ObjectKey, options: PutOptions) -> Result<Box<dyn Upload>> {
        Ok(Box::new(MemoryUpload { store: self.clone(), key: key.clone(), options, body: BytesMut::new() }))
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let (body, meta) = self.find(key)?;
        if options.if_match.as_ref().is_some_and(|version| *version != meta.version) {
            return Err(Error::new(ErrorKind::PreconditionFailed, "object_store.get", key, "another version"));
        }
        let range = match options.range {
            None => 0..meta.size,
            Some(range) => range
                .resolve(meta.size)
                .ok_or_else(|| Error::new(ErrorKind::RangeNotSatisfiable, "object_store.get", key, ""))?,
        };
        self.gets.lock().unwrap().push((range.clone(), options));
        let piece = body.slice(range.start as usize..range.end as usize);
        // Small chunks, as a network would bring them.
        let chunks: Vec<_> = piece.chunks(1000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        Ok(GetResult { meta, range, body: ByteStream::new(stream::iter(chunks)) })
    }

    async fn head(&self, key: &ObjectKey, _options: HeadOptions) -> Result<ObjectMeta> {
        Ok(self.find(key)?.1)
    }

    fn list(&self, _options: ListOptions) -> BoxStream<'static, Result<ListEntry>> {
        stream::empty().boxed()
    }

    async fn delete(&self, _key: &ObjectKey, _options: DeleteOptions) -> Result<()> {
        unused()
    }

    async fn delete_many(&self, _keys: Vec<ObjectKey>) -> Vec<(ObjectKey, Result<()>)> {
        Vec::new()
    }

    async fn copy(&self, _from: &ObjectKey, _to: &ObjectKey, _options: CopyOptions) -> Result<PutResult> {
        unused()
    }

    async fn sign(&self, _key: &ObjectKey, _options: SignOptions) -> Result<SignedRequest> {
        unused()
    }

    async fn abort_stale_uploads(&self, _older_than: Duration) -> Result<StaleUploads> {
        unused()
    }
}

#[derive(Debug)]
struct MemoryUpload {
    store: MemoryStore,
    key: ObjectKey,
    options: PutOptions,
    body: BytesMut,
}

#[async_trait]
impl Upload for MemoryUpload {
    fn rules(&self) -> PartRules {
        PartRules { min_bytes: 1, multiple_of: 1, max_bytes: u64::MAX, max_parts: u32::MAX, parallel: true }
    }

    fn put_part(&mut self, part: Payload) -> BoxFuture<'static, Result<Crc32c>> {
        let crc = part.crc32c();
        let part = part.into_bytes();
        let mut largest = self.store.largest_part.lock().unwrap();
        *largest = part.len().max(*largest);
        self.body.extend_from_slice(&part);
        Box::pin(std::future::ready(Ok(crc)))
    }

    fn setbacks(&self) -> u64 {
        0
    }

    async fn finish(self: Box<Self>, crc32c: Crc32c) -> Result<PutResult> {
        assert_eq!(Crc32c::of(&self.body), crc32c);
        Ok(self.store.store(&self.key, self.body.freeze(), self.options))
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
