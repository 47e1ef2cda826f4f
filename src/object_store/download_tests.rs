//! Downloads that break off, are dropped, and find something in their way.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{ObjectMeta, ObjectStore, ObjectStoreExt as _, ProgressCallback};
use crate::transfer::tests::Scripted;
use crate::{ErrorKind, ObjectKey, Result};

const SIZE: usize = (20 << 20) + 1;
const MIB: usize = 1 << 20;

/// A directory of its own, which goes with this.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("anycloud-download-{}", crate::random::uuid()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn target(&self) -> PathBuf {
        self.0.join("target")
    }

    fn partial(&self) -> PathBuf {
        self.0.join("target.anycloud-partial")
    }

    fn files(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn key() -> ObjectKey {
    ObjectKey::new("k").unwrap()
}

/// As a user reads it, which is through the engine.
fn reader(store: &Arc<Scripted>) -> impl ObjectStore + use<> {
    let store: Arc<dyn ObjectStore> = store.clone();
    crate::observed::Observed::new(crate::observed::Transferring::new(store, crate::TransferPolicy::default()))
}

async fn download(store: &Arc<Scripted>, directory: &Directory) -> Result<ObjectMeta> {
    reader(store).download_file(&key(), &directory.target(), None).await
}

/// A store of which so many bytes have come down before the network was gone for some time.
async fn broken_off(directory: &Directory, bytes: usize) -> Arc<Scripted> {
    let store = Scripted::of_size(SIZE);
    store.break_after(bytes);
    let error = download(&store, directory).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    store.break_after(usize::MAX);
    assert!(!directory.target().exists() && directory.partial().exists());
    store
}

fn assert_complete(store: &Scripted, directory: &Directory) {
    assert!(std::fs::read(directory.target()).unwrap() == *store.bytes());
    assert_eq!(directory.files(), 1, "nothing else stays");
}

#[tokio::test(start_paused = true)]
async fn a_download_that_broke_off_fetches_only_the_rest() {
    let directory = Directory::new();
    let store = broken_off(&directory, 12 * MIB).await;
    let (before, kept) = (store.served(), Arc::new(AtomicU64::new(0)));
    let first = Arc::clone(&kept);
    let progress: ProgressCallback = Arc::new(move |progress| {
        let _ = first.compare_exchange(0, progress.bytes, Ordering::Relaxed, Ordering::Relaxed);
    });
    reader(&store).download_file(&key(), &directory.target(), Some(progress)).await.unwrap();
    assert_complete(&store, &directory);
    let fetched = store.served() - before;
    // Of each range that was under way less than a piece was lost.
    assert!((SIZE - 12 * MIB..SIZE - 6 * MIB).contains(&fetched), "{fetched}");
    assert_eq!(kept.load(Ordering::Relaxed) as usize + fetched, SIZE, "what was there counts as done");
}

#[tokio::test(start_paused = true)]
async fn a_download_may_break_off_any_number_of_times() {
    let directory = Directory::new();
    let store = broken_off(&directory, 4 * MIB).await;
    let mut times = 1;
    while !directory.target().exists() {
        store.break_after(6 * MIB);
        times += usize::from(download(&store, &directory).await.is_err());
    }
    assert_complete(&store, &directory);
    assert!(times > 2 && store.served() < 2 * SIZE, "{times}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_download_is_taken_up_wherever_it_was_dropped() {
    let whole = Directory::new();
    let store = Scripted::of_size(SIZE);
    download(&store, &whole).await.unwrap();
    for polls in (0..).step_by(7) {
        let directory = Directory::new();
        let mut polled = 0;
        let reading = reader(&store);
        let (asked, path) = (key(), directory.target());
        let mut downloading = reading.download_file(&asked, &path, None);
        let ended = std::future::poll_fn(|cx| {
            polled += 1;
            match downloading.as_mut().poll(cx) {
                std::task::Poll::Ready(ended) => std::task::Poll::Ready(Some(ended)),
                std::task::Poll::Pending if polled > polls => std::task::Poll::Ready(None),
                std::task::Poll::Pending => std::task::Poll::Pending,
            }
        });
        let ended = ended.await;
        drop(downloading);
        let there = directory.target().exists();
        assert!(!there || std::fs::read(directory.target()).unwrap() == *store.bytes(), "whole or not at all");
        download(&store, &directory).await.unwrap();
        assert_complete(&store, &directory);
        if ended.is_some() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_version_is_fetched_anew() {
    let directory = Directory::new();
    let store = broken_off(&directory, 12 * MIB).await;
    store.replace();
    let before = store.served();
    download(&store, &directory).await.unwrap();
    assert_complete(&store, &directory);
    assert!(store.served() - before >= SIZE);
}

#[tokio::test(start_paused = true)]
async fn kept_bytes_that_are_no_longer_what_they_were_are_fetched_again() {
    use std::os::unix::fs::FileExt as _;
    for damaged in [0, 700_000] {
        let directory = Directory::new();
        let store = broken_off(&directory, 12 * MIB).await;
        let file = std::fs::OpenOptions::new().write(true).open(directory.partial()).unwrap();
        file.write_all_at(b"damaged", damaged).unwrap();
        download(&store, &directory).await.unwrap();
        assert_complete(&store, &directory);
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_or_foreign_file_in_its_place_costs_time_and_nothing_else() {
    let directory = Directory::new();
    for what in ["empty", "cut short", "noise", "journal"] {
        let store = broken_off(&directory, 12 * MIB).await;
        let mut contents = std::fs::read(directory.partial()).unwrap();
        match what {
            "empty" => contents.clear(),
            "cut short" => contents.truncate(SIZE + 20),
            "noise" => contents.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 31 / 7) as u8),
            _ => contents[SIZE + 48..].iter_mut().for_each(|byte| *byte ^= 0x55),
        }
        std::fs::write(directory.partial(), contents).unwrap();
        download(&store, &directory).await.unwrap();
        assert_complete(&store, &directory);
        std::fs::remove_file(directory.target()).unwrap();
    }
    // Nothing is written through a link, and it is not taken away.
    let elsewhere = directory.0.join("elsewhere");
    std::fs::write(&elsewhere, "another's").unwrap();
    std::os::unix::fs::symlink(&elsewhere, directory.partial()).unwrap();
    let store = Scripted::of_size(SIZE);
    download(&store, &directory).await.unwrap();
    assert!(std::fs::read(directory.target()).unwrap() == *store.bytes());
    assert_eq!(std::fs::read(&elsewhere).unwrap(), b"another's");
}

#[tokio::test]
async fn two_downloads_to_one_path_at_once_do_not_meet() {
    let directory = Directory::new();
    let store = Scripted::of_size(SIZE);
    store.slow_down();
    let (first, second) = tokio::join!(download(&store, &directory), download(&store, &directory));
    first.unwrap();
    second.unwrap();
    assert_complete(&store, &directory);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_that_can_be_of_no_use() {
    let directory = Directory::new();
    let store = Scripted::of_size(SIZE);
    store.spoil_checksum();
    assert_eq!(download(&store, &directory).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(directory.files(), 0);
    // A directory is in the way.
    std::fs::create_dir(directory.target()).unwrap();
    let store = Scripted::of_size(SIZE);
    assert_eq!(download(&store, &directory).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    std::fs::remove_dir(directory.target()).unwrap();
    assert_eq!(directory.files(), 0);
    // Broken off before a piece had come.
    let store = Scripted::of_size(SIZE);
    store.break_after(1);
    assert_eq!(download(&store, &directory).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(directory.files(), 0);
}
