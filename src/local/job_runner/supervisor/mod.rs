//! The process that looks after one execution, from its first task to its last line of output.
//!
//! It comes in three stages, all of the same program: the first starts the second and ends, so that the second is
//! nobody's child; the second takes the lock and starts every task through the third, which ties the task's life to
//! its own before it becomes the task's program.

mod begin;
mod journal;
mod log;
mod output;
mod task;
mod watch;

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(test)]
pub(super) use self::begin::{Charge, take_over};
use super::directory::Directory;
use super::home::Home;
use crate::ExecutionId;
use crate::local::file_operations::System;

/// The first argument of every stage.
pub(super) const ARGUMENT: &str = "anycloud:supervise";
/// The second argument of the first stage.
pub(super) const STARTING: &str = "start";
const STAYING: &str = "stay";
const TASK: &str = "task";

/// The answer of a supervisor that has taken over.
pub(super) const STARTED: &str = "anycloud-supervisor started";
/// The answer of one that was not needed.
pub(super) const ALREADY: &str = "anycloud-supervisor not needed";

static THIS_PROGRAM: AtomicBool = AtomicBool::new(false);

/// Whether this program has said that it can be started as its own supervisor.
pub(super) fn can_be_this_program() -> bool {
    THIS_PROGRAM.load(Ordering::Relaxed)
}

/// Makes this program its own supervisor of local jobs: to be called first thing in `main`, inside or outside a runtime.
///
/// It returns at once, unless the job runner of the `local` provider has started this process to look after an
/// execution: then it does that and ends the process. A program that does not call it needs the program
/// `anycloud-supervisor` beside itself, on `PATH`, or named by `ANYCLOUD_LOCAL_SUPERVISOR`.
///
/// ```
/// anycloud::local::supervise_if_asked();
/// // the program itself
/// ```
pub fn supervise_if_asked() {
    THIS_PROGRAM.store(true, Ordering::Relaxed);
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != ARGUMENT) {
        return;
    }
    close_inherited();
    let stage = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    let code = match (stage.to_str(), rest.as_slice()) {
        (Some(STARTING), [root, id]) => directory(root, id).map_or(2, |directory| start(&directory)),
        (Some(STAYING), [root, id]) => directory(root, id).map_or(2, |directory| begin::stay(&directory)),
        (Some(TASK), [supervisor, command @ ..]) => task::become_task(supervisor, command),
        _ => 2,
    };
    std::process::exit(code);
}

/// Closes whatever the caller had open without marking it as its own, so that neither this process nor a task keeps
/// a connection or a lock of the caller's alive. What this process has opened itself, such as the event queue of a
/// runtime that `main` runs in, is marked, and stays open.
fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let descriptors = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for descriptor in descriptors.filter(|descriptor| *descriptor > 2).collect::<Vec<_>>() {
        if !closes_on_exec(descriptor) {
            let _ = nix::unistd::close(descriptor);
        }
    }
}

/// Whether the descriptor cannot have been inherited; also if it is not open any more.
fn closes_on_exec(descriptor: i32) -> bool {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let Ok(info) = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")) else { return true };
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & CLOSE_ON_EXEC != 0)
}

/// This program, also when its file has been replaced.
fn this_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(ARGUMENT);
    command
}

/// The execution that the arguments name.
fn directory(root: &OsStr, id: &OsStr) -> Option<Directory> {
    let home = Home { root: root.into(), operations: Arc::new(System) };
    Directory::named(&Arc::new(home), &ExecutionId::new(id.to_str()?).ok()?)
}

fn start(directory: &Directory) -> i32 {
    // For the message of a panic, which nothing else would keep.
    let errors = directory.create("supervisor.log");
    let spawned = this_program()
        .arg(STAYING)
        .arg(directory.root())
        .arg(directory.id().as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors.map_or_else(|_| Stdio::null(), Stdio::from))
        .spawn();
    let mut answer = String::new();
    match spawned {
        Ok(mut child) => {
            if let Some(output) = child.stdout.take() {
                let _ = BufReader::new(output).read_line(&mut answer);
            }
        }
        Err(error) => answer = format!("the second stage could not be started: {error}"),
    }
    say(answer.trim());
    0
}

/// Answers whoever waits; nobody may be left.
fn say(answer: &str) {
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{answer}");
    let _ = stdout.flush();
}
