//! Uploads in parts: one temporary file, into which every part goes at its own offset.

use std::fmt;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use super::call::{Call, blocking};
use super::publish::publish;
use super::record::Record;
use super::temporary::Temporary;
use super::{MAX_OBJECT_BYTES, RULES};
use crate::object_store::{Crc32c, PartRules, Payload, PutResult, Upload};
use crate::{ErrorKind, PutOptions, Result};

/// How much is written before the disk is set to work on it, so that it is not idle until the end.
const SYNC_BYTES: u64 = 64 << 20;

/// The checksum and the length of each part that is written.
type Parts = Arc<std::sync::Mutex<Vec<Option<(Crc32c, u64)>>>>;

pub(super) struct FileUpload {
    call: Call,
    options: PutOptions,
    temporary: Arc<Temporary>,
    parts: Parts,
    /// One part is written at a time: several would wait for the lock of the one file, spinning.
    writing: Arc<Mutex<()>>,
    size: u64,
}

impl FileUpload {
    pub(super) fn new(call: Call, options: PutOptions, temporary: Temporary) -> Self {
        Self {
            call,
            options,
            temporary: Arc::new(temporary),
            parts: Parts::default(),
            writing: Arc::default(),
            size: 0,
        }
    }
}

impl fmt::Debug for FileUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileUpload").field("key", &self.call.key).field("size", &self.size).finish_non_exhaustive()
    }
}

#[async_trait]
impl Upload for FileUpload {
    fn rules(&self) -> PartRules {
        RULES
    }

    fn put_part(&mut self, part: Payload) -> BoxFuture<'static, Result<Crc32c>> {
        let call = Call { operation: "object_store.put_part", ..self.call.clone() };
        let (temporary, parts) = (Arc::clone(&self.temporary), Arc::clone(&self.parts));
        let writing = Arc::clone(&self.writing);
        let offset = self.size;
        self.size += part.len();
        let sync = offset / SYNC_BYTES < self.size / SYNC_BYTES;
        let number = {
            let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
            parts.push(None);
            parts.len() - 1
        };
        let problem = if part.is_empty() {
            Some((ErrorKind::InvalidInput, "a part holds at least one byte"))
        } else if self.size > MAX_OBJECT_BYTES || number >= RULES.max_parts as usize {
            Some((ErrorKind::TooLarge, "the object has too many bytes or parts"))
        } else {
            None
        };
        Box::pin(async move {
            if let Some((kind, message)) = problem {
                return Err(call.error(kind, message));
            }
            let (subject, operation) = (call.subject.clone(), call.operation);
            let turn = writing.lock().await;
            let (calling, written) = (call.clone(), Arc::clone(&temporary));
            let crc = blocking(operation, &subject, move || {
                let (mut crc, mut next) = (Crc32c(0), offset);
                for piece in part.pieces() {
                    // Summed while it is in the processor's cache for the sake of the writing.
                    crc = crc.append(piece);
                    let done = written.bucket.operations.write_at(&written.file, piece, next);
                    done.map_err(|source| calling.io("the part could not be written", source))?;
                    next += piece.len() as u64;
                }
                Ok((crc, part.len()))
            })
            .await?;
            drop(turn);
            if sync {
                // Other parts are written meanwhile. A failure must be told: the system tells of it only once.
                blocking(operation, &subject, move || {
                    let synced = temporary.bucket.operations.sync_file(&temporary.file);
                    synced.map_err(|source| call.io("what was written could not be made durable", source))
                })
                .await?;
            }
            parts.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(crc);
            Ok(crc.0)
        })
    }

    /// A file does not refuse for a while.
    fn setbacks(&self) -> u64 {
        0
    }

    async fn finish(self: Box<Self>, crc32c: Crc32c) -> Result<PutResult> {
        let Self { call, options, temporary, parts, size, .. } = *self;
        let call = Call { operation: "object_store.finish_upload", ..call };
        let parts = std::mem::take(&mut *parts.lock().unwrap_or_else(PoisonError::into_inner));
        let mut actual = Crc32c(0);
        for part in parts {
            let Some((next, length)) = part else {
                return Err(
                    call.error(ErrorKind::InvalidInput, "a part was not written; the upload cannot be finished")
                );
            };
            actual = actual.combine(next, length);
        }
        if actual != crc32c || options.crc32c.is_some_and(|expected| expected != actual) {
            return Err(call.error(ErrorKind::Corrupt, "the parts do not match the checksum of the whole"));
        }
        let subject = call.subject.clone();
        blocking(call.operation, &subject, move || {
            let record = Record::new(&call.key, size, actual, &options);
            let completed = temporary.complete(&record);
            completed.map_err(|source| call.io("the object could not be written", source))?;
            publish(&call, &temporary, &record, &options.mode)
        })
        .await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let Self { call, temporary, .. } = *self;
        let call = Call { operation: "object_store.abort_upload", ..call };
        let subject = call.subject.clone();
        blocking(call.operation, &subject, move || {
            temporary.remove().map_err(|source| call.io("the parts could not be removed", source))
        })
        .await
    }
}
