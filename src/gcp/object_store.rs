//! Objects in one Cloud Storage bucket.
//!
//! Everything goes over HTTP on the crate's own transport, with credentials of the official auth crate, so that the
//! same code serves the real service and emulators, which have no gRPC:
//!
//! - **Writes, listings, metadata, copies and deletions** use the JSON API, whose `ifGenerationMatch` judges
//!   preconditions at any size (multipart uploads of the XML API take none). A put is one multipart request; an upload
//!   in parts is a resumable session or, where the size is known and the bucket fit for it, a temporary object per part
//!   and their composition.
//! - **Reads** use the XML API, whose answers tell everything at once by
//!   [documented headers](https://cloud.google.com/storage/docs/xml-api/reference-headers), so that a read is one
//!   request. The official crate reads by the JSON API's media answers and hands out a selection of their headers
//!   ([`ObjectHighlights`](https://docs.rs/google-cloud-storage/1.21.0/google_cloud_storage/model_ext/struct.ObjectHighlights.html)),
//!   which has the custom metadata, but neither the time of the last change nor `Cache-Control`: a read by it would
//!   need a second request. `Accept-Encoding: gzip` is always sent, so that the stored bytes come as they are stored.
//! - **Deletions of many** travel one by one, side by side. The
//!   [batch endpoint](https://cloud.google.com/storage/docs/batch) takes a hundred in one request, treats each as a
//!   request of its own, and so saves the making of connections only, which are kept here anyway.
//! - **Signed URLs** are made by the official crate.

mod bucket;
mod components;
mod compose;
mod composed;
#[cfg(test)]
mod composed_tests;
mod condition;
mod copy;
mod delete;
mod get;
mod list;
mod put;
mod resource;
mod resumable;
mod sign;
mod suitability;
mod temporaries;
#[cfg(test)]
mod tests;
mod version;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use self::bucket::Bucket;
use super::connection::Connection;
use crate::object_store::{
    CopyOptions, DeleteOptions, GetResult, HeadOptions, ListEntry, ListOptions, ObjectCapabilities, ObjectMeta,
    PutResult, SignOptions, SignedRequest, StaleUploads, TimedUpload, Upload,
};
use crate::retry::Calls;
use crate::{Config, GetOptions, ObjectKey, ObjectStore, ObjectUri, PutOptions, Result, TransferPolicy};

/// One Cloud Storage bucket, or one of an emulator that speaks its JSON and XML APIs. Cheap to clone.
///
/// A [`Version`](crate::object_store::Version) is the generation. Where the bucket keeps versions, older generations
/// can be read.
///
/// Permissions: `storage.objects.get`, `storage.objects.list`, `storage.objects.create` and `storage.objects.delete`
/// (which overwriting needs too): the role `roles/storage.objectUser`. Signed URLs without a key file need
/// `iam.serviceAccounts.signBlob` on the service account itself. With a KMS key the bucket's service agent needs
/// `roles/cloudkms.cryptoKeyEncrypterDecrypter`.
///
/// An upload of 32 MiB or more (by [`PutOptions::expected_bytes`], which files and streams set) travels over several
/// connections: each part is a temporary object below `.anycloud-uploads/`, which no listing shows, to which nothing
/// else can be written, and which is gone when the upload has ended; what a killed process leaves is removed by
/// [`abort_stale_uploads`](ObjectStore::abort_stale_uploads). The object is composed of them, and so has a CRC32C and no
/// MD5. Each part and each composition is an
/// [operation of class A](https://cloud.google.com/storage/pricing#operations-pricing), as every put is: at the default
/// budget about 370 for a GiB, or 0.2 US cents at 5 US cents for 10,000, and half as many for each GiB beyond the
/// third. The bucket is asked first, once, whether it has a retention policy or a default hold, which would keep the
/// parts, and whether all permissions are there; this needs `storage.buckets.get`. Without it, or where the storage
/// class is not `STANDARD`, the upload is one resumable session. `GCS_PARALLEL_UPLOADS` decides without asking.
#[derive(Clone, Debug)]
pub struct GcsStore(Calls<Bucket>);

impl GcsStore {
    /// The bucket that the configuration names. Asks nobody anything.
    ///
    /// # Errors
    /// `InvalidConfig` for a plain-HTTP endpoint on another host, unless the configuration allows it.
    pub fn new(config: &Config) -> Result<Self> {
        Ok(Self::with_connection(config, Connection::new(config)?))
    }

    pub(crate) fn with_connection(config: &Config, connection: Connection) -> Self {
        Self(Calls::new(Bucket::new(config, connection)))
    }
}

#[async_trait]
impl ObjectStore for GcsStore {
    fn uri(&self, key: &ObjectKey) -> ObjectUri {
        self.0.each().uri(key)
    }

    fn capabilities(&self) -> &ObjectCapabilities {
        &bucket::CAPABILITIES
    }

    fn transfer(&self) -> TransferPolicy {
        TransferPolicy::default()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, options: PutOptions) -> Result<PutResult> {
        temporaries::check(key, "object_store.put", || self.0.each().subject(key))?;
        self.0.one(|bucket| bucket.put(key, body.into(), options)).await
    }

    async fn start_upload(&self, key: &ObjectKey, options: PutOptions) -> Result<Box<dyn Upload>> {
        temporaries::check(key, "object_store.start_upload", || self.0.each().subject(key))?;
        let upload = self.0.one(|bucket| start_upload(bucket, key, options)).await?;
        Ok(Box::new(TimedUpload::new(upload, self.0.each().connection.retrier())))
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        self.0.one(|bucket| bucket.get(key, options)).await
    }

    async fn head(&self, key: &ObjectKey, options: HeadOptions) -> Result<ObjectMeta> {
        self.0.one(|bucket| bucket.head(key, options)).await
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<ListEntry>> {
        list::entries(Arc::clone(self.0.each()), options)
    }

    async fn delete(&self, key: &ObjectKey, options: DeleteOptions) -> Result<()> {
        self.0.one(|bucket| bucket.delete(key, options)).await
    }

    async fn delete_many(&self, keys: Vec<ObjectKey>) -> Vec<(ObjectKey, Result<()>)> {
        self.0.each().delete_many(keys).await
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey, options: CopyOptions) -> Result<PutResult> {
        temporaries::check(to, "object_store.copy", || self.0.each().subject(to))?;
        self.0.one(|bucket| bucket.copy(from, to, options)).await
    }

    async fn sign(&self, key: &ObjectKey, options: SignOptions) -> Result<SignedRequest> {
        self.0.one(|bucket| bucket.sign(key, options)).await
    }

    /// Removes the temporary objects of uploads that have stored nothing for so long. Resumable sessions cannot be
    /// listed, cost nothing and
    /// [end by themselves](https://cloud.google.com/storage/docs/resumable-uploads#session-uris) after a week.
    async fn abort_stale_uploads(&self, older_than: Duration) -> Result<StaleUploads> {
        self.0.each().abort_stale_uploads(older_than).await
    }
}

async fn start_upload(bucket: &Arc<Bucket>, key: &ObjectKey, options: PutOptions) -> Result<Box<dyn Upload>> {
    let large = options.expected_bytes.is_some_and(|bytes| bytes >= composed::LARGE_BYTES);
    if large && bucket.takes_temporaries(&options).await {
        return Ok(Box::new(composed::ComposedUpload::start(Arc::clone(bucket), key, options)?));
    }
    Ok(Box::new(resumable::GcsUpload::start(Arc::clone(bucket), key, options).await?))
}
