//! Large files of this crate's own client: composed of temporary objects that nobody ever sees.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anycloud::gcp_emulator::{Fault, FaultAction};
use anycloud::object_store::{Crc32c, ListEntry, ListOptions, ObjectWriter, PartRules, Upload};
use anycloud::{Cloud, Config, ErrorKind, ObjectKey, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use serde_json::json;

use crate::Server;

const PART: u64 = 64 << 10;
const PARTS: usize = 40;

fn store(server: &Server, bucket: &str, parallel: Option<&str>) -> Arc<dyn ObjectStore> {
    let mut config = Config::from_lookup(|name| {
        let value = match name {
            "CLOUD_PROVIDER" => "gcp",
            "ANYCLOUD_BUCKET" => bucket,
            "GOOGLE_CLOUD_PROJECT" => "p",
            "STORAGE_EMULATOR_HOST" => server.emulator.url(),
            "GCS_PARALLEL_UPLOADS" => return parallel.map(str::to_owned),
            _ => return None,
        };
        Some(value.to_owned())
    })
    .expect("the settings are complete");
    config.retry.first_backoff = Duration::from_millis(5);
    Arc::clone(Cloud::connect(config).expect("no network is needed").objects())
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).expect("a key")
}

/// Bytes that differ from part to part.
fn content() -> Bytes {
    (0..PART as usize * PARTS + 77).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Large by what it says: it is a hint.
fn large(mode: PutMode) -> PutOptions {
    PutOptions { mode, expected_bytes: Some(64 << 20), ..PutOptions::default() }
}

fn writer(store: &Arc<dyn ObjectStore>, mode: PutMode) -> ObjectWriter<dyn ObjectStore> {
    store.writer(&key("large"), large(mode)).with_parts(PART, 8)
}

/// Every name in the bucket, as it is on the server.
fn names(server: &Server, bucket: &str) -> Vec<String> {
    let page = server.get(&format!("/storage/v1/b/{bucket}/o")).ok();
    let items = page["items"].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect()
}

fn calls(server: &Server, operation: &str) -> usize {
    server.emulator.requests().iter().filter(|served| served.method == operation).count()
}

/// Waits until the server has only these objects.
async fn remain(server: &Server, expected: &[&str]) {
    for _ in 0..200 {
        if names(server, "data") == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{:?}", names(server, "data"));
}

#[tokio::test]
async fn a_large_object_is_composed_and_its_parts_are_gone() {
    let server = Server::start();
    let store = store(&server, "data", None);
    let bytes = content();
    let mut options = large(PutMode::Create);
    options.headers.content_type = Some("application/x-weeks".to_owned());
    options.metadata.insert("rows", "many").expect("metadata");
    let mut writer = store.writer(&key("large"), options).with_parts(PART, 8);
    writer.write(bytes.clone()).await.expect("written");
    let put = writer.finish().await.expect("published");
    let meta = store.head(&key("large"), Default::default()).await.expect("an object");
    assert_eq!((meta.size, meta.crc32c), (bytes.len() as u64, Some(Crc32c::of(&bytes))));
    assert_eq!((&meta.version, meta.write_id), (&put.version, Some(put.write_id)));
    assert_eq!(meta.headers.content_type.as_deref(), Some("application/x-weeks"));
    assert_eq!(meta.metadata.get("rows"), Some("many"));
    assert!(store.get_bytes(&key("large")).await.expect("bytes") == bytes);
    assert_eq!(names(&server, "data"), ["large"]);
    // The last part may be longer by the little that is over. So many are composed on the way that the rest fits in one
    // call. Composing deletes them, so that nothing is left to delete.
    assert!((PARTS..=PARTS + 1).contains(&calls(&server, "storage.objects.insert")));
    assert_eq!((calls(&server, "storage.objects.compose"), calls(&server, "storage.objects.delete")), (2, 0));
    assert_eq!(calls(&server, "storage.buckets.get") + calls(&server, "storage.buckets.testIamPermissions"), 2);
}

#[tokio::test]
async fn a_composed_object_keeps_to_its_precondition() {
    let server = Server::start();
    let store = store(&server, "data", None);
    let first = store.put_bytes(&key("large"), "here first").await.expect("put");
    for (mode, kind) in [
        (PutMode::Create, ErrorKind::AlreadyExists),
        (PutMode::Replace(anycloud::object_store::Version::new("gcp", "7")), ErrorKind::PreconditionFailed),
    ] {
        let mut writer = writer(&store, mode);
        writer.write(content()).await.expect("written");
        assert_eq!(writer.finish().await.expect_err("refused").kind(), kind);
        assert_eq!(names(&server, "data"), ["large"]);
    }
    let mut writer = writer(&store, PutMode::Replace(first.version));
    writer.write(content()).await.expect("written");
    writer.finish().await.expect("published");
    assert_eq!(names(&server, "data"), ["large"]);
}

#[tokio::test]
async fn parts_that_are_not_what_was_announced_are_never_composed() {
    let server = Server::start();
    let store = store(&server, "data", None);
    let mut upload = store.start_upload(&key("large"), large(PutMode::Overwrite)).await.expect("begun");
    assert!(upload.rules().parallel);
    upload.put_part("half".into()).await.expect("sent");
    assert_eq!(upload.finish(Crc32c(7)).await.expect_err("refused").kind(), ErrorKind::Corrupt);
    assert_eq!((names(&server, "data"), calls(&server, "storage.objects.compose")), (Vec::new(), 0));
}

#[tokio::test]
async fn lost_answers_of_every_call_end_in_one_whole_object() {
    let server = Server::start();
    let store = store(&server, "data", None);
    for operation in ["storage.objects.insert", "storage.objects.compose", "storage.objects.list"] {
        for skip in 0..3 {
            let fault = Fault { skip, ..Fault::next(operation, FaultAction::LoseAnswer) };
            server.emulator.add_fault(fault);
        }
    }
    let mut writer = writer(&store, PutMode::Create);
    writer.write(content()).await.expect("written");
    writer.finish().await.expect("published");
    assert_eq!(names(&server, "data"), ["large"]);
    assert!(store.get_bytes(&key("large")).await.expect("bytes") == content());
}

#[tokio::test]
async fn what_is_dropped_or_aborted_midway_leaves_nothing() {
    let server = Server::start();
    let store = store(&server, "data", None);
    let mut dropped = writer(&store, PutMode::Overwrite);
    dropped.write(content()).await.expect("written");
    assert!(!names(&server, "data").is_empty());
    drop(dropped);
    remain(&server, &[]).await;
    let mut aborted = writer(&store, PutMode::Overwrite);
    aborted.write(content()).await.expect("written");
    aborted.abort().await.expect("aborted");
    remain(&server, &[]).await;
    let mut failed = writer(&store, PutMode::Overwrite);
    let denied = FaultAction::Status { code: 403, retry_after_seconds: None };
    server.emulator.add_fault(Fault { skip: 20, ..Fault::next("storage.objects.insert", denied) });
    let error = match failed.write(content()).await {
        Ok(()) => failed.finish().await.expect_err("a part failed"),
        Err(error) => {
            drop(failed);
            error
        }
    };
    assert_eq!((error.kind(), error.subject()), (ErrorKind::PermissionDenied, "gs://data/large"));
    remain(&server, &[]).await;
}

/// All at the same time, because what is dropped is looked for again after two seconds.
#[tokio::test]
async fn a_stream_or_file_that_is_dropped_at_any_await_point_is_there_whole_or_not_at_all() {
    let server = Server::start();
    let store = store(&server, "data", Some("true"));
    let file = std::env::temp_dir().join(format!("anycloud-dropped-{}", std::process::id()));
    // More than one part by default.
    std::fs::write(&file, content().repeat(3)).expect("written");
    let (mut dropped, mut published) = (0, 0);
    for way in ["stream", "file"] {
        let mut ended = false;
        let dense = if way == "file" { 6 } else { 30 };
        for polls in (0..dense).chain((dense..500).step_by(7)) {
            let name = key(&format!("{way}-{polls:03}"));
            let call = async {
                if way == "file" {
                    return store.upload_file(&file, &name, large(PutMode::Create), None).await;
                }
                let bytes = content();
                let pieces = (0..bytes.len()).step_by(100_000);
                let pieces = pieces.map(|start| Ok(bytes.slice(start..bytes.len().min(start + 100_000))));
                let writer = store.writer(&name, large(PutMode::Create)).with_parts(PART, 8);
                writer.write_stream(stream::iter(pieces)).await
            };
            if let Some(put) = poll_times(polls, call).await {
                put.expect("published");
                ended = true;
                break;
            }
            dropped += 1;
            // What has arrived is done by the emulator too, which must not fall behind by the two seconds.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(ended, "{way}");
    }
    assert!(dropped > 20, "{dropped}");
    // What is thrown away is looked for again after two seconds. What was being published may be there.
    tokio::time::sleep(Duration::from_secs(5)).await;
    for name in names(&server, "data") {
        let whole = if name.starts_with("file-") { content().repeat(3).into() } else { content() };
        assert!(store.get_bytes(&key(&name)).await.expect("an object") == whole, "{name}");
        published += 1;
    }
    assert!((2..dropped).contains(&published), "{published} of {dropped}");
    std::fs::remove_file(file).expect("removed");
}

/// Polls so many times, then drops. `None` if it had not ended by then.
async fn poll_times<F: Future>(times: usize, call: F) -> Option<F::Output> {
    let mut call = Box::pin(call);
    for _ in 0..times {
        // Whatever is under way gets on meanwhile.
        let polled = std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
        match polled {
            Poll::Ready(output) => return Some(output),
            Poll::Pending => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
    None
}

#[tokio::test]
async fn listings_never_show_a_part() {
    let server = Server::start();
    let store = store(&server, "data", None);
    let mut upload = store.start_upload(&key("large"), large(PutMode::Overwrite)).await.expect("begun");
    upload.put_part("a part".into()).await.expect("sent");
    let list = async |options: ListOptions| {
        let entries: Vec<ListEntry> = store.list(options).try_collect().await.expect("a listing");
        entries.iter().map(|entry| entry.name().to_owned()).collect::<Vec<_>>()
    };
    let by = |delimiter: &str| ListOptions { delimiter: Some(delimiter.to_owned()), ..ListOptions::default() };
    for options in [ListOptions::default(), by("/"), by("-"), by("a"), ListOptions::prefix(".anycloud-uploads/")] {
        assert_eq!(list(options.clone()).await, Vec::<String>::new(), "{options:?}");
    }
    // What is beside them is shown, before and behind.
    for name in [".anycloud-a", ".anycloud-uploads0", "z"] {
        store.put_bytes(&key(name), "x").await.expect("put");
        let all = if name == "z" { vec![".anycloud-", "z"] } else { vec![".anycloud-"] };
        assert_eq!(list(by("-")).await, all, "{name}");
        if name == ".anycloud-a" {
            store.delete(&key(name), Default::default()).await.expect("deleted");
            assert_eq!(list(by("-")).await, Vec::<String>::new());
        }
    }
    assert_eq!(list(by("/")).await, [".anycloud-uploads0", "z"]);
    let after = |start: &str| ListOptions { start_after: Some(start.to_owned()), ..by("-") };
    assert_eq!(list(after(".anycloud-a")).await, [".anycloud-", "z"]);
    assert_eq!(list(after(".anycloud-uploads0")).await, ["z"]);
    upload.abort().await.expect("aborted");
}

#[tokio::test]
async fn parts_of_a_killed_process_are_found_once_they_are_old() {
    let server = Server::start();
    let store = store(&server, "data", None);
    store.put_bytes(&key("stays"), "x").await.expect("put");
    let mut upload = store.start_upload(&key("large"), large(PutMode::Overwrite)).await.expect("begun");
    upload.put_part("a".into()).await.expect("sent");
    upload.put_part("b".into()).await.expect("sent");
    std::mem::forget(upload);
    assert_eq!(store.abort_stale_uploads(Duration::from_secs(3600)).await.expect("swept").aborted, 0);
    assert_eq!(names(&server, "data").len(), 3);
    assert_eq!(store.abort_stale_uploads(Duration::ZERO).await.expect("swept").aborted, 1);
    assert_eq!(names(&server, "data"), ["stays"]);
}

#[tokio::test]
async fn nothing_else_is_written_among_the_parts() {
    let server = Server::start();
    let store = store(&server, "data", None);
    let reserved = key(".anycloud-uploads/mine");
    assert_eq!(store.put_bytes(&reserved, "x").await.expect_err("refused").kind(), ErrorKind::InvalidInput);
    let upload = store.start_upload(&reserved, PutOptions::default()).await;
    assert_eq!(upload.expect_err("refused").kind(), ErrorKind::InvalidInput);
    let copied = store.copy(&key("a"), &reserved, Default::default()).await;
    assert_eq!(copied.expect_err("refused").kind(), ErrorKind::InvalidInput);
}

async fn rules(store: &Arc<dyn ObjectStore>, options: PutOptions) -> PartRules {
    let upload: Box<dyn Upload> = store.start_upload(&key("large"), options).await.expect("begun");
    upload.rules()
}

#[tokio::test]
async fn a_bucket_that_would_keep_the_parts_gets_none() {
    let server = Server::start();
    for (name, settings) in [
        ("kept", json!({"retentionPolicy": {"retentionPeriod": "60"}})),
        ("held", json!({"defaultEventBasedHold": true})),
        ("cold", json!({"storageClass": "NEARLINE"})),
    ] {
        let mut bucket = settings.clone();
        bucket["name"] = json!(name);
        server.post("/storage/v1/b?project=p", &bucket).ok();
        assert!(!rules(&store(&server, name, None), large(PutMode::Overwrite)).await.parallel, "{name}");
    }
    let standard = PutOptions { storage_class: Some("STANDARD".to_owned()), ..large(PutMode::Overwrite) };
    assert!(rules(&store(&server, "cold", None), standard).await.parallel);
    let cold = PutOptions { storage_class: Some("COLDLINE".to_owned()), ..large(PutMode::Overwrite) };
    assert!(!rules(&store(&server, "data", None), cold).await.parallel);
    // Nor does an upload that is small, or whose size nobody knows; nor any where the settings say so.
    assert!(!rules(&store(&server, "data", None), PutOptions::default()).await.parallel);
    assert!(!rules(&store(&server, "data", Some("false")), large(PutMode::Overwrite)).await.parallel);
    assert!(rules(&store(&server, "cold", Some("true")), large(PutMode::Overwrite)).await.parallel);
}

#[tokio::test]
async fn a_bucket_that_tells_nothing_is_asked_once_and_one_that_fails_again() {
    let server = Server::start();
    let fault = |code, times| Fault {
        times,
        ..Fault::next("storage.buckets.get", FaultAction::Status { code, retry_after_seconds: None })
    };
    let secretive = store(&server, "data", None);
    server.emulator.add_fault(fault(403, 1));
    assert!(!rules(&secretive, large(PutMode::Overwrite)).await.parallel);
    assert!(!rules(&secretive, large(PutMode::Overwrite)).await.parallel);
    assert_eq!(calls(&server, "storage.buckets.get"), 1);
    let failing = store(&server, "data", None);
    server.emulator.add_fault(fault(503, 5));
    assert!(!rules(&failing, large(PutMode::Overwrite)).await.parallel);
    assert!(rules(&failing, large(PutMode::Overwrite)).await.parallel);
}

#[tokio::test]
async fn a_stream_is_composed_once_it_proves_to_be_large() {
    let server = Server::start();
    let store = store(&server, "data", None);
    for (bytes, composed) in [(9 << 20, 0), ((32 << 20) + 5, 1)] {
        let piece = Bytes::from(vec![0x5A; 1 << 20]);
        let mut writer = store.writer(&key("large"), PutOptions::default());
        for start in (0..bytes).step_by(1 << 20) {
            writer.write(piece.slice(..piece.len().min(bytes - start))).await.expect("written");
        }
        writer.finish().await.expect("published");
        let meta = store.head(&key("large"), Default::default()).await.expect("an object");
        assert_eq!(meta.size, bytes as u64);
        assert_eq!(calls(&server, "storage.objects.compose"), composed, "{bytes}");
    }
    assert_eq!(names(&server, "data"), ["large"]);
}

#[tokio::test]
async fn parts_are_cut_by_the_rules_whatever_was_asked_for() {
    let server = Server::start();
    let store = store(&server, "data", None);
    let bytes = content();
    for piece in [1_000, 300_000, 1_500_000] {
        let mut writer = store.writer(&key("odd"), PutOptions::default()).with_parts(300_000, 3);
        for start in (0..bytes.len()).step_by(piece) {
            writer.write(bytes.slice(start..bytes.len().min(start + piece))).await.expect("written");
        }
        writer.finish().await.expect("published");
        assert!(store.get_bytes(&key("odd")).await.expect("bytes") == bytes, "{piece}");
    }
}
