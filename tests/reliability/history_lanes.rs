//! Lane B on each provider, and the planted bugs.

use std::sync::Arc;
use std::time::Duration;

use anycloud::retry::RetryPolicy;
use anycloud::{Cloud, Config, ObjectStore};
use futures_util::{StreamExt as _, TryStreamExt as _};
use libtest_mimic::Failed;

use crate::histories::{self, CLIENTS, Mischief, Way};
use crate::planted_bugs::{BUGS, Planted};
use crate::proxy::{Proxy, SocketFault, Upstream};
use crate::{aws, fault_matrix, gcp};

/// Histories that share a server, and so many servers at once: most of a history is waiting.
const A_BATCH: usize = 4;
const AT_ONCE: usize = 16;

/// The counts of a lane.
#[derive(Default)]
struct Judged {
    histories: usize,
    calls: usize,
    unknown: usize,
    repetitions: usize,
    faults: usize,
}

impl Judged {
    async fn play(&mut self, ways: &[Way], seed: u64, mischief: Option<Mischief>) -> Result<(), Failed> {
        let history = histories::play(ways, seed, true, mischief).await?;
        self.histories += 1;
        self.calls += history.entries.len();
        self.unknown += history.unknown;
        self.repetitions += history.repetitions;
        if history.is_right() {
            return Ok(());
        }
        Err(format!("ANYCLOUD_TEST_SEED={seed}: {}", history.describe()).into())
    }

    fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.calls += other.calls;
        self.unknown += other.unknown;
        self.repetitions += other.repetitions;
        self.faults += other.faults;
    }

    fn conclude(&self, lane: &str, asked: usize) -> Result<(), Failed> {
        let Self { histories, calls, unknown, repetitions, faults } = self;
        println!(
            "B, {lane}: {histories} histories, {calls} calls judged, {unknown} unknown, {repetitions} effects of \
             repetitions, {faults} faults injected"
        );
        if *histories < asked {
            return Err(format!("only {histories} of {asked} histories were played").into());
        }
        // One history that is played again may have none.
        if *unknown == 0 && *histories > 1 { Err("no call ended unknown".into()) } else { Ok(()) }
    }
}

pub(crate) async fn on_local() -> Result<(), Failed> {
    let root = histories::directory("histories");
    let way = |_| {
        let store = Cloud::connect(Config::local(&root))?.objects().clone();
        Ok::<_, anycloud::Error>(Way { store, proxy: None })
    };
    let ways = (0..CLIENTS).map(way).collect::<Result<Vec<_>, _>>()?;
    let mut judged = Judged::default();
    let seeds = histories::seeds(300);
    for seed in seeds.iter().copied() {
        judged.play(&ways, seed, None).await?;
        let _ = std::fs::remove_dir_all(root.join(format!("objects/main/history-{seed}")));
    }
    let _ = std::fs::remove_dir_all(&root);
    judged.conclude("local", seeds.len())
}

/// What the proxies do to requests; a conflict is said of writes only.
fn mischief(
    random: &mut fastrand::Rng,
    write: &'static str,
    conflict: &'static str,
) -> Option<(&'static str, SocketFault)> {
    let fault = match random.u8(..40) {
        0 => SocketFault::CutBefore,
        1 => SocketFault::Status(503, "SlowDown"),
        2 => SocketFault::LoseAnswer,
        3 => SocketFault::CutAnswer,
        4 => SocketFault::CloseAnswer,
        5 => SocketFault::LateDuplicate,
        6 => return Some((write, SocketFault::Status(409, conflict))),
        _ => return None,
    };
    Some(("", fault))
}

/// Plays histories whose clients reach one server each through a proxy of its own.
async fn play_all(seeds: &[u64], provider: anycloud::Provider) -> Result<Judged, Failed> {
    let batches: Vec<Vec<u64>> = seeds.chunks(A_BATCH).map(<[u64]>::to_vec).collect();
    let played = futures_util::stream::iter(batches).map(|seeds| async move {
        let played = tokio::spawn(async move {
            match provider {
                anycloud::Provider::Gcp => batch_on_gcp(&seeds).await,
                _ => batch_on_aws(&seeds).await,
            }
        });
        played.await.expect("a history does not panic")
    });
    let add = |mut all: Judged, batch: Judged| async move {
        all.add(&batch);
        Ok(all)
    };
    played.buffer_unordered(AT_ONCE).try_fold(Judged::default(), add).await
}

/// Nothing here stalls: what is late is late because the machine is busy.
fn patient() -> RetryPolicy {
    RetryPolicy { attempt_timeout: Duration::from_secs(10), call_timeout: Duration::from_secs(60), ..gcp::policy() }
}

async fn play_through(
    upstream: &Upstream,
    store: impl Fn(&str) -> Arc<dyn ObjectStore>,
    seeds: &[u64],
    mischief: Mischief,
) -> Result<Judged, Failed> {
    let mut ways = Vec::new();
    for _ in 0..CLIENTS {
        let proxy = Arc::new(Proxy::start(upstream.clone(), Duration::ZERO).await);
        ways.push(Way { store: store(&proxy.url), proxy: Some(proxy) });
    }
    let mut judged = Judged::default();
    for seed in seeds {
        let _turn = fault_matrix::turn().await;
        judged.play(&ways, *seed, Some(mischief)).await?;
    }
    judged.faults = ways.iter().filter_map(|way| way.proxy.as_ref()).map(|proxy| proxy.injected("")).sum();
    Ok(judged)
}

async fn batch_on_gcp(seeds: &[u64]) -> Result<Judged, Failed> {
    let emulator = gcp::emulator(&["histories".to_owned()]);
    let upstream = Upstream::At(emulator.url().trim_start_matches("http://").to_owned());
    let store = |url: &str| {
        let config = Config { retry: patient(), ..gcp::config(url, "histories") };
        gcp::clients(&config).objects.expect("it has objects")
    };
    play_through(&upstream, store, seeds, |random| mischief(random, "POST /upload/  uploadType=multipart", "conflict"))
        .await
}

async fn batch_on_aws(seeds: &[u64]) -> Result<Judged, Failed> {
    let server = aws::Server::start(patient()).await;
    let store = |url: &str| server.objects_at(url);
    play_through(server.upstream(), store, seeds, |random| mischief(random, "PutObject", "ConditionalRequestConflict"))
        .await
}

pub(crate) async fn on_gcp() -> Result<(), Failed> {
    let seeds = histories::seeds(100);
    play_all(&seeds, anycloud::Provider::Gcp).await?.conclude("gcp", seeds.len())
}

pub(crate) async fn on_aws() -> Result<(), Failed> {
    let seeds = histories::seeds(40);
    play_all(&seeds, anycloud::Provider::Aws).await?.conclude("aws", seeds.len())
}

pub(crate) async fn planted_bugs() -> Result<(), Failed> {
    let root = histories::directory("planted");
    let mut missed = Vec::new();
    for bug in BUGS {
        let inner = Cloud::connect(Config::local(root.join(format!("{bug:?}"))))?.objects().clone();
        let mut caught = None;
        for seed in 1..=50 {
            let store: Arc<dyn ObjectStore> = Arc::new(Planted::new(inner.clone(), bug, seed));
            if !histories::play(&[Way { store, proxy: None }], seed, false, None).await?.is_right() {
                caught = Some(seed);
                break;
            }
        }
        match caught {
            Some(seed) => println!("B′, {bug:?}: caught in history {seed}"),
            None => missed.push(bug),
        }
    }
    let _ = std::fs::remove_dir_all(root);
    if missed.is_empty() { Ok(()) } else { Err(format!("not caught within 50 histories: {missed:?}").into()) }
}
