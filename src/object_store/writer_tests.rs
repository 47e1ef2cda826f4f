//! The writer before a store that takes 20 ms and 85 MB/s a connection, on a paused clock, all lengths a sixteenth.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use tokio::time::{Instant, sleep};

use super::*;
use crate::{Error, ErrorKind, ObjectKey, PutOptions, Result, TransferPolicy, WriteId};

/// A sixteenth.
const MIB: u64 = (1 << 20) / 16;
const BANDWIDTH: f64 = 85e6 / 16.0;
const LATENCY: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct Store {
    least: u64,
    budget: u64,
    /// What has arrived, in the order of the parts.
    parts: Mutex<Vec<Option<(Crc32c, u64)>>>,
    arrived: AtomicU64,
    bytes: AtomicU64,
    most_bytes: AtomicU64,
    travelling: AtomicUsize,
    /// How many travelled at the beginning of each part.
    widths: Mutex<Vec<usize>>,
    setbacks: Arc<AtomicU64>,
    /// Every part of these numbers is refused once, and taken after a pause.
    refused: std::ops::Range<usize>,
    bodies: Mutex<Vec<Bytes>>,
    finished: Mutex<Option<Crc32c>>,
}

impl Store {
    fn with(least: u64, budget: u64, refused: std::ops::Range<usize>) -> Arc<Self> {
        Arc::new(Self { least, budget, refused, ..Self::default() })
    }

    /// The checksum of all, in the order of the parts.
    fn sum(&self) -> Crc32c {
        let parts = self.parts.lock().unwrap();
        parts.iter().flatten().fold(Crc32c(0), |sum, (crc, bytes)| sum.combine(*crc, *bytes))
    }

    async fn receive(self: Arc<Self>, number: usize, part: Payload) -> Result<Crc32c> {
        let travelling = self.travelling.fetch_add(1, Ordering::SeqCst) + 1;
        self.widths.lock().unwrap().push(travelling);
        let held = self.bytes.fetch_add(part.len(), Ordering::SeqCst) + part.len();
        self.most_bytes.fetch_max(held, Ordering::SeqCst);
        if self.refused.contains(&number) {
            sleep(LATENCY).await;
            self.setbacks.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(100)).await;
        }
        sleep(LATENCY + Duration::from_secs_f64(part.len() as f64 / BANDWIDTH)).await;
        self.bytes.fetch_sub(part.len(), Ordering::SeqCst);
        self.travelling.fetch_sub(1, Ordering::SeqCst);
        let crc = part.crc32c();
        self.parts.lock().unwrap()[number] = Some((crc, part.len()));
        self.arrived.fetch_add(part.len(), Ordering::SeqCst);
        Ok(crc)
    }
}

fn unused<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "test", "", "not asked by the writer"))
}

fn put_result() -> PutResult {
    PutResult { version: Version::new("test", "1"), write_id: WriteId::random(), crc32c: None }
}

#[derive(Debug)]
struct Parts(Arc<Store>);

#[async_trait]
impl Upload for Parts {
    fn rules(&self) -> PartRules {
        PartRules { min_bytes: self.0.least, multiple_of: 1, max_bytes: u64::MAX, max_parts: 10_000, parallel: true }
    }

    fn put_part(&mut self, part: Payload) -> BoxFuture<'static, Result<Crc32c>> {
        let store = Arc::clone(&self.0);
        let number = {
            let mut parts = store.parts.lock().unwrap();
            parts.push(None);
            parts.len() - 1
        };
        Box::pin(store.receive(number, part))
    }

    fn setbacks(&self) -> u64 {
        self.0.setbacks.load(Ordering::SeqCst)
    }

    async fn finish(self: Box<Self>, crc32c: Crc32c) -> Result<PutResult> {
        sleep(LATENCY).await;
        *self.0.finished.lock().unwrap() = Some(crc32c);
        Ok(put_result())
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// A handle, because an upload holds its store.
#[derive(Debug)]
struct Handle(Arc<Store>);

#[async_trait]
impl ObjectStore for Handle {
    fn uri(&self, key: &ObjectKey) -> ObjectUri {
        ObjectUri { scheme: Scheme::Local, bucket: "test".to_owned(), key: key.clone() }
    }

    fn capabilities(&self) -> &ObjectCapabilities {
        const { &ObjectCapabilities { parallel_parts: true, ..ObjectCapabilities::LEAST } }
    }

    fn transfer(&self) -> TransferPolicy {
        TransferPolicy { budget_bytes: self.0.budget, ..TransferPolicy::default() }
    }

    async fn put(&self, _: &ObjectKey, body: Bytes, _: PutOptions) -> Result<PutResult> {
        self.0.parts.lock().unwrap().push(Some((Crc32c::of(&body), body.len() as u64)));
        self.0.arrived.fetch_add(body.len() as u64, Ordering::SeqCst);
        self.0.bodies.lock().unwrap().push(body);
        Ok(put_result())
    }

    async fn start_upload(&self, _: &ObjectKey, _: PutOptions) -> Result<Box<dyn Upload>> {
        sleep(LATENCY).await;
        Ok(Box::new(Parts(Arc::clone(&self.0))))
    }

    async fn get(&self, _: &ObjectKey, _: GetOptions) -> Result<GetResult> {
        unused()
    }

    async fn head(&self, _: &ObjectKey, _: HeadOptions) -> Result<ObjectMeta> {
        unused()
    }

    fn list(&self, _: ListOptions) -> BoxStream<'static, Result<ListEntry>> {
        Box::pin(stream::empty())
    }

    async fn delete(&self, _: &ObjectKey, _: DeleteOptions) -> Result<()> {
        unused()
    }

    async fn delete_many(&self, _: Vec<ObjectKey>) -> Vec<(ObjectKey, Result<()>)> {
        Vec::new()
    }

    async fn copy(&self, _: &ObjectKey, _: &ObjectKey, _: CopyOptions) -> Result<PutResult> {
        unused()
    }

    async fn sign(&self, _: &ObjectKey, _: SignOptions) -> Result<SignedRequest> {
        unused()
    }

    async fn abort_stale_uploads(&self, _: Duration) -> Result<StaleUploads> {
        unused()
    }
}

fn writer(store: &Arc<Store>) -> ObjectWriter<Handle> {
    let key = ObjectKey::new("k").unwrap();
    ObjectWriter::new(Arc::new(Handle(Arc::clone(store))), key, PutOptions::default())
}

/// Chunks of this size that share their memory, so that the test does not need that of all.
fn chunks(bytes: u64, chunk: u64) -> impl Iterator<Item = Bytes> {
    let all = Bytes::from((0..chunk + 251).map(|index| (index % 251) as u8).collect::<Vec<_>>());
    (0..bytes).step_by(usize::try_from(chunk).unwrap()).enumerate().map(move |(number, start)| {
        let from = number % 251;
        all.slice(from..from + usize::try_from(chunk.min(bytes - start)).unwrap())
    })
}

async fn write(store: &Arc<Store>, bytes: u64, chunk: u64) -> Duration {
    let begun = Instant::now();
    let stream = stream::iter(chunks(bytes, chunk).map(Ok));
    writer(store).write_stream(stream).await.unwrap();
    let expected = chunks(bytes, chunk).fold(Crc32c(0), |sum, chunk| sum.append(&chunk));
    assert_eq!(store.sum(), expected, "the parts are the bytes that were written");
    assert!(store.finished.lock().unwrap().is_none_or(|told| told == expected));
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn as_much_travels_as_the_budget_holds_and_no_more() {
    for (least, chunk) in [(5 * MIB, MIB), (1, MIB), (1, 1_000), (5 * MIB, 48_611), (5 * MIB, 200 * MIB)] {
        let store = Store::with(least, 64 * MIB, 0..0);
        let bytes = 200 * MIB + 13;
        let taken = write(&store, bytes, chunk).await;
        let most = store.most_bytes.load(Ordering::SeqCst);
        assert!(most <= 60 * MIB, "{least}, {chunk}: {most}");
        assert!(most >= 50 * MIB, "{least}, {chunk}: {most}");
        let part = store.parts.lock().unwrap()[0].unwrap().1;
        // All is on its way all the time, but for the latencies of beginning and finishing and for the last parts.
        let held = LATENCY + Duration::from_secs_f64(part as f64 / BANDWIDTH);
        let limit = held.mul_f64(bytes as f64 / most as f64).max(held) + held + 2 * LATENCY;
        assert!(taken <= limit, "{least}, {chunk}: {taken:?} of {limit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_smaller_budget_is_kept_to() {
    for (budget, chunk) in [(16 * MIB, MIB), (16 * MIB, 1_000), (2 * MIB, 10_000)] {
        let store = Store::with(1, budget, 0..0);
        write(&store, 50 * MIB + 1, chunk).await;
        let most = store.most_bytes.load(Ordering::SeqCst);
        assert!(most <= budget - budget / 16, "{budget}: {most}");
    }
}

#[tokio::test(start_paused = true)]
async fn parts_that_are_refused_slow_the_others_down_until_all_is_well() {
    let store = Store::with(5 * MIB, 64 * MIB, 24..40);
    write(&store, 1400 * MIB, MIB).await;
    let widths = store.widths.lock().unwrap();
    let most = |range: std::ops::Range<usize>| widths[range].iter().copied().max().unwrap();
    assert_eq!(most(0..24), 12);
    // The first wave has twelve parts on their way, and what is sent after that is less and less.
    assert!(most(45..60) <= 6, "{:?}", &widths[24..80]);
    assert_eq!(most(200..280), 12, "{widths:?}");
}

#[tokio::test(start_paused = true)]
async fn a_small_object_is_one_request_and_not_copied() {
    let store = Store::with(5 * MIB, 64 * MIB, 0..0);
    let bytes = Bytes::from(vec![7; 100_000]);
    let mut writer = writer(&store);
    writer.write(bytes.clone()).await.unwrap();
    writer.finish().await.unwrap();
    let bodies = store.bodies.lock().unwrap();
    assert_eq!(bodies.iter().map(|body| body.as_ptr()).collect::<Vec<_>>(), [bytes.as_ptr()]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_slows_the_source() {
    let store = Store::with(5 * MIB, 64 * MIB, 0..0);
    let mut writer = writer(&store);
    let begun = Instant::now();
    let mut written = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        writer.write(Bytes::from(vec![0; MIB as usize])).await.unwrap();
        written += MIB;
        assert!(written - store.arrived.load(Ordering::SeqCst) <= 60 * MIB);
    }
    assert!(written < 2 * 800 * MIB, "{written}");
}

#[tokio::test(start_paused = true)]
async fn progress_is_of_what_has_arrived_and_ends_when_the_object_is_there() {
    for bytes in [0, 7, 5 * MIB, 100 * MIB + 7] {
        let store = Store::with(5 * MIB, 64 * MIB, 0..0);
        let (told, witness) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&store));
        let seen = Arc::clone(&told);
        let callback: ProgressCallback = Arc::new(move |progress: Progress| {
            let arrived = witness.arrived.load(Ordering::SeqCst);
            assert!(progress.bytes <= arrived, "{progress:?} of {arrived}");
            assert!(progress.bytes == 0 || progress.rate > 0.0);
            let published = witness.finished.lock().unwrap().is_some() || !witness.bodies.lock().unwrap().is_empty();
            seen.lock().unwrap().push((progress.bytes, published));
        });
        let stream = stream::iter(chunks(bytes, MIB).map(Ok));
        writer(&store).with_progress(callback, Some(bytes)).write_stream(stream).await.unwrap();
        let told = told.lock().unwrap();
        assert_eq!(told.last(), Some(&(bytes, true)));
        assert!(told.is_sorted(), "{told:?}");
        assert!(bytes < 100 * MIB || told.len() >= 21, "{told:?}");
    }
}
