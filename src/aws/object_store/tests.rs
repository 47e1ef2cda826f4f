use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::S3Store;
use crate::aws::connection::Connection;
use crate::aws::scripted::{Answer, Scripted, answer, config, head};
use crate::object_store::{
    CopyOptions, Crc32c, DeleteOptions, HeadOptions, ListOptions, SignOptions, Upload, WRITE_ID_METADATA,
};
use crate::{ErrorKind, GetOptions, ObjectKey, ObjectStore as _, PutMode, PutOptions, WriteId};

pub(super) async fn store(answers: impl IntoIterator<Item = Answer>) -> (Scripted, S3Store) {
    let server = Scripted::start(answers).await;
    let store = S3Store::with_connection(&server.config(), server.connection());
    (server, store)
}

pub(super) fn key() -> ObjectKey {
    ObjectKey::new("k").unwrap()
}

pub(super) fn create(id: &WriteId) -> PutOptions {
    PutOptions { mode: PutMode::Create, write_id: Some(id.clone()), ..PutOptions::default() }
}

/// The form of an error: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
pub(super) fn error(status: u16, code: &str) -> Answer {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>said so</Message></Error>");
    answer(status, &[("x-amz-request-id", "R1")], &body)
}

pub(super) fn written() -> Answer {
    answer(200, &[("etag", "\"e\"")], "")
}

fn object_of(id: &WriteId) -> Answer {
    object_since("Mon, 23 Nov 2015 21:00:00 GMT", "\"e\"", id)
}

fn object_since(time: &str, etag: &str, id: &WriteId) -> Answer {
    let write_id = format!("x-amz-meta-{WRITE_ID_METADATA}");
    let time = ("last-modified", time);
    head(200, &[("content-length", "1"), ("etag", etag), time, (&write_id, id.as_str())])
}

#[tokio::test]
async fn a_put_sends_a_crc32c_and_no_sha256() {
    let (server, store) = store([written()]).await;
    store.put(&key(), Bytes::from_static(b"123456789"), PutOptions::default()).await.unwrap();
    let request = &server.got()[0];
    assert_eq!(request.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"));
    assert_eq!(request.header("x-amz-checksum-crc32c"), Some("4waSgw=="));
    assert_eq!(request.header("content-type"), Some("application/octet-stream"));
    assert_eq!((request.header("content-encoding"), request.body.as_str()), (None, "123456789"));
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>: 409 asks to try again.
#[tokio::test]
async fn a_409_is_tried_again_and_only_a_412_says_that_the_object_exists() {
    let id = WriteId::random();
    let (server, one) = store([error(409, "ConditionalRequestConflict"), written()]).await;
    one.put(&key(), Bytes::from_static(b"x"), create(&id)).await.unwrap();
    assert_eq!(server.lines().len(), 2);
    let (server, two) = store([error(412, "PreconditionFailed")]).await;
    let refused = two.put(&key(), Bytes::from_static(b"x"), create(&id)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.request_id()), (ErrorKind::AlreadyExists, Some("R1")));
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn a_412_after_a_lost_answer_is_judged_by_the_write_id() {
    let id = WriteId::random();
    let (server, ours) = store([Answer::Lost, error(412, "PreconditionFailed"), object_of(&id)]).await;
    assert_eq!(ours.put(&key(), Bytes::from_static(b"x"), create(&id)).await.unwrap().write_id, id);
    assert_eq!(server.lines().len(), 3);
    let other = object_of(&WriteId::random());
    let (_server, theirs) = store([Answer::Lost, error(412, "PreconditionFailed"), other]).await;
    let refused = theirs.put(&key(), Bytes::from_static(b"x"), create(&id)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
}

/// Ours may have been there, and have been deleted before theirs came.
#[tokio::test]
async fn a_412_after_a_lost_answer_is_open_if_the_object_may_be_younger_than_the_call() {
    let now = jiff::Timestamp::now().strftime("%a, %d %b %Y %T GMT").to_string();
    let of_parts = ("Mon, 23 Nov 2015 21:00:00 GMT".to_owned(), "\"e-2\"");
    for (time, etag) in [(now, "\"e\""), of_parts] {
        let other = object_since(&time, etag, &WriteId::random());
        let (_server, store) = store([Answer::Lost, error(412, "PreconditionFailed"), other]).await;
        let refused = store.put(&key(), Bytes::from_static(b"x"), create(&WriteId::random())).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Indeterminate, "{time} {etag}");
    }
}

#[tokio::test]
async fn a_write_whose_fate_cannot_be_found_out_is_indeterminate_and_carries_its_id() {
    let id = WriteId::random();
    let (server, store) = store((0..6).map(|_| Answer::Lost)).await;
    let lost = store.put(&key(), Bytes::from_static(b"x"), create(&id)).await.unwrap_err();
    assert_eq!((lost.kind(), lost.write_id()), (ErrorKind::Indeterminate, Some(&id)));
    assert_eq!(lost.operation(), "object_store.put");
    assert_eq!(server.lines().len(), 6);
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_has_changed_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config(&format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let connection = Connection::new(&config).unwrap().with_made_up_credentials();
    let store = S3Store::with_connection(&config, connection);
    let error = store.put(&key(), Bytes::from_static(b"x"), PutOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_busy_bucket_is_asked_again() {
    let (server, store) = store([error(503, "SlowDown"), written()]).await;
    store.put(&key(), Bytes::from_static(b"x"), create(&WriteId::random())).await.unwrap();
    assert_eq!(server.lines().len(), 2);
}

const CREATED: &str = "<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>";
const COMPLETED: &str = "<CompleteMultipartUploadResult><ETag>\"e-1\"</ETag></CompleteMultipartUploadResult>";
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>: "the 200 OK response can contain
/// either a success or an error".
const FAILED: &str = "<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>";

async fn upload(store: &S3Store, mode: PutMode) -> Box<dyn Upload> {
    let options = PutOptions { mode, ..PutOptions::default() };
    let mut upload = store.start_upload(&key(), options).await.unwrap();
    upload.put_part("123456789".into()).await.unwrap();
    upload
}

#[tokio::test]
async fn an_error_inside_a_completion_of_status_200_is_an_error() {
    let answers = [answer(200, &[], CREATED), written(), answer(200, &[], FAILED), answer(200, &[], COMPLETED)];
    let (server, store) = store(answers).await;
    let done = upload(&store, PutMode::Overwrite).await.finish(Crc32c::of(b"123456789")).await.unwrap();
    assert_eq!(done.version.to_string(), "aws:\"e-1\"");
    assert_eq!(server.lines().len(), 4);
    let (started, part) = (server.got()[0].clone(), server.got()[1].clone());
    assert_eq!(started.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
    assert_eq!(part.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"));
    assert_eq!(server.got()[3].header("x-amz-checksum-crc32c"), Some("4waSgw=="));
}

#[tokio::test]
async fn a_completion_that_breaks_off_within_its_body_is_not_a_success() {
    let vague = "<CompleteMultipartUploadResult/>";
    let bodies = [" ", vague, COMPLETED].map(|body| answer(200, &[], body));
    let (server, store) = store([answer(200, &[], CREATED), written()].into_iter().chain(bodies)).await;
    let done = upload(&store, PutMode::Overwrite).await.finish(Crc32c::of(b"123456789")).await.unwrap();
    assert_eq!((done.version.to_string().as_str(), server.lines().len()), ("aws:\"e-1\"", 5));
}

/// The page of CompleteMultipartUpload says of 409 that all parts must be sent again.
#[tokio::test]
async fn a_409_on_completion_ends_the_upload_and_cleans_up() {
    let answers =
        [answer(200, &[], CREATED), written(), error(409, "ConditionalRequestConflict"), answer(204, &[], "")];
    let (server, store) = store(answers).await;
    let lost = upload(&store, PutMode::Create).await.finish(Crc32c::of(b"123456789")).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Conflict);
    assert_eq!(server.lines()[3], "DELETE /bucket/k?x-id=AbortMultipartUpload&uploadId=U");
}

#[tokio::test]
async fn a_409_on_completion_after_a_lost_answer_may_be_its_echo() {
    let id = WriteId::random();
    let conflict = || error(409, "ConditionalRequestConflict");
    for (found, ours) in [(object_of(&id), true), (object_of(&WriteId::random()), false)] {
        let begun = [answer(200, &[], CREATED), written(), Answer::Lost, conflict(), found];
        let (_server, store) = store(begun.into_iter().chain([answer(204, &[], "")])).await;
        let mut upload = store.start_upload(&key(), create(&id)).await.unwrap();
        upload.put_part("123456789".into()).await.unwrap();
        let done = upload.finish(Crc32c::of(b"123456789")).await;
        assert_eq!(done.as_ref().is_ok_and(|put| put.write_id == id), ours, "{done:?}");
        assert!(ours || done.is_err_and(|error| error.kind() == ErrorKind::Indeterminate));
    }
}

#[tokio::test]
async fn a_dropped_upload_is_aborted() {
    let (server, store) = store([answer(200, &[], CREATED), written(), answer(204, &[], "")]).await;
    drop(upload(&store, PutMode::Overwrite).await);
    for _ in 0..200 {
        if server.got().len() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(server.lines()[2].starts_with("DELETE /bucket/k?"));
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>: an error can come under status 200.
#[tokio::test]
async fn an_error_inside_a_copy_of_status_200_is_an_error() {
    let copied = "<CopyObjectResult><ETag>\"c\"</ETag></CopyObjectResult>";
    let source = object_of(&WriteId::random());
    let (server, store) = store([source, answer(200, &[], FAILED), answer(200, &[], copied)]).await;
    let done = store.copy(&key(), &ObjectKey::new("t ü").unwrap(), CopyOptions::default()).await.unwrap();
    assert_eq!(done.version.to_string(), "aws:\"c\"");
    let request = server.got()[2].clone();
    assert_eq!(request.header("x-amz-copy-source"), Some("bucket/k"));
    assert_eq!(request.header("x-amz-copy-source-if-match"), Some("\"e\""));
    assert_eq!(request.header(&format!("x-amz-meta-{WRITE_ID_METADATA}")), Some(done.write_id.as_str()));
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_never_a_success() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\netag: \"e\"\r\n\r\n12345";
    let (_server, store) = store([Answer::Cut(cut.to_owned())]).await;
    let got = store.get(&key(), GetOptions::default()).await.unwrap();
    assert_eq!(got.bytes().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_body_that_does_not_match_its_checksum_is_corrupt_before_its_last_byte_is_handed_out() {
    let headers = [("etag", "\"e\""), ("x-amz-checksum-crc32c", "4waSgw=="), ("x-amz-checksum-type", "FULL_OBJECT")];
    let (_server, whole) = store([answer(200, &headers, "123456789")]).await;
    let got = whole.get(&key(), GetOptions::default()).await.unwrap();
    assert_eq!(got.bytes().await.unwrap(), "123456789");
    let (_server, damaged) = store([answer(200, &headers, "123456780")]).await;
    let got = damaged.get(&key(), GetOptions::default()).await.unwrap();
    assert_eq!(got.body.try_collect::<Vec<_>>().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList>: PermanentRedirect.
#[tokio::test]
async fn a_bucket_in_another_region_is_a_setting_to_correct() {
    let redirect = head(301, &[("x-amz-bucket-region", "eu-west-1"), ("content-length", "0")]);
    let (_server, store) = store([redirect]).await;
    let error = store.head(&key(), HeadOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.message().contains("eu-west-1") && error.message().contains("us-east-1"), "{error}");
}

/// HEAD has no body, so that S3 says the same of both:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>
#[tokio::test]
async fn a_missing_bucket_is_told_from_a_missing_object_by_one_more_question() {
    let (server, without) = store([head(404, &[]), head(404, &[])]).await;
    let error = without.head(&key(), HeadOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert_eq!(server.lines().len(), 2);
    let (server, with) = store([head(404, &[]), head(200, &[]), head(404, &[])]).await;
    for _ in 0..2 {
        assert_eq!(with.head(&key(), HeadOptions::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(server.lines().len(), 3);
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>: keys fail one by one inside a 200.
#[tokio::test]
async fn keys_that_fail_inside_a_200_are_tried_again_or_told() {
    let first = "<DeleteResult><Deleted><Key>a</Key></Deleted>\
                 <Error><Key>b</Key><Code>InternalError</Code></Error>\
                 <Error><Key>c</Key><Code>AccessDenied</Code></Error></DeleteResult>";
    let second = "<DeleteResult><Deleted><Key>b</Key></Deleted></DeleteResult>";
    // A key that XML cannot hold goes by itself.
    let (server, store) = store([answer(200, &[], first), answer(200, &[], second), answer(204, &[], "")]).await;
    let keys = ["a", "b", "c", "d\u{1}"].map(|key| ObjectKey::new(key).unwrap());
    let results = store.delete_many(keys.to_vec()).await;
    let kinds: Vec<_> = results.iter().map(|(_, result)| result.as_ref().err().map(crate::Error::kind)).collect();
    assert_eq!(kinds, [None, None, Some(ErrorKind::PermissionDenied), None]);
    assert!(server.lines()[2].starts_with("DELETE /bucket/d%01"), "{:?}", server.got());
    assert!(!server.got()[1].body.contains("<Key>a</Key>"));
}

#[tokio::test]
async fn a_conditional_deletion_whose_answer_was_lost_is_an_honest_unknown() {
    let (_server, store) = store([Answer::Lost, answer(404, &[], "")]).await;
    let version = "aws:\"e\"".parse().unwrap();
    let error = store.delete(&key(), DeleteOptions { if_match: Some(version) }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Indeterminate);
}

#[tokio::test]
async fn a_listing_that_repeats_its_token_ends_in_an_error() {
    let page = "<ListBucketResult><IsTruncated>true</IsTruncated>\
                <NextContinuationToken>T</NextContinuationToken></ListBucketResult>";
    let (server, store) = store([answer(200, &[], page), answer(200, &[], page)]).await;
    let listed: Result<Vec<_>, _> = store.list(ListOptions::default()).try_collect().await;
    assert_eq!(listed.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn a_signature_ends_with_the_credentials_that_made_it() {
    let server = Scripted::start([]).await;
    let end = SystemTime::now() + Duration::from_secs(100);
    let credentials =
        aws_credential_types::Credentials::new("AKID", "made-up", Some("T".to_owned()), Some(end), "test");
    let connection = Connection::new(&server.config()).unwrap().with_credentials(credentials);
    let store = S3Store::with_connection(&server.config(), connection);
    let signed = store.sign(&key(), SignOptions::get(Duration::from_secs(3600))).await.unwrap();
    assert!(signed.expires_at <= end, "{:?}", signed.expires_at);
    assert!(!signed.url.expose().contains("X-Amz-Expires=3600"), "the expiry was not cut short");
    assert!(server.lines().is_empty());
}

#[tokio::test]
async fn a_signed_upload_asks_for_no_checksum_that_its_bearer_cannot_know() {
    let server = Scripted::start([]).await;
    let store = S3Store::with_connection(&server.config(), server.connection());
    let options =
        SignOptions { content_length: Some(3), create_only: true, ..SignOptions::put(Duration::from_secs(60)) };
    let signed = store.sign(&key(), options).await.unwrap();
    assert!(!signed.url.expose().to_lowercase().contains("checksum"), "a checksum is part of the signature");
    let mut headers = signed.headers;
    headers.sort();
    let expected = [("content-length", "3"), ("if-none-match", "*")];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn a_bucket_of_no_possible_name_is_a_setting_to_correct() {
    let server = Scripted::start([]).await;
    let mut config = server.config();
    config.aws.s3_endpoint = None;
    config.aws.bucket = "arn:aws:s3:nonsense".to_owned();
    let store = S3Store::with_connection(&config, Connection::new(&config).unwrap().with_made_up_credentials());
    let error = store.head(&key(), HeadOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error:?}");
}
