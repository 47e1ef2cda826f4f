use std::time::SystemTime;

use bytes::Bytes;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, Method};

use super::bucket::Bucket;
use super::condition::Condition;
use super::meta::{CHECKSUM, version_of};
use super::multipart::PUT;
use super::request::Request;
use crate::call::Call;
use crate::http::RequestBody;
use crate::object_store::{Crc32c, PutResult, Write};
use crate::retry::Safety;
use crate::{ObjectKey, PutOptions, Result, WriteId};

const OPERATION: &str = "object_store.put";
/// The most of an answer that is read: it has no body.
const MAX_ANSWER_BYTES: usize = 64 << 10;

impl Bucket {
    pub(super) async fn put(&self, key: &ObjectKey, body: Bytes, options: PutOptions) -> Result<PutResult> {
        let subject = self.subject(key);
        let id = options.write_id.clone().unwrap_or_else(WriteId::random);
        let crc = options.crc32c.unwrap_or_else(|| Crc32c::of(&body));
        let condition = Condition::of(&options.mode, OPERATION, &subject)?;
        let retrier = self.connection.retrier().for_body(body.len() as u64);
        let (begun, deadline) = (SystemTime::now(), retrier.deadline());
        let call = Call::changing(OPERATION, &subject, PUT);
        let sent = retrier
            .run(OPERATION, &subject, Safety::Repeatable, |_| {
                // The CRC32C in the headers covers the body; a SHA-256 in the signature would cost more than the rest.
                let body = RequestBody::of([body.clone()]).watched(retrier.activity());
                let request = Request::new(Method::PUT, Some(key))
                    .attributes(&options, &id, self)
                    .header(CHECKSUM, Some(crc.to_base64()))
                    .header(IF_NONE_MATCH, condition.if_none_match.as_deref())
                    .header(IF_MATCH, condition.if_match.as_deref())
                    .body(body);
                self.written(call, request)
            })
            .await;
        match sent {
            Ok(headers) => {
                self.note_seen();
                Ok(PutResult { version: version_of(&headers), write_id: id, crc32c: Some(crc) })
            }
            Err(error) => {
                let write = Write { operation: OPERATION, key, mode: &options.mode, id: &id, begun, deadline };
                let meta = self.settle(write, error).await?;
                Ok(PutResult { version: meta.version, write_id: id, crc32c: Some(crc) })
            }
        }
    }

    /// Sends bytes, and reads the answer to its end.
    pub(super) async fn written(&self, call: Call<'_>, request: Request<'_>) -> Result<HeaderMap> {
        let mut answer = self.ask(call, request).await?;
        let headers = std::mem::take(&mut answer.headers);
        // So that the connection can be used again, and because a whole answer is what counts.
        answer.bytes(MAX_ANSWER_BYTES).await.map_err(|failure| call.lost(failure))?;
        Ok(headers)
    }
}
