//! Reads. The open file is one version, whatever is done to the name meanwhile.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use futures_util::stream;
use tokio::task::{JoinHandle, spawn_blocking};

use super::bucket::Bucket;
use super::call::Call;
use super::key_path::KeyPath;
use super::record::{PROVIDER, Record, size_of};
use crate::object_store::{ByteStream, Crc32c, GetOptions, GetResult, Version};
use crate::{ErrorKind, Result};

/// Files up to this size are read at once.
const SMALL_BYTES: u64 = 1 << 20;
/// How much of a larger file is read at a time. Two pieces are in memory.
const PIECE_BYTES: u64 = 1 << 20;

/// Opens an object's file.
pub(super) fn open(call: &Call, bucket: &Bucket) -> Result<File> {
    let path = KeyPath::of(call.key.as_str().as_bytes());
    match bucket.open_object(&path) {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(call.error(ErrorKind::NotFound, "there is no such object")),
        Err(source) => Err(call.io("the object could not be opened", source)),
    }
}

/// Refuses another version than the one that the caller asks for.
pub(super) fn check_version(call: &Call, record: &Record, version: Option<&Version>) -> Result<()> {
    match version {
        Some(version) if call.token(version)? != record.version() => {
            Err(call.error(ErrorKind::NotFound, "this version is no longer kept"))
        }
        _ => Ok(()),
    }
}

pub(super) fn get(call: &Call, bucket: &Bucket, options: &GetOptions) -> Result<GetResult> {
    let file = open(call, bucket)?;
    let size = size_of(&file).map_err(|error| call.unreadable(error))?;
    let (record, whole) = if size <= SMALL_BYTES {
        let mut whole = vec![0; usize::try_from(size).unwrap_or_default()];
        file.read_exact_at(&mut whole, 0).map_err(|source| call.io("the object could not be read", source))?;
        (Record::parse(&whole, size, &call.key), Some(Bytes::from(whole)))
    } else {
        (Record::read(&file, &call.key), None)
    };
    let record = record.map_err(|error| call.unreadable(error))?;
    let range = judge(call, &record, options)?;
    let body = match whole {
        Some(whole) => small(call, &record, &whole, &range),
        None => large(call, &record, file, &range),
    };
    Ok(GetResult { meta: record.into_meta(), range, body })
}

/// The bytes to send, if the conditions hold.
fn judge(call: &Call, record: &Record, options: &GetOptions) -> Result<Range<u64>> {
    check_version(call, record, options.version.as_ref())?;
    if let Some(version) = &options.if_match
        && call.token(version)? != record.version()
    {
        let current = Version::new(PROVIDER, record.version());
        return Err(call.error(ErrorKind::PreconditionFailed, format!("the current version is {current}")));
    }
    if let Some(version) = &options.if_none_match
        && call.token(version)? == record.version()
    {
        return Err(call.error(ErrorKind::NotModified, "this is the current version"));
    }
    match options.range {
        None => Ok(0..record.size()),
        Some(range) => range.resolve(record.size()).ok_or_else(|| {
            let message = format!("the object has {} bytes", record.size());
            call.error(ErrorKind::RangeNotSatisfiable, message)
        }),
    }
}

fn small(call: &Call, record: &Record, whole: &Bytes, range: &Range<u64>) -> ByteStream {
    let at = |offset: u64| usize::try_from(offset).unwrap_or_default();
    if Crc32c::of(&whole[..at(record.size())]) != record.crc32c() {
        return ByteStream::new(stream::iter([Err(mismatch(call))]));
    }
    ByteStream::once(whole.slice(at(range.start)..at(range.end)))
}

fn mismatch(call: &Call) -> crate::Error {
    call.error(ErrorKind::Corrupt, "the bytes do not match the checksum that they were stored with")
}

/// A file being read on blocking threads.
struct Reading {
    call: Call,
    file: File,
    next: Range<u64>,
    /// The checksum so far and the one expected, if all is read.
    checksum: Option<(Crc32c, Crc32c)>,
}

impl Reading {
    fn piece(mut self) -> (Option<Self>, Result<Bytes>) {
        let count = PIECE_BYTES.min(self.next.end - self.next.start);
        let mut piece = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
        let read = self
            .file
            .seek(SeekFrom::Start(self.next.start))
            .and_then(|_| (&mut self.file).take(count).read_to_end(&mut piece));
        match read {
            Err(source) => return (None, Err(self.call.io("the object could not be read", source))),
            Ok(read) if read as u64 != count => {
                return (None, Err(self.call.error(ErrorKind::Corrupt, "the file ends too early")));
            }
            Ok(_) => self.next.start += count,
        }
        let more = !self.next.is_empty();
        if let Some((so_far, expected)) = &mut self.checksum {
            *so_far = so_far.append(&piece);
            if !more && so_far != expected {
                return (None, Err(mismatch(&self.call)));
            }
        }
        (more.then_some(self), Ok(piece.into()))
    }
}

fn large(call: &Call, record: &Record, file: File, range: &Range<u64>) -> ByteStream {
    let checksum = (*range == (0..record.size())).then(|| (Crc32c(0), record.crc32c()));
    let reading = Reading { call: call.clone(), file, next: range.clone(), checksum };
    if range.is_empty() {
        return ByteStream::once(Bytes::new());
    }
    type Next = JoinHandle<(Option<Reading>, Result<Bytes>)>;
    let call = call.clone();
    let first: Option<Next> = Some(spawn_blocking(|| reading.piece()));
    ByteStream::new(stream::unfold((first, call), |(next, call)| async move {
        let (reading, piece) = match next?.await {
            Ok(read) => read,
            Err(error) => (None, Err(call.error(ErrorKind::Internal, "reading broke off").with_source(error))),
        };
        // The next piece is read while this one is used.
        let next: Option<Next> = reading.map(|reading| spawn_blocking(|| reading.piece()));
        Some((piece, (next, call)))
    }))
}
