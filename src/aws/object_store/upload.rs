use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use http::Method;

use super::bucket::{Bucket, MAX_PARTS, MAX_PUT_BYTES, MIN_PART_BYTES};
use super::meta::{Attributes, CHECKSUM};
use super::multipart::{Multipart, PUT, Part};
use super::request::Request;
use crate::call::Call;
use crate::http::RequestBody;
use crate::object_store::{Crc32c, PartRules, Payload, PutResult, Told, Upload};
use crate::retry::{Safety, Setbacks};
use crate::{Error, ErrorKind, ObjectKey, PutOptions, Result, WriteId};

const UPLOAD: &str = "object_store.upload";

const RULES: PartRules = PartRules {
    min_bytes: MIN_PART_BYTES,
    multiple_of: 1,
    max_bytes: MAX_PUT_BYTES,
    max_parts: MAX_PARTS,
    parallel: true,
};

/// An upload whose parts come from the caller.
pub(super) struct S3Upload {
    multipart: Multipart,
    crc32c: Option<Crc32c>,
    count: u32,
    setbacks: Setbacks,
}

impl S3Upload {
    pub(super) async fn start(bucket: Arc<Bucket>, key: &ObjectKey, options: PutOptions) -> Result<Self> {
        let write_id = options.write_id.clone().unwrap_or_else(WriteId::random);
        let attributes = Attributes::of_put(&options, &write_id, &bucket);
        let multipart = Multipart::create(bucket, UPLOAD, key, options.mode, write_id, &attributes, None).await?;
        Ok(Self { multipart, crc32c: options.crc32c, count: 0, setbacks: Setbacks::default() })
    }
}

#[async_trait]
impl Upload for S3Upload {
    fn rules(&self) -> PartRules {
        RULES
    }

    fn put_part(&mut self, part: Payload) -> BoxFuture<'static, Result<Crc32c>> {
        let bucket = Arc::clone(&self.multipart.bucket);
        let subject = bucket.subject(&self.multipart.key);
        let problem = match part.len() {
            _ if self.count >= MAX_PARTS => {
                Some((ErrorKind::TooLarge, format!("an upload has at most {MAX_PARTS} parts")))
            }
            0 => Some((ErrorKind::InvalidInput, "the part is empty".to_owned())),
            MAX_PUT_BYTES.. if part.len() > MAX_PUT_BYTES => {
                Some((ErrorKind::InvalidInput, format!("a part has at most {MAX_PUT_BYTES} bytes")))
            }
            _ => None,
        };
        if let Some((kind, message)) = problem {
            return Box::pin(async move { Err(Error::new(kind, UPLOAD, subject, message)) });
        }
        self.count += 1;
        let number = i32::try_from(self.count).unwrap_or(i32::MAX);
        let (key, upload_id) = (self.multipart.key.clone(), self.multipart.upload_id.clone());
        let parts = Arc::clone(self.multipart.parts());
        let setbacks = self.setbacks.clone();
        Box::pin(async move {
            let (sent, crc) = send_part(&bucket, &key, &upload_id, number, part, &subject, &setbacks).await?;
            Multipart::note(&parts, number, sent);
            Ok(crc)
        })
    }

    fn setbacks(&self) -> u64 {
        self.setbacks.count()
    }

    async fn finish(mut self: Box<Self>, crc32c: Crc32c) -> Result<PutResult> {
        if let Some(expected) = self.crc32c.filter(|expected| *expected != crc32c) {
            let subject = self.multipart.bucket.uri(&self.multipart.key);
            let message = format!("the bytes sent have the checksum {crc32c:?}, and {expected:?} was announced");
            let _ = self.multipart.abort().await;
            return Err(Error::new(ErrorKind::Corrupt, UPLOAD, subject, message));
        }
        if self.count == 0 {
            // S3 makes no object of no parts, but takes one empty part.
            let Multipart { bucket, key, upload_id, .. } = &self.multipart;
            let subject = bucket.subject(key);
            let (part, _) = send_part(bucket, key, upload_id, 1, Payload::default(), &subject, &self.setbacks).await?;
            Multipart::note(self.multipart.parts(), 1, part);
            self.count = 1;
        }
        self.multipart.complete(self.count, Some(crc32c)).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.multipart.abort().await
    }
}

async fn send_part(
    bucket: &Bucket,
    key: &ObjectKey,
    upload_id: &str,
    number: i32,
    part: Payload,
    subject: &str,
    setbacks: &Setbacks,
) -> Result<(Part, Crc32c)> {
    let sum = part.crc32c();
    let crc = sum.to_base64();
    let bytes = part.len();
    // A part is seen by nobody and replaces an earlier one of its number, so that a lost answer leaves nothing open.
    let retrier = bucket.connection.retrier().counting(setbacks).for_body(bytes);
    let number = number.to_string();
    let sent = retrier
        .run(UPLOAD, subject, Safety::Read, |_| {
            let body = RequestBody::of(part.pieces().iter().cloned()).watched(retrier.activity());
            let request = Request::new(Method::PUT, Some(key))
                .parameter("partNumber", Some(&number))
                .parameter("uploadId", Some(upload_id))
                .header(CHECKSUM, Some(crc.as_str()))
                .body(body);
            bucket.written(Call::reading(UPLOAD, subject, PUT), request)
        })
        .await;
    match Told(&sent?).text("etag") {
        Some(etag) => Ok((Part { etag: etag.to_owned(), crc: Some(crc), bytes }, sum)),
        None => Err(Error::new(ErrorKind::Internal, UPLOAD, subject, "the answer has no ETag for the part")),
    }
}

impl fmt::Debug for S3Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Upload").field("key", &self.multipart.key).field("parts", &self.count).finish()
    }
}
