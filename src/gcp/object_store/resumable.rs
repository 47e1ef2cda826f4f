//! Uploads in parts: resumable sessions.
//!
//! <https://cloud.google.com/storage/docs/performing-resumable-uploads>

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::Method;
use tokio::sync::Mutex;

use super::bucket::{Bucket, MAX_OBJECT_BYTES, Request, encode, read_json};
use super::condition;
use super::put::{PERMISSION, to_json};
use super::resource::{Made, NewObject};
use crate::call::Call;
use crate::gcp::error::classify;
use crate::http::{Answer, RequestBody};
use crate::object_store::{Crc32c, PartRules, Payload, PutResult, Upload, Write};
use crate::retry::{Safety, Setbacks};
use crate::{Error, ErrorKind, ObjectKey, PutMode, PutOptions, Result, WriteId};

const START: &str = "object_store.start_upload";
const PART: &str = "object_store.put_part";
const FINISH: &str = "object_store.finish_upload";
const ABORT: &str = "object_store.abort_upload";

/// Every chunk but the last is a multiple of this.
const UNIT: u64 = 256 << 10;
/// Parts are held in memory while they travel; nothing is won by larger ones.
const MAX_PART_BYTES: u64 = 64 << 20;

/// A session. Dropped unfinished, it is cancelled.
pub(super) struct GcsUpload {
    bucket: Arc<Bucket>,
    key: ObjectKey,
    subject: String,
    mode: PutMode,
    id: WriteId,
    begun: SystemTime,
    /// A credential of its own: whoever has it may write.
    session: Arc<str>,
    state: Arc<Mutex<State>>,
    total: u64,
    last_seen: bool,
    over: bool,
    setbacks: Setbacks,
}

/// What has been sent, and what waits: the end of every part is held back, because only the last chunk may say that
/// it is the last.
#[derive(Default)]
struct State {
    stored: u64,
    waiting: Bytes,
    failed: bool,
}

/// What became of a chunk.
enum Sent {
    /// So many bytes of the object are stored now.
    Stored(u64),
    Finished(Made),
}

/// Bytes on their way to a place in the object.
#[derive(Clone)]
struct Chunk {
    start: u64,
    pieces: Vec<Bytes>,
    /// The length of the whole, and its checksum, with the last chunk.
    end: Option<(u64, Crc32c)>,
}

impl GcsUpload {
    pub(super) async fn start(bucket: Arc<Bucket>, key: &ObjectKey, options: PutOptions) -> Result<Self> {
        let subject = bucket.uri(key).to_string();
        let id = options.write_id.clone().unwrap_or_else(WriteId::random);
        let call = Call::changing(START, &subject, PERMISSION);
        let resource = NewObject {
            name: Some(key.as_str()),
            crc32c: options.crc32c.map(Crc32c::to_base64),
            storage_class: options.storage_class.as_deref(),
            ..NewObject::new(&options.headers, &options.metadata, &id)
        };
        let url = format!(
            "{}?uploadType=resumable&name={}{}{}",
            bucket.upload_url(),
            encode(key.as_str()),
            condition::query(&options.mode, START, &subject)?,
            bucket.kms_query("kmsKeyName", options.encryption_key.as_deref())
        );
        let request = Request::new(Method::POST, url)
            .header("content-type", "application/json; charset=UTF-8")
            .header("x-upload-content-type", resource.content_type)
            .body(RequestBody::of([to_json(&resource, call)?.into()]));
        let begun = SystemTime::now();
        // A session that was begun and not heard of changes nothing.
        let call = Call::reading(START, &subject, PERMISSION);
        let started = bucket
            .connection
            .retrier()
            .run(START, &subject, Safety::Read, |_| {
                let (bucket, request) = (&bucket, request.clone());
                async move { bucket.ask(call, request).await }
            })
            .await;
        let answer = started.map_err(|error| condition::judged(&options.mode, error).with_write_id(id.clone()))?;
        let session = session_of(&answer, &bucket.endpoint, call)?;
        Ok(Self {
            key: key.clone(),
            mode: options.mode,
            state: Arc::default(),
            total: 0,
            last_seen: false,
            over: false,
            setbacks: Setbacks::default(),
            bucket,
            subject,
            id,
            begun,
            session,
        })
    }

    async fn cancel(bucket: Arc<Bucket>, session: Arc<str>, subject: String) -> Result<()> {
        let call = Call::reading(ABORT, &subject, PERMISSION);
        let request = Request::new(Method::DELETE, session.to_string());
        bucket
            .connection
            .retrier()
            .run(ABORT, &subject, Safety::Read, |_| {
                let (bucket, request) = (&bucket, request.clone());
                async move {
                    let answer = bucket.send(call, request).await?;
                    // 499 is the documented answer; what is not there needs no cancelling.
                    match answer.status {
                        200..300 | 404 | 410 | 499 => Ok(()),
                        _ => Err(classify(call, answer).await),
                    }
                }
            })
            .await
    }
}

/// The address of the session, which must be where the credentials went already.
fn session_of(answer: &Answer, endpoint: &str, call: Call<'_>) -> Result<Arc<str>> {
    let location = answer.header("location").unwrap_or_default();
    match location.strip_prefix(endpoint) {
        Some(rest) if rest.starts_with('/') => Ok(location.into()),
        _ => Err(call.error(ErrorKind::Internal, "the service named no session, or one on another host")),
    }
}

/// Sends a chunk until all of it is stored, going on from wherever the service says it is.
async fn send(bucket: &Bucket, session: &str, call: Call<'_>, chunk: &Chunk, setbacks: &Setbacks) -> Result<Sent> {
    let bytes: u64 = chunk.pieces.iter().map(|piece| piece.len() as u64).sum();
    let end = chunk.start + bytes;
    let place = std::sync::atomic::AtomicU64::new(chunk.start);
    let place = &place;
    let safety = if chunk.end.is_some() { Safety::Repeatable } else { Safety::Read };
    let retrier = bucket.connection.retrier().counting(setbacks).for_body(bytes);
    let activity = &retrier.activity();
    retrier
        .run(call.operation, call.subject, safety, |attempt| async move {
            use std::sync::atomic::Ordering::Relaxed;
            if attempt > 1 {
                match question(bucket, session, call, chunk.end).await? {
                    Sent::Stored(stored) => place.store(stored, Relaxed),
                    finished => return Ok(finished),
                }
            }
            loop {
                let from = place.load(Relaxed);
                if from < chunk.start || from > end {
                    let message = "the service has lost, or has more, bytes than were sent";
                    return Err(call.error(ErrorKind::Internal, message));
                }
                if from == end && chunk.end.is_none() {
                    return Ok(Sent::Stored(from));
                }
                let mut skip = usize::try_from(from - chunk.start).unwrap_or(usize::MAX);
                let pieces = chunk.pieces.iter().map(|piece| {
                    let left_out = skip.min(piece.len());
                    skip -= left_out;
                    piece.slice(left_out..)
                });
                let body = RequestBody::of(pieces.collect::<Vec<_>>()).watched(activity.clone());
                let range = match (from == end, chunk.end) {
                    (true, Some((total, _))) => format!("bytes */{total}"),
                    (_, Some((total, _))) => format!("bytes {from}-{}/{total}", end - 1),
                    (_, None) => format!("bytes {from}-{}/*", end - 1),
                };
                let mut request =
                    Request::new(Method::PUT, session.to_owned()).header("content-range", range).body(body);
                if let Some((_, crc)) = chunk.end {
                    request = request.header("x-goog-hash", format!("crc32c={}", crc.to_base64()));
                }
                match answered(call, bucket.send(call, request).await?).await? {
                    // Less than all was kept: the rest goes again at once, as long as it gets further.
                    Sent::Stored(stored) if stored > from || stored == end => {
                        place.store(stored, Relaxed);
                        if stored == end && chunk.end.is_some() {
                            return Err(call.error(ErrorKind::Unavailable, "the upload has all bytes and does not end"));
                        }
                    }
                    Sent::Stored(_) => {
                        return Err(call.error(ErrorKind::Unavailable, "the service kept nothing of a chunk"));
                    }
                    finished => return Ok(finished),
                }
            }
        })
        .await
}

/// Asks how far the upload is: <https://cloud.google.com/storage/docs/performing-resumable-uploads#status-check>
async fn question(bucket: &Bucket, session: &str, call: Call<'_>, end: Option<(u64, Crc32c)>) -> Result<Sent> {
    let range = match end {
        Some((total, _)) => format!("bytes */{total}"),
        None => "bytes */*".to_owned(),
    };
    let request = Request::new(Method::PUT, session.to_owned()).header("content-range", range);
    answered(call, bucket.send(call, request).await?).await
}

async fn answered(call: Call<'_>, answer: Answer) -> Result<Sent> {
    match answer.status {
        200 | 201 => Ok(Sent::Finished(read_json(call, answer).await?)),
        308 => {
            // Nothing is stored as long as there is no range.
            let last = answer.header("range").and_then(|range| range.strip_prefix("bytes=0-")?.parse::<u64>().ok());
            let stored = last.map_or(0, |last| last + 1);
            // Read to its end, so that the connection can be used again.
            let _ = answer.bytes(1 << 20).await;
            Ok(Sent::Stored(stored))
        }
        _ => Err(classify(call, answer).await),
    }
}

#[async_trait]
impl Upload for GcsUpload {
    fn rules(&self) -> PartRules {
        PartRules {
            min_bytes: UNIT,
            multiple_of: UNIT,
            max_bytes: MAX_PART_BYTES,
            max_parts: u32::MAX,
            parallel: false,
        }
    }

    fn put_part(&mut self, part: Payload) -> BoxFuture<'static, Result<Crc32c>> {
        let length = part.len();
        let subject = self.subject.clone();
        let problem = if self.last_seen {
            Some((ErrorKind::InvalidInput, "the part before was no multiple of 256 KiB, so it was the last"))
        } else if length > MAX_PART_BYTES {
            Some((ErrorKind::InvalidInput, "a part holds at most 64 MiB"))
        } else if self.total + length > MAX_OBJECT_BYTES {
            Some((ErrorKind::TooLarge, "an object holds at most 5 TiB"))
        } else {
            None
        };
        if let Some((kind, message)) = problem {
            return Box::pin(async move { Err(Error::new(kind, PART, subject, message)) });
        }
        self.total += length;
        self.last_seen = !length.is_multiple_of(UNIT);
        let (bucket, session, state) = (Arc::clone(&self.bucket), Arc::clone(&self.session), Arc::clone(&self.state));
        let setbacks = self.setbacks.clone();
        Box::pin(async move {
            let crc = part.crc32c();
            let mut state = state.lock().await;
            let call = Call::reading(PART, &subject, PERMISSION);
            if state.failed {
                return Err(call.error(ErrorKind::InvalidInput, "an earlier part of this upload failed"));
            }
            // Cancelled midway, nobody knows how far it is.
            state.failed = true;
            let waiting = std::mem::take(&mut state.waiting);
            let all = waiting.len() as u64 + length;
            let now = if all == 0 { 0 } else { (all - 1) / UNIT * UNIT };
            let (chunk, rest) = split(waiting, &part, usize::try_from(now).unwrap_or(usize::MAX));
            if now > 0 {
                let chunk = Chunk { start: state.stored, pieces: chunk, end: None };
                match send(&bucket, &session, call, &chunk, &setbacks).await? {
                    Sent::Stored(stored) => state.stored = stored,
                    Sent::Finished(_) => {
                        return Err(call.error(ErrorKind::Internal, "the service ended the upload by itself"));
                    }
                }
            }
            state.waiting = rest;
            state.failed = false;
            Ok(crc)
        })
    }

    fn setbacks(&self) -> u64 {
        self.setbacks.count()
    }

    async fn finish(mut self: Box<Self>, crc32c: Crc32c) -> Result<PutResult> {
        let call = Call::changing(FINISH, &self.subject, PERMISSION);
        let chunk = {
            let mut state = self.state.lock().await;
            if state.failed || state.stored + state.waiting.len() as u64 != self.total {
                return Err(call.error(ErrorKind::InvalidInput, "not all parts of this upload have succeeded"));
            }
            let waiting = std::mem::take(&mut state.waiting);
            Chunk { start: state.stored, pieces: vec![waiting], end: Some((self.total, crc32c)) }
        };
        let deadline = self.bucket.connection.retrier().deadline();
        let sent = match send(&self.bucket, &self.session, call, &chunk, &self.setbacks).await {
            Ok(Sent::Finished(made)) => {
                self.over = true;
                Ok(made)
            }
            Ok(Sent::Stored(_)) => Err(call.error(ErrorKind::Internal, "the upload did not end")),
            Err(error) => Err(error),
        };
        let write =
            Write { operation: FINISH, key: &self.key, mode: &self.mode, id: &self.id, begun: self.begun, deadline };
        // After an error the drop cancels the session.
        let finished = self.bucket.concluded(sent, write, crc32c, call).await;
        self.over |= finished.is_ok();
        finished
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        self.over = true;
        Self::cancel(Arc::clone(&self.bucket), Arc::clone(&self.session), self.subject.clone()).await
    }
}

/// The first so many bytes of both together, and the rest, which is copied so that it does not keep the part alive.
fn split(one: Bytes, other: &Payload, count: usize) -> (Vec<Bytes>, Bytes) {
    let (mut first, mut rest, mut left) = (Vec::new(), BytesMut::new(), count);
    for piece in [one].into_iter().chain(other.pieces().iter().cloned()) {
        let taken = left.min(piece.len());
        left -= taken;
        rest.extend_from_slice(&piece[taken..]);
        first.push(piece.slice(..taken));
    }
    (first, rest.freeze())
}

impl Drop for GcsUpload {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let cancel = Self::cancel(Arc::clone(&self.bucket), Arc::clone(&self.session), self.subject.clone());
        runtime.spawn(async move {
            if let Err(error) = cancel.await {
                tracing::warn!(%error, "an unfinished upload could not be cancelled; it ends by itself within a week");
            }
        });
    }
}

impl fmt::Debug for GcsUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcsUpload").field("subject", &self.subject).field("bytes", &self.total).finish_non_exhaustive()
    }
}
