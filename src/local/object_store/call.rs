//! One call on one key: what its errors name.

use std::io;

use super::record::Unreadable;
use crate::local::error::failed;
use crate::{Error, ErrorKind, ObjectKey, Result};

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) operation: &'static str,
    pub(super) subject: String,
    pub(super) key: ObjectKey,
}

impl Call {
    pub(super) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, self.operation, &self.subject, message)
    }

    pub(super) fn io(&self, doing: &str, source: io::Error) -> Error {
        failed(self.operation, &self.subject, doing, source)
    }

    pub(super) fn unreadable(&self, error: Unreadable) -> Error {
        match error {
            Unreadable::Io(source) => self.io("the object could not be read", source),
            Unreadable::Damaged(why) => self.error(ErrorKind::Corrupt, format!("the file is damaged: {why}")),
        }
    }
}

/// Runs work that waits for the disk on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(
    operation: &'static str,
    subject: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(Error::new(ErrorKind::Internal, operation, subject, "the work was not finished").with_source(error))
        }
    }
}
