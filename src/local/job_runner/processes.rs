//! The processes of one execution, found in `/proc` and signalled by descriptor, so that a reused process id never
//! hits a stranger.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use super::supervisor::ARGUMENT;

/// The variable with which every process of an execution is marked.
pub(super) const MARKER: &str = "ANYCLOUD_EXECUTION";

/// How to tell the processes of an execution from all others.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// The supervisor while it lives: as subreaper it is above every process of the execution, whatever these do.
    root: Option<i32>,
    marker: String,
}

impl Tree {
    /// All that descends from this process.
    pub(super) fn below_this_process(marker: &str) -> Self {
        Self { root: Some(getpid().as_raw_pid()), marker: marker.to_owned() }
    }

    /// All that carries the marker, and what descends from it: what a supervisor that is gone has left.
    pub(super) fn marked(marker: &str) -> Self {
        Self { root: None, marker: marker.to_owned() }
    }

    /// The processes that there are, zombies left out.
    pub(super) fn alive(&self) -> Vec<i32> {
        let parents = parents();
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for (pid, parent) in &parents {
            children.entry(*parent).or_default().push(*pid);
        }
        let own = getpid().as_raw_pid();
        let mut waiting: Vec<i32> = match self.root {
            Some(root) => children.get(&root).cloned().unwrap_or_default(),
            None => parents.keys().copied().filter(|pid| self.verdict(*pid) == Some(true)).collect(),
        };
        let mut found = BTreeSet::new();
        while let Some(pid) = waiting.pop() {
            if pid == own || supervises_another(pid, &self.marker) || !found.insert(pid) {
                continue;
            }
            waiting.extend(children.get(&pid).into_iter().flatten());
        }
        found.into_iter().collect()
    }

    /// Whether the process decides for all below it that they belong to the tree, or do not.
    fn verdict(&self, pid: i32) -> Option<bool> {
        if Some(pid) == self.root {
            return Some(true);
        }
        if pid <= 1 {
            return Some(false);
        }
        if supervises_another(pid, &self.marker) {
            return Some(false);
        }
        (self.root.is_none() && marker_of(pid).as_deref() == Some(&self.marker)).then_some(true)
    }

    /// Sends a signal to a process if it still belongs to the tree. What was checked is what the descriptor holds: it
    /// was opened before the check, and a process that has died since takes no signal.
    fn send(&self, pid: i32, signal: Signal) {
        let Some(descriptor) = open(pid) else { return };
        if self.still_holds(pid) {
            let _ = pidfd_send_signal(&descriptor, signal);
        }
    }

    /// Reads the line of ancestors twice: a parent that is the same before and after was alive in between, so that
    /// its own parent was read from it and not from a stranger that took over its id.
    fn still_holds(&self, pid: i32) -> bool {
        let first = self.line(pid);
        first.is_some() && first == self.line(pid)
    }

    fn line(&self, pid: i32) -> Option<Vec<i32>> {
        let mut line = vec![pid];
        let mut at = pid;
        while line.len() < 10_000 {
            match self.verdict(at) {
                Some(true) => return Some(line),
                Some(false) => return None,
                None => {}
            }
            at = stat(at)?.0;
            line.push(at);
        }
        None
    }

    /// Sends a signal to all that there are now.
    pub(super) fn signal(&self, signal: Signal) {
        for pid in self.alive() {
            self.send(pid, signal);
        }
    }

    /// Kills all of it and returns true when nothing is left, or false after the limit. `reap` is called in between.
    pub(super) fn kill(&self, limit: Duration, mut reap: impl FnMut()) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            self.freeze();
            let alive = self.alive();
            if alive.is_empty() {
                return true;
            }
            for pid in alive {
                self.send(pid, Signal::KILL);
            }
            reap();
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
            reap();
        }
    }

    /// Stops all of it, so that nothing forks away while the rest is killed.
    fn freeze(&self) {
        let mut stopped = BTreeSet::new();
        for _ in 0..20 {
            let fresh: Vec<_> = self.alive().into_iter().filter(|pid| !stopped.contains(pid)).collect();
            if fresh.is_empty() {
                return;
            }
            for pid in fresh {
                self.send(pid, Signal::STOP);
                stopped.insert(pid);
            }
        }
    }
}

pub(super) fn open(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// Every living process and its parent.
fn parents() -> BTreeMap<i32, i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let (parent, state) = stat(pid)?;
        (!matches!(state, 'Z' | 'X')).then_some((pid, parent))
    })
    .collect()
}

/// Parent and state of a process.
fn stat(pid: i32) -> Option<(i32, char)> {
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // The program's name stands in parentheses and may itself contain some.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

fn marker_of(pid: i32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(MARKER.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec))?;
    String::from_utf8(value).ok()
}

/// Whether this is the supervisor of another execution, started from within this one: that is no part of it.
fn supervises_another(pid: i32, marker: &str) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    line.split(|byte| *byte == 0).nth(1) == Some(ARGUMENT.as_bytes())
        && marker_of(pid).is_some_and(|found| found != marker)
}
