//! The handler that serves signed URLs, for a web application to mount under any framework that speaks `http`.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Buf as _, Bytes};
use futures_util::Stream as _;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::FileStore;
use super::object_store::signing::Grant;
use crate::config::LocalConfig;
use crate::object_store::{
    ByteRange, ByteStream, ContentHeaders, GetOptions, HeadOptions, ObjectMeta, PutMode, PutOptions,
};
use crate::{Error, ErrorKind, ObjectStore as _, ObjectStoreExt as _};

const OPERATION: &str = "signed_url.handle";
/// What an upload holds in memory is at most three parts of this size.
const PART_BYTES: u64 = 1 << 20;

/// Serves the signed URLs of the local object store.
///
/// Mount [`handle`](Self::handle) where `ANYCLOUD_LOCAL_URL` points; the path may arrive with or without what it is
/// mounted under. A URL that was tampered with, has expired, or is used with another method, content type or length
/// is answered with 403. GET and HEAD know `Range`, `If-Range` and `If-None-Match`; PUT answers 412 where it may only
/// create and there is an object. Browsers of any origin may call it, unless
/// [`with_allowed_origin`](Self::with_allowed_origin) says otherwise.
///
/// In the route that a web application keeps for it, whatever the framework:
///
/// ```no_run
/// # async fn route(cloud: anycloud::Cloud, request: http::Request<http_body_util::Full<bytes::Bytes>>) {
/// if let Some(handler) = cloud.signed_url_handler() {
///     let response = handler.handle(request).await;
///     // … and hand the response back: its body is an `http_body::Body`.
///     # drop(response);
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SignedUrlHandler {
    store: Arc<FileStore>,
    allowed_origin: HeaderValue,
}

impl SignedUrlHandler {
    /// A handler for the bucket that the settings describe. Touches no disk.
    #[must_use]
    pub fn new(config: &LocalConfig) -> Self {
        Self { store: super::file_store(config), allowed_origin: HeaderValue::from_static("*") }
    }

    /// The same, answering browsers of one origin only, such as `https://app.example`.
    #[must_use]
    pub fn with_allowed_origin(self, origin: HeaderValue) -> Self {
        Self { allowed_origin: origin, ..self }
    }

    /// Answers a request. Bodies are streamed both ways.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<SignedUrlBody>
    where
        B: Body,
        B::Error: std::fmt::Display,
    {
        let mut response = match *request.method() {
            Method::OPTIONS => preflight(request.headers()),
            Method::GET | Method::HEAD => self.read(request.method(), request.uri(), request.headers()).await,
            Method::PUT => self.write(request).await,
            _ => refused(StatusCode::FORBIDDEN, "the URL was not signed for this method"),
        };
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.allowed_origin.clone());
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("ETag, Content-Length, Content-Range, Content-Disposition, Content-Encoding"),
        );
        response
    }

    /// What the URL grants now.
    async fn grant(&self, method: &'static str, uri: &http::Uri) -> Result<Grant, Response<SignedUrlBody>> {
        let key = self.store.signing_key(OPERATION).await.map_err(|error| failure(&error))?;
        let query = uri.query().unwrap_or_default();
        let bucket = self.store.bucket_name();
        let mounted = self.store.signed_url_base().and_then(|base| base.parse::<http::Uri>().ok());
        let mounted = mounted.as_ref().map_or("", |base| base.path().trim_end_matches('/'));
        let paths = [uri.path().strip_prefix(mounted).filter(|_| !mounted.is_empty()), Some(uri.path())];
        let mut grants = paths.into_iter().flatten().filter_map(|path| key.verify(bucket, method, path, query));
        let Some(grant) = grants.next() else {
            return Err(refused(StatusCode::FORBIDDEN, "the signature does not cover this request"));
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if now >= grant.expires {
            return Err(refused(StatusCode::FORBIDDEN, "the signature has expired"));
        }
        Ok(grant)
    }

    async fn read(&self, method: &Method, uri: &http::Uri, headers: &HeaderMap) -> Response<SignedUrlBody> {
        let grant = match self.grant("GET", uri).await {
            Ok(grant) => grant,
            Err(response) => return response,
        };
        let meta = match self.store.head(&grant.key, HeadOptions::default()).await {
            Ok(meta) => meta,
            Err(error) => return failure(&error),
        };
        let etag = etag(&meta);
        if text(headers, header::IF_NONE_MATCH).is_some_and(|tags| matches_any(tags, &etag)) {
            let mut response = empty(StatusCode::NOT_MODIFIED);
            set(response.headers_mut(), header::ETAG, &etag);
            return response;
        }
        let range = text(headers, header::RANGE)
            .filter(|_| text(headers, header::IF_RANGE).is_none_or(|tag| tag == etag))
            .and_then(parse_range);
        if let Some(range) = range
            && range.resolve(meta.size).is_none()
        {
            let mut response = refused(StatusCode::RANGE_NOT_SATISFIABLE, "the range starts past the end");
            set(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{}", meta.size));
            return response;
        }
        if method == Method::HEAD {
            let span = range.and_then(|range| range.resolve(meta.size));
            let mut response = empty(if span.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK });
            let partial = span.is_some();
            describe(response.headers_mut(), &meta, &grant, span.unwrap_or(0..meta.size), partial);
            return response;
        }
        // The object may have been replaced since; what is sent is described by what is read here.
        match self.store.get(&grant.key, GetOptions { range, ..GetOptions::default() }).await {
            Ok(result) => {
                let length = result.range.end - result.range.start;
                let mut response = Response::new(SignedUrlBody { stream: Some(result.body), left: length });
                if range.is_some() {
                    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                }
                describe(response.headers_mut(), &result.meta, &grant, result.range, range.is_some());
                response
            }
            Err(error) => failure(&error),
        }
    }

    async fn write<B>(&self, request: Request<B>) -> Response<SignedUrlBody>
    where
        B: Body,
        B::Error: std::fmt::Display,
    {
        let grant = match self.grant("PUT", request.uri()).await {
            Ok(grant) => grant,
            Err(response) => return response,
        };
        let headers = request.headers();
        let content_type = text(headers, header::CONTENT_TYPE);
        if grant.content_type.is_some() && grant.content_type.as_deref() != content_type {
            return refused(StatusCode::FORBIDDEN, "the signature is for another content type");
        }
        let announced = text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if announced.is_some_and(|announced| grant.content_length.is_some_and(|signed| signed != announced)) {
            return refused(StatusCode::FORBIDDEN, "the signature is for another length");
        }
        let create = grant.create_only || text(headers, header::IF_NONE_MATCH) == Some("*");
        let owned = |name| text(headers, name).map(str::to_owned);
        let options = PutOptions {
            mode: if create { PutMode::Create } else { PutMode::Overwrite },
            headers: ContentHeaders {
                content_type: content_type.map(str::to_owned),
                content_encoding: owned(header::CONTENT_ENCODING),
                content_disposition: owned(header::CONTENT_DISPOSITION),
                content_language: owned(header::CONTENT_LANGUAGE),
                cache_control: owned(header::CACHE_CONTROL),
            },
            ..PutOptions::default()
        };
        if options.headers.check(OPERATION, "").is_err() {
            return refused(StatusCode::BAD_REQUEST, "a content header is not visible ASCII");
        }
        let expected = grant.content_length.or(announced);
        let mut writer = self.store.writer(&grant.key, options).with_parts(PART_BYTES, 2);
        let mut body = pin!(request.into_body());
        let mut received = 0;
        while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            let Ok(frame) = frame else {
                return refused(StatusCode::BAD_REQUEST, "the body broke off; nothing was stored");
            };
            let Ok(mut data) = frame.into_data() else { continue };
            received += data.remaining() as u64;
            if expected.is_some_and(|expected| received > expected) {
                return refused(StatusCode::FORBIDDEN, "the body is longer than the signature allows");
            }
            while data.has_remaining() {
                let count = data.chunk().len();
                if let Err(error) = writer.write(data.copy_to_bytes(count)).await {
                    return failure(&error);
                }
            }
        }
        if expected.is_some_and(|expected| received != expected) {
            return refused(StatusCode::FORBIDDEN, "the body is shorter than announced; nothing was stored");
        }
        match writer.finish().await {
            Ok(result) => {
                let mut response = empty(StatusCode::OK);
                set(response.headers_mut(), header::ETAG, &format!("\"{}\"", token(&result.version)));
                response
            }
            Err(error) => failure(&error),
        }
    }
}

/// The body of an answer of [`SignedUrlHandler`].
#[derive(Debug)]
pub struct SignedUrlBody {
    stream: Option<ByteStream>,
    left: u64,
}

impl Body for SignedUrlBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let next = std::task::ready!(Pin::new(stream).poll_next(cx));
        match &next {
            Some(Ok(bytes)) => self.left = self.left.saturating_sub(bytes.len() as u64),
            _ => self.stream = None,
        }
        Poll::Ready(next.map(|next| next.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

fn body(text: &'static str) -> SignedUrlBody {
    let bytes = Bytes::from_static(text.as_bytes());
    SignedUrlBody { left: bytes.len() as u64, stream: (!text.is_empty()).then(|| ByteStream::once(bytes)) }
}

fn empty(status: StatusCode) -> Response<SignedUrlBody> {
    let mut response = Response::new(body(""));
    *response.status_mut() = status;
    response
}

fn refused(status: StatusCode, why: &'static str) -> Response<SignedUrlBody> {
    let mut response = Response::new(body(why));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The answer for an error of the store; what the store says stays on this side.
fn failure(error: &Error) -> Response<SignedUrlBody> {
    let (status, why) = match error.kind() {
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, "there is no such object"),
        ErrorKind::AlreadyExists | ErrorKind::PreconditionFailed => {
            (StatusCode::PRECONDITION_FAILED, "there is an object already")
        }
        ErrorKind::RangeNotSatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, "the range starts past the end"),
        ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the object is too large"),
        ErrorKind::ResourceExhausted => (StatusCode::INSUFFICIENT_STORAGE, "there is no room"),
        kind => {
            tracing::warn!(%kind, "a request with a signed URL failed");
            (StatusCode::INTERNAL_SERVER_ERROR, "the request failed")
        }
    };
    refused(status, why)
}

fn preflight(asked: &HeaderMap) -> Response<SignedUrlBody> {
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, PUT"));
    let allowed = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let allowed = allowed.unwrap_or_else(|| HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    response
}

fn describe(headers: &mut HeaderMap, meta: &ObjectMeta, grant: &Grant, range: std::ops::Range<u64>, partial: bool) {
    let ContentHeaders { content_type, content_encoding, content_disposition, content_language, cache_control } =
        &meta.headers;
    set(headers, header::CONTENT_TYPE, content_type.as_deref().unwrap_or("application/octet-stream"));
    // A browser must not make something else of what somebody has uploaded.
    set(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(headers, header::ACCEPT_RANGES, "bytes");
    set(headers, header::ETAG, &etag(meta));
    set(headers, header::CONTENT_LENGTH, &(range.end - range.start).to_string());
    if partial {
        let last = range.end.saturating_sub(1);
        set(headers, header::CONTENT_RANGE, &format!("bytes {}-{last}/{}", range.start, meta.size));
    }
    let optional = [
        (header::CONTENT_ENCODING, content_encoding),
        (header::CONTENT_LANGUAGE, content_language),
        (header::CACHE_CONTROL, cache_control),
        (
            header::CONTENT_DISPOSITION,
            if grant.content_disposition.is_some() { &grant.content_disposition } else { content_disposition },
        ),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            set(headers, name, value);
        }
    }
}

/// Sets a header, unless the value cannot be one.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn token(version: &crate::object_store::Version) -> String {
    let text = version.to_string();
    text.split_once(':').map_or(text.clone(), |(_, token)| token.to_owned())
}

fn etag(meta: &ObjectMeta) -> String {
    format!("\"{}\"", token(&meta.version))
}

fn matches_any(tags: &str, etag: &str) -> bool {
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// A single range; `None` for what may be ignored: several of them, other units, nonsense.
fn parse_range(text: &str) -> Option<ByteRange> {
    let (start, end) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    let range = match (start.trim(), end.trim()) {
        ("", last) => ByteRange::Last(last.parse().ok()?),
        (start, "") => ByteRange::From(start.parse().ok()?),
        (start, end) => ByteRange::Bounded(start.parse().ok()?, end.parse::<u64>().ok()?.checked_add(1)?),
    };
    match range {
        ByteRange::Bounded(start, end) if start >= end => None,
        range => Some(range),
    }
}

#[cfg(test)]
mod tests;
