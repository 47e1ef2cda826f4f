use std::error::Error as StdError;
use std::fmt;

use crate::{Error, ErrorKind};

/// Why there is no answer, or no whole one.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: ErrorKind,
    may_have_arrived: bool,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Failure {
    /// Nothing left this machine, or nobody took it.
    pub(crate) fn never_sent(message: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source = Some(source.into());
        Self { kind: ErrorKind::Unavailable, may_have_arrived: false, message: message.into(), source }
    }

    /// The request, or a part of it, was on its way when the connection broke.
    pub(crate) fn lost(message: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source = Some(source.into());
        Self { kind: ErrorKind::Unavailable, may_have_arrived: true, message: message.into(), source }
    }

    /// The answer is not what HTTP promised: as good as none.
    pub(crate) fn nonsense(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Unavailable, may_have_arrived: true, message: message.into(), source: None }
    }

    /// The settings forbid it; nothing was sent.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::InvalidConfig, may_have_arrived: false, message: message.into(), source: None }
    }

    /// The same for a call that changes nothing, whatever became of it.
    pub(crate) fn into_reading_error(mut self, operation: &'static str, subject: impl fmt::Display) -> Error {
        self.may_have_arrived = false;
        self.into_error(operation, subject)
    }

    /// The same in the words of a call. The source tells of the connection only, never of what was sent.
    pub(crate) fn into_error(self, operation: &'static str, subject: impl fmt::Display) -> Error {
        let mut error = Error::new(self.kind, operation, subject, self.message);
        if self.may_have_arrived {
            error = error.with_may_have_applied();
        }
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}
