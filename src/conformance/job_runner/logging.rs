use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::super::{Case, cases};
use super::Fixture;
use crate::JobExecution;
use crate::job_runner::{LogLine, LogMode, LogOptions, LogStream};

pub(super) fn cases() -> Vec<Case<Fixture>> {
    cases![
        logs_are_complete_to_the_last_byte,
        the_tail_is_the_last_lines,
        following_sees_lines_as_they_are_written_and_ends_with_the_job,
        lines_tell_where_they_were_written_if_the_runner_says_so,
        a_job_that_wrote_nothing_has_no_lines,
    ]
}

pub(super) async fn lines(fixture: &Fixture, execution: &JobExecution, mode: LogMode) -> Vec<String> {
    let lines: Vec<LogLine> =
        fixture.runner.logs(&execution.id, LogOptions { mode }).try_collect().await.expect("the logs can be read");
    lines.into_iter().map(|line| line.text).collect()
}

/// Reads until so many lines are there: some platforms need a moment to take them in.
pub(super) async fn settled(fixture: &Fixture, execution: &JobExecution, mode: LogMode, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..100 {
        seen = lines(fixture, execution, mode).await;
        if seen.len() >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    seen
}

fn expected(count: usize) -> Vec<String> {
    let mut lines: Vec<String> = (0..count).map(|number| format!("line {number}")).collect();
    lines.push("last words".to_owned());
    lines
}

async fn logs_are_complete_to_the_last_byte(fixture: Fixture) {
    let execution = fixture.finish(&["print", "500"]).await;
    assert_eq!(settled(&fixture, &execution, LogMode::All, 501).await, expected(500));
}

async fn the_tail_is_the_last_lines(fixture: Fixture) {
    let execution = fixture.finish(&["print", "20"]).await;
    settled(&fixture, &execution, LogMode::All, 21).await;
    assert_eq!(lines(&fixture, &execution, LogMode::Tail(3)).await, expected(20)[18..]);
    assert_eq!(lines(&fixture, &execution, LogMode::Tail(100)).await, expected(20));
}

async fn following_sees_lines_as_they_are_written_and_ends_with_the_job(fixture: Fixture) {
    let execution = fixture.run(&["tick", "15"]).await;
    let mut following = fixture.runner.logs(&execution.id, LogOptions { mode: LogMode::Follow });
    let mut seen = Vec::new();
    let mut first = None;
    let read = async {
        while let Some(line) = following.next().await {
            first.get_or_insert_with(Instant::now);
            seen.push(line.expect("the logs can be followed").text);
        }
    };
    tokio::time::timeout(Duration::from_secs(120), read).await.expect("following ends after the job");
    assert_eq!(seen, (0..15).map(|number| format!("tick {number}")).collect::<Vec<_>>());
    // The job writes for three seconds: the first line came well before the last.
    assert!(first.unwrap().elapsed() > Duration::from_millis(800), "the lines came all at once");
    assert!(fixture.runner.get(&execution.id).await.unwrap().state.is_finished());
}

async fn a_job_that_wrote_nothing_has_no_lines(fixture: Fixture) {
    let execution = fixture.finish(&["exit", "0"]).await;
    assert!(lines(&fixture, &execution, LogMode::All).await.is_empty());
    assert!(lines(&fixture, &execution, LogMode::Follow).await.is_empty());
}

async fn lines_tell_where_they_were_written_if_the_runner_says_so(fixture: Fixture) {
    let execution = fixture.finish(&["both"]).await;
    settled(&fixture, &execution, LogMode::All, 2).await;
    let logs = fixture.runner.logs(&execution.id, LogOptions { mode: LogMode::All });
    let mut lines: Vec<(String, LogStream)> =
        logs.map_ok(|line| (line.text, line.stream)).try_collect().await.expect("the logs can be read");
    lines.sort_by(|one, other| one.0.cmp(&other.0));
    let told = |stream| if fixture.runner.capabilities().log_streams { stream } else { LogStream::Unknown };
    let expected = [("to stderr", told(LogStream::Stderr)), ("to stdout", told(LogStream::Stdout))];
    assert_eq!(lines, expected.map(|(text, stream)| (text.to_owned(), stream)));
}
