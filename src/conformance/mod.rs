//! The conformance suite: what it means to be a provider, as cases that run against any implementation.
//!
//! Each case is a sentence, uses names of its own so that all can run at the same time against a shared bucket, and
//! panics when the sentence does not hold. A provider of your own is tested so:
//!
//! ```no_run
//! # async fn test(store: std::sync::Arc<dyn anycloud::ObjectStore>) {
//! for case in anycloud::conformance::object_store::cases() {
//!     println!("{}", case.name());
//!     case.run(anycloud::conformance::object_store::Fixture::new(store.clone())).await;
//! }
//! # }
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a case fails by panicking")]

mod http;
pub mod job_runner;
mod naughty;
pub mod object_store;
pub mod secret_store;

use std::fmt;

use futures_util::future::BoxFuture;

use crate::{Error, ErrorKind};

/// One case: a name, and what it does with a fixture.
pub struct Case<F> {
    name: &'static str,
    run: fn(F) -> BoxFuture<'static, ()>,
}

impl<F> Case<F> {
    /// The sentence that the case proves, with underscores.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the case.
    ///
    /// # Panics
    /// When the sentence does not hold.
    pub async fn run(&self, fixture: F) {
        (self.run)(fixture).await;
    }
}

impl<F> Clone for Case<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Case<F> {}

impl<F> fmt::Debug for Case<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Case({})", self.name)
    }
}

/// Lists async functions as cases under their own names.
macro_rules! cases {
    ($($function:ident),* $(,)?) => {
        vec![$($crate::conformance::Case { name: stringify!($function), run: |fixture| Box::pin($function(fixture)) }),*]
    };
}
use cases;

/// The kind of error that a call ended with.
#[track_caller]
fn kind<T: fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    match result {
        Ok(value) => panic!("the call succeeded with {value:?}"),
        Err(error) => error.kind(),
    }
}

/// Text that no other run uses, fit for names of every family.
fn unique(what: &str) -> String {
    let id = crate::random::uuid();
    format!("{what}-{}x", &id[..8])
}
