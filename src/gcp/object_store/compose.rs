//! Objects made of others: <https://cloud.google.com/storage/docs/composite-objects>

use std::time::SystemTime;

use http::Method;
use serde::Serialize;

use super::bucket::{Bucket, Request};
use super::condition;
use super::put::to_json;
use super::resource::{Made, NewObject};
use crate::call::Call;
use crate::http::RequestBody;
use crate::object_store::{Crc32c, PutResult, Write};
use crate::retry::{Retrier, Safety};
use crate::{ErrorKind, ObjectKey, PutOptions, Result, WriteId};

/// The most sources of one call: <https://cloud.google.com/storage/quotas#objects>
pub(super) const MAX_SOURCES: usize = 32;
const PERMISSION: &str = "storage.objects.get, storage.objects.create and storage.objects.delete";

/// One generation of an object that becomes a part of another.
#[derive(Clone, Debug)]
pub(super) struct Component {
    pub(super) key: ObjectKey,
    pub(super) generation: i64,
    pub(super) crc: Crc32c,
    pub(super) bytes: u64,
}

/// The checksum and the length of all of them in a row.
pub(super) fn sum(components: &[Component]) -> (Crc32c, u64) {
    components.iter().fold((Crc32c(0), 0), |(crc, bytes), next| (crc.combine(next.crc, next.bytes), bytes + next.bytes))
}

/// <https://cloud.google.com/storage/docs/json_api/v1/objects/compose>
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ComposeRequest<'a> {
    source_objects: Vec<Source<'a>>,
    destination: NewObject<'a>,
    delete_source_objects: bool,
}

#[derive(Serialize)]
struct Source<'a> {
    name: &'a str,
    generation: String,
}

impl Bucket {
    /// Makes an object of components, which are
    /// [deleted for good](https://cloud.google.com/storage/docs/composing-objects) with it: neither soft deletion nor
    /// versioning keeps them.
    pub(super) async fn compose(
        &self,
        retrier: &Retrier,
        key: &ObjectKey,
        components: &[Component],
        options: &PutOptions,
        id: &WriteId,
        operation: &'static str,
    ) -> Result<PutResult> {
        let subject = self.uri(key).to_string();
        let call = Call::changing(operation, &subject, PERMISSION);
        let (crc, _) = sum(components);
        let body = ComposeRequest {
            source_objects: components.iter().map(Source::of).collect(),
            destination: NewObject {
                crc32c: Some(crc.to_base64()),
                storage_class: options.storage_class.as_deref(),
                ..NewObject::new(&options.headers, &options.metadata, id)
            },
            delete_source_objects: true,
        };
        let url = format!(
            "{}/compose?fields={}{}{}",
            self.object_url(key),
            Made::FIELDS,
            condition::query(&options.mode, operation, &subject)?,
            self.kms_query("kmsKeyName", options.encryption_key.as_deref())
        );
        let request = Request::new(Method::POST, url)
            .header("content-type", "application/json; charset=UTF-8")
            .body(RequestBody::of([to_json(&body, call)?.into()]));
        let (begun, deadline) = (SystemTime::now(), retrier.deadline());
        let sent = retrier
            .run(operation, &subject, Safety::Repeatable, |_| {
                let request = request.clone();
                async move { self.ask_json::<Made>(call, request).await }
            })
            .await;
        let write = Write { operation, key, mode: &options.mode, id, begun, deadline };
        self.concluded(sent, write, crc, call).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.with_message("the parts have been removed: the upload was aborted"),
            _ => error,
        })
    }
}

impl<'a> Source<'a> {
    fn of(component: &'a Component) -> Self {
        Self { name: component.key.as_str(), generation: component.generation.to_string() }
    }
}
