//! Lane E: no secret leaves through a log, an error, a debug form, a panic, a file, an environment or a command line,
//! whatever fails, at the finest level of every crate.
//!
//! Each search happens in a process of its own, which gets canaries as credentials and has its output read: one for
//! lane A, one for the local provider, and one for each kind of credentials.

mod calls;
mod canary;
mod identity;
mod local;
mod matrix;
mod memory;
mod search;
mod server;
mod services;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anycloud::{Error, ErrorKind};
use libtest_mimic::Failed;
use serde_json::Value;

use canary::{ACCESS_KEY, FORMS, SECRET_KEY, SESSION_TOKEN};
use search::{PLACES, Place};

use crate::{RUNTIME, histories};

/// Tells a process what it is to do while it is searched.
const CHILD: &str = "ANYCLOUD_TEST_CANARIES";
const REPORT: &str = "report of a searched process: ";

pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// The process that is searched.
pub(crate) fn child() {
    let task = std::env::var(CHILD).expect("it is set");
    if task == "memory" {
        return memory::child();
    }
    search::begin();
    if task != "matrix" {
        search::keep_everything();
    }
    let learned = match task.as_str() {
        "matrix" => matrix::child(),
        "local" => RUNTIME.block_on(local::child()),
        _ => RUNTIME.block_on(identity::child()),
    };
    search::search(Place::CommandLine, std::env::args().collect::<Vec<_>>().join(" "));
    let hits = search::hits();
    // Only where much else has been looked for, as each takes a moment.
    let planted = (task == "local").then(plant);
    println!("{REPORT}{}", search::report(&hits, planted, learned));
}

/// Lets every form of every secret out at every place, and counts how many are found.
fn plant() -> usize {
    let directory = histories::directory("canaries-planted");
    std::fs::create_dir_all(&directory).expect("a directory");
    for (number, form) in FORMS.iter().enumerate() {
        let text = String::from_utf8_lossy(&form.bytes);
        tracing::trace!(planted = %text, "a leak that must be found");
        let cause = std::io::Error::other(text.clone().into_owned());
        search::inspect(&Error::new(ErrorKind::Internal, "plant", "canary", "planted").with_source(cause));
        search::search(Place::DebugForm, format!("Planted({text})"));
        assert!(std::panic::catch_unwind(|| panic!("planted: {text}")).is_err());
        std::fs::write(directory.join(number.to_string()), text.as_bytes()).expect("a file");
        local::plant(&text);
        search::search(Place::RequestLog, format!("planted: {text}"));
    }
    search::search_files(&directory, &|_| Vec::new());
    let _ = std::fs::remove_dir_all(directory);
    let found = search::hits();
    let is_found = |place: Place, form: &canary::Form| found.iter().any(|hit| hit.is(place, form));
    PLACES.iter().map(|place| FORMS.iter().filter(|form| is_found(*place, form)).count()).sum()
}

/// What a searched process has to come up with.
struct Expected {
    errors: u64,
    log_bytes: u64,
    learned: u64,
}

fn start(task: &str, environment: &[(&'static str, String)]) -> Command {
    let directory = histories::directory(&format!("canaries-home-{task}"));
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.env_clear().env(CHILD, task).envs(environment.iter().cloned()).stdin(Stdio::null());
    for name in ["PATH", "ANYCLOUD_TEST_CELL", "LD_LIBRARY_PATH"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    // Temporary files of everybody go where they are searched.
    command.env("HOME", &directory).env("TMPDIR", &directory).current_dir(&directory);
    command
}

fn home(task: &str) -> PathBuf {
    let directory = histories::directory(&format!("canaries-home-{task}"));
    std::fs::create_dir_all(&directory).expect("a directory");
    directory
}

/// Runs a searched process, and says what is wrong with what it found.
fn judge(task: &str, environment: &[(&'static str, String)], expected: &Expected) -> Result<u64, String> {
    let begun = Instant::now();
    let output = start(task, environment).output().map_err(|error| format!("{task}: {error}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let leaks: Vec<_> = FORMS
        .iter()
        .filter(|form| [&output.stdout, &output.stderr].iter().any(|text| form.is_in(text)))
        .map(|form| format!("{}, {}", form.what, form.name))
        .collect();
    if !leaks.is_empty() {
        return Err(format!("{task}: its output holds {leaks:?}"));
    }
    let report = out.lines().find_map(|line| line.strip_prefix(REPORT)).map(serde_json::from_str::<Value>);
    let Some(Ok(report)) = report.filter(|_| output.status.success()) else {
        return Err(format!("{task}: the searched process failed: {out}{err}"));
    };
    let looked = |place: Place, at: usize| report["looked"][format!("{place:?}")][at].as_u64().unwrap_or_default();
    let all: u64 = PLACES.iter().map(|place| looked(*place, 1)).sum();
    // Every error is looked at twice.
    let (errors, log_bytes) = (looked(Place::Error, 0) / 2, looked(Place::Log, 1));
    let learned = report["learned"].as_u64().unwrap_or_default();
    println!(
        "E, {task}: {all} bytes searched, {log_bytes} of them logged, {errors} errors, {} panics, {learned} secrets \
         learned of afterwards, {} hits, {:.1} s",
        looked(Place::Panic, 0),
        report["hits"],
        begun.elapsed().as_secs_f32()
    );
    if report["hits"] != 0 {
        let shown = report["shown"].as_array().cloned().unwrap_or_default();
        let shown: Vec<_> = shown.iter().filter_map(Value::as_str).collect();
        return Err(format!("{task}: {} leaks\n{}", report["hits"], shown.join("\n")));
    }
    if errors < expected.errors || log_bytes < expected.log_bytes || learned < expected.learned {
        return Err(format!("{task}: too little was looked through"));
    }
    let most = FORMS.len() * PLACES.len();
    match report["planted"].as_u64() {
        Some(found) if found < most as u64 => {
            Err(format!("the search is blind: {found} of {most} planted leaks found"))
        }
        Some(found) => {
            println!("E, planted leaks: {found} of {most} found, {} forms in {} places", FORMS.len(), PLACES.len());
            Ok(all)
        }
        None => Ok(all),
    }
}

/// A kind of credentials, with the services that it is for.
fn judge_kind(kind: identity::Kind) -> Result<u64, String> {
    let server = identity::server();
    let task = format!("{kind:?}");
    let environment = kind.environment(&server.url, &home(&task));
    let bytes = judge(&task, &environment, &Expected { errors: 60, log_bytes: 50_000, learned: kind.makes() });
    let _ = std::fs::remove_dir_all(home(&task));
    let bytes = bytes?;
    let used = server.requests().iter().filter(|request| request.echo().contains(kind.bears())).count();
    println!("E, {task}: {used} of {} requests bear the credentials", server.requests().len());
    if used < 20 { Err(format!("{task}: the credentials are not used")) } else { Ok(bytes) }
}

/// Lane A, with canaries as the credentials and as the values, and everything else beside it.
pub(crate) fn run() -> Result<(), Failed> {
    let matrix = std::thread::spawn(|| {
        let keys = [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_SESSION_TOKEN", SESSION_TOKEN.to_owned()),
        ];
        home("matrix");
        let judged = judge("matrix", &keys, &Expected { errors: 250, log_bytes: 3_000_000, learned: 0 });
        let _ = std::fs::remove_dir_all(home("matrix"));
        judged
    });
    home("local");
    let keys = [("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()), ("AWS_SESSION_TOKEN", SESSION_TOKEN.to_owned())];
    let mut judged = vec![judge("local", &keys, &Expected { errors: 40, log_bytes: 10_000, learned: 3 })];
    let _ = std::fs::remove_dir_all(home("local"));
    // Some wait more than they work.
    judged.extend(std::thread::scope(|scope| {
        let judge_some = |kinds: &'static [identity::Kind]| {
            scope.spawn(move || kinds.iter().map(|kind| judge_kind(*kind)).collect::<Vec<_>>())
        };
        let judging: Vec<_> = identity::KINDS.chunks(4).map(judge_some).collect();
        let ended = judging.into_iter().map(|some| some.join().unwrap_or_else(|_| vec![Err("a panic".to_owned())]));
        ended.flatten().collect::<Vec<_>>()
    }));
    judged.push(matrix.join().unwrap_or_else(|_| Err("the thread panicked".to_owned())));
    let problems: Vec<_> = judged.iter().filter_map(|judged| judged.as_ref().err().cloned()).collect();
    let bytes: u64 = judged.iter().flatten().sum();
    println!("E: {} processes, {bytes} bytes searched for {} forms", judged.len(), FORMS.len());
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n\n").into()) }
}

/// Secrets are wiped from memory.
pub(crate) fn run_memory() -> Result<(), Failed> {
    home("memory");
    let output = start("memory", &[]).output()?;
    let _ = std::fs::remove_dir_all(home("memory"));
    let out = String::from_utf8_lossy(&output.stdout);
    print!("{out}");
    let counts = out.lines().filter_map(|line| line.strip_prefix("memory: ")).map(|line| {
        let numbers: Vec<usize> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        (line, numbers)
    });
    let mut lines = 0;
    for (line, numbers) in counts {
        let wiped = !line.contains("not wiped");
        lines += 1;
        let &[before, after] = &numbers[..] else { return Err(line.to_owned().into()) };
        if before == 0 || (after == 0) != wiped {
            return Err(line.to_owned().into());
        }
    }
    if !output.status.success() || lines != 6 {
        return Err(format!("{lines} lines: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}
