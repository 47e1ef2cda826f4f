use std::time::Duration;

use bytes::Bytes;

use super::S3Store;
use super::bucket::Bucket;
use crate::aws::connection::Connection;
use crate::aws::scripted::config;
use crate::object_store::{CopyOptions, Crc32c, DeleteOptions, HeadOptions};
use crate::retry::Calls;
use crate::{ErrorKind, GetOptions, ObjectKey, ObjectStore as _, PutMode, PutOptions};

fn key() -> ObjectKey {
    ObjectKey::new("k").unwrap()
}

/// LocalStack with a bucket of its own, where the variable says that there is one.
async fn on_localstack(bucket: &str) -> Option<(Bucket, aws_sdk_s3::Client)> {
    let endpoint = crate::config::process_variable("ANYCLOUD_TEST_LOCALSTACK")?;
    let mut config = config(&endpoint);
    config.retry = crate::retry::RetryPolicy::default();
    config.aws.bucket = format!("{bucket}-{}", crate::random::uuid());
    let bucket = Bucket::new(&config, Connection::new(&config).unwrap().with_made_up_credentials());
    let client = bucket.client().await.unwrap().clone();
    client.create_bucket().bucket(&bucket.name).send().await.unwrap();
    Some((bucket, client))
}

#[tokio::test]
async fn a_copy_too_large_for_one_request_goes_by_parts_and_keeps_everything() {
    let Some((mut bucket, client)) = on_localstack("parts").await else { return };
    (bucket.single_copy_bytes, bucket.copy_part_bytes) = (6 << 20, 5 << 20);
    let store = S3Store(Calls::new(bucket));
    let (from, to) = (key(), ObjectKey::new("copies/ü +%2F.bin").unwrap());
    let bytes = Bytes::from((0..12_000_000_u32).map(|index| (index >> 8) as u8).collect::<Vec<_>>());
    let mut options = PutOptions::default();
    options.headers.content_type = Some("application/x-weeks".to_owned());
    options.metadata.insert("rows", "many ü").unwrap();
    store.put(&from, bytes.clone(), options).await.unwrap();
    let tag = aws_sdk_s3::types::Tag::builder().key("team a").value("b=c +").build().unwrap();
    let tags = aws_sdk_s3::types::Tagging::builder().tag_set(tag.clone()).build().unwrap();
    client.put_object_tagging().bucket(&store.0.each().name).key("k").tagging(tags).send().await.unwrap();
    let create = CopyOptions { mode: PutMode::Create, ..CopyOptions::default() };
    let done = store.copy(&from, &to, create.clone()).await.unwrap();
    let meta = store.head(&to, HeadOptions::default()).await.unwrap();
    assert_eq!((meta.version, meta.write_id), (done.version, Some(done.write_id)));
    assert_eq!(meta.crc32c, Some(Crc32c::of(&bytes)));
    assert_eq!(meta.headers.content_type.as_deref(), Some("application/x-weeks"));
    assert_eq!(meta.metadata.get("rows"), Some("many ü"));
    let tagging = client.get_object_tagging().bucket(&store.0.each().name).key(to.as_str()).send().await.unwrap();
    assert_eq!(tagging.tag_set(), [tag]);
    assert!(store.get(&to, GetOptions::default()).await.unwrap().bytes().await.unwrap() == bytes);
    let again = store.copy(&from, &to, create).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    let uploads = client.list_multipart_uploads().bucket(&store.0.each().name).send().await.unwrap();
    assert!(uploads.uploads().is_empty(), "the refused copy is cleaned up");
}

#[tokio::test]
async fn a_bucket_that_keeps_versions_yields_older_ones() {
    use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
    let Some((bucket, client)) = on_localstack("versions").await else { return };
    let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    client.put_bucket_versioning().bucket(&bucket.name).versioning_configuration(on).send().await.unwrap();
    let store = S3Store(Calls::new(bucket));
    let one = store.put(&key(), Bytes::from_static(b"one"), PutOptions::default()).await.unwrap().version;
    let two = store.put(&key(), Bytes::from_static(b"two"), PutOptions::default()).await.unwrap().version;
    store.delete(&key(), DeleteOptions::default()).await.unwrap();
    for (version, expected) in [(&one, "one"), (&two, "two")] {
        let options = GetOptions { version: Some(version.clone()), ..GetOptions::default() };
        assert_eq!(store.get(&key(), options).await.unwrap().bytes().await.unwrap(), expected);
        let meta = store.head(&key(), HeadOptions { version: Some(version.clone()) }).await.unwrap();
        assert_eq!(&meta.version, version);
    }
    let current = store.get(&key(), GetOptions::default()).await.unwrap_err();
    assert_eq!(current.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn stale_uploads_are_removed_and_young_ones_are_not() {
    let Some((bucket, client)) = on_localstack("stale").await else { return };
    let store = S3Store(Calls::new(bucket));
    // Not every key: LocalStack lists keys of uploads as they are and says that they are encoded.
    for name in ["a b", "a/ü"] {
        let create = client.create_multipart_upload().bucket(&store.0.each().name).key(name);
        create.send().await.unwrap();
    }
    assert_eq!(store.abort_stale_uploads(Duration::from_secs(3600)).await.unwrap().aborted, 0);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(store.abort_stale_uploads(Duration::ZERO).await.unwrap().aborted, 2);
    let uploads = client.list_multipart_uploads().bucket(&store.0.each().name).send().await.unwrap();
    assert!(uploads.uploads().is_empty());
}
