use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::task::JoinHandle;

use crate::{Error, ErrorKind, Result};

/// Work that goes on by itself on the runtime, and ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Task<T>(JoinHandle<Result<T>>);

impl<T: Send + 'static> Task<T> {
    pub(crate) fn spawn(work: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(result) => result,
            Err(error) if error.is_cancelled() => {
                Err(Error::new(ErrorKind::Cancelled, "transfer", "", "the runtime is shutting down"))
            }
            Err(error) => Err(Error::new(ErrorKind::Internal, "transfer", "", "a task panicked").with_source(error)),
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
