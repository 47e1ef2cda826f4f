//! Directories that are swapped for symbolic links to somewhere else.

use std::fs;

use futures_util::TryStreamExt as _;

use super::*;
use crate::JobOutcome;
use crate::job_runner::LogMode;
use crate::local::crash_states::Unsynced;
use crate::local::swapping::Swapping;

/// All files below a directory, with their content.
fn content(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(content(&entry.path())),
            false => drop(files.insert(entry.path(), fs::read(entry.path()).unwrap())),
        }
    }
    files
}

async fn finish(runner: &ProcessRunner, supervisors: &Supervisors, line: &str, outcome: JobOutcome) -> ExecutionId {
    let id = runner.run(&job(), request("kept")).await.unwrap().id;
    let Charge { lock, mut journal, .. } = supervisors.charge(&id).unwrap();
    journal.log.line(0, 'o', line.as_bytes());
    journal.finish(counts(0, 1), outcome, None, BTreeMap::new());
    drop(lock);
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_an_execution_is_read_or_written_outside_while_directories_are_swapped_for_links() {
    let roots = [(); 2].map(|()| std::env::temp_dir().join(format!("anycloud-jobs-{}", random::uuid())));
    let supervisors = Arc::new(Supervisors::default());
    let start = {
        let supervisors = Arc::clone(&supervisors);
        move |directory: &Directory| supervisors.take_over(directory).map(drop)
    };
    let [inside, outside] = &roots;
    let runner_in = |root: &Path| runner(root, Arc::new(Unsynced), start.clone());
    let runner = runner_in(inside);
    // The same execution twice, with other ends.
    let id = finish(&runner, &supervisors, "inside", JobOutcome::Succeeded).await;
    let other = finish(&runner_in(outside), &supervisors, "outside", JobOutcome::Failed { exit_code: Some(1) }).await;
    assert_eq!(id, other);
    let before = content(outside);
    let places = ["jobs".to_owned(), "jobs/job".to_owned(), format!("jobs/job/{id}")];
    let swapping = Swapping::start(places.map(|place| (inside.join(&place), outside.join(&place))).into());
    let (mut seen, mut begun) = (0, 0);
    for round in 0..600 {
        if let Ok(Some(found)) = runner.find(&job(), &request("kept").idempotency_key.unwrap(), 1).await {
            assert_eq!(found.outcome(), Some(&JobOutcome::Succeeded));
            seen += 1;
        }
        let lines = runner.logs(&id, LogOptions { mode: LogMode::All }).try_collect::<Vec<_>>().await;
        assert!(lines.into_iter().flatten().all(|line| line.text == "inside"));
        if let Ok(new) = runner.run(&job(), request(&format!("new-{round}"))).await {
            begun += 1;
            let _ = runner.cancel(&new.id).await;
            if let Some(Charge { mut journal, .. }) = supervisors.charge(&new.id) {
                journal.note(counts(1, 0));
            }
        }
        if round % 50 == 0 {
            let _ = runner.list(ListExecutions::default()).try_collect::<Vec<_>>().await;
        }
    }
    let swaps = swapping.stop();
    assert!(swaps > 100 && seen > 10 && begun > 10, "{swaps} swaps, seen {seen} times, {begun} begun");
    assert_eq!(content(outside), before);
    fs::rename(inside.join("jobs/job"), inside.join("aside")).unwrap();
    std::os::unix::fs::symlink(outside.join("jobs/job"), inside.join("jobs/job")).unwrap();
    for error in [
        runner.get(&id).await.unwrap_err(),
        runner.cancel(&id).await.unwrap_err(),
        runner.run(&job(), request("new")).await.unwrap_err(),
        runner.list(ListExecutions::default()).try_collect::<Vec<_>>().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    }
    assert_eq!(content(outside), before);
    for root in roots {
        fs::remove_dir_all(root).unwrap();
    }
}
