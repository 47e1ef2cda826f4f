use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};

use super::bucket::Bucket;
use super::condition::{Condition, judged};
use super::meta::{Attributes, with_attributes};
use super::version::version;
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::object_store::{Crc32c, PutResult, Write};
use crate::retry::Safety;
use crate::{Error, ErrorKind, ObjectKey, PutMode, Result, WriteId};

pub(super) const PUT: &str = "s3:PutObject";

/// A part that S3 has.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) etag: String,
    pub(super) crc: Option<String>,
    pub(super) bytes: u64,
}

/// An upload that S3 knows of. Dropped before it has ended, it is aborted as well as can be.
pub(super) struct Multipart {
    pub(super) bucket: Arc<Bucket>,
    pub(super) operation: &'static str,
    pub(super) key: ObjectKey,
    pub(super) upload_id: String,
    pub(super) write_id: WriteId,
    pub(super) mode: PutMode,
    begun: SystemTime,
    parts: Arc<Mutex<BTreeMap<i32, Part>>>,
    ended: bool,
}

impl Multipart {
    pub(super) async fn create(
        bucket: Arc<Bucket>,
        operation: &'static str,
        key: &ObjectKey,
        mode: PutMode,
        write_id: WriteId,
        attributes: &Attributes,
        tagging: Option<String>,
    ) -> Result<Self> {
        let subject = bucket.uri(key).to_string();
        Condition::of(&mode, operation, &subject)?;
        let request = with_attributes!(bucket.client().await?.create_multipart_upload(), attributes)
            .bucket(&bucket.name)
            .key(key.as_str())
            .set_tagging(tagging)
            .checksum_algorithm(ChecksumAlgorithm::Crc32C)
            .checksum_type(ChecksumType::FullObject);
        let begun = SystemTime::now();
        // An upload whose id was lost is seen by nobody, and swept up with the stale ones.
        let sent = bucket
            .connection
            .retrier()
            .run(operation, &subject, Safety::Read, |_| {
                let request = request.clone();
                async {
                    request
                        .send()
                        .silently()
                        .await
                        .map_err(|error| bucket.error(error, Call::reading(operation, &subject, PUT)))
                }
            })
            .await;
        let Some(upload_id) = sent?.upload_id else {
            return Err(Error::new(ErrorKind::Internal, operation, subject, "the answer names no upload"));
        };
        bucket.note_seen();
        let key = key.clone();
        Ok(Self { bucket, operation, key, upload_id, write_id, mode, begun, parts: Arc::default(), ended: false })
    }

    pub(super) fn note(parts: &Mutex<BTreeMap<i32, Part>>, number: i32, part: Part) {
        parts.lock().unwrap_or_else(PoisonError::into_inner).insert(number, part);
    }

    pub(super) fn parts(&self) -> &Arc<Mutex<BTreeMap<i32, Part>>> {
        &self.parts
    }

    /// Publishes the parts if there are `count` of them.
    pub(super) async fn complete(mut self, count: u32, crc: Option<Crc32c>) -> Result<PutResult> {
        match self.try_complete(count, crc).await {
            Ok(result) => {
                self.ended = true;
                Ok(result)
            }
            // It may be an object by now; if it is not, it is swept up with the stale ones.
            Err(error) if error.is_indeterminate() => {
                self.ended = true;
                Err(error)
            }
            Err(error) => {
                // The reason for stopping is what the caller is told; what stays is swept up with the stale ones.
                let retrier = self.bucket.connection.retrier().clone();
                let _ = retrier.cleaning_up(self.abort()).await;
                Err(error)
            }
        }
    }

    async fn try_complete(&self, count: u32, crc: Option<Crc32c>) -> Result<PutResult> {
        let Self { bucket, operation, .. } = self;
        let operation = *operation;
        let subject = bucket.uri(&self.key).to_string();
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if parts.len() != count as usize {
            let message = format!("{} of {count} parts were sent", parts.len());
            return Err(Error::new(ErrorKind::InvalidInput, operation, subject, message));
        }
        let bytes: u64 = parts.values().map(|part| part.bytes).sum();
        let completed = |(number, part): (i32, Part)| {
            let completed = CompletedPart::builder().part_number(number).e_tag(part.etag);
            completed.set_checksum_crc32_c(part.crc).build()
        };
        let completed = parts.into_iter().map(completed).collect();
        let condition = Condition::of(&self.mode, operation, &subject)?;
        let retrier = bucket.connection.retrier();
        let deadline = retrier.deadline();
        // Whether an attempt has had no answer that says what became of it.
        let open = AtomicBool::new(false);
        let request = bucket
            .client()
            .await?
            .complete_multipart_upload()
            .bucket(&bucket.name)
            .key(self.key.as_str())
            .upload_id(&self.upload_id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(completed)).build())
            .checksum_type(ChecksumType::FullObject)
            .set_checksum_crc32_c(crc.map(Crc32c::to_base64))
            .mpu_object_size(i64::try_from(bytes).unwrap_or(i64::MAX))
            .set_if_none_match(condition.if_none_match)
            .set_if_match(condition.if_match);
        let sent = retrier
            .run(operation, &subject, Safety::Repeatable, |_| {
                let (request, open) = (request.clone(), &open);
                async {
                    let earlier = open.swap(true, Ordering::Relaxed);
                    let answer = match request.send().silently().await {
                        Ok(answer) => answer,
                        Err(error) => {
                            let error = bucket.error(error, Call::changing(operation, &subject, PUT));
                            open.store(earlier || error.may_have_applied(), Ordering::Relaxed);
                            // After this answer the parts are of no more use, so that asking again cannot help:
                            // https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
                            // But the other writer may have been an earlier attempt.
                            return match error.kind() {
                                ErrorKind::Conflict if earlier => Ok(Err(error.with_may_have_applied())),
                                ErrorKind::Conflict => Ok(Err(error)),
                                _ => Err(error),
                            };
                        }
                    };
                    // The status came before the work was done; without an ETag the body does not say that it was.
                    if answer.e_tag().is_none() {
                        let message = "the answer broke off before it said whether the object was made";
                        let lost = Error::new(ErrorKind::Unavailable, operation, &subject, message);
                        return Err(lost.with_may_have_applied());
                    }
                    Ok(Ok(answer))
                }
            })
            .await;
        match sent {
            Ok(Ok(answer)) => {
                let etag = answer.e_tag().unwrap_or_default();
                let stored = answer.checksum_crc32_c().and_then(Crc32c::from_base64);
                Ok(PutResult {
                    version: version(etag, answer.version_id()),
                    write_id: self.write_id.clone(),
                    crc32c: stored.or(crc),
                })
            }
            Ok(Err(conflict)) if !conflict.may_have_applied() => {
                let message = "another writer changed the object during the upload, and S3 wants all parts again";
                Err(conflict.with_message(message).with_write_id(self.write_id.clone()))
            }
            Err(error) if !error.may_have_applied() => Err(refused(&self.mode, error)),
            Ok(Err(error)) | Err(error) => {
                let (key, mode, id, begun) = (&self.key, &self.mode, &self.write_id, self.begun);
                let write = Write { operation, key, mode, id, begun, deadline };
                let meta = bucket.settle(write, error).await?;
                Ok(PutResult { version: meta.version, write_id: self.write_id.clone(), crc32c: meta.crc32c.or(crc) })
            }
        }
    }

    pub(super) async fn abort(mut self) -> Result<()> {
        // Whatever comes, it is not tried again by the drop.
        self.ended = true;
        abort(&self.bucket, self.operation, &self.key, &self.upload_id).await
    }
}

fn refused(mode: &PutMode, error: Error) -> Error {
    match error.code() {
        // Not a missing object, which for `If-Match` has the same status.
        Some("NoSuchUpload") => error.with_kind(ErrorKind::NotFound).with_message("the upload has been aborted"),
        _ => judged(mode, error),
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (bucket, key) = (Arc::clone(&self.bucket), self.key.clone());
            let (operation, upload_id) = (self.operation, std::mem::take(&mut self.upload_id));
            runtime.spawn(async move {
                if let Err(error) = abort(&bucket, operation, &key, &upload_id).await {
                    tracing::debug!(kind = %error.kind(), "a dropped upload was not removed");
                }
            });
        }
    }
}

/// Removes an upload and its parts. One that is gone already is as good.
pub(super) async fn abort(bucket: &Bucket, operation: &'static str, key: &ObjectKey, upload_id: &str) -> Result<()> {
    let subject = bucket.uri(key).to_string();
    let request = bucket.client().await?.abort_multipart_upload();
    let request = request.bucket(&bucket.name).key(key.as_str()).upload_id(upload_id);
    let sent = bucket
        .connection
        .retrier()
        .run(operation, &subject, Safety::Repeatable, |_| {
            let request = request.clone();
            let call = Call::changing(operation, &subject, "s3:AbortMultipartUpload");
            async move { request.send().silently().await.map_err(|error| bucket.error(error, call)) }
        })
        .await;
    match sent {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
