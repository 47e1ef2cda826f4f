use std::sync::Arc;
use std::time::SystemTime;

use aws_sdk_s3::types::{ChecksumAlgorithm, MetadataDirective, StorageClass};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::bucket::{Bucket, MAX_PARTS};
use super::condition::Condition;
use super::meta::{Attributes, with_attributes};
use super::multipart::{Multipart, Part};
use super::version::{state, version};
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::object_store::{CopyOptions, Crc32c, HeadOptions, ObjectMeta, PutResult, Write};
use crate::retry::{Safety, until};
use crate::{Error, ErrorKind, ObjectKey, Result, WriteId};

const OPERATION: &str = "object_store.copy";
const PERMISSION: &str = "s3:GetObject on the source and s3:PutObject on the target";
const PARTS_AT_ONCE: usize = 8;
/// How often a source that changes during the copy is looked at again.
const LOOKS: u32 = 5;
/// What stands for itself in the header that names the source.
const SOURCE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

struct Copy<'a> {
    bucket: &'a Arc<Bucket>,
    to: &'a ObjectKey,
    options: &'a CopyOptions,
    subject: String,
    write_id: WriteId,
    source: String,
}

pub(super) async fn copy(
    bucket: &Arc<Bucket>,
    from: &ObjectKey,
    to: &ObjectKey,
    options: CopyOptions,
) -> Result<PutResult> {
    let copy = Copy {
        bucket,
        to,
        options: &options,
        subject: bucket.uri(to).to_string(),
        write_id: options.write_id.clone().unwrap_or_else(WriteId::random),
        source: format!("{}/{}", bucket.name, utf8_percent_encode(from.as_str(), SOURCE)),
    };
    let wanted = match &options.source_version {
        Some(version) => Some(state(version, OPERATION, &copy.subject)?.etag),
        None => None,
    };
    for _ in 0..LOOKS {
        let head = bucket.head(from, HeadOptions::default()).await;
        let meta = head.map_err(|error| error.with_operation(OPERATION, bucket.uri(from)))?;
        let etag = state(&meta.version, OPERATION, &copy.subject)?.etag;
        if wanted.as_ref().is_some_and(|wanted| *wanted != etag) {
            let message = "another version of the source is current";
            return Err(Error::new(ErrorKind::PreconditionFailed, OPERATION, bucket.uri(from), message));
        }
        if let Some(result) = copy.once(from, &meta, &etag).await? {
            return Ok(result);
        }
    }
    let message = "the source kept changing while it was copied";
    Err(Error::new(ErrorKind::Conflict, OPERATION, bucket.uri(from), message).with_write_id(copy.write_id))
}

impl Copy<'_> {
    /// Copies the source in this state; `None` if it has left it.
    async fn once(&self, from: &ObjectKey, meta: &ObjectMeta, etag: &str) -> Result<Option<PutResult>> {
        let (headers, metadata) = match &self.options.replace {
            Some((headers, metadata)) => (headers.clone(), metadata),
            None => (meta.headers.clone(), &meta.metadata),
        };
        let mut attributes = Attributes::new(headers, metadata, &self.write_id);
        attributes.kms_key.clone_from(&self.bucket.kms_key);
        attributes.storage_class = meta.storage_class.as_deref().map(StorageClass::from);
        if meta.size > self.bucket.single_copy_bytes {
            // As many requests as there are parts, which all together have the time of the copy.
            let end = self.bucket.connection.retrier().for_copy(meta.size).deadline();
            return until(end, self.in_parts(from, meta, etag, &attributes)).await;
        }
        let result = self.in_one(meta, etag, &attributes).await;
        self.unless_source_changed(from, etag, result).await
    }

    async fn in_one(&self, meta: &ObjectMeta, etag: &str, attributes: &Attributes) -> Result<PutResult> {
        let Self { bucket, subject, .. } = self;
        let condition = Condition::of(&self.options.mode, OPERATION, subject)?;
        let retrier = bucket.connection.retrier().for_copy(meta.size);
        let (begun, deadline) = (SystemTime::now(), retrier.deadline());
        let request = with_attributes!(bucket.client().await?.copy_object(), attributes)
            .bucket(&bucket.name)
            .key(self.to.as_str())
            .copy_source(&self.source)
            .copy_source_if_match(etag)
            .metadata_directive(MetadataDirective::Replace)
            .checksum_algorithm(ChecksumAlgorithm::Crc32C)
            .set_if_none_match(condition.if_none_match)
            .set_if_match(condition.if_match);
        let sent = retrier
            .run(OPERATION, subject, Safety::Repeatable, |_| {
                let request = request.clone();
                async {
                    let sent = request.send().silently().await;
                    let answer =
                        sent.map_err(|error| bucket.error(error, Call::changing(OPERATION, subject, PERMISSION)))?;
                    // The status came before the work was done; without an ETag the body does not say that it was.
                    match answer.copy_object_result().and_then(|result| result.e_tag()) {
                        Some(_) => Ok(answer),
                        None => {
                            let message = "the answer broke off before it said whether the copy was made";
                            Err(Error::new(ErrorKind::Unavailable, OPERATION, subject, message).with_may_have_applied())
                        }
                    }
                }
            })
            .await;
        match sent {
            Ok(answer) => {
                let result = answer.copy_object_result();
                let etag = result.and_then(|result| result.e_tag()).unwrap_or_default();
                let crc = result.and_then(|result| result.checksum_crc32_c()).and_then(Crc32c::from_base64);
                let version = version(etag, answer.version_id());
                Ok(PutResult { version, write_id: self.write_id.clone(), crc32c: crc.or(meta.crc32c) })
            }
            Err(error) => {
                let (mode, id) = (&self.options.mode, &self.write_id);
                let write = Write { operation: OPERATION, key: self.to, mode, id, begun, deadline };
                let meta = bucket.settle(write, error).await?;
                Ok(PutResult { version: meta.version, write_id: self.write_id.clone(), crc32c: meta.crc32c })
            }
        }
    }

    async fn in_parts(
        &self,
        from: &ObjectKey,
        meta: &ObjectMeta,
        etag: &str,
        attributes: &Attributes,
    ) -> Result<Option<PutResult>> {
        let bucket = self.bucket;
        let tags = self.tags(from).await?;
        let (mode, write_id) = (self.options.mode.clone(), self.write_id.clone());
        let multipart =
            Multipart::create(Arc::clone(bucket), OPERATION, self.to, mode, write_id, attributes, tags).await?;
        let part_bytes = bucket.copy_part_bytes.max(meta.size.div_ceil(u64::from(MAX_PARTS)));
        let count = meta.size.div_ceil(part_bytes);
        let copied = stream::iter(0..count)
            .map(|index| self.part(&multipart, meta.size, etag, index, part_bytes))
            .buffer_unordered(PARTS_AT_ONCE)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await;
        if let Err(error) = copied {
            let _ = bucket.connection.retrier().cleaning_up(multipart.abort()).await;
            return self.unless_source_changed(from, etag, Err(error)).await;
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        // The checksum of the source, where S3 has one of the whole, is what the copy must come to.
        multipart.complete(count, meta.crc32c).await.map(Some)
    }

    async fn part(&self, multipart: &Multipart, size: u64, etag: &str, index: u64, part_bytes: u64) -> Result<()> {
        let Self { bucket, subject, .. } = self;
        let (first, last) = (index * part_bytes, size.min((index + 1) * part_bytes) - 1);
        let bytes = last + 1 - first;
        let number = i32::try_from(index + 1).unwrap_or(i32::MAX);
        let request = bucket
            .client()
            .await?
            .upload_part_copy()
            .bucket(&bucket.name)
            .key(self.to.as_str())
            .upload_id(&multipart.upload_id)
            .part_number(number)
            .copy_source(&self.source)
            .copy_source_if_match(etag)
            .copy_source_range(format!("bytes={first}-{last}"));
        let retrier = bucket.connection.retrier().for_copy(bytes);
        let sent = retrier
            .run(OPERATION, subject, Safety::Read, |_| {
                let request = request.clone();
                async {
                    let sent = request.send().silently().await;
                    let answer =
                        sent.map_err(|error| bucket.error(error, Call::reading(OPERATION, subject, PERMISSION)))?;
                    let part = answer.copy_part_result().and_then(|part| {
                        let crc = part.checksum_crc32_c().map(str::to_owned);
                        Some(Part { etag: part.e_tag()?.to_owned(), crc, bytes })
                    });
                    let message = "the answer broke off before it said whether the part was copied";
                    part.ok_or_else(|| Error::new(ErrorKind::Unavailable, OPERATION, subject, message))
                }
            })
            .await;
        Multipart::note(multipart.parts(), number, sent?);
        Ok(())
    }

    /// Tags come along by themselves only when the copy is one request.
    async fn tags(&self, from: &ObjectKey) -> Result<Option<String>> {
        let Self { bucket, subject, .. } = self;
        let request = bucket.client().await?.get_object_tagging().bucket(&bucket.name).key(from.as_str());
        let sent = bucket
            .connection
            .retrier()
            .run(OPERATION, subject, Safety::Read, |_| {
                let request = request.clone();
                let call = Call::reading(OPERATION, subject, "s3:GetObjectTagging");
                async move { request.send().silently().await.map_err(|error| bucket.error(error, call)) }
            })
            .await;
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let sent = sent?;
        let tags: Vec<_> =
            sent.tag_set().iter().map(|tag| format!("{}={}", encode(tag.key()), encode(tag.value()))).collect();
        Ok((!tags.is_empty()).then(|| tags.join("&")))
    }

    /// Tells a source that has changed from a target whose condition does not hold: S3 gives both the same status.
    async fn unless_source_changed(
        &self,
        from: &ObjectKey,
        etag: &str,
        result: Result<PutResult>,
    ) -> Result<Option<PutResult>> {
        let error = match result {
            Ok(result) => return Ok(Some(result)),
            Err(error) => error,
        };
        let refused =
            matches!(error.kind(), ErrorKind::PreconditionFailed | ErrorKind::AlreadyExists | ErrorKind::NotFound);
        if !refused {
            return Err(error);
        }
        let head = self.bucket.head(from, HeadOptions::default()).await;
        let meta = head.map_err(|error| error.with_operation(OPERATION, self.bucket.uri(from)))?;
        if state(&meta.version, OPERATION, &self.subject)?.etag == etag { Err(error) } else { Ok(None) }
    }
}
