use std::fmt;

use super::bucket::Bucket;
use super::version::generation;
use crate::object_store::{HeadOptions, ObjectMeta, Write};
use crate::retry::until;
use crate::{Error, ErrorKind, PutMode, Result};

/// The precondition of a write as a piece of a query. Generation 0 stands for no object:
/// <https://cloud.google.com/storage/docs/request-preconditions>
pub(super) fn query(mode: &PutMode, operation: &'static str, subject: impl fmt::Display) -> Result<String> {
    Ok(match mode {
        PutMode::Overwrite => String::new(),
        PutMode::Create => "&ifGenerationMatch=0".to_owned(),
        PutMode::Replace(version) => format!("&ifGenerationMatch={}", generation(version, operation, subject)?),
    })
}

impl Bucket {
    /// What became of a write that ended in an error: `Ok` if it was applied after all.
    pub(super) async fn settle(&self, write: Write<'_>, error: Error) -> Result<ObjectMeta> {
        if !error.may_have_applied() {
            return Err(judged(write.mode, error).with_write_id(write.id.clone()));
        }
        let found = until(write.deadline, self.head(write.key, HeadOptions::default())).await;
        let found = found.ok().map(|meta| (meta.clone(), Some(meta.last_modified)));
        write.verdict(found, self.uri(write.key), error).map_err(|error| judged(write.mode, error))
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
