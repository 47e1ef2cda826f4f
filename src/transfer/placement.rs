use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt as _};

use super::Task;
use super::download::{Large, Resuming};
use crate::files::Target;
use crate::object_store::{Crc32c, Meter, Placeable};
use crate::{Error, ErrorKind, Result};

/// How much faster more ranges at a time must be, so that still more are tried.
const WORTH: f64 = 1.15;

/// Where a range belongs.
enum Place {
    Memory(BytesMut),
    File(Target),
}

/// A range that is where it belongs.
struct Placed {
    index: usize,
    bytes: u64,
    crc: Crc32c,
    memory: BytesMut,
}

/// Reads one range to its place, and its checksum on the way.
async fn place(index: usize, mut reading: Resuming, target: Place) -> Result<Placed> {
    let begin = reading.left.start;
    let origin = reading.origin;
    let mut crc = Crc32c(0);
    match target {
        Place::Memory(mut memory) => {
            while let Some(chunk) = reading.next().await? {
                crc = crc.append(&chunk);
                memory.extend_from_slice(&chunk);
            }
            Ok(Placed { index, bytes: reading.left.start - begin, crc, memory })
        }
        Place::File(file) => {
            let mut chunks = Vec::new();
            while let Some(chunk) = reading.next().await? {
                crc = crc.append(&chunk);
                chunks.push(chunk);
            }
            file.write_at(begin - origin, chunks).await?;
            Ok(Placed { index, bytes: reading.left.start - begin, crc, memory: BytesMut::new() })
        }
    }
}

/// How many ranges to have under way: twice as many as long as that pays, which is judged once a round of them is
/// done.
struct Width {
    now: usize,
    most: usize,
    best: f64,
    round: (Instant, u64, usize),
}

impl Width {
    fn new(now: usize, most: usize) -> Self {
        Self { now: now.min(most), most, best: 0.0, round: (Instant::now(), 0, 0) }
    }

    fn note(&mut self, bytes: u64) {
        let (begun, sum, count) = self.round;
        let (sum, count) = (sum + bytes, count + 1);
        self.round = (begun, sum, count);
        if count < self.now || self.now == self.most {
            return;
        }
        let rate = sum as f64 / begun.elapsed().max(Duration::from_micros(1)).as_secs_f64();
        if rate > WORTH * self.best {
            self.best = rate;
            self.now = (2 * self.now).min(self.most);
        } else {
            self.most = self.now;
        }
        self.round = (Instant::now(), 0, 0);
    }
}

impl Large {
    async fn run(self, file: Option<Target>, meter: &mut Meter) -> Result<Bytes> {
        let (total, size) = (self.whole.end - self.whole.start, self.downloads.policy.range_bytes);
        let mut room = match file {
            Some(_) => BytesMut::new(),
            None => BytesMut::with_capacity(usize::try_from(total).unwrap_or(usize::MAX)),
        };
        // The allocation is handed out in slices and put together again at the end: nothing is moved.
        let mut target = |bytes: u64| match &file {
            Some(file) => Place::File(file.clone()),
            None => {
                let rest = room.split_off(usize::try_from(bytes).unwrap_or(usize::MAX).min(room.capacity()));
                Place::Memory(std::mem::replace(&mut room, rest))
            }
        };
        let mut under_way = FuturesUnordered::new();
        let mut next = self.first.left.end;
        let first = target(next - self.whole.start);
        let (downloads, key, version) = (self.downloads.clone(), self.first.key.clone(), self.first.version.clone());
        under_way.push(Task::spawn(place(0, self.first, first)));
        let mut started = 1;
        let mut width = Width::new(super::download::FIRST_PARALLEL, downloads.policy.parallel());
        let mut placed: Vec<Option<Placed>> = vec![];
        loop {
            while under_way.len() < width.now && next < self.whole.end {
                let range = next..self.whole.end.min(next.saturating_add(size));
                next = range.end;
                let slice = target(range.end - range.start);
                let (downloads, key, version) = (downloads.clone(), key.clone(), version.clone());
                let (index, origin) = (started, self.whole.start);
                under_way.push(Task::spawn(async move {
                    let body = downloads.open(&key, &version, &range).await?;
                    let reading = Resuming { downloads, key, version, left: range, origin, body, failures: 0 };
                    place(index, reading, slice).await
                }));
                started += 1;
            }
            let Some(done) = under_way.next().await else { break };
            let done = done?;
            width.note(done.bytes);
            meter.add(done.bytes);
            if placed.len() <= done.index {
                placed.resize_with(done.index + 1, || None);
            }
            let index = done.index;
            placed[index] = Some(done);
        }
        let mut all = BytesMut::new();
        let mut crc = Crc32c(0);
        for part in placed.into_iter().flatten() {
            crc = crc.combine(part.crc, part.bytes);
            all.unsplit(part.memory);
        }
        if self.expected.is_some_and(|expected| expected != crc) {
            let message = "the bytes that came are not those that were stored";
            return Err(Error::new(ErrorKind::Corrupt, "object_store.get", downloads.store.uri(&key), message));
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
    use crate::object_store::ByteRange;
    use crate::{GetOptions, ObjectKey};

    const RANGE: usize = 1000;

    async fn get(store: &Arc<Scripted>, range: Option<ByteRange>) -> Result<crate::object_store::GetResult> {
        let policy = TransferPolicy { budget_bytes: 8 * RANGE as u64, range_bytes: RANGE as u64 };
        let options = GetOptions { range, ..GetOptions::default() };
        Downloads::new(store.clone(), policy).get(&ObjectKey::new("k").unwrap(), options).await
    }

    #[tokio::test]
    async fn a_large_object_is_put_together_in_one_allocation() {
        let store = Scripted::of_size(57 * RANGE + 13);
        let bytes = get(&store, None).await.unwrap().bytes().await.unwrap();
        assert_eq!(bytes, store.bytes());
        assert!(bytes.try_into_mut().is_ok_and(|whole| whole.capacity() == 57 * RANGE + 13));
    }

    #[tokio::test(start_paused = true)]
    async fn a_range_of_a_large_object_is_written_to_a_file_from_its_beginning() {
        let store = Scripted::of_size(57 * RANGE + 13);
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

    #[test]
    fn the_width_grows_while_that_pays() {
        let mut width = Width::new(4, 32);
        width.note(4);
        assert_eq!(width.now, 4, "not before a round is done");
        for _ in 0..3 {
            width.note(1 << 40);
        }
        assert_eq!(width.now, 8);
        std::thread::sleep(Duration::from_millis(2));
        for _ in 0..8 {
            width.note(1);
        }
        assert_eq!((width.now, width.most), (8, 8));
    }
}
