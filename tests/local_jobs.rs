//! Local jobs as real processes: outcomes, trees, killed callers and supervisors, logs.
#![cfg(feature = "local")]

mod local_jobs_setup;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anycloud::job_runner::{ListExecutions, LogLine, LogMode, LogOptions, LogStream, StartFailure};
use anycloud::{ErrorKind, JobOutcome, JobRequest, JobRunner as _, JobState};
use futures_util::TryStreamExt as _;
use local_jobs_setup::{Host, Place, key, with_key};

#[tokio::test]
async fn exit_codes_and_signals_are_reported_as_they_were() {
    let place = Place::new();
    let rows = [
        ("exit 0", JobOutcome::Succeeded),
        ("exit 7", JobOutcome::Failed { exit_code: Some(7) }),
        ("exit 127", JobOutcome::Failed { exit_code: Some(127) }),
        // What a shell says of a child that was killed.
        ("exit 137", JobOutcome::Killed { signal: 9 }),
        ("kill -SEGV $$", JobOutcome::Killed { signal: 11 }),
        ("kill -KILL $$", JobOutcome::Killed { signal: 9 }),
    ];
    for (script, outcome) in rows {
        assert_eq!(place.outcome(script).await, outcome, "{script}");
    }
}

#[tokio::test]
async fn what_ends_is_finished_with_its_times_and_counts() {
    let place = Place::new();
    let ended = place.ended("exit 3", JobRequest::default()).await;
    assert!(ended.created.unwrap() <= ended.started.unwrap() && ended.started.unwrap() <= ended.finished.unwrap());
    assert_eq!((ended.tasks.total, ended.tasks.failed, ended.tasks.running), (1, 1, 0));
    assert_eq!(ended.details["exit_code"], "3");
    assert_eq!(place.runner.get(&ended.id).await.unwrap(), ended);
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_failed_to_start() {
    let place = Place::new();
    let plain = place.root.join("plain.txt");
    fs::write(&plain, "no program").unwrap();
    for program in ["/nowhere/to/be/found", plain.to_str().unwrap(), "no-such-program-on-the-path"] {
        let ended = place.ended_command(&[program], JobRequest::default()).await;
        let expected = JobOutcome::FailedToStart { cause: StartFailure::Command, transient: false };
        assert_eq!(ended.outcome(), Some(&expected), "{program}");
        assert!(ended.reason.unwrap().contains(program));
    }
}

#[tokio::test]
async fn an_unknown_job_is_not_found_and_the_known_ones_are_named() {
    let place = Place::new();
    let runner = place.runner_for("exit 0");
    let unknown = anycloud::JobName::new("unknown").unwrap();
    let error = runner.run(&unknown, JobRequest::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("`job`"), "{error}");
    assert_eq!(runner.find(&unknown, &key("k"), 1).await.unwrap_err().kind(), ErrorKind::NotFound);
    for id in ["nothing", "../../etc-0123456789abcdef0123456789abcdef", "job-0123456789abcdef0123456789abcdef"] {
        let id = anycloud::ExecutionId::new(id).unwrap();
        assert_eq!(runner.get(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(runner.cancel(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
        let logs: Result<Vec<_>, _> = runner.logs(&id, LogOptions::default()).try_collect().await;
        assert_eq!(logs.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_time_out_ends_a_job_that_ignores_the_request_to_end() {
    let place = Place::new();
    let request = JobRequest { timeout: Some(Duration::from_secs(1)), ..JobRequest::default() };
    let begun = Instant::now();
    let script = format!("trap '' TERM; while :; do sleep {}; done", place.number);
    let ended = place.ended(&script, request).await;
    assert_eq!(ended.outcome(), Some(&JobOutcome::TimedOut));
    assert!(begun.elapsed() >= Duration::from_secs(2), "the grace of a second was not given");
    assert_eq!(place.survivors(), 0);
}

#[tokio::test]
async fn a_cancelled_job_may_save_its_work_and_is_cancelled_whatever_its_exit_code() {
    let place = Place::new();
    let script = "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let running = place.running(script).await;
    place.runner.cancel(&running.id).await.unwrap();
    let ended = place.wait(&running.id).await;
    assert_eq!(ended.outcome(), Some(&JobOutcome::Cancelled));
    assert_eq!(place.stdout(&ended.id).await, ["ready", "saved"]);
    // Ended is ended: a second request changes nothing.
    place.runner.cancel(&running.id).await.unwrap();
    assert_eq!(place.runner.get(&running.id).await.unwrap(), ended);
}

#[tokio::test]
async fn cancel_ends_every_process_of_the_tree_and_no_stranger() {
    let place = Place::new();
    let mut stranger = Command::new("sleep").arg("300").stdin(Stdio::null()).spawn().unwrap();
    let n = place.number;
    // In the group; in a session of its own; twice forked; without environment and deaf; deaf and forking on.
    let script = format!(
        "sleep {n} & setsid sleep {n} & (setsid sh -c 'sleep {n} & sleep {n}' &) ; \
         (env -i setsid sh -c 'trap \"\" TERM HUP; while :; do sleep {n}; done' &) ; \
         setsid sh -c 'trap \"\" TERM; while :; do sleep 0.01 & wait; done' {n} & \
         trap '' TERM; echo ready; while :; do sleep {n}; done"
    );
    let running = place.running(&script).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(place.survivors() >= 6, "{}", place.survivors());
    place.runner.cancel(&running.id).await.unwrap();
    assert_eq!(place.runner.get(&running.id).await.unwrap().state, JobState::Stopping);
    assert_eq!(place.wait(&running.id).await.outcome(), Some(&JobOutcome::Cancelled));
    assert_eq!(place.survivors(), 0);
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_request_to_end_reaches_processes_that_are_not_the_first() {
    let place = Place::new();
    // The first process passes nothing on, and only waits.
    let child = "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let script = &format!("sh -c \"{child}\" & trap 'wait; exit 1' TERM; wait; exit 1");
    let running = place.running(script).await;
    place.runner.cancel(&running.id).await.unwrap();
    assert_eq!(place.wait(&running.id).await.outcome(), Some(&JobOutcome::Cancelled));
    assert_eq!(place.stdout(&running.id).await, ["ready", "saved"]);
}

#[tokio::test]
async fn what_a_job_leaves_behind_ends_with_it() {
    let place = Place::new();
    let script = format!("setsid sleep {0} & (setsid sleep {0} &) ; exit 0", place.number);
    assert_eq!(place.outcome(&script).await, JobOutcome::Succeeded);
    assert_eq!(place.survivors(), 0);
}

#[tokio::test]
async fn the_end_of_the_caller_changes_nothing() {
    let place = Place::new();
    let host = Host::start(&place, "run", "sleep 1; echo done; exit 5");
    let id = host.id();
    host.kill();
    assert!(!place.runner.get(&id).await.unwrap().state.is_finished());
    assert_eq!(place.wait(&id).await.outcome(), Some(&JobOutcome::Failed { exit_code: Some(5) }));
    assert_eq!(place.stdout(&id).await, ["done"]);
}

#[tokio::test]
async fn a_caller_killed_at_any_moment_leaves_one_execution_or_none() {
    let place = Place::new();
    for moment in 0..12 {
        let name = format!("moment-{moment}");
        let script = format!("echo x >> {}/{name}; exit 0", place.root.display());
        let host = Host::start(&place, &name, &script);
        tokio::time::sleep(Duration::from_millis(moment * 4)).await;
        host.kill();
        // The same submission again, as a caller makes it that was restarted.
        let execution = place.runner_for(&script).run(&place.job, with_key(&name)).await.unwrap();
        assert_eq!(place.wait(&execution.id).await.outcome(), Some(&JobOutcome::Succeeded));
        assert_eq!(fs::read_to_string(place.root.join(&name)).unwrap(), "x\n", "{name}");
    }
}

#[tokio::test]
async fn a_killed_supervisor_means_lost_and_nothing_survives() {
    let place = Place::new();
    let n = place.number;
    let script = format!(
        "setsid sleep {n} & (setsid sh -c 'trap \"\" TERM; sleep {n}; true' &) ; echo ready; sleep {n}; exit 0"
    );
    let running = place.running(&script).await;
    assert!(place.kill_supervisor(&running.id));
    let ended = place.wait(&running.id).await;
    assert_eq!(ended.outcome(), Some(&JobOutcome::Lost));
    assert_eq!(place.survivors(), 0);
    // Never a success, and never run again.
    assert_eq!(place.runner.get(&running.id).await.unwrap(), ended);
    let again = place.runner_for(&script).run(&place.job, with_key("running")).await.unwrap();
    assert_eq!((again.id, again.state), (ended.id, ended.state));
}

#[tokio::test]
async fn a_supervisor_killed_at_any_moment_leaves_the_true_end_or_lost() {
    let place = Place::new();
    let mut ends = [0, 0];
    for moment in 0..16 {
        let name = format!("moment-{moment}");
        let file = place.root.join(&name);
        let runner = place.runner_for(&format!("sleep 0.04; echo x >> {}; exit 0", file.display()));
        let execution = runner.run(&place.job, with_key(&name)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(moment * 8)).await;
        place.kill_supervisor(&execution.id);
        let ended = place.wait(&execution.id).await;
        let runs = fs::read_to_string(&file).unwrap_or_default();
        match ended.outcome() {
            Some(JobOutcome::Succeeded) => assert_eq!(runs, "x\n"),
            Some(JobOutcome::Lost) => assert!(runs.len() <= 2, "{runs:?}"),
            other => panic!("{other:?}"),
        }
        ends[usize::from(ended.outcome() == Some(&JobOutcome::Lost))] += 1;
        let again = runner.run(&place.job, with_key(&name)).await.unwrap();
        assert_eq!(again, ended);
        assert_eq!(fs::read_to_string(&file).unwrap_or_default(), runs, "it ran again");
    }
    assert!(ends[1] > 0, "no supervisor was killed in time");
}

#[tokio::test]
async fn the_same_key_runs_once_and_another_request_is_a_conflict() {
    let place = Place::new();
    let runs = place.root.join("runs");
    let runner = place.runner_for(&format!("echo x >> {}; exit 0", runs.display()));
    let first = runner.run(&place.job, with_key("k")).await.unwrap();
    let second = runner.run(&place.job, with_key("k")).await.unwrap();
    assert_eq!(first.id, second.id);
    place.wait(&first.id).await;
    assert!(runner.run(&place.job, with_key("k")).await.unwrap().state.is_finished());
    let other = JobRequest { args: Some(vec!["other".into()]), ..with_key("k") };
    assert_eq!(runner.run(&place.job, other).await.unwrap_err().kind(), ErrorKind::PreconditionFailed);
    assert_eq!(fs::read_to_string(&runs).unwrap(), "x\n");
    assert_eq!(runner.find(&place.job, &key("k"), 1).await.unwrap().unwrap().id, first.id);
    assert!(runner.find(&place.job, &key("k"), 2).await.unwrap().is_none());
    let next = JobRequest { attempt: 2.try_into().unwrap(), ..with_key("k") };
    let next = runner.run(&place.job, next).await.unwrap();
    assert_ne!(next.id, first.id);
    place.wait(&next.id).await;
    assert_eq!(fs::read_to_string(&runs).unwrap(), "x\nx\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_callers_with_one_key_start_one_execution() {
    let place = Place::new();
    let runs = place.root.join("runs");
    let script = format!("echo x >> {}; exit 0", runs.display());
    let hosts: Vec<_> = (0..4).map(|_| Host::start(&place, "raced", &script)).collect();
    let racers: Vec<_> = (0..8)
        .map(|_| {
            let (runner, job) = (place.runner_for(&script), place.job.clone());
            tokio::spawn(async move { runner.run(&job, with_key("raced")).await.unwrap().id })
        })
        .collect();
    let mut ids = Vec::new();
    for racer in racers {
        ids.push(racer.await.unwrap());
    }
    ids.extend(hosts.iter().map(Host::id));
    hosts.into_iter().for_each(Host::kill);
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(place.wait(&ids[0]).await.outcome(), Some(&JobOutcome::Succeeded));
    assert_eq!(fs::read_to_string(&runs).unwrap(), "x\n");
}

#[tokio::test]
async fn the_environment_is_what_definition_request_and_runner_say_and_nothing_else() {
    let place = Place::new();
    let script = "env; ls /proc/self/fd | tr '\\n' ' '; echo; ls -l /proc/self/fd /proc/$PPID/fd; \
                  grep -l s3cr3t-c4n4r[y] /proc/[0-9]*/cmdline; exit 0";
    let host = Host::start_with(&place, "run", script, "HOST_CANARY", "must not be seen");
    let hosted = host.id();
    place.wait(&hosted).await;
    host.kill();
    let lines = place.stdout(&hosted).await;
    assert!(!lines.iter().any(|line| line.contains("CANARY")));
    // The host has left a file open for whoever it starts; neither the job nor its supervisor holds it.
    assert!(lines.iter().any(|line| line == "0 1 2 3 "), "descriptors were inherited: {lines:?}");
    assert!(lines.iter().any(|line| line.contains("log.jsonl")), "the supervisor's descriptors are seen: {lines:?}");
    assert!(!lines.iter().any(|line| line.contains("inheritable")), "{lines:?}");
    let mut request = JobRequest::with_payload(&"small").unwrap();
    request.env = [("FROM_REQUEST".to_owned(), "s3cr3t-c4n4ry".to_owned())].into();
    let ended = place.ended(script, request).await;
    let lines = place.stdout(&ended.id).await;
    let has = |line: &str| lines.iter().any(|found| found == line);
    assert!(has("FROM_REQUEST=s3cr3t-c4n4ry") && has("ANYCLOUD_TASK_INDEX=0") && has("CLOUD_PROVIDER=local"));
    assert!(has(&format!("ANYCLOUD_LOCAL_ROOT={}", place.root.display())));
    assert!(!lines.iter().any(|line| line.starts_with("CARGO") || line.contains("/cmdline")), "{lines:?}");
    assert!(has("0 1 2 3 "), "descriptors were inherited: {lines:?}");
}

#[tokio::test]
async fn output_is_kept_to_the_last_byte() {
    let place = Place::new();
    let script = "head -c 10000000 /dev/zero | tr '\\0' a | fold -w 99; echo; echo err >&2; printf '\\377end'";
    let ended = place.ended(script, JobRequest::default()).await;
    let lines = place.lines(&ended.id, LogMode::All).await;
    let whole: usize = lines.iter().filter(|line| line.text.starts_with('a')).map(|line| line.text.len()).sum();
    assert_eq!(whole, 10_000_000);
    assert_eq!(lines.iter().rev().find(|line| line.stream == LogStream::Stdout).unwrap().text, "\u{fffd}end");
    assert!(lines.iter().any(|line| line.stream == LogStream::Stderr && line.text == "err"));
    assert!(lines.is_sorted_by_key(|line| line.timestamp));
    let tail = place.lines(&ended.id, LogMode::Tail(3)).await;
    assert_eq!(tail, lines[lines.len() - 3..]);
    assert!(place.lines(&ended.id, LogMode::Tail(0)).await.is_empty());
    assert_eq!(place.lines(&ended.id, LogMode::Tail(1 << 40)).await.len(), lines.len());
}

#[tokio::test]
async fn a_line_without_end_comes_in_pieces_of_whole_characters() {
    let place = Place::new();
    let ended = place.ended("head -c 100000 /dev/zero | sed 's/\\x00/ä☃/g'", JobRequest::default()).await;
    let texts = place.stdout(&ended.id).await;
    assert!(texts.len() > 7 && texts.iter().all(|text| text.len() <= 64 * 1024));
    assert_eq!(texts.concat(), "ä☃".repeat(100_000));
}

#[tokio::test]
async fn who_follows_sees_lines_when_they_are_written_and_the_end() {
    let place = Place::new();
    let running = place.running("echo ready; sleep 1; echo second; exit 0").await;
    let begun = Instant::now();
    let mut lines = place.runner.logs(&running.id, LogOptions { mode: LogMode::Follow });
    assert_eq!(lines.try_next().await.unwrap().unwrap().text, "ready");
    assert!(begun.elapsed() < Duration::from_millis(900));
    let rest: Vec<LogLine> = lines.try_collect().await.unwrap();
    assert_eq!(rest.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["second"]);
    assert!(place.runner.get(&running.id).await.unwrap().state.is_finished());
}

#[tokio::test]
async fn many_tasks_run_side_by_side_and_the_first_failure_decides() {
    let place = Place::new();
    let all = JobRequest { tasks: 64.try_into().unwrap(), ..JobRequest::default() };
    let ended = place.ended("echo task $ANYCLOUD_TASK_INDEX", all.clone()).await;
    assert_eq!(ended.outcome(), Some(&JobOutcome::Succeeded));
    assert_eq!((ended.tasks.total, ended.tasks.succeeded), (64, 64));
    let mut seen: Vec<u32> = Vec::new();
    for line in place.lines(&ended.id, LogMode::All).await {
        assert_eq!(line.text, format!("task {}", line.task));
        seen.push(line.task);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..64).collect::<Vec<_>>());
    let two_fail = "case $ANYCLOUD_TASK_INDEX in 41) exit 41;; 2) sleep 2; exit 2;; esac; exit 0";
    let ended = place.ended(two_fail, all).await;
    assert_eq!(ended.outcome(), Some(&JobOutcome::Failed { exit_code: Some(41) }));
    assert_eq!((ended.tasks.succeeded, ended.tasks.failed), (62, 2));
    let too_many = JobRequest { tasks: 65.try_into().unwrap(), ..JobRequest::default() };
    let error = place.runner_for("exit 0").run(&place.job, too_many).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_large_payload_is_written_by_the_one_that_runs_and_not_by_a_conflict() {
    let place = Place::new();
    let payload = |byte: u8| JobRequest { payload: Some(vec![byte; 100_000].into()), ..with_key("payload") };
    let runner = place.runner_for("echo $ANYCLOUD_PAYLOAD_URI");
    let execution = runner.run(&place.job, payload(1)).await.unwrap();
    let error = runner.run(&place.job, payload(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    place.wait(&execution.id).await;
    let uri = place.stdout(&execution.id).await.concat();
    assert!(uri.starts_with("local://main/") && uri.ends_with("/payload"), "{uri}");
    assert_eq!(place.exchange.bytes(&uri), vec![1; 100_000]);
    // Nothing is left of a submission whose payload could not be written.
    place.exchange.refuse();
    let refused = JobRequest { idempotency_key: Some(key("refused")), ..payload(3) };
    assert_eq!(runner.run(&place.job, refused).await.unwrap_err().kind(), ErrorKind::ResourceExhausted);
    assert!(runner.find(&place.job, &key("refused"), 1).await.unwrap().is_none());
}

#[tokio::test]
async fn executions_are_listed_newest_first_and_filtered() {
    let place = Place::new();
    let labelled = JobRequest { labels: [("team".to_owned(), "a".to_owned())].into(), ..JobRequest::default() };
    let first = place.ended("exit 0", labelled).await;
    let second = place.ended("exit 0", JobRequest::default()).await;
    let third = place.running("echo ready; sleep 30").await;
    let list = async |options: ListExecutions| -> Vec<_> {
        let listed: Vec<_> = place.runner.list(options).try_collect().await.unwrap();
        listed.into_iter().map(|execution| execution.id).collect()
    };
    let all = ListExecutions::default();
    assert_eq!(list(all.clone()).await, [third.id.clone(), second.id.clone(), first.id.clone()]);
    assert_eq!(list(ListExecutions { active_only: true, ..all.clone() }).await, std::slice::from_ref(&third.id));
    assert_eq!(
        list(ListExecutions { labels: first.labels.clone(), ..all.clone() }).await,
        std::slice::from_ref(&first.id)
    );
    assert_eq!(list(ListExecutions { since: third.created, ..all.clone() }).await, std::slice::from_ref(&third.id));
    let other = anycloud::JobName::new("other").unwrap();
    assert!(list(ListExecutions { job: Some(other), ..all }).await.is_empty());
    let many = place.runner.get_many(&[first.id.clone(), third.id.clone()]).await;
    assert_eq!(many.into_iter().map(|one| one.unwrap().id).collect::<Vec<_>>(), [first.id, third.id.clone()]);
    place.runner.cancel(&third.id).await.unwrap();
    assert_eq!(place.wait(&third.id).await.outcome(), Some(&JobOutcome::Cancelled));
}

#[tokio::test]
async fn a_supervisor_that_is_none_is_told_and_leaves_nothing() {
    let place = Place::new();
    for (program, kind) in [("/nowhere/supervisor", ErrorKind::InvalidConfig), ("/bin/true", ErrorKind::Internal)] {
        let mut config = place.config("exit 0");
        config.supervisor = Some(program.into());
        let runner = place.runner_with(&config);
        let error = runner.run(&place.job, with_key("none")).await.unwrap_err();
        assert_eq!((error.kind(), error.subject()), (kind, program));
        assert!(runner.find(&place.job, &key("none"), 1).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_job_that_another_job_starts_is_no_part_of_it() {
    let place = Place::new();
    // The outer job starts the inner one through the library, and ends.
    let script = format!(
        "LJ_HOST=inner LJ_ROOT={} LJ_ANSWER={} LJ_SCRIPT='sleep 1; exit 9' \
         {} local_jobs_setup::host_process --exact >/dev/null 2>&1 & \
         while ! [ -s {1} ]; do sleep 0.02; done; exit 0",
        place.root.display(),
        place.root.join("inner").display(),
        std::env::current_exe().unwrap().display(),
    );
    assert_eq!(place.outcome(&script).await, JobOutcome::Succeeded);
    let inner = place.runner.find(&place.job, &key("inner"), 1).await.unwrap().unwrap();
    assert_eq!(place.wait(&inner.id).await.outcome(), Some(&JobOutcome::Failed { exit_code: Some(9) }));
}

#[tokio::test]
async fn files_of_executions_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let ended = place.ended("echo line", JobRequest::default()).await;
    let directory = place.directory(&ended.id);
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
        assert!(!entry.file_name().to_string_lossy().starts_with('.'));
    }
}
