//! Objects as files.

mod bucket;
mod call;
mod key_path;
mod listing;
mod publish;
mod reading;
mod record;
pub(super) mod signing;
mod syncing;
mod temporary;
#[cfg(test)]
mod tests;
mod upload;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use self::bucket::Bucket;
use self::call::{Call, blocking};
use self::record::Record;
use self::signing::{Grant, SigningKey};
use self::temporary::Temporary;
use super::error::failed;
use super::file_operations::{FileOperations, System};
use crate::object_store::{
    CopyOptions, Crc32c, DeleteOptions, GetOptions, GetResult, HeadOptions, ListEntry, ListOptions, ObjectCapabilities,
    ObjectMeta, PartRules, PutResult, Scheme, SignMethod, SignOptions, SignedRequest, SignedUrl, StaleUploads, Upload,
};
use crate::{Error, ErrorKind, ObjectKey, ObjectStore, ObjectUri, PutOptions, Result, TransferPolicy};

/// The largest object, as in the clouds; the file system may take less.
const MAX_OBJECT_BYTES: u64 = 5 << 40;
/// How the parts of an upload are cut: as the caller likes.
const RULES: PartRules =
    PartRules { min_bytes: 1, multiple_of: 1, max_bytes: 5 << 30, max_parts: 1_000_000, parallel: true };
/// Deletions under way at the same time.
const PARALLEL: usize = 16;

const CAPABILITIES: ObjectCapabilities = ObjectCapabilities {
    provider: record::PROVIDER,
    conditional_put: true,
    conditional_upload: true,
    conditional_copy: true,
    conditional_delete: true,
    past_versions: Some(false),
    stored_crc32c: true,
    parallel_parts: RULES.parallel,
    parallel_ranges: false,
    sign_content_length: true,
    sign_create_only: true,
    max_object_bytes: MAX_OBJECT_BYTES,
    max_put_bytes: MAX_OBJECT_BYTES,
    max_sign_expiry: Duration::from_secs(7 * 24 * 60 * 60),
};

/// A bucket on this machine: a directory `root/objects/<bucket>`, made with the first call that needs it.
///
/// Each object is one file, which holds its bytes and after them its metadata, published by one rename. A write is
/// acknowledged when the file, its name and the names of new directories are on stable storage; a deletion likewise.
/// Where that last step fails, the state before is shown again and the error is
/// [`Indeterminate`](ErrorKind::Indeterminate), because a power cut could still bring either.
///
/// Preconditions hold between all threads and processes that use the bucket through this type. Files have mode 0600
/// and directories 0700 under any umask. Symbolic links below the root are never followed.
///
/// Needs a file system with `flock` and `rename` that are local or behave so (ext4, XFS, Btrfs, tmpfs, overlayfs).
/// On one without `RENAME_EXCHANGE`, a replacement whose last sync fails stays visible.
#[derive(Clone, Debug)]
pub struct FileStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    operations: Arc<dyn FileOperations>,
    root: PathBuf,
    name: String,
    signed_url_base: Option<String>,
    opened: Mutex<Option<Arc<Bucket>>>,
}

impl FileStore {
    /// The bucket of this name under `root`. Touches no disk; a relative path is taken from where the process is now.
    ///
    /// The name is 1 to 63 characters of letters, digits, `.`, `_` and `-` and does not start with `.`: with another
    /// one every call fails with [`InvalidConfig`](ErrorKind::InvalidConfig).
    #[must_use]
    pub fn new(root: impl AsRef<Path>, bucket: impl Into<String>) -> Self {
        Self::with_operations(root.as_ref(), bucket.into(), Arc::new(System))
    }

    /// The same with the address at which the handler of signed URLs is mounted, such as
    /// `http://127.0.0.1:8080/files`.
    #[must_use]
    pub fn with_signed_url_base(self, base: impl Into<String>) -> Self {
        let Shared { operations, root, name, .. } = &*self.shared;
        let base = base.into().trim_end_matches('/').to_owned();
        Self {
            shared: Arc::new(Shared {
                operations: Arc::clone(operations),
                root: root.clone(),
                name: name.clone(),
                signed_url_base: Some(base),
                opened: Mutex::default(),
            }),
        }
    }

    fn with_operations(root: &Path, name: String, operations: Arc<dyn FileOperations>) -> Self {
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        Self { shared: Arc::new(Shared { operations, root, name, signed_url_base: None, opened: Mutex::default() }) }
    }

    pub(super) fn bucket_name(&self) -> &str {
        &self.shared.name
    }

    pub(super) fn signed_url_base(&self) -> Option<&str> {
        self.shared.signed_url_base.as_deref()
    }

    fn call(&self, operation: &'static str, key: &ObjectKey) -> Call {
        Call { operation, subject: self.uri(key).to_string(), key: key.clone() }
    }

    /// Runs a call on a thread that may wait for the disk.
    async fn run<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&Call, &Arc<Bucket>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        let (operation, subject) = (call.operation, call.subject.clone());
        blocking(operation, &subject, move || work(&call, &shared.bucket(call.operation, &call.subject)?)).await
    }

    /// The key that signed URLs are made and checked with.
    pub(super) async fn signing_key(&self, operation: &'static str) -> Result<SigningKey> {
        let shared = Arc::clone(&self.shared);
        blocking(operation, &self.shared.name, move || {
            let bucket = shared.bucket(operation, &shared.name)?;
            SigningKey::open(&bucket)
                .map_err(|source| failed(operation, &shared.name, "the signing key could not be read", source))
        })
        .await
    }
}

impl Shared {
    fn bucket(&self, operation: &'static str, subject: &str) -> Result<Arc<Bucket>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = opened.as_ref().filter(|bucket| !bucket.is_gone()) {
            return Ok(Arc::clone(bucket));
        }
        let well_formed = (1..=63).contains(&self.name.len())
            && !self.name.starts_with('.')
            && self.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if !well_formed {
            let message = format!(
                "ANYCLOUD_BUCKET `{}` is no name of a local bucket: 1 to 63 of A-Z, a-z, 0-9, `.`, `_`, `-`",
                self.name
            );
            return Err(Error::new(ErrorKind::InvalidConfig, operation, subject, message));
        }
        let bucket = Bucket::open(Arc::clone(&self.operations), &self.root, &self.name).map_err(|source| {
            let doing = format!("the directory {} (ANYCLOUD_LOCAL_ROOT) could not be opened", self.root.display());
            let error = failed(operation, subject, &doing, source);
            // The setting is wrong, not a right missing.
            if self.root.exists() && !self.root.is_dir() { error.with_kind(ErrorKind::InvalidConfig) } else { error }
        })?;
        Ok(Arc::clone(opened.insert(Arc::new(bucket))))
    }
}

/// Refuses what files cannot do.
fn check(call: &Call, options: &PutOptions) -> Result<()> {
    if options.encryption_key.is_some() {
        return Err(call.error(ErrorKind::Unsupported, "local objects are not encrypted"));
    }
    Ok(())
}

fn put(call: &Call, bucket: &Arc<Bucket>, body: &Bytes, options: &PutOptions) -> Result<PutResult> {
    let crc32c = Crc32c::of(body);
    if options.crc32c.is_some_and(|expected| expected != crc32c) {
        return Err(call.error(ErrorKind::Corrupt, "the checksum given is not that of the bytes given"));
    }
    let record = Record::new(&call.key, body.len() as u64, crc32c, options);
    let unwritten = |source| call.io("the object could not be written", source);
    let temporary = Temporary::create(bucket).map_err(unwritten)?;
    temporary.fill(body, &record).map_err(unwritten)?;
    publish::publish(call, &temporary, &record, &options.mode)
}

fn copy(call: &Call, from: &Call, bucket: &Arc<Bucket>, options: CopyOptions) -> Result<PutResult> {
    let file = reading::open(from, bucket)?;
    let source = Record::read(&file, &from.key).map_err(|error| from.unreadable(error))?;
    if let Some(version) = &options.source_version
        && from.token(version)? != source.version()
    {
        return Err(from.error(ErrorKind::PreconditionFailed, "the source is another version"));
    }
    let (size, crc32c) = (source.size(), source.crc32c());
    let storage_class = source.storage_class().cloned();
    let (headers, metadata) = options.replace.unwrap_or_else(|| {
        let meta = source.into_meta();
        (meta.headers, meta.metadata)
    });
    let put = PutOptions {
        headers,
        metadata,
        storage_class,
        write_id: options.write_id,
        mode: options.mode,
        ..PutOptions::default()
    };
    let record = Record::new(&call.key, size, crc32c, &put);
    let unwritten = |source| call.io("the copy could not be written", source);
    let temporary = Temporary::create(bucket).map_err(unwritten)?;
    bucket.operations.copy(&file, &temporary.file, size).map_err(unwritten)?;
    temporary.complete(&record).map_err(unwritten)?;
    publish::publish(call, &temporary, &record, &put.mode)
}

#[async_trait]
impl ObjectStore for FileStore {
    fn uri(&self, key: &ObjectKey) -> ObjectUri {
        ObjectUri { scheme: Scheme::Local, bucket: self.shared.name.clone(), key: key.clone() }
    }

    fn capabilities(&self) -> &ObjectCapabilities {
        &CAPABILITIES
    }

    fn transfer(&self) -> TransferPolicy {
        TransferPolicy::default()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, options: PutOptions) -> Result<PutResult> {
        let call = self.call("object_store.put", key);
        check(&call, &options)?;
        self.run(call, move |call, bucket| put(call, bucket, &body, &options)).await
    }

    async fn start_upload(&self, key: &ObjectKey, mut options: PutOptions) -> Result<Box<dyn Upload>> {
        let call = self.call("object_store.start_upload", key);
        check(&call, &options)?;
        options.write_id.get_or_insert_with(crate::WriteId::random);
        self.run(call, move |call, bucket| {
            let temporary = Temporary::create(bucket);
            let temporary = temporary.map_err(|source| call.io("the upload could not be begun", source))?;
            Ok(Box::new(upload::FileUpload::new(call.clone(), options, temporary)) as Box<dyn Upload>)
        })
        .await
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let call = self.call("object_store.get", key);
        let shared = Arc::clone(&self.shared);
        let subject = call.subject.clone();
        blocking(call.operation, &subject, move || {
            reading::get(&call, &*shared.bucket(call.operation, &call.subject)?, &options)
        })
        .await
    }

    async fn head(&self, key: &ObjectKey, options: HeadOptions) -> Result<ObjectMeta> {
        self.run(self.call("object_store.head", key), move |call, bucket| {
            let file = reading::open(call, bucket)?;
            let record = Record::read(&file, &call.key).map_err(|error| call.unreadable(error))?;
            reading::check_version(call, &record, options.version.as_ref())?;
            Ok(record.into_meta())
        })
        .await
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<ListEntry>> {
        let shared = Arc::clone(&self.shared);
        let this = self.clone();
        let subject = format!("{}://{}/{}", Scheme::Local.as_str(), shared.name, options.prefix);
        let open = move || shared.bucket("object_store.list", &subject);
        listing::list(open, Arc::new(move |key| this.uri(key)), options)
    }

    async fn delete(&self, key: &ObjectKey, options: DeleteOptions) -> Result<()> {
        self.run(self.call("object_store.delete", key), move |call, bucket| {
            publish::remove(call, bucket, options.if_match.as_ref())
        })
        .await
    }

    async fn delete_many(&self, keys: Vec<ObjectKey>) -> Vec<(ObjectKey, Result<()>)> {
        let deletions = keys.into_iter().map(|key| async move {
            let deleted = self.delete(&key, DeleteOptions::default()).await;
            (key, deleted)
        });
        stream::iter(deletions).buffered(PARALLEL).collect().await
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey, options: CopyOptions) -> Result<PutResult> {
        let from = self.call("object_store.copy", from);
        self.run(self.call("object_store.copy", to), move |call, bucket| copy(call, &from, bucket, options)).await
    }

    async fn sign(&self, key: &ObjectKey, options: SignOptions) -> Result<SignedRequest> {
        let call = self.call("object_store.sign", key);
        let Some(base) = self.signed_url_base() else {
            let message = "ANYCLOUD_LOCAL_URL is not set: signed URLs need the address at which the handler is mounted";
            return Err(call.error(ErrorKind::InvalidConfig, message));
        };
        if options.expires_in < Duration::from_secs(1) || options.expires_in > CAPABILITIES.max_sign_expiry {
            return Err(call.error(ErrorKind::InvalidInput, "a signature lives from 1 second to 7 days"));
        }
        let put = options.method == SignMethod::Put;
        let expires_at = SystemTime::now() + options.expires_in;
        let expires = expires_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let grant = Grant {
            method: options.method.as_str(),
            key: key.clone(),
            expires,
            content_type: options.content_type.filter(|_| put),
            content_length: options.content_length.filter(|_| put),
            create_only: options.create_only && put,
            content_disposition: options.response_content_disposition.filter(|_| !put),
        };
        let signed = self.signing_key(call.operation).await?.sign(&self.shared.name, &grant);
        let Some(path) = signed else { return Err(call.error(ErrorKind::Internal, "the signature failed")) };
        let content_type = grant.content_type.map(|value| ("content-type".to_owned(), value));
        let content_length = grant.content_length.map(|value| ("content-length".to_owned(), value.to_string()));
        Ok(SignedRequest {
            method: options.method,
            url: SignedUrl::new(format!("{base}{path}")),
            headers: content_type.into_iter().chain(content_length).collect(),
            expires_at: UNIX_EPOCH + Duration::from_secs(expires),
        })
    }

    async fn abort_stale_uploads(&self, older_than: Duration) -> Result<StaleUploads> {
        const OPERATION: &str = "object_store.abort_stale_uploads";
        let shared = Arc::clone(&self.shared);
        blocking(OPERATION, &self.shared.name, move || {
            let bucket = shared.bucket(OPERATION, &shared.name)?;
            let swept = temporary::sweep(&bucket, older_than);
            let aborted = swept.map_err(|source| {
                failed(OPERATION, &shared.name, "what is left of unfinished uploads could not be removed", source)
            })?;
            Ok(StaleUploads { aborted })
        })
        .await
    }
}
