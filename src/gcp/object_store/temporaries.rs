//! The temporary objects of composed uploads: what they are called, and that they go.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};
use http::Method;
use serde::Deserialize;

use super::bucket::{Bucket, Request, encode};
use super::resource::{moment, number};
use crate::call::Call;
use crate::object_store::StaleUploads;
use crate::retry::Safety;
use crate::{Error, ErrorKind, ObjectKey, Result, random};

/// Below here are the temporary objects, and nothing else: writes of a caller are refused, listings leave it out.
pub(super) const PREFIX: &str = ".anycloud-uploads/";
/// The first name behind all that start with [`PREFIX`]: `0` follows `/`.
pub(super) const BEHIND: &str = ".anycloud-uploads0";
const SWEEP: &str = "object_store.abort_stale_uploads";
/// How many deletions travel at the same time.
const PARALLEL: usize = 32;
/// How long a part whose request was cut off may still be on its way to being stored.
const ARRIVAL: Duration = Duration::from_secs(2);

/// Refuses to write where the temporary objects are.
pub(super) fn check(key: &ObjectKey, operation: &'static str, subject: impl FnOnce() -> String) -> Result<()> {
    if key.as_str().starts_with(PREFIX) {
        let message = format!("keys that start with `{PREFIX}` are reserved on Cloud Storage");
        return Err(Error::new(ErrorKind::InvalidInput, operation, subject(), message));
    }
    Ok(())
}

/// Those of one upload.
#[derive(Clone)]
pub(super) struct Temporaries {
    pub(super) bucket: Arc<Bucket>,
    /// Nobody else can know it, so that whatever is below it is this upload's.
    prefix: String,
}

/// One generation of a temporary object.
#[derive(Deserialize)]
struct Found {
    name: String,
    #[serde(deserialize_with = "number")]
    generation: i64,
    updated: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    items: Vec<Found>,
    next_page_token: Option<String>,
}

impl Temporaries {
    pub(super) fn new(bucket: Arc<Bucket>) -> Self {
        Self { bucket, prefix: format!("{PREFIX}{}/", random::uuid()) }
    }

    pub(super) fn key(&self, name: impl fmt::Display) -> Result<ObjectKey> {
        ObjectKey::new(format!("{}{name}", self.prefix))
    }

    /// Removes whatever of the upload there is.
    pub(super) async fn remove(&self, operation: &'static str, subject: &str) -> Result<()> {
        let found = self.bucket.temporaries(&self.prefix, operation, subject).await?;
        self.bucket.remove_temporaries(found, operation, subject).await
    }

    /// The same, and again for what arrives in the meantime.
    pub(super) async fn remove_late_ones_too(&self, operation: &'static str, subject: &str) -> Result<()> {
        // Whatever becomes of this, the second look decides.
        let _ = self.remove(operation, subject).await;
        tokio::time::sleep(ARRIVAL).await;
        self.remove(operation, subject).await
    }
}

impl Bucket {
    /// Removes the temporary objects of uploads that have stored nothing for so long.
    pub(super) async fn abort_stale_uploads(&self, older_than: Duration) -> Result<StaleUploads> {
        let subject = format!("gs://{}/{PREFIX}", self.name);
        let before = SystemTime::now().checked_sub(older_than).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut uploads = BTreeMap::<String, Vec<Found>>::new();
        for found in self.temporaries(PREFIX, SWEEP, &subject).await? {
            let upload = found.name.rsplit_once('/').map_or("", |(upload, _)| upload);
            uploads.entry(upload.to_owned()).or_default().push(found);
        }
        let is_old = |found: &Found| moment(&found.updated).is_some_and(|updated| updated <= before);
        let stale: Vec<_> = uploads.into_values().filter(|upload| upload.iter().all(is_old)).collect();
        let aborted = stale.len() as u64;
        self.remove_temporaries(stale.into_iter().flatten().collect(), SWEEP, &subject).await?;
        Ok(StaleUploads { aborted })
    }

    /// Every generation of every object below a prefix.
    async fn temporaries(&self, prefix: &str, operation: &'static str, subject: &str) -> Result<Vec<Found>> {
        let call = Call::reading(operation, subject, "storage.objects.list");
        let mut all = Vec::new();
        let mut token = None::<String>;
        loop {
            let mut url = format!(
                "{}?prefix={}&versions=true&fields=items(name,generation,updated),nextPageToken",
                self.objects_url(),
                encode(prefix)
            );
            if let Some(token) = &token {
                url.push_str(&format!("&pageToken={}", encode(token)));
            }
            let request = Request::new(Method::GET, url);
            let page: Page = self
                .connection
                .retrier()
                .run(operation, subject, Safety::Read, |_| {
                    let request = request.clone();
                    async move { self.ask_json(call, request).await }
                })
                .await?;
            all.extend(page.items);
            let next = page.next_page_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(all);
            }
            if next == token {
                return Err(call.error(ErrorKind::Internal, "the service gave the same page token twice"));
            }
            token = next;
        }
    }

    /// A bucket that keeps versions keeps none of a deletion that names the generation. One with
    /// [soft deletion](https://cloud.google.com/storage/docs/soft-delete) keeps it for its time: seven days by default.
    async fn remove_temporaries(&self, found: Vec<Found>, operation: &'static str, subject: &str) -> Result<()> {
        let mut removals = stream::iter(found)
            .map(|found| self.remove_generation(found, operation, subject))
            .buffer_unordered(PARALLEL);
        let mut first_error = None;
        while let Some(removed) = removals.next().await {
            first_error = first_error.or(removed.err());
        }
        first_error.map_or(Ok(()), Err)
    }

    async fn remove_generation(&self, found: Found, operation: &'static str, subject: &str) -> Result<()> {
        let call = Call::changing(operation, subject, "storage.objects.delete");
        let url = format!("{}/{}?generation={}", self.objects_url(), encode(&found.name), found.generation);
        let request = Request::new(Method::DELETE, url);
        let deleted = self
            .connection
            .retrier()
            .run(operation, subject, Safety::Repeatable, |_| {
                let request = request.clone();
                async move { self.ask(call, request).await.map(drop) }
            })
            .await;
        match deleted {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
