//! Buckets.
//!
//! <https://cloud.google.com/storage/docs/json_api/v1/buckets>

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::failure::Failure;
use super::super::wire::{Call, Reply, now, page};
use super::object::Object;
use super::{Storage, number};

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    name: String,
    created: String,
    location: String,
    storage_class: String,
    retention_policy: Option<Value>,
    default_event_based_hold: bool,
    pub(super) objects: BTreeMap<String, Object>,
}

impl Bucket {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            created: now(),
            location: "US".into(),
            storage_class: "STANDARD".into(),
            retention_policy: None,
            default_event_based_hold: false,
            objects: BTreeMap::new(),
        }
    }

    pub(super) fn json(&self, url: &str) -> Value {
        let mut json = json!({
            "kind": "storage#bucket",
            "id": self.name,
            "name": self.name,
            "selfLink": format!("{url}/storage/v1/b/{}", self.name),
            "projectNumber": "1",
            "metageneration": "1",
            "location": self.location,
            "locationType": "multi-region",
            "storageClass": self.storage_class,
            "timeCreated": self.created,
            "updated": self.created,
            "etag": "CAE=",
        });
        if let Some(policy) = &self.retention_policy {
            json["retentionPolicy"] = policy.clone();
        }
        if self.default_event_based_hold {
            json["defaultEventBasedHold"] = json!(true);
        }
        json
    }

    /// Refuses to let go of an object that is held or has not been kept for long enough.
    ///
    /// <https://cloud.google.com/storage/docs/bucket-lock>, <https://cloud.google.com/storage/docs/object-holds>
    pub(super) fn release(&self, object: &Object) -> Result<(), Failure> {
        let held = |field| object.fields.get(field).and_then(Value::as_bool).unwrap_or(false);
        if self.default_event_based_hold || held("eventBasedHold") || held("temporaryHold") {
            return Err(Failure::forbidden("Object is under active hold and cannot be deleted or overwritten."));
        }
        let period = self.retention_policy.as_ref().and_then(|policy| number(&policy["retentionPeriod"]));
        let age = object.created().map_or(0, |created| jiff::Timestamp::now().duration_since(created).as_secs());
        if period.is_some_and(|period| age < period) {
            return Err(Failure::forbidden("Object is subject to bucket's retention policy and cannot be deleted."));
        }
        Ok(())
    }
}

/// Every permission that is asked for: the emulator knows no identities.
///
/// <https://cloud.google.com/storage/docs/json_api/v1/buckets/testIamPermissions>
pub(super) fn permissions(call: &Call) -> Reply {
    let asked: Vec<&str> =
        call.query.iter().filter(|(name, _)| name == "permissions").map(|(_, value)| value.as_str()).collect();
    Reply::json(&json!({"kind": "storage#testIamPermissionsResponse", "permissions": asked}))
}

impl Storage {
    pub(super) fn insert_bucket(&mut self, url: &str, call: &Call) -> Result<Reply, Failure> {
        let fields = call.json()?;
        let name = fields.get("name").and_then(Value::as_str).unwrap_or("");
        // https://cloud.google.com/storage/docs/buckets#naming
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        if !(3..=222).contains(&name.len()) || !name.chars().all(valid) {
            return Err(Failure::invalid(format!("Invalid bucket name: '{name}'")));
        }
        if self.buckets.contains_key(name) {
            return Err(Failure::exists(
                "Your previous request to create the named bucket succeeded and you already own it.",
            ));
        }
        let mut bucket = Bucket::new(name);
        if let Some(location) = fields.get("location").and_then(Value::as_str) {
            bucket.location = location.to_uppercase();
        }
        if let Some(class) = fields.get("storageClass").and_then(Value::as_str) {
            class.clone_into(&mut bucket.storage_class);
        }
        bucket.retention_policy = fields.get("retentionPolicy").filter(|policy| policy.is_object()).cloned();
        bucket.default_event_based_hold = fields.get("defaultEventBasedHold").and_then(Value::as_bool).unwrap_or(false);
        let answer = bucket.json(url);
        self.buckets.insert(name.to_owned(), bucket);
        Ok(Reply::json(&answer))
    }

    pub(super) fn list_buckets(&self, url: &str, call: &Call) -> Result<Reply, Failure> {
        let prefix = call.query("prefix").unwrap_or("");
        let all = self
            .buckets
            .values()
            .filter(|bucket| bucket.name.starts_with(prefix))
            .map(|bucket| bucket.json(url))
            .collect();
        let (items, next) = page(all, call.number("maxResults")?, 1000, call.query("pageToken"))?;
        let mut answer = json!({"kind": "storage#buckets", "items": items});
        if let Some(next) = next {
            answer["nextPageToken"] = json!(next);
        }
        Ok(Reply::json(&answer))
    }

    pub(super) fn delete_bucket(&mut self, name: &str) -> Result<Reply, Failure> {
        if !self.bucket(name)?.objects.is_empty() {
            // https://cloud.google.com/storage/docs/json_api/v1/status-codes#409_Conflict
            return Err(Failure::exists("The bucket you tried to delete is not empty."));
        }
        self.buckets.remove(name);
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }
}
