//! What the service may do that no emulator does on demand: answers lost after the commit, refused conditions that are
//! echoes, uploads kept in part, throttling, redirects.

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::GcsStore;
use crate::http::scripted::{Reply, Server};
use crate::object_store::{Crc32c, DeleteOptions, ListOptions};
use crate::{Config, ErrorKind, GetOptions, ObjectKey, ObjectStore as _, PutMode, PutOptions, WriteId};

pub(super) async fn store(script: Vec<Reply>) -> (Server, GcsStore) {
    let server = Server::start(script).await;
    let mut config = Config::local("/nonexistent");
    config.gcp.bucket = "b".to_owned();
    config.gcp.emulator = true;
    config.gcp.storage_endpoint = Some(server.url().to_owned());
    let store = GcsStore::new(&config).unwrap();
    (server, store)
}

pub(super) fn key() -> ObjectKey {
    ObjectKey::new("k").unwrap()
}

/// <https://cloud.google.com/storage/docs/json_api/v1/objects#resource>
pub(super) fn resource(generation: u32, bytes: &[u8], write: &str) -> Reply {
    Reply::ok(format!(
        r#"{{"generation":"{generation}","size":"{}","crc32c":"{}","updated":"{}","metadata":{{"anycloud-write-id":"{write}"}}}}"#,
        bytes.len(),
        Crc32c::of(bytes).to_base64(),
        jiff::Timestamp::now(),
    ))
}

/// <https://cloud.google.com/storage/docs/json_api/v1/status-codes#412_Precondition_Failed>
pub(super) fn refused() -> Reply {
    Reply::status(412).body(r#"{"error":{"code":412,"message":"m","errors":[{"reason":"conditionNotMet"}]}}"#)
}

pub(super) fn create(id: &WriteId) -> PutOptions {
    PutOptions { mode: PutMode::Create, write_id: Some(id.clone()), ..PutOptions::default() }
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_recognises_itself_behind_the_refused_condition() {
    let id = WriteId::random();
    let (server, store) = store(vec![Reply::Reset, refused(), resource(7, b"x", id.as_str())]).await;
    let put = store.put(&key(), Bytes::from_static(b"x"), create(&id)).await.unwrap();
    assert_eq!((put.version.to_string(), put.write_id), ("gcp:7".to_owned(), id));
    let lines: Vec<_> = server.requests().iter().map(|request| request.line.clone()).collect();
    assert!(lines[0].contains("ifGenerationMatch=0") && lines[0] == lines[1], "{lines:?}");
    assert!(lines[2].starts_with("GET /storage/v1/b/b/o/k?"), "{lines:?}");
}

#[tokio::test]
async fn a_refused_create_that_nothing_was_lost_of_is_already_exists() {
    let (server, store) = store(vec![refused()]).await;
    let error = store.put(&key(), Bytes::new(), create(&WriteId::random())).await.unwrap_err();
    assert_eq!((error.kind(), server.requests().len()), (ErrorKind::AlreadyExists, 1), "{error}");
    assert_eq!((error.subject(), error.code()), ("gs://b/k", Some("conditionNotMet")));
}

#[tokio::test]
async fn a_create_after_a_lost_answer_is_indeterminate_where_another_write_is_found() {
    let id = WriteId::random();
    let other = WriteId::random();
    let (_server, store) = store(vec![Reply::Reset, refused(), resource(8, b"y", other.as_str())]).await;
    let error = store.put(&key(), Bytes::new(), create(&id)).await.unwrap_err();
    assert_eq!((error.kind(), error.write_id()), (ErrorKind::Indeterminate, Some(&id)), "{error}");
}

#[tokio::test]
async fn an_answer_cut_off_after_the_commit_counts_as_lost() {
    let id = WriteId::random();
    let cut = resource(7, b"x", id.as_str()).cut_after(10);
    let (_server, store) = store(vec![cut, refused(), resource(7, b"x", id.as_str())]).await;
    assert_eq!(store.put(&key(), Bytes::from_static(b"x"), create(&id)).await.unwrap().version.to_string(), "gcp:7");
}

/// <https://cloud.google.com/storage/docs/retry-strategy>
#[tokio::test]
async fn throttling_is_waited_out_for_at_least_a_second() {
    let (_server, store) = store(vec![Reply::status(429), resource(1, b"x", "")]).await;
    let begun = std::time::Instant::now();
    store.put(&key(), Bytes::from_static(b"x"), PutOptions::default()).await.unwrap();
    assert!(begun.elapsed().as_millis() >= 1_000, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_redirect_is_refused_and_not_followed() {
    let (server, store) = store(vec![Reply::status(307).header("location", "http://192.0.2.1/")]).await;
    let error = store.get(&key(), GetOptions::default()).await.unwrap_err();
    assert_eq!((error.kind(), server.requests().len()), (ErrorKind::Internal, 1), "{error}");
}

#[tokio::test]
async fn an_emulator_is_given_no_credentials_and_no_metadata_server_is_asked() {
    let (server, store) = store(vec![resource(1, b"x", "")]).await;
    store.put(&key(), Bytes::from_static(b"x"), PutOptions::default()).await.unwrap();
    assert!(server.requests().iter().all(|request| request.header("authorization").is_none()));
}

fn media(bytes: &'static [u8], of: &[u8]) -> Reply {
    Reply::ok(bytes)
        .header("x-goog-generation", "5")
        .header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")
        .header("x-goog-hash", format!("crc32c={},md5=AAAA", Crc32c::of(of).to_base64()))
}

#[tokio::test]
async fn bytes_that_do_not_match_their_checksum_are_corrupt() {
    let (_server, store) = store(vec![media(b"hallo", b"hello")]).await;
    let got = store.get(&key(), GetOptions::default()).await.unwrap();
    assert_eq!(got.bytes().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error_and_not_a_short_object() {
    let (server, store) = store(vec![media(b"hello", b"hello").cut_after(3)]).await;
    let got = store.get(&key(), GetOptions::default()).await.unwrap();
    let error = got.bytes().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error:?}");
    assert_eq!(server.requests()[0].header("accept-encoding"), Some("gzip"));
}

#[tokio::test]
async fn a_version_other_than_the_one_asked_for_is_never_handed_out() {
    let (_server, store) = store(vec![media(b"x", b"x")]).await;
    let options = GetOptions { if_match: Some(crate::object_store::Version::new("gcp", "4")), ..GetOptions::default() };
    assert_eq!(store.get(&key(), options).await.unwrap_err().kind(), ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn a_page_token_that_repeats_ends_the_listing_with_an_error() {
    let page = || Reply::ok(r#"{"prefixes":[],"nextPageToken":"t"}"#);
    let (_server, store) = store(vec![page(), page()]).await;
    let listed: crate::Result<Vec<_>> = store.list(ListOptions::default()).try_collect().await;
    assert_eq!(listed.unwrap_err().kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn a_conditional_delete_whose_answer_was_lost_is_indeterminate_once_the_version_is_gone() {
    let gone = Reply::status(404).body(r#"{"error":{"code":404,"message":"No such object: b/k"}}"#);
    let (_server, store) = store(vec![Reply::Reset, gone]).await;
    let options = DeleteOptions { if_match: Some(crate::object_store::Version::new("gcp", "4")) };
    assert_eq!(store.delete(&key(), options).await.unwrap_err().kind(), ErrorKind::Indeterminate);
}

const UNIT: usize = 256 << 10;

/// A session at the server itself, whose address the script does not know before it starts.
async fn upload(script: Vec<Reply>) -> (Server, Box<dyn crate::object_store::Upload>) {
    let server = Server::start(Vec::new()).await;
    let location = format!("{}/session?upload_id=secret", server.url());
    server.then([Reply::ok("").header("location", location)].into_iter().chain(script));
    let mut config = Config::local("/nonexistent");
    config.gcp.bucket = "b".to_owned();
    config.gcp.emulator = true;
    config.gcp.storage_endpoint = Some(server.url().to_owned());
    let store = GcsStore::new(&config).unwrap();
    let upload = store.start_upload(&key(), PutOptions::default()).await.unwrap();
    (server, upload)
}

fn kept(bytes: usize) -> Reply {
    let reply = Reply::status(308);
    if bytes == 0 { reply } else { reply.header("range", format!("bytes=0-{}", bytes - 1)) }
}

fn ranges(server: &Server) -> Vec<String> {
    let requests = server.requests();
    requests.iter().filter_map(|request| request.header("content-range").map(str::to_owned)).collect()
}

/// <https://cloud.google.com/storage/docs/performing-resumable-uploads#resume-upload>
#[tokio::test]
async fn an_upload_goes_on_from_where_the_service_says_it_is() {
    let bytes = Bytes::from(vec![7; 4 * UNIT]);
    let script = vec![Reply::Reset, kept(UNIT), kept(2 * UNIT), kept(3 * UNIT), resource(9, &bytes, "")];
    let (server, mut upload) = upload(script).await;
    upload.put_part(bytes.clone().into()).await.unwrap();
    let put = upload.finish(Crc32c::of(&bytes)).await.unwrap();
    assert_eq!(put.version.to_string(), "gcp:9");
    let at = |units: usize| units * UNIT;
    let expected = [
        format!("bytes 0-{}/*", at(3) - 1),
        "bytes */*".to_owned(),
        format!("bytes {}-{}/*", at(1), at(3) - 1),
        format!("bytes {}-{}/*", at(2), at(3) - 1),
        format!("bytes {}-{}/{}", at(3), at(4) - 1, at(4)),
    ];
    assert_eq!(ranges(&server), expected);
    let requests = server.requests();
    assert_eq!(requests[4].body.len(), UNIT);
    let crc = format!("crc32c={}", Crc32c::of(&bytes).to_base64());
    assert_eq!(requests[5].header("x-goog-hash"), Some(crc.as_str()));
}

#[tokio::test]
async fn a_last_chunk_whose_answer_was_lost_is_found_finished() {
    let bytes = Bytes::from_static(b"short");
    let (server, mut upload) = upload(vec![Reply::Reset, resource(9, &bytes, "")]).await;
    upload.put_part(bytes.clone().into()).await.unwrap();
    assert_eq!(upload.finish(Crc32c::of(&bytes)).await.unwrap().version.to_string(), "gcp:9");
    assert_eq!(ranges(&server), ["bytes 0-4/5", "bytes */5"]);
}

#[tokio::test]
async fn an_upload_that_lost_acknowledged_bytes_fails() {
    let bytes = Bytes::from(vec![7; 2 * UNIT]);
    let (_server, mut upload) = upload(vec![kept(UNIT), kept(0)]).await;
    upload.put_part(bytes.clone().into()).await.unwrap();
    upload.put_part(bytes.into()).await.unwrap_err();
}

/// <https://cloud.google.com/storage/docs/performing-resumable-uploads#cancel-upload>
#[tokio::test]
async fn a_dropped_upload_is_cancelled() {
    let (server, upload) = upload(vec![Reply::status(499)]).await;
    drop(upload);
    for _ in 0..100 {
        if server.requests().len() == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(server.requests()[1].line.starts_with("DELETE /session?"), "{:?}", server.requests());
}

#[tokio::test]
async fn a_session_on_another_host_is_refused() {
    let (_server, store) = store(vec![Reply::ok("").header("location", "http://127.0.0.2:9/session")]).await;
    let error = store.start_upload(&key(), PutOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
}

#[tokio::test]
async fn a_part_after_the_last_one_is_refused() {
    let (_server, mut upload) = upload(Vec::new()).await;
    upload.put_part("short".into()).await.unwrap();
    let error = upload.put_part("more".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
