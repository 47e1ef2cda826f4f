//! Lane B: histories of several clients on few keys, with faults and dropped calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anycloud::object_store::{DeleteOptions, ListOptions, Version};
use anycloud::{Error, ErrorKind, GetOptions, ObjectKey, ObjectStore, PutMode, PutOptions};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use crate::journal::{Journal, ZEROS};
use crate::linearizability::{Call, End, Entry, is_linearizable};
use crate::proxy::{Proxy, SocketFault};

pub(crate) const CLIENTS: usize = 4;
const CALLS: usize = 40;
const KEYS: usize = 3;
const STABLE: usize = 6;

/// What went on in one history.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) entries: Vec<Entry>,
    pub(crate) problems: Vec<String>,
    /// Changes whose end is unknown.
    pub(crate) unknown: usize,
    /// Effects of one call beyond its first.
    pub(crate) repetitions: usize,
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

    pub(crate) fn describe(&self) -> String {
        let Some(key) = self.wrong_key() else { return format!("problems {:?}", self.problems) };
        let mut own: Vec<_> = self.entries.iter().filter(|entry| entry.key == key).collect();
        own.sort_by_key(|entry| entry.began);
        let line = |entry: &&Entry| format!("\n{}–{}: {:?} {:?}", entry.began, entry.ended, entry.call, entry.end);
        let lines: String = own.iter().map(line).collect();
        format!("problems {:?}; no order explains key {key}:{lines}", self.problems)
    }
}

/// How a client reaches the server.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Makes its faults, and counts what the server really does for it.
    pub(crate) proxy: Option<Arc<Proxy>>,
}

/// What happens to the next request of this label, if anything does; any label is an empty one.
pub(crate) type Mischief = fn(&mut fastrand::Rng) -> Option<(&'static str, SocketFault)>;

/// A call that may have changed something, before it is known how often it did.
struct Change {
    key: usize,
    call: Call,
    /// `None` is a failure that says that nothing was changed.
    end: Option<End>,
    began: u64,
    ended: u64,
}

struct Client {
    store: Arc<dyn ObjectStore>,
    proxy: Option<(Arc<Proxy>, Journal)>,
    prefix: String,
    random: fastrand::Rng,
    clock: Arc<AtomicU64>,
    number: u64,
    drops: bool,
    mischief: Option<Mischief>,
    known: HashMap<usize, (u64, Version)>,
    entries: Vec<Entry>,
    changes: Vec<Change>,
    problems: Vec<String>,
    unknown: usize,
    repetitions: usize,
}

fn body(value: u64) -> Bytes {
    Bytes::from(format!("{:0>ZEROS$}{value:0>50}", ""))
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
            Some(Ok(())) => Some(End::Done),
            None => Some(End::Unknown),
            Some(Err(error)) => match error.kind() {
                ErrorKind::AlreadyExists | ErrorKind::PreconditionFailed => Some(End::Refused),
                ErrorKind::Indeterminate => Some(End::Unknown),
                // The call says that it changed nothing.
                _ if error.is_retryable() => None,
                _ => return self.problems.push(format!("{call:?} failed: {error}")),
            },
        };
        let ended = self.now();
        self.unknown += usize::from(end == Some(End::Unknown));
        match (call, end) {
            (Call::Read(_), Some(end)) => self.entries.push(Entry { key, call, end, began, ended }),
            _ => self.changes.push(Change { key, call, end, began, ended }),
        }
    }

    /// Now that nothing is on its way any more, what each change did, and how often.
    ///
    /// Documented: what names no version is repeated after a lost answer, and so may be done several times; a creation
    /// if the object was deleted in between.
    fn settle(&mut self) {
        for Change { key, call, end, began, ended } in std::mem::take(&mut self.changes) {
            let effects = match &self.proxy {
                Some((_, journal)) => journal.effects(call, key, began, ended),
                // Nothing is sent twice.
                None => usize::from(matches!(end, Some(End::Done | End::Unknown))),
            };
            let (end, repetitions, until) = match end {
                Some(End::Done) if effects > 0 || call == Call::Delete => (End::Done, effects.saturating_sub(1), ended),
                Some(End::Refused) if effects == 0 => (End::Refused, 0, ended),
                Some(End::Unknown) if effects > 0 => (End::Unknown, effects - 1, u64::MAX),
                Some(End::Unknown) | None if effects == 0 => continue,
                _ => {
                    let problem = format!("{call:?} of key {key} ends {end:?}, and the server did it {effects} times");
                    self.problems.push(problem);
                    continue;
                }
            };
            self.entries.push(Entry { key, call, end, began, ended: until });
            let again = Entry { key, call, end: End::Unknown, began, ended: until };
            self.entries.extend(std::iter::repeat_n(again, repetitions));
            self.repetitions += repetitions;
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

    async fn live(mut self) -> Self {
        for _ in 0..CALLS {
            if let (Some(mischief), Some((proxy, _))) = (self.mischief, &self.proxy)
                && let Some((label, fault)) = mischief(&mut self.random)
            {
                proxy.plan("", label, 0, fault);
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
        self
    }
}

/// Plays one history. The clients' ways may be one, if it has no proxy.
pub(crate) async fn play(ways: &[Way], seed: u64, drops: bool, mischief: Option<Mischief>) -> Result<History, Error> {
    let prefix = format!("history-{seed}");
    for number in 0..STABLE {
        let key = ObjectKey::new(format!("{prefix}/stable-{number}"))?;
        ways[0].store.put(&key, Bytes::from_static(b"stable"), PutOptions::default()).await?;
    }
    let clock = Arc::new(AtomicU64::new(0));
    let clients = (0..CLIENTS).map(|number| {
        let way = ways[number % ways.len()].clone();
        let proxy = way.proxy.map(|proxy| {
            let journal = Journal::new(&prefix, clock.clone());
            proxy.watch(journal.watch());
            (proxy, journal)
        });
        let client = Client {
            store: way.store,
            proxy,
            prefix: prefix.clone(),
            random: fastrand::Rng::with_seed(seed * 31 + number as u64),
            clock: clock.clone(),
            number: (number as u64 + 1) * 1000,
            drops,
            mischief,
            known: HashMap::new(),
            entries: Vec::new(),
            changes: Vec::new(),
            problems: Vec::new(),
            unknown: 0,
            repetitions: 0,
        };
        tokio::spawn(client.live())
    });
    let mut ended = Vec::new();
    for client in futures_util::future::join_all(clients).await {
        ended.push(client.expect("a client does not panic"));
    }
    // What a call that was given up sent may be done only now; nobody sees what is done still later.
    for proxy in ways.iter().filter_map(|way| way.proxy.as_ref()) {
        proxy.idle().await;
    }
    let mut history = History::default();
    for mut client in ended {
        client.settle();
        history.entries.extend(client.entries);
        history.problems.extend(client.problems);
        history.unknown += client.unknown;
        history.repetitions += client.repetitions;
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
