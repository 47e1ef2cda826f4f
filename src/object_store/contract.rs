use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::{
    CopyOptions, DeleteOptions, GetOptions, GetResult, HeadOptions, ListEntry, ListOptions, ObjectCapabilities,
    ObjectMeta, ObjectUri, PutOptions, PutResult, SignOptions, SignedRequest, StaleUploads, Upload,
};
use crate::{ObjectKey, Result, TransferPolicy};

/// One bucket.
///
/// Keys are exact byte strings. Reads and listings see every write that was acknowledged before they began. Every
/// write is all or nothing: readers see the old object or the new one, whole. Every mutating call ends applied, not
/// applied, or as [`ErrorKind::Indeterminate`](crate::ErrorKind::Indeterminate) with the write's id.
///
/// No method has a default body, so that a wrapper cannot lose one. Convenience is in
/// [`ObjectStoreExt`](super::ObjectStoreExt).
///
/// # Errors
/// Besides those named at each method, every method may fail with `PermissionDenied`, `Unauthenticated`,
/// `Throttled`, `Unavailable`, `Timeout`, `InvalidConfig` (the bucket is missing, the region is wrong) and `Internal`.
#[async_trait]
pub trait ObjectStore: Debug + Send + Sync + 'static {
    /// The address of `key` in this store. Pure.
    fn uri(&self, key: &ObjectKey) -> ObjectUri;

    /// What this store can do. Pure.
    fn capabilities(&self) -> &ObjectCapabilities;

    /// How large objects are moved: the memory that an [`ObjectWriter`](super::ObjectWriter) may take.
    fn transfer(&self) -> TransferPolicy;

    /// Writes a whole object, of up to [`ObjectCapabilities::max_put_bytes`].
    ///
    /// The checksum is computed here, or taken from the options, and verified by the store before it publishes.
    ///
    /// # Errors
    /// - `AlreadyExists`: [`PutMode::Create`](super::PutMode::Create) and there is an object.
    /// - `PreconditionFailed`: [`PutMode::Replace`](super::PutMode::Replace) and the object is missing or another version.
    /// - `Conflict`: other writers kept winning; nothing was written.
    /// - `Corrupt`: the given checksum is not that of the bytes; nothing was written.
    /// - `TooLarge`, `InvalidInput`, `ResourceExhausted`, `Indeterminate`.
    async fn put(&self, key: &ObjectKey, body: Bytes, options: PutOptions) -> Result<PutResult>;

    /// Begins an upload in parts. Nothing is visible before [`Upload::finish`] succeeds; a dropped upload is cleaned
    /// up as well as can be, and what remains is found by [`abort_stale_uploads`](Self::abort_stale_uploads).
    ///
    /// # Errors
    /// `InvalidInput`; preconditions are judged when the upload finishes, or earlier where that is cheap.
    async fn start_upload(&self, key: &ObjectKey, options: PutOptions) -> Result<Box<dyn Upload>>;

    /// Reads an object or a range of it, in one request, as a stream that is verified where a checksum covers it.
    ///
    /// The stored bytes come as they are stored: `Content-Encoding` is reported, not undone.
    ///
    /// # Errors
    /// - `NotFound`: no such object, or the version asked for is no longer kept.
    /// - `NotModified`: `if_none_match` is the current version.
    /// - `PreconditionFailed`: `if_match` is not the current version.
    /// - `RangeNotSatisfiable`: the range starts at or past the end (so every range of an empty object).
    /// - In the stream: `Corrupt` for bytes that do not match, `Unavailable` for a connection that broke.
    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult>;

    /// Reads an object's metadata.
    ///
    /// # Errors
    /// `NotFound`, and `InvalidConfig` when it is the bucket that is missing and the provider tells.
    async fn head(&self, key: &ObjectKey, options: HeadOptions) -> Result<ObjectMeta>;

    /// Lists objects in byte order of their keys, page by page as the stream is read.
    ///
    /// A key that exists during the whole listing comes exactly once. With a delimiter, keys that contain it after
    /// the prefix are rolled up into [`ListEntry::Prefix`], in their place in the order.
    ///
    /// # Errors
    /// In the stream; after an error it ends.
    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<ListEntry>>;

    /// Deletes an object. Deleting what is not there succeeds, unless the options ask for a version.
    ///
    /// Recoverable where the bucket keeps versions or soft-deletes; listings never show what was deleted.
    ///
    /// # Errors
    /// `PreconditionFailed`: the options name a version and the object is missing or another one.
    async fn delete(&self, key: &ObjectKey, options: DeleteOptions) -> Result<()>;

    /// Deletes many objects, and says for each what became of it, in the order given.
    ///
    /// # Errors
    /// The call itself does not fail; each key has its own result, as for an unconditional [`delete`](Self::delete).
    async fn delete_many(&self, keys: Vec<ObjectKey>) -> Vec<(ObjectKey, Result<()>)>;

    /// Copies an object within the store, of any size, without the bytes passing through here.
    ///
    /// Content headers and metadata come along unless the options replace them, and so does the storage class: a
    /// copy neither costs more to keep nor is slower to read than its source. (Left to themselves S3 and Cloud Storage
    /// would give the copy the bucket's default.) The encryption key is the configured one, or else the bucket's. The
    /// source is pinned: what is written is one version of it, whole.
    ///
    /// # Errors
    /// `NotFound` for the source; `PreconditionFailed` when it is not the version asked for; else as for
    /// [`put`](Self::put).
    async fn copy(&self, from: &ObjectKey, to: &ObjectKey, options: CopyOptions) -> Result<PutResult>;

    /// Signs a request that its bearer can make without credentials, until it expires.
    ///
    /// # Errors
    /// `InvalidInput` for an expiry of less than a second or above [`ObjectCapabilities::max_sign_expiry`], for a content
    /// type or disposition that is not visible ASCII, and for what only the other method can promise; `Unsupported` for what
    /// the provider cannot put into a signature; `PermissionDenied` naming the permission that signing needs.
    async fn sign(&self, key: &ObjectKey, options: SignOptions) -> Result<SignedRequest>;

    /// Removes what unfinished uploads have left, once they are `older_than` this.
    ///
    /// # Errors
    /// As for a listing.
    async fn abort_stale_uploads(&self, older_than: Duration) -> Result<StaleUploads>;
}
