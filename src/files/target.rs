use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::partial::Journal;
use super::{blocking, error};
use crate::object_store::Crc32c;
use crate::transfer::Task;
use crate::{Result, random};

/// How much is gathered before it is written, by each of those who write.
const WRITE_BYTES: u64 = 512 << 10;
/// How many write at the same time: more of them do not make a disk faster.
const WRITES: usize = 4;

/// A file that is being written, from several sides at once where that helps.
#[derive(Clone)]
pub(crate) struct Target {
    pub(super) file: Arc<File>,
    pub(super) path: Arc<Path>,
    turns: Arc<Semaphore>,
    /// Is told what is written.
    pub(super) journal: Option<Arc<Journal>>,
    /// What the offsets are counted from.
    begin: u64,
}

impl Target {
    pub(super) fn new(file: Arc<File>, path: &Path, journal: Option<Journal>) -> Self {
        let turns = Arc::new(Semaphore::new(WRITES));
        Self { file, path: path.into(), turns, journal: journal.map(Arc::new), begin: 0 }
    }

    /// The same file from this offset on.
    pub(crate) fn from(&self, offset: u64) -> Self {
        Self { begin: self.begin + offset, ..self.clone() }
    }

    /// Writes what comes from this offset on.
    pub(crate) fn writing(&self, offset: u64) -> Writing {
        Writing {
            next: self.begin + offset,
            target: self.clone(),
            held: Vec::new(),
            bytes: 0,
            crc: Crc32c(0),
            total: Crc32c(0),
            under_way: None,
        }
    }

    /// Writes chunks that follow one another.
    async fn write(self, offset: u64, bytes: u64, crc: Crc32c, chunks: Vec<Bytes>) -> Result<()> {
        let _turn = self.turns.acquire().await;
        let (file, journal) = (Arc::clone(&self.file), self.journal.clone());
        let written = blocking(move || {
            let mut at = offset;
            for chunk in chunks {
                file.write_all_at(&chunk, at)?;
                at += chunk.len() as u64;
            }
            journal.map_or(Ok(()), |journal| journal.note(&file, offset..offset + bytes, crc))
        });
        written.await.map_err(|source| error("file.write", &self.path, source))
    }
}

/// Bytes on their way into a file: the next come while those before are written.
pub(crate) struct Writing {
    target: Target,
    next: u64,
    held: Vec<Bytes>,
    bytes: u64,
    crc: Crc32c,
    total: Crc32c,
    under_way: Option<Task<()>>,
}

impl Writing {
    pub(crate) async fn push(&mut self, chunk: Bytes) -> Result<()> {
        self.bytes += chunk.len() as u64;
        self.crc = self.crc.append(&chunk);
        self.held.push(chunk);
        if self.bytes >= WRITE_BYTES { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<()> {
        if let Some(before) = self.under_way.take() {
            before.await?;
        }
        let (bytes, crc) = (std::mem::take(&mut self.bytes), std::mem::replace(&mut self.crc, Crc32c(0)));
        let write = self.target.clone().write(self.next, bytes, crc, std::mem::take(&mut self.held));
        self.under_way = Some(Task::spawn(write));
        self.total = self.total.combine(crc, bytes);
        self.next += bytes;
        Ok(())
    }

    /// Once all is written: the checksum of it.
    pub(crate) async fn finish(mut self) -> Result<Crc32c> {
        if self.bytes > 0 {
            self.write().await?;
        }
        if let Some(last) = self.under_way.take() {
            last.await?;
        }
        Ok(self.total)
    }
}

/// Takes up the room that a file will need, where the file system can do that beforehand.
pub(super) fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::io::Errno;
    loop {
        return match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Err(Errno::INTR) => continue,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            other => other.map_err(io::Error::from),
        };
    }
}

/// Syncs a file and gives it its name, so that after a power cut it is there, whole, once this has returned.
pub(super) fn publish(file: &File, from: &Path, to: &Path) -> io::Result<()> {
    file.sync_all()?;
    std::fs::rename(from, to)?;
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// A file being written beside its final name; dropped unpublished, it is removed.
pub(crate) struct NewFile {
    target: Target,
    temporary: PathBuf,
}

impl NewFile {
    /// With room for so many bytes.
    pub(crate) async fn create(target: &Path, bytes: u64) -> Result<Self> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", random::uuid()));
        let temporary = target.with_file_name(name);
        let path = temporary.clone();
        let file = blocking(move || {
            let file = File::create_new(&path)?;
            if bytes > WRITE_BYTES
                && let Err(error) = preallocate(&file, bytes)
            {
                let _ = std::fs::remove_file(&path);
                return Err(error);
            }
            Ok(file)
        });
        let file = file.await.map_err(|source| error("file.create", target, source))?;
        Ok(Self { target: Target::new(Arc::new(file), target, None), temporary })
    }

    pub(crate) fn contents(&self) -> Target {
        self.target.clone()
    }

    /// Syncs the file and gives it its name.
    pub(crate) async fn publish(self) -> Result<()> {
        let Target { file, path, .. } = self.contents();
        let (from, to) = (self.temporary.clone(), Arc::clone(&path));
        let done = blocking(move || publish(&file, &from, &to));
        done.await.map_err(|source| error("file.publish", &path, source))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After a publish there is nothing of this name.
        let _ = std::fs::remove_file(&self.temporary);
    }
}
