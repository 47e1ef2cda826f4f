//! Lane A: every operation, every request of it, every fault, first and second attempt; and plans of several faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anycloud::Provider;
use anycloud::retry::RetryPolicy;
use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::gcp;
use crate::judge::{Class, Seen, Tally};
use crate::operation::{Clients, Family, Operation, Scene, Truth, operations};
use crate::stage::{Fault, Stage, faults, names};

/// How many cells share a server, how many of them are played at once, and on how many servers.
struct Crowd {
    batch: usize,
    at_once: usize,
    servers: usize,
}

/// A stall holds up its own server only.
const SMALL: Crowd = Crowd { batch: 48, at_once: 8, servers: 3 };
/// Each has its bytes several times in memory, on their way and in the server.
const LARGE: Crowd = Crowd { batch: 6, at_once: 3, servers: 1 };

/// Waits until few enough cells are played, over all trials: with more of them the time-outs would be the machine's.
pub(crate) async fn turn() -> SemaphorePermit<'static> {
    static TURNS: Semaphore = Semaphore::const_new(16);
    TURNS.acquire().await.expect("it is never closed")
}

/// What an operation does when nothing goes wrong.
pub(crate) struct Usual {
    pub(crate) operation: Operation,
    answer: String,
    pub(crate) requests: BTreeMap<String, usize>,
}

impl Usual {
    /// Whether this can happen to a request of it, and be seen.
    fn can_meet(&self, fault: &Fault, request: &str) -> bool {
        // S3 and Cloud Storage have checksums of whole objects only.
        let unseen = fault.name == "flip answer" && self.operation.name == "get_range";
        (fault.fits)(request) && !unseen
    }
}

/// A fault that waits for a request, after so many of them.
struct Planned {
    request: String,
    skip: usize,
    fault: Fault,
}

/// One operation, and what happens to it.
struct Cell {
    usual: Arc<Usual>,
    faults: Vec<Planned>,
    /// Those of the faults by which it is judged.
    classes: Vec<Class>,
    /// How often the request of a final refusal may be sent.
    most_sends: Option<usize>,
    /// How many of the faults must happen.
    least_injected: usize,
    /// What plays it again.
    seed: Option<u64>,
}

impl Cell {
    fn name(&self, provider: Provider) -> String {
        let Operation { family, name, .. } = self.usual.operation;
        let each = |planned: &Planned| {
            let Planned { request, skip, fault } = planned;
            format!(" / {request} {skip}: {}", fault.name)
        };
        let faults: String = self.faults.iter().map(each).collect();
        let seed = self.seed.map_or(String::new(), |seed| format!("ANYCLOUD_TEST_SEED={seed} "));
        format!("{seed}{provider:?} {family:?} {name}{faults}")
    }

    async fn play(&self, stage: &Stage, scene: &Scene, policy: &RetryPolicy) -> Result<Seen, anycloud::Error> {
        let _turn = turn().await;
        let operation = self.usual.operation;
        (operation.prepare)(scene).await?;
        let before = stage.sent(&scene.name);
        for planned in &self.faults {
            stage.arm(&scene.name, &planned.request, planned.skip, &planned.fault.injury);
        }
        let begun = Instant::now();
        let verdict = (operation.act)(scene).await;
        let took = begun.elapsed();
        let request = &self.faults[0].request;
        let count = |sent: &BTreeMap<String, usize>| sent.get(request).copied().unwrap_or_default();
        let sends = count(&stage.sent(&scene.name)) - count(&before);
        stage.settle(&scene.name, self.least_injected).await;
        let injected = stage.injected(&scene.name);
        stage.release(&scene.name).await;
        let truth = match operation.truth {
            Some(truth) => Some(truth(scene).await?),
            None => None,
        };
        Ok(Seen {
            operation,
            classes: self.classes.clone(),
            expected: self.usual.answer.clone(),
            verdict,
            truth: truth.map(|truth| self.but_for_late_versions(truth)),
            took,
            deadline: policy.call_timeout + Duration::from_secs(1),
            sends,
            most_sends: self.most_sends,
            injected,
            least_injected: self.least_injected,
        })
    }

    /// Documented: Secret Manager takes no token, and a first attempt that arrives late leaves one version too many.
    fn but_for_late_versions(&self, truth: Truth) -> Truth {
        let late = |planned: &Planned| planned.fault.name == "stall" && planned.request.contains("addVersion");
        match truth {
            Truth::Broken(what) if what.contains("versions where") && self.faults.iter().any(late) => Truth::Applied,
            truth => truth,
        }
    }
}

pub(crate) fn has(clients: &Clients, family: Family) -> bool {
    match family {
        Family::Objects => clients.objects.is_some(),
        Family::Secrets => clients.secrets.is_some(),
        Family::Jobs => clients.jobs.is_some(),
    }
}

/// What each operation sends and answers on a quiet server.
pub(crate) async fn usual(
    provider: Provider,
    family: Option<Family>,
    canary: &str,
    tally: &mut Tally,
) -> Vec<Arc<Usual>> {
    let asked = operations().filter(|operation| family.is_none_or(|one| operation.family == one));
    let asked: Vec<_> = asked.collect();
    let names = names(asked.len());
    let stage = Stage::start(provider, &names, &gcp::policy()).await;
    let mut all = Vec::new();
    for (operation, name) in asked.into_iter().zip(&names) {
        let scene = stage.scene(name, canary);
        if !has(&scene.clean, operation.family) {
            tally.skip(format!("{:?}: there is no server for them here", operation.family));
            continue;
        }
        let result = async {
            (operation.prepare)(&scene).await?;
            let before = stage.sent(name);
            let answer = (operation.act)(&scene).await?;
            let mut requests = stage.sent(name);
            requests.iter_mut().for_each(|(request, count)| *count -= before.get(request).copied().unwrap_or_default());
            requests.retain(|_, count| *count > 0);
            Ok::<_, anycloud::Error>(Usual { operation: *operation, answer, requests })
        };
        match result.await {
            Ok(usual) => all.push(Arc::new(usual)),
            Err(error) if error.kind() == anycloud::ErrorKind::Unsupported => {
                tally.skip(format!("{}: {}", operation.name, error.message()));
            }
            Err(error) => tally.problems.push(format!("{} fails on a quiet server: {error:?}", operation.name)),
        }
    }
    all
}

/// What an operation meets that moves many bytes.
const OF_LARGE: [&str; 9] =
    ["reset", "cut mid", "503", "stall", "lose answer", "cut answer", "cut early", "flip answer", "flip request"];

fn single_faults(provider: Provider, usual: &[Arc<Usual>]) -> Vec<Cell> {
    let faults = faults(provider, &gcp::policy());
    let passing = faults.iter().find(|fault| fault.name == "503").expect("there is one");
    let mut cells = Vec::new();
    for usual in usual {
        let wanted = |fault: &&Fault| !usual.operation.is_large() || OF_LARGE.contains(&fault.name);
        for (request, count) in &usual.requests {
            let planned = |skip, fault: &Fault| Planned { request: request.clone(), skip, fault: fault.clone() };
            let cell = |fault: &Fault, plan: Vec<Planned>, classes, sends: usize| Cell {
                usual: usual.clone(),
                least_injected: plan.len(),
                faults: plan,
                classes,
                most_sends: matches!(fault.class, Class::Permanent(_)).then_some(sends),
                seed: None,
            };
            for fault in faults.iter().filter(|fault| usual.can_meet(fault, request)).filter(wanted) {
                if usual.operation.is_large() {
                    // On the first of several requests at once, and on the second.
                    let places = 0..(*count).min(2);
                    cells.extend(places.map(|skip| Cell {
                        // How many requests there are depends on how fast the first ones are.
                        least_injected: usize::from(skip == 0),
                        ..cell(fault, vec![planned(skip, fault)], vec![fault.class], *count)
                    }));
                    continue;
                }
                cells.push(cell(fault, vec![planned(0, fault)], vec![fault.class], *count));
                // What became of a claim is open after a failure and a refusal, and so the run is `Unavailable`.
                let open = usual.operation.name == "run" && request.ends_with("storage.objects.insert");
                let classes = if open { vec![Class::Before, fault.class] } else { vec![fault.class] };
                cells.push(cell(fault, vec![planned(0, passing), planned(1, fault)], classes, count + 1));
            }
        }
    }
    cells
}

/// Two or three faults of one operation, by the seed.
fn plan(seed: u64, faults: &[Fault], usual: &[Arc<Usual>]) -> Cell {
    let mut random = fastrand::Rng::with_seed(seed);
    let usual = usual[random.usize(..usual.len())].clone();
    let requests: Vec<_> = usual.requests.keys().cloned().collect();
    let mut plan: Vec<Planned> = Vec::new();
    let wanted = random.usize(2..=3);
    while plan.len() < wanted {
        let request = requests[random.usize(..requests.len())].clone();
        let fault = faults[random.usize(..faults.len())].clone();
        // What has to be waited for is rare, so that there is time for the rest.
        let rare = fault.name.starts_with("stall") && random.u8(..8) > 0;
        if usual.can_meet(&fault, &request) && !rare {
            plan.push(Planned { request, skip: random.usize(..3), fault });
        }
    }
    let classes = plan.iter().map(|planned| planned.fault.class).collect();
    Cell { usual, faults: plan, classes, most_sends: None, least_injected: 0, seed: Some(seed) }
}

/// How the clients repeat that meet several faults.
fn patient() -> RetryPolicy {
    RetryPolicy { max_attempts: 6, attempt_timeout: Duration::from_millis(700), ..gcp::policy() }
}

async fn play(
    provider: Provider,
    cells: &[Cell],
    policy: &RetryPolicy,
    canary: &str,
    inspect: &(dyn Fn(&anycloud::Error) + Sync),
    tally: &mut Tally,
) {
    let is_large = |cell: &&Cell| cell.usual.operation.is_large();
    for (crowd, cells) in [
        (SMALL, cells.iter().filter(|cell| !is_large(cell)).collect::<Vec<_>>()),
        (LARGE, cells.iter().filter(is_large).collect()),
    ] {
        let names = names(crowd.batch);
        let batches = futures_util::stream::iter(cells.chunks(crowd.batch)).map(|batch| {
            let names = &names[..batch.len()];
            async move {
                let stage = &Stage::start(provider, names, policy).await;
                let played = futures_util::stream::iter(batch.iter().zip(names)).map(|(cell, name)| async move {
                    (*cell, cell.play(stage, &stage.scene(name, canary), policy).await)
                });
                played.buffer_unordered(crowd.at_once).collect::<Vec<_>>().await
            }
        });
        let mut batches = batches.buffer_unordered(crowd.servers);
        while let Some(played) = batches.next().await {
            for (cell, seen) in played {
                match seen {
                    Ok(seen) => {
                        seen.verdict.as_ref().err().into_iter().for_each(inspect);
                        tally.add(&cell.name(provider), &seen);
                    }
                    Err(error) => {
                        let name = cell.name(provider);
                        tally.problems.push(format!("{name}: the clean client failed: {error}"));
                    }
                }
            }
        }
    }
}

/// Plays the whole matrix of a family, or of all, and shows each error to `inspect`. `ANYCLOUD_TEST_CELL` names a part
/// of the cells' names.
pub(crate) async fn run(
    provider: Provider,
    family: Option<Family>,
    canary: &str,
    inspect: &(dyn Fn(&anycloud::Error) + Sync),
) -> Tally {
    run_those(provider, family, canary, inspect, |_| true).await
}

/// The part of the matrix in which a request meets its fault at once, not after another failure.
pub(crate) async fn run_first_attempts(
    provider: Provider,
    family: Family,
    canary: &str,
    inspect: &(dyn Fn(&anycloud::Error) + Sync),
) -> Tally {
    run_those(provider, Some(family), canary, inspect, |cell| cell.faults.len() == 1).await
}

async fn run_those(
    provider: Provider,
    family: Option<Family>,
    canary: &str,
    inspect: &(dyn Fn(&anycloud::Error) + Sync),
    wanted: fn(&Cell) -> bool,
) -> Tally {
    let mut tally = Tally::default();
    let usual = usual(provider, family, canary, &mut tally).await;
    let mut cells = single_faults(provider, &usual);
    cells.retain(wanted);
    if let Ok(part) = std::env::var("ANYCLOUD_TEST_CELL") {
        cells.retain(|cell| cell.name(provider).contains(&part));
    }
    play(provider, &cells, &gcp::policy(), canary, inspect, &mut tally).await;
    tally
}

/// Plays plans of two and three faults.
pub(crate) async fn run_plans(provider: Provider, seeds: &[u64]) -> Tally {
    let mut tally = Tally::default();
    let mut usual = usual(provider, None, "a value ", &mut tally).await;
    usual.retain(|one| !one.operation.is_large());
    let faults = faults(provider, &patient());
    let cells: Vec<_> = seeds.iter().map(|seed| plan(*seed, &faults, &usual)).collect();
    play(provider, &cells, &patient(), "a value ", &|_| {}, &mut tally).await;
    tally
}
