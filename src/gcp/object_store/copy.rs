use std::time::SystemTime;

use http::Method;
use serde::Deserialize;

use super::bucket::{Bucket, Request, encode};
use super::condition;
use super::put::to_json;
use super::resource::{NewObject, Resource, number};
use super::version::{generation, version};
use crate::call::Call;
use crate::http::RequestBody;
use crate::object_store::{CopyOptions, Crc32c, HeadOptions, ObjectMeta, PutResult, Write};
use crate::retry::{Retrier, Safety};
use crate::{Error, ErrorKind, ObjectKey, Result, WriteId};

const OPERATION: &str = "object_store.copy";
const PERMISSION: &str =
    "storage.objects.get on the source and storage.objects.create (to overwrite also storage.objects.delete)";
/// How often a copy begins again because the source was replaced under it.
const RESTARTS: u32 = 5;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rewrite {
    #[serde(deserialize_with = "number")]
    total_bytes_rewritten: u64,
    done: bool,
    rewrite_token: Option<String>,
    resource: Option<Resource>,
}

/// One state of the source on its way to the target.
struct Copy<'a> {
    call: Call<'a>,
    url: String,
    json: Vec<u8>,
    retrier: Retrier,
}

impl Bucket {
    pub(super) async fn copy(&self, from: &ObjectKey, to: &ObjectKey, options: CopyOptions) -> Result<PutResult> {
        let (source_subject, subject) = (self.uri(from).to_string(), self.uri(to).to_string());
        let call = Call::changing(OPERATION, &subject, PERMISSION);
        let id = options.write_id.clone().unwrap_or_else(WriteId::random);
        let wanted = options
            .source_version
            .as_ref()
            .map(|version| generation(version, OPERATION, &source_subject))
            .transpose()?;
        let condition = condition::query(&options.mode, OPERATION, &subject)?;
        for _ in 0..RESTARTS {
            let source = self.source(from, wanted, &source_subject).await?;
            let pinned = generation(&source.version, OPERATION, &source_subject)?;
            let (headers, metadata) = match &options.replace {
                Some((headers, metadata)) => (headers, metadata),
                None => (&source.headers, &source.metadata),
            };
            let retrier = self.connection.retrier().for_copy(source.size);
            let (begun, deadline) = (SystemTime::now(), retrier.deadline());
            // A rewrite with metadata in its body takes over none of the source's.
            let storage_class = source.storage_class.as_deref();
            let json = to_json(&NewObject { storage_class, ..NewObject::new(headers, metadata, &id) }, call)?;
            let url = format!(
                "{}/rewriteTo/b/{}/o/{}?sourceGeneration={pinned}{condition}{}",
                self.object_url(from),
                encode(&self.name),
                encode(to.as_str()),
                self.kms_query("destinationKmsKeyName", None)
            );
            match self.rewrite(&Copy { call, url, json, retrier }).await {
                Ok(resource) => return Ok(copied(&resource, &source, id)),
                // The source was replaced in between, and older versions are not kept.
                Err(error) if error.kind() == ErrorKind::NotFound && !error.may_have_applied() => {}
                Err(error) => {
                    let write = Write { operation: OPERATION, key: to, mode: &options.mode, id: &id, begun, deadline };
                    let meta = self.settle(write, error).await?;
                    return Ok(PutResult { version: meta.version, write_id: id, crc32c: meta.crc32c });
                }
            }
        }
        let message = "the source was replaced again and again while it was copied";
        Err(Error::new(ErrorKind::Conflict, OPERATION, source_subject, message).with_write_id(id))
    }

    async fn source(&self, from: &ObjectKey, wanted: Option<i64>, subject: &str) -> Result<ObjectMeta> {
        let source = self.head(from, HeadOptions::default()).await;
        let failed = |error: Error| error.with_operation(OPERATION, subject);
        match (source, wanted) {
            (Ok(source), Some(wanted)) if source.version != version(wanted) => {
                let message = "the source is another version";
                Err(Error::new(ErrorKind::PreconditionFailed, OPERATION, subject, message))
            }
            (Err(error), Some(_)) if error.kind() == ErrorKind::NotFound => {
                Err(failed(error).with_kind(ErrorKind::PreconditionFailed).with_message("the source is missing"))
            }
            (source, _) => source.map_err(failed),
        }
    }

    /// Calls until all is copied: <https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite>
    async fn rewrite(&self, copy: &Copy<'_>) -> Result<Resource> {
        let (mut token, mut before) = (None::<String>, None);
        loop {
            let url = match &token {
                Some(token) => format!("{}&rewriteToken={}", copy.url, encode(token)),
                None => copy.url.clone(),
            };
            let request = Request::new(Method::POST, url)
                .header("content-type", "application/json; charset=UTF-8")
                .body(RequestBody::of([copy.json.clone().into()]));
            let answer: Rewrite = copy
                .retrier
                .run(OPERATION, copy.call.subject, Safety::Repeatable, |_| {
                    let request = request.clone();
                    async move { self.ask_json(copy.call, request).await }
                })
                .await?;
            let lost = |message| copy.call.error(ErrorKind::Unavailable, message).with_may_have_applied();
            if answer.done {
                return answer.resource.ok_or_else(|| lost("the answer does not name the copy"));
            }
            if before.is_some_and(|before| answer.total_bytes_rewritten <= before) {
                return Err(copy.call.error(ErrorKind::Unavailable, "the copy gets no further"));
            }
            before = Some(answer.total_bytes_rewritten);
            token = answer.rewrite_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Err(lost("the copy is neither done nor to be continued"));
            }
        }
    }
}

fn copied(resource: &Resource, source: &ObjectMeta, id: WriteId) -> PutResult {
    let crc: Option<Crc32c> = resource.crc().or(source.crc32c);
    PutResult { version: version(resource.generation), write_id: id, crc32c: crc }
}
