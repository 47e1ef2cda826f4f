//! A process that does one operation while strace watches the one thread that touches files.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::operation::{Operation, word};
use crate::scratch::Scratch;

/// The first argument of that process.
pub(crate) const ARGUMENT: &str = "perform-traced";

/// Every call on files; a question mark stands before those that not every processor has. `close` is not among them:
/// whatever it returns, the descriptor is gone.
const CALLS: &str = "?open,openat,openat2,read,pread64,readv,preadv,write,pwrite64,writev,pwritev,lseek,fsync,fdatasync,\
    ftruncate,fallocate,fchmod,?chmod,fchmodat,flock,?rename,renameat,renameat2,?link,linkat,?unlink,unlinkat,?mkdir,\
    mkdirat,?rmdir,?stat,?lstat,fstat,?newfstatat,statx,?access,faccessat,?getdents,getdents64,copy_file_range,sendfile";

/// Whether there is an strace that may trace.
pub(crate) fn possible() -> Result<(), String> {
    let tried = Command::new("strace").args(["-qq", "-e", "inject=fsync:error=EIO", "true"]).output();
    match tried {
        Err(error) => Err(format!("strace: {error}")),
        Ok(output) if !output.status.success() => {
            Err(format!("strace: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Ok(_) => Ok(()),
    }
}

/// The body of the process: says which thread will touch files, waits for a line, does it, says how it ended.
pub(crate) fn perform(operation: &str, root: &Path) {
    // strace is no ancestor of this process.
    let _ = rustix::process::set_ptracer(rustix::process::PTracer::Any);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
    let worker = runtime.block_on(async {
        tokio::task::spawn_blocking(|| std::fs::read_link("/proc/thread-self").unwrap()).await.unwrap()
    });
    say(worker.file_name().unwrap().to_str().unwrap());
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let result = runtime.block_on(Operation::named(operation).perform(root));
    say(&word(&result));
}

fn say(text: &str) {
    println!("{text}");
    std::io::stdout().flush().unwrap();
}

/// One call that the operation makes on the files below its root.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// The how-manieth call of this name the thread makes, from 1.
    pub(crate) number: usize,
}

/// What came of an operation.
#[derive(Debug)]
pub(crate) struct Run {
    /// How it ended, in the words of [`word`]; `None` if the process did not live to say.
    pub(crate) verdict: Option<String>,
    log: String,
}

impl Run {
    /// Whether the fault was injected.
    pub(crate) fn was_hit(&self) -> bool {
        self.log.contains("(INJECTED)") || self.log.contains("+++ killed by SIGKILL +++")
    }
}

/// Does the operation with the n-th call of a name changed as strace's `inject` says, such as `error=EIO`.
pub(crate) fn inject(operation: Operation, root: &Scratch, call: &Call, fault: &str) -> Run {
    let expression = format!("inject={}:{fault}:when={}", call.name, call.number);
    traced(operation, root, &["-e", &format!("trace={}", call.name), "-e", &expression])
}

/// Does the operation, and returns the calls that it made on files below the root.
pub(crate) fn record(operation: Operation, root: &Scratch) -> (Run, Vec<Call>) {
    let run = traced(operation, root, &["-y", "-s", "4096", "-e", &format!("trace={CALLS}")]);
    let place = root.0.display().to_string();
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    let mut calls = Vec::new();
    for line in run.log.lines() {
        let Some((name, arguments)) = line.split_once('(') else { continue };
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let count = counts.entry(name).or_default();
        *count += 1;
        if arguments.contains(&place) {
            calls.push(Call { name: name.to_owned(), number: *count });
        }
    }
    (run, calls)
}

struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.strip_suffix('\n').map(str::to_owned)
    }
}

fn traced(operation: Operation, root: &Scratch, expressions: &[&str]) -> Run {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([ARGUMENT, &format!("{operation:?}")])
        .arg(&root.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut process = Process { child, input, output };
    let worker: u32 = process.line().unwrap().parse().unwrap();
    // Not through a pipe, which nobody reads until the process has ended.
    let log = root.0.with_extension("calls");
    let mut strace = Command::new("strace")
        .args(["-p", &worker.to_string(), "-o"])
        .arg(&log)
        .args(expressions)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut attached = String::new();
    BufReader::new(strace.stderr.as_mut().unwrap()).read_line(&mut attached).unwrap();
    assert!(attached.contains("attached"), "{attached}");
    // A process that is killed cannot read.
    let _ = process.input.write_all(b"go\n");
    let verdict = process.line();
    let status = process.child.wait().unwrap();
    assert!(status.success() || verdict.is_none(), "{operation:?} ended with {status}");
    strace.wait().unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    Run { verdict, log: text }
}
