use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tracing::{Span, field, info_span};

use super::{Observed, traced};
use crate::object_store::{
    CopyOptions, Crc32c, DeleteOptions, GetOptions, GetResult, HeadOptions, ListEntry, ListOptions, ObjectCapabilities,
    ObjectMeta, PutResult, SignOptions, SignedRequest, StaleUploads, Upload,
};
use crate::transfer::{Downloads, TransferPolicy};
use crate::{Error, ErrorKind, ObjectKey, ObjectStore, ObjectUri, PutOptions, Result, WriteId};

/// A store, and the engine that reads its large objects.
#[derive(Debug)]
pub(crate) struct Transferring {
    store: Arc<dyn ObjectStore>,
    downloads: Downloads,
}

impl Transferring {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, policy: TransferPolicy) -> Self {
        let downloads = Downloads::new(Arc::clone(&store), policy);
        Self { store, downloads }
    }
}

impl Observed<Transferring> {
    fn span(&self, operation: &'static str, uri: &ObjectUri) -> Span {
        info_span!(
            "object_store",
            otel.name = operation,
            otel.kind = "client",
            otel.status_code = field::Empty,
            error.type = field::Empty,
            cloud.provider = self.inner.store.capabilities().provider,
            anycloud.bucket = %uri.bucket,
            anycloud.key = %uri.key,
        )
    }

    fn check_put(&self, operation: &'static str, key: &ObjectKey, options: &mut PutOptions) -> Result<ObjectUri> {
        let uri = self.inner.store.uri(key);
        options.headers.check(operation, &uri)?;
        options.write_id.get_or_insert_with(WriteId::random);
        Ok(uri)
    }
}

#[async_trait]
impl ObjectStore for Observed<Transferring> {
    fn uri(&self, key: &ObjectKey) -> ObjectUri {
        self.inner.store.uri(key)
    }

    fn capabilities(&self) -> &ObjectCapabilities {
        self.inner.store.capabilities()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mut options: PutOptions) -> Result<PutResult> {
        const OPERATION: &str = "object_store.put";
        let uri = self.check_put(OPERATION, key, &mut options)?;
        let limit = self.inner.store.capabilities().max_put_bytes;
        if body.len() as u64 > limit {
            let message = format!("{} bytes are more than one put takes ({limit})", body.len());
            return Err(Error::new(ErrorKind::TooLarge, OPERATION, uri, message));
        }
        if options.crc32c.is_some_and(|expected| expected != Crc32c::of(&body)) {
            let message = "the checksum given is not that of the bytes given";
            return Err(Error::new(ErrorKind::Corrupt, OPERATION, uri, message));
        }
        traced(self.span(OPERATION, &uri), self.inner.store.put(key, body, options)).await
    }

    async fn start_upload(&self, key: &ObjectKey, mut options: PutOptions) -> Result<Box<dyn Upload>> {
        const OPERATION: &str = "object_store.start_upload";
        let uri = self.check_put(OPERATION, key, &mut options)?;
        traced(self.span(OPERATION, &uri), self.inner.store.start_upload(key, options)).await
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        const OPERATION: &str = "object_store.get";
        let uri = self.inner.store.uri(key);
        if let Some(range) = options.range {
            range.check(OPERATION, &uri)?;
        }
        traced(self.span(OPERATION, &uri), self.inner.downloads.get(key, options)).await
    }

    async fn head(&self, key: &ObjectKey, options: HeadOptions) -> Result<ObjectMeta> {
        let uri = self.inner.store.uri(key);
        traced(self.span("object_store.head", &uri), self.inner.store.head(key, options)).await
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<ListEntry>> {
        let problem = match &options {
            ListOptions { delimiter: Some(delimiter), .. } if delimiter.is_empty() => "the delimiter is empty",
            ListOptions { page_size: Some(0), .. } => "a page has at least one entry",
            _ => return self.inner.store.list(options),
        };
        let error = Error::new(ErrorKind::InvalidInput, "object_store.list", &options.prefix, problem);
        Box::pin(futures_util::stream::iter([Err(error)]))
    }

    async fn delete(&self, key: &ObjectKey, options: DeleteOptions) -> Result<()> {
        let uri = self.inner.store.uri(key);
        traced(self.span("object_store.delete", &uri), self.inner.store.delete(key, options)).await
    }

    async fn delete_many(&self, keys: Vec<ObjectKey>) -> Vec<(ObjectKey, Result<()>)> {
        use tracing::Instrument as _;
        let span = info_span!(
            "object_store",
            otel.name = "object_store.delete_many",
            otel.kind = "client",
            cloud.provider = self.inner.store.capabilities().provider,
            anycloud.keys = keys.len(),
        );
        self.inner.store.delete_many(keys).instrument(span).await
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey, mut options: CopyOptions) -> Result<PutResult> {
        const OPERATION: &str = "object_store.copy";
        let uri = self.inner.store.uri(to);
        if let Some((headers, _)) = &options.replace {
            headers.check(OPERATION, &uri)?;
        }
        options.write_id.get_or_insert_with(WriteId::random);
        traced(self.span(OPERATION, &uri), self.inner.store.copy(from, to, options)).await
    }

    async fn sign(&self, key: &ObjectKey, options: SignOptions) -> Result<SignedRequest> {
        const OPERATION: &str = "object_store.sign";
        let uri = self.inner.store.uri(key);
        let longest = self.inner.store.capabilities().max_sign_expiry;
        if options.expires_in < Duration::from_secs(1) || options.expires_in > longest {
            let message = format!("a signature lives from 1 second to {} seconds", longest.as_secs());
            return Err(Error::new(ErrorKind::InvalidInput, OPERATION, uri, message));
        }
        traced(self.span(OPERATION, &uri), self.inner.store.sign(key, options)).await
    }

    async fn abort_stale_uploads(&self, older_than: Duration) -> Result<StaleUploads> {
        self.inner.store.abort_stale_uploads(older_than).await
    }
}
