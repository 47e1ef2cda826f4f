//! Lane B: histories of several clients on few keys, with faults and dropped calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anycloud::object_store::{DeleteOptions, ListOptions, Version};
use anycloud::{Error, ErrorKind, GetOptions, ObjectKey, ObjectStore, PutMode, PutOptions};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use crate::linearizability::{Call, End, Entry, is_linearizable};

pub(crate) const CLIENTS: usize = 4;
const CALLS: usize = 40;
const KEYS: usize = 3;
const STABLE: usize = 6;

/// What went on in one history.
pub(crate) struct History {
    pub(crate) entries: Vec<Entry>,
    pub(crate) problems: Vec<String>,
}

impl History {
    pub(crate) fn is_right(&self) -> bool {
        self.problems.is_empty() && self.wrong_key().is_none()
    }

    fn wrong_key(&self) -> Option<usize> {
        (0..KEYS).find(|key| {
            let own: Vec<Entry> = self.entries.iter().filter(|entry| entry.key == *key).copied().collect();
            !is_linearizable(&own)
        })
    }

    pub(crate) fn unknown(&self) -> usize {
        self.entries.iter().filter(|entry| entry.end == End::Unknown && !entry.echo).count()
    }

    pub(crate) fn describe(&self) -> String {
        let key = self.wrong_key();
        let own = self.entries.iter().filter(|entry| Some(entry.key) == key);
        format!("problems {:?}; no order explains key {key:?}: {:#?}", self.problems, own.collect::<Vec<_>>())
    }
}

/// Before a call, a test may let something happen to it.
pub(crate) type Mischief = Arc<dyn Fn(&mut fastrand::Rng) + Send + Sync>;

struct Client {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    random: fastrand::Rng,
    clock: Arc<AtomicU64>,
    number: u64,
    drops: bool,
    mischief: Option<Mischief>,
    known: HashMap<usize, (u64, Version)>,
    entries: Vec<Entry>,
    problems: Vec<String>,
}

fn body(value: u64) -> Bytes {
    Bytes::from(format!("{value:0>200}"))
}

impl Client {
    fn key(&self, number: usize) -> ObjectKey {
        ObjectKey::new(format!("{}/moving-{number}", self.prefix)).expect("a key")
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Waits for the call, or gives it up on the way.
    async fn patiently<T>(&mut self, call: impl Future<Output = T>) -> Option<T> {
        if self.drops && self.random.u8(..100) < 12 {
            let patience = Duration::from_micros(self.random.u64(..1500));
            return tokio::time::timeout(patience, call).await.ok();
        }
        Some(call.await)
    }

    fn note(&mut self, key: usize, call: Call, began: u64, ended: Option<Result<(), Error>>) {
        let end = match ended {
            Some(Ok(())) => End::Done,
            None => End::Unknown,
            Some(Err(error)) => match error.kind() {
                ErrorKind::AlreadyExists | ErrorKind::PreconditionFailed => End::Refused,
                ErrorKind::Indeterminate => End::Unknown,
                // The call says that it changed nothing.
                _ if error.is_retryable() => return,
                _ => return self.problems.push(format!("{call:?} failed: {error}")),
            },
        };
        let ended = self.now();
        self.entries.push(Entry { key, call, end, began, ended, echo: false });
        if self.mischief.is_some()
            && end != End::Refused
            && matches!(call, Call::Create(_) | Call::Write(_) | Call::Delete)
        {
            // Documented: what names no version is repeated after a lost answer, and so may be done twice; a creation
            // if the object was deleted in between.
            let ended = if end == End::Done { ended } else { u64::MAX };
            self.entries.push(Entry { key, call, end: End::Unknown, began, ended, echo: true });
        }
    }

    async fn read(&mut self, key: usize) {
        let (store, name, began) = (self.store.clone(), self.key(key), self.now());
        let read = async move {
            let read = store.get(&name, GetOptions::default()).await?;
            let version = read.meta.version.clone();
            Ok::<_, Error>((read.bytes().await?, version))
        };
        match self.patiently(read).await {
            Some(Ok((bytes, version))) => match std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok()) {
                Some(value) if bytes == body(value) => {
                    self.known.insert(key, (value, version));
                    self.note(key, Call::Read(Some(value)), began, Some(Ok(())));
                }
                _ => self.problems.push(format!("a torn object of {} bytes", bytes.len())),
            },
            Some(Err(error)) if error.kind() == ErrorKind::NotFound => {
                self.note(key, Call::Read(None), began, Some(Ok(())));
            }
            Some(Err(error)) if error.is_retryable() || error.kind() == ErrorKind::Corrupt => {}
            Some(Err(error)) => self.problems.push(format!("a read failed: {error}")),
            None => {}
        }
    }

    async fn write(&mut self, key: usize, call: Call, value: u64, mode: PutMode) {
        let (store, name, began) = (self.store.clone(), self.key(key), self.now());
        let options = PutOptions { mode, ..PutOptions::default() };
        let put = self.patiently(async move { store.put(&name, body(value), options).await }).await;
        if let Some(Ok(put)) = &put {
            self.known.insert(key, (value, put.version.clone()));
        }
        self.note(key, call, began, put.map(|put| put.map(drop)));
    }

    async fn delete(&mut self, key: usize) {
        let (store, name, began) = (self.store.clone(), self.key(key), self.now());
        let deleted = self.patiently(async move { store.delete(&name, DeleteOptions::default()).await }).await;
        self.note(key, Call::Delete, began, deleted);
    }

    /// What nobody touches comes in every listing, once.
    async fn list(&mut self) {
        let options = ListOptions { page_size: Some(2), ..ListOptions::prefix(format!("{}/", self.prefix)) };
        let Ok(all) = self.store.list(options).try_collect::<Vec<_>>().await else { return };
        for number in 0..STABLE {
            let name = format!("{}/stable-{number}", self.prefix);
            let times = all.iter().filter(|entry| entry.name() == name).count();
            if times != 1 {
                self.problems.push(format!("a listing has a stable key {times} times"));
            }
        }
    }

    async fn live(mut self) -> (Vec<Entry>, Vec<String>) {
        for _ in 0..CALLS {
            if let Some(mischief) = self.mischief.clone() {
                mischief(&mut self.random);
            }
            self.number += 1;
            let (key, value) = (self.random.usize(..KEYS), self.number);
            match self.random.u8(..20) {
                0..6 => self.read(key).await,
                6..10 => self.write(key, Call::Create(value), value, PutMode::Create).await,
                10..13 => self.write(key, Call::Write(value), value, PutMode::Overwrite).await,
                13..17 => match self.known.get(&key).cloned() {
                    Some((from, version)) => {
                        let call = Call::Swap { from, to: value };
                        self.write(key, call, value, PutMode::Replace(version)).await;
                    }
                    None => self.read(key).await,
                },
                17..19 => self.delete(key).await,
                _ => self.list().await,
            }
        }
        (self.entries, self.problems)
    }
}

/// Plays one history. The clients' stores may be one.
pub(crate) async fn play(
    stores: &[Arc<dyn ObjectStore>],
    seed: u64,
    drops: bool,
    mischief: Option<Mischief>,
) -> Result<History, Error> {
    let prefix = format!("history-{seed}");
    for number in 0..STABLE {
        let key = ObjectKey::new(format!("{prefix}/stable-{number}"))?;
        stores[0].put(&key, Bytes::from_static(b"stable"), PutOptions::default()).await?;
    }
    let clock = Arc::new(AtomicU64::new(0));
    let clients = (0..CLIENTS).map(|number| {
        let client = Client {
            store: stores[number % stores.len()].clone(),
            prefix: prefix.clone(),
            random: fastrand::Rng::with_seed(seed * 31 + number as u64),
            clock: clock.clone(),
            number: (number as u64 + 1) * 1000,
            drops,
            mischief: mischief.clone(),
            known: HashMap::new(),
            entries: Vec::new(),
            problems: Vec::new(),
        };
        tokio::spawn(client.live())
    });
    let mut history = History { entries: Vec::new(), problems: Vec::new() };
    for client in futures_util::future::join_all(clients).await {
        let (entries, problems) = client.expect("a client does not panic");
        history.entries.extend(entries);
        history.problems.extend(problems);
    }
    Ok(history)
}

/// The seeds to play: one that was printed, or so many from a fixed one on.
pub(crate) fn seeds(usual: u64) -> Vec<u64> {
    numbers("ANYCLOUD_TEST_HISTORIES", usual)
}

pub(crate) fn numbers(variable: &str, usual: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("ANYCLOUD_TEST_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number(variable).unwrap_or(usual)).collect(),
    }
}

/// A directory of its own, in memory where there is such a place: what is judged is order, not durability.
pub(crate) fn directory(name: &str) -> std::path::PathBuf {
    let memory = std::path::Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    base.join(format!("anycloud-reliability-{}-{name}", std::process::id()))
}
