//! Files on the caller's side of a transfer: opened without blocking, and published whole or not at all.

use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::transfer::{Pool, Pooled};
use crate::{Error, ErrorKind, Result, random};

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

/// A file to be read in pieces of so many bytes or fewer, and its size.
pub(crate) async fn open(path: &Path, bytes: u64) -> Result<(Pieces, u64)> {
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
    // A small file costs no more memory than it has bytes; one more tells that it has not grown.
    let bytes = bytes.min(size.saturating_add(1));
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
        if piece.len() as u64 == self.bytes {
            self.reading = Some(read_piece(file, &self.pool, self.bytes));
        }
        Ok(Some(piece.freeze()))
    }
}

fn read_piece(file: std::fs::File, pool: &Pool, bytes: u64) -> Reading {
    let mut piece = pool.buffer(usize::try_from(bytes).unwrap_or(usize::MAX));
    tokio::task::spawn_blocking(move || {
        piece.read_from((&file).take(bytes))?;
        Ok((file, piece))
    })
}

/// A file that is being written, from several sides at once where that helps.
#[derive(Clone)]
pub(crate) struct Target {
    file: Arc<std::fs::File>,
    path: Arc<Path>,
}

impl Target {
    /// Writes pieces that follow one another, from this offset on.
    pub(crate) async fn write_at(&self, offset: u64, pieces: Vec<Bytes>) -> Result<()> {
        let file = Arc::clone(&self.file);
        let written = blocking(move || {
            let mut offset = offset;
            for piece in pieces {
                file.write_all_at(&piece, offset)?;
                offset += piece.len() as u64;
            }
            Ok(())
        });
        written.await.map_err(|source| error("file.write", &self.path, source))
    }
}

/// A file being written beside its final name; dropped unpublished, it is removed.
pub(crate) struct NewFile {
    target: Target,
    temporary: PathBuf,
}

impl NewFile {
    pub(crate) async fn create(target: &Path) -> Result<Self> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", random::uuid()));
        let temporary = target.with_file_name(name);
        let path = temporary.clone();
        let file = blocking(move || std::fs::File::create_new(path)).await;
        let file = file.map_err(|source| error("file.create", target, source))?;
        let target = Target { file: Arc::new(file), path: target.into() };
        Ok(Self { target, temporary })
    }

    pub(crate) fn contents(&self) -> Target {
        self.target.clone()
    }

    /// Syncs the file and gives it its name.
    pub(crate) async fn publish(self) -> Result<()> {
        let Target { file, path } = self.contents();
        let (from, to) = (self.temporary.clone(), Arc::clone(&path));
        let done = blocking(move || {
            file.sync_all()?;
            std::fs::rename(&from, &to)
        });
        done.await.map_err(|source| error("file.publish", &path, source))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After a publish there is nothing of this name.
        let _ = std::fs::remove_file(&self.temporary);
    }
}
