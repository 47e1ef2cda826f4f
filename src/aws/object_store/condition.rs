use std::fmt;

use tokio::time::{Instant, timeout_at};

use super::bucket::Bucket;
use super::version::state;
use crate::object_store::{HeadOptions, ObjectMeta};
use crate::{Error, ErrorKind, ObjectKey, PutMode, Result, WriteId};

/// The precondition of a write, as S3 takes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Condition {
    pub(super) if_none_match: Option<String>,
    pub(super) if_match: Option<String>,
}

impl Condition {
    pub(super) fn of(mode: &PutMode, operation: &'static str, subject: impl fmt::Display) -> Result<Self> {
        Ok(match mode {
            PutMode::Overwrite => Self::default(),
            // S3 takes nothing else here: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
            PutMode::Create => Self { if_none_match: Some("*".to_owned()), if_match: None },
            PutMode::Replace(version) => {
                Self { if_none_match: None, if_match: Some(state(version, operation, subject)?.etag) }
            }
        })
    }
}

/// One logical write: what its answer, or the lack of one, is judged by.
pub(super) struct Write<'a> {
    pub(super) operation: &'static str,
    pub(super) key: &'a ObjectKey,
    pub(super) mode: &'a PutMode,
    pub(super) id: &'a WriteId,
    pub(super) deadline: Instant,
}

impl Bucket {
    /// What became of a write that ended in an error: `Ok` if it was applied after all.
    ///
    /// A condition that fails after an attempt whose answer was lost may be the echo of that attempt: the id that
    /// the object carries tells.
    pub(super) async fn settle(&self, write: Write<'_>, error: Error) -> Result<ObjectMeta> {
        let refused = error.kind() == ErrorKind::PreconditionFailed;
        if !error.may_have_applied() {
            return Err(judged(write.mode, error).with_write_id(write.id.clone()));
        }
        let now = timeout_at(write.deadline, self.head(write.key, HeadOptions::default())).await;
        match (now, write.mode) {
            (Ok(Ok(meta)), _) if meta.write_id.as_ref() == Some(write.id) => Ok(meta),
            // Somebody else's object kept ours out.
            (Ok(Ok(_)), PutMode::Create) if refused => Err(judged(write.mode, error).with_write_id(write.id.clone())),
            // Ours may have been applied and then replaced or deleted.
            _ => {
                let error = error.with_operation(write.operation, self.uri(write.key));
                Err(error.into_indeterminate().with_write_id(write.id.clone()))
            }
        }
    }
}

/// A refused condition in the words of the contract.
pub(super) fn judged(mode: &PutMode, error: Error) -> Error {
    match (mode, error.kind()) {
        (PutMode::Create, ErrorKind::PreconditionFailed) => {
            error.with_kind(ErrorKind::AlreadyExists).with_message("there is an object of this key")
        }
        // On a missing key S3 answers `If-Match` with 404:
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
        (PutMode::Replace(_), ErrorKind::NotFound) => {
            error.with_kind(ErrorKind::PreconditionFailed).with_message("the object is missing")
        }
        (PutMode::Replace(_), ErrorKind::PreconditionFailed) => error.with_message("another version is current"),
        _ => error,
    }
}
