use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::super::{Case, cases, kind};
use super::{Fixture, pattern};
use crate::object_store::{ByteRange, CopyOptions, HeadOptions};
use crate::{ErrorKind, GetOptions, ObjectStoreExt as _, PutMode, PutOptions};

pub(super) fn cases() -> Vec<Case<Fixture>> {
    cases![
        what_is_not_there_is_not_found,
        errors_name_the_operation_and_the_address,
        ranges_yield_exactly_their_bytes,
        a_range_past_the_end_is_not_satisfiable,
        an_empty_range_is_refused_before_it_is_sent,
        a_large_object_streams_whole_and_in_order,
        a_read_that_is_dropped_harms_nobody,
        files_go_up_and_come_down_the_same,
        a_dropped_download_is_taken_up_and_leaves_nothing,
    ]
}

fn range(range: ByteRange) -> GetOptions {
    GetOptions { range: Some(range), ..GetOptions::default() }
}

async fn what_is_not_there_is_not_found(fixture: Fixture) {
    let key = fixture.key("missing");
    assert_eq!(kind(fixture.store.get(&key, GetOptions::default()).await), ErrorKind::NotFound);
    assert_eq!(kind(fixture.store.get(&key, range(ByteRange::Last(1))).await), ErrorKind::NotFound);
    let error = fixture.store.head(&key, HeadOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.subject().contains(key.as_str()), "{error}");
}

async fn ranges_yield_exactly_their_bytes(fixture: Fixture) {
    let key = fixture.key("digits");
    fixture.put("digits", "0123456789").await;
    for (asked, bytes, place) in [
        (ByteRange::Bounded(2, 5), "234", 2..5),
        (ByteRange::Bounded(8, 100), "89", 8..10),
        (ByteRange::From(7), "789", 7..10),
        (ByteRange::Last(3), "789", 7..10),
        (ByteRange::Last(100), "0123456789", 0..10),
        (ByteRange::Bounded(0, 10), "0123456789", 0..10),
    ] {
        let got = fixture.store.get(&key, range(asked)).await.unwrap();
        assert_eq!((got.range.clone(), got.meta.size), (place, 10), "{asked:?}");
        assert_eq!(got.bytes().await.unwrap(), bytes, "{asked:?}");
    }
}

async fn a_range_past_the_end_is_not_satisfiable(fixture: Fixture) {
    fixture.put("three", "abc").await;
    fixture.put("empty", "").await;
    for (name, asked) in [
        ("three", ByteRange::From(3)),
        ("three", ByteRange::Bounded(7, 9)),
        ("empty", ByteRange::From(0)),
        ("empty", ByteRange::Bounded(0, 5)),
    ] {
        let got = fixture.store.get(&fixture.key(name), range(asked)).await;
        assert_eq!(kind(got), ErrorKind::RangeNotSatisfiable, "{name} {asked:?}");
    }
}

async fn an_empty_range_is_refused_before_it_is_sent(fixture: Fixture) {
    fixture.put("a", "abc").await;
    for asked in [ByteRange::Bounded(2, 2), ByteRange::Bounded(2, 1), ByteRange::Last(0)] {
        assert_eq!(kind(fixture.store.get(&fixture.key("a"), range(asked)).await), ErrorKind::InvalidInput);
    }
}

async fn a_large_object_streams_whole_and_in_order(fixture: Fixture) {
    let key = fixture.key("large");
    let bytes = pattern(20 << 20);
    fixture.store.put_bytes(&key, bytes.clone()).await.unwrap();
    let mut got = fixture.store.get(&key, GetOptions::default()).await.unwrap();
    let mut offset = 0;
    while let Some(chunk) = got.body.try_next().await.unwrap() {
        assert!(chunk == bytes[offset..offset + chunk.len()], "the bytes from {offset} on differ");
        offset += chunk.len();
    }
    assert_eq!(offset, bytes.len());
    assert!(fixture.store.get_bytes(&key).await.unwrap() == bytes);
}

async fn a_read_that_is_dropped_harms_nobody(fixture: Fixture) {
    let key = fixture.key("large");
    fixture.store.put_bytes(&key, pattern(9 << 20)).await.unwrap();
    for _ in 0..3 {
        let mut got = fixture.store.get(&key, GetOptions::default()).await.unwrap();
        assert!(got.body.try_next().await.unwrap().is_some());
    }
    let tail = fixture.store.get(&key, range(ByteRange::Last(4))).await.unwrap().bytes().await.unwrap();
    assert_eq!(tail, pattern(9 << 20)[(9 << 20) - 4..]);
}

async fn files_go_up_and_come_down_the_same(fixture: Fixture) {
    let directory = std::env::temp_dir().join(super::unique("anycloud"));
    std::fs::create_dir(&directory).unwrap();
    let (from, to, key) = (directory.join("from"), directory.join("to"), fixture.key("file"));
    let bytes = Bytes::from(pattern(10_000_001));
    std::fs::write(&from, &bytes).unwrap();
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let progress = || {
        let seen = std::sync::Arc::clone(&seen);
        let callback: crate::object_store::ProgressCallback = std::sync::Arc::new(move |progress| {
            assert_eq!(progress.total, Some(10_000_001));
            assert!(progress.bytes == 0 || progress.rate > 0.0, "{progress:?}");
            let before = seen.swap(progress.bytes, std::sync::atomic::Ordering::Relaxed);
            assert!(before <= progress.bytes, "{before} and then {progress:?}");
        });
        Some(callback)
    };
    fixture.store.upload_file(&from, &key, Default::default(), progress()).await.unwrap();
    assert_eq!(seen.swap(0, std::sync::atomic::Ordering::Relaxed), 10_000_001);
    fixture.store.download_file(&key, &to, progress()).await.unwrap();
    assert_eq!(seen.load(std::sync::atomic::Ordering::Relaxed), 10_000_001);
    assert!(std::fs::read(&to).unwrap() == bytes);
    let missing = fixture.store.download_file(&fixture.key("no"), &directory.join("no"), None).await;
    assert_eq!(kind(missing), ErrorKind::NotFound);
    let missing = fixture.store.upload_file(&directory.join("no"), &key, Default::default(), None).await;
    assert_eq!(kind(missing), ErrorKind::NotFound);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 2, "nothing half-written stays behind");
    std::fs::remove_dir_all(&directory).unwrap();
}

async fn a_dropped_download_is_taken_up_and_leaves_nothing(fixture: Fixture) {
    const SIZE: usize = (20 << 20) + 1;
    let directory = std::env::temp_dir().join(super::unique("anycloud"));
    std::fs::create_dir(&directory).unwrap();
    let (to, key) = (directory.join("to"), fixture.key("large"));
    for content in [pattern(SIZE), pattern(SIZE + 1)[1..].to_vec()] {
        let content = Bytes::from(content);
        fixture.store.put_bytes(&key, content.clone()).await.unwrap();
        let far = std::sync::Arc::new(tokio::sync::Notify::new());
        let told = std::sync::Arc::clone(&far);
        let progress: crate::object_store::ProgressCallback = std::sync::Arc::new(move |progress| {
            if progress.bytes > 4 << 20 {
                told.notify_one();
            }
        });
        tokio::select! {
            biased;
            () = far.notified() => {}
            ended = fixture.store.download_file(&key, &to, Some(progress)) => panic!("not dropped: {ended:?}"),
        }
        assert!(directory.join("to.anycloud-partial").exists(), "what came is kept");
    }
    // What is kept is of the second object, and the first is gone.
    let first = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let seen = std::sync::Arc::clone(&first);
    let progress: crate::object_store::ProgressCallback = std::sync::Arc::new(move |progress| {
        use std::sync::atomic::Ordering::Relaxed;
        let _ = seen.compare_exchange(0, progress.bytes, Relaxed, Relaxed);
    });
    fixture.store.download_file(&key, &to, Some(progress)).await.unwrap();
    assert!(std::fs::read(&to).unwrap() == pattern(SIZE + 1)[1..]);
    assert!(first.load(std::sync::atomic::Ordering::Relaxed) > 2 << 20, "what was kept is not fetched again");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "nothing half-written stays behind");
    std::fs::remove_dir_all(&directory).unwrap();
}

async fn errors_name_the_operation_and_the_address(fixture: Fixture) {
    let (store, key) = (&fixture.store, fixture.key("ä b"));
    let address = store.uri(&key).to_string();
    let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let get = store.get(&key, GetOptions::default()).await.unwrap_err();
    let head = store.head(&key, HeadOptions::default()).await.unwrap_err();
    let copy = store.copy(&key, &fixture.key("copy"), CopyOptions::default()).await.unwrap_err();
    fixture.put("ä b", "taken").await;
    let put = store.put(&key, Bytes::from_static(b"again"), create).await.unwrap_err();
    let range = Some(ByteRange::From(100));
    let past = store.get(&key, GetOptions { range, ..GetOptions::default() }).await.unwrap_err();
    for (error, operation) in [
        (get, "object_store.get"),
        (head, "object_store.head"),
        (copy, "object_store.copy"),
        (put, "object_store.put"),
        (past, "object_store.get"),
    ] {
        assert_eq!((error.operation(), error.subject()), (operation, address.as_str()), "{error}");
    }
}
