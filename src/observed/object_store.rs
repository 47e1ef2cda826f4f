use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tracing::{Span, field, info_span};

use super::{Observed, Traced, note, traced, traced_stream};
use crate::files::Target;
use crate::object_store::{
    ByteStream, ContentHeaders, CopyOptions, Crc32c, DeleteOptions, GetOptions, GetResult, HeadOptions, ListEntry,
    ListOptions, Meter, ObjectCapabilities, ObjectMeta, PartRules, Payload, Placeable, PutResult, SignMethod,
    SignOptions, SignedRequest, StaleUploads, Upload,
};
use crate::transfer::{Downloads, TransferPolicy};
use crate::{Error, ErrorKind, ObjectKey, ObjectStore, ObjectUri, PutOptions, Result, WriteId};

/// A store, and how its large objects are moved.
#[derive(Debug)]
pub(crate) struct Transferring {
    store: Arc<dyn ObjectStore>,
    downloads: Downloads,
    policy: TransferPolicy,
}

impl Transferring {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, policy: TransferPolicy) -> Self {
        let downloads = Downloads::new(Arc::clone(&store), policy.clone());
        Self { store, downloads, policy }
    }
}

/// The span of one operation. `aws.s3.…` are OpenTelemetry's names for what others have none for.
fn span(operation: &'static str, provider: &'static str, bucket: &str, key: &str) -> Span {
    let span = info_span!(
        "object_store",
        otel.name = operation,
        otel.kind = "client",
        otel.status_code = field::Empty,
        error.type = field::Empty,
        http.response.status_code = field::Empty,
        cloud.provider = provider,
        anycloud.bucket = bucket,
        anycloud.key = key,
        anycloud.keys = field::Empty,
        aws.s3.bucket = field::Empty,
        aws.s3.key = field::Empty,
    );
    if provider == "aws" {
        span.record("aws.s3.bucket", bucket);
        span.record("aws.s3.key", key);
    }
    span
}

impl Observed<Transferring> {
    fn span(&self, operation: &'static str, uri: &ObjectUri) -> Span {
        span(operation, self.provider(), &uri.bucket, uri.key.as_str())
    }

    fn provider(&self) -> &'static str {
        self.inner.store.capabilities().provider
    }

    /// The address of the bucket, and its name, whatever the key.
    fn bucket(&self) -> (String, String) {
        let Ok(any) = ObjectKey::new("any") else { return Default::default() };
        let ObjectUri { scheme, bucket, .. } = self.inner.store.uri(&any);
        (format!("{}://{bucket}/", scheme.as_str()), bucket)
    }

    fn check_put(&self, operation: &'static str, uri: &ObjectUri, options: &mut PutOptions) -> Result<()> {
        options.write_id.get_or_insert_with(WriteId::random);
        options.headers.check(operation, uri)
    }

    fn check_body(&self, operation: &'static str, uri: &ObjectUri, body: &Bytes, options: &PutOptions) -> Result<()> {
        let limit = self.inner.store.capabilities().max_put_bytes;
        if body.len() as u64 > limit {
            let message = format!("{} bytes are more than one put takes ({limit})", body.len());
            return Err(Error::new(ErrorKind::TooLarge, operation, uri, message));
        }
        if options.crc32c.is_some_and(|expected| expected != Crc32c::of(body)) {
            let message = "the checksum given is not that of the bytes given";
            return Err(Error::new(ErrorKind::Corrupt, operation, uri, message));
        }
        Ok(())
    }

    fn check_sign(&self, operation: &'static str, uri: &ObjectUri, options: &SignOptions) -> Result<()> {
        let longest = self.inner.store.capabilities().max_sign_expiry;
        if options.expires_in < Duration::from_secs(1) || options.expires_in > longest {
            let message = format!("a signature lives from 1 second to {} seconds", longest.as_secs());
            return Err(Error::new(ErrorKind::InvalidInput, operation, uri, message));
        }
        let of_the_other = match options.method {
            SignMethod::Get => {
                options.content_type.is_some() || options.content_length.is_some() || options.create_only
            }
            SignMethod::Put => options.response_content_disposition.is_some(),
        };
        if of_the_other {
            let message = format!("a signed {} takes none of the other method's options", options.method.as_str());
            return Err(Error::new(ErrorKind::InvalidInput, operation, uri, message));
        }
        let headers = ContentHeaders {
            content_type: options.content_type.clone(),
            content_disposition: options.response_content_disposition.clone(),
            ..ContentHeaders::default()
        };
        headers.check(operation, uri)
    }
}

/// In the span however the bytes are taken.
impl Placeable for Traced<Box<dyn Placeable>> {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<Bytes>> {
        let Self { span, stream } = *self;
        Traced { span, stream: stream.into_stream() }.boxed()
    }

    fn into_memory(self: Box<Self>) -> BoxFuture<'static, Result<Bytes>> {
        let Self { span, stream } = *self;
        Box::pin(traced(span, stream.into_memory()))
    }

    fn into_file<'a>(self: Box<Self>, file: Target, meter: &'a mut Meter) -> BoxFuture<'a, Result<()>> {
        let Self { span, stream } = *self;
        Box::pin(traced(span, stream.into_file(file, meter)))
    }
}

/// An upload whose calls have spans.
#[derive(Debug)]
struct ObservedUpload {
    inner: Box<dyn Upload>,
    provider: &'static str,
    uri: ObjectUri,
}

impl ObservedUpload {
    fn span(&self, operation: &'static str) -> Span {
        span(operation, self.provider, &self.uri.bucket, self.uri.key.as_str())
    }
}

#[async_trait]
impl Upload for ObservedUpload {
    fn rules(&self) -> PartRules {
        self.inner.rules()
    }

    fn put_part(&mut self, part: Payload) -> BoxFuture<'static, Result<Crc32c>> {
        let span = self.span("object_store.put_part");
        Box::pin(traced(span, self.inner.put_part(part)))
    }

    fn setbacks(&self) -> u64 {
        self.inner.setbacks()
    }

    async fn finish(self: Box<Self>, crc32c: Crc32c) -> Result<PutResult> {
        traced(self.span("object_store.finish_upload"), self.inner.finish(crc32c)).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        traced(self.span("object_store.abort_upload"), self.inner.abort()).await
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

    fn transfer(&self) -> TransferPolicy {
        self.inner.policy.clone()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mut options: PutOptions) -> Result<PutResult> {
        const OPERATION: &str = "object_store.put";
        let uri = self.inner.store.uri(key);
        let call = async {
            self.check_put(OPERATION, &uri, &mut options)?;
            self.check_body(OPERATION, &uri, &body, &options)?;
            self.inner.store.put(key, body, options).await
        };
        traced(self.span(OPERATION, &uri), call).await
    }

    async fn start_upload(&self, key: &ObjectKey, mut options: PutOptions) -> Result<Box<dyn Upload>> {
        const OPERATION: &str = "object_store.start_upload";
        let uri = self.inner.store.uri(key);
        let call = async {
            self.check_put(OPERATION, &uri, &mut options)?;
            self.inner.store.start_upload(key, options).await
        };
        let inner = traced(self.span(OPERATION, &uri), call).await?;
        Ok(Box::new(ObservedUpload { inner, provider: self.provider(), uri }))
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        const OPERATION: &str = "object_store.get";
        let uri = self.inner.store.uri(key);
        let span = self.span(OPERATION, &uri);
        let call = async {
            options.range.map_or(Ok(()), |range| range.check(OPERATION, &uri))?;
            self.inner.downloads.get(key, options).await
        };
        let result = traced(span.clone(), call).await?;
        let body = match result.body.into_pieces() {
            Ok(pieces) => ByteStream::placeable(Traced { span, stream: pieces }),
            Err(stream) => ByteStream::new(Traced { span, stream }),
        };
        Ok(GetResult { body, ..result })
    }

    async fn head(&self, key: &ObjectKey, options: HeadOptions) -> Result<ObjectMeta> {
        let uri = self.inner.store.uri(key);
        traced(self.span("object_store.head", &uri), self.inner.store.head(key, options)).await
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<ListEntry>> {
        const OPERATION: &str = "object_store.list";
        let (address, bucket) = self.bucket();
        let problem = match &options {
            ListOptions { delimiter: Some(delimiter), .. } if delimiter.is_empty() => Some("the delimiter is empty"),
            ListOptions { page_size: Some(0), .. } => Some("a page has at least one entry"),
            _ => None,
        };
        let refused = |problem| Err(Error::new(ErrorKind::InvalidInput, OPERATION, address + &options.prefix, problem));
        let checked = problem.map_or(Ok(()), refused);
        let span = span(OPERATION, self.provider(), &bucket, &options.prefix);
        traced_stream(span, checked, || self.inner.store.list(options))
    }

    async fn delete(&self, key: &ObjectKey, options: DeleteOptions) -> Result<()> {
        let uri = self.inner.store.uri(key);
        traced(self.span("object_store.delete", &uri), self.inner.store.delete(key, options)).await
    }

    async fn delete_many(&self, keys: Vec<ObjectKey>) -> Vec<(ObjectKey, Result<()>)> {
        use tracing::Instrument as _;
        let span = span("object_store.delete_many", self.provider(), &self.bucket().1, "");
        span.record("anycloud.keys", keys.len());
        let results = self.inner.store.delete_many(keys).instrument(span.clone()).await;
        if let Some(error) = results.iter().find_map(|(_, result)| result.as_ref().err()) {
            note(&span, error);
        }
        results
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey, mut options: CopyOptions) -> Result<PutResult> {
        const OPERATION: &str = "object_store.copy";
        let uri = self.inner.store.uri(to);
        let call = async {
            if let Some((headers, _)) = &options.replace {
                headers.check(OPERATION, &uri)?;
            }
            options.write_id.get_or_insert_with(WriteId::random);
            self.inner.store.copy(from, to, options).await
        };
        traced(self.span(OPERATION, &uri), call).await
    }

    async fn sign(&self, key: &ObjectKey, options: SignOptions) -> Result<SignedRequest> {
        const OPERATION: &str = "object_store.sign";
        let uri = self.inner.store.uri(key);
        let call = async {
            self.check_sign(OPERATION, &uri, &options)?;
            self.inner.store.sign(key, options).await
        };
        traced(self.span(OPERATION, &uri), call).await
    }

    async fn abort_stale_uploads(&self, older_than: Duration) -> Result<StaleUploads> {
        let span = span("object_store.abort_stale_uploads", self.provider(), &self.bucket().1, "");
        traced(span, self.inner.store.abort_stale_uploads(older_than)).await
    }
}
