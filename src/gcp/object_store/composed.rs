//! Uploads in parts that travel at the same time: each is a temporary object, and in the end they are composed.
//!
//! <https://cloud.google.com/storage/docs/parallel-composite-uploads>

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::bucket::{Bucket, MAX_OBJECT_BYTES};
use super::compose::{Component, MAX_SOURCES, sum};
use super::condition;
use super::temporaries::Temporaries;
use super::version::generation;
use crate::object_store::{Crc32c, PartRules, PutResult, Upload};
use crate::retry::{Retrier, Retrying as _, until};
use crate::{Error, ErrorKind, ObjectKey, PutMode, PutOptions, Result, WriteId};

const START: &str = "object_store.start_upload";
const PART: &str = "object_store.put_part";
const FINISH: &str = "object_store.finish_upload";
const ABORT: &str = "object_store.abort_upload";

/// From this size on the calls that composing costs are a small part of the whole.
pub(super) const LARGE_BYTES: u64 = 32 << 20;
/// Parts are held in memory while they travel; nothing is won by larger ones.
const MAX_PART_BYTES: u64 = 64 << 20;
/// How many intermediate objects are composed at the same time.
const PARALLEL: usize = 8;

const RULES: PartRules =
    PartRules { min_bytes: 1, multiple_of: 1, max_bytes: MAX_PART_BYTES, max_parts: u32::MAX, parallel: true };

/// An upload whose parts are temporary objects. Dropped unfinished, it removes them.
pub(super) struct ComposedUpload {
    temporaries: Temporaries,
    key: ObjectKey,
    subject: String,
    options: PutOptions,
    id: WriteId,
    /// In the order of the parts; `None` as long as a part is on its way.
    components: Arc<Mutex<Vec<Option<Component>>>>,
    total: u64,
    over: bool,
}

impl ComposedUpload {
    pub(super) fn start(bucket: Arc<Bucket>, key: &ObjectKey, options: PutOptions) -> Result<Self> {
        let subject = bucket.uri(key).to_string();
        condition::query(&options.mode, START, &subject)?;
        let id = options.write_id.clone().unwrap_or_else(WriteId::random);
        Ok(Self {
            temporaries: Temporaries::new(bucket),
            key: key.clone(),
            subject,
            options,
            id,
            components: Arc::default(),
            total: 0,
            over: false,
        })
    }

    /// How a temporary object is written: as what it becomes a part of, which has
    /// [the storage class of its sources](https://cloud.google.com/storage/docs/composite-objects).
    fn temporary(&self) -> PutOptions {
        PutOptions {
            mode: PutMode::Create,
            write_id: Some(self.id.clone()),
            storage_class: self.options.storage_class.clone(),
            encryption_key: self.options.encryption_key.clone(),
            ..PutOptions::default()
        }
    }

    /// The parts, if all have arrived and are what the checksums say.
    fn arrived(&self, crc32c: Crc32c) -> Result<Vec<Component>> {
        let refused = |kind, message| Err(Error::new(kind, FINISH, &self.subject, message));
        let components = self.components.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(components) = components.into_iter().collect::<Option<Vec<_>>>() else {
            return refused(ErrorKind::InvalidInput, "not all parts of this upload have succeeded");
        };
        let (actual, _) = sum(&components);
        if actual != crc32c || self.options.crc32c.is_some_and(|expected| expected != actual) {
            return refused(ErrorKind::Corrupt, "the parts do not match the checksum of the whole");
        }
        Ok(components)
    }

    /// Whether nothing is on its way any more. What is may arrive late, and the drop looks for it.
    fn is_quiet(&self) -> bool {
        self.components.lock().unwrap_or_else(PoisonError::into_inner).iter().all(Option::is_some)
    }

    async fn publish(&self, crc32c: Crc32c) -> Result<PutResult> {
        let mut components = self.arrived(crc32c)?;
        let bucket = &self.temporaries.bucket;
        if components.is_empty() {
            let options = PutOptions { write_id: Some(self.id.clone()), ..self.options.clone() };
            return bucket.put(&self.key, Bytes::new(), options).await;
        }
        let mut number = components.len();
        while components.len() > MAX_SOURCES {
            let groups: Vec<Vec<Component>> = components.chunks(MAX_SOURCES).map(<[_]>::to_vec).collect();
            let first = number;
            number += groups.len();
            components = stream::iter(groups.into_iter().zip(first..))
                .map(|(group, number)| self.join(group, number))
                .buffered(PARALLEL)
                .try_collect()
                .await?;
        }
        bucket.compose(&self.key, &components, &self.options, &self.id, FINISH).await
    }

    /// With more time the more parts there are, each of which is named in some request.
    fn copying(&self) -> Retrier {
        self.temporaries.bucket.retrier().for_copy(self.total)
    }

    /// Makes one temporary object of several.
    async fn join(&self, components: Vec<Component>, number: usize) -> Result<Component> {
        let key = self.temporaries.key(number)?;
        let composed = self.temporaries.bucket.compose(&key, &components, &self.temporary(), &self.id, FINISH).await;
        let version = composed.map_err(|error| unseen(error, FINISH, &self.subject))?.version;
        let (crc, bytes) = sum(&components);
        Ok(Component { key, generation: generation(&version, FINISH, &self.subject)?, crc, bytes })
    }
}

/// The error of a write that nobody sees: whatever became of it, the object is not changed.
fn unseen(error: Error, operation: &'static str, subject: &str) -> Error {
    let kind = if error.is_indeterminate() { ErrorKind::Unavailable } else { error.kind() };
    error.with_kind(kind).with_operation(operation, subject)
}

#[async_trait]
impl Upload for ComposedUpload {
    fn rules(&self) -> PartRules {
        RULES
    }

    fn put_part(&mut self, part: Bytes) -> BoxFuture<'static, Result<()>> {
        let bytes = part.len() as u64;
        let subject = self.subject.clone();
        let problem = match bytes {
            0 => Some((ErrorKind::InvalidInput, "the part is empty")),
            _ if bytes > MAX_PART_BYTES => Some((ErrorKind::InvalidInput, "a part holds at most 64 MiB")),
            _ if self.total + bytes > MAX_OBJECT_BYTES => Some((ErrorKind::TooLarge, "an object holds at most 5 TiB")),
            _ => None,
        };
        if let Some((kind, message)) = problem {
            return Box::pin(async move { Err(Error::new(kind, PART, subject, message)) });
        }
        self.total += bytes;
        let components = Arc::clone(&self.components);
        let number = {
            let mut components = components.lock().unwrap_or_else(PoisonError::into_inner);
            components.push(None);
            components.len() - 1
        };
        let (bucket, key, options) =
            (Arc::clone(&self.temporaries.bucket), self.temporaries.key(number), self.temporary());
        Box::pin(async move {
            let (key, crc) = (key?, Crc32c::of(&part));
            let put = bucket.put(&key, part, PutOptions { crc32c: Some(crc), ..options }).await;
            let version = put.map_err(|error| unseen(error, PART, &subject))?.version;
            let component = Component { key, generation: generation(&version, PART, &subject)?, crc, bytes };
            components.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(component);
            Ok(())
        })
    }

    async fn finish(mut self: Box<Self>, crc32c: Crc32c) -> Result<PutResult> {
        let retrier = self.copying();
        let published = until(retrier.deadline(), self.publish(crc32c)).await;
        // A composition that may still come finds no parts any more, and so it never will.
        if let Err(error) = retrier.cleaning_up(self.temporaries.remove(FINISH, &self.subject)).await {
            tracing::warn!(%error, "the parts of an upload could not be removed; a sweep of stale uploads finds them");
        }
        self.over = self.is_quiet();
        published
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        until(self.copying().deadline(), self.temporaries.remove(ABORT, &self.subject)).await?;
        self.over = self.is_quiet();
        Ok(())
    }
}

impl Drop for ComposedUpload {
    fn drop(&mut self) {
        if self.over || self.total == 0 {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (temporaries, subject) = (self.temporaries.clone(), std::mem::take(&mut self.subject));
        runtime.spawn(async move {
            if let Err(error) = temporaries.remove_late_ones_too(ABORT, &subject).await {
                tracing::warn!(%error, "the parts of an upload could not be removed; a sweep of stale uploads finds them");
            }
        });
    }
}

impl fmt::Debug for ComposedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComposedUpload")
            .field("subject", &self.subject)
            .field("bytes", &self.total)
            .finish_non_exhaustive()
    }
}
