use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, TryStreamExt as _, stream};

use super::super::{Case, cases, kind, unique};
use super::{Fixture, pattern};
use crate::object_store::{ContentHeaders, Crc32c, HeadOptions, ListEntry, ListOptions, Metadata};
use crate::{Error, ErrorKind, ObjectStoreExt as _, PutMode, PutOptions, Result};

pub(super) fn cases() -> Vec<Case<Fixture>> {
    cases![
        a_stream_of_unknown_size_is_stored_whole,
        a_small_stream_is_stored_whole,
        nothing_is_visible_before_an_upload_is_finished,
        an_aborted_or_dropped_upload_publishes_nothing,
        a_failing_stream_publishes_nothing,
        a_write_that_was_dropped_midway_publishes_nothing,
        a_create_only_upload_refuses_to_overwrite,
        an_upload_replaces_only_the_version_that_it_names,
        an_upload_with_a_wrong_checksum_publishes_nothing,
        stale_uploads_are_removed_and_objects_are_not,
        a_large_file_is_stored_whole_and_leaves_nothing_else,
        a_large_file_keeps_to_its_precondition,
        a_large_upload_that_is_dropped_midway_leaves_nothing,
    ]
}

const PART: usize = 6 << 20;
/// What every provider sends in parts, and those that can over several connections.
const LARGE: usize = (32 << 20) + 4_321;

async fn a_stream_of_unknown_size_is_stored_whole(fixture: Fixture) {
    let bytes = Bytes::from(pattern(3 * (8 << 20) + 12_345));
    let mut metadata = Metadata::new();
    metadata.insert("rows", "many").unwrap();
    let headers = ContentHeaders::of_type("application/x-weeks");
    let options = PutOptions { headers: headers.clone(), metadata: metadata.clone(), ..PutOptions::default() };
    let chunks: Vec<_> = (0..bytes.len())
        .step_by(777_777)
        .map(|start| Ok(bytes.slice(start..bytes.len().min(start + 777_777))))
        .collect();
    let put = fixture.store.put_stream(&fixture.key("a"), stream::iter(chunks), options).await.unwrap();
    let meta = fixture.store.head(&fixture.key("a"), HeadOptions::default()).await.unwrap();
    assert_eq!((meta.size, &meta.version), (bytes.len() as u64, &put.version));
    assert_eq!(meta.headers.content_type, headers.content_type);
    assert_eq!((meta.metadata, meta.write_id), (metadata, Some(put.write_id)));
    if fixture.store.capabilities().stored_crc32c {
        assert_eq!(meta.crc32c, Some(Crc32c::of(&bytes)));
    }
    assert!(fixture.store.get_bytes(&fixture.key("a")).await.unwrap() == bytes);
}

async fn a_small_stream_is_stored_whole(fixture: Fixture) {
    let chunks = [Ok(Bytes::from_static(b"he")), Ok(Bytes::new()), Ok(Bytes::from_static(b"llo"))];
    fixture.store.put_stream(&fixture.key("a"), stream::iter(chunks), PutOptions::default()).await.unwrap();
    assert_eq!(fixture.store.get_bytes(&fixture.key("a")).await.unwrap(), "hello");
    fixture.store.put_stream(&fixture.key("b"), stream::iter([]), PutOptions::default()).await.unwrap();
    assert!(fixture.store.get_bytes(&fixture.key("b")).await.unwrap().is_empty());
}

async fn nothing_is_visible_before_an_upload_is_finished(fixture: Fixture) {
    let key = fixture.key("a");
    let bytes = Bytes::from(pattern(2 * PART));
    let mut upload = fixture.store.start_upload(&key, PutOptions::default()).await.unwrap();
    for part in 0..2 {
        upload.put_part(bytes.slice(part * PART..(part + 1) * PART).into()).await.unwrap();
        assert!(!fixture.store.exists(&key).await.unwrap());
        assert!(fixture.store.list_all(&fixture.prefix).await.unwrap().is_empty());
    }
    upload.finish(Crc32c::of(&bytes)).await.unwrap();
    assert!(fixture.store.get_bytes(&key).await.unwrap() == bytes);
}

async fn an_aborted_or_dropped_upload_publishes_nothing(fixture: Fixture) {
    let key = fixture.key("a");
    let mut upload = fixture.store.start_upload(&key, PutOptions::default()).await.unwrap();
    upload.put_part(pattern(PART).into()).await.unwrap();
    upload.abort().await.unwrap();
    let mut writer = fixture.store.writer(&key, PutOptions::default()).with_parts(PART as u64, 2);
    writer.write(pattern(2 * PART + 1)).await.unwrap();
    drop(writer);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(fixture.store.list_all(&fixture.prefix).await.unwrap().is_empty());
}

async fn a_write_that_was_dropped_midway_publishes_nothing(fixture: Fixture) {
    let key = fixture.key("a");
    let mut writer = fixture.store.writer(&key, PutOptions::default()).with_parts(PART as u64, 1);
    let write = writer.write(pattern(3 * PART)).now_or_never();
    assert!(write.is_none(), "the write has to wait for the store");
    assert_eq!(kind(writer.write("more").await), ErrorKind::InvalidInput);
    assert_eq!(kind(writer.finish().await), ErrorKind::InvalidInput);
    assert!(!fixture.store.exists(&key).await.unwrap());
}

async fn a_failing_stream_publishes_nothing(fixture: Fixture) {
    let broken = || Error::new(ErrorKind::InvalidFormat, "test", "row 7", "the source broke");
    let chunks = [Ok(Bytes::from(pattern(17 << 20))), Err(broken())];
    let failed = fixture.store.put_stream(&fixture.key("a"), stream::iter(chunks), PutOptions::default()).await;
    assert_eq!(kind(failed), ErrorKind::InvalidFormat);
    assert!(fixture.store.list_all(&fixture.prefix).await.unwrap().is_empty());
}

async fn a_create_only_upload_refuses_to_overwrite(fixture: Fixture) {
    let key = fixture.key("a");
    let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let bytes = Bytes::from(pattern(9 << 20));
    let body = || stream::iter([Ok(bytes.clone())]);
    fixture.store.put_stream(&key, body(), create()).await.unwrap();
    let before = fixture.store.head(&key, HeadOptions::default()).await.unwrap().version;
    assert_eq!(kind(fixture.store.put_stream(&key, body(), create()).await), ErrorKind::AlreadyExists);
    assert_eq!(fixture.store.head(&key, HeadOptions::default()).await.unwrap().version, before);
}

async fn an_upload_replaces_only_the_version_that_it_names(fixture: Fixture) {
    let key = fixture.key("a");
    let one = fixture.put("a", "one").await.version;
    let replace = || PutOptions { mode: PutMode::Replace(one.clone()), ..PutOptions::default() };
    let bytes = Bytes::from(pattern(9 << 20));
    let body = || stream::iter([Ok(bytes.clone())]);
    fixture.store.put_stream(&key, body(), replace()).await.unwrap();
    assert_eq!(kind(fixture.store.put_stream(&key, body(), replace()).await), ErrorKind::PreconditionFailed);
    assert!(fixture.store.get_bytes(&key).await.unwrap() == bytes);
}

async fn an_upload_with_a_wrong_checksum_publishes_nothing(fixture: Fixture) {
    if !fixture.store.capabilities().stored_crc32c {
        return;
    }
    let key = fixture.key("a");
    let mut upload = fixture.store.start_upload(&key, PutOptions::default()).await.unwrap();
    upload.put_part(pattern(PART).into()).await.unwrap();
    assert_eq!(kind(upload.finish(Crc32c(7)).await), ErrorKind::Corrupt);
    assert!(!fixture.store.exists(&key).await.unwrap());
}

async fn stale_uploads_are_removed_and_objects_are_not(fixture: Fixture) {
    fixture.put("stays", "x").await;
    // Only what is a day old: other cases are uploading at this moment.
    fixture.store.abort_stale_uploads(Duration::from_secs(86_400)).await.unwrap();
    assert_eq!(fixture.store.list_all(&fixture.prefix).await.unwrap().len(), 1);
}

/// A file of these bytes, removed when dropped.
struct File(PathBuf);

impl File {
    fn of(bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(unique("anycloud-file"));
        std::fs::write(&path, bytes).expect("a temporary file can be written");
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn a_large_file_is_stored_whole_and_leaves_nothing_else(fixture: Fixture) {
    let (key, bytes) = (fixture.key("a"), pattern(LARGE));
    let file = File::of(&bytes);
    let mut options = PutOptions { headers: ContentHeaders::of_type("application/x-weeks"), ..PutOptions::default() };
    options.metadata.insert("rows", "many").unwrap();
    let (headers, metadata) = (options.headers.clone(), options.metadata.clone());
    let put = fixture.store.upload_file(&file.0, &key, options, None).await.unwrap();
    let meta = fixture.store.head(&key, HeadOptions::default()).await.unwrap();
    assert_eq!((meta.size, meta.version), (LARGE as u64, put.version));
    assert_eq!((meta.headers.content_type, meta.metadata), (headers.content_type, metadata));
    assert_eq!(meta.write_id, Some(put.write_id));
    if fixture.store.capabilities().stored_crc32c {
        assert_eq!(meta.crc32c, Some(Crc32c::of(&bytes)));
    }
    assert!(fixture.store.get_bytes(&key).await.unwrap() == bytes);
    assert_eq!(fixture.store.list_all(&fixture.prefix).await.unwrap().len(), 1);
    assert_no_parts_are_listed(&fixture).await;
}

/// Others are uploading at this moment too.
async fn assert_no_parts_are_listed(fixture: &Fixture) {
    let options = ListOptions { delimiter: Some("/".to_owned()), ..ListOptions::default() };
    let top: Result<Vec<ListEntry>> = fixture.store.list(options).try_collect().await;
    let hidden = |entry: &ListEntry| entry.name().starts_with('.');
    assert!(!top.as_ref().unwrap().iter().any(hidden), "{top:?}");
}

async fn a_large_file_keeps_to_its_precondition(fixture: Fixture) {
    let (key, file) = (fixture.key("a"), File::of(&pattern(LARGE)));
    let one = fixture.put("a", "one").await.version;
    let upload = async |mode| {
        let options = PutOptions { mode, ..PutOptions::default() };
        fixture.store.upload_file(&file.0, &key, options, None).await
    };
    assert_eq!(kind(upload(PutMode::Create).await), ErrorKind::AlreadyExists);
    assert_eq!(fixture.store.get_text(&key).await.unwrap(), "one");
    upload(PutMode::Replace(one.clone())).await.unwrap();
    assert_eq!(kind(upload(PutMode::Replace(one)).await), ErrorKind::PreconditionFailed);
    assert_eq!(fixture.store.list_all(&fixture.prefix).await.unwrap().len(), 1);
}

async fn a_large_upload_that_is_dropped_midway_leaves_nothing(fixture: Fixture) {
    let options = PutOptions { expected_bytes: Some(LARGE as u64), ..PutOptions::default() };
    let mut writer = fixture.store.writer(&fixture.key("a"), options).with_parts(PART as u64, 2);
    writer.write(pattern(3 * PART + 1)).await.unwrap();
    assert!(fixture.store.list_all(&fixture.prefix).await.unwrap().is_empty());
    assert_no_parts_are_listed(&fixture).await;
    drop(writer);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(fixture.store.list_all(&fixture.prefix).await.unwrap().is_empty());
    assert_no_parts_are_listed(&fixture).await;
}
