use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::Downloads;
use crate::object_store::{ByteStream, Version};
use crate::{Error, ErrorKind, ObjectKey, Result};

/// How often a broken read is taken up again without having got a byte further.
const RESUMPTIONS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The version of an object that one read is of.
#[derive(Clone)]
pub(super) struct Pinned {
    pub(super) downloads: Downloads,
    pub(super) key: ObjectKey,
    pub(super) version: Version,
}

impl Pinned {
    pub(super) async fn open(self, range: Range<u64>) -> Result<Resuming> {
        let body = self.downloads.open(&self.key, &self.version, &range).await?;
        Ok(Resuming::new(self, range, body))
    }
}

/// A read of one range that survives broken connections.
pub(super) struct Resuming {
    pub(super) object: Pinned,
    pub(super) left: Range<u64>,
    body: ByteStream,
    /// Came already, and is to be handed out first.
    held: Bytes,
    failures: u32,
}

impl Resuming {
    pub(super) fn new(object: Pinned, left: Range<u64>, body: ByteStream) -> Self {
        Self { object, left, body, held: Bytes::new(), failures: 0 }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        self.next_until(self.left.end).await
    }

    /// The next bytes before this offset; `None` when it is reached.
    pub(super) async fn next_until(&mut self, end: u64) -> Result<Option<Bytes>> {
        if self.left.start >= end {
            if self.left.is_empty() {
                // What is left of a body that was asked for to the end goes with its connection.
                self.body = ByteStream::once(Bytes::new());
                self.held = Bytes::new();
            }
            return Ok(None);
        }
        let mut chunk = if self.held.is_empty() { self.receive().await? } else { std::mem::take(&mut self.held) };
        let wanted = usize::try_from(end - self.left.start).unwrap_or(usize::MAX);
        if chunk.len() > wanted {
            self.held = chunk.split_off(wanted);
        }
        self.left.start += chunk.len() as u64;
        Ok(Some(chunk))
    }

    async fn receive(&mut self) -> Result<Bytes> {
        loop {
            let error = match self.body.try_next().await {
                Ok(Some(chunk)) => {
                    self.failures = 0;
                    return Ok(chunk);
                }
                Ok(None) => self.error("the body ended early"),
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(error),
            };
            self.failures += 1;
            if self.failures > RESUMPTIONS {
                return Err(error);
            }
            let Pinned { downloads, key, version } = &self.object;
            tracing::debug!(%key, offset = self.left.start, "a read broke off and is taken up again");
            tokio::time::sleep(FIRST_PAUSE * (1 << self.failures)).await;
            self.body = downloads.open(key, version, &self.left).await?;
        }
    }

    fn error(&self, message: &str) -> Error {
        let Pinned { downloads, key, .. } = &self.object;
        Error::new(ErrorKind::Unavailable, "object_store.get", downloads.store.uri(key), message)
    }
}
