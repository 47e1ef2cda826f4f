use std::time::SystemTime;

use bytes::Bytes;
use http::Method;

use super::bucket::{Bucket, Request, encode};
use super::condition;
use super::resource::{NewObject, Resource};
use super::version::version;
use crate::call::Call;
use crate::http::RequestBody;
use crate::object_store::{Crc32c, DeleteOptions, PutResult, Write};
use crate::retry::Safety;
use crate::{Error, ErrorKind, ObjectKey, PutOptions, Result, WriteId, random};

const OPERATION: &str = "object_store.put";
pub(super) const PERMISSION: &str = "storage.objects.create (and, to overwrite, storage.objects.delete)";

impl Bucket {
    pub(super) async fn put(&self, key: &ObjectKey, body: Bytes, options: PutOptions) -> Result<PutResult> {
        let subject = self.uri(key).to_string();
        let id = options.write_id.clone().unwrap_or_else(WriteId::random);
        let crc = options.crc32c.unwrap_or_else(|| Crc32c::of(&body));
        let call = Call::changing(OPERATION, &subject, PERMISSION);
        let request = self.multipart(key, body.clone(), &options, &id, crc, call)?;
        let retrier = self.connection.retrier().for_body(body.len() as u64);
        let (begun, deadline) = (SystemTime::now(), retrier.deadline());
        let sent = retrier
            .run(OPERATION, &subject, Safety::Repeatable, |_| {
                let request = request.clone().watched(retrier.activity());
                async move { self.ask_json::<Resource>(call, request).await }
            })
            .await;
        let write = Write { operation: OPERATION, key, mode: &options.mode, id: &id, begun, deadline };
        self.concluded(sent, write, crc, call).await
    }

    /// The result of a write by its answer or, without one, by what became of it.
    pub(super) async fn concluded(
        &self,
        sent: Result<Resource>,
        write: Write<'_>,
        crc: Crc32c,
        call: Call<'_>,
    ) -> Result<PutResult> {
        let id = write.id.clone();
        match sent {
            Ok(resource) => self.verified(write.key, &resource, crc, id, call).await,
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
        body: Bytes,
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
        let json = to_json(&resource, call)?;
        // Nobody can have put it into the bytes, as nobody knew it.
        let boundary = format!("anycloud-{}", random::uuid());
        let before = format!(
            "--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n{json}\r\n\
             --{boundary}\r\ncontent-type: {}\r\n\r\n",
            resource.content_type
        );
        let after = format!("\r\n--{boundary}--\r\n");
        let condition = condition::query(&options.mode, call.operation, call.subject)?;
        let url = format!(
            "{}?uploadType=multipart&fields=generation,crc32c,size{condition}{}",
            self.upload_url(),
            self.kms_query("kmsKeyName", options.encryption_key.as_deref())
        );
        Ok(Request::new(Method::POST, url)
            .header("content-type", format!("multipart/related; boundary={boundary}"))
            .body(RequestBody::of([before.into(), body, after.into()])))
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
        resource: &Resource,
        crc: Crc32c,
        id: WriteId,
        call: Call<'_>,
    ) -> Result<PutResult> {
        let version = version(resource.generation);
        if resource.crc().is_none_or(|stored| stored == crc) {
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

pub(super) fn to_json<T: serde::Serialize>(value: &T, call: Call<'_>) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|_| call.error(ErrorKind::Internal, "the metadata could not be encoded"))
}
