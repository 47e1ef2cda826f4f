use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::ChecksumMode;

use super::bucket::Bucket;
use super::meta::{length, told};
use super::version::state;
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::object_store::{Announced, ByteStream, GetResult, HeadOptions, ObjectMeta, Reading, answered_range};
use crate::retry::Safety;
use crate::{Error, ErrorKind, GetOptions, ObjectKey, Result};

const GET: &str = "object_store.get";
const HEAD: &str = "object_store.head";

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
        let subject = self.uri(key).to_string();
        let pin = self.pin(key, &options, &subject).await?;
        // The current state first, which in most cases is the one: to read by a version id takes another permission.
        let mut sent = self.fetch(key, &options, &pin, None, &subject).await;
        let elsewhere = match &sent {
            Ok(output) => output.version_id() != pin.version_id.as_deref(),
            Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PreconditionFailed),
        };
        if elsewhere && let Some(id) = &pin.version_id {
            sent = self.fetch(key, &options, &pin, Some(id), &subject).await;
        }
        let output = match sent {
            Ok(output) => output,
            Err(error) => return Err(read_error(error, &pin)),
        };
        self.note_seen();
        self.result(key, output, &options, subject)
    }

    async fn fetch(
        &self,
        key: &ObjectKey,
        options: &GetOptions,
        pin: &Pin,
        version_id: Option<&str>,
        subject: &str,
    ) -> Result<GetObjectOutput> {
        let request = self
            .client()
            .await?
            .get_object()
            .bucket(&self.name)
            .key(key.as_str())
            .set_range(options.range.map(|range| range.to_header()))
            .set_version_id(version_id.map(str::to_owned))
            .set_if_match(pin.if_match.clone())
            .set_if_none_match(pin.if_none_match.clone());
        let permission = if version_id.is_some() { "s3:GetObjectVersion" } else { "s3:GetObject" };
        self.connection
            .retrier()
            .run(GET, subject, Safety::Read, |_| {
                // Asked for by the bare header, so that the SDK does not check what is checked below.
                let request = request.clone().customize().mutate_request(|request| {
                    request.headers_mut().insert("x-amz-checksum-mode", "ENABLED");
                });
                async {
                    let sent = request.send().silently().await;
                    sent.map_err(|error| self.error(error, Call::reading(GET, subject, permission)))
                }
            })
            .await
    }

    fn result(
        &self,
        key: &ObjectKey,
        mut output: GetObjectOutput,
        options: &GetOptions,
        subject: String,
    ) -> Result<GetResult> {
        let came = length(output.content_length(), GET, &subject)?;
        let (range, size) = answered_range(output.content_range(), came, options.range, &subject)?;
        let body = std::mem::take(&mut output.body);
        let meta = told!(key, size, output).into_meta();
        let announced = Announced {
            bytes: came,
            crc32c: meta.crc32c.filter(|_| came == size),
            patience: self.connection.retrier().policy().attempt_timeout,
            subject: subject.clone(),
        };
        let chunks = futures_util::stream::try_unfold(body, move |mut body| {
            let broken = {
                let subject = subject.clone();
                move |error| {
                    Error::new(ErrorKind::Unavailable, GET, subject, "the connection broke within the answer")
                        .with_source(error)
                }
            };
            async move { Ok(body.try_next().await.map_err(broken)?.map(|chunk| (chunk, body))) }
        });
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
        let subject = self.uri(key).to_string();
        let pin = match &options.version {
            Some(version) => {
                let version = state(version, HEAD, &subject)?;
                Pin { version_id: version.version_id, if_match: Some(version.etag), pinned: true, ..Pin::default() }
            }
            None => Pin::default(),
        };
        let request = self
            .client()
            .await?
            .head_object()
            .bucket(&self.name)
            .key(key.as_str())
            .checksum_mode(ChecksumMode::Enabled)
            .set_version_id(pin.version_id.clone())
            .set_if_match(pin.if_match.clone());
        let sent = self
            .connection
            .retrier()
            .run(HEAD, &subject, Safety::Read, |_| {
                let request = request.clone();
                async {
                    let sent = request.send().silently().await;
                    sent.map_err(|error| self.error(error, Call::reading(HEAD, &subject, "s3:GetObject")))
                }
            })
            .await;
        match sent {
            Ok(output) => {
                self.note_seen();
                let size = length(output.content_length(), HEAD, &subject)?;
                Ok(told!(key, size, output).into_meta())
            }
            Err(error) => Err(self.explain_not_found(read_error(error, &pin)).await),
        }
    }
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
