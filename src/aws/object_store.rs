//! Objects in one S3 bucket.
//!
//! Conditions are judged by S3 itself (`If-None-Match: *` and `If-Match` on PutObject, CompleteMultipartUpload,
//! CopyObject and DeleteObject). Bodies travel with their CRC32C, which S3 verifies before it publishes and keeps; no
//! SHA-256 is computed over them.
//!
//! What moves data or is asked for often (GetObject, HeadObject, PutObject, UploadPart, ListObjectsV2) goes over the
//! crate's own transport, which costs a fraction of the SDK's request pipeline. The SDK still decides where a bucket is
//! and how it wants to be signed for (its endpoint rules, so that access points, directory buckets and a profile's
//! settings work), finds the credentials, and makes all other calls.

mod bucket;
mod condition;
mod copy;
mod delete;
mod endpoint;
mod get;
mod list;
#[cfg(test)]
mod localstack;
mod meta;
mod multipart;
mod page;
mod put;
mod request;
mod session;
mod sign;
mod stale;
#[cfg(test)]
mod tests;
mod upload;
mod version;
#[cfg(test)]
mod wire_tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use self::bucket::Bucket;
#[cfg(test)]
pub(super) use self::request::{PATH, encoded};
use super::connection::Connection;
use crate::object_store::{
    CopyOptions, DeleteOptions, GetResult, HeadOptions, ListEntry, ListOptions, ObjectCapabilities, ObjectMeta,
    PutResult, SignOptions, SignedRequest, StaleUploads, TimedUpload, Upload,
};
use crate::retry::Calls;
use crate::{Config, GetOptions, ObjectKey, ObjectStore, ObjectUri, PutOptions, Result, TransferPolicy};

/// One S3 bucket, or one of a service that speaks S3's protocol. Cheap to clone.
///
/// A [`Version`](crate::object_store::Version) is the ETag, which is the same for the same bytes written the same
/// way; where the bucket keeps versions it also holds the version id, by which older states can be read. Listings
/// tell the ETag alone.
///
/// Permissions: `s3:GetObject` (reads), `s3:GetObjectVersion` (reads of older versions), `s3:PutObject` (writes, signed
/// uploads), `s3:DeleteObject`, `s3:ListBucket` (listings, and telling a missing object from a denial),
/// `s3:AbortMultipartUpload` and `s3:ListBucketMultipartUploads` (cleaning up); `s3:GetObjectTagging` and
/// `s3:PutObjectTagging` for copies of tagged objects. With a KMS key also `kms:GenerateDataKey` and `kms:Decrypt`.
#[derive(Clone, Debug)]
pub struct S3Store(Calls<Bucket>);

impl S3Store {
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
impl ObjectStore for S3Store {
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
        self.0.one(|bucket| bucket.put(key, body, options)).await
    }

    async fn start_upload(&self, key: &ObjectKey, options: PutOptions) -> Result<Box<dyn Upload>> {
        let start = |bucket| upload::S3Upload::start(Arc::clone(bucket), key, options);
        let upload = Box::new(self.0.one(start).await?);
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
        self.0.one(|bucket| copy::copy(bucket, from, to, options)).await
    }

    async fn sign(&self, key: &ObjectKey, options: SignOptions) -> Result<SignedRequest> {
        self.0.one(|bucket| bucket.sign(key, options)).await
    }

    async fn abort_stale_uploads(&self, older_than: Duration) -> Result<StaleUploads> {
        self.0.each().abort_stale_uploads(older_than).await
    }
}
