use std::fmt;
use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, USER_AGENT};
use http::{HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::OnceCell;

use super::suitability::Suitability;
use crate::call::{Call, Effect};
use crate::gcp::connection::Connection;
use crate::gcp::error::classify;
use crate::gcp::signer;
use crate::http::{Answer, HttpClient, RequestBody, Transport};
use crate::object_store::{ObjectCapabilities, Scheme};
use crate::retry::{Activity, Retrier, Retrying};
use crate::{Config, ErrorKind, ObjectKey, ObjectUri, Result};

const SERVICE: &str = "https://storage.googleapis.com";
/// <https://cloud.google.com/storage/quotas#objects>
pub(super) const MAX_OBJECT_BYTES: u64 = 5 << 40;
/// The most of a JSON answer that is read: a full page of the longest names is well below it.
pub(super) const MAX_JSON_BYTES: usize = 32 << 20;

pub(super) const CAPABILITIES: ObjectCapabilities = ObjectCapabilities {
    provider: "gcp",
    conditional_put: true,
    conditional_upload: true,
    conditional_copy: true,
    conditional_delete: true,
    past_versions: None,
    stored_crc32c: true,
    // Of uploads whose options name the size, where the bucket is fit for it.
    parallel_parts: false,
    parallel_ranges: true,
    sign_content_length: true,
    sign_create_only: true,
    max_object_bytes: MAX_OBJECT_BYTES,
    max_put_bytes: MAX_OBJECT_BYTES,
    // With a key file; without one it is cut short.
    max_sign_expiry: signer::LONGEST,
};

/// What stays as it is in a part of a path or query:
/// <https://cloud.google.com/storage/docs/request-endpoints#encoding>
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

pub(super) fn encode(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, ENCODED)
}

/// The bucket, and the way to it.
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) kms_key: Option<String>,
    /// Whether large files are sent as temporary objects; the bucket is asked if none.
    pub(super) parallel_uploads: Option<bool>,
    pub(super) suitability: OnceCell<Suitability>,
    pub(super) endpoint: String,
    upload_url: String,
    pub(super) connection: Connection,
    pub(super) transport: Arc<dyn Transport>,
}

/// One request. Made anew for every attempt, which costs little as bodies are shared.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: RequestBody,
}

impl Request {
    pub(super) fn new(method: Method, url: String) -> Self {
        Self { method, url, headers: Vec::new(), body: RequestBody::empty() }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Lets the body tell how it is getting on.
    pub(super) fn watched(mut self, activity: Activity) -> Self {
        self.body = self.body.watched(activity);
        self
    }

    pub(super) fn body(mut self, body: RequestBody) -> Self {
        self.body = body;
        self
    }
}

impl Bucket {
    pub(super) fn new(config: &Config, connection: Connection) -> Self {
        let endpoint = config.gcp.storage_endpoint.clone().unwrap_or_else(|| SERVICE.to_owned());
        let upload_url = format!("{endpoint}/upload/storage/v1/b/{}/o", encode(&config.gcp.bucket));
        Self {
            name: config.gcp.bucket.clone(),
            kms_key: config.gcp.kms_key.clone(),
            parallel_uploads: config.gcp.parallel_uploads,
            suitability: OnceCell::new(),
            endpoint,
            upload_url,
            connection,
            transport: Arc::new(HttpClient::new(config.allow_http)),
        }
    }

    pub(super) fn uri(&self, key: &ObjectKey) -> ObjectUri {
        ObjectUri { scheme: Scheme::Gs, bucket: self.name.clone(), key: key.clone() }
    }

    /// The same as text, at once.
    pub(super) fn subject(&self, key: &ObjectKey) -> String {
        [Scheme::Gs.as_str(), "://", &self.name, "/", key.as_str()].concat()
    }

    /// The address of the bucket in the JSON API.
    pub(super) fn bucket_url(&self) -> String {
        format!("{}/storage/v1/b/{}", self.endpoint, encode(&self.name))
    }

    /// The address of its objects.
    pub(super) fn objects_url(&self) -> String {
        format!("{}/o", self.bucket_url())
    }

    /// The address of one of them.
    pub(super) fn object_url(&self, key: &ObjectKey) -> String {
        format!("{}/{}", self.objects_url(), encode(key.as_str()))
    }

    /// Where objects are made.
    pub(super) fn upload_url(&self) -> &str {
        &self.upload_url
    }

    /// Sends a request once. Every answer is an answer here.
    pub(super) async fn send(&self, call: Call<'_>, request: Request) -> Result<Answer> {
        let invalid = || call.error(ErrorKind::Internal, "the request could not be put together");
        let is_get = request.method == Method::GET;
        let mut builder = http::Request::builder().method(request.method).uri(request.url);
        for (name, value) in request.headers {
            builder = builder.header(name, HeaderValue::try_from(value).map_err(|_| invalid())?);
        }
        if !is_get {
            builder = builder.header(CONTENT_LENGTH, request.body.len());
        }
        let mut sent = builder
            .header(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))
            .header(USER_AGENT, HeaderValue::from_static(concat!("anycloud/", env!("CARGO_PKG_VERSION"))))
            .body(request.body)
            .map_err(|_| invalid())?;
        self.connection.authorize(sent.headers_mut(), call.operation, call.subject).await?;
        self.transport.send(sent).await.map_err(|failure| call.lost(failure))
    }

    /// Sends a request once; anything but success is an error.
    pub(super) async fn ask(&self, call: Call<'_>, request: Request) -> Result<Answer> {
        let answer = self.send(call, request).await?;
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(classify(call, answer).await) }
    }

    /// The same, and reads the JSON of the answer.
    pub(super) async fn ask_json<T: serde::de::DeserializeOwned>(&self, call: Call<'_>, request: Request) -> Result<T> {
        let answer = self.ask(call, request).await?;
        read_json(call, answer).await
    }
}

/// The JSON of an answer. One that cannot be understood is as good as lost.
pub(super) async fn read_json<T: serde::de::DeserializeOwned>(call: Call<'_>, answer: Answer) -> Result<T> {
    let bytes = answer.bytes(MAX_JSON_BYTES).await.map_err(|failure| call.lost(failure))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let message = format!("the answer is not the JSON expected: line {}, column {}", error.line(), error.column());
        let error = call.error(ErrorKind::Unavailable, message);
        if call.effect == Effect::Changes { error.with_may_have_applied() } else { error }
    })
}

impl Retrying for Bucket {
    fn retrier(&self) -> &Retrier {
        self.connection.retrier()
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).field("connection", &self.connection).finish_non_exhaustive()
    }
}
