use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use super::{Crc32c, Payload, PutResult};
use crate::Result;

/// How an upload wants its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRules {
    /// The least that a part, other than the last, may hold.
    pub min_bytes: u64,
    /// Parts other than the last are a multiple of this.
    pub multiple_of: u64,
    /// The most that a part may hold.
    pub max_bytes: u64,
    /// The most parts that an object may have.
    pub max_parts: u32,
    /// Parts may be under way at the same time; otherwise one must end before the next is polled.
    pub parallel: bool,
}

impl PartRules {
    /// A size for the part of this number (from 0), so that an object of unknown size never runs out of parts:
    /// `base` for the first thousand, twice that for the next, and so on, within the rules.
    #[must_use]
    pub fn part_bytes(&self, base: u64, number: u32) -> u64 {
        let doublings = (number / 1000).min(16);
        let size = base.max(self.min_bytes).saturating_mul(1 << doublings).min(self.max_bytes);
        (size - size % self.multiple_of).max(self.multiple_of)
    }
}

/// An upload in parts that has begun.
///
/// Only [`finish`](Self::finish) publishes. Dropping it cleans up as well as can be; [`abort`](Self::abort) cleans up
/// and says whether it could.
#[async_trait]
pub trait Upload: fmt::Debug + Send + 'static {
    /// How the parts must be cut.
    fn rules(&self) -> PartRules;

    /// Takes the next part; the object is the parts in the order of these calls. The future sends it, retries
    /// included, and may be run on any task; it gives the part's checksum, which is computed nowhere else. All must have
    /// succeeded before [`finish`](Self::finish).
    ///
    /// # Errors
    /// Of the future: `InvalidInput` for a part that breaks the rules, `TooLarge` for one part too many, and those of
    /// [`ObjectStore::put`](crate::ObjectStore::put). After an error the upload can only be aborted.
    fn put_part(&mut self, part: Payload) -> BoxFuture<'static, Result<Crc32c>>;

    /// How many requests of this upload have failed so far for a reason that passes, whether or not their repetition
    /// has succeeded since: refused as one too many, for want of service, or lost on the way.
    fn setbacks(&self) -> u64;

    /// Publishes the parts as one object, if the precondition holds; all or nothing.
    ///
    /// `crc32c` is the checksum of the whole, which the store verifies where it can.
    ///
    /// # Errors
    /// As for [`ObjectStore::put`](crate::ObjectStore::put). On a definite error the upload is cleaned up.
    async fn finish(self: Box<Self>, crc32c: Crc32c) -> Result<PutResult>;

    /// Throws the upload away.
    ///
    /// # Errors
    /// When what was stored could not be removed now; it is then left to
    /// [`abort_stale_uploads`](crate::ObjectStore::abort_stale_uploads).
    async fn abort(self: Box<Self>) -> Result<()>;
}

/// How far a long transfer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Bytes done.
    pub bytes: u64,
    /// Bytes in all, where that is known.
    pub total: Option<u64>,
    /// Bytes a second since the beginning.
    pub rate: f64,
}

/// Is told of progress, from time to time and once at the end, when the object or the file is there. Must return quickly.
pub type ProgressCallback = Arc<dyn Fn(Progress) + Send + Sync>;

/// Counts bytes and tells the callback.
pub(crate) struct Meter {
    callback: Option<ProgressCallback>,
    total: Option<u64>,
    begun: Instant,
    bytes: u64,
}

impl Meter {
    pub(crate) fn new(callback: Option<ProgressCallback>, total: Option<u64>) -> Self {
        Self { callback, total, begun: Instant::now(), bytes: 0 }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// So many bytes more; none say once more what there was.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(callback) = &self.callback {
            let seconds = self.begun.elapsed().max(Duration::from_millis(1)).as_secs_f64();
            callback(Progress { bytes: self.bytes, total: self.total, rate: self.bytes as f64 / seconds });
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("bytes", &self.bytes).field("total", &self.total).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_sizes_grow_so_that_the_largest_object_fits() {
        let gib = 1 << 30;
        let s3 =
            PartRules { min_bytes: 5 << 20, multiple_of: 1, max_bytes: 5 * gib, max_parts: 10_000, parallel: true };
        let total: u64 = (0..s3.max_parts).map(|number| s3.part_bytes(5 << 20, number)).sum();
        assert!(total > 4_900 * gib, "{} GiB", total / gib);
        let gcs = PartRules { min_bytes: 1, multiple_of: 256 << 10, ..s3 };
        assert_eq!(gcs.part_bytes(300_000, 0), 262_144);
    }
}
