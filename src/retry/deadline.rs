//! The one deadline of a call that makes several requests.
//!
//! It travels with the task and not through arguments: a call that runs a job also writes to the exchange store, whose
//! contract has no place for it. What a call spawns is not part of it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Retrier, later};
use crate::{Error, ErrorKind, Result};

tokio::task_local! {
    static DEADLINE: Instant;
}

/// When the call ends that is being made, if one is.
pub(super) fn current() -> Option<Instant> {
    DEADLINE.try_get().ok()
}

/// Makes a call, or a part of one, that ends then.
#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
pub(crate) fn until<T>(deadline: Instant, call: impl Future<Output = T>) -> impl Future<Output = T> {
    DEADLINE.scope(deadline, call)
}

/// Pauses, but no longer than the call lasts.
#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
pub(crate) async fn pause(wait: Duration) {
    let end = later(Instant::now(), wait);
    sleep_until(current().map_or(end, |deadline| deadline.min(end))).await;
}

/// Waits for what is no request of this call, but no longer than the call lasts.
///
/// # Errors
/// `Timeout` then; nothing may have been changed by what is waited for.
#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
pub(crate) async fn in_time<T>(
    operation: &'static str,
    subject: impl fmt::Display,
    wait: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(deadline) = current() else { return wait.await };
    let over = |_| Err(Error::new(ErrorKind::Timeout, operation, subject, "the call's time is over"));
    timeout_at(deadline, wait).await.unwrap_or_else(over)
}

/// What knows the retry policy of its provider.
#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
pub(crate) trait Retrying {
    fn retrier(&self) -> &Retrier;
}

/// What the operations of a contract are made on. There is no way to it but to say how each is timed.
#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
#[derive(Debug)]
pub(crate) struct Calls<T>(Arc<T>);

#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
impl<T: Retrying> Calls<T> {
    pub(crate) fn new(of: T) -> Self {
        Self(Arc::new(of))
    }

    /// An operation that ends at one deadline, whatever it takes.
    pub(crate) fn one<'a, Fut: Future>(
        &'a self,
        operation: impl FnOnce(&'a Arc<T>) -> Fut,
    ) -> impl Future<Output = Fut::Output> {
        self.0.retrier().one_call(operation(&self.0))
    }

    /// An operation, such as a listing, each step of which has a call's time, however many there are.
    pub(crate) fn each(&self) -> &Arc<T> {
        &self.0
    }
}

impl<T> Clone for Calls<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
