//! One attempt of a task as a local process in a group of its own.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::logging::Source;
use super::super::server::{Shared, lock};
use super::execution::Halt;
use super::signal;

/// What to run.
pub(super) struct Launch {
    pub(super) command: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) directory: Option<String>,
    pub(super) timeout: Duration,
    pub(super) source: Source,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Exited(i32),
    Killed(i32),
    TimedOut { exit: Option<i32>, signal: Option<i32> },
    Halted { exit: Option<i32>, signal: Option<i32> },
    NotStarted(String),
}

enum Stop {
    Timeout,
    Halt,
}

/// Runs a process to its end.
pub(super) async fn run(shared: &Arc<Shared>, launch: Launch, mut halting: watch::Receiver<Halt>) -> Ended {
    let Some((program, arguments)) = launch.command.split_first() else {
        return Ended::NotStarted("The container has no command.".into());
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", &shared.config.task_path)
        .envs(&launch.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(directory) = &launch.directory {
        command.current_dir(directory);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(problem) => {
            return Ended::NotStarted(format!("The container failed to start: {program}: {problem}."));
        }
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(0);
    lock(&shared.run.groups).insert(group);
    let readers = [
        read_lines(shared, &launch.source, "stdout", child.stdout.take()),
        read_lines(shared, &launch.source, "stderr", child.stderr.take()),
    ];
    let ended = wait(shared, &mut child, group, launch.timeout, &mut halting).await;
    // A container ends with its first process, whatever that one left behind.
    signal(group, Signal::KILL);
    lock(&shared.run.groups).remove(&group);
    for reader in readers.into_iter().flatten() {
        let _ = timeout(Duration::from_secs(2), reader).await;
    }
    ended
}

async fn wait(
    shared: &Shared,
    child: &mut Child,
    group: i32,
    limit: Duration,
    halting: &mut watch::Receiver<Halt>,
) -> Ended {
    let stop = tokio::select! {
        status = child.wait() => return match status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => Ended::Exited(code),
                (None, signal) => Ended::Killed(signal.unwrap_or(0)),
            },
            Err(problem) => Ended::NotStarted(problem.to_string()),
        },
        () = tokio::time::sleep(limit) => Stop::Timeout,
        _ = halting.wait_for(|halt| *halt != Halt::No) => Stop::Halt,
    };
    // SIGTERM, then SIGKILL after the grace:
    // https://cloud.google.com/run/docs/container-contract#instance-shutdown
    signal(group, Signal::TERM);
    let status = match timeout(shared.config.cancel_grace, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            signal(group, Signal::KILL);
            child.wait().await
        }
    };
    let status = status.unwrap_or_else(|_| ExitStatus::from_raw(9));
    let (exit, signal) = (status.code(), status.signal());
    match stop {
        Stop::Timeout => Ended::TimedOut { exit, signal },
        Stop::Halt => Ended::Halted { exit, signal },
    }
}

/// Copies the lines of a pipe into the log.
fn read_lines(
    shared: &Arc<Shared>,
    source: &Source,
    stream: &'static str,
    pipe: Option<impl AsyncRead + Unpin + Send + 'static>,
) -> Option<JoinHandle<()>> {
    let (shared, source) = (Arc::clone(shared), source.clone());
    let mut lines = BufReader::new(pipe?);
    Some(tokio::spawn(async move {
        let mut line = Vec::new();
        while matches!(lines.read_until(b'\n', &mut line).await, Ok(length) if length > 0) {
            let text = String::from_utf8_lossy(&line);
            let text = text.strip_suffix('\n').unwrap_or(&text);
            if !text.is_empty() {
                lock(&shared.logs).write(&source, stream, text);
            }
            line.clear();
        }
    }))
}
