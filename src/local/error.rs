//! What errors of the operating system mean to a caller.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::{Error, ErrorKind};

/// The kind of an error of a file operation. `NotFound` is for the caller to judge: most files are not objects.
pub(crate) fn kind(error: &io::Error) -> ErrorKind {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(
            Errno::NOSPC
            | Errno::DQUOT
            | Errno::FBIG
            | Errno::MFILE
            | Errno::NFILE
            | Errno::NOMEM
            | Errno::NOLCK
            | Errno::MLINK,
        ) => ErrorKind::ResourceExhausted,
        // A link, or a way out, in the place of a store's own directory.
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::LOOP | Errno::XDEV | Errno::NOTDIR) => {
            ErrorKind::PermissionDenied
        }
        _ => ErrorKind::Internal,
    }
}

/// An error of a file operation, with what was being done.
pub(crate) fn failed(operation: &'static str, subject: impl fmt::Display, doing: &str, source: io::Error) -> Error {
    let message = format!("{doing}: {source}");
    Error::new(kind(&source), operation, subject, message).with_source(source)
}
