//! Requests as they travel, and what is made of the answers.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::S3Store;
use super::tests::{create, error, key, store, written};
use crate::aws::scripted::{Scripted, answer, head};
use crate::object_store::HeadOptions;
use crate::{ErrorKind, GetOptions, ObjectKey, ObjectStore as _, PutOptions, WriteId};

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateSession.html>
#[tokio::test]
async fn a_directory_bucket_is_read_within_a_session_that_is_kept() {
    let session = "<CreateSessionResult><Credentials><AccessKeyId>SESSION</AccessKeyId>\
                   <SecretAccessKey>made-up</SecretAccessKey><SessionToken>T</SessionToken>\
                   <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></CreateSessionResult>";
    let answers = [error(403, "AccessDenied"), answer(200, &[], session), written(), written()];
    let server = Scripted::start(answers).await;
    let mut config = server.config();
    config.aws.bucket = "b--use1-az4--x-s3".to_owned();
    let store = S3Store::with_connection(&config, server.connection());
    let key = key();
    let put = || store.put(&key, Bytes::from_static(b"x"), PutOptions::default());
    let refused = put().await.unwrap_err();
    assert_eq!((refused.kind(), refused.may_have_applied()), (ErrorKind::PermissionDenied, false), "{refused:?}");
    put().await.unwrap();
    put().await.unwrap();
    assert_eq!(server.lines().len(), 4);
    for request in &server.got()[2..] {
        assert_eq!(request.header("x-amz-s3session-token"), Some("T"));
        assert_eq!(request.header("x-amz-security-token"), None);
        let signed = request.header("authorization").unwrap();
        assert!(signed.contains("Credential=SESSION/") && signed.contains("/us-east-1/s3express/"), "{signed}");
    }
}

#[tokio::test]
async fn a_request_carries_what_the_contract_says_and_its_target_is_the_key_as_it_is() {
    let (server, store) = store([written(), answer(304, &[], ""), head(200, &[("content-length", "0")])]).await;
    let key = ObjectKey::new("/a b/../ü+//.").unwrap();
    let target = "/bucket//a%20b/../%C3%BC%2B//.";
    let mut options = create(&WriteId::random());
    options.storage_class = Some("STANDARD_IA".to_owned());
    options.encryption_key = Some("key-1".to_owned());
    options.headers.content_type = Some("text/plain".to_owned());
    options.headers.cache_control = Some("no-cache".to_owned());
    options.metadata.insert("rows", "2  %").unwrap();
    store.put(&key, Bytes::from_static(b"123456789"), options.clone()).await.unwrap();
    let etag = "aws:\"e\"|v 1".parse().unwrap();
    let known = GetOptions { range: Some((2..5).into()), if_none_match: Some(etag), ..GetOptions::default() };
    assert_eq!(store.get(&key, known).await.unwrap_err().kind(), ErrorKind::NotModified);
    let version = Some("aws:\"e\"|v 1".parse().unwrap());
    store.head(&key, HeadOptions { version }).await.unwrap();
    let expected = [format!("PUT {target}"), format!("GET {target}"), format!("HEAD {target}?versionId=v%201")];
    assert_eq!(server.lines(), expected);
    let [put, get, head] = &server.got()[..] else { panic!("three requests") };
    for (request, name, value) in [
        (put, "content-length", "9"),
        (put, "content-type", "text/plain"),
        (put, "cache-control", "no-cache"),
        (put, "if-none-match", "*"),
        (put, "x-amz-storage-class", "STANDARD_IA"),
        (put, "x-amz-server-side-encryption", "aws:kms"),
        (put, "x-amz-server-side-encryption-aws-kms-key-id", "key-1"),
        (put, "x-amz-meta-rows", "2  %25"),
        (put, "x-amz-meta-anycloud-write-id", options.write_id.as_ref().unwrap().as_str()),
        (get, "range", "bytes=2-4"),
        (get, "if-none-match", "\"e\""),
        (get, "x-amz-checksum-mode", "ENABLED"),
        (head, "if-match", "\"e\""),
        (head, "x-amz-checksum-mode", "ENABLED"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    for request in [put, get, head] {
        assert!(request.header("user-agent").unwrap().starts_with("anycloud/"));
        assert!(request.header("authorization").unwrap().contains("/us-east-1/s3/aws4_request"));
    }
}

#[tokio::test]
async fn what_an_answer_says_of_an_object_is_read_from_its_headers() {
    let told = [
        ("etag", "\"e\""),
        ("x-amz-version-id", "v1"),
        ("last-modified", "Mon, 23 Nov 2015 21:00:00 GMT"),
        ("content-type", "text/plain"),
        ("content-encoding", "gzip"),
        ("x-amz-meta-a", "%C3%BC"),
        ("x-amz-meta-word", "=?UTF-8?B?w7w=?="),
        ("x-amz-storage-class", "GLACIER_IR"),
        ("x-amz-checksum-crc32c", "4waSgw==-2"),
    ];
    let (_server, store) = store([answer(200, &told, "123456789"), answer(200, &told[..2], "")]).await;
    let meta = store.get(&key(), GetOptions::default()).await.unwrap().meta;
    assert_eq!((meta.version.to_string().as_str(), meta.size, meta.crc32c), ("aws:\"e\"|v1", 9, None));
    assert_eq!(meta.last_modified, SystemTime::UNIX_EPOCH + Duration::from_secs(1_448_312_400));
    assert_eq!((meta.metadata.get("a"), meta.metadata.get("word")), (Some("ü"), Some("=?UTF-8?B?w7w=?=")));
    let headers = (meta.headers.content_type.as_deref(), meta.headers.content_encoding.as_deref());
    assert_eq!((headers, meta.storage_class.as_deref()), ((Some("text/plain"), Some("gzip")), Some("GLACIER_IR")));
    let put = store.put(&key(), Bytes::from_static(b"x"), PutOptions::default()).await.unwrap();
    assert_eq!(put.version.to_string(), "aws:\"e\"|v1");
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
#[tokio::test]
async fn a_refusal_is_told_with_its_code_its_words_and_the_way_to_ask_about_it() {
    let said = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>User &quot;a&amp;b&quot; is not \
                authorized</Message><RequestId>R2</RequestId></Error>";
    let refused = answer(403, &[("x-amz-request-id", "R1"), ("x-amz-bucket-region", "us-east-1")], said);
    let busy = answer(503, &[("retry-after", "0")], "<Error><Code>SlowDown</Code></Error>");
    let (server, store) = store([busy, refused]).await;
    let error = store.get(&key(), GetOptions::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::PermissionDenied, Some("AccessDenied")));
    assert_eq!((error.status(), error.request_id()), (Some(403), Some("R1")));
    assert!(error.message().contains("s3:GetObject: User \"a&b\" is not authorized"), "{error}");
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn a_bare_status_in_answer_to_a_question_without_a_body_says_what_it_can() {
    for (status, kind) in [
        (301, ErrorKind::InvalidConfig),
        (400, ErrorKind::InvalidInput),
        (403, ErrorKind::PermissionDenied),
        (405, ErrorKind::NotFound),
        (412, ErrorKind::PreconditionFailed),
    ] {
        let (_server, store) = store([head(status, &[])]).await;
        assert_eq!(store.head(&key(), HeadOptions::default()).await.unwrap_err().kind(), kind, "{status}");
    }
    let elsewhere = head(400, &[("x-amz-bucket-region", "eu-west-1")]);
    let (_server, store) = store([elsewhere]).await;
    let error = store.head(&key(), HeadOptions::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidConfig && error.message().contains("AWS_REGION=eu-west-1"), "{error}");
}

#[tokio::test]
async fn a_page_of_something_on_the_way_is_no_word_about_the_object() {
    for (status, kind, sends) in
        [(404, ErrorKind::Unavailable, 3), (403, ErrorKind::PermissionDenied, 1), (502, ErrorKind::Unavailable, 3)]
    {
        let page = || answer(status, &[], "<html><body>no</body></html>");
        let (server, store) = store([page(), page(), page()]).await;
        let error = store.get(&key(), GetOptions::default()).await.unwrap_err();
        assert_eq!((error.kind(), server.got().len()), (kind, sends), "{status}");
    }
}

#[tokio::test]
async fn a_value_that_cannot_travel_is_refused_before_anything_is_sent() {
    let (server, store) = store([]).await;
    let options = PutOptions { storage_class: Some("A\r\nb: c".to_owned()), ..PutOptions::default() };
    let error = store.put(&key(), Bytes::from_static(b"x"), options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert!(server.lines().is_empty());
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_put_right_by_the_service() {
    let skewed = || {
        let date = ("date", "Mon, 23 Nov 2015 21:00:00 GMT");
        [answer(403, &[date], "<Error><Code>RequestTimeTooSkewed</Code></Error>"), answer(200, &[date], "")]
    };
    let (server, store) = store(skewed()).await;
    store.put(&key(), Bytes::from_static(b"x"), create(&WriteId::random())).await.unwrap();
    let dates: Vec<_> =
        server.got().iter().map(|request| request.header("x-amz-date").unwrap()[..13].to_owned()).collect();
    assert!(dates.len() == 2 && dates[0] != dates[1] && dates[1] == "20151123T2100", "{dates:?}");
}
