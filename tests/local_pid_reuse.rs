//! Process ids of a dead supervisor and its task, given to strangers: whoever cancels the execution hurts neither.
//!
//! Runs in a PID namespace, where the next id can be chosen. Without the right to make one it is skipped, which with
//! `ANYCLOUD_TEST_REQUIRE_ALL` set is a failure.
#![allow(clippy::disallowed_methods, reason = "the environment says whether trials may be skipped")]
#![allow(clippy::print_stdout, reason = "trials print their counts")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anycloud::config::LocalJob;
use anycloud::local::{FileStore, ProcessRunner};
use anycloud::{Config, JobName, JobRequest, JobRunner as _};
use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

const ROUNDS: usize = 200;
const INSIDE: &str = "inside-a-namespace";

fn unshare(command: &[&str]) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]).args(command).stdin(Stdio::null());
    unshare
}

/// Whether the next process id can be chosen.
fn possible() -> Result<(), String> {
    match unshare(&["sh", "-c", "echo 500 > /proc/sys/kernel/ns_last_pid"]).output() {
        Err(error) => Err(format!("unshare: {error}")),
        Ok(output) if !output.status.success() => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Ok(_) => Ok(()),
    }
}

/// A process that has this id, if nothing came in between.
fn stranger(pid: i32) -> Option<Child> {
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    if i32::try_from(child.id()) == Ok(pid) {
        return Some(child);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// Waits for the dead; this process is the first of its namespace, so all of them are its own.
fn reap_until_gone(pids: &[i32]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while pids.iter().any(|pid| fs::metadata(format!("/proc/{pid}")).is_ok()) {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        assert!(Instant::now() < deadline, "{pids:?} do not end");
        std::thread::sleep(Duration::from_millis(1));
    }
}

async fn round(runner: &ProcessRunner, root: &std::path::Path, job: &JobName) -> bool {
    let told = root.join("pid");
    let _ = fs::remove_file(&told);
    let execution = runner.run(job, JobRequest::default()).await.unwrap();
    let state = root.join("jobs/job").join(execution.id.as_str()).join("state.json");
    let task: i32 = loop {
        match fs::read_to_string(&told).ok().and_then(|text| text.trim().parse().ok()) {
            Some(pid) => break pid,
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    let record: serde_json::Value = serde_json::from_slice(&fs::read(state).unwrap()).unwrap();
    let supervisor = i32::try_from(record["supervisor"].as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(supervisor).unwrap(), Signal::KILL).unwrap();
    reap_until_gone(&[supervisor, task]);
    let mut strangers: Vec<Child> = [supervisor, task].into_iter().filter_map(stranger).collect();
    let forced = strangers.len() == 2;
    runner.cancel(&execution.id).await.unwrap();
    assert!(runner.get(&execution.id).await.unwrap().state.is_finished());
    for stranger in &mut strangers {
        assert_eq!(stranger.try_wait().unwrap(), None, "a stranger was ended");
        let stat = fs::read_to_string(format!("/proc/{}/stat", stranger.id())).unwrap();
        assert!(!stat.contains(") T "), "a stranger was stopped");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
    forced
}

fn inside() {
    let root = std::env::temp_dir().join(format!("anycloud-pids-{}", anycloud::WriteId::random()));
    let job = JobName::new("job").unwrap();
    let script = format!("echo $$ > {0}/told && mv {0}/told {0}/pid && exec sleep 1000", root.display());
    let command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
    let definition = LocalJob { command, grace_seconds: Some(1), ..LocalJob::default() };
    let config = Config::local(&root).with_local_job(job.clone(), definition).local;
    let runner = ProcessRunner::new(&config, Arc::new(FileStore::new(&root, "main")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut forced = 0;
    for _ in 0..ROUNDS {
        forced += usize::from(runtime.block_on(round(&runner, &root, &job)));
    }
    fs::remove_dir_all(root).unwrap();
    println!("{ROUNDS} executions cancelled, in {forced} of them two strangers had the process ids; none was hurt");
    assert!(forced > ROUNDS / 2, "the ids were hardly ever given again");
}

fn outside() -> Result<(), Failed> {
    let own = std::env::current_exe()?;
    let output = unshare(&[]).arg(own).arg(INSIDE).output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

fn main() {
    anycloud::local::supervise_if_asked();
    if std::env::args().nth(1).as_deref() == Some(INSIDE) {
        return inside();
    }
    const NAME: &str = "cancelling_hurts_no_stranger_that_got_a_process_id";
    let trial = match possible() {
        Ok(()) => Trial::test(NAME, outside),
        Err(reason) if std::env::var_os("ANYCLOUD_TEST_REQUIRE_ALL").is_some() => {
            Trial::test(NAME, move || Err(reason.into()))
        }
        Err(reason) => {
            println!("{NAME}: skipped, {reason}");
            Trial::test(NAME, || Ok(())).with_ignored_flag(true)
        }
    };
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit();
}
