//! What is the same for every provider and belongs before and around each call: checks of the input, and spans.

mod job_runner;
mod object_store;
mod secret_store;

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

/// Runs a call in its span, and notes in the span how it ended: `otel.status_code`, `error.type`.
async fn traced<T>(span: tracing::Span, call: impl Future<Output = crate::Result<T>>) -> crate::Result<T> {
    use tracing::Instrument as _;
    let result = call.instrument(span.clone()).await;
    if let Err(error) = &result {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", error.kind().anchor());
    }
    result
}
