//! Lane B′: stores with the bugs that users of other libraries have met, each of which the judge must catch.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anycloud::object_store::{
    CopyOptions, DeleteOptions, GetOptions, GetResult, HeadOptions, ListEntry, ListOptions, ObjectCapabilities,
    ObjectMeta, ObjectUri, PutResult, SignOptions, SignedRequest, StaleUploads, Upload,
};
use anycloud::{Error, ErrorKind, ObjectKey, ObjectStore, PutMode, PutOptions, Result, TransferPolicy};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The answer of a creation gets lost, and the second attempt's refusal is taken for the truth.
    BlindCreateRetry,
    /// Comparing and swapping are two requests.
    NonAtomicSwap,
    /// The first attempt arrives once more, after the call ended.
    DelayedDuplicate,
    /// A conflict among writers is reported as an object that exists.
    ConflictAsExists,
    /// Each attempt has an id of its own, so that what the first one wrote is not recognised.
    IdPerAttempt,
    /// A page of a listing gets lost.
    DroppedPage,
}

pub(crate) const BUGS: [Bug; 6] = [
    Bug::BlindCreateRetry,
    Bug::NonAtomicSwap,
    Bug::DelayedDuplicate,
    Bug::ConflictAsExists,
    Bug::IdPerAttempt,
    Bug::DroppedPage,
];

#[derive(Debug)]
pub(crate) struct Planted {
    inner: Arc<dyn ObjectStore>,
    bug: Bug,
    random: Mutex<fastrand::Rng>,
}

impl Planted {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, bug: Bug, seed: u64) -> Self {
        Self { inner, bug, random: Mutex::new(fastrand::Rng::with_seed(seed)) }
    }

    fn strikes(&self) -> bool {
        self.random.lock().expect("no panic before").u8(..10) < 3
    }
}

#[async_trait]
impl ObjectStore for Planted {
    fn uri(&self, key: &ObjectKey) -> ObjectUri {
        self.inner.uri(key)
    }

    fn capabilities(&self) -> &ObjectCapabilities {
        self.inner.capabilities()
    }

    fn transfer(&self) -> TransferPolicy {
        self.inner.transfer()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, options: PutOptions) -> Result<PutResult> {
        match (self.bug, &options.mode) {
            (Bug::BlindCreateRetry, PutMode::Create) | (Bug::IdPerAttempt, PutMode::Replace(_)) if self.strikes() => {
                let _lost = self.inner.put(key, body.clone(), options.clone()).await;
                self.inner.put(key, body, options).await
            }
            (Bug::ConflictAsExists, PutMode::Create) if self.strikes() => {
                Err(Error::new(ErrorKind::AlreadyExists, "object_store.put", key, "409"))
            }
            (Bug::NonAtomicSwap, PutMode::Replace(version)) => {
                let current = self.inner.head(key, HeadOptions::default()).await.ok();
                if current.map(|meta| meta.version).as_ref() != Some(version) {
                    return Err(Error::new(ErrorKind::PreconditionFailed, "object_store.put", key, "412"));
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
                self.inner.put(key, body, PutOptions { mode: PutMode::Overwrite, ..options }).await
            }
            (Bug::DelayedDuplicate, PutMode::Overwrite) if self.strikes() => {
                let (inner, again, once_more) = (self.inner.clone(), key.clone(), body.clone());
                let put = self.inner.put(key, body, options).await;
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(4)).await;
                    let _ = inner.put(&again, once_more, PutOptions::default()).await;
                });
                put
            }
            _ => self.inner.put(key, body, options).await,
        }
    }

    async fn start_upload(&self, key: &ObjectKey, options: PutOptions) -> Result<Box<dyn Upload>> {
        self.inner.start_upload(key, options).await
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        self.inner.get(key, options).await
    }

    async fn head(&self, key: &ObjectKey, options: HeadOptions) -> Result<ObjectMeta> {
        self.inner.head(key, options).await
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<ListEntry>> {
        if self.bug != Bug::DroppedPage || !self.strikes() {
            return self.inner.list(options);
        }
        let entries = self.inner.list(options).enumerate();
        entries.filter_map(async |(place, entry)| (place / 2 != 2).then_some(entry)).boxed()
    }

    async fn delete(&self, key: &ObjectKey, options: DeleteOptions) -> Result<()> {
        self.inner.delete(key, options).await
    }

    async fn delete_many(&self, keys: Vec<ObjectKey>) -> Vec<(ObjectKey, Result<()>)> {
        self.inner.delete_many(keys).await
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey, options: CopyOptions) -> Result<PutResult> {
        self.inner.copy(from, to, options).await
    }

    async fn sign(&self, key: &ObjectKey, options: SignOptions) -> Result<SignedRequest> {
        self.inner.sign(key, options).await
    }

    async fn abort_stale_uploads(&self, older_than: Duration) -> Result<StaleUploads> {
        self.inner.abort_stale_uploads(older_than).await
    }
}
