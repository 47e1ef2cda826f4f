use std::fmt;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout_at};

use super::bucket::Bucket;
use super::version::generation;
use crate::object_store::{HeadOptions, ObjectMeta};
use crate::{Error, ErrorKind, ObjectKey, PutMode, Result, WriteId};

/// How far this machine's clock may be from the service's.
const CLOCK_SKEW: Duration = Duration::from_secs(600);

/// The precondition of a write as a piece of a query. Generation 0 stands for no object:
/// <https://cloud.google.com/storage/docs/request-preconditions>
pub(super) fn query(mode: &PutMode, operation: &'static str, subject: impl fmt::Display) -> Result<String> {
    Ok(match mode {
        PutMode::Overwrite => String::new(),
        PutMode::Create => "&ifGenerationMatch=0".to_owned(),
        PutMode::Replace(version) => format!("&ifGenerationMatch={}", generation(version, operation, subject)?),
    })
}

/// One logical write: what its answer, or the lack of one, is judged by.
pub(super) struct Write<'a> {
    pub(super) operation: &'static str,
    pub(super) key: &'a ObjectKey,
    pub(super) mode: &'a PutMode,
    pub(super) id: &'a WriteId,
    pub(super) begun: SystemTime,
    pub(super) deadline: Instant,
}

impl Bucket {
    /// What became of a write that ended in an error: `Ok` if it was applied after all.
    ///
    /// A condition that fails after an attempt whose answer was lost may be the echo of that attempt: the id that
    /// the object carries tells.
    pub(super) async fn settle(&self, write: Write<'_>, error: Error) -> Result<ObjectMeta> {
        if !error.may_have_applied() || matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::InvalidConfig) {
            return Err(judged(write.mode, error).with_write_id(write.id.clone()));
        }
        let refused = error.kind() == ErrorKind::PreconditionFailed;
        match timeout_at(write.deadline, self.head(write.key, HeadOptions::default())).await {
            Ok(Ok(meta)) if meta.write_id.as_ref() == Some(write.id) => Ok(meta),
            // What has not changed since before the first attempt kept ours out.
            Ok(Ok(meta)) if refused && meta.last_modified + CLOCK_SKEW < write.begun => {
                Err(judged(write.mode, error).with_write_id(write.id.clone()))
            }
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
        (PutMode::Replace(_), ErrorKind::PreconditionFailed) => {
            error.with_message("the object is missing or another version is current")
        }
        _ => error,
    }
}
