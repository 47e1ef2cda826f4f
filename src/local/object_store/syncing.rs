//! Makes names durable for several writers at once.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::fstat;

/// The directories that are being synced. Who comes while a sync of the same directory is under way waits for the next
/// one, which is for all that wait: what a sync covers was there before it began.
#[derive(Debug, Default)]
pub(super) struct Syncing {
    directories: Mutex<HashMap<(u64, u64), Turns>>,
    ended: Condvar,
}

/// The syncs of one directory, which come one after the other.
#[derive(Debug, Default)]
struct Turns {
    begun: u64,
    ended: u64,
    /// The last that failed, and the system's word for it.
    failed: Option<(u64, i32)>,
    under_way: bool,
    writers: usize,
}

impl Turns {
    /// How it ended for a writer for whom a sync of this number or a later one is good: `None` if there was none yet.
    /// After a failure a later success proves nothing, because the system tells of a loss only once.
    fn outcome(&self, wanted: u64) -> Option<io::Result<()>> {
        match self.failed {
            Some((number, code)) if number >= wanted => Some(Err(io::Error::from_raw_os_error(code))),
            _ => (self.ended >= wanted).then_some(Ok(())),
        }
    }
}

impl Syncing {
    /// Makes the names in a directory durable that are there now.
    pub(super) fn sync(
        &self,
        directory: BorrowedFd<'_>,
        sync: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let stat = fstat(directory)?;
        let id = (stat.st_dev, stat.st_ino);
        let mut directories = self.lock();
        let turns = directories.entry(id).or_default();
        turns.writers += 1;
        let wanted = turns.begun + 1;
        let outcome = loop {
            let turns = directories.entry(id).or_default();
            if let Some(outcome) = turns.outcome(wanted) {
                break outcome;
            }
            if turns.under_way {
                directories = self.ended.wait(directories).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            turns.begun += 1;
            turns.under_way = true;
            drop(directories);
            let synced = sync(directory);
            directories = self.lock();
            let turns = directories.entry(id).or_default();
            turns.under_way = false;
            turns.ended = turns.begun;
            if let Err(error) = &synced {
                turns.failed =
                    Some((turns.begun, error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error())));
            }
            self.ended.notify_all();
            break synced;
        };
        let turns = directories.entry(id).or_default();
        turns.writers -= 1;
        if turns.writers == 0 {
            directories.remove(&id);
        }
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(u64, u64), Turns>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    const WRITERS: u64 = 16;

    /// Each of many writers makes a name and syncs; how many syncs there were, and how the writers fared.
    fn write(fails: impl Fn(u64) -> bool + Sync) -> (u64, Vec<io::Result<()>>) {
        let (syncing, syncs, names) = (Syncing::default(), AtomicU64::new(0), AtomicU64::new(0));
        let directory = File::open(".").unwrap();
        let outcomes = thread::scope(|scope| {
            let writers = (0..WRITERS).map(|_| {
                scope.spawn(|| {
                    let own = names.fetch_add(1, Ordering::SeqCst) + 1;
                    let synced = AtomicU64::new(0);
                    let outcome = syncing.sync(directory.as_fd(), |_| {
                        let number = syncs.fetch_add(1, Ordering::SeqCst);
                        synced.store(names.load(Ordering::SeqCst), Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(20));
                        if fails(number) { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
                    });
                    let synced = synced.load(Ordering::SeqCst);
                    assert!(synced == 0 || synced >= own, "a sync begins after the name is there");
                    outcome
                })
            });
            writers.collect::<Vec<_>>().into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        assert!(syncing.lock().is_empty());
        (syncs.load(Ordering::SeqCst), outcomes)
    }

    #[test]
    fn one_sync_is_for_all_who_wait_for_it() {
        let (syncs, outcomes) = write(|_| false);
        assert!(outcomes.iter().all(Result::is_ok));
        assert!((1..=WRITERS / 2).contains(&syncs), "{syncs}");
    }

    #[test]
    fn a_sync_that_fails_fails_for_all_whom_it_was_for() {
        let (syncs, outcomes) = write(|_| true);
        assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(|error| error.raw_os_error() == Some(5))));
        assert!(syncs <= WRITERS / 2, "{syncs}");
        let (_, outcomes) = write(|number| number == 0);
        assert!(outcomes.iter().filter(|outcome| outcome.is_err()).count() < WRITERS as usize);
    }

    #[test]
    fn a_failure_is_not_covered_by_a_later_success() {
        let turns = Turns { begun: 3, ended: 3, failed: Some((2, 5)), ..Turns::default() };
        assert!(turns.outcome(2).is_some_and(|outcome| outcome.is_err()));
        assert!(turns.outcome(3).is_some_and(|outcome| outcome.is_ok()));
        assert!(turns.outcome(4).is_none());
    }
}
