use std::ops::Range;
use std::sync::Arc;

use super::TransferPolicy;
use super::resuming::{Pinned, Resuming};
use crate::object_store::{ByteStream, Crc32c, GetResult, Version};
use crate::{Error, ErrorKind, GetOptions, ObjectKey, ObjectStore, Result};

/// From how many ranges' worth on an object is large.
const LARGE: u64 = 4;

/// Reads objects: small ones in one request, large ones in ranges at the same time, delivered in order. A read that breaks off is taken up where it broke off, from the same version.
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
    /// the whole on every provider, and serves a small object at once. The bytes are summed here and no longer below, because what breaks off or comes in ranges has no checksum there.
    pub(crate) async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let got = self.store.get(key, options).await?;
        if !self.store.capabilities().parallel_ranges {
            return Ok(got);
        }
        let GetResult { meta, range, body } = got;
        let whole = range == (0..meta.size);
        let object = Pinned { downloads: self.clone(), key: key.clone(), version: meta.version.clone() };
        let parallel = self.policy.parallel();
        let is_large = parallel > 1 && range.end - range.start > LARGE * self.policy.range_bytes;
        let large = Large {
            whole: range.clone(),
            first: Resuming::new(object, range.clone(), body.unchecked()),
            expected: meta.crc32c.filter(|_| whole),
            parallel: if is_large { parallel } else { 1 },
        };
        let body = if is_large { ByteStream::placeable(large) } else { ByteStream::new(large.stream()) };
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
        Ok(opened.body.unchecked())
    }
}

/// A read that has begun: its first connection is open, and more are made when it is known how the bytes will be taken.
pub(super) struct Large {
    pub(super) whole: Range<u64>,
    pub(super) first: Resuming,
    pub(super) expected: Option<Crc32c>,
    /// How many connections it may use.
    pub(super) parallel: usize,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::TryStreamExt as _;

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

    /// Chunk by chunk, which is another way than all in one buffer.
    async fn stream(store: &Arc<Scripted>) -> Result<Bytes> {
        let body = downloads(store).get(&key(), GetOptions::default()).await?.body;
        Ok(body.try_collect::<Vec<Bytes>>().await?.concat().into())
    }

    #[tokio::test]
    async fn a_small_object_costs_one_request() {
        for size in [0, 1, RANGE, 4 * RANGE] {
            let store = Scripted::of_size(size);
            assert_eq!(read(&store, None).await.unwrap(), store.bytes());
            assert_eq!(store.requests(), 1, "{size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_object_that_comes_fast_is_read_over_few_connections_and_one_that_comes_slowly_over_many() {
        let store = Scripted::of_size(200 * RANGE + 13);
        assert_eq!(stream(&store).await.unwrap(), store.bytes());
        let fast = store.most_at_once();
        store.slow_down();
        let begun = tokio::time::Instant::now();
        assert_eq!(stream(&store).await.unwrap(), store.bytes());
        let slow = store.most_at_once();
        assert!((2..=8).contains(&fast) && slow == 12, "{fast} and {slow}");
        let alone = Duration::from_millis((200 * RANGE / 250) as u64);
        assert!(begun.elapsed() < alone / 6, "{:?} of {alone:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn ranges_of_any_object_come_in_order_and_none_is_asked_for_twice() {
        for size in [4 * RANGE + 1, 5 * RANGE, 57 * RANGE + 13] {
            let store = Scripted::of_size(size);
            store.slow_down();
            assert_eq!(stream(&store).await.unwrap(), store.bytes());
            // But for what is under way on the first connection when it has brought its range.
            assert!(store.served() <= size + 250, "{} of {size}", store.served());
            assert!(store.requests() <= 12 + 2 * size / RANGE, "{}", store.requests());
            let range = ByteRange::Bounded(7, size as u64 - 1);
            assert_eq!(read(&store, Some(range)).await.unwrap(), store.bytes()[7..size - 1]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_asks_for_less_is_read_over_fewer_connections() {
        let store = Scripted::of_size(2000 * RANGE);
        store.slow_down();
        store.tolerate(6);
        assert_eq!(stream(&store).await.unwrap(), store.bytes());
        assert_eq!(read(&store, None).await.unwrap(), store.bytes());
        assert!(store.refusals() < 200, "{} of {} requests were refused", store.refusals(), store.requests());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_served_over_few_connections() {
        let store = Scripted::of_size(400 * RANGE);
        store.slow_down();
        let mut body = downloads(&store).get(&key(), GetOptions::default()).await.unwrap().body;
        let mut came = 0;
        while let Some(chunk) = body.try_next().await.unwrap() {
            came += chunk.len();
            tokio::time::sleep(Duration::from_millis(5)).await;
            if came < 200 * RANGE {
                store.most_at_once();
            }
        }
        let at_once = store.most_at_once();
        assert!(at_once <= 5, "{at_once} for a reader that takes what one connection brings");
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_breaks_off_is_taken_up_where_it_broke_off() {
        let store = Scripted::of_size(20 * RANGE + 5);
        store.slow_down();
        store.break_every(2);
        assert_eq!(read(&store, None).await.unwrap(), store.bytes());
        assert_eq!(stream(&store).await.unwrap(), store.bytes());
        assert_eq!(stream(&store).await.unwrap(), store.bytes());
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_gets_nowhere_ends_with_the_failure() {
        let store = Scripted::of_size(3 * RANGE);
        store.break_every(1);
        assert_eq!(read(&store, None).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_replaced_while_it_is_read_is_not_mixed() {
        let store = Scripted::of_size(30 * RANGE);
        store.slow_down();
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
            assert_eq!(stream(&store).await.unwrap_err().kind(), ErrorKind::Corrupt, "{size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_is_dropped_at_any_point_ends_its_connections() {
        async fn drop_after(polls: usize, reading: impl Future<Output = Result<Bytes>>) -> bool {
            let (mut reading, mut polled) = (Box::pin(reading), 0);
            std::future::poll_fn(|cx| {
                polled += 1;
                match reading.as_mut().poll(cx) {
                    std::task::Poll::Ready(_) => std::task::Poll::Ready(true),
                    std::task::Poll::Pending if polled > polls => std::task::Poll::Ready(false),
                    std::task::Poll::Pending => std::task::Poll::Pending,
                }
            })
            .await
        }
        let store = Scripted::of_size(57 * RANGE);
        store.slow_down();
        let mut polls = 0;
        while !(drop_after(polls, stream(&store)).await & drop_after(polls, read(&store, None)).await) {
            // A task ends when the runtime next comes to it.
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(store.at_once(), 0, "after {polls} polls");
            polls += 1;
        }
        assert!(polls > 20, "{polls}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_held_than_the_budget_allows() {
        let store = Scripted::of_size(200 * RANGE);
        store.slow_down();
        let mut got = downloads(&store).get(&key(), GetOptions::default()).await.unwrap();
        let mut taken = 0;
        while taken < 20 * RANGE {
            taken += got.body.try_next().await.unwrap().unwrap().len();
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        // A slow reader: three quarters of the budget, the range that it is at, and a chunk of each connection.
        let ahead = store.served() - taken;
        assert!((5 * RANGE..=7 * RANGE + 12 * 250).contains(&ahead), "{ahead}");
        while let Some(chunk) = got.body.try_next().await.unwrap() {
            taken += chunk.len();
        }
        assert_eq!(taken, 200 * RANGE);
    }
}
