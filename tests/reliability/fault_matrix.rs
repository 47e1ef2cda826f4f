//! Lane A: every operation, every request of it, every fault, first and second attempt, on the emulator.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anycloud::ErrorKind;
use anycloud::gcp_emulator::{Emulator, Fault, FaultAction};
use futures_util::StreamExt as _;

use crate::gcp;
use crate::judge::{Class, Seen, Tally};
use crate::operation::{Clients, Family, OPERATIONS, Operation, Scene};

/// Cells that share an emulator, and so many of them at once.
const A_BATCH: usize = 48;
const AT_ONCE: usize = 12;

fn status(code: u16) -> FaultAction {
    FaultAction::Status { code, retry_after_seconds: None }
}

/// What can happen to a request, and what that amounts to.
fn faults() -> Vec<(&'static str, FaultAction, Class)> {
    let stall = gcp::policy().attempt_timeout + Duration::from_millis(300);
    let millis = u64::try_from(stall.as_millis()).expect("it fits");
    vec![
        ("reset", FaultAction::Reset, Class::Before),
        ("500", status(500), Class::Before),
        ("502", status(502), Class::Before),
        ("503", status(503), Class::Before),
        ("504", status(504), Class::Before),
        ("408", status(408), Class::Before),
        ("429", FaultAction::Status { code: 429, retry_after_seconds: Some(0) }, Class::Before),
        ("stall", FaultAction::Delay { millis }, Class::After),
        ("slow", FaultAction::Delay { millis: 60 }, Class::After),
        ("lose answer", FaultAction::LoseAnswer, Class::After),
        ("cut at once", FaultAction::Truncate { after_bytes: 0 }, Class::After),
        ("cut early", FaultAction::Truncate { after_bytes: 9 }, Class::After),
        ("400", status(400), Class::Permanent(ErrorKind::InvalidInput)),
        ("401", status(401), Class::Permanent(ErrorKind::Unauthenticated)),
        ("403", status(403), Class::Permanent(ErrorKind::PermissionDenied)),
    ]
}

/// A request of an operation, as the emulator's log names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    method: String,
    http: String,
}

/// What an operation does when nothing goes wrong.
struct Usual {
    answer: String,
    requests: BTreeMap<Request, usize>,
}

struct Cell {
    operation: Operation,
    request: Request,
    usual: usize,
    expected: String,
    fault: &'static str,
    action: FaultAction,
    class: Class,
    attempt: usize,
}

impl Cell {
    fn name(&self) -> String {
        let Self { operation, request, fault, attempt, .. } = self;
        format!(
            "{:?} {} / {} {} / {fault} / attempt {attempt}",
            operation.family, operation.name, request.http, request.method
        )
    }

    fn arm(&self, emulator: &Emulator, scene: &str) {
        let fault = |action: FaultAction, skip| Fault {
            http: Some(self.request.http.clone()),
            path: Some(scene.to_owned()),
            skip,
            ..Fault::next(self.request.method.clone(), action)
        };
        if self.attempt == 2 {
            emulator.add_fault(fault(status(503), 0));
            emulator.add_fault(fault(self.action.clone(), 1));
        } else {
            emulator.add_fault(fault(self.action.clone(), 0));
        }
    }
}

fn requests(emulator: &Emulator, scene: &str, since: usize) -> BTreeMap<Request, usize> {
    let mut counted = BTreeMap::new();
    for served in emulator.requests().into_iter().skip(since).filter(|served| served.path.contains(scene)) {
        *counted.entry(Request { method: served.method, http: served.http }).or_default() += 1;
    }
    counted
}

pub(crate) fn has(clients: &Clients, family: Family) -> bool {
    match family {
        Family::Objects => clients.objects.is_some(),
        Family::Secrets => clients.secrets.is_some(),
        Family::Jobs => clients.jobs.is_some(),
    }
}

fn scene_names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("scene-{number}-end")).collect()
}

/// What each operation sends and answers on a quiet server.
async fn usual(family: Option<Family>, canary: &str, tally: &mut Tally) -> Vec<(Operation, Usual)> {
    let names = scene_names(OPERATIONS.len());
    let emulator = gcp::emulator(&names);
    let mut all = Vec::new();
    for (operation, name) in
        OPERATIONS.iter().zip(&names).filter(|(operation, _)| family.is_none_or(|one| operation.family == one))
    {
        let scene = gcp::scene(emulator.url(), name, canary);
        if !has(&scene.clean, operation.family) {
            tally.skip(format!("{:?}: the provider has no such family yet", operation.family));
            continue;
        }
        let result = async {
            (operation.prepare)(&scene).await?;
            let before = emulator.requests().len();
            let answer = (operation.act)(&scene).await?;
            Ok::<_, anycloud::Error>((answer, requests(&emulator, name, before)))
        };
        match result.await {
            Ok((answer, requests)) => all.push((*operation, Usual { answer, requests })),
            Err(error) => tally.problems.push(format!("{} fails on a quiet server: {error:?}", operation.name)),
        }
    }
    all
}

fn cells(usual: &[(Operation, Usual)]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (operation, usual) in usual {
        for (request, count) in &usual.requests {
            for (fault, action, class) in faults() {
                for attempt in [1, 2] {
                    let (request, action, expected) = (request.clone(), action.clone(), usual.answer.clone());
                    cells.push(Cell {
                        operation: *operation,
                        request,
                        usual: *count,
                        expected,
                        fault,
                        action,
                        class,
                        attempt,
                    });
                }
            }
        }
    }
    cells
}

async fn play(emulator: &Emulator, scene: &Scene, cell: &Cell) -> Result<Seen, anycloud::Error> {
    (cell.operation.prepare)(scene).await?;
    let before = emulator.requests().len();
    cell.arm(emulator, &scene.name);
    let begun = Instant::now();
    let verdict = (cell.operation.act)(scene).await;
    let took = begun.elapsed();
    let sends = requests(emulator, &scene.name, before).get(&cell.request).copied().unwrap_or_default();
    let truth = match cell.operation.truth {
        Some(truth) => Some(truth(scene).await?),
        None => None,
    };
    Ok(Seen {
        operation: cell.operation,
        class: cell.class,
        expected: cell.expected.clone(),
        verdict,
        truth,
        took,
        deadline: gcp::policy().call_timeout + Duration::from_secs(1),
        sends,
        usual_sends: cell.usual,
        attempt: cell.attempt,
    })
}

/// Plays the whole matrix of a family, or of all, and shows each error to `inspect`.
pub(crate) async fn run(family: Option<Family>, canary: &str, inspect: &(dyn Fn(&anycloud::Error) + Sync)) -> Tally {
    let mut tally = Tally::default();
    let usual = usual(family, canary, &mut tally).await;
    let cells = cells(&usual);
    for batch in cells.chunks(A_BATCH) {
        let names = scene_names(batch.len());
        let emulator = gcp::emulator(&names);
        let played = futures_util::stream::iter(batch.iter().zip(&names)).map(|(cell, name)| {
            let emulator = &emulator;
            async move {
                let scene = gcp::scene(emulator.url(), name, canary);
                (cell, play(emulator, &scene, cell).await)
            }
        });
        let played: Vec<_> = played.buffer_unordered(AT_ONCE).collect().await;
        tally.faults += emulator.requests().iter().filter(|served| served.fault.is_some()).count();
        for (cell, seen) in played {
            match seen {
                Ok(seen) => {
                    if let Err(error) = &seen.verdict {
                        inspect(error);
                    }
                    tally.add(&cell.name(), &seen);
                }
                Err(error) => tally.problems.push(format!("{}: the clean client failed: {error}", cell.name())),
            }
        }
    }
    tally
}
