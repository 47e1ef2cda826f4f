//! Uploads in parts that travel at the same time: each is a temporary object, and in the end they are composed.
//!
//! <https://cloud.google.com/storage/docs/parallel-composite-uploads>

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, join_all};

use super::bucket::{Bucket, MAX_OBJECT_BYTES};
use super::components::{Components, Run};
use super::compose::{Component, MAX_SOURCES, sum};
use super::condition;
use super::temporaries::Temporaries;
use super::version::generation;
use crate::object_store::{Crc32c, PartRules, Payload, PutResult, Upload};
use crate::retry::{Retrier, Retrying as _, Setbacks, until};
use crate::transfer::Task;
use crate::{Error, ErrorKind, ObjectKey, PutMode, PutOptions, Result, WriteId};

const START: &str = "object_store.start_upload";
const PART: &str = "object_store.put_part";
const FINISH: &str = "object_store.finish_upload";
const ABORT: &str = "object_store.abort_upload";

/// From this size on the calls that composing costs are a small part of the whole.
pub(super) const LARGE_BYTES: u64 = 32 << 20;
/// Parts are held in memory while they travel; nothing is won by larger ones.
const MAX_PART_BYTES: u64 = 64 << 20;
/// What the names of intermediate objects start with; those of parts are numbers.
const JOINED: &str = "joined-";

const RULES: PartRules =
    PartRules { min_bytes: 1, multiple_of: 1, max_bytes: MAX_PART_BYTES, max_parts: u32::MAX, parallel: true };

/// An upload whose parts are temporary objects. Dropped unfinished, it removes them.
pub(super) struct ComposedUpload {
    shared: Arc<Shared>,
    key: ObjectKey,
    options: PutOptions,
    total: u64,
    over: bool,
}

/// What the parts that travel know of the upload.
struct Shared {
    temporaries: Temporaries,
    subject: String,
    /// How a temporary object is written: as what it becomes a part of, which has
    /// [the storage class of its sources](https://cloud.google.com/storage/docs/composite-objects).
    temporary: PutOptions,
    id: WriteId,
    components: Mutex<Components>,
    /// The names of intermediate objects.
    names: AtomicUsize,
    /// Intermediate objects that are being composed.
    joining: Mutex<Vec<Task<()>>>,
    setbacks: Setbacks,
}

impl ComposedUpload {
    pub(super) fn start(bucket: Arc<Bucket>, key: &ObjectKey, options: PutOptions) -> Result<Self> {
        let subject = bucket.uri(key).to_string();
        condition::query(&options.mode, START, &subject)?;
        let id = options.write_id.clone().unwrap_or_else(WriteId::random);
        let temporary = PutOptions {
            mode: PutMode::Create,
            write_id: Some(id.clone()),
            storage_class: options.storage_class.clone(),
            encryption_key: options.encryption_key.clone(),
            ..PutOptions::default()
        };
        let shared = Shared {
            temporaries: Temporaries::new(bucket),
            subject,
            temporary,
            id,
            components: Mutex::default(),
            names: AtomicUsize::new(0),
            joining: Mutex::default(),
            setbacks: Setbacks::default(),
        };
        Ok(Self { shared: Arc::new(shared), key: key.clone(), options, total: 0, over: false })
    }

    /// The parts, if all have arrived and are what the checksums say.
    fn arrived(&self, crc32c: Crc32c) -> Result<Vec<Component>> {
        let refused = |kind, message| Err(Error::new(kind, FINISH, &self.shared.subject, message));
        let Some(components) = self.shared.components().whole() else {
            return refused(ErrorKind::InvalidInput, "not all parts of this upload have succeeded");
        };
        let (actual, _) = sum(&components);
        if actual != crc32c || self.options.crc32c.is_some_and(|expected| expected != actual) {
            return refused(ErrorKind::Corrupt, "the parts do not match the checksum of the whole");
        }
        Ok(components)
    }

    async fn publish(&self, crc32c: Crc32c) -> Result<PutResult> {
        let shared = &self.shared;
        let joining = std::mem::take(&mut *shared.joining());
        for joined in join_all(joining).await {
            joined?;
        }
        let mut components = self.arrived(crc32c)?;
        while components.len() > MAX_SOURCES {
            let surplus = shared.components().surplus();
            if let Some(run) = surplus {
                shared.join(run).await?;
            }
            components = self.arrived(crc32c)?;
        }
        let bucket = &shared.temporaries.bucket;
        if components.is_empty() {
            let options = PutOptions { write_id: Some(shared.id.clone()), ..self.options.clone() };
            return bucket.put(&self.key, Payload::default(), options).await;
        }
        bucket.compose(&shared.retrier(), &self.key, &components, &self.options, &shared.id, FINISH).await
    }

    /// With more time the more parts there are, each of which is named in some request.
    fn copying(&self) -> Retrier {
        self.shared.temporaries.bucket.retrier().for_copy(self.total)
    }
}

impl Shared {
    fn components(&self) -> MutexGuard<'_, Components> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn joining(&self) -> MutexGuard<'_, Vec<Task<()>>> {
        self.joining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is on its way any more. What is may arrive late, and the drop looks for it.
    fn is_quiet(&self) -> bool {
        self.components().whole().is_some()
    }

    fn retrier(&self) -> Retrier {
        self.temporaries.bucket.connection.retrier().counting(&self.setbacks)
    }

    /// Removes what is left.
    async fn sweep(&self) {
        if let Err(error) = self.temporaries.remove(FINISH, &self.subject).await {
            tracing::warn!(%error, "the parts of an upload could not be removed; a sweep of stale uploads finds them");
        }
    }

    async fn send(&self, number: usize, part: Payload) -> Result<Crc32c> {
        let key = self.temporaries.key(number)?;
        let (bucket, bytes, crc) = (&self.temporaries.bucket, part.len(), part.crc32c());
        let options = PutOptions { crc32c: Some(crc), ..self.temporary.clone() };
        let put = bucket.put_with(&self.retrier(), &key, part, options).await;
        let version = put.map_err(|error| unseen(error, PART, &self.subject))?.version;
        let component = Component { key, generation: generation(&version, PART, &self.subject)?, crc, bytes };
        self.components().arrived(number, component);
        Ok(crc)
    }

    /// Composes what can be composed already, while other parts travel.
    fn join_some(self: &Arc<Self>) {
        let run = self.components().run();
        if let Some(run) = run {
            let shared = Arc::clone(self);
            self.joining().push(Task::spawn(async move { shared.join(run).await }));
        }
    }

    /// Makes one temporary object of several.
    async fn join(&self, run: Run) -> Result<()> {
        let name = format!("{JOINED}{}", self.names.fetch_add(1, Ordering::Relaxed));
        let key = self.temporaries.key(name)?;
        let bucket = &self.temporaries.bucket;
        let (retrier, options) = (self.retrier(), &self.temporary);
        let composed = bucket.compose(&retrier, &key, &run.components, options, &self.id, FINISH).await;
        let version = composed.map_err(|error| unseen(error, FINISH, &self.subject))?.version;
        let (crc, bytes) = sum(&run.components);
        let component = Component { key, generation: generation(&version, FINISH, &self.subject)?, crc, bytes };
        self.components().joined(&run, component);
        Ok(())
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

    fn put_part(&mut self, part: Payload) -> BoxFuture<'static, Result<Crc32c>> {
        let bytes = part.len();
        let subject = &self.shared.subject;
        let problem = match bytes {
            0 => Some((ErrorKind::InvalidInput, "the part is empty")),
            _ if bytes > MAX_PART_BYTES => Some((ErrorKind::InvalidInput, "a part holds at most 64 MiB")),
            _ if self.total + bytes > MAX_OBJECT_BYTES => Some((ErrorKind::TooLarge, "an object holds at most 5 TiB")),
            _ => None,
        };
        if let Some((kind, message)) = problem {
            let error = Error::new(kind, PART, subject, message);
            return Box::pin(async move { Err(error) });
        }
        self.total += bytes;
        let (number, shared) = (self.shared.components().expect(), Arc::clone(&self.shared));
        Box::pin(async move {
            let crc = shared.send(number, part).await?;
            shared.join_some();
            Ok(crc)
        })
    }

    fn setbacks(&self) -> u64 {
        self.shared.setbacks.count()
    }

    async fn finish(mut self: Box<Self>, crc32c: Crc32c) -> Result<PutResult> {
        let retrier = self.copying();
        let published = until(retrier.deadline(), self.publish(crc32c)).await;
        // A composition that may still come finds no parts any more, and so it never will.
        if published.is_err() || self.setbacks() > 0 {
            retrier.cleaning_up(self.shared.sweep()).await;
        } else if self.shared.temporaries.bucket.connection.is_emulator() {
            // Composing has deleted the parts, which not every emulator knows. Nobody has to wait for that.
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move { shared.sweep().await });
        }
        self.over = self.shared.is_quiet();
        published
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        self.shared.joining().clear();
        let removed = self.shared.temporaries.remove(ABORT, &self.shared.subject);
        until(self.copying().deadline(), removed).await?;
        self.over = self.shared.is_quiet();
        Ok(())
    }
}

impl Drop for ComposedUpload {
    fn drop(&mut self) {
        // They hold what they are held by.
        self.shared.joining().clear();
        if self.over || self.total == 0 {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let shared = Arc::clone(&self.shared);
        runtime.spawn(async move {
            if let Err(error) = shared.temporaries.remove_late_ones_too(ABORT, &shared.subject).await {
                tracing::warn!(%error, "the parts of an upload could not be removed; a sweep of stale uploads finds them");
            }
        });
    }
}

impl fmt::Debug for ComposedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComposedUpload")
            .field("subject", &self.shared.subject)
            .field("bytes", &self.total)
            .finish_non_exhaustive()
    }
}
