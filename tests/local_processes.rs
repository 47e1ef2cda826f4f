//! Several processes at one bucket.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anycloud::local::FileStore;
use anycloud::object_store::{GetOptions, PutMode};
use anycloud::{ErrorKind, ObjectKey, ObjectStore as _, ObjectStoreExt as _, PutOptions};

const INCREMENTS: u64 = 50;

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("anycloud-{name}-{}", std::process::id()))
}

/// Not a test: a process that reads from its input where to work and at what.
#[tokio::test]
#[ignore = "run by the tests below"]
async fn worker_process() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let Some((root, task)) = line.trim().rsplit_once(' ') else { return };
    let store = FileStore::new(root, "main");
    let key = ObjectKey::new("counters/one").unwrap();
    match task {
        "count" => {
            let mut done = 0;
            while done < INCREMENTS {
                let (mode, count) = match store.get(&key, GetOptions::default()).await {
                    Ok(found) => {
                        let mode = PutMode::Replace(found.meta.version.clone());
                        (mode, String::from_utf8(found.bytes().await.unwrap().into()).unwrap().parse::<u64>().unwrap())
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::NotFound);
                        (PutMode::Create, 0)
                    }
                };
                let options = PutOptions { mode, ..PutOptions::default() };
                match store.put(&key, (count + 1).to_string().into(), options).await {
                    Ok(_) => done += 1,
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::PreconditionFailed | ErrorKind::AlreadyExists));
                    }
                }
            }
        }
        "create" => {
            for number in 0..50 {
                let key = ObjectKey::new(format!("races/{number}")).unwrap();
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                if store.put(&key, "x".into(), options).await.is_ok() {
                    println!("\nwon {number}");
                }
            }
        }
        _ => drop(store.put_bytes(&key, "x").await.unwrap()),
    }
}

fn worker(prelude: &str, root: &Path, task: &str) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new("sh")
        .args(["-c", &format!("{prelude} exec \"$0\" \"$@\"")])
        .arg(program)
        .args(["--exact", "worker_process", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{} {task}", root.display()).unwrap();
    child
}

#[tokio::test]
async fn counters_in_several_processes_lose_no_update() {
    let root = scratch("count");
    let workers: Vec<Child> = (0..3).map(|_| worker("", &root, "count")).collect();
    for worker in workers {
        assert!(worker.wait_with_output().unwrap().status.success());
    }
    let key = ObjectKey::new("counters/one").unwrap();
    assert_eq!(FileStore::new(&root, "main").get_text(&key).await.unwrap(), (3 * INCREMENTS).to_string());
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn of_creators_in_several_processes_exactly_one_wins_each_key() {
    let root = scratch("create");
    let mut workers: Vec<Child> = (0..4).map(|_| worker("", &root, "create")).collect();
    let mut won = Vec::new();
    for worker in &mut workers {
        let lines = BufReader::new(worker.stdout.take().unwrap()).lines().map_while(Result::ok);
        won.extend(lines.filter_map(|line| line.strip_prefix("won ").map(|number| number.parse::<u32>().unwrap())));
        assert!(worker.wait().unwrap().success());
    }
    won.sort_unstable();
    assert_eq!(won, (0..50).collect::<Vec<_>>());
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn modes_are_the_same_under_any_umask() {
    for umask in ["000", "022", "777"] {
        let root = scratch(umask);
        assert!(worker(&format!("umask {umask};"), &root, "put").wait().unwrap().success());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        let file = root.join("objects/main/objects/counters.d/one.o");
        assert_eq!(mode(&file), 0o600, "umask {umask}");
        for directory in file.ancestors().skip(1).take_while(|path| path.starts_with(&root)) {
            assert_eq!(mode(directory), 0o700, "umask {umask}: {}", directory.display());
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}
