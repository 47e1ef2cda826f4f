use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use tokio::time::Instant;

use super::Pool;
use super::ahead::{Ahead, Shared};
use super::download::Large;
use super::held::Held;
use super::resuming::{Pinned, Resuming};
use super::width::Width;
use crate::Result;
use crate::object_store::{Crc32c, mismatch};

/// After how many bytes of the first connection, or a range if that is less, its rate is judged.
pub(super) const SAMPLE: u64 = 256 << 10;

/// An object handed over in order. The first connection is read as its bytes come; once the reader has taken a sample
/// of it, the rest is fetched in ranges ahead of the reader.
pub(super) struct InOrder {
    object: Pinned,
    /// What the reader takes straight from its connection.
    direct: Option<Resuming>,
    sample: (u64, Duration),
    /// What is fetched beyond that, oldest first.
    ahead: VecDeque<Ahead>,
    /// What has not been asked for yet.
    next: Range<u64>,
    width: Width,
    shared: Shared,
    /// When the range before the present one was done.
    turned: Instant,
    left: u64,
    /// The checksum of what came before the present range, that of the range, and how much came of it.
    sum: (Crc32c, Crc32c, u64),
    expected: Option<Crc32c>,
}

impl Large {
    /// The bytes in order.
    pub(super) fn stream(self) -> BoxStream<'static, Result<Bytes>> {
        let Self { whole, first, expected, parallel } = self;
        let object = first.object.clone();
        let shared = Shared {
            held: Arc::new(Held::new(object.downloads.policy.ahead_bytes())),
            pool: Pool::default(),
            throttled: Arc::default(),
            checked: expected.is_some(),
        };
        let reading = InOrder {
            object,
            direct: Some(first),
            sample: Default::default(),
            ahead: VecDeque::new(),
            next: whole.end..whole.end,
            width: Width::new(parallel),
            shared,
            turned: Instant::now(),
            left: whole.end - whole.start,
            sum: (Crc32c(0), Crc32c(0), 0),
            expected,
        };
        Box::pin(stream::try_unfold(reading, |mut reading| async move {
            Ok(reading.next().await?.map(|chunk| (chunk, reading)))
        }))
    }
}

impl InOrder {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(chunk) = self.receive().await? else { return Ok(None) };
        self.left -= chunk.len() as u64;
        // Judged before the last chunk is handed out: readers stop when they have all bytes.
        if self.left == 0 && self.expected.is_some_and(|expected| expected != self.so_far()) {
            let Pinned { downloads, key, .. } = &self.object;
            return Err(mismatch(downloads.store.uri(key)));
        }
        Ok(Some(chunk))
    }

    fn so_far(&self) -> Crc32c {
        let (before, range, bytes) = self.sum;
        before.combine(range, bytes)
    }

    async fn receive(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(direct) = &mut self.direct {
                let begun = Instant::now();
                if let Some(chunk) = direct.next().await? {
                    let bytes = chunk.len() as u64;
                    if self.expected.is_some() {
                        self.sum.0 = self.sum.0.append(&chunk);
                    }
                    self.note_direct(bytes, begun.elapsed());
                    return Ok(Some(chunk));
                }
                self.direct = None;
            } else if let Some(oldest) = self.ahead.front_mut() {
                if let Some(came) = oldest.next().await? {
                    self.sum.1 = came.crc;
                    self.sum.2 += came.bytes.len() as u64;
                    return Ok(Some(came.bytes));
                }
                self.turn();
            } else if self.next.is_empty() {
                return Ok(None);
            }
            self.fill();
        }
    }

    /// The oldest range is done.
    fn turn(&mut self) {
        self.sum = (self.so_far(), Crc32c(0), 0);
        let Some(done) = self.ahead.pop_front() else { return };
        let time = std::mem::replace(&mut self.turned, Instant::now()).elapsed();
        self.width.note(done.bytes, time, done.waited);
        if self.shared.throttled.swap(false, Ordering::Relaxed) {
            self.width.back_off();
        }
    }

    fn note_direct(&mut self, bytes: u64, waited: Duration) {
        let policy = &self.object.downloads.policy;
        self.sample = (self.sample.0 + bytes, self.sample.1 + waited);
        let Some(direct) = &mut self.direct else { return };
        let judged = self.sample.0 < SAMPLE.min(policy.range_bytes) || !self.next.is_empty() || !self.ahead.is_empty();
        if judged || self.width.now() == 1 {
            return;
        }
        self.width.judge_connection(self.sample.0, self.sample.1);
        // The connection keeps a range, and the rest is for all.
        let end = direct.left.end.min(direct.left.start.saturating_add(policy.range_bytes));
        self.next = end..direct.left.end;
        direct.left.end = end;
        self.fill();
    }

    fn fill(&mut self) {
        let busy = self.ahead.len() + usize::from(self.direct.is_some());
        let fresh = self.width.now().saturating_sub(busy) as u64;
        for number in 1..=fresh {
            // Paused connections are of no use: a reader that falls behind gets no more of them.
            if self.next.is_empty() || (busy > 0 && self.shared.held.is_full()) {
                return;
            }
            let bytes = self.range_bytes(number, fresh);
            let range = self.next.start..self.next.end.min(self.next.start.saturating_add(bytes));
            self.next.start = range.end;
            self.ahead.push_back(Ahead::ask(self.object.clone(), range, &self.shared));
        }
    }

    /// How much to ask for at once, for the `number`th of so many ranges that begin together.
    ///
    /// These are cut so that they are done one after the other: with ranges of one size all would come, and be held, at
    /// the same time, and then all connections be idle for a round trip. Towards the end ranges become smaller, so that
    /// the connections are done with the object together.
    fn range_bytes(&self, number: u64, of: u64) -> u64 {
        let full = self.object.downloads.policy.range_bytes;
        let staggered = (full.saturating_mul(number) / of).max(full / 8);
        let fair = (self.next.end - self.next.start) / self.width.now() as u64;
        staggered.min(fair.max(full / 2)).max(1)
    }
}
