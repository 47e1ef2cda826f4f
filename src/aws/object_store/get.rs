use futures_util::TryStreamExt as _;
use http::header::{CONTENT_LENGTH, HeaderName, IF_MATCH, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, Method};

use super::bucket::Bucket;
use super::meta::meta_of;
use super::request::Request;
use super::version::state;
use crate::call::Call;
use crate::http::Answer;
use crate::object_store::{
    Announced, ByteRange, ByteStream, GetResult, HeadOptions, ObjectMeta, Reading, Told, answered_range,
};
use crate::retry::Safety;
use crate::{Error, ErrorKind, GetOptions, ObjectKey, Result};

const GET: &str = "object_store.get";
const HEAD: &str = "object_store.head";
/// Asks for the checksum, which is checked here.
const CHECKSUM_MODE: HeaderName = HeaderName::from_static("x-amz-checksum-mode");

/// Which state is read, and on which conditions, as S3 takes it.
#[derive(Default)]
struct Pin {
    version_id: Option<String>,
    if_match: Option<String>,
    if_none_match: Option<String>,
    /// `If-Match` stands for a version to read, so that its failure means that this version is gone.
    pinned: bool,
}

impl Bucket {
    pub(super) async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let subject = self.subject(key);
        let pin = self.pin(key, &options, &subject).await?;
        // The current state first, which in most cases is the one: to read by a version id takes another permission.
        let mut sent = self.fetch(key, &options, &pin, None, &subject).await;
        let elsewhere = match &sent {
            Ok(answer) => answer.header("x-amz-version-id") != pin.version_id.as_deref(),
            Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PreconditionFailed),
        };
        if elsewhere && let Some(id) = &pin.version_id {
            sent = self.fetch(key, &options, &pin, Some(id), &subject).await;
        }
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => return Err(read_error(error, &pin)),
        };
        self.note_seen();
        self.result(key, answer, &options, subject)
    }

    async fn fetch(
        &self,
        key: &ObjectKey,
        options: &GetOptions,
        pin: &Pin,
        version_id: Option<&str>,
        subject: &str,
    ) -> Result<Answer> {
        let permission = if version_id.is_some() { "s3:GetObjectVersion" } else { "s3:GetObject" };
        self.connection
            .retrier()
            .run(GET, subject, Safety::Read, |_| {
                let request = Request::new(Method::GET, Some(key))
                    .parameter("versionId", version_id)
                    .header(RANGE, options.range.map(ByteRange::to_header))
                    .header(IF_MATCH, pin.if_match.as_deref())
                    .header(IF_NONE_MATCH, pin.if_none_match.as_deref())
                    .header(CHECKSUM_MODE, Some("ENABLED"));
                self.ask(Call::reading(GET, subject, permission), request)
            })
            .await
    }

    fn result(&self, key: &ObjectKey, answer: Answer, options: &GetOptions, subject: String) -> Result<GetResult> {
        let came = length(&answer.headers, GET, &subject)?;
        let (range, size) = answered_range(answer.header("content-range"), came, options.range, &subject)?;
        let meta = meta_of(key, size, &answer.headers);
        let announced = Announced {
            bytes: came,
            crc32c: meta.crc32c.filter(|_| came == size),
            patience: self.connection.retrier().policy().attempt_timeout,
            subject: subject.clone(),
        };
        let chunks = answer.body.map_err(move |failure| failure.into_reading_error(GET, &subject));
        Ok(GetResult { meta, range, body: ByteStream::answer(Reading::new(chunks, announced)) })
    }

    async fn pin(&self, key: &ObjectKey, options: &GetOptions, subject: &str) -> Result<Pin> {
        let etag = |version| Ok::<_, Error>(state(version, GET, subject)?.etag);
        let if_match = options.if_match.as_ref().map(etag).transpose()?;
        let if_none_match = options.if_none_match.as_ref().map(etag).transpose()?;
        let Some(version) = &options.version else {
            return Ok(Pin { if_match, if_none_match, ..Pin::default() });
        };
        let version = state(version, GET, subject)?;
        if if_match.is_some() || if_none_match.is_some() {
            // The conditions are about the current version, which is another question than the one below.
            let current = self.head(key, HeadOptions::default()).await?;
            let current = state(&current.version, GET, subject)?.etag;
            if if_match.is_some_and(|wanted| wanted != current) {
                let message = "another version is current";
                return Err(Error::new(ErrorKind::PreconditionFailed, GET, subject, message));
            }
            if if_none_match.is_some_and(|known| known == current) {
                return Err(Error::new(ErrorKind::NotModified, GET, subject, "the copy is current"));
            }
        }
        Ok(Pin { version_id: version.version_id, if_match: Some(version.etag), if_none_match: None, pinned: true })
    }

    pub(super) async fn head(&self, key: &ObjectKey, options: HeadOptions) -> Result<ObjectMeta> {
        let subject = self.subject(key);
        let pin = match &options.version {
            Some(version) => {
                let version = state(version, HEAD, &subject)?;
                Pin { version_id: version.version_id, if_match: Some(version.etag), pinned: true, ..Pin::default() }
            }
            None => Pin::default(),
        };
        let sent = self
            .connection
            .retrier()
            .run(HEAD, &subject, Safety::Read, |_| {
                let request = Request::new(Method::HEAD, Some(key))
                    .parameter("versionId", pin.version_id.as_deref())
                    .header(IF_MATCH, pin.if_match.as_deref())
                    .header(CHECKSUM_MODE, Some("ENABLED"));
                self.ask(Call::reading(HEAD, &subject, "s3:GetObject"), request)
            })
            .await;
        match sent {
            Ok(answer) => {
                self.note_seen();
                let size = length(&answer.headers, HEAD, &subject)?;
                Ok(meta_of(key, size, &answer.headers))
            }
            Err(error) => Err(self.explain_not_found(read_error(error, &pin)).await),
        }
    }
}

fn length(headers: &HeaderMap, operation: &'static str, subject: &str) -> Result<u64> {
    Told(headers).number(CONTENT_LENGTH.as_str()).ok_or_else(|| {
        Error::new(ErrorKind::Internal, operation, subject, "the answer does not say how long the object is")
    })
}

/// A failed read in the words of the contract.
fn read_error(error: Error, pin: &Pin) -> Error {
    match error.kind() {
        ErrorKind::PreconditionFailed if pin.pinned => {
            error.with_kind(ErrorKind::NotFound).with_message("this version is no longer kept")
        }
        // The version asked for is a deletion:
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html
        ErrorKind::Unsupported if error.status() == Some(405) => {
            error.with_kind(ErrorKind::NotFound).with_message("this version is the object's deletion")
        }
        // A version id of another bucket, or cut short.
        ErrorKind::InvalidInput if pin.version_id.is_some() => {
            error.with_kind(ErrorKind::NotFound).with_message("there is no such version")
        }
        ErrorKind::PermissionDenied => {
            let message = format!("{} (without s3:ListBucket also for an object that is not there)", error.message());
            error.with_message(message)
        }
        _ => error,
    }
}
