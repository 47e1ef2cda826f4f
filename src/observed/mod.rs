//! What is the same for every provider and belongs before and around each call: checks of the input, and spans.

mod job_runner;
mod object_store;
mod secret_store;
#[cfg(test)]
#[cfg(feature = "local")]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _};
use tracing::{Instrument as _, Span};

use crate::{Error, ErrorKind, Result};

pub(crate) use job_runner::Exchanging;
pub(crate) use object_store::Transferring;

/// A store or runner whose calls are checked and traced. Also where large reads are put on several connections, so
/// that they are for every provider.
#[derive(Debug)]
pub(crate) struct Observed<S> {
    inner: S,
}

impl<S> Observed<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner }
    }
}

/// Runs a call, its checks included, in its span, and notes in the span how it ended.
async fn traced<T>(span: Span, call: impl Future<Output = Result<T>>) -> Result<T> {
    let result = call.instrument(span.clone()).await;
    if let Err(error) = &result {
        note(&span, error);
    }
    result
}

/// Writes into a span that what it covers has failed.
fn note(span: &Span, error: &Error) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", error.kind().anchor());
    if let Some(status) = error.status() {
        span.record("http.response.status_code", status);
    }
}

/// A stream whose span lasts until it is dropped, and covers the work of every item.
struct Traced<S> {
    span: Span,
    stream: S,
}

impl<T, S: Stream<Item = Result<T>> + Unpin> Stream for Traced<S> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { span, stream } = &mut *self;
        let next = span.in_scope(|| stream.poll_next_unpin(cx));
        if let Poll::Ready(Some(Err(error))) = &next {
            note(span, error);
        }
        next
    }
}

/// A stream in its span, or in its place, where the input is refused, the error.
fn traced_stream<T: Send + 'static>(
    span: Span,
    checked: Result<()>,
    begin: impl FnOnce() -> BoxStream<'static, Result<T>>,
) -> BoxStream<'static, Result<T>> {
    let stream = match checked {
        Ok(()) => span.in_scope(begin),
        Err(error) => stream::iter([Err(error)]).boxed(),
    };
    Traced { span, stream }.boxed()
}

/// Refuses labels that some provider would refuse, or take for a part of a filter.
fn check_labels(operation: &'static str, subject: impl fmt::Display, labels: &BTreeMap<String, String>) -> Result<()> {
    let portable = |text: &str| {
        text.len() <= 63
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    };
    let bad = labels
        .iter()
        .find(|(key, value)| !portable(key) || !key.starts_with(|c: char| c.is_ascii_lowercase()) || !portable(value));
    match bad {
        None if labels.len() <= 50 => Ok(()),
        None => Err(Error::new(ErrorKind::InvalidInput, operation, subject, "there are at most 50 labels")),
        Some((key, value)) => {
            let message = format!("the label {key:?}={value:?} is not portable");
            Err(Error::new(ErrorKind::InvalidInput, operation, subject, message))
        }
    }
}
