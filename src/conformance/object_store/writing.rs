use bytes::Bytes;

use super::super::{Case, cases, kind};
use super::Fixture;
use crate::object_store::{ContentHeaders, CopyOptions, Crc32c, DeleteOptions, HeadOptions, Metadata};
use crate::{ErrorKind, ObjectStoreExt as _, PutOptions, WriteId};

pub(super) fn cases() -> Vec<Case<Fixture>> {
    cases![
        a_put_is_read_back,
        an_empty_object_is_an_object,
        a_put_replaces_and_gives_a_new_version,
        headers_and_metadata_come_back_as_given,
        encoded_content_is_stored_and_returned_as_it_is,
        a_write_is_found_by_its_id,
        the_checksum_is_stored_and_a_wrong_one_refused,
        delete_is_idempotent,
        deleting_many_says_for_each_what_became_of_it,
        a_copy_carries_headers_and_metadata,
        a_copy_can_replace_headers_and_metadata,
        a_copy_keeps_the_storage_class,
        a_copy_of_what_is_not_there_is_not_found,
        an_object_can_be_copied_onto_itself_with_other_metadata,
        json_and_text_round_trip,
        a_prefix_is_deleted_whole,
    ]
}

fn described() -> (ContentHeaders, Metadata) {
    let headers = ContentHeaders {
        content_type: Some("text/csv; charset=utf-8".to_owned()),
        content_disposition: Some("attachment; filename=\"weeks.csv\"".to_owned()),
        content_language: Some("de".to_owned()),
        cache_control: Some("no-store".to_owned()),
        content_encoding: None,
    };
    let mut metadata = Metadata::new();
    metadata.insert("model", "ridge 100 %").unwrap();
    metadata.insert("author", "Jürgen ☃").unwrap();
    metadata.insert("empty-ish", " x ").unwrap();
    (headers, metadata)
}

async fn a_put_is_read_back(fixture: Fixture) {
    let key = fixture.key("a");
    let put = fixture.put("a", "hello").await;
    assert_eq!(fixture.store.get_bytes(&key).await.unwrap(), "hello");
    let meta = fixture.store.head(&key, HeadOptions::default()).await.unwrap();
    assert_eq!((meta.size, &meta.version, &meta.key), (5, &put.version, &key));
    let age = std::time::SystemTime::now().duration_since(meta.last_modified).unwrap_or_default();
    assert!(age.as_secs() < 600, "{age:?}");
    assert!(fixture.store.exists(&key).await.unwrap());
    assert!(!fixture.store.exists(&fixture.key("b")).await.unwrap());
}

async fn an_empty_object_is_an_object(fixture: Fixture) {
    fixture.put("empty", "").await;
    let got = fixture.store.get(&fixture.key("empty"), Default::default()).await.unwrap();
    assert_eq!((got.meta.size, got.range.clone()), (0, 0..0));
    assert!(got.bytes().await.unwrap().is_empty());
}

async fn a_put_replaces_and_gives_a_new_version(fixture: Fixture) {
    let one = fixture.put("a", "one").await;
    let two = fixture.put("a", "two").await;
    assert_ne!(one.version, two.version);
    assert_ne!(one.write_id, two.write_id);
    assert_eq!(fixture.store.get_bytes(&fixture.key("a")).await.unwrap(), "two");
}

async fn headers_and_metadata_come_back_as_given(fixture: Fixture) {
    let (headers, metadata) = described();
    let options = PutOptions { headers: headers.clone(), metadata: metadata.clone(), ..PutOptions::default() };
    fixture.store.put(&fixture.key("a"), Bytes::from_static(b"x"), options).await.unwrap();
    let head = fixture.store.head(&fixture.key("a"), HeadOptions::default()).await.unwrap();
    assert_eq!((&head.headers, &head.metadata), (&headers, &metadata));
    let got = fixture.store.get(&fixture.key("a"), Default::default()).await.unwrap();
    assert_eq!((&got.meta.headers, &got.meta.metadata), (&headers, &metadata));
}

async fn encoded_content_is_stored_and_returned_as_it_is(fixture: Fixture) {
    // A gzip stream of "hello": what a server that undoes encodings would turn into five bytes.
    const GZIP: &[u8] =
        &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0x86, 0xa6, 0x10, 0x36, 5, 0, 0, 0];
    let headers = ContentHeaders { content_encoding: Some("gzip".to_owned()), ..ContentHeaders::of_type("text/plain") };
    let options = PutOptions { headers, ..PutOptions::default() };
    fixture.store.put(&fixture.key("a.gz"), Bytes::from_static(GZIP), options).await.unwrap();
    let got = fixture.store.get(&fixture.key("a.gz"), Default::default()).await.unwrap();
    assert_eq!(got.meta.headers.content_encoding.as_deref(), Some("gzip"));
    assert_eq!(got.meta.size, GZIP.len() as u64);
    assert_eq!(got.bytes().await.unwrap(), GZIP);
}

async fn a_write_is_found_by_its_id(fixture: Fixture) {
    let key = fixture.key("a");
    let id = WriteId::random();
    assert!(fixture.store.find_write(&key, &id).await.unwrap().is_none());
    let options = PutOptions { write_id: Some(id.clone()), ..PutOptions::default() };
    let put = fixture.store.put(&key, Bytes::from_static(b"x"), options).await.unwrap();
    assert_eq!(put.write_id, id);
    assert_eq!(fixture.store.find_write(&key, &id).await.unwrap().unwrap().version, put.version);
    fixture.put("a", "y").await;
    assert!(fixture.store.find_write(&key, &id).await.unwrap().is_none());
}

async fn the_checksum_is_stored_and_a_wrong_one_refused(fixture: Fixture) {
    let key = fixture.key("a");
    let wrong = PutOptions { crc32c: Some(Crc32c(1)), ..PutOptions::default() };
    let refused = fixture.store.put(&key, Bytes::from_static(b"hello"), wrong).await;
    assert_eq!(kind(refused), ErrorKind::Corrupt);
    assert!(!fixture.store.exists(&key).await.unwrap());
    let right = PutOptions { crc32c: Some(Crc32c::of(b"hello")), ..PutOptions::default() };
    fixture.store.put(&key, Bytes::from_static(b"hello"), right).await.unwrap();
    let meta = fixture.store.head(&key, HeadOptions::default()).await.unwrap();
    if fixture.store.capabilities().stored_crc32c {
        assert_eq!(meta.crc32c, Some(Crc32c::of(b"hello")));
    }
}

async fn delete_is_idempotent(fixture: Fixture) {
    fixture.put("a", "x").await;
    for _ in 0..2 {
        fixture.store.delete(&fixture.key("a"), DeleteOptions::default()).await.unwrap();
        assert!(!fixture.store.exists(&fixture.key("a")).await.unwrap());
    }
}

async fn deleting_many_says_for_each_what_became_of_it(fixture: Fixture) {
    fixture.put("a", "x").await;
    fixture.put("b/ü%2F", "x").await;
    fixture.put("stays", "x").await;
    let keys = vec![fixture.key("a"), fixture.key("missing"), fixture.key("b/ü%2F")];
    let results = fixture.store.delete_many(keys.clone()).await;
    assert_eq!(results.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), keys);
    assert!(results.iter().all(|(_, result)| result.is_ok()), "{results:?}");
    let left = fixture.store.list_all(&fixture.prefix).await.unwrap();
    assert_eq!(left.into_iter().map(|object| object.key).collect::<Vec<_>>(), [fixture.key("stays")]);
    assert!(fixture.store.delete_many(Vec::new()).await.is_empty());
}

async fn a_copy_carries_headers_and_metadata(fixture: Fixture) {
    let (headers, metadata) = described();
    let options = PutOptions { headers: headers.clone(), metadata: metadata.clone(), ..PutOptions::default() };
    let source = fixture.store.put(&fixture.key("from"), Bytes::from_static(b"x"), options).await.unwrap();
    let to = fixture.key("to ü/%2F");
    let copied = fixture.store.copy(&fixture.key("from"), &to, CopyOptions::default()).await.unwrap();
    assert_ne!(copied.write_id, source.write_id);
    let meta = fixture.store.head(&to, HeadOptions::default()).await.unwrap();
    assert_eq!((&meta.headers, &meta.metadata), (&headers, &metadata));
    assert_eq!((meta.version, meta.write_id), (copied.version, Some(copied.write_id)));
    assert_eq!(fixture.store.get_bytes(&to).await.unwrap(), "x");
}

async fn a_copy_can_replace_headers_and_metadata(fixture: Fixture) {
    fixture.put("from", "x").await;
    let (headers, metadata) = described();
    let options = CopyOptions { replace: Some((headers.clone(), metadata.clone())), ..CopyOptions::default() };
    fixture.store.copy(&fixture.key("from"), &fixture.key("to"), options).await.unwrap();
    let meta = fixture.store.head(&fixture.key("to"), HeadOptions::default()).await.unwrap();
    assert_eq!((meta.headers, meta.metadata), (headers, metadata));
}

async fn a_copy_keeps_the_storage_class(fixture: Fixture) {
    let class = match fixture.store.capabilities().provider {
        "aws" => "STANDARD_IA",
        _ => "NEARLINE",
    };
    let options = PutOptions { storage_class: Some(class.to_owned()), ..PutOptions::default() };
    fixture.store.put(&fixture.key("a"), Bytes::from_static(b"x"), options).await.unwrap();
    let replaced = CopyOptions { replace: Some(described()), ..CopyOptions::default() };
    for (to, options) in [("b", CopyOptions::default()), ("c", replaced.clone()), ("a", replaced)] {
        fixture.store.copy(&fixture.key("a"), &fixture.key(to), options).await.unwrap();
        let copy = fixture.store.head(&fixture.key(to), HeadOptions::default()).await.unwrap();
        assert_eq!(copy.storage_class.as_deref(), Some(class), "{to}");
    }
}

async fn a_copy_of_what_is_not_there_is_not_found(fixture: Fixture) {
    let copied = fixture.store.copy(&fixture.key("no"), &fixture.key("to"), CopyOptions::default()).await;
    assert_eq!(kind(copied), ErrorKind::NotFound);
    assert!(!fixture.store.exists(&fixture.key("to")).await.unwrap());
}

async fn an_object_can_be_copied_onto_itself_with_other_metadata(fixture: Fixture) {
    let before = fixture.put("a", "same bytes").await;
    let (headers, metadata) = described();
    let options = CopyOptions { replace: Some((headers, metadata.clone())), ..CopyOptions::default() };
    let after = fixture.store.copy(&fixture.key("a"), &fixture.key("a"), options).await.unwrap();
    assert_ne!(before.write_id, after.write_id);
    let got = fixture.store.get(&fixture.key("a"), Default::default()).await.unwrap();
    assert_eq!(got.meta.metadata, metadata);
    assert_eq!(got.bytes().await.unwrap(), "same bytes");
}

async fn json_and_text_round_trip(fixture: Fixture) {
    let (json, text) = (fixture.key("j"), fixture.key("t"));
    fixture.store.put_json(&json, &vec![1, 2, 3]).await.unwrap();
    assert_eq!(fixture.store.get_json::<Vec<u8>>(&json).await.unwrap(), [1, 2, 3]);
    assert_eq!(kind(fixture.store.get_json::<String>(&json).await), ErrorKind::InvalidFormat);
    fixture.store.put_text(&text, "grüße").await.unwrap();
    assert_eq!(fixture.store.get_text(&text).await.unwrap(), "grüße");
    fixture.store.put_bytes(&text, Bytes::from_static(b"\xff")).await.unwrap();
    assert_eq!(kind(fixture.store.get_text(&text).await), ErrorKind::InvalidFormat);
}

async fn a_prefix_is_deleted_whole(fixture: Fixture) {
    for name in ["p/a", "p/b/c", "q"] {
        fixture.put(name, "x").await;
    }
    assert_eq!(fixture.store.delete_prefix(fixture.key("p/").as_str()).await.unwrap(), 2);
    assert_eq!(fixture.store.list_all(&fixture.prefix).await.unwrap().len(), 1);
    assert_eq!(kind(fixture.store.delete_prefix("").await), ErrorKind::InvalidInput);
}
