//! Every call of every operation, hit in turn, and the judgement.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::Failed;

use crate::operation::{ALL, Operation};
use crate::scratch::Scratch;
use crate::traced::{self, Call};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Eio,
    Enospc,
    Eintr,
    Kill,
}

pub(crate) const FAILURES: [Fault; 2] = [Fault::Eio, Fault::Enospc];

/// The calls that a signal may interrupt, by their manual pages.
const INTERRUPTIBLE: &[&str] = &[
    "openat",
    "openat2",
    "read",
    "pread64",
    "readv",
    "preadv",
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
    "flock",
    "copy_file_range",
    "sendfile",
];

/// The calls whose failure may never be passed over.
const DURABLE: &[&str] = &["fsync", "fdatasync", "write", "pwrite64", "writev", "pwritev"];

impl Fault {
    fn expression(self) -> &'static str {
        match self {
            Self::Eio => "error=EIO",
            Self::Enospc => "error=ENOSPC",
            Self::Eintr => "error=EINTR",
            Self::Kill => "signal=SIGKILL",
        }
    }

    fn fits(self, call: &Call) -> bool {
        self != Self::Eintr || INTERRUPTIBLE.contains(&call.name.as_str())
    }
}

/// One operation as it goes when nothing fails.
struct Reference {
    operation: Operation,
    template: Scratch,
    verdict: String,
    before: String,
    after: String,
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

impl Reference {
    fn record(operation: Operation) -> (Self, Vec<Call>) {
        let template = Scratch::new();
        let before = block_on(async {
            operation.prepare(&template.0).await;
            operation.state(&template.0).await
        });
        let root = Scratch::copy_of(&template);
        let (run, calls) = traced::record(operation, &root);
        let after = block_on(operation.state(&root.0));
        let verdict = run.verdict.unwrap();
        assert!(verdict.starts_with("ok"), "{operation:?}: {verdict}");
        block_on(operation.check_aftermath(&root.0));
        (Self { operation, template, verdict, before, after }, calls)
    }

    /// What is wrong with how the operation went, and whether the fault came to it.
    fn hit(&self, call: &Call, fault: Fault) -> (bool, Result<(), String>) {
        let root = Scratch::copy_of(&self.template);
        let run = traced::inject(self.operation, &root, call, fault.expression());
        let state = block_on(self.operation.state(&root.0));
        let (old, new) = (state == self.before, state == self.after);
        let verdict = run.verdict.as_deref().unwrap_or("killed");
        let right = match verdict {
            "killed" => fault == Fault::Kill && (old || new),
            _ if fault == Fault::Eintr => verdict == self.verdict && new,
            "unknown" => old || new,
            // Whether it was looked at is no change: the record that says so may be there or not.
            _ if self.operation == Operation::SettleJob && verdict.starts_with("error") => old || new,
            // Bytes or names that are not known to be on the disk are no success.
            _ if verdict == self.verdict => new && !(run.was_hit() && DURABLE.contains(&call.name.as_str())),
            _ => verdict.starts_with("error") && old && fault.explains(verdict),
        };
        let judged = if right { Ok(()) } else { Err(format!("{verdict}; there is {state}")) };
        let aftermath = std::panic::catch_unwind(|| block_on(self.operation.check_aftermath(&root.0)));
        let judged = judged.and_then(|()| aftermath.map_err(|_| format!("{verdict}; the aftermath is wrong")));
        (run.was_hit(), judged)
    }
}

impl Fault {
    fn explains(self, verdict: &str) -> bool {
        match self {
            Self::Enospc => verdict.starts_with("error ResourceExhausted"),
            _ => verdict.starts_with("error Internal"),
        }
    }
}

pub(crate) fn run(faults: &[Fault]) -> Result<(), Failed> {
    let mut cells = Vec::new();
    let mut references = Vec::new();
    for operation in ALL {
        let (reference, calls) = Reference::record(operation);
        let number = references.len();
        let pairs = calls.iter().flat_map(|call| faults.iter().map(move |fault| (call.clone(), *fault)));
        cells.extend(pairs.filter(|(call, fault)| fault.fits(call)).map(|(call, fault)| (number, call, fault)));
        references.push(reference);
    }
    let (next, hits, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((number, call, fault)) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let reference = &references[*number];
                    let (hit, judged) = reference.hit(call, *fault);
                    hits.fetch_add(usize::from(hit), Ordering::Relaxed);
                    if let Err(reason) = judged {
                        let at = format!("{:?}, {fault:?} at {} {}", reference.operation, call.name, call.number);
                        wrong.lock().unwrap().push(format!("{at}: {reason}"));
                    }
                }
            });
        }
    });
    let mut counts = BTreeMap::<String, usize>::new();
    for (number, ..) in &cells {
        *counts.entry(format!("{:?}", references[*number].operation)).or_default() += 1;
    }
    let (hits, wrong) = (hits.into_inner(), wrong.into_inner().unwrap());
    println!(
        "{faults:?}: {} calls of {} operations, {hits} faults injected; {counts:?}",
        cells.len(),
        references.len()
    );
    if !wrong.is_empty() {
        return Err(format!("{} wrong ends:\n{}", wrong.len(), wrong.join("\n")).into());
    }
    // A call that depends on chance may not come again.
    if hits * 100 < cells.len() * 95 { Err("too many faults came to nothing".into()) } else { Ok(()) }
}
