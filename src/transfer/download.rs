use std::ops::Range;
use std::sync::Arc;

use super::TransferPolicy;
use super::resuming::{Pinned, Resuming};
use crate::object_store::{ByteStream, Crc32c, GetResult, Version};
use crate::{Error, ErrorKind, GetOptions, ObjectKey, ObjectStore, Result};

/// From how many ranges' worth on an object is large.
const LARGE: u64 = 4;

/// Reads objects: small ones in one request, large ones in ranges at the same time where one connection is slow,
/// delivered in order. A read that breaks off is taken up where it broke off, from the same version.
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
    /// the whole on every provider, serves a small object at once, and a large one too where it comes fast enough.
    /// The bytes are summed here and no longer below, because what breaks off or comes in ranges has no checksum there.
    pub(crate) async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let got = self.store.get(key, options).await?;
        if !self.store.capabilities().parallel_ranges {
            return Ok(got);
        }
        let GetResult { meta, range, body } = got;
        let whole = range == (0..meta.size);
        let object = Pinned { downloads: self.clone(), key: key.clone(), version: meta.version.clone() };
        let is_large = range.end - range.start > LARGE * self.policy.range_bytes;
        let large = Large {
            whole: range.clone(),
            first: Resuming::new(object, range.clone(), body.unchecked()),
            expected: meta.crc32c.filter(|_| whole),
            parallel: if is_large { self.policy.parallel() } else { 1 },
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
    async fn a_large_object_that_comes_fast_enough_costs_one_request() {
        let store = Scripted::of_size(57 * RANGE + 13);
        assert_eq!(stream(&store).await.unwrap(), store.bytes());
        assert_eq!(store.requests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_object_that_comes_slowly_is_read_in_ranges_and_in_order() {
        for size in [4 * RANGE + 1, 5 * RANGE, 57 * RANGE + 13] {
            let store = Scripted::of_size(size);
            store.slow_down();
            let begun = tokio::time::Instant::now();
            assert_eq!(stream(&store).await.unwrap(), store.bytes());
            // The first connection keeps the range that was judged, and one more.
            assert_eq!(store.requests(), (size - RANGE).div_ceil(RANGE), "{size}");
            let alone = Duration::from_millis(size.div_ceil(250) as u64);
            assert!(size < 50 * RANGE || begun.elapsed() < alone / 4, "{:?} of {alone:?}", begun.elapsed());
            let range = ByteRange::Bounded(7, size as u64 - 1);
            assert_eq!(read(&store, Some(range)).await.unwrap(), store.bytes()[7..size - 1]);
        }
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
    async fn no_more_ranges_are_held_than_the_budget_allows() {
        let store = Scripted::of_size(200 * RANGE);
        store.slow_down();
        let mut got = downloads(&store).get(&key(), GetOptions::default()).await.unwrap();
        let mut taken = 0;
        while taken < 20 * RANGE {
            taken += got.body.try_next().await.unwrap().unwrap().len();
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        // A slow reader: what was read, and no more ahead of it than three quarters of the budget.
        assert!((20..=20 + 6 + 1).contains(&store.requests()), "{}", store.requests());
    }
}
