use std::time::SystemTime;

use tokio::time::Instant;

use super::{ObjectMeta, ObjectUri, PutMode};
use crate::retry::was_there_before;
use crate::{Error, ErrorKind, ObjectKey, Result, WriteId};

/// One logical write: what its answer, or the lack of one, is judged by.
pub(crate) struct Write<'a> {
    pub(crate) operation: &'static str,
    pub(crate) key: &'a ObjectKey,
    pub(crate) mode: &'a PutMode,
    pub(crate) id: &'a WriteId,
    pub(crate) begun: SystemTime,
    pub(crate) deadline: Instant,
}

impl Write<'_> {
    /// What became of a write, an attempt of which had no answer, and which ended in this error: `Ok` if it was
    /// applied after all.
    ///
    /// A condition that fails after such an attempt may be the echo of it. The id that the object carries tells whose
    /// it is, and its age whether it was there before: otherwise the write may have been applied, and then replaced
    /// or deleted. `found` is the object and when it changed, where that is known.
    pub(crate) fn verdict(
        &self,
        found: Option<(ObjectMeta, Option<SystemTime>)>,
        uri: ObjectUri,
        error: Error,
    ) -> Result<ObjectMeta> {
        match found {
            Some((meta, _)) if meta.write_id.as_ref() == Some(self.id) => Ok(meta),
            Some((_, Some(changed)))
                if error.kind() == ErrorKind::PreconditionFailed && was_there_before(changed, self.begun) =>
            {
                Err(error.with_write_id(self.id.clone()))
            }
            _ => {
                let error = error.with_operation(self.operation, uri);
                Err(error.into_indeterminate().with_write_id(self.id.clone()))
            }
        }
    }
}
