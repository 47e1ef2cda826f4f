use std::time::{Duration, Instant};

use rustix::process::{getpid, set_child_subreaper, setsid};

use super::super::directory::{Directory, Durability, Lock};
use super::super::record::{Claim, Plan, Record, now};
use super::journal::Journal;
use super::watch::Watch;
use super::{ALREADY, STARTED, say};
use crate::job_runner::{Evidence, StopCause, TaskCounts, classify};
use crate::{Error, ErrorKind, Result};

/// How long the lock is tried for. Only who judges an execution, for moments, or another supervisor holds it.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// What a supervisor has that has taken over.
pub(in super::super) struct Charge {
    pub(in super::super) lock: Lock,
    pub(in super::super) claim: Claim,
    pub(in super::super) plan: Plan,
    pub(in super::super) journal: Journal,
}

/// Looks after an execution to its end.
pub(super) fn stay(directory: &Directory) -> i32 {
    match leave_the_caller(directory).and_then(|()| take_over(directory)) {
        Ok(Some(Charge { lock, claim, plan, journal })) => {
            say(STARTED);
            Watch::new(directory.clone(), claim, plan, journal).run();
            drop(lock);
            0
        }
        Ok(None) => {
            say(ALREADY);
            0
        }
        Err(error) => {
            say(&error.to_string());
            1
        }
    }
}

fn failed(directory: &Directory, message: &str) -> Error {
    Error::new(ErrorKind::Internal, "supervisor", directory.path().display(), message)
}

/// Out of the caller's session: no terminal's signals, and no end of the caller's, come here.
fn leave_the_caller(directory: &Directory) -> Result<()> {
    setsid().map_err(|error| failed(directory, "no session of its own").with_source(error))?;
    set_child_subreaper(Some(getpid()))
        .map_err(|error| failed(directory, "cannot be a subreaper").with_source(error))?;
    let _ = std::env::set_current_dir("/");
    Ok(())
}

/// Takes over, unless another supervisor has, or had. Whoever gets a charge may start the tasks: nobody else ever does.
pub(in super::super) fn take_over(directory: &Directory) -> Result<Option<Charge>> {
    let Some(lock) = lock(directory)? else { return Ok(None) };
    if directory.record()?.is_some() {
        return Ok(None);
    }
    let claim = directory.claim()?;
    let mut record = Record {
        supervisor: getpid().as_raw_pid().cast_unsigned(),
        tasks: TaskCounts { total: claim.tasks, ..TaskCounts::default() },
        ..Record::default()
    };
    if directory.is_asked_to_cancel()? {
        record.finished = Some(now());
        record.outcome = Some(classify(&Evidence { stop: Some(StopCause::Cancelled), ..Evidence::default() }));
        record.reason = Some("cancelled before it began".to_owned());
        directory.set_record(&record, Durability::Synced)?;
        return Ok(None);
    }
    let Some(plan) = directory.plan()? else { return Err(failed(directory, "there is no plan")) };
    // From here on no other supervisor starts anything for this execution, whatever happens to this one.
    directory.set_record(&record, Durability::Synced)?;
    Ok(Some(Charge { lock, claim, plan, journal: Journal::new(directory.clone(), record) }))
}

fn lock(directory: &Directory) -> Result<Option<Lock>> {
    let deadline = Instant::now() + LOCK_LIMIT;
    loop {
        if let Some(lock) = directory.try_lock()? {
            return Ok(Some(lock));
        }
        if directory.record()?.is_some() || Instant::now() > deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
