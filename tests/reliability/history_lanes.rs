//! Lane B on each provider, and the planted bugs.

use std::sync::Arc;

use anycloud::gcp_emulator::{Fault, FaultAction};
use anycloud::{Cloud, Config, ObjectStore};
use libtest_mimic::Failed;

use crate::histories::{self, CLIENTS, Mischief};
use crate::planted_bugs::{BUGS, Planted};
use crate::proxy::SocketFault;
use crate::{aws, gcp};

type Stores = Vec<Arc<dyn ObjectStore>>;

/// The counts of a lane.
#[derive(Default)]
struct Judged {
    histories: usize,
    calls: usize,
    unknown: usize,
}

impl Judged {
    async fn play(&mut self, stores: &Stores, seed: u64, mischief: Option<Mischief>) -> Result<(), Failed> {
        let history = histories::play(stores, seed, true, mischief).await?;
        self.histories += 1;
        self.calls += history.entries.len();
        self.unknown += history.unknown();
        if history.is_right() {
            return Ok(());
        }
        Err(format!("ANYCLOUD_TEST_SEED={seed}: {}", history.describe()).into())
    }

    fn conclude(&self, lane: &str, faults: usize) -> Result<(), Failed> {
        let Self { histories, calls, unknown } = self;
        println!("B, {lane}: {histories} histories, {calls} calls judged, {unknown} unknown, {faults} faults injected");
        // One history that is played again may have none.
        if *unknown == 0 && *histories > 1 { Err("no call ended unknown".into()) } else { Ok(()) }
    }
}

pub(crate) async fn on_local() -> Result<(), Failed> {
    let root = histories::directory("histories");
    let store = |_| Ok::<_, anycloud::Error>(Cloud::connect(Config::local(&root))?.objects().clone());
    let stores = (0..CLIENTS).map(store).collect::<Result<Stores, _>>()?;
    let mut judged = Judged::default();
    for seed in histories::seeds(300) {
        judged.play(&stores, seed, None).await?;
        let _ = std::fs::remove_dir_all(root.join(format!("objects/main/history-{seed}")));
    }
    let _ = std::fs::remove_dir_all(&root);
    judged.conclude("local", 0)
}

pub(crate) async fn on_gcp() -> Result<(), Failed> {
    let mut judged = Judged::default();
    let mut faults = 0;
    // Every emulator keeps a log of all that it has served.
    for seeds in histories::seeds(100).chunks(20) {
        let names: Vec<String> = seeds.iter().map(|seed| format!("history-{seed}-end")).collect();
        let emulator = Arc::new(gcp::emulator(&names));
        for (seed, name) in seeds.iter().zip(&names) {
            let clients = |_| gcp::clients(&gcp::config(emulator.url(), name)).objects;
            let stores: Stores = (0..CLIENTS).filter_map(clients).collect();
            let (server, scene) = (emulator.clone(), name.clone());
            let mischief: Mischief = Arc::new(move |random| {
                let action = match random.u8(..40) {
                    0 => FaultAction::Reset,
                    1 => FaultAction::Status { code: 503, retry_after_seconds: None },
                    2 => FaultAction::LoseAnswer,
                    3 => FaultAction::Truncate { after_bytes: 5 },
                    4 => FaultAction::Status { code: 429, retry_after_seconds: None },
                    5 => FaultAction::Delay { millis: 3 },
                    _ => return,
                };
                server.add_fault(Fault { path: Some(scene.clone()), ..Fault::next("*", action) });
            });
            judged.play(&stores, *seed, Some(mischief)).await?;
        }
        faults += emulator.requests().iter().filter(|served| served.fault.is_some()).count();
    }
    judged.conclude("gcp", faults)
}

pub(crate) async fn on_aws() -> Result<(), Failed> {
    let mut judged = Judged::default();
    let mut faults = 0;
    for seeds in histories::seeds(40).chunks(20) {
        let server = Arc::new(aws::Server::start(gcp::policy()).await);
        let stores: Stores = vec![server.scene("", "").faulted.objects.expect("it has objects")];
        for seed in seeds {
            let proxy = server.clone();
            let mischief: Mischief = Arc::new(move |random| {
                let fault = match random.u8(..40) {
                    0 => SocketFault::CutBefore,
                    1 => SocketFault::Status(503, "SlowDown"),
                    2 => SocketFault::LoseAnswer,
                    3 => SocketFault::CutAnswer,
                    4 => SocketFault::CloseAnswer,
                    5 => SocketFault::LateDuplicate,
                    6 => SocketFault::Status(409, "ConditionalRequestConflict"),
                    _ => return,
                };
                let label = if matches!(fault, SocketFault::Status(409, _)) { "PUT   x-id=PutObject" } else { "" };
                proxy.faulted.plan("", label, 0, fault);
            });
            judged.play(&stores, *seed, Some(mischief)).await?;
        }
        faults += server.faulted.injected();
    }
    judged.conclude("aws", faults)
}

pub(crate) async fn planted_bugs() -> Result<(), Failed> {
    let root = histories::directory("planted");
    let mut missed = Vec::new();
    for bug in BUGS {
        let inner = Cloud::connect(Config::local(root.join(format!("{bug:?}"))))?.objects().clone();
        let mut caught = None;
        for seed in 1..=50 {
            let planted: Arc<dyn ObjectStore> = Arc::new(Planted::new(inner.clone(), bug, seed));
            if !histories::play(&[planted], seed, false, None).await?.is_right() {
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
