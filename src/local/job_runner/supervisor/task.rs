use std::ffi::OsString;
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStderr, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

use super::super::processes;
use super::super::record::{Claim, Plan};
use super::{TASK, this_program};
use crate::job_runner::StartFailure;

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Exited(i32),
    Signalled(i32),
    NotStarted { cause: StartFailure, transient: bool, message: String },
}

/// A task that was started, or was not.
pub(super) struct Task {
    pub(super) pid: Option<i32>,
    /// Becomes readable when the process ends.
    pub(super) descriptor: Option<OwnedFd>,
    pub(super) end: Option<End>,
    /// What the third stage says when it cannot become the task's program: nothing, if it can.
    answer: Option<PipeReader>,
}

impl Task {
    pub(super) fn start(index: u32, claim: &Claim, plan: &Plan) -> (Self, Option<(ChildStdout, ChildStderr)>) {
        match spawn(index, claim, plan) {
            Ok((pid, answer, pipes)) => {
                let descriptor = processes::open(pid);
                (Self { pid: Some(pid), descriptor, end: None, answer: Some(answer) }, Some(pipes))
            }
            Err(error) => {
                let end = not_started(
                    error.raw_os_error().unwrap_or(0),
                    &format!("{}` in `{}", plan.command[0], plan.directory.display()),
                    StartFailure::Other,
                );
                (Self { pid: None, descriptor: None, end: Some(end), answer: None }, None)
            }
        }
    }

    /// Notes how the process ended.
    pub(super) fn ended(&mut self, end: End, program: &str) {
        let mut answer = String::new();
        if let Some(mut pipe) = self.answer.take() {
            // The process is gone, and with it the only other end of the pipe.
            let _ = pipe.read_to_string(&mut answer);
        }
        self.descriptor = None;
        self.pid = None;
        self.end = Some(match answer.trim().parse() {
            Ok(code) => not_started(code, program, StartFailure::Command),
            Err(_) => end,
        });
    }
}

type Spawned = (i32, PipeReader, (ChildStdout, ChildStderr));

fn spawn(index: u32, claim: &Claim, plan: &Plan) -> io::Result<Spawned> {
    let (answer, answering) = io::pipe()?;
    let mut child = this_program()
        .arg(TASK)
        .arg(getpid().as_raw_pid().to_string())
        .args(&plan.command)
        .env_clear()
        .envs(&plan.env)
        .env("ANYCLOUD_TASK_INDEX", index.to_string())
        .env("ANYCLOUD_TASK_COUNT", claim.tasks.to_string())
        .current_dir(&plan.directory)
        .process_group(0)
        .stdin(answering)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = Pid::from_child(&child).as_raw_pid();
    match (child.stdout.take(), child.stderr.take()) {
        (Some(stdout), Some(stderr)) => {
            rustix::io::ioctl_fionbio(&stdout, true)?;
            rustix::io::ioctl_fionbio(&stderr, true)?;
            Ok((pid, answer, (stdout, stderr)))
        }
        _ => Err(io::Error::other("no pipes")),
    }
}

fn not_started(code: i32, program: &str, cause: StartFailure) -> End {
    use rustix::io::Errno;
    let passing = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::TXTBSY];
    let transient = passing.iter().any(|errno| errno.raw_os_error() == code);
    let message = format!("`{program}` could not be executed: {}", io::Error::from_raw_os_error(code));
    End::NotStarted { cause, transient, message }
}

/// Becomes the task's program, tied to the supervisor's life; returns only if that fails.
pub(super) fn become_task(supervisor: &OsString, command: &[OsString]) -> i32 {
    let Some((program, arguments)) = command.split_first() else { return 2 };
    // Standard input is the way to say that it failed; a copy of it closes by itself when it succeeds.
    let Ok(answering) = io::stdin().as_fd().try_clone_to_owned() else { return 2 };
    if set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
        return 2;
    }
    // The supervisor may have died before the line above took effect.
    let parent = getppid().map(|pid| OsString::from(pid.as_raw_pid().to_string()));
    if parent.as_ref() != Some(supervisor) {
        return 2;
    }
    let error = Command::new(program).args(arguments).stdin(Stdio::null()).exec();
    let _ = write!(std::fs::File::from(answering), "{}", error.raw_os_error().unwrap_or(0));
    127
}
