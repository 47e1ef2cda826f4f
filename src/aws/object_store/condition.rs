use std::fmt;
use std::time::SystemTime;

use super::bucket::Bucket;
use super::version::state;
use crate::object_store::{HeadOptions, ObjectMeta, Write};
use crate::retry::until;
use crate::{Error, ErrorKind, PutMode, Result};

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

impl Bucket {
    /// What became of a write that ended in an error: `Ok` if it was applied after all.
    pub(super) async fn settle(&self, write: Write<'_>, error: Error) -> Result<ObjectMeta> {
        if !error.may_have_applied() {
            return Err(judged(write.mode, error).with_write_id(write.id.clone()));
        }
        let found = until(write.deadline, self.head(write.key, HeadOptions::default())).await;
        let found = found.ok().map(|meta| {
            let changed = changed(&meta);
            (meta, changed)
        });
        write.verdict(found, self.uri(write.key), error).map_err(|error| judged(write.mode, error))
    }
}

/// When the object became what it is. One that was uploaded in parts, as its ETag shows, bears the time at which its
/// upload began: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>
fn changed(meta: &ObjectMeta) -> Option<SystemTime> {
    let etag = state(&meta.version, "object_store.head", "").ok()?.etag;
    (!etag.contains('-')).then_some(meta.last_modified)
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
