use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use futures_util::{StreamExt as _, stream};

use super::bucket::Bucket;
use super::version::state;
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::object_store::DeleteOptions;
use crate::retry::{Retrying as _, Safety};
use crate::{Error, ErrorKind, ObjectKey, Result};

const ONE: &str = "object_store.delete";
const MANY: &str = "object_store.delete_many";
const PERMISSION: &str = "s3:DeleteObject";
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>
const KEYS_PER_CALL: usize = 1000;
const CALLS_AT_ONCE: usize = 4;

impl Bucket {
    pub(super) async fn delete(&self, key: &ObjectKey, options: DeleteOptions) -> Result<()> {
        let subject = self.uri(key).to_string();
        let if_match = match &options.if_match {
            Some(version) => Some(state(version, ONE, &subject)?.etag),
            None => None,
        };
        let conditional = if_match.is_some();
        let client = self.client().await?;
        let request = client.delete_object().bucket(&self.name).key(key.as_str()).set_if_match(if_match);
        let sent = self
            .connection
            .retrier()
            .run(ONE, &subject, Safety::Repeatable, |_| {
                let request = request.clone();
                async {
                    request
                        .send()
                        .silently()
                        .await
                        .map_err(|error| self.error(error, Call::changing(ONE, &subject, PERMISSION)))
                }
            })
            .await;
        match sent {
            Ok(_) => {
                self.note_seen();
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PreconditionFailed) => {
                if conditional && error.may_have_applied() {
                    // An earlier attempt may be what removed it.
                    return Err(error.into_indeterminate());
                }
                if conditional {
                    let error = error.with_kind(ErrorKind::PreconditionFailed);
                    return Err(error.with_message("the object is missing or another version is current"));
                }
                // What is not there is deleted.
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn delete_many(&self, keys: Vec<ObjectKey>) -> Vec<(ObjectKey, Result<()>)> {
        let calls: Vec<Vec<ObjectKey>> = keys.chunks(KEYS_PER_CALL).map(<[ObjectKey]>::to_vec).collect();
        let results: Vec<Vec<_>> = stream::iter(calls)
            .map(|keys| self.retrier().one_call(self.delete_page(keys)))
            .buffered(CALLS_AT_ONCE)
            .collect()
            .await;
        results.into_iter().flatten().collect()
    }

    async fn delete_page(&self, keys: Vec<ObjectKey>) -> Vec<(ObjectKey, Result<()>)> {
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        let mut named = HashSet::new();
        for key in &keys {
            if named.insert(key) {
                let list = if fits_xml(key.as_str()) { &mut together } else { &mut alone };
                list.push(key.as_str().to_owned());
            }
        }
        let mut failed = self.delete_together(together).await;
        for key in alone {
            let result = match ObjectKey::new(key.as_str()) {
                Ok(name) => self.delete(&name, DeleteOptions::default()).await,
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                failed.insert(key, error);
            }
        }
        let result = |key: &ObjectKey| match failed.get(key.as_str()) {
            Some(error) => Err(copy_of(error)),
            None => Ok(()),
        };
        keys.iter().map(|key| (key.clone(), result(key))).collect()
    }

    /// Deletes by one call, and by more for keys that failed in passing; answers with those that were not deleted.
    async fn delete_together(&self, keys: Vec<String>) -> HashMap<String, Error> {
        if keys.is_empty() {
            return HashMap::new();
        }
        let subject = format!("s3://{}", self.name);
        let client = match self.client().await {
            Ok(client) => client,
            Err(error) => return keys.into_iter().map(|key| (key, copy_of(&error))).collect(),
        };
        let left = Mutex::new(keys);
        let refused = Mutex::new(HashMap::new());
        let sent = self
            .connection
            .retrier()
            .run(MANY, &subject, Safety::Repeatable, |_| {
                let keys = lock(&left).clone();
                let (left, refused, subject) = (&left, &refused, &subject);
                async move {
                    let identify = |key: &String| ObjectIdentifier::builder().key(key).build();
                    let objects: Result<Vec<_>, _> = keys.iter().map(identify).collect();
                    let delete = objects.and_then(|objects| Delete::builder().set_objects(Some(objects)).build());
                    let delete = delete.map_err(|error| {
                        Error::new(ErrorKind::Internal, MANY, subject, "the request is incomplete").with_source(error)
                    })?;
                    let sent = client.delete_objects().bucket(&self.name).delete(delete).send().silently().await;
                    let answer = sent.map_err(|error| self.error(error, Call::changing(MANY, subject, PERMISSION)))?;
                    let deleted: HashSet<&str> = answer.deleted().iter().filter_map(|entry| entry.key()).collect();
                    let errors: HashMap<&str, _> =
                        answer.errors().iter().filter_map(|entry| Some((entry.key()?, entry))).collect();
                    let mut again = Vec::new();
                    let mut last = None;
                    for key in keys {
                        if deleted.contains(key.as_str()) && !errors.contains_key(key.as_str()) {
                            continue;
                        }
                        let error = match errors.get(key.as_str()) {
                            Some(entry) => key_error(&self.name, &key, entry.code(), entry.message()),
                            None => {
                                let message = "the answer does not say what became of the key";
                                Error::new(ErrorKind::Unavailable, MANY, format!("s3://{}/{key}", self.name), message)
                                    .with_may_have_applied()
                            }
                        };
                        match error.is_transient() {
                            true => {
                                last = Some(error);
                                again.push(key);
                            }
                            false if error.kind() == ErrorKind::NotFound => {}
                            false => {
                                lock(refused).insert(key, error);
                            }
                        }
                    }
                    *lock(left) = again;
                    last.map_or(Ok(()), Err)
                }
            })
            .await;
        let mut failed = std::mem::take(&mut *lock(&refused));
        if let Err(error) = sent {
            for key in std::mem::take(&mut *lock(&left)) {
                let subject = format!("s3://{}/{key}", self.name);
                failed.insert(key, copy_of(&error).with_operation(MANY, subject));
            }
        } else {
            self.note_seen();
        }
        failed
    }
}

/// One key's error inside an answer of success.
fn key_error(bucket: &str, key: &str, code: Option<&str>, message: Option<&str>) -> Error {
    let (kind, may_have_applied) = crate::aws::error::of_code(code.unwrap_or_default());
    let message = match kind {
        ErrorKind::PermissionDenied => format!("the identity lacks {PERMISSION}"),
        _ => message.unwrap_or("the object was not deleted").to_owned(),
    };
    let error = Error::new(kind, MANY, format!("s3://{bucket}/{key}"), message).with_code(code.unwrap_or_default());
    if may_have_applied { error.with_may_have_applied() } else { error }
}

/// The same error for another key of the same call.
fn copy_of(error: &Error) -> Error {
    let mut copy = Error::new(error.kind(), error.operation(), error.subject(), error.message());
    if let Some(code) = error.code() {
        copy = copy.with_code(code);
    }
    if let Some(status) = error.status() {
        copy = copy.with_status(status);
    }
    if let Some(id) = error.request_id() {
        copy = copy.with_request_id(id);
    }
    if error.may_have_applied() { copy.with_may_have_applied() } else { copy }
}

/// Whether a key can be written in XML 1.0, which has no way to say most control characters:
/// <https://www.w3.org/TR/xml/#charsets>
fn fits_xml(key: &str) -> bool {
    key.chars().all(|c| matches!(c, '\t' | ' '..='\u{fffd}' | '\u{10000}'..))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
