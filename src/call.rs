//! One call to a provider, as its errors tell of it.

use crate::http::Failure;
use crate::{Error, ErrorKind};

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing that anybody sees: a failure says no more than that it failed.
    Reads,
    /// It changes something: a lost answer leaves it open whether it did.
    Changes,
}

/// What a failed call is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) operation: &'static str,
    pub(crate) subject: &'a str,
    pub(crate) effect: Effect,
    /// The permission that the call needs, such as `s3:PutObject`, for the message of a denial.
    pub(crate) permission: &'static str,
}

impl<'a> Call<'a> {
    pub(crate) const fn reading(operation: &'static str, subject: &'a str, permission: &'static str) -> Self {
        Self { operation, subject, effect: Effect::Reads, permission }
    }

    pub(crate) const fn changing(operation: &'static str, subject: &'a str, permission: &'static str) -> Self {
        Self { operation, subject, effect: Effect::Changes, permission }
    }

    pub(crate) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, self.operation, self.subject, message)
    }

    /// The transport's failure as this call's error.
    pub(crate) fn lost(&self, failure: Failure) -> Error {
        match self.effect {
            Effect::Reads => failure.into_reading_error(self.operation, self.subject),
            Effect::Changes => failure.into_error(self.operation, self.subject),
        }
    }
}
