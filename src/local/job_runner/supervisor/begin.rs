use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{getpid, set_child_subreaper, setsid};

use super::super::record::{Directory, Durability, Lock, Record, now};
use super::watch::Watch;
use super::{ALREADY, STARTED, say};
use crate::job_runner::{Evidence, StopCause, TaskCounts, classify};
use crate::{Error, ErrorKind, Result};

/// How long the lock is tried for. Only who judges an execution, for moments, or another supervisor holds it.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// Looks after an execution to its end.
pub(super) fn stay(directory: PathBuf) -> i32 {
    let directory = Directory::at(directory);
    match begin(&directory) {
        Ok(Some((lock, watch))) => {
            say(STARTED);
            watch.run();
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

/// Takes over, unless another supervisor has, or had.
fn begin(directory: &Directory) -> Result<Option<(Lock, Watch)>> {
    let fail = |message: &str| Error::new(ErrorKind::Internal, "supervisor", directory.path().display(), message);
    // Out of the caller's session: no terminal's signals, and no end of the caller's, come here.
    setsid().map_err(|error| fail("no session of its own").with_source(error))?;
    set_child_subreaper(Some(getpid())).map_err(|error| fail("cannot be a subreaper").with_source(error))?;
    let _ = std::env::set_current_dir("/");
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
    if directory.is_asked_to_cancel() {
        record.finished = Some(now());
        record.outcome = Some(classify(&Evidence { stop: Some(StopCause::Cancelled), ..Evidence::default() }));
        record.reason = Some("cancelled before it began".to_owned());
        directory.set_record(&record, Durability::Synced)?;
        return Ok(None);
    }
    let Some(plan) = directory.plan()? else { return Err(fail("there is no plan")) };
    // From here on no other supervisor starts anything for this execution, whatever happens to this one.
    directory.set_record(&record, Durability::Synced)?;
    Ok(Some((lock, Watch::new(directory.clone(), claim, plan, record))))
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
