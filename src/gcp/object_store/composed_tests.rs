//! What the service may do to a composed upload that the emulator does not do on demand.

use bytes::Bytes;

use super::GcsStore;
use super::tests::{create, key, refused, resource, store};
use crate::http::scripted::{Reply, Server};
use crate::object_store::{Crc32c, Upload};
use crate::{ErrorKind, ObjectStore as _, PutOptions, WriteId};

const BYTES: Bytes = Bytes::from_static(b"part");

/// An answer to both questions, which come in any order.
fn suitable() -> Reply {
    Reply::ok(
        r#"{"storageClass":"STANDARD","permissions":["storage.objects.create","storage.objects.get",
            "storage.objects.delete","storage.objects.list"]}"#,
    )
}

fn empty() -> Reply {
    Reply::ok("{}")
}

fn gone() -> Reply {
    Reply::status(404).body(r#"{"error":{"code":404,"message":"No such object: b/x"}}"#)
}

async fn begun(id: &WriteId, script: Vec<Reply>) -> (Server, Box<dyn Upload>) {
    let (server, store) = store([vec![suitable(), suitable()], script].concat()).await;
    let upload = store.start_upload(&key(), large(id)).await.unwrap();
    assert!(upload.rules().parallel);
    (server, upload)
}

fn large(id: &WriteId) -> PutOptions {
    PutOptions { expected_bytes: Some(1 << 30), ..create(id) }
}

fn lines(server: &Server) -> Vec<String> {
    server.requests().iter().skip(2).map(|request| request.line.clone()).collect()
}

#[tokio::test]
async fn a_part_whose_answer_was_lost_recognises_itself() {
    let id = WriteId::random();
    let script =
        vec![Reply::Reset, refused(), resource(5, &BYTES, id.as_str()), resource(9, &BYTES, id.as_str()), empty()];
    let (server, mut upload) = begun(&id, script).await;
    upload.put_part(BYTES.into()).await.unwrap();
    assert_eq!(upload.finish(Crc32c::of(&BYTES)).await.unwrap().version.to_string(), "gcp:9");
    let lines = lines(&server);
    assert!(lines[0].contains("ifGenerationMatch=0") && lines[0] == lines[1], "{lines:?}");
    assert!(lines[2].starts_with("GET /storage/v1/b/b/o/.anycloud-uploads%2F"), "{lines:?}");
    let composed = server.requests()[5].clone();
    assert!(composed.line.starts_with("POST /storage/v1/b/b/o/k/compose?"), "{composed:?}");
    assert!(composed.line.contains("ifGenerationMatch=0"), "{composed:?}");
    assert!(composed.text().contains(r#""generation":"5""#), "{composed:?}");
}

/// The first attempt has deleted the parts, so that the second finds none.
#[tokio::test]
async fn a_composition_whose_answer_was_lost_recognises_itself() {
    let id = WriteId::random();
    let script =
        vec![resource(5, &BYTES, id.as_str()), Reply::Reset, gone(), resource(9, &BYTES, id.as_str()), empty()];
    let (_server, mut upload) = begun(&id, script).await;
    upload.put_part(BYTES.into()).await.unwrap();
    assert_eq!(upload.finish(Crc32c::of(&BYTES)).await.unwrap().version.to_string(), "gcp:9");
}

#[tokio::test]
async fn a_lost_composition_that_another_write_has_covered_is_indeterminate() {
    let id = WriteId::random();
    let other = resource(10, b"y", WriteId::random().as_str());
    let script = vec![resource(5, &BYTES, id.as_str()), Reply::Reset, gone(), other, empty()];
    let (_server, mut upload) = begun(&id, script).await;
    upload.put_part(BYTES.into()).await.unwrap();
    let error = upload.finish(Crc32c::of(&BYTES)).await.unwrap_err();
    assert_eq!((error.kind(), error.write_id()), (ErrorKind::Indeterminate, Some(&id)), "{error}");
}

#[tokio::test]
async fn parts_that_a_sweep_has_removed_are_an_aborted_upload() {
    let id = WriteId::random();
    let (_server, mut upload) = begun(&id, vec![resource(5, &BYTES, id.as_str()), gone(), empty()]).await;
    upload.put_part(BYTES.into()).await.unwrap();
    let error = upload.finish(Crc32c::of(&BYTES)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.message().contains("aborted"), "{error}");
}

/// <https://cloud.google.com/storage/docs/object-versioning>
#[tokio::test]
async fn what_is_left_is_removed_by_generation_in_every_version() {
    let id = WriteId::random();
    let left = r#"{"items":[
        {"name":".anycloud-uploads/u/0","generation":"5","updated":"2026-06-01T00:00:00Z"},
        {"name":".anycloud-uploads/u/0","generation":"4","updated":"2026-06-01T00:00:00Z"}]}"#;
    let script = vec![resource(5, &BYTES, id.as_str()), refused(), Reply::ok(left), Reply::status(204), gone()];
    let (server, mut upload) = begun(&id, script).await;
    upload.put_part(BYTES.into()).await.unwrap();
    let error = upload.finish(Crc32c::of(&BYTES)).await.unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::AlreadyExists, "gs://b/k"), "{error}");
    let lines = lines(&server);
    assert!(lines[2].contains("versions=true"), "{lines:?}");
    let mut generations: Vec<_> =
        lines[3..].iter().filter_map(|line| Some(line.split_once("?generation=")?.1.get(..1)?.to_owned())).collect();
    generations.sort();
    assert_eq!(generations, ["4", "5"], "{lines:?}");
}

#[tokio::test]
async fn a_missing_permission_to_delete_means_one_connection() {
    let granted = Reply::ok(r#"{"storageClass":"STANDARD","permissions":["storage.objects.create"]}"#);
    let (server, store) = store(vec![granted.clone(), granted]).await;
    let session = Reply::ok("").header("location", format!("{}/session", server.url()));
    server.then([session].into_iter());
    assert!(!sends_in_parallel(&store).await);
}

async fn sends_in_parallel(store: &GcsStore) -> bool {
    store.start_upload(&key(), large(&WriteId::random())).await.unwrap().rules().parallel
}
