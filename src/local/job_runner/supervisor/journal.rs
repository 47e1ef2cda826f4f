use std::collections::BTreeMap;
use std::time::Duration;

use super::super::directory::{Directory, Durability};
use super::super::record::{Record, now};
use super::log::Log;
use crate::JobOutcome;
use crate::job_runner::TaskCounts;

/// How often the final state is written before it is given up.
const FINAL_ATTEMPTS: u32 = 60;

/// All that a supervisor writes down: how far the execution has come, and its log.
pub(in super::super) struct Journal {
    directory: Directory,
    record: Record,
    pub(in super::super) log: Log,
}

impl Journal {
    /// To go on with this record, which is there.
    pub(super) fn new(directory: Directory, record: Record) -> Self {
        let log = Log::create(&directory);
        Self { directory, record, log }
    }

    /// To be called before the first task is started.
    pub(in super::super) fn start(&mut self) {
        self.record.started = Some(now());
    }

    /// Tells who looks how many tasks are where. Need not be durable: that there is a record, is.
    pub(in super::super) fn note(&mut self, counts: TaskCounts) {
        if counts != self.record.tasks {
            self.record.tasks = counts;
            let _ = self.directory.set_record(&self.record, Durability::Whole);
        }
    }

    /// Writes the end, after the log: who sees the end finds all lines.
    pub(in super::super) fn finish(
        mut self,
        counts: TaskCounts,
        outcome: JobOutcome,
        reason: Option<String>,
        details: BTreeMap<String, String>,
    ) {
        self.log.sync();
        self.record.details.extend(details);
        if let Some(problem) = self.log.problem {
            self.record.details.insert("log_incomplete".to_owned(), problem);
        }
        self.record.tasks = counts;
        self.record.finished = Some(now());
        self.record.outcome = Some(outcome);
        self.record.reason = reason;
        // A disk that is full for a while must not make a known end unknown.
        for _ in 0..FINAL_ATTEMPTS {
            if self.directory.set_record(&self.record, Durability::Synced).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}
