//! A bare HTTP client: what the bearer of a signed URL has.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::object_store::SignedRequest;

/// An answer, read to its end.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Bytes,
}

/// Makes the request exactly as it was signed, or with another method or address.
pub(super) async fn send(request: &SignedRequest, method: &str, url: &str, body: &[u8]) -> Answer {
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_native_roots()
        .expect("the system's certificates can be read")
        .https_or_http()
        .enable_http1()
        .build();
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let mut builder = http::Request::builder().method(method).uri(url);
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let request = builder.body(Full::new(Bytes::copy_from_slice(body))).expect("the signed request is well formed");
    let response = client.request(request).await.expect("the signed request is answered");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("the answer arrives whole").to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}
