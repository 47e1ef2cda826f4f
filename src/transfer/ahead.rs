use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::held::Held;
use super::resuming::Pinned;
use super::{Pool, Pooled, Task};
use crate::Result;
use crate::object_store::Crc32c;

/// What comes is copied into blocks of this size that are used again and again. To keep the chunks as they come costs
/// more: each holds the whole buffer that it was received in, and the connection makes itself a new one, whose pages
/// take the system several times as long to make as to copy what is in them.
const BLOCK: usize = 128 << 10;

/// What all the ranges of one read share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) held: Arc<Held>,
    pub(super) pool: Pool,
    /// The store has asked for less.
    pub(super) throttled: Arc<AtomicBool>,
    /// The checksum is known, and so worth its time.
    pub(super) checked: bool,
}

/// Some bytes of a range, and the checksum of the range up to their end.
pub(super) struct Came {
    pub(super) bytes: Bytes,
    pub(super) crc: Crc32c,
}

/// A range that is fetched before the reader wants it: held until then, and handed over as it comes from then on.
pub(super) struct Ahead {
    pub(super) bytes: u64,
    came: mpsc::UnboundedReceiver<Came>,
    held: Arc<Held>,
    wanted: Arc<AtomicBool>,
    task: Option<Task<()>>,
    /// For how long the reader waited for it.
    pub(super) waited: Duration,
}

impl Ahead {
    pub(super) fn ask(object: Pinned, range: Range<u64>, shared: &Shared) -> Self {
        let bytes = range.end - range.start;
        let (sender, came) = mpsc::unbounded_channel();
        let wanted = Arc::new(AtomicBool::new(false));
        let fetching = Fetching { shared: shared.clone(), wanted: Arc::clone(&wanted), sender, block: None };
        let task = Task::spawn(fetching.run(object, range));
        Self { bytes, came, held: Arc::clone(&shared.held), wanted, task: Some(task), waited: Duration::ZERO }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Came>> {
        if !self.wanted.load(Ordering::Relaxed) {
            self.held.want(&self.wanted);
        }
        let came = match self.came.try_recv() {
            Ok(came) => Some(came),
            Err(_) => {
                let begun = Instant::now();
                let came = self.came.recv().await;
                self.waited += begun.elapsed();
                came
            }
        };
        if let Some(came) = came {
            self.held.taken(came.bytes.len() as u64);
            return Ok(Some(came));
        }
        if let Some(task) = self.task.take() {
            task.await?;
        }
        Ok(None)
    }
}

struct Fetching {
    shared: Shared,
    wanted: Arc<AtomicBool>,
    sender: mpsc::UnboundedSender<Came>,
    block: Option<Pooled>,
}

impl Fetching {
    async fn run(mut self, object: Pinned, range: Range<u64>) -> Result<()> {
        let noting = crate::retry::noting_throttling(Arc::clone(&self.shared.throttled), object.open(range));
        let mut reading = noting.await?;
        let mut crc = Crc32c(0);
        loop {
            self.shared.held.room(&self.wanted).await;
            let Some(mut chunk) = reading.next().await? else { break };
            self.shared.held.came(chunk.len() as u64);
            while !chunk.is_empty() {
                let block = self.block.get_or_insert_with(|| self.shared.pool.buffer(BLOCK));
                let fits = chunk.split_to(chunk.len().min(BLOCK - block.len()));
                block.append(&fits);
                if self.shared.checked {
                    crc = crc.append(&fits);
                }
                if block.len() == BLOCK || self.wanted.load(Ordering::Relaxed) {
                    self.hand_over(crc);
                }
            }
        }
        self.hand_over(crc);
        Ok(())
    }

    fn hand_over(&mut self, crc: Crc32c) {
        if let Some(block) = self.block.take() {
            // A send fails when the reader is gone, and this task then ends with it.
            let _ = self.sender.send(Came { bytes: block.freeze(), crc });
        }
    }
}
