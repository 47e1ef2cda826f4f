use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::io::AsyncRead;
use tracing::Instrument as _;

use super::gathering::{Gathering, KEPT_BYTES};
use super::limits::Limits;
use super::slowing::Slowing;
use super::sums::Sums;
use super::{Crc32c, Meter, ObjectStore, ProgressCallback, PutOptions, PutResult, Upload};
use crate::transfer::Task;
use crate::{Error, ErrorKind, ObjectKey, Result};

/// Writes an object of unknown size in bounded memory, in parts that travel at the same time where that is possible.
///
/// What fits in 5 MiB, or in a smaller budget, is sent as one request when finished. Of a larger object no more is held than the budget of the
/// store's [`TransferPolicy`](crate::TransferPolicy) allows, 64 MiB by default. That is what travels and what waits: a
/// part is held until the provider has it, because it may have to be sent again. Chunks of 64 KiB or more are held as
/// they are given, and so with whatever they are slices of; shorter ones are copied together. Nothing is published unless
/// [`finish`](Self::finish) succeeds; dropping the writer throws the upload away.
///
/// # Speed
/// A sixteenth of the budget is left to the connections. The rest is cut into 24 parts, or fewer where the provider wants
/// larger ones: 12 of 5 MiB on S3, whose least that is. With a latency of L and a bandwidth of B for each connection a
/// part of P bytes is held for L + P ÷ B, and so no more than 60 MiB ÷ (L + P ÷ B) get through: at 20 ms and 85 MB/s, as
/// in one region of a cloud, 0.7 GiB/s in the parts of S3 and 1.1 GiB/s in those of Cloud Storage. Beginning and
/// finishing an upload cost a latency each, and the last parts travel alone. More speed needs a larger budget.
///
/// Part sizes double after each 1,000 parts, because their number is limited. From about 12 GiB on, at the default
/// budget, one part is larger than the budget allows for several, and from 80 GiB on larger than the budget.
///
/// When a part is refused or lost, half as many travel at a time, and one more for every round of parts that the
/// provider takes from then on.
#[derive(Debug)]
pub struct ObjectWriter<S: ObjectStore + ?Sized> {
    store: Arc<S>,
    key: ObjectKey,
    options: PutOptions,
    limits: Limits,
    gathering: Gathering,
    begun: Begun,
    parts: u32,
    sums: Sums,
    sending: FuturesUnordered<Task<Sent>>,
    /// The bytes of the parts that travel.
    travelling: u64,
    slowing: Slowing,
    meter: Meter,
    failed: bool,
}

/// A part that the provider has.
#[derive(Debug)]
struct Sent {
    number: u32,
    bytes: u64,
    crc: Crc32c,
}

#[derive(Debug)]
enum Begun {
    /// It may be a small object.
    Not,
    /// The provider has been asked.
    Asked(Task<Box<dyn Upload>>),
    Yes(Box<dyn Upload>),
}

/// Where parts travel at the same time only if the size is known, so much of an object of unknown size is waited for.
const TELLING_BYTES: u64 = 32 << 20;

impl<S: ObjectStore + ?Sized> ObjectWriter<S> {
    /// A writer for `key`. No request is made before there is more than one part or the writer is finished.
    pub fn new(store: Arc<S>, key: ObjectKey, options: PutOptions) -> Self {
        let limits = Limits::within(store.transfer().budget_bytes);
        Self {
            store,
            key,
            options,
            limits,
            gathering: Gathering::new(limits.buffer_bytes()),
            begun: Begun::Not,
            parts: 0,
            sums: Sums::default(),
            sending: FuturesUnordered::new(),
            travelling: 0,
            slowing: Slowing::new(limits.parallel),
            meter: Meter::new(None, None),
            failed: false,
        }
    }

    /// Sets the size of the first parts and how many travel at once. `(parallel + 1) × part_bytes` are held then.
    /// Before anything is written.
    #[must_use]
    pub fn with_parts(mut self, part_bytes: u64, parallel: usize) -> Self {
        self.limits = Limits::of(part_bytes.max(1), parallel.max(1));
        self.gathering = Gathering::new(self.limits.buffer_bytes());
        self.slowing = Slowing::new(self.limits.parallel);
        self
    }

    /// Tells of every part that the provider has taken, and of the object once it is there. `total` is for the callback
    /// only.
    #[must_use]
    pub fn with_progress(mut self, callback: ProgressCallback, total: Option<u64>) -> Self {
        self.meter = Meter::new(Some(callback), total);
        self
    }

    /// Adds bytes at the end. Waits while as much as the memory allows is under way.
    ///
    /// # Errors
    /// As for [`ObjectStore::put`]. After an error, or a call that was dropped before its end, every further call fails.
    pub async fn write(&mut self, bytes: impl Into<Bytes> + Send) -> Result<()> {
        self.check()?;
        // Dropped midway, nobody knows which bytes are on their way.
        self.failed = true;
        let mut bytes = bytes.into();
        while !bytes.is_empty() {
            let room = self.make_room(bytes.len().min(KEPT_BYTES) as u64).await?;
            self.gathering.take(&mut bytes, room);
        }
        self.go_on().await?;
        self.failed = false;
        Ok(())
    }

    /// Adds what the reader gives at once, and says how much that was: 0 at its end.
    pub(super) async fn read_from<R: AsyncRead + Send + Unpin>(
        &mut self,
        reader: &mut R,
    ) -> Result<std::io::Result<usize>> {
        self.check()?;
        self.failed = true;
        let room = self.make_room(KEPT_BYTES as u64).await?;
        let read = self.gathering.fill(reader, room).await;
        self.go_on().await?;
        self.failed = false;
        Ok(read)
    }

    /// Writes what a stream yields and publishes the object. An error of the stream publishes nothing.
    ///
    /// # Errors
    /// Those of the stream and of [`ObjectStore::put`].
    pub async fn write_stream<St>(mut self, stream: St) -> Result<PutResult>
    where
        St: Stream<Item = Result<Bytes>> + Send,
    {
        let mut stream = std::pin::pin!(stream);
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => self.write(chunk).await?,
                Err(error) => {
                    // The reason for stopping is the stream's; what could not be cleaned up is found by a later sweep.
                    let _ = self.abort().await;
                    return Err(error);
                }
            }
        }
        self.finish().await
    }

    /// Sends what is left and publishes the object.
    ///
    /// # Errors
    /// As for [`ObjectStore::put`]; nothing was published then, unless the error is `Indeterminate`.
    pub async fn finish(mut self) -> Result<PutResult> {
        self.check()?;
        let published = self.publish().await?;
        // What went as one request has not been told of yet.
        self.meter.add(self.gathering.taken() - self.meter.bytes());
        Ok(published)
    }

    async fn publish(&mut self) -> Result<PutResult> {
        if matches!(self.begun, Begun::Not) {
            if self.gathering.len() <= self.limits.small_bytes() {
                let body = self.gathering.cut(u64::MAX).into_bytes();
                return self.store.put(&self.key, body, self.options.clone()).await;
            }
            self.begin();
        }
        loop {
            self.go_on().await?;
            if let Some(last) = self.last()
                && self.may_send(last)
            {
                self.send(last);
            }
            if !self.wait().await? {
                break;
            }
        }
        match std::mem::replace(&mut self.begun, Begun::Not) {
            Begun::Yes(upload) if self.gathering.len() == 0 => upload.finish(self.sums.whole()).await,
            _ => Err(self.unusable()),
        }
    }

    /// The size of the last part, if only that is left.
    fn last(&self) -> Option<u64> {
        let Begun::Yes(upload) = &self.begun else { return None };
        let left = self.gathering.len();
        let full = self.full(&**upload).is_some();
        let rules = upload.rules();
        let (part, _) = self.limits.part(&rules, self.parts);
        (left > 0 && !full).then_some(if left > rules.max_bytes { part } else { left })
    }

    /// Throws away what was written.
    ///
    /// # Errors
    /// As for [`Upload::abort`].
    pub async fn abort(mut self) -> Result<()> {
        self.sending.clear();
        match std::mem::replace(&mut self.begun, Begun::Not) {
            Begun::Yes(upload) => upload.abort().await,
            // One that cannot be begun leaves nothing.
            Begun::Asked(asked) => match asked.await {
                Ok(upload) => upload.abort().await,
                Err(_) => Ok(()),
            },
            Begun::Not => Ok(()),
        }
    }

    /// Sends what can be sent and waits until so many bytes more may be held, or nothing is left to be waited for.
    async fn make_room(&mut self, wanted: u64) -> Result<u64> {
        loop {
            if matches!(self.begun, Begun::Not) && self.gathering.len() >= self.telling_bytes() {
                // More comes, so that this is not all.
                self.begin();
            }
            self.go_on().await?;
            let room = self.most().saturating_sub(self.travelling + self.gathering.len());
            if room >= wanted || !self.wait().await? {
                return Ok(room.max(1));
            }
        }
    }

    /// The most bytes that are held. One part fits always, and what it may have to be longer by.
    fn most(&self) -> u64 {
        match &self.begun {
            Begun::Yes(upload) => self.limits.most(&upload.rules(), self.parts),
            _ => self.limits.budget,
        }
    }

    /// The size of the next part, if there is enough for it.
    fn full(&self, upload: &dyn Upload) -> Option<u64> {
        let (bytes, cutting) = self.limits.part(&upload.rules(), self.parts);
        self.gathering.full(bytes, cutting)
    }

    /// From how many bytes on enough is known of the object for the provider to choose how to send it.
    fn telling_bytes(&self) -> u64 {
        if self.options.expected_bytes.is_some() || self.store.capabilities().parallel_parts {
            self.limits.small_bytes()
        } else {
            TELLING_BYTES.min(self.limits.budget)
        }
    }

    fn begin(&mut self) {
        let expected_bytes = self.options.expected_bytes.or(Some(self.gathering.len()));
        let options = PutOptions { expected_bytes, ..self.options.clone() };
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        // More is gathered while the provider is asked.
        let asked = async move { store.start_upload(&key, options).await };
        self.begun = Begun::Asked(Task::spawn(asked.in_current_span()));
    }

    /// Takes note of what has ended meanwhile, and sends the parts that are full and may travel.
    async fn go_on(&mut self) -> Result<()> {
        if self.set_going()? {
            // A source that never waits would keep a runtime of one thread from sending.
            tokio::task::yield_now().await;
            self.set_going()?;
        }
        Ok(())
    }

    /// The same; whether anything is under way that was not before.
    fn set_going(&mut self) -> Result<bool> {
        let before = self.parts;
        let asked = matches!(self.begun, Begun::Asked(_));
        if let Begun::Asked(asked) = &mut self.begun
            && let Some(begun) = asked.now_or_never()
        {
            self.note_begun(begun)?;
        }
        while let Some(Some(sent)) = self.sending.next().now_or_never() {
            self.note(sent)?;
        }
        while let Begun::Yes(upload) = &self.begun {
            self.slowing.heed(upload.setbacks(), self.sending.len());
            match self.full(&**upload) {
                Some(part) if self.may_send(part) => self.send(part),
                _ => break,
            }
        }
        Ok(asked || self.parts > before)
    }

    fn may_send(&self, bytes: u64) -> bool {
        let Begun::Yes(upload) = &self.begun else { return false };
        let most = if upload.rules().parallel { self.slowing.now() } else { 1 };
        self.sending.is_empty() || (self.sending.len() < most && self.travelling + bytes <= self.most())
    }

    /// Waits until something has ended; `false` if nothing is under way.
    async fn wait(&mut self) -> Result<bool> {
        if let Begun::Asked(asked) = &mut self.begun {
            let begun = asked.await;
            return self.note_begun(begun).map(|()| true);
        }
        match self.sending.next().await {
            Some(sent) => self.note(sent).map(|()| true),
            None => Ok(false),
        }
    }

    fn send(&mut self, bytes: u64) {
        let Begun::Yes(upload) = &mut self.begun else { return };
        let sending = upload.put_part(self.gathering.cut(bytes));
        let number = self.parts;
        self.parts += 1;
        self.travelling += bytes;
        // Travels, and is summed, while the next one is gathered.
        self.sending.push(Task::spawn(async move { Ok(Sent { number, bytes, crc: sending.await? }) }));
    }

    fn note_begun(&mut self, begun: Result<Box<dyn Upload>>) -> Result<()> {
        self.begun = Begun::Not;
        self.begun = Begun::Yes(begun?);
        Ok(())
    }

    fn note(&mut self, sent: Result<Sent>) -> Result<()> {
        let Sent { number, bytes, crc } = sent?;
        self.travelling -= bytes;
        self.slowing.taken();
        self.sums.note(number, crc, bytes);
        self.meter.add(bytes);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.failed { Err(self.unusable()) } else { Ok(()) }
    }

    fn unusable(&self) -> Error {
        let subject = self.store.uri(&self.key);
        Error::new(ErrorKind::InvalidInput, "object_store.write", subject, "an earlier part of this upload failed")
    }
}
