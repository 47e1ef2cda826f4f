//! Files on the caller's side of a transfer: opened without blocking, and published whole or not at all.

use std::future::Future as _;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

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

/// A file to be read, and its size.
pub(crate) async fn open(path: &Path) -> Result<(FileReader, u64)> {
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
    Ok((FileReader { file: Some(file), reading: None, piece: Bytes::new() }, size))
}

/// A read under way, which gives the file back.
type Reading = tokio::task::JoinHandle<io::Result<(std::fs::File, Vec<u8>)>>;

/// Reads a file in large pieces on blocking threads.
pub(crate) struct FileReader {
    file: Option<std::fs::File>,
    reading: Option<Reading>,
    piece: Bytes,
}

impl tokio::io::AsyncRead for FileReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.piece.is_empty() {
            if let Some(mut file) = self.file.take() {
                let room = buf.remaining();
                self.reading = Some(tokio::task::spawn_blocking(move || {
                    let mut piece = Vec::with_capacity(room);
                    (&mut file).take(room as u64).read_to_end(&mut piece)?;
                    Ok((file, piece))
                }));
            }
            let Some(reading) = &mut self.reading else { return Poll::Ready(Ok(())) };
            let (file, piece) = ready!(Pin::new(reading).poll(cx)).map_err(io::Error::other)??;
            self.reading = None;
            self.file = Some(file);
            self.piece = piece.into();
        }
        let count = self.piece.len().min(buf.remaining());
        buf.put_slice(&self.piece.split_to(count));
        Poll::Ready(Ok(()))
    }
}

/// A file being written beside its final name; dropped unpublished, it is removed.
pub(crate) struct NewFile {
    file: Option<std::fs::File>,
    temporary: PathBuf,
    target: PathBuf,
}

impl NewFile {
    pub(crate) async fn create(target: &Path) -> Result<Self> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", random::uuid()));
        let temporary = target.with_file_name(name);
        let path = temporary.clone();
        let file = blocking(move || std::fs::File::create_new(path)).await;
        let file = file.map_err(|source| error("file.create", target, source))?;
        Ok(Self { file: Some(file), temporary, target: target.to_owned() })
    }

    pub(crate) async fn write(&mut self, bytes: &Bytes) -> Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let bytes = bytes.clone();
        let written = blocking(move || file.write_all(&bytes).map(|()| file)).await;
        self.file = Some(written.map_err(|source| error("file.write", &self.target, source))?);
        Ok(())
    }

    /// Syncs the file and gives it its name.
    pub(crate) async fn publish(mut self) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let (from, to) = (self.temporary.clone(), self.target.clone());
        let done = blocking(move || {
            file.sync_all()?;
            std::fs::rename(&from, &to)
        });
        done.await.map_err(|source| error("file.publish", &self.target, source))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After a publish there is nothing of this name.
        let _ = std::fs::remove_file(&self.temporary);
    }
}
