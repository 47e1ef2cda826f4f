//! The lean HTTP transport of the providers that speak HTTP themselves.
//!
//! HTTP/1.1 over pooled connections; requests held in memory in pieces, so that they can be sent again; answers
//! streamed. Nothing is repeated here and no redirect is followed: credentials go nowhere but where they were meant
//! to. A failure says whether the request may have arrived, which is what decides about sending it again.

mod address;
mod body;
mod client;
mod failure;
mod proxy;
#[cfg(test)]
pub(crate) mod scripted;

use std::fmt::Debug;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub(crate) use address::is_safe_address;
pub(crate) use body::{AnswerBody, RequestBody};
pub(crate) use client::HttpClient;
pub(crate) use failure::Failure;

/// Sends one request. The seam at which tests put other transports.
pub(crate) trait Transport: Debug + Send + Sync + 'static {
    fn send(&self, request: ::http::Request<RequestBody>) -> BoxFuture<'_, Result<Answer, Failure>>;
}

/// An answer whose head has arrived.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ::http::HeaderMap,
    pub(crate) body: AnswerBody,
}

impl Answer {
    /// A header's text, if it is there and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The rest of the answer, of at most `limit` bytes.
    ///
    /// # Errors
    /// A connection that broke, a body shorter than announced, a body over the limit.
    pub(crate) async fn bytes(self, limit: usize) -> Result<Bytes, Failure> {
        self.body.collect(limit).await
    }
}
