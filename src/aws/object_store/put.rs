use std::time::SystemTime;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use super::bucket::Bucket;
use super::condition::Condition;
use super::meta::{Attributes, with_attributes};
use super::version::version;
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::http::RequestBody;
use crate::object_store::{Crc32c, PutResult, Write};
use crate::retry::Safety;
use crate::{ObjectKey, PutOptions, Result, WriteId};

const OPERATION: &str = "object_store.put";

impl Bucket {
    pub(super) async fn put(&self, key: &ObjectKey, body: Bytes, options: PutOptions) -> Result<PutResult> {
        let subject = self.uri(key).to_string();
        let id = options.write_id.clone().unwrap_or_else(WriteId::random);
        let crc = options.crc32c.unwrap_or_else(|| Crc32c::of(&body));
        let condition = Condition::of(&options.mode, OPERATION, &subject)?;
        let attributes = Attributes::of_put(&options, &id, self);
        let retrier = self.connection.retrier().for_body(body.len() as u64);
        let (begun, deadline) = (SystemTime::now(), retrier.deadline());
        let client = self.client().await?;
        let sent = retrier
            .run(OPERATION, &subject, Safety::Repeatable, |_| {
                // The CRC32C in the headers covers the body; a SHA-256 in the signature would cost more than the rest.
                let request = with_attributes!(client.put_object(), &attributes)
                    .bucket(&self.name)
                    .key(key.as_str())
                    .checksum_crc32_c(crc.to_base64())
                    .set_if_none_match(condition.if_none_match.clone())
                    .set_if_match(condition.if_match.clone())
                    .body(ByteStream::from_body_1_x(RequestBody::of([body.clone()]).watched(retrier.activity())))
                    .customize()
                    .disable_payload_signing();
                async {
                    let sent = request.send().silently().await;
                    sent.map_err(|error| self.error(error, Call::changing(OPERATION, &subject, "s3:PutObject")))
                }
            })
            .await;
        match sent {
            Ok(output) => {
                self.note_seen();
                let etag = output.e_tag().unwrap_or_default();
                Ok(PutResult { version: version(etag, output.version_id()), write_id: id, crc32c: Some(crc) })
            }
            Err(error) => {
                let write = Write { operation: OPERATION, key, mode: &options.mode, id: &id, begun, deadline };
                let meta = self.settle(write, error).await?;
                Ok(PutResult { version: meta.version, write_id: id, crc32c: Some(crc) })
            }
        }
    }
}
