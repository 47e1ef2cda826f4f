use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, TryStreamExt as _, stream};

use super::pool::Pool;
use super::{Task, TransferPolicy};
use crate::object_store::{ByteStream, Crc32c, GetResult, Version};
use crate::{Error, ErrorKind, GetOptions, ObjectKey, ObjectStore, Result};

/// How often a broken read is taken up again without having got a byte further.
const RESUMPTIONS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// From how many ranges' worth on an object is large.
const LARGE: u64 = 4;
/// How many ranges are asked for at first, while nothing shows that more help: with four the start, in which they are
/// doubled, took a third of the time of 256 MiB.
pub(super) const FIRST_PARALLEL: usize = 16;

/// Reads objects: small ones in one request, large ones in ranges at the same time, delivered in order. A read that
/// breaks off is taken up where it broke off, from the same version.
#[derive(Clone, Debug)]
pub(crate) struct Downloads {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) policy: TransferPolicy,
}

impl Downloads {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, policy: TransferPolicy) -> Self {
        Self { store, policy }
    }

    /// As [`ObjectStore::get`] promises.
    ///
    /// The first request asks for all that is wanted, not for a first range: an answer to that carries the checksum of
    /// the whole on every provider, and serves a small object at once. Of a large one its beginning is used while the
    /// rest comes over other connections.
    pub(crate) async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let got = self.store.get(key, options).await?;
        let GetResult { meta, range, body } = got;
        let whole = range == (0..meta.size);
        let wanted = range.end - range.start;
        let at_once = if self.store.capabilities().parallel_ranges && wanted > LARGE * self.policy.range_bytes {
            self.policy.range_bytes
        } else {
            wanted
        };
        let resuming = Resuming {
            downloads: self.clone(),
            key: key.clone(),
            version: meta.version.clone(),
            left: range.start..range.start + at_once,
            origin: range.start,
            body,
            failures: 0,
        };
        let large = Large {
            downloads: self.clone(),
            whole: range.clone(),
            first: resuming,
            expected: meta.crc32c.filter(|_| whole),
        };
        let body = if at_once < wanted { ByteStream::placeable(large) } else { ByteStream::new(large.stream()) };
        Ok(GetResult { meta, range, body })
    }

    pub(super) async fn open(&self, key: &ObjectKey, version: &Version, range: &Range<u64>) -> Result<ByteStream> {
        let pinned =
            GetOptions { range: Some(range.clone().into()), version: Some(version.clone()), ..GetOptions::default() };
        let opened = self.store.get(key, pinned).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let message = "the object was replaced or deleted while it was read";
                Error::new(ErrorKind::Conflict, "object_store.get", self.store.uri(key), message)
            }
            _ => error,
        })?;
        if opened.range != *range {
            let message = format!("bytes {:?} came where {range:?} were asked for", opened.range);
            return Err(Error::new(ErrorKind::Corrupt, "object_store.get", self.store.uri(key), message));
        }
        Ok(opened.body)
    }
}

/// A read that has begun: its first range is under way, and the rest is asked for as soon as it is known how it will be
/// taken.
pub(super) struct Large {
    pub(super) downloads: Downloads,
    pub(super) whole: Range<u64>,
    pub(super) first: Resuming,
    pub(super) expected: Option<Crc32c>,
}

impl Large {
    /// The bytes in order.
    pub(super) fn stream(self) -> BoxStream<'static, Result<Bytes>> {
        let Self { downloads, whole, first, expected } = self;
        let subject = expected.map(|expected| (downloads.store.uri(&first.key).to_string(), expected));
        let rest = Ranges {
            key: first.key.clone(),
            version: first.version.clone(),
            next: first.left.end..whole.end,
            waiting: VecDeque::new(),
            pool: Pool::default(),
            parallel: FIRST_PARALLEL.min(downloads.policy.parallel()),
            downloads,
        };
        let first =
            stream::try_unfold(first, |mut first| async move { Ok(first.next().await?.map(|chunk| (chunk, first))) });
        let body = first.chain_ranges(rest);
        match subject {
            Some((subject, expected)) => Box::pin(verified(subject, expected, body)),
            None => Box::pin(body),
        }
    }
}

/// A read of one range that survives broken connections.
pub(super) struct Resuming {
    pub(super) downloads: Downloads,
    pub(super) key: ObjectKey,
    pub(super) version: Version,
    pub(super) left: Range<u64>,
    /// Where what the caller wants begins.
    pub(super) origin: u64,
    pub(super) body: ByteStream,
    pub(super) failures: u32,
}

impl Resuming {
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.left.is_empty() {
                // What is left of a body that was asked for to the end goes with its connection.
                self.body = ByteStream::once(Bytes::new());
                return Ok(None);
            }
            let error = match self.body.try_next().await {
                Ok(Some(mut chunk)) => {
                    let wanted = self.left.end - self.left.start;
                    chunk.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
                    self.left.start += chunk.len() as u64;
                    self.failures = 0;
                    return Ok(Some(chunk));
                }
                Ok(None) => self.error("the body ended early"),
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(error),
            };
            self.failures += 1;
            if self.failures > RESUMPTIONS {
                return Err(error);
            }
            tracing::debug!(key = %self.key, offset = self.left.start, "a read broke off and is taken up again");
            tokio::time::sleep(FIRST_PAUSE * (1 << self.failures)).await;
            self.body = self.downloads.open(&self.key, &self.version, &self.left).await?;
        }
    }

    fn error(&self, message: &str) -> Error {
        Error::new(ErrorKind::Unavailable, "object_store.get", self.downloads.store.uri(&self.key), message)
    }
}

/// The ranges of an object, fetched ahead of the reader and handed over in order.
struct Ranges {
    downloads: Downloads,
    key: ObjectKey,
    version: Version,
    /// What has not been asked for yet.
    next: Range<u64>,
    /// What has, oldest first.
    waiting: VecDeque<Task<Bytes>>,
    pool: Pool,
    /// How many to have under way: grows while the reader waits for the network, not while the network waits for it.
    parallel: usize,
}

impl Ranges {
    fn fill(&mut self) {
        while self.waiting.len() < self.parallel && !self.next.is_empty() {
            let end = self.next.end.min(self.next.start.saturating_add(self.downloads.policy.range_bytes));
            let range = self.next.start..end;
            self.next.start = end;
            let (downloads, key, version) = (self.downloads.clone(), self.key.clone(), self.version.clone());
            let pool = self.pool.clone();
            self.waiting.push_back(Task::spawn(async move {
                let body = downloads.open(&key, &version, &range).await?;
                let origin = range.start;
                let mut reading = Resuming { downloads, key, version, left: range, origin, body, failures: 0 };
                let mut buffer = pool.buffer(usize::try_from(end - origin).unwrap_or(usize::MAX));
                while let Some(chunk) = reading.next().await? {
                    buffer.append(&chunk);
                }
                Ok(buffer.freeze())
            }));
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.fill();
        let Some(mut oldest) = self.waiting.pop_front() else { return Ok(None) };
        let mut starved = false;
        let bytes = poll_fn(|cx| {
            let polled = Pin::new(&mut oldest).poll(cx);
            starved |= polled.is_pending();
            polled
        })
        .await?;
        if starved {
            self.parallel = (self.parallel * 2).min(self.downloads.policy.parallel());
        }
        self.fill();
        Ok(Some(bytes))
    }
}

trait ChainRanges: Stream<Item = Result<Bytes>> + Send + Sized + 'static {
    /// This stream, and then the ranges, which are asked for from the beginning on.
    fn chain_ranges(self, ranges: Ranges) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        let mut ranges = ranges;
        ranges.fill();
        let rest = stream::try_unfold(ranges, |mut ranges| async move {
            Ok::<_, Error>(ranges.next().await?.map(|bytes| (bytes, ranges)))
        });
        futures_util::StreamExt::chain(self, rest)
    }
}

impl<S: Stream<Item = Result<Bytes>> + Send + 'static> ChainRanges for S {}

/// The same bytes; if they are not what the checksum is of, an error comes in place of the end.
fn verified(
    subject: String,
    expected: Crc32c,
    body: impl Stream<Item = Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    let state = (Box::pin(body), Crc32c(0), subject);
    stream::try_unfold(Some(state), move |state| async move {
        let Some((mut body, crc, subject)) = state else { return Ok(None) };
        match body.try_next().await? {
            Some(chunk) => {
                let crc = crc.append(&chunk);
                Ok(Some((chunk, Some((body, crc, subject)))))
            }
            None if crc == expected => Ok(None),
            None => {
                let message = "the bytes that came are not those that were stored";
                Err(Error::new(ErrorKind::Corrupt, "object_store.get", subject, message))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::Scripted;
    use super::*;
    use crate::object_store::ByteRange;

    const RANGE: usize = 1000;

    fn downloads(store: &Arc<Scripted>) -> Downloads {
        let policy = TransferPolicy { budget_bytes: 8 * RANGE as u64, range_bytes: RANGE as u64 };
        Downloads::new(store.clone(), policy)
    }

    fn key() -> ObjectKey {
        ObjectKey::new("k").unwrap()
    }

    async fn read(store: &Arc<Scripted>, range: Option<ByteRange>) -> Result<Bytes> {
        downloads(store).get(&key(), GetOptions { range, ..GetOptions::default() }).await?.bytes().await
    }

    #[tokio::test]
    async fn a_small_object_costs_one_request() {
        for size in [0, 1, RANGE, 4 * RANGE] {
            let store = Scripted::of_size(size);
            assert_eq!(read(&store, None).await.unwrap(), store.bytes());
            assert_eq!(store.requests(), 1, "{size}");
        }
    }

    #[tokio::test]
    async fn a_large_object_comes_whole_and_in_order() {
        for size in [4 * RANGE + 1, 5 * RANGE, 57 * RANGE + 13] {
            let store = Scripted::of_size(size);
            assert_eq!(read(&store, None).await.unwrap(), store.bytes());
            assert_eq!(store.requests(), size.div_ceil(RANGE));
            let range = ByteRange::Bounded(7, size as u64 - 1);
            assert_eq!(read(&store, Some(range)).await.unwrap(), store.bytes()[7..size - 1]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_breaks_off_is_taken_up_where_it_broke_off() {
        let store = Scripted::of_size(20 * RANGE + 5);
        store.break_every(2);
        assert_eq!(read(&store, None).await.unwrap(), store.bytes());
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_gets_nowhere_ends_with_the_failure() {
        let store = Scripted::of_size(3 * RANGE);
        store.break_every(1);
        assert_eq!(read(&store, None).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn an_object_replaced_while_it_is_read_is_not_mixed() {
        let store = Scripted::of_size(30 * RANGE);
        let mut got = downloads(&store).get(&key(), GetOptions::default()).await.unwrap();
        got.body.try_next().await.unwrap();
        store.replace();
        let rest: Result<Vec<Bytes>> = got.body.try_collect().await;
        assert_eq!(rest.unwrap_err().kind(), ErrorKind::Conflict);
    }

    #[tokio::test]
    async fn bytes_that_do_not_match_the_checksum_are_not_taken_for_whole() {
        for size in [10, 10 * RANGE] {
            let store = Scripted::of_size(size);
            store.spoil_checksum();
            assert_eq!(read(&store, None).await.unwrap_err().kind(), ErrorKind::Corrupt, "{size}");
        }
    }

    #[tokio::test]
    async fn no_more_ranges_are_held_than_the_budget_allows() {
        let store = Scripted::of_size(200 * RANGE);
        let mut got = downloads(&store).get(&key(), GetOptions::default()).await.unwrap();
        for _ in 0..20 {
            got.body.try_next().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // A slow reader: what was read, and no more ahead of it than the budget.
        assert!(store.requests() <= 20 + 8 + 1, "{}", store.requests());
    }
}
