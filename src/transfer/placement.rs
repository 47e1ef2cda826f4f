use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use super::Task;
use super::download::Large;
use super::in_order::SAMPLE;
use super::resuming::{Pinned, Resuming};
use super::width::Width;
use crate::Result;
use crate::files::{Target, Writing};
use crate::object_store::{Crc32c, Meter, Placeable, mismatch};

/// Where a piece comes from: a connection that has reached it, or one to be made.
enum Source {
    Open(Resuming),
    Ask(Pinned, Arc<AtomicBool>),
}

/// Where it goes.
enum Place {
    Memory(BytesMut),
    File(Writing),
}

/// A piece that is where it belongs.
struct Placed {
    index: usize,
    range: Range<u64>,
    crc: Crc32c,
    memory: BytesMut,
    /// For how long the network was waited for.
    waited: Duration,
    /// The connection, for what follows.
    rest: Resuming,
}

/// Reads one piece to its place, and its checksum on the way.
async fn place(index: usize, source: Source, range: Range<u64>, place: Place) -> Result<Placed> {
    let mut rest = match source {
        Source::Open(reading) => reading,
        Source::Ask(object, throttled) => {
            crate::retry::noting_throttling(throttled, object.open(range.clone())).await?
        }
    };
    let (mut waited, mut begun) = (Duration::ZERO, Instant::now());
    let (crc, memory) = match place {
        Place::Memory(mut room) => {
            let mut crc = Crc32c(0);
            while let Some(chunk) = rest.next_until(range.end).await? {
                waited += begun.elapsed();
                crc = crc.append(&chunk);
                room.extend_from_slice(&chunk);
                begun = Instant::now();
            }
            (crc, room)
        }
        Place::File(mut writing) => {
            while let Some(chunk) = rest.next_until(range.end).await? {
                waited += begun.elapsed();
                writing.push(chunk).await?;
                begun = Instant::now();
            }
            (writing.finish().await?, BytesMut::new())
        }
    };
    Ok(Placed { index, range, crc, memory, waited, rest })
}

/// What is left to be given places.
struct Places {
    left: Range<u64>,
    room: BytesMut,
    file: Option<(Target, u64)>,
}

impl Places {
    fn in_memory(whole: &Range<u64>) -> Self {
        let bytes = usize::try_from(whole.end - whole.start).unwrap_or(usize::MAX);
        Self { left: whole.clone(), room: BytesMut::with_capacity(bytes), file: None }
    }

    fn in_file(whole: &Range<u64>, file: Target) -> Self {
        Self { left: whole.clone(), room: BytesMut::new(), file: Some((file, whole.start)) }
    }

    /// The next so many bytes, or what there is, and their place.
    fn take(&mut self, bytes: u64) -> (Range<u64>, Place) {
        let range = self.left.start..self.left.end.min(self.left.start.saturating_add(bytes));
        let place = match &self.file {
            Some((file, begin)) => Place::File(file.writing(range.start - begin)),
            None => {
                // The allocation is handed out in slices and put together again at the end: nothing is moved.
                let bytes = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                let further = self.room.split_off(bytes.min(self.room.capacity()));
                Place::Memory(std::mem::replace(&mut self.room, further))
            }
        };
        self.left.start = range.end;
        (range, place)
    }
}

impl Large {
    async fn run(self, mut places: Places, meter: &mut Meter) -> Result<Bytes> {
        let Self { first, expected, parallel, .. } = self;
        let object = first.object.clone();
        let size = object.downloads.policy.range_bytes;
        let throttled = Arc::<AtomicBool>::default();
        let mut width = Width::new(parallel);
        let mut pieces: Vec<Option<(Crc32c, u64, BytesMut)>> = vec![None, None];
        let mut under_way = FuturesUnordered::new();
        // The connection that is open keeps a range, of which the beginning is judged.
        let sample = SAMPLE.min(size.div_ceil(2));
        let (range, here) = places.take(sample);
        let mut kept = Some(places.take(size - sample));
        let mut turned = Instant::now();
        under_way.push(Task::spawn(place(0, Source::Open(first), range, here)));
        loop {
            while under_way.len() < width.now() && !places.left.is_empty() {
                // Towards the end smaller ones, so that the connections are done together.
                let fair = (places.left.end - places.left.start) / width.now() as u64;
                let (range, here) = places.take(fair.clamp(size.div_ceil(2), size));
                let source = Source::Ask(object.clone(), Arc::clone(&throttled));
                under_way.push(Task::spawn(place(pieces.len(), source, range, here)));
                pieces.push(None);
            }
            let Some(done) = under_way.next().await else { break };
            let Placed { index, range, crc, memory, waited, rest } = done?;
            let bytes = range.end - range.start;
            pieces[index] = Some((crc, bytes, memory));
            meter.add(bytes);
            if let Some((range, here)) = kept.take_if(|_| index == 0) {
                width.judge_connection(bytes, waited);
                under_way.push(Task::spawn(place(1, Source::Open(rest), range, here)));
                continue;
            }
            let time = std::mem::replace(&mut turned, Instant::now()).elapsed();
            width.note(bytes, time, time);
            if throttled.swap(false, Ordering::Relaxed) {
                width.back_off();
            }
        }
        let (mut all, mut so_far) = (BytesMut::new(), Crc32c(0));
        for (crc, bytes, memory) in pieces.into_iter().flatten() {
            so_far = so_far.combine(crc, bytes);
            all.unsplit(memory);
        }
        let Pinned { downloads, key, .. } = &object;
        match expected {
            Some(expected) if expected != so_far => Err(mismatch(downloads.store.uri(key))),
            _ => Ok(all.freeze()),
        }
    }
}

impl Placeable for Large {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<Bytes>> {
        (*self).stream()
    }

    fn into_memory(self: Box<Self>) -> BoxFuture<'static, Result<Bytes>> {
        let places = Places::in_memory(&self.whole);
        Box::pin(async move { self.run(places, &mut Meter::new(None, None)).await })
    }

    fn into_file<'a>(self: Box<Self>, file: Target, meter: &'a mut Meter) -> BoxFuture<'a, Result<()>> {
        let places = Places::in_file(&self.whole, file);
        Box::pin(async move { self.run(places, meter).await.map(drop) })
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
    async fn the_wrapper_that_users_have_does_not_come_in_between() {
        use crate::observed::{Observed, Transferring};
        use crate::{ObjectStore as _, ObjectStoreExt as _};
        let store = Scripted::of_size(57 * RANGE + 13);
        store.slow_down();
        let policy = TransferPolicy { budget_bytes: 8 * RANGE as u64, range_bytes: RANGE as u64 };
        let wrapped = Observed::new(Transferring::new(store.clone(), policy));
        let bytes = wrapped.get_bytes(&ObjectKey::new("k").unwrap()).await.unwrap();
        assert!(bytes.try_into_mut().is_ok_and(|whole| whole.capacity() == 57 * RANGE + 13), "filled in place");
        assert!(store.most_at_once() > 4, "over many connections");
        assert_eq!(wrapped.capabilities().provider, store.capabilities().provider);
    }

    #[tokio::test(start_paused = true)]
    async fn a_range_of_a_large_object_is_written_to_a_file_from_its_beginning() {
        let store = Scripted::of_size(57 * RANGE + 13);
        store.slow_down();
        store.break_every(3);
        let path = std::env::temp_dir().join(format!("anycloud-placement-{}", crate::random::uuid()));
        let file = crate::files::NewFile::create(&path, 0).await.unwrap();
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
