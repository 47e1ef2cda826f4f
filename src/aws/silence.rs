//! The SDK's own events, switched off around its calls: at its finest level it logs requests and answers whole, and
//! with them values of secrets, variables of jobs and what a refusal repeats of the credentials.

use std::future::Future;
use std::sync::LazyLock;

use tracing::Dispatch;
use tracing::instrument::{WithDispatch, WithSubscriber as _};
use tracing::subscriber::NoSubscriber;

/// Hears nothing. Registered like any other: the empty dispatch of `tracing` would, where it is the first to meet an
/// event of the SDK, silence it for good, also for an application's own clients.
static SILENCE: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));

/// A call of the SDK of which no line is heard.
pub(crate) trait Silent: Future + Sized {
    /// The same call, unheard.
    fn silently(self) -> WithDispatch<Self> {
        self.with_subscriber(SILENCE.clone())
    }
}

impl<F: Future> Silent for F {}
