//! Cloud Storage: the JSON API, and objects through signed URLs.
//!
//! <https://cloud.google.com/storage/docs/json_api/v1>

mod bucket;
mod copy;
pub(super) mod kms;
mod list;
mod media;
mod multipart;
mod object;
mod precondition;
mod resumable;
mod signed_url;
mod upload;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode, Uri};
use bytes::Bytes;
use serde_json::Value;

use super::EmulatorConfig;
use super::failure::Failure;
use super::faults::FaultAction;
use super::server::{Shared, lock};
use super::wire::{Call, Reply};
use bucket::Bucket;
use copy::Rewrite;
use object::{Draft, Object};
use precondition::{Conditions, Purpose};
use resumable::Session;

/// All buckets with their live objects; older generations are not kept.
#[derive(Debug, Default)]
pub(super) struct Storage {
    buckets: BTreeMap<String, Bucket>,
    sessions: HashMap<String, Session>,
    rewrites: HashMap<String, Rewrite>,
    generation: i64,
    change_interval: Option<Duration>,
    changed: HashMap<(String, String), Instant>,
    denied_keys: Vec<String>,
}

impl Storage {
    pub(super) fn new(config: &EmulatorConfig) -> Self {
        Self {
            buckets: config.buckets.iter().map(|name| (name.clone(), Bucket::new(name))).collect(),
            change_interval: config.object_change_interval,
            denied_keys: config.denied_kms_keys.clone(),
            ..Self::default()
        }
    }

    fn bucket(&self, name: &str) -> Result<&Bucket, Failure> {
        self.buckets.get(name).ok_or_else(|| Failure::not_found("The specified bucket does not exist."))
    }

    fn bucket_mut(&mut self, name: &str) -> Result<&mut Bucket, Failure> {
        self.buckets.get_mut(name).ok_or_else(|| Failure::not_found("The specified bucket does not exist."))
    }

    /// A live object, of a generation when one is asked for.
    fn object(&self, bucket: &str, name: &str, generation: Option<i64>) -> Result<&Object, Failure> {
        self.bucket(bucket)?
            .objects
            .get(name)
            .filter(|object| generation.is_none_or(|wanted| wanted == object.generation))
            .ok_or_else(|| Failure::not_found(format!("No such object: {bucket}/{name}")))
    }

    /// Refuses a change that follows the last one of the same object too soon.
    ///
    /// <https://cloud.google.com/storage/docs/json_api/v1/status-codes#429_Too_Many_Requests>
    fn pace(&mut self, bucket: &str, name: &str) -> Result<(), Failure> {
        let Some(interval) = self.change_interval else {
            return Ok(());
        };
        let key = (bucket.to_owned(), name.to_owned());
        if self.changed.get(&key).is_some_and(|last| last.elapsed() < interval) {
            return Err(Failure::too_fast());
        }
        self.changed.insert(key, Instant::now());
        Ok(())
    }

    /// Replaces or creates an object when the conditions hold.
    fn put(&mut self, draft: Draft, conditions: &Conditions) -> Result<&Object, Failure> {
        let bucket = self.bucket(&draft.bucket)?;
        conditions.check(bucket.objects.get(&draft.name), Purpose::Change)?;
        object::check_name(&draft.name)?;
        bucket.objects.get(&draft.name).map_or(Ok(()), |replaced| bucket.release(replaced))?;
        self.pace(&draft.bucket, &draft.name)?;
        // Generations grow and look like the moment in microseconds:
        // https://cloud.google.com/storage/docs/metadata#generation-number
        let moment = jiff::Timestamp::now().as_microsecond();
        self.generation = moment.max(self.generation + 1);
        let object = draft.object(self.generation)?;
        let name = object.name.clone();
        let bucket = self.bucket_mut(&object.bucket)?;
        bucket.objects.insert(name.clone(), object);
        bucket.objects.get(&name).ok_or_else(|| Failure::not_found("The object is gone."))
    }
}

/// Serves a call of the JSON API.
pub(super) fn call(
    shared: &Shared,
    method: &Method,
    call: &Call,
    fault: Option<&FaultAction>,
) -> Result<Reply, Failure> {
    let storage = &mut *lock(&shared.storage);
    let url = &shared.url;
    let part = |index: usize| call.path.get(index).map_or("", String::as_str);
    let (bucket, name) = (part(0), part(1));
    match call.id {
        "storage.buckets.insert" => storage.insert_bucket(url, call),
        "storage.buckets.list" => storage.list_buckets(url, call),
        "storage.buckets.get" => Ok(Reply::json(&storage.bucket(bucket)?.json(url))),
        "storage.buckets.delete" => storage.delete_bucket(bucket),
        "storage.buckets.testIamPermissions" => storage.bucket(bucket).map(|_| bucket::permissions(call)),
        "storage.objects.list" => list::list(url, storage.bucket(bucket)?, call),
        "storage.objects.get" => {
            let object = storage.object(bucket, name, call.number("generation")?)?;
            Conditions::of(call, "if")?.check(Some(object), Purpose::Read)?;
            if call.query("alt") == Some("media") {
                media::download(object, &call.headers)
            } else {
                Ok(Reply::json(&object.json(url)))
            }
        }
        "storage.objects.patch" => {
            let fields = call.json()?;
            let object = storage.object(bucket, name, call.number("generation")?)?;
            Conditions::of(call, "if")?.check(Some(object), Purpose::Change)?;
            storage.pace(bucket, name)?;
            let object = storage.bucket_mut(bucket)?.objects.get_mut(name);
            let object = object.ok_or_else(|| Failure::not_found("No such object."))?;
            object.patch(&fields);
            Ok(Reply::json(&object.json(url)))
        }
        "storage.objects.delete" => {
            let conditions = Conditions::of(call, "if")?;
            storage.delete(bucket, name, call.number("generation")?, &conditions)
        }
        "storage.objects.insert" => match *method {
            Method::POST => upload::begin(storage, url, call),
            Method::PUT => resumable::proceed(storage, url, call, fault),
            _ => resumable::cancel(storage, call),
        },
        "storage.objects.compose" => storage.compose(url, call),
        "storage.objects.copy" => storage.copy(url, call),
        "storage.objects.rewrite" => storage.rewrite(url, call, shared.config.rewrite_bytes_per_call),
        _ => Err(Failure::unimplemented("This emulator does not serve the method.")),
    }
}

/// Serves an object of the XML API, which is what signed URLs lead to.
///
/// <https://cloud.google.com/storage/docs/xml-api/reference-methods>
pub(super) fn signed_call(shared: &Shared, method: &Method, uri: &Uri, call: &Call) -> Result<Reply, Failure> {
    signed_url::check(&shared.identity, method, uri, call)?;
    let storage = &mut *lock(&shared.storage);
    let part = |index: usize| call.path.get(index).map_or("", String::as_str);
    let (bucket, name) = (part(0), part(1));
    match call.id {
        "xml.objects.get" | "xml.objects.head" => {
            let object = storage.object(bucket, name, call.number("generation")?)?;
            Conditions::of_headers(call)?.check(Some(object), Purpose::Read)?;
            let mut reply = media::download(object, &call.headers)?;
            // https://cloud.google.com/storage/docs/xml-api/reference-headers#query
            if let Some(disposition) = call.query("response-content-disposition") {
                reply.headers.remove("content-disposition");
                reply = reply.with("content-disposition", disposition);
            }
            Ok(reply)
        }
        "xml.objects.put" => {
            let conditions = Conditions::of_headers(call)?;
            let draft = upload::of_headers(bucket, name, call)?;
            let object = storage.put(draft, &conditions)?;
            Ok(Reply::empty(StatusCode::OK)
                .with("etag", &format!("\"{}\"", object.etag()))
                .with("x-goog-generation", &object.generation.to_string())
                .with("x-goog-metageneration", &object.metageneration.to_string())
                .with("x-goog-hash", &object.hashes()))
        }
        _ => storage.delete(bucket, name, None, &Conditions::of_headers(call)?),
    }
}

impl Storage {
    fn delete(
        &mut self,
        bucket: &str,
        name: &str,
        generation: Option<i64>,
        conditions: &Conditions,
    ) -> Result<Reply, Failure> {
        let object = self.object(bucket, name, generation)?;
        conditions.check(Some(object), Purpose::Change)?;
        self.bucket(bucket)?.release(object)?;
        self.pace(bucket, name)?;
        self.bucket_mut(bucket)?.objects.remove(name);
        // https://cloud.google.com/storage/docs/json_api/v1/objects/delete
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }
}

/// The JSON of a request: the first part of a multipart upload, or the body if it is JSON.
pub(super) fn json_part(method: &Method, call: &Call) -> Option<Bytes> {
    if call.id == "storage.objects.insert" {
        if *method != Method::POST {
            return None;
        }
        return match call.query("uploadType") {
            Some("multipart") => multipart::parts(call.header("content-type").unwrap_or(""), &call.body)
                .ok()?
                .into_iter()
                .next()
                .map(|part| part.body),
            Some("resumable") => Some(call.body.clone()).filter(|body| !body.is_empty()),
            _ => None,
        };
    }
    Some(call.body.clone()).filter(|body| !body.is_empty())
}

/// The value of a JSON field that is a number in a string.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}
