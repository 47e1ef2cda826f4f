//! Files on the caller's side of a transfer: opened without blocking, and published whole or not at all.

mod partial;
mod target;

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

pub(crate) use partial::{Identity, Partial, Piece};
pub(crate) use target::{NewFile, Target, Writing};

use crate::transfer::{Pool, Pooled};
use crate::{Error, ErrorKind, Result};

/// Runs a blocking file operation off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// An error of a file operation.
pub(crate) fn error(operation: &'static str, path: &Path, source: io::Error) -> Error {
    let kind = match source.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput => {
            ErrorKind::InvalidInput
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            ErrorKind::ResourceExhausted
        }
        _ => ErrorKind::Internal,
    };
    let message = format!("the file operation failed: {}", source.kind());
    Error::new(kind, operation, path.display(), message).with_source(source)
}

/// How much of a file is read at a time: little enough to be in the processor's cache when it is summed and sent.
const PIECE_BYTES: u64 = 1 << 20;

/// What is smaller is read at once, as it is sent.
const SMALL_BYTES: u64 = 5 << 20;

/// A file to be read in pieces, and its size.
pub(crate) async fn open(path: &Path) -> Result<(Pieces, u64)> {
    let owned = path.to_owned();
    let opened = blocking(move || {
        let file = std::fs::File::open(&owned)?;
        let meta = file.metadata()?;
        if meta.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        Ok((file, meta.len()))
    });
    let (file, size) = opened.await.map_err(|source| error("file.open", path, source))?;
    // A small file is one piece, and costs no more memory than it has bytes; one more tells that it has not grown.
    let bytes = if size < SMALL_BYTES { size + 1 } else { PIECE_BYTES };
    let pool = Pool::default();
    Ok((Pieces { reading: Some(read_piece(file, &pool, bytes)), pool, bytes, path: path.to_owned() }, size))
}

/// A read under way, which gives the file back.
type Reading = tokio::task::JoinHandle<io::Result<(std::fs::File, Pooled)>>;

/// Reads a file from beginning to end in large pieces, one ahead of the caller.
pub(crate) struct Pieces {
    reading: Option<Reading>,
    pool: Pool,
    bytes: u64,
    path: PathBuf,
}

impl Pieces {
    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(reading) = self.reading.take() else { return Ok(None) };
        let read = reading.await.unwrap_or_else(|failed| Err(io::Error::other(failed)));
        let (file, piece) = read.map_err(|source| error("file.read", &self.path, source))?;
        if piece.is_empty() {
            return Ok(None);
        }
        if piece.len() as u64 >= self.bytes {
            self.reading = Some(read_piece(file, &self.pool, self.bytes));
        }
        Ok(Some(piece.freeze()))
    }
}

fn read_piece(file: std::fs::File, pool: &Pool, bytes: u64) -> Reading {
    let mut piece = pool.buffer(usize::try_from(bytes).unwrap_or(usize::MAX));
    tokio::task::spawn_blocking(move || {
        piece.fill_from(&file)?;
        Ok((file, piece))
    })
}
