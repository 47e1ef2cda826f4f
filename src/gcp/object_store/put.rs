use std::time::SystemTime;

use http::Method;

use super::bucket::{Bucket, Request, encode};
use super::condition;
use super::resource::{Made, NewObject};
use super::version::version;
use crate::call::Call;
use crate::http::RequestBody;
use crate::object_store::{Crc32c, DeleteOptions, Payload, PutResult, Write};
use crate::retry::{Retrier, Safety};
use crate::{ErrorKind, ObjectKey, PutOptions, Result, WriteId, random};

const OPERATION: &str = "object_store.put";
/// Room for what is around the bytes of most objects.
const ENVELOPE_BYTES: usize = 2048;
/// Up to here copying the bytes costs less than handling a piece more.
const COPIED_BYTES: u64 = 32 << 10;
pub(super) const PERMISSION: &str = "storage.objects.create (and, to overwrite, storage.objects.delete)";

impl Bucket {
    pub(super) async fn put(&self, key: &ObjectKey, body: Payload, options: PutOptions) -> Result<PutResult> {
        self.put_with(self.connection.retrier(), key, body, options).await
    }

    pub(super) async fn put_with(
        &self,
        retrier: &Retrier,
        key: &ObjectKey,
        body: Payload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let subject = self.subject(key);
        let id = options.write_id.clone().unwrap_or_else(WriteId::random);
        let crc = options.crc32c.unwrap_or_else(|| body.crc32c());
        let call = Call::changing(OPERATION, &subject, PERMISSION);
        let retrier = retrier.for_body(body.len());
        let (begun, deadline) = (SystemTime::now(), retrier.deadline());
        let sent = retrier
            .run(OPERATION, &subject, Safety::Repeatable, |_| {
                // Made anew each time, because hardly any is sent again.
                let request = self.multipart(key, &body, &options, &id, crc, call);
                let activity = retrier.activity();
                async move { self.ask_json::<Made>(call, request?.watched(activity)).await }
            })
            .await;
        let write = Write { operation: OPERATION, key, mode: &options.mode, id: &id, begun, deadline };
        self.concluded(sent, write, crc, call).await
    }

    /// The result of a write by its answer or, without one, by what became of it.
    pub(super) async fn concluded(
        &self,
        sent: Result<Made>,
        write: Write<'_>,
        crc: Crc32c,
        call: Call<'_>,
    ) -> Result<PutResult> {
        let id = write.id.clone();
        match sent {
            Ok(made) => self.verified(write.key, &made, crc, id, call).await,
            Err(error) => {
                let meta = self.settle(write, error).await?;
                Ok(PutResult { version: meta.version, write_id: id, crc32c: Some(crc) })
            }
        }
    }

    /// Metadata and bytes in one request:
    /// <https://cloud.google.com/storage/docs/uploading-objects#uploading-an-object>
    fn multipart(
        &self,
        key: &ObjectKey,
        body: &Payload,
        options: &PutOptions,
        id: &WriteId,
        crc: Crc32c,
        call: Call<'_>,
    ) -> Result<Request> {
        let resource = NewObject {
            name: Some(key.as_str()),
            crc32c: Some(crc.to_base64()),
            storage_class: options.storage_class.as_deref(),
            ..NewObject::new(&options.headers, &options.metadata, id)
        };
        // Nobody can have put it into the bytes, as nobody knew it.
        let boundary = random::uuid();
        let mut envelope = Vec::with_capacity(ENVELOPE_BYTES);
        for text in ["--", &boundary, "\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n"] {
            envelope.extend_from_slice(text.as_bytes());
        }
        write_json(&mut envelope, &resource, call)?;
        for text in ["\r\n--", &boundary, "\r\ncontent-type: ", resource.content_type, "\r\n\r\n"] {
            envelope.extend_from_slice(text.as_bytes());
        }
        let end = ["\r\n--", &boundary, "--\r\n"].concat();
        let body = if body.len() <= COPIED_BYTES {
            // In one piece, because each is one more to handle on the way down.
            body.pieces().iter().for_each(|piece| envelope.extend_from_slice(piece));
            envelope.extend_from_slice(end.as_bytes());
            RequestBody::of([envelope.into()])
        } else {
            let pieces = body.pieces().iter().cloned();
            RequestBody::of([envelope.into()].into_iter().chain(pieces).chain([end.into()]))
        };
        let condition = condition::query(&options.mode, call.operation, call.subject)?;
        let url = format!(
            "{}?uploadType=multipart&fields={}{condition}{}",
            self.upload_url(),
            Made::FIELDS,
            self.kms_query("kmsKeyName", options.encryption_key.as_deref())
        );
        Ok(Request::new(Method::POST, url)
            .header("content-type", ["multipart/related; boundary=", &boundary].concat())
            .body(body))
    }

    pub(super) fn kms_query(&self, parameter: &str, key: Option<&str>) -> String {
        key.or(self.kms_key.as_deref()).map_or_else(String::new, |key| format!("&{parameter}={}", encode(key)))
    }

    /// The result of a write whose answer names the right checksum. What was stored otherwise is removed again, as
    /// [advised](https://cloud.google.com/storage/docs/data-validation): the service refuses wrong checksums itself,
    /// but not every emulator does.
    pub(super) async fn verified(
        &self,
        key: &ObjectKey,
        made: &Made,
        crc: Crc32c,
        id: WriteId,
        call: Call<'_>,
    ) -> Result<PutResult> {
        let version = version(made.generation);
        if made.crc().is_none_or(|stored| stored == crc) {
            return Ok(PutResult { version, write_id: id, crc32c: Some(crc) });
        }
        let removed = self.delete(key, DeleteOptions { if_match: Some(version) }).await;
        let message = match removed {
            Ok(()) => "the bytes that arrived do not match the checksum; they were removed",
            Err(_) => "the bytes that arrived do not match the checksum, and could not be removed",
        };
        Err(call.error(ErrorKind::Corrupt, message).with_write_id(id))
    }
}

pub(super) fn to_json<T: serde::Serialize>(value: &T, call: Call<'_>) -> Result<Vec<u8>> {
    let mut json = Vec::with_capacity(ENVELOPE_BYTES);
    write_json(&mut json, value, call)?;
    Ok(json)
}

fn write_json<T: serde::Serialize>(into: &mut Vec<u8>, value: &T, call: Call<'_>) -> Result<()> {
    let written = serde_json::to_writer(into, value);
    written.map_err(|_| call.error(ErrorKind::Internal, "the metadata could not be encoded"))
}
