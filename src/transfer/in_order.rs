use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Task;
use super::download::Large;
use super::pool::{Pool, Pooled};
use super::resuming::{Pinned, Resuming};
use super::width::{AMPLE, Width};
use crate::Result;
use crate::object_store::{Crc32c, mismatch};

/// After how many bytes of the first connection, or a range if that is less, its rate is judged.
const SAMPLE: u64 = 1 << 20;

/// An object handed over in order: from one connection as the bytes come while that is fast enough, else in ranges
/// that are fetched ahead of the reader.
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
    pool: Pool,
    left: u64,
    so_far: Crc32c,
    expected: Option<Crc32c>,
}

impl Large {
    /// The bytes in order.
    pub(super) fn stream(self) -> BoxStream<'static, Result<Bytes>> {
        let Self { whole, first, expected, parallel } = self;
        let reading = InOrder {
            object: first.object.clone(),
            direct: Some(first),
            sample: Default::default(),
            ahead: VecDeque::new(),
            next: whole.end..whole.end,
            width: Width::new(parallel, AMPLE),
            pool: Pool::default(),
            left: whole.end - whole.start,
            so_far: Crc32c(0),
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
        if let Some(expected) = self.expected {
            self.so_far = self.so_far.append(&chunk);
            // Judged before the last chunk is handed out: readers stop when they have all bytes.
            if self.left == 0 && self.so_far != expected {
                let Pinned { downloads, key, .. } = &self.object;
                return Err(mismatch(downloads.store.uri(key)));
            }
        }
        Ok(Some(chunk))
    }

    async fn receive(&mut self) -> Result<Option<Bytes>> {
        loop {
            let begun = Instant::now();
            if let Some(direct) = &mut self.direct {
                match direct.next().await? {
                    Some(chunk) => {
                        self.note_direct(chunk.len() as u64, begun.elapsed());
                        return Ok(Some(chunk));
                    }
                    None => self.direct = None,
                }
            } else if let Some(oldest) = self.ahead.front_mut() {
                let came = oldest.next().await?;
                oldest.waited += begun.elapsed();
                if came.is_some() {
                    return Ok(came);
                }
                if let Some(done) = self.ahead.pop_front() {
                    self.width.note(done.bytes, done.waited);
                }
            } else if self.next.is_empty() {
                return Ok(None);
            }
            self.fill();
        }
    }

    fn note_direct(&mut self, bytes: u64, waited: Duration) {
        self.sample = (self.sample.0 + bytes, self.sample.1 + waited);
        let Some(direct) = &mut self.direct else { return };
        if self.sample.0 < SAMPLE.min(self.object.downloads.policy.range_bytes)
            || !self.next.is_empty()
            || !self.ahead.is_empty()
        {
            return;
        }
        let (bytes, waited) = std::mem::take(&mut self.sample);
        self.width.note(bytes, waited);
        if self.width.now() > 1 {
            // The connection keeps a range, and the rest is for all.
            let end = direct.left.end.min(direct.left.start.saturating_add(self.object.downloads.policy.range_bytes));
            self.next = end..direct.left.end;
            direct.left.end = end;
            self.fill();
        }
    }

    fn fill(&mut self) {
        if self.width.now() == 1 {
            return;
        }
        while self.ahead.len() + usize::from(self.direct.is_some()) < self.width.now() && !self.next.is_empty() {
            let size = self.object.downloads.policy.range_bytes;
            let end = self.next.end.min(self.next.start.saturating_add(size));
            let range = self.next.start..end;
            self.next.start = end;
            self.ahead.push_back(Ahead::ask(self.object.clone(), range, &self.pool));
        }
    }
}

/// A range that is fetched before the reader wants it: gathered until then, and handed over as it comes from then on.
struct Ahead {
    bytes: u64,
    chunks: mpsc::UnboundedReceiver<Bytes>,
    wanted: Arc<AtomicBool>,
    task: Option<Task<()>>,
    waited: Duration,
}

impl Ahead {
    fn ask(object: Pinned, range: Range<u64>, pool: &Pool) -> Self {
        let bytes = range.end - range.start;
        let (sender, chunks) = mpsc::unbounded_channel();
        let wanted = Arc::new(AtomicBool::new(false));
        let (now, pool) = (Arc::clone(&wanted), pool.clone());
        let task = Task::spawn(async move {
            let mut reading = object.open(range).await?;
            let mut gathered = None;
            while let Some(chunk) = reading.next().await? {
                if now.load(Ordering::Relaxed) {
                    // A send fails when the reader is gone, and this task then ends with it.
                    if let Some(buffer) = gathered.take() {
                        let _ = sender.send(Pooled::freeze(buffer));
                    }
                    let _ = sender.send(chunk);
                } else {
                    let room = || pool.buffer(usize::try_from(bytes).unwrap_or(usize::MAX));
                    gathered.get_or_insert_with(room).append(&chunk);
                }
            }
            if let Some(buffer) = gathered {
                let _ = sender.send(buffer.freeze());
            }
            Ok(())
        });
        Self { bytes, chunks, wanted, task: Some(task), waited: Duration::ZERO }
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.wanted.store(true, Ordering::Relaxed);
        if let Some(chunk) = self.chunks.recv().await {
            return Ok(Some(chunk));
        }
        if let Some(task) = self.task.take() {
            task.await?;
        }
        Ok(None)
    }
}
