//! Downloads to files, which take up what an earlier one left.

use std::ops::Range;
use std::path::Path;

use futures_util::stream::{self, StreamExt as _};

use super::upload::Meter;
use super::{GetOptions, GetResult, HeadOptions, ObjectMeta, ObjectStore, ProgressCallback, mismatch};
use crate::files::{Identity, NewFile, Partial, Piece, Target};
use crate::{Error, ErrorKind, ObjectKey, Result};

const DOWNLOAD: &str = "object_store.download_file";
/// Up to this size an object comes anew rather than to be taken up: in about the time of a few requests.
const SMALL_BYTES: u64 = 8 << 20;
/// How many of the gaps up to that size are closed at the same time.
const GAPS: usize = 8;

pub(super) async fn to_file<S: ObjectStore + ?Sized>(
    store: &S,
    key: &ObjectKey,
    path: &Path,
    progress: Option<ProgressCallback>,
) -> Result<ObjectMeta> {
    if Partial::is_there(path).await {
        let meta = match store.head(key, HeadOptions::default()).await {
            Ok(meta) => meta,
            Err(error) => {
                if error.kind() == ErrorKind::NotFound {
                    Partial::remove(path).await;
                }
                return Err(error);
            }
        };
        if meta.size <= SMALL_BYTES {
            Partial::remove(path).await;
        } else if let Some((partial, kept)) = Partial::open(path, identity(store, &meta)).await? {
            return Resumable { store, partial, kept, meta }.finish(None, progress).await;
        }
    }
    let got = store.get(key, GetOptions::default()).await?;
    if got.meta.size > SMALL_BYTES
        && let Some((partial, kept)) = Partial::open(path, identity(store, &got.meta)).await?
    {
        return Resumable { store, partial, kept, meta: got.meta.clone() }.finish(Some(got), progress).await;
    }
    let GetResult { meta, range, body } = got;
    let mut meter = Meter::new(progress, Some(meta.size));
    let file = NewFile::create(path, meta.size).await?;
    body.into_file(file.contents(), &mut meter).await?;
    if meter.bytes() != range.end - range.start {
        let message = format!("{} bytes came where {} were announced", meter.bytes(), meta.size);
        return Err(Error::new(ErrorKind::Corrupt, DOWNLOAD, store.uri(key), message));
    }
    file.publish().await?;
    Ok(meta)
}

fn identity<S: ObjectStore + ?Sized>(store: &S, meta: &ObjectMeta) -> Identity {
    Identity::new(&store.uri(&meta.key).to_string(), &meta.version.to_string(), meta.size)
}

/// A download of which some may have come before.
struct Resumable<'a, S: ?Sized> {
    store: &'a S,
    partial: Partial,
    kept: Vec<Piece>,
    meta: ObjectMeta,
}

impl<S: ObjectStore + ?Sized> Resumable<'_, S> {
    /// Fetches what is not there, from an answer that brings all if there is one and nothing was kept.
    async fn finish(self, answer: Option<GetResult>, progress: Option<ProgressCallback>) -> Result<ObjectMeta> {
        let mut meter = Meter::new(progress, Some(self.meta.size));
        let fetched = match answer {
            Some(answer) if self.kept.is_empty() => answer.body.into_file(self.partial.contents(), &mut meter).await,
            _ => self.close_gaps(&mut meter).await,
        };
        let whole = fetched.and_then(|()| self.check());
        let Self { partial, meta, .. } = self;
        let (ended, is_of_no_use) = match whole {
            // What cannot have its name now cannot have it later.
            Ok(()) => (partial.publish().await, true),
            Err(error) => {
                let is_of_no_use = is_of_no_use_after(error.kind());
                (Err(error), is_of_no_use)
            }
        };
        if ended.is_err() && is_of_no_use {
            partial.discard().await;
        }
        ended.map(|()| meta)
    }

    async fn close_gaps(&self, meter: &mut Meter) -> Result<()> {
        let gaps = gaps(&self.kept, self.meta.size);
        let missing: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
        tracing::debug!(key = %self.meta.key, missing, of = self.meta.size, "a download is taken up again");
        if missing < self.meta.size {
            meter.add(self.meta.size - missing);
        }
        let (small, large): (Vec<_>, Vec<_>) = gaps.into_iter().partition(|gap| gap.end - gap.start <= SMALL_BYTES);
        let mut closing = stream::iter(small)
            .map(|gap| async move {
                let bytes = gap.end - gap.start;
                self.fetch(gap, &mut Meter::new(None, None)).await.map(|()| bytes)
            })
            .buffer_unordered(GAPS);
        while let Some(bytes) = closing.next().await {
            meter.add(bytes?);
        }
        for gap in large {
            self.fetch(gap, meter).await?;
        }
        Ok(())
    }

    /// Fetches these bytes of the version that the file is of.
    async fn fetch(&self, range: Range<u64>, meter: &mut Meter) -> Result<()> {
        let key = &self.meta.key;
        let part = range != (0..self.meta.size);
        let version = Some(self.meta.version.clone());
        let options = GetOptions { range: part.then(|| range.clone().into()), version, ..GetOptions::default() };
        let got = self.store.get(key, options).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let message = "the object was replaced or deleted while it was read";
                Error::new(ErrorKind::Conflict, DOWNLOAD, self.store.uri(key), message)
            }
            _ => error,
        })?;
        if got.range != range {
            let message = format!("bytes {:?} came where {range:?} were asked for", got.range);
            return Err(Error::new(ErrorKind::Corrupt, DOWNLOAD, self.store.uri(key), message));
        }
        let file: Target = self.partial.contents().from(range.start);
        got.body.into_file(file, meter).await
    }

    /// Whether all is there and, where the store tells the checksum of the whole, right: what was kept included.
    fn check(&self) -> Result<()> {
        let uri = self.store.uri(&self.meta.key);
        let Some(crc) = self.partial.checksum() else {
            return Err(Error::new(ErrorKind::Corrupt, DOWNLOAD, uri, "other bytes came than were announced"));
        };
        match self.meta.crc32c {
            Some(expected) if expected != crc => Err(mismatch(uri)),
            _ => Ok(()),
        }
    }
}

/// What is not among these pieces, which are in order.
fn gaps(kept: &[Piece], size: u64) -> Vec<Range<u64>> {
    let begins = std::iter::once(0).chain(kept.iter().map(|piece| piece.range.end));
    let ends = kept.iter().map(|piece| piece.range.start).chain(std::iter::once(size));
    begins.zip(ends).map(|(begin, end)| begin..end).filter(|gap| !gap.is_empty()).collect()
}

/// Whether an error says that what came is not of the object, or in the way: after all others it can be taken up.
fn is_of_no_use_after(kind: ErrorKind) -> bool {
    use ErrorKind::{Conflict, Corrupt, Internal, NotFound, ResourceExhausted};
    matches!(kind, Conflict | Corrupt | Internal | NotFound | ResourceExhausted)
}
