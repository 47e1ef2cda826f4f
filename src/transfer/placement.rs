use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use super::Task;
use super::download::Large;
use super::resuming::{Pinned, Resuming};
use super::width::Width;
use crate::Result;
use crate::files::Target;
use crate::object_store::{Crc32c, Meter, Placeable, mismatch};

/// How many pieces may wait to be written to a file.
const WRITES: usize = 4;

/// Where a piece comes from: a connection that has reached it, or one to be made.
enum Source {
    Open(Resuming),
    /// With what is to be asked for, which may be more than the piece.
    Ask(Pinned, Range<u64>),
}

/// A piece that has come.
struct Come {
    index: usize,
    range: Range<u64>,
    crc: Crc32c,
    /// In its place, or to be written to its place.
    memory: BytesMut,
    chunks: Vec<Bytes>,
    /// The connection, for what follows.
    rest: Resuming,
}

/// Reads one piece, and its checksum on the way.
async fn come(index: usize, source: Source, range: Range<u64>, room: Option<BytesMut>) -> Result<Come> {
    let mut rest = match source {
        Source::Open(reading) => reading,
        Source::Ask(object, asked) => object.open(asked).await?,
    };
    let (mut crc, mut chunks) = (Crc32c(0), Vec::new());
    let to_file = room.is_none();
    let mut memory = room.unwrap_or_default();
    while let Some(chunk) = rest.next_until(range.end).await? {
        crc = crc.append(&chunk);
        if to_file {
            chunks.push(chunk);
        } else {
            memory.extend_from_slice(&chunk);
        }
    }
    Ok(Come { index, range, crc, memory, chunks, rest })
}

impl Large {
    async fn run(self, file: Option<Target>, meter: &mut Meter) -> Result<Bytes> {
        let Self { whole, first, expected, parallel } = self;
        let object = first.object.clone();
        let size = object.downloads.policy.range_bytes;
        let total = usize::try_from(whole.end - whole.start).unwrap_or(usize::MAX);
        let mut room = file.is_none().then(|| BytesMut::with_capacity(total));
        let mut under_way = FuturesUnordered::new();
        let mut writing = FuturesUnordered::new();
        let mut width = Width::new(parallel, f64::INFINITY);
        let mut noted = Instant::now();
        let mut open = Some(first);
        let mut next = whole.start;
        let mut placed: Vec<Option<(Crc32c, u64, BytesMut)>> = vec![];
        loop {
            while under_way.len() < width.now() && next < whole.end {
                let range = next..whole.end.min(next.saturating_add(size));
                next = range.end;
                // The allocation is handed out in slices and put together again at the end: nothing is moved.
                let slice = room.as_mut().map(|room| {
                    let bytes = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                    let rest = room.split_off(bytes.min(room.capacity()));
                    std::mem::replace(room, rest)
                });
                // A connection alone is asked for all the rest, and so goes on to the next piece without a request.
                let asked = range.start..if width.now() == 1 { whole.end } else { range.end };
                let source =
                    match open.take().filter(|open| open.left.start == range.start && open.left.end >= range.end) {
                        Some(open) => Source::Open(open),
                        None => Source::Ask(object.clone(), asked),
                    };
                under_way.push(Task::spawn(come(placed.len(), source, range, slice)));
                placed.push(None);
            }
            let Some(done) = under_way.next().await else { break };
            let Come { index, range, crc, memory, chunks, rest } = done?;
            open = Some(rest);
            let bytes = range.end - range.start;
            width.note(bytes, std::mem::replace(&mut noted, Instant::now()).elapsed());
            placed[index] = Some((crc, bytes, memory));
            let Some(file) = &file else {
                meter.add(bytes);
                continue;
            };
            let (file, offset) = (file.clone(), range.start - whole.start);
            writing.push(Task::spawn(async move { file.write_at(offset, chunks).await.map(|()| bytes) }));
            while writing.len() > WRITES
                && let Some(written) = writing.next().await
            {
                meter.add(written?);
            }
        }
        while let Some(written) = writing.next().await {
            meter.add(written?);
        }
        let mut all = BytesMut::new();
        let mut so_far = Crc32c(0);
        for (crc, bytes, memory) in placed.into_iter().flatten() {
            so_far = so_far.combine(crc, bytes);
            all.unsplit(memory);
        }
        if expected.is_some_and(|expected| expected != so_far) {
            return Err(mismatch(object.downloads.store.uri(&object.key)));
        }
        Ok(all.freeze())
    }
}

impl Placeable for Large {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<Bytes>> {
        (*self).stream()
    }

    fn into_memory(self: Box<Self>) -> BoxFuture<'static, Result<Bytes>> {
        Box::pin(async move { (*self).run(None, &mut Meter::new(None, None)).await })
    }

    fn into_file<'a>(self: Box<Self>, file: Target, meter: &'a mut Meter) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { (*self).run(Some(file), meter).await.map(drop) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::Scripted;
    use super::super::{Downloads, TransferPolicy};
    use super::*;
    use crate::ErrorKind;
    use crate::object_store::ByteRange;
    use crate::{GetOptions, ObjectKey};

    const RANGE: usize = 1000;

    async fn get(store: &Arc<Scripted>, range: Option<ByteRange>) -> Result<crate::object_store::GetResult> {
        let policy = TransferPolicy { budget_bytes: 8 * RANGE as u64, range_bytes: RANGE as u64 };
        let options = GetOptions { range, ..GetOptions::default() };
        Downloads::new(store.clone(), policy).get(&ObjectKey::new("k").unwrap(), options).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_object_is_put_together_in_one_allocation() {
        for slow in [true, false] {
            let store = Scripted::of_size(57 * RANGE + 13);
            if slow {
                store.slow_down();
            }
            let bytes = get(&store, None).await.unwrap().bytes().await.unwrap();
            assert_eq!(bytes, store.bytes());
            assert!(bytes.try_into_mut().is_ok_and(|whole| whole.capacity() == 57 * RANGE + 13));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_range_of_a_large_object_is_written_to_a_file_from_its_beginning() {
        let store = Scripted::of_size(57 * RANGE + 13);
        store.slow_down();
        store.break_every(3);
        let path = std::env::temp_dir().join(format!("anycloud-placement-{}", crate::random::uuid()));
        let file = crate::files::NewFile::create(&path).await.unwrap();
        let range = ByteRange::Bounded(7, 50 * RANGE as u64);
        let got = get(&store, Some(range)).await.unwrap();
        let mut meter = Meter::new(None, None);
        got.body.into_file(file.contents(), &mut meter).await.unwrap();
        file.publish().await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), store.bytes()[7..50 * RANGE]);
        assert_eq!(meter.bytes(), 50 * RANGE as u64 - 7);
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn the_checksum_of_the_ranges_together_is_that_of_the_whole() {
        let store = Scripted::of_size(57 * RANGE + 13);
        store.spoil_checksum();
        let read = get(&store, None).await.unwrap().bytes().await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
