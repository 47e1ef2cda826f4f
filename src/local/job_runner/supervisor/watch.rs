use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, WaitOptions, wait};

use super::super::directory::Directory;
use super::super::processes::Tree;
use super::super::record::{Claim, Plan};
use super::journal::Journal;
use super::output::Pipe;
use super::task::{End, Task};
use crate::job_runner::{Evidence, StopCause, TaskCounts, classify};

/// How soon a request to cancel is noticed.
const TICK: Duration = Duration::from_millis(100);
/// How long output is still read after the last process of the execution is gone: somebody else may hold a pipe.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// How long the end of processes that were killed is waited for.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// One execution under supervision.
pub(super) struct Watch {
    directory: Directory,
    claim: Claim,
    plan: Plan,
    journal: Journal,
    tree: Tree,
    tasks: Vec<Task>,
    pipes: Vec<Pipe>,
    /// The task whose end decides the outcome: the first that failed.
    deciding: Option<usize>,
    stop: Option<(StopCause, Instant)>,
    leftovers: bool,
}

impl Watch {
    pub(super) fn new(directory: Directory, claim: Claim, plan: Plan, journal: Journal) -> Self {
        let tree = Tree::below_this_process(&claim.marker);
        let (tasks, pipes) = (Vec::new(), Vec::new());
        Self { directory, claim, plan, journal, tree, tasks, pipes, deciding: None, stop: None, leftovers: false }
    }

    pub(super) fn run(mut self) {
        let begun = Instant::now();
        self.start();
        let deadline = self.plan.timeout.and_then(|timeout| begun.checked_add(timeout));
        loop {
            self.reap();
            self.journal.note(self.counts());
            if self.tasks.iter().all(|task| task.end.is_some()) {
                break;
            }
            if self.stop.is_none() {
                if let Ok(true) = self.directory.is_asked_to_cancel() {
                    self.ask(StopCause::Cancelled);
                } else if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    self.ask(StopCause::TimedOut);
                }
            }
            if self.grace_is_over() {
                self.kill();
            } else {
                self.read(TICK);
            }
        }
        // What a task that was asked to end has left behind may still be saving its work.
        while self.stop.is_some() && !self.grace_is_over() && !self.tree.alive().is_empty() {
            self.read(Duration::from_millis(20));
            self.reap();
        }
        self.kill();
        let drained = Instant::now() + DRAIN_LIMIT;
        while !self.pipes.is_empty() && Instant::now() < drained {
            self.read(Duration::from_millis(20));
        }
        for mut pipe in std::mem::take(&mut self.pipes) {
            pipe.end(&mut self.journal.log);
        }
        self.conclude();
    }

    fn start(&mut self) {
        self.journal.start();
        for index in 0..self.claim.tasks {
            let (task, pipes) = Task::start(index, &self.claim, &self.plan);
            if let Some((stdout, stderr)) = pipes {
                self.pipes.push(Pipe::new(stdout, index, 'o'));
                self.pipes.push(Pipe::new(stderr, index, 'e'));
            } else {
                self.deciding.get_or_insert(self.tasks.len());
            }
            self.tasks.push(task);
        }
    }

    fn ask(&mut self, cause: StopCause) {
        self.stop = Some((cause, Instant::now()));
        self.tree.signal(Signal::TERM);
    }

    fn grace_is_over(&self) -> bool {
        self.stop.is_some_and(|(_, since)| since.elapsed() >= self.plan.grace)
    }

    fn kill(&mut self) {
        let tree = self.tree.clone();
        self.leftovers = !tree.kill(KILL_LIMIT, || self.reap());
        self.reap();
    }

    /// Takes the ends of all children, orphans of the tasks included.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let end = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => End::Exited(code),
                (None, Some(signal)) => End::Signalled(signal),
                (None, None) => continue,
            };
            let Some(index) = self.tasks.iter().position(|task| task.pid == Some(pid.as_raw_pid())) else { continue };
            self.tasks[index].ended(end, &self.plan.command[0]);
            if self.tasks[index].end != Some(End::Exited(0)) {
                self.deciding.get_or_insert(index);
            }
        }
    }

    fn counts(&self) -> TaskCounts {
        let count = |wanted: fn(&Task) -> bool| {
            u32::try_from(self.tasks.iter().filter(|task| wanted(task)).count()).unwrap_or(u32::MAX)
        };
        TaskCounts {
            total: self.claim.tasks,
            running: count(|task| task.end.is_none()),
            succeeded: count(|task| task.end == Some(End::Exited(0))),
            failed: count(|task| task.end.as_ref().is_some_and(|end| *end != End::Exited(0))),
            retried: 0,
        }
    }

    /// Waits for output or the end of a task, and takes the output.
    fn read(&mut self, longest: Duration) {
        let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(longest.subsec_nanos()) };
        let ends = self.tasks.iter().filter_map(|task| task.descriptor.as_ref());
        let mut waiting: Vec<_> = self.pipes.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
        waiting.extend(ends.map(|end| PollFd::new(end, PollFlags::IN)));
        let ready = match poll(&mut waiting, Some(&limit)) {
            Ok(0) | Err(_) => return,
            Ok(_) => waiting.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>(),
        };
        drop(waiting);
        let mut ready = ready.into_iter();
        let log = &mut self.journal.log;
        self.pipes.retain_mut(|pipe| if ready.next() == Some(true) { pipe.take(log) } else { true });
        log.flush();
    }

    fn conclude(self) {
        let deciding = self.deciding.unwrap_or(0);
        let mut evidence = Evidence { stop: self.stop.map(|(cause, _)| cause), ..Evidence::default() };
        let mut reason = None;
        match self.tasks.get(deciding).and_then(|task| task.end.clone()) {
            Some(End::Exited(code)) => evidence.exit_code = Some(code),
            Some(End::Signalled(signal)) => evidence.signal = Some(signal),
            Some(End::NotStarted { cause, transient, message }) => {
                evidence.stop.get_or_insert(StopCause::StartFailure { cause, transient });
                reason = Some(message);
            }
            None => {}
        }
        let mut details = BTreeMap::new();
        if self.claim.tasks > 1 && self.deciding.is_some() {
            details.insert("task".to_owned(), deciding.to_string());
        }
        if let Some(code) = evidence.exit_code {
            details.insert("exit_code".to_owned(), code.to_string());
        }
        if let Some(signal) = evidence.signal {
            details.insert("signal".to_owned(), signal.to_string());
        }
        if self.leftovers {
            details.insert("leftover_processes".to_owned(), "some did not end when they were killed".to_owned());
        }
        let counts = self.counts();
        self.journal.finish(counts, classify(&evidence), reason, details);
    }
}
