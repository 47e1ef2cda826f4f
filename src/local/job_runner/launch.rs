//! Finding the supervisor program, and starting it so that it needs nobody.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::directory::Directory;
use super::processes::MARKER;
use super::supervisor::{ALREADY, ARGUMENT, STARTED, STARTING, can_be_this_program};
use crate::config::process_variable;
use crate::{Error, ErrorKind, Result};

const PROGRAM: &str = "anycloud-supervisor";

/// How long a supervisor may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// What every process gets of the caller's environment.
pub(super) fn base_environment() -> BTreeMap<String, String> {
    let mut base: BTreeMap<_, _> = ["PATH", "HOME", "LANG", "TMPDIR"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), process_variable(name)?)))
        .collect();
    base.entry("PATH".to_owned()).or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
    base
}

/// The program to start as supervisor.
///
/// # Errors
/// `InvalidConfig` that says what to do.
pub(super) fn program(configured: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = configured {
        if path.is_file() {
            return Ok(super::absolute(path));
        }
        let message = "the supervisor program (ANYCLOUD_LOCAL_SUPERVISOR) does not exist";
        return Err(Error::new(ErrorKind::InvalidConfig, "job_runner.run", path.display(), message));
    }
    if can_be_this_program() {
        // Not by its path: the file may have been replaced since this process was started from it.
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    let own = std::env::current_exe().unwrap_or_default();
    // Tests and examples lie one directory below the programs of their package.
    let beside = own.ancestors().skip(1).take(2).map(Path::to_owned);
    let path = process_variable("PATH").unwrap_or_default();
    let mut places = beside.chain(std::env::split_paths(&path)).filter(|place| place.is_absolute());
    places.find_map(|place| Some(place.join(PROGRAM)).filter(|program| program.is_file())).ok_or_else(|| {
        let message = "not found beside this program or on PATH. Call `anycloud::local::supervise_if_asked()` first \
             thing in `main`, or install the program, or set ANYCLOUD_LOCAL_SUPERVISOR to its path";
        Error::new(ErrorKind::InvalidConfig, "job_runner.run", PROGRAM, message)
    })
}

/// Starts a supervisor for an execution and returns when it has taken over, or found that another one has.
///
/// What is started first starts the supervisor proper and ends: nothing remains that the caller would have to wait
/// for, and no end of the caller's reaches the supervisor.
pub(super) fn start(program: &Path, directory: &Directory, marker: &str) -> Result<()> {
    let fail = |kind, message: String| Error::new(kind, "job_runner.run", program.display(), message);
    let mut child = Command::new(program)
        .arg(ARGUMENT)
        .arg(STARTING)
        .arg(directory.root())
        .arg(directory.id().as_str())
        .env_clear()
        .envs(base_environment())
        .env(MARKER, marker)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::AGAIN | rustix::io::Errno::NOMEM) => {
                fail(ErrorKind::ResourceExhausted, "no process could be started".to_owned()).with_source(error)
            }
            _ => fail(ErrorKind::InvalidConfig, "the supervisor could not be executed".to_owned()).with_source(error),
        })?;
    let answer = answer(&mut child);
    finish(&mut child);
    match answer.trim() {
        STARTED | ALREADY => Ok(()),
        "" => Err(fail(ErrorKind::Internal, "the supervisor did not answer".to_owned())),
        text => {
            let shown: String = text.chars().take(500).flat_map(char::escape_debug).collect();
            Err(fail(ErrorKind::Internal, format!("the supervisor answered: {shown}")))
        }
    }
}

fn answer(child: &mut Child) -> String {
    let Some(mut output) = child.stdout.take() else { return String::new() };
    let limit = Timespec { tv_sec: ANSWER_LIMIT.as_secs().cast_signed(), tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&limit));
    let mut piece = [0; 2048];
    match ready {
        Ok(1..) => {
            let count = output.read(&mut piece).unwrap_or(0);
            String::from_utf8_lossy(&piece[..count]).into_owned()
        }
        _ => String::new(),
    }
}

/// Waits for the first stage, which ends at once unless it is no supervisor at all.
fn finish(child: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(2);
    // A host that reaps every child itself makes this fail; then there is nothing left to wait for.
    while let Ok(None) = child.try_wait() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
