use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{HeaderMap, StatusCode};

use super::pace::{Direction, Pace};
use super::related::Envelope;
use super::{Answer, Call, status, text};
use crate::Failure;

/// What is larger is counted and checksummed, and then forgotten.
const KEPT: usize = 1 << 20;

/// A body that came.
#[derive(Clone, Default)]
pub(super) struct Received {
    pub(super) size: u64,
    pub(super) crc: u32,
    /// All of it if it is small, else nothing.
    pub(super) data: Bytes,
    /// What a large one consists of, if it is an envelope.
    pub(super) related: Option<Box<Related>>,
}

/// The parts of an envelope.
#[derive(Clone)]
pub(super) struct Related {
    pub(super) attributes: Bytes,
    pub(super) payload: Received,
}

#[derive(Clone)]
pub(super) struct Object {
    pub(super) size: u64,
    pub(super) crc: u32,
    pub(super) data: Bytes,
    pub(super) generation: u64,
    pub(super) metadata: Vec<(String, String)>,
}

/// An upload under way: its parts, and the metadata that its object will have.
#[derive(Default)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) parts: Vec<(u32, Received)>,
    pub(super) metadata: Vec<(String, String)>,
}

#[derive(Default)]
pub(super) struct State {
    /// Where the store is, whatever a client takes it for.
    pub(super) url: String,
    objects: Mutex<HashMap<String, Arc<Object>>>,
    uploads: Mutex<HashMap<u64, Upload>>,
    next: AtomicU64,
    requests: AtomicU64,
    pub(super) sent: AtomicU64,
    received: AtomicU64,
    published: AtomicU64,
}

impl State {
    pub(super) fn new(url: String) -> Self {
        Self { url, ..Self::default() }
    }

    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1_700_000_000_000_000
    }

    pub(super) fn count(&self, received: &Received) {
        self.received.fetch_add(received.size, Ordering::Relaxed);
    }

    pub(super) fn object(&self, key: &str) -> Option<Arc<Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub(super) fn remove(&self, key: &str) -> bool {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).remove(key).is_some()
    }

    pub(super) fn uploads(&self) -> MutexGuard<'_, HashMap<u64, Upload>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the parts an object, which is what counts as written.
    pub(super) fn publish(&self, key: String, parts: &[Received], metadata: Vec<(String, String)>) -> Arc<Object> {
        let object = self.make(key, parts, metadata);
        self.published.fetch_add(object.size, Ordering::Relaxed);
        object
    }

    fn make(&self, key: String, parts: &[Received], metadata: Vec<(String, String)>) -> Arc<Object> {
        let size = parts.iter().map(|part| part.size).sum();
        let crc = parts.iter().fold(0, |crc, part| {
            crc32c::crc32c_combine(crc, part.crc, usize::try_from(part.size).unwrap_or(usize::MAX))
        });
        let data = match parts {
            [only] => only.data.clone(),
            _ => Bytes::new(),
        };
        let object = Arc::new(Object { size, crc, data, generation: self.number(), metadata });
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&object));
        object
    }

    /// An object made of others, whose bytes have been counted already.
    pub(super) fn compose(&self, key: String, sources: &[Arc<Object>], metadata: Vec<(String, String)>) -> Arc<Object> {
        let parts: Vec<_> = sources
            .iter()
            .map(|source| Received { size: source.size, crc: source.crc, ..Received::default() })
            .collect();
        self.make(key, &parts, metadata)
    }

    pub(super) fn command(&self, command: &str, call: &Call) -> Answer {
        match command {
            "counts" => {
                let counts = [&self.requests, &self.sent, &self.received, &self.published]
                    .map(|count| count.load(Ordering::Relaxed));
                text(StatusCode::OK, "application/json", serde_json::json!(counts).to_string())
            }
            "seed" => {
                let size = call.query("size").and_then(|size| size.parse().ok()).unwrap_or(0);
                let mut data = BytesMut::with_capacity(size);
                let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
                while data.len() < size {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    data.extend_from_slice(&seed.to_le_bytes());
                }
                data.truncate(size);
                let object = Object {
                    size: size as u64,
                    crc: crc32c::crc32c(&data),
                    data: data.freeze(),
                    generation: self.number(),
                    metadata: Vec::new(),
                };
                let key = call.query("key").unwrap_or_default().to_owned();
                self.objects.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::new(object));
                status(StatusCode::OK)
            }
            _ => status(StatusCode::NOT_FOUND),
        }
    }
}

pub(super) async fn receive(mut body: Incoming, headers: &HeaderMap, pace: &Pace) -> Result<Received, Failure> {
    let decoded = headers.get("x-amz-decoded-content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    let length = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let mut envelope = if length.is_none_or(|length| length > KEPT) { Envelope::of(headers) } else { None };
    let mut received = Received::default();
    let mut kept = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        received.size += data.len() as u64;
        match &mut envelope {
            Some(envelope) => envelope.push(&data),
            None => received.crc = crc32c::crc32c_append(received.crc, &data),
        }
        if received.size as usize <= KEPT {
            kept.extend_from_slice(&data);
        }
        if pace.limited() {
            tokio::time::sleep_until(pace.reserve(Direction::Up, data.len())).await;
        }
    }
    if received.size as usize <= KEPT {
        received.data = kept.freeze();
    }
    received.related = envelope.and_then(Envelope::finish).map(Box::new);
    if let Some(decoded) = decoded.filter(|decoded| *decoded <= received.size) {
        // The frames and the trailer of the encoding are no bytes of the object.
        received.size = decoded;
    }
    Ok(received)
}
