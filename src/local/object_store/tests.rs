mod crash_states;
mod faults;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use futures_util::TryStreamExt as _;

use super::key_path::tests::naughty_keys;
use super::*;
use crate::local::crash_states::Unsynced;
use crate::local::swapping::Swapping;
use crate::object_store::{ByteRange, PutMode};
use crate::{ObjectStoreExt as _, random};

/// A directory that is removed at the end of a test.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        Self(std::env::temp_dir().join(format!("anycloud-{}", random::uuid())))
    }

    fn store(&self) -> Arc<FileStore> {
        Arc::new(FileStore::new(&self.0, "main"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Files anywhere below a directory.
pub(super) fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(files_below(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files
}

pub(super) fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).unwrap()
}

#[tokio::test]
async fn any_keys_live_side_by_side_and_list_in_byte_order_under_any_options() {
    let scratch = Scratch::new();
    let store = FileStore::with_operations(&scratch.0, "main".to_owned(), Arc::new(Unsynced));
    let keys: BTreeSet<String> =
        naughty_keys().into_iter().step_by(5).chain(["a", "a/", "a/b"].map(str::to_owned)).collect();
    for text in &keys {
        store.put_bytes(&key(text), text.clone()).await.unwrap();
    }
    for text in &keys {
        assert_eq!(store.get_bytes(&key(text)).await.unwrap(), text.as_bytes());
    }
    let all: Vec<&String> = keys.iter().collect();
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..150 {
        let mut some = |chance: u32| {
            let text = all[random.usize(..all.len())];
            let end = text.char_indices().map(|(at, _)| at).nth(random.usize(..4)).unwrap_or(text.len());
            (random.u32(..10) < chance).then(|| if random.bool() { text[..end].to_owned() } else { text.clone() })
        };
        let options = match round {
            0 => ListOptions::default(),
            _ => ListOptions {
                prefix: some(5).unwrap_or_default(),
                start_after: some(4),
                delimiter: [None, Some("/"), Some("a"), Some("%"), Some("//")][round % 5].map(str::to_owned),
                page_size: Some(7),
            },
        };
        let mut expected: Vec<String> = Vec::new();
        for text in keys.iter().filter(|text| text.starts_with(&options.prefix)) {
            if options.start_after.as_ref().is_some_and(|after| text <= after) {
                continue;
            }
            let start = options.prefix.len();
            let cut =
                options.delimiter.as_ref().and_then(|cut| Some(start + text[start..].find(cut.as_str())? + cut.len()));
            let name = text[..cut.unwrap_or(text.len())].to_owned();
            if cut.is_none() || expected.last() != Some(&name) {
                expected.push(name);
            }
        }
        let listed: Vec<ListEntry> = store.list(options.clone()).try_collect().await.unwrap();
        let names: Vec<&str> = listed.iter().map(ListEntry::name).collect();
        assert_eq!(names, expected, "{options:?}");
    }
    let deleted = store.delete_many(keys.iter().map(|text| key(text)).collect()).await;
    assert!(deleted.iter().all(|(_, result)| result.is_ok()));
    assert_eq!(store.list_all("").await.unwrap(), []);
    let objects = std::fs::read_dir(scratch.0.join("objects/main/objects")).unwrap().count();
    assert!(objects < 20, "{objects} empty directories stayed");
}

#[tokio::test]
async fn large_objects_are_read_in_pieces_by_ranges_and_after_their_deletion() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let mut bytes = vec![0; (3 << 20) + 17];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    let bytes = Bytes::from(bytes);
    store.put_bytes(&key("large"), bytes.clone()).await.unwrap();
    for range in [0..5, (1 << 20) - 1..(2 << 20) + 1, 3 << 20..(3 << 20) + 17] {
        let options = GetOptions { range: Some(range.clone().into()), ..Default::default() };
        let read = store.get(&key("large"), options).await.unwrap().bytes().await.unwrap();
        assert_eq!(read, bytes.slice(range.start as usize..range.end as usize));
    }
    let reading = store.get(&key("large"), GetOptions::default()).await.unwrap();
    store.put_bytes(&key("large"), "other").await.unwrap();
    store.delete(&key("large"), DeleteOptions::default()).await.unwrap();
    assert_eq!(reading.bytes().await.unwrap(), bytes);
    let past = GetOptions { range: Some(ByteRange::From(0)), ..Default::default() };
    store.put_bytes(&key("empty"), "").await.unwrap();
    assert_eq!(store.get(&key("empty"), past).await.unwrap_err().kind(), ErrorKind::RangeNotSatisfiable);
}

#[tokio::test]
async fn a_flipped_bit_on_disk_is_corrupt_wherever_it_is() {
    let scratch = Scratch::new();
    let store = scratch.store();
    for size in [100, (1 << 20) + 500] {
        store.put_bytes(&key("k"), vec![7; size]).await.unwrap();
        let path = scratch.0.join("objects/main/objects/k.o");
        let whole = std::fs::read(&path).unwrap();
        for at in [0, size / 2, size - 1, size, whole.len() - 20, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(store.get_bytes(&key("k")).await.unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
        }
    }
}

#[tokio::test]
async fn uploads_take_parts_at_once_and_leave_nothing_when_dropped() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let parts: Vec<Bytes> = (0..20u8).map(|number| Bytes::from(vec![number; 1000 + usize::from(number)])).collect();
    let whole: Vec<u8> = parts.concat();
    let mut upload = store.start_upload(&key("u"), PutOptions::default()).await.unwrap();
    let sending: Vec<_> = parts.iter().map(|part| upload.put_part(part.clone().into())).collect();
    for result in futures_util::future::join_all(sending.into_iter().rev()).await {
        result.unwrap();
    }
    // A sweep spares what somebody is at work on, however old.
    assert_eq!(store.abort_stale_uploads(Duration::ZERO).await.unwrap().aborted, 0);
    assert!(!store.exists(&key("u")).await.unwrap());
    upload.finish(Crc32c::of(&whole)).await.unwrap();
    assert_eq!(store.get_bytes(&key("u")).await.unwrap(), whole);

    let mut wrong = store.start_upload(&key("u"), PutOptions::default()).await.unwrap();
    wrong.put_part("x".into()).await.unwrap();
    assert_eq!(wrong.finish(Crc32c(1)).await.unwrap_err().kind(), ErrorKind::Corrupt);
    let mut unwritten = store.start_upload(&key("u"), PutOptions::default()).await.unwrap();
    drop(unwritten.put_part("x".into()));
    assert_eq!(unwritten.finish(Crc32c::of(b"x")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let mut dropped = store.start_upload(&key("u"), PutOptions::default()).await.unwrap();
    dropped.put_part("x".into()).await.unwrap();
    drop(dropped);
    assert_eq!(files_below(&scratch.0.join("objects/main/unfinished")), [] as [PathBuf; 0]);

    // What a dead process has left goes once it is old enough.
    std::fs::write(scratch.0.join("objects/main/unfinished/left"), "x").unwrap();
    assert_eq!(store.abort_stale_uploads(Duration::from_secs(60)).await.unwrap().aborted, 0);
    assert_eq!(store.abort_stale_uploads(Duration::ZERO).await.unwrap().aborted, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_creators_exactly_one_wins_and_its_repetition_succeeds() {
    let scratch = Scratch::new();
    for round in 0..20 {
        let name = key(&format!("d/{round}"));
        let writers = (0..8u8).map(|number| {
            let (store, name) = (scratch.store(), name.clone());
            let options = PutOptions { mode: PutMode::Create, ..Default::default() };
            tokio::spawn(async move { store.put(&name, Bytes::from(vec![number]), options).await })
        });
        let results = futures_util::future::join_all(writers).await;
        let won: Vec<_> = results.into_iter().filter_map(|result| result.unwrap().ok()).collect();
        assert_eq!(won.len(), 1);
        let store = scratch.store();
        let again = PutOptions { mode: PutMode::Create, write_id: Some(won[0].write_id.clone()), ..Default::default() };
        assert_eq!(store.put(&name, Bytes::new(), again).await.unwrap(), won[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_read_or_written_outside_while_links_and_directories_are_swapped() {
    let scratch = Scratch::new();
    let outside = Scratch::new();
    std::fs::create_dir_all(outside.0.join("b.d")).unwrap();
    std::fs::write(outside.0.join("c.o"), "secret").unwrap();
    let store = Arc::new(FileStore::with_operations(&scratch.0, "main".to_owned(), Arc::new(Unsynced)));
    store.put_bytes(&key("a/c"), "inside").await.unwrap();
    let objects = scratch.0.join("objects/main/objects");
    let swapping = Swapping::start(vec![(objects.join("a.d"), outside.0.clone())]);
    let mut read = 0;
    for round in 0..1000 {
        let _ = store.put_bytes(&key("a/x"), "inside").await;
        let _ = store.put_bytes(&key("a/b/y"), "inside").await;
        if let Ok(bytes) = store.get_bytes(&key("a/c")).await {
            assert_eq!(bytes, "inside");
            read += 1;
        }
        if round % 50 == 0 {
            let _ = store.list_all("").await;
        }
    }
    assert!(swapping.stop() > 100 && read > 10, "{read} reads");
    assert_eq!(files_below(&outside.0), [outside.0.join("c.o")]);
    std::fs::remove_dir_all(objects.join("a.d")).unwrap();
    std::os::unix::fs::symlink(&outside.0, objects.join("a.d")).unwrap();
    assert_eq!(store.get_bytes(&key("a/c")).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert!(store.put_bytes(&key("a/x"), "x").await.is_err());
}

#[tokio::test]
async fn files_are_private_and_a_bad_bucket_name_is_a_matter_of_configuration() {
    let scratch = Scratch::new();
    let store = scratch.store();
    store.put_bytes(&key("a/b"), "x").await.unwrap();
    let mode = |path: &str| scratch.0.join(path).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("objects/main/objects/a.d/b.o"), mode("objects/main/objects/a.d")), (0o600, 0o700));
    for name in ["", "..", "a/b", ".hidden", "a\0"] {
        let error = FileStore::new(&scratch.0, name).put_bytes(&key("k"), "x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{name:?}");
    }
    let error = store.sign(&key("k"), SignOptions::get(Duration::from_secs(9))).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidConfig && error.message().contains("ANYCLOUD_LOCAL_URL"));
}

#[tokio::test]
async fn a_root_that_is_a_file_is_a_wrong_setting_and_stays_as_it_is() {
    let scratch = Scratch::new();
    std::fs::write(&scratch.0, "a file").unwrap();
    let error = scratch.store().put_text(&key("a"), "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    let error = scratch.store().list_all("p/").await.unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidConfig, "local://main/p/"));
    assert_eq!(std::fs::read(&scratch.0).unwrap(), b"a file");
    std::fs::remove_file(&scratch.0).unwrap();
}

#[tokio::test]
async fn a_directory_is_no_file_to_upload_or_to_download_to() {
    let scratch = Scratch::new();
    let store = scratch.store();
    store.put_text(&key("a"), "x").await.unwrap();
    let upload = store.upload_file(&scratch.0, &key("b"), PutOptions::default(), None).await.unwrap_err();
    assert_eq!(upload.kind(), ErrorKind::InvalidInput, "{upload}");
    let download = store.download_file(&key("a"), &scratch.0, None).await.unwrap_err();
    assert_eq!(download.kind(), ErrorKind::InvalidInput, "{download}");
    assert!(!store.exists(&key("b")).await.unwrap());
    let own = scratch.0.file_name().unwrap().to_string_lossy().into_owned();
    let mut beside = std::fs::read_dir(scratch.0.parent().unwrap()).unwrap().flatten();
    assert!(!beside.any(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{own}."))));
}
