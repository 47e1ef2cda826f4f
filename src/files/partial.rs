//! A download that may be taken up again: the bytes that came, and after them in the same file a journal that says
//! which ones these are.
//!
//! The journal is not synced. What it says is compared with what is there before it is believed, so that it may say
//! too much after a power cut, or be damaged like any other file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::target::{Target, preallocate, publish};
use super::{blocking, error};
use crate::Result;
use crate::object_store::Crc32c;

/// What is appended to the name of the file that is to be.
const SUFFIX: &str = ".anycloud-partial";
/// What the journal begins with: the form of what follows, and which version of which object this is about.
const FORM: &[u8; 16] = b"anycloud-parts-1";
const HEADER: u64 = 16 + 32;
/// Begin and end, the checksum of what is between, and that of all these.
const RECORD: usize = 8 + 8 + 4 + 4;
/// What a dropped download was writing is written within this, and then the file is free.
const PATIENCE: Duration = Duration::from_millis(500);
const READ_BYTES: usize = 1 << 20;

/// Bytes that are there, and their checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) range: Range<u64>,
    pub(crate) crc: Crc32c,
}

/// Which version of which object a file is of.
pub(crate) struct Identity {
    digest: [u8; 32],
    size: u64,
}

impl Identity {
    pub(crate) fn new(object: &str, version: &str, size: u64) -> Self {
        Self { digest: Sha256::digest(format!("{object}\n{version}\n{size}")).into(), size }
    }
}

/// What is known to be in the file.
pub(super) struct Journal {
    /// Where the next record goes.
    end: AtomicU64,
    pieces: Mutex<Vec<Piece>>,
}

impl Journal {
    /// So many bytes were written.
    pub(super) fn note(&self, file: &File, range: Range<u64>, crc: Crc32c) -> io::Result<()> {
        let mut record = [0; RECORD];
        record[..8].copy_from_slice(&range.start.to_le_bytes());
        record[8..16].copy_from_slice(&range.end.to_le_bytes());
        record[16..20].copy_from_slice(&crc.0.to_le_bytes());
        let check = Crc32c::of(&record[..20]);
        record[20..].copy_from_slice(&check.0.to_le_bytes());
        file.write_all_at(&record, self.end.fetch_add(RECORD as u64, Ordering::Relaxed))?;
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner).push(Piece { range, crc });
        Ok(())
    }
}

fn parse(record: &[u8; RECORD], size: u64) -> Option<Piece> {
    let number = |at: usize| record[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or_default();
    let sum = |at: usize| record[at..at + 4].try_into().map(u32::from_le_bytes).unwrap_or_default();
    let (range, crc) = (number(0)..number(8), Crc32c(sum(16)));
    let sound = Crc32c::of(&record[..20]).0 == sum(20) && range.start < range.end && range.end <= size;
    sound.then_some(Piece { range, crc })
}

/// A file beside its final name that is kept when it is dropped with something in it. Nobody else has it open through
/// this type.
pub(crate) struct Partial {
    target: Target,
    temporary: PathBuf,
    size: u64,
}

impl Partial {
    fn path(target: &Path) -> PathBuf {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(SUFFIX);
        target.with_file_name(name)
    }

    /// Whether an earlier download left something.
    pub(crate) async fn is_there(target: &Path) -> bool {
        let path = Self::path(target);
        blocking(move || std::fs::symlink_metadata(path)).await.is_ok()
    }

    /// Removes what an earlier download left, unless another one is at it.
    pub(crate) async fn remove(target: &Path) {
        let path = Self::path(target);
        // What cannot be removed does no harm: it is looked at before it is used.
        let _ = blocking(move || lock(&path)?.map_or(Ok(()), |_locked| std::fs::remove_file(&path))).await;
    }

    /// Opens what an earlier download of the same version left, with the pieces of it that are sound, or begins anew,
    /// with room for all. `None` if another download to the same path is under way, or the place is taken by
    /// something that is not ours to write to.
    pub(crate) async fn open(target: &Path, identity: Identity) -> Result<Option<(Self, Vec<Piece>)>> {
        let path = Self::path(target);
        let failed = |source| error("file.create", target, source);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let file = loop {
            let path = path.clone();
            match blocking(move || lock(&path)).await {
                Ok(Some(file)) => break file,
                Ok(None) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(None) => return Ok(None),
                Err(source) if is_not_ours(&source) => return Ok(None),
                Err(source) => return Err(failed(source)),
            }
        };
        let (file, owned, size) = (Arc::new(file), path.clone(), identity.size);
        let prepared = blocking({
            let file = Arc::clone(&file);
            move || {
                prepare(&file, &identity).inspect_err(|_| {
                    let _ = std::fs::remove_file(owned);
                })
            }
        });
        let (pieces, end) = prepared.await.map_err(failed)?;
        let journal = Journal { end: AtomicU64::new(end), pieces: Mutex::new(pieces.clone()) };
        let target = Target::new(file, target, Some(journal));
        Ok(Some((Self { target, temporary: path, size }, pieces)))
    }

    pub(crate) fn contents(&self) -> Target {
        self.target.clone()
    }

    /// The checksum of the whole, if all of it is there.
    pub(crate) fn checksum(&self) -> Option<Crc32c> {
        let journal = self.target.journal.as_ref()?;
        let mut pieces = journal.pieces.lock().unwrap_or_else(PoisonError::into_inner).clone();
        pieces.sort_by_key(|piece| piece.range.start);
        let (end, crc) = pieces.into_iter().fold((0, Crc32c(0)), |(end, sum), Piece { range, crc }| {
            let bytes = range.end - range.start;
            (if range.start == end { range.end } else { u64::MAX }, sum.combine(crc, bytes))
        });
        (end == self.size).then_some(crc)
    }

    /// Removes the file.
    pub(crate) async fn discard(self) {
        let path = self.temporary.clone();
        let _ = blocking(move || std::fs::remove_file(path)).await;
    }

    /// Takes the journal away, syncs the file and gives it its name.
    pub(crate) async fn publish(&self) -> Result<()> {
        let Target { file, path, .. } = self.contents();
        let (from, to, size) = (self.temporary.clone(), Arc::clone(&path), self.size);
        let done = blocking(move || {
            // The long part of it, after which a process that is killed would find its journal still there.
            file.sync_data()?;
            file.set_len(size)?;
            publish(&file, &from, &to)
        });
        done.await.map_err(|source| error("file.publish", &path, source))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let end = self.target.journal.as_ref().map(|journal| journal.end.load(Ordering::Relaxed));
        if end == Some(self.size + HEADER) {
            // Nothing that was worth keeping; after a publish there is nothing of this name.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Opens the file for this process alone; `None` if somebody else has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    let no_link = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    options.read(true).write(true).create(true).truncate(false).custom_flags(no_link);
    loop {
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let ours = file.metadata()?;
        if !ours.is_file() || ours.nlink() > 1 || ours.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::LOOP.raw_os_error()));
        }
        // Whoever had it may have given it its final name meanwhile.
        match std::fs::symlink_metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => return Ok(Some(file)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether something else is in the way: a link, a directory, another user's file, or a file system without locks. A
/// directory that is not to be written to is found out by who tries it next.
fn is_not_ours(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    errno == Some(rustix::io::Errno::LOOP)
        || matches!(
            error.kind(),
            io::ErrorKind::IsADirectory | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
        )
}

/// The sound pieces that are there and where the journal ends; a file of something else begins anew.
fn prepare(file: &File, identity: &Identity) -> io::Result<(Vec<Piece>, u64)> {
    let begin = identity.size + HEADER;
    let mut header = [0; HEADER as usize];
    let (form, digest) = (FORM.as_slice(), identity.digest.as_slice());
    let found = file.read_exact_at(&mut header, identity.size).is_ok();
    if found && header[..16] == *form && header[16..] == *digest {
        let (records, end) = records(file, identity.size)?;
        return Ok((sound(file, records)?, end));
    }
    file.set_len(0)?;
    preallocate(file, identity.size)?;
    file.write_all_at(form, identity.size)?;
    file.write_all_at(digest, identity.size + 16)?;
    Ok((Vec::new(), begin))
}

/// What the journal says, and where it ends.
fn records(file: &File, size: u64) -> io::Result<(Vec<Piece>, u64)> {
    let begin = size + HEADER;
    let length = file.metadata()?.len().saturating_sub(begin);
    let mut journal = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut journal, begin)?;
    let (records, _) = journal.as_chunks::<RECORD>();
    let pieces = records.iter().filter_map(|record| parse(record, size)).collect();
    Ok((pieces, begin + (records.len() * RECORD) as u64))
}

/// Those pieces that are there as the journal says, in order and none twice.
fn sound(file: &File, mut pieces: Vec<Piece>) -> io::Result<Vec<Piece>> {
    pieces.sort_by_key(|piece| piece.range.start);
    let mut sound: Vec<Piece> = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    for piece in pieces {
        if sound.last().is_some_and(|last| piece.range.start < last.range.end) {
            continue;
        }
        let (mut at, mut crc) = (piece.range.start, Crc32c(0));
        while at < piece.range.end {
            let bytes = usize::try_from(piece.range.end - at).unwrap_or(READ_BYTES).min(READ_BYTES);
            file.read_exact_at(&mut buffer[..bytes], at)?;
            crc = crc.append(&buffer[..bytes]);
            at += bytes as u64;
        }
        if crc == piece.crc {
            sound.push(piece);
        }
    }
    Ok(sound)
}
