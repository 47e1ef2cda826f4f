//! One caller with names of its own, who remembers what each may hold.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anycloud::job_runner::WaitOptions;
use anycloud::object_store::{CopyOptions, DeleteOptions};
use anycloud::{
    Cloud, Error, ErrorKind, IdempotencyKey, JobName, JobOutcome, JobRequest, JobRunnerExt as _, ObjectKey,
    ObjectStoreExt as _, PutOptions, Result, SecretName, SecretStoreExt as _,
};
use bytes::Bytes;
use libtest_mimic::Failed;

use crate::process::Emulator;

const KEYS: usize = 8;
/// The number of the secret among the names.
const SECRET: usize = KEYS;
/// What goes wrong on the wire, as the emulator's control takes it.
const ACTIONS: &[&str] = &[
    r#"{"kind": "reset"}"#,
    r#"{"kind": "loseAnswer"}"#,
    r#"{"kind": "status", "code": 503}"#,
    r#"{"kind": "status", "code": 429}"#,
    r#"{"kind": "truncate", "afterBytes": 5}"#,
    r#"{"kind": "delay", "millis": 50}"#,
];

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    pub(crate) gcp_calls: u64,
    pub(crate) faults: u64,
    pub(crate) dropped: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
    pub(crate) large: u64,
    pub(crate) jobs: u64,
    pub(crate) objects: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.gcp_calls += other.gcp_calls;
        self.faults += other.faults;
        self.dropped += other.dropped;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.large += other.large;
        self.jobs += other.jobs;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, gcp_calls, faults, dropped, failed, unknown, large, jobs, objects } = self;
        write!(
            f,
            "{calls} calls ({gcp_calls} to Google Cloud's emulator, {faults} faults among them), {dropped} dropped, "
        )?;
        write!(f, "{failed} failed, {unknown} unknown, {large} of 8 to 16 MiB, {jobs} jobs; ")?;
        write!(f, "{objects} names right at the end")
    }
}

/// Seeds with this bit are of objects that travel in parts and ranges.
const LARGE: u64 = 1 << 63;

/// Bytes that tell which write they are of.
fn content(seed: u64) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    let size = match random.u8(..10) {
        _ if seed & LARGE != 0 => random.usize(8 << 20..16 << 20),
        0 => random.usize(100_000..600_000),
        _ => random.usize(..20_000),
    };
    let mut bytes = vec![0; size];
    random.fill(&mut bytes);
    bytes.into()
}

/// What a name may hold: the seeds of writes, or nothing.
type Possible = Vec<Option<u64>>;

/// What a worker does beside the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Also {
    Nothing,
    /// Objects that travel in parts and ranges. Few have them, so that they do not all come at once.
    LargeObjects,
    /// Jobs, of the definition [`JOB`].
    Jobs,
}

/// The job that some workers run.
pub(crate) const JOB: &str = "touch";

pub(crate) struct Worker {
    prefix: String,
    cloud: Cloud,
    also: Also,
    emulator: Option<Arc<Emulator>>,
    random: fastrand::Rng,
    objects: BTreeMap<usize, Possible>,
    secret: Possible,
    /// How often a name was given up, because a dropped call may still change it at any time.
    given_up: BTreeMap<usize, u32>,
    tally: Tally,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Put,
    Upload,
    Copy,
    Delete,
    PutSecret,
}

impl Worker {
    pub(crate) fn new(number: usize, cloud: Cloud, also: Also, emulator: Option<Arc<Emulator>>) -> Self {
        Self {
            prefix: format!("soak-{}-{number}x", std::process::id()),
            cloud,
            also,
            emulator,
            random: fastrand::Rng::with_seed(number as u64),
            objects: (0..KEYS).map(|key| (key, vec![None])).collect(),
            secret: vec![None],
            given_up: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    fn key(&self, number: usize) -> ObjectKey {
        ObjectKey::new(format!("{}/{number}-{}", self.prefix, self.generation(number))).unwrap()
    }

    fn secret(&self) -> SecretName {
        SecretName::new(format!("{}{}x", self.prefix, self.generation(SECRET))).unwrap()
    }

    fn generation(&self, number: usize) -> u32 {
        self.given_up.get(&number).copied().unwrap_or_default()
    }

    pub(crate) async fn run(mut self, end: Instant) -> (Self, Tally) {
        while Instant::now() < end {
            self.tally.calls += 1;
            if let Some(emulator) = self.emulator.clone() {
                self.tally.gcp_calls += 1;
                if self.random.u8(..20) == 0 {
                    self.tally.faults += 1;
                    let (path, action) = (self.prefix.clone(), ACTIONS[self.random.usize(..ACTIONS.len())]);
                    tokio::task::spawn_blocking(move || emulator.add_fault(&path, action)).await.unwrap();
                }
            }
            if self.also == Also::Jobs && self.random.u8(..50) == 0 {
                self.run_job().await;
            }
            let number = self.random.usize(..KEYS);
            match self.random.u8(..20) {
                0..6 => self.change(Act::Put, number).await,
                6..8 => self.change(Act::Upload, number).await,
                8 => self.change(Act::Copy, number).await,
                9 => self.change(Act::Delete, number).await,
                // No more often: each adds a version that stays.
                10 if self.random.u8(..8) == 0 => self.change(Act::PutSecret, number).await,
                11 => self.list().await,
                _ => self.read(number).await,
            }
        }
        let tally = self.tally;
        (self, tally)
    }

    async fn perform(&self, act: Act, number: usize, seed: u64) -> Result<()> {
        let (store, key) = (self.cloud.objects(), self.key(number));
        match act {
            Act::Put => store.put_bytes(&key, content(seed)).await.map(drop),
            Act::Upload => {
                let mut writer = store.writer(&key, PutOptions::default());
                for piece in content(seed).chunks(50_000) {
                    writer.write(Bytes::copy_from_slice(piece)).await?;
                }
                writer.finish().await.map(drop)
            }
            Act::Copy => store.copy(&self.key((number + 1) % KEYS), &key, CopyOptions::default()).await.map(drop),
            Act::Delete => store.delete(&key, DeleteOptions::default()).await,
            Act::PutSecret => self.cloud.secrets().put_value(&self.secret(), seed.to_string()).await.map(drop),
        }
    }

    /// A change, one in twenty dropped on its way.
    async fn change(&mut self, act: Act, number: usize) {
        let mut seed = self.random.u64(..) & !LARGE;
        if self.also == Also::LargeObjects && act == Act::Upload && self.random.u8(..4) == 0 {
            seed |= LARGE;
            self.tally.large += 1;
        }
        let patience = match self.random.u8(..20) {
            0 => Duration::from_micros(self.random.u64(..20_000)),
            _ => Duration::from_secs(80),
        };
        let ended = tokio::time::timeout(patience, self.perform(act, number, seed)).await;
        let new: Possible = match act {
            Act::Copy => self.objects[&((number + 1) % KEYS)].clone(),
            Act::Delete => vec![None],
            _ => vec![Some(seed)],
        };
        let possible = match act {
            Act::PutSecret => &mut self.secret,
            _ => self.objects.get_mut(&number).unwrap(),
        };
        match ended {
            Ok(Ok(())) => {
                *possible = new.into_iter().filter(|held| !matches!(act, Act::Copy) || held.is_some()).collect()
            }
            Err(_) => {
                assert!(patience < Duration::from_secs(1), "{act:?} is stuck");
                self.tally.dropped += 1;
                *possible = vec![None];
                let number = if matches!(act, Act::PutSecret) { SECRET } else { number };
                if number != SECRET {
                    let _ = self.cloud.objects().delete(&self.key(number), DeleteOptions::default()).await;
                }
                *self.given_up.entry(number).or_default() += 1;
            }
            Ok(Err(error)) if error.kind() == ErrorKind::Indeterminate => {
                self.tally.unknown += 1;
                possible.extend(new);
            }
            // It says that it has changed nothing.
            Ok(Err(_)) => self.tally.failed += 1,
        }
    }

    async fn read(&mut self, number: usize) {
        match self.cloud.objects().get_bytes(&self.key(number)).await {
            Ok(bytes) => self.narrow(number, Some(&bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => self.narrow(number, None),
            Err(_) => self.tally.failed += 1,
        }
    }

    /// What was read must be possible.
    fn narrow(&mut self, number: usize, found: Option<&Bytes>) {
        let possible = &self.objects[&number];
        let right = possible.iter().any(|held| match (held, found) {
            (Some(seed), Some(bytes)) => content(*seed) == *bytes,
            (None, None) => true,
            _ => false,
        });
        let size = found.map(Bytes::len);
        assert!(right, "{} {number} holds {size:?} bytes that nobody has written last", self.prefix);
    }

    async fn list(&mut self) {
        match self.cloud.objects().list_all(&format!("{}/", self.prefix)).await {
            Ok(listed) => {
                let given_up: u32 = self.given_up.values().sum();
                assert!(listed.len() <= KEYS + given_up as usize);
            }
            Err(_) => self.tally.failed += 1,
        }
    }

    /// Runs a job to its end, and once more by its key, which starts nothing.
    async fn run_job(&mut self) {
        self.tally.jobs += 1;
        let key = IdempotencyKey::new(format!("{}-{}", self.prefix, self.tally.jobs)).unwrap();
        let request = || JobRequest { idempotency_key: Some(key.clone()), ..JobRequest::default() };
        let (job, jobs) = (JobName::new(JOB).unwrap(), self.cloud.jobs().clone());
        let begun = jobs.run(&job, request()).await.unwrap();
        let options = WaitOptions { deadline: Some(Duration::from_secs(60)), ..WaitOptions::default() };
        let ended = jobs.wait(&begun.id, options).await.unwrap();
        assert_eq!(ended.outcome(), Some(&JobOutcome::Succeeded));
        assert_eq!(jobs.run(&job, request()).await.unwrap().id, begun.id);
    }

    /// Reads everything once more, and removes it.
    pub(crate) async fn check(mut self) -> Result<u64, Failed> {
        let missing = |error: &Error| error.kind() == ErrorKind::NotFound;
        for number in 0..KEYS {
            let found = match self.cloud.objects().get_bytes(&self.key(number)).await {
                Err(error) if missing(&error) => None,
                found => Some(found?),
            };
            self.narrow(number, found.as_ref());
            self.cloud.objects().delete(&self.key(number), DeleteOptions::default()).await?;
        }
        let held = match self.cloud.secrets().get_latest(&self.secret()).await {
            Err(error) if missing(&error) => None,
            found => Some(found?.value.expose_str()?.parse::<u64>()?),
        };
        if !self.secret.contains(&held) {
            return Err(format!("{}: the secret holds {held:?}", self.prefix).into());
        }
        Ok(KEYS as u64 + 1)
    }
}
