use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::JobContext;

/// What the jobs of the suite do, as their first argument says:
///
/// - `exit CODE`: ends with this code.
/// - `sleep`: prints `ready` and sleeps until it is ended.
/// - `trap`: the same, but ends with 0 when asked to end.
/// - `ignore`: the same, but ignores the request to end.
/// - `save MILLISECONDS`: the same, but works for so long when asked to end, prints `saved` and ends with 0.
/// - `both`: prints a line to each of its outputs.
/// - `print COUNT`: prints so many lines, and one without a line end.
/// - `tick COUNT`: prints a line every 200 ms.
/// - `report NAME…`: hands over its payload's length and checksum, its place among the tasks, and these variables.
///
/// # Panics
/// When asked for anything else.
#[must_use]
pub fn main(args: &[String]) -> ExitCode {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    match args[..] {
        ["exit", code] => ExitCode::from(code.parse::<u8>().expect("an exit code")),
        ["sleep"] => {
            say("ready");
            runtime.block_on(async { tokio::time::sleep(Duration::from_secs(600)).await });
            ExitCode::SUCCESS
        }
        ["trap"] => runtime.block_on(async {
            let mut signal = term();
            say("ready");
            signal.recv().await;
            ExitCode::SUCCESS
        }),
        ["save", milliseconds] => runtime.block_on(async {
            let work = Duration::from_millis(milliseconds.parse().expect("a number of milliseconds"));
            let mut signal = term();
            say("ready");
            signal.recv().await;
            tokio::time::sleep(work).await;
            say("saved");
            ExitCode::SUCCESS
        }),
        ["both"] => {
            say("to stdout");
            let _ = writeln!(std::io::stderr(), "to stderr");
            ExitCode::SUCCESS
        }
        ["ignore"] => runtime.block_on(async {
            let mut signal = term();
            say("ready");
            loop {
                signal.recv().await;
            }
        }),
        ["print", count] => {
            for number in 0..count.parse::<u32>().expect("a number of lines") {
                say(&format!("line {number}"));
            }
            let _ = std::io::stdout().write_all(b"last words").and_then(|()| std::io::stdout().flush());
            ExitCode::SUCCESS
        }
        ["tick", count] => {
            for number in 0..count.parse::<u32>().expect("a number of lines") {
                say(&format!("tick {number}"));
                std::thread::sleep(Duration::from_millis(200));
            }
            ExitCode::SUCCESS
        }
        ["report", ref names @ ..] => runtime.block_on(report(names)),
        _ => panic!("unknown arguments {args:?}"),
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn term() -> tokio::signal::unix::Signal {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("signals can be handled")
}

async fn report(names: &[&str]) -> ExitCode {
    let context = JobContext::from_env().expect("the job was started by a runner");
    let payload = context.payload_bytes().await.expect("the payload arrives");
    let variables: serde_json::Map<_, _> =
        names.iter().map(|name| ((*name).to_owned(), json!(crate::config::process_variable(name)))).collect();
    let result = json!({
        "payload_bytes": payload.len(),
        "payload_crc": crate::object_store::Crc32c::of(&payload).0,
        "task": context.task_index(),
        "tasks": context.task_count(),
        "attempt": context.attempt(),
        "variables": variables,
    });
    context.finish(&result).await.expect("the result is handed over");
    ExitCode::SUCCESS
}
