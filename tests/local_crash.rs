//! A process that writes objects is killed again and again: what it was told is stored is there, whole.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anycloud::local::FileStore;
use anycloud::object_store::{CopyOptions, DeleteOptions, ListOptions, StaleUploads};
use anycloud::{ErrorKind, ObjectKey, ObjectStore as _, ObjectStoreExt as _, PutOptions};
use futures_util::TryStreamExt as _;

const KILLS: usize = 200;
const KEYS: [&str; 6] = ["a", "a/b", "deep/er/c", "deep/er/d", "x//y", "large"];

/// Content that says which write it is of and cannot be mistaken when it is cut, mixed or zeroed.
fn content(sequence: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(sequence).fill(&mut bytes);
    bytes.splice(..0, sequence.to_be_bytes());
    bytes
}

fn sequence_of(bytes: &[u8]) -> Option<u64> {
    let sequence = u64::from_be_bytes(bytes.first_chunk().copied()?);
    (content(sequence, bytes.len() - 8) == bytes).then_some(sequence)
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // One write, so that the line is whole or missing.
    out.write_all(format!("{text}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Not a test: the process that is killed. It reads where to write from its input.
#[test]
#[ignore = "run by the tests below"]
fn writer_process() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let Some((root, first)) = line.trim().rsplit_once(' ') else { return };
    let mut random = fastrand::Rng::with_seed(first.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(FileStore::new(root, "main"));
        for sequence in first.parse::<u64>().unwrap().. {
            let key = KEYS[random.usize(..KEYS.len())];
            let name = ObjectKey::new(key).unwrap();
            let kind = random.u8(..10);
            // A leading newline: the harness may have begun a line.
            say(&format!("\nbegin {key} {sequence} {}", if kind == 0 { "delete" } else { "put" }));
            let size = if key == "large" { 3 << 20 } else { random.usize(..20_000) };
            let bytes = content(sequence, size);
            match kind {
                0 => store.delete(&name, DeleteOptions::default()).await.unwrap(),
                1..4 => {
                    let chunks = bytes.chunks(4096).map(|chunk| Ok(bytes::Bytes::copy_from_slice(chunk)));
                    let mut writer = store.writer(&name, PutOptions::default()).with_parts(8192, 2);
                    for chunk in chunks.collect::<anycloud::Result<Vec<_>>>().unwrap() {
                        writer.write(chunk).await.unwrap();
                    }
                    writer.finish().await.unwrap();
                }
                4 => {
                    let source = ObjectKey::new("source").unwrap();
                    store.put_bytes(&source, bytes).await.unwrap();
                    store.copy(&source, &name, CopyOptions::default()).await.unwrap();
                }
                _ => drop(store.put_bytes(&name, bytes).await.unwrap()),
            }
            say(&format!("ack {key} {sequence}"));
        }
    });
}

#[test]
fn a_writer_killed_at_any_moment_leaves_whole_objects_and_all_that_was_acknowledged() {
    let root: PathBuf = std::env::temp_dir().join(format!("anycloud-crash-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = FileStore::new(&root, "main");
    let begun = Instant::now();
    let mut random = fastrand::Rng::with_seed(42);
    // What each key may hold: the sequence of the write, or nothing.
    let mut allowed: BTreeMap<&str, Vec<Option<u64>>> = KEYS.iter().map(|key| (*key, vec![None])).collect();
    let (mut acknowledged, mut caught, mut left) = (0, 0, 0);
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_process", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{} {}", root.display(), (kill as u64 + 1) * 1_000_000).unwrap();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let mut note = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let Some(key) = KEYS.iter().find(|key| words.get(1) == Some(key)) else { return };
            let states = allowed.get_mut(key).unwrap();
            match words[..] {
                ["begin", _, _, "delete"] => states.push(None),
                ["begin", _, sequence, "put"] => states.push(Some(sequence.parse().unwrap())),
                ["ack", ..] => {
                    states.drain(..states.len() - 1);
                    acknowledged += 1;
                }
                _ => {}
            }
        };
        // Not before it is at work.
        for line in lines.by_ref().map_while(Result::ok) {
            note(&line);
            if line.starts_with("begin") {
                break;
            }
        }
        std::thread::sleep(Duration::from_micros(random.u64(..160_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        lines.map_while(Result::ok).for_each(|line| note(&line));

        runtime.block_on(async {
            let listed: Vec<_> = store.list(ListOptions::default()).try_collect().await.unwrap();
            for (key, states) in &mut allowed {
                let found = match store.get_bytes(&ObjectKey::new(*key).unwrap()).await {
                    Ok(bytes) => Some(sequence_of(&bytes).unwrap_or_else(|| panic!("kill {kill}: {key} is torn"))),
                    Err(error) if error.kind() == ErrorKind::NotFound => None,
                    Err(error) => panic!("kill {kill}: {error}"),
                };
                assert!(states.contains(&found), "kill {kill}: {key} holds {found:?}, allowed are {states:?}");
                assert_eq!(listed.iter().any(|entry| entry.name() == *key), found.is_some());
                caught += usize::from(states.len() > 1);
                *states = vec![found];
            }
            assert!(listed.iter().all(|entry| KEYS.contains(&entry.name()) || entry.name() == "source"));
            let StaleUploads { aborted } = store.abort_stale_uploads(Duration::ZERO).await.unwrap();
            left += aborted;
        });
        assert_eq!(std::fs::read_dir(root.join("objects/main/unfinished")).unwrap().count(), 0);
    }
    println!(
        "{KILLS} kills in {:?}: {acknowledged} writes acknowledged, {caught} caught under way, {left} leftovers collected",
        begun.elapsed()
    );
    assert!(acknowledged > KILLS / 4 && caught > KILLS / 4, "the kills came too early or too late to mean anything");
    std::fs::remove_dir_all(root).unwrap();
}
