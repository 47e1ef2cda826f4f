use aws_credential_types::provider::error::CredentialsError;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use super::bucket::Bucket;
use crate::aws::credential_cache::CredentialCache;
use crate::aws::error::{refusal, unsigned};
use crate::call::Call;
use crate::http::{Answer, RequestBody};
use crate::{ErrorKind, ObjectKey, Result};

/// What stands for itself in the value of a parameter, by the rules of the signature:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The same in the path: a key's slashes too. Nothing is normalised.
pub(in crate::aws) const PATH: &AsciiSet = &VALUE.remove(b'/');

/// The value of a parameter, encoded.
pub(in crate::aws) fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, VALUE)
}

/// One request for an object, or for the bucket. Made anew for every attempt, which costs little as bodies are shared.
pub(super) struct Request<'a> {
    method: Method,
    key: Option<&'a ObjectKey>,
    /// Encoded, the parameters in the order of their names.
    query: String,
    headers: HeaderMap,
    /// A header's value cannot travel.
    is_broken: bool,
    body: RequestBody,
}

impl<'a> Request<'a> {
    pub(super) fn new(method: Method, key: Option<&'a ObjectKey>) -> Self {
        // Room for what a small request has, signature included.
        let headers = HeaderMap::with_capacity(16);
        Self { method, key, query: String::new(), headers, is_broken: false, body: RequestBody::empty() }
    }

    /// Adds a parameter, if there is a value. Its name comes after those before.
    pub(super) fn parameter(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.query.push_str(if self.query.is_empty() { "" } else { "&" });
            self.query.push_str(name);
            self.query.push('=');
            self.query.extend(encoded(value));
        }
        self
    }

    /// Sets a header, if there is a value.
    pub(super) fn header(mut self, name: HeaderName, value: Option<impl TryInto<HeaderValue>>) -> Self {
        match value.map(TryInto::try_into) {
            Some(Ok(value)) => drop(self.headers.insert(name, value)),
            Some(Err(_)) => self.is_broken = true,
            None => {}
        }
        self
    }

    pub(super) fn body(self, body: RequestBody) -> Self {
        Self { body, ..self }
    }
}

impl Bucket {
    /// Sends a request once; anything but success is an error.
    pub(super) async fn ask(&self, call: Call<'_>, request: Request<'_>) -> Result<Answer> {
        let endpoint = self.endpoint(call).await?;
        let credentials: &CredentialCache =
            if endpoint.wants_session() { self.session().await? } else { self.connection.credentials() };
        let credentials = credentials.get().await.map_err(|error| unsigned(error, call))?;
        let Request { method, key, query, mut headers, is_broken, body } = request;
        if is_broken {
            return Err(call.error(ErrorKind::InvalidInput, "a value of the request cannot travel as an HTTP header"));
        }
        let key = key.map_or("", ObjectKey::as_str);
        let mut target = String::with_capacity(endpoint.path.len() + 2 * key.len() + query.len() + 2);
        target.push_str(&endpoint.path);
        target.push('/');
        target.extend(utf8_percent_encode(key, PATH));
        if !query.is_empty() {
            target.push('?');
            target.push_str(&query);
        }
        let target = PathAndQuery::from_maybe_shared(Bytes::from(target));
        let uri = target.ok().and_then(|target| endpoint.uri(target).ok());
        headers.insert(HOST, endpoint.host.clone());
        if method == Method::PUT {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let mut sent = http::Request::new(body);
        *sent.uri_mut() = uri.ok_or_else(|| call.error(ErrorKind::Internal, "the request has no valid address"))?;
        *sent.method_mut() = method;
        *sent.headers_mut() = headers;
        let now = endpoint.now();
        endpoint
            .sign(&mut sent, &credentials, now)
            .map_err(|error| unsigned(CredentialsError::unhandled(error), call))?;
        // Not signed, as what is on the way may add to it.
        let agent = HeaderValue::from_static(concat!("anycloud/", env!("CARGO_PKG_VERSION")));
        sent.headers_mut().insert(USER_AGENT, agent);
        let answer = self.transport.send(sent).await.map_err(|failure| call.lost(failure))?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let learnt = endpoint.learns_the_time(&answer, now);
        let region = answer.header("x-amz-bucket-region").map(str::to_owned);
        let error = self.explain_region(refusal(answer, call).await, region.as_deref(), endpoint.region());
        Err(if learnt { error.with_kind(ErrorKind::Unavailable) } else { error })
    }
}
