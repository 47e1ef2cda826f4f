use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::Method;
use serde::Deserialize;

use super::bucket::{Bucket, MAX_JSON_BYTES, Request, encode, reading};
use super::resource::{moment, number};
use super::temporaries;
use super::version::version;
use crate::gcp::error::Call;
use crate::object_store::{ListEntry, ListOptions, ObjectSummary};
use crate::retry::Safety;
use crate::{ErrorKind, ObjectKey, Result};

const OPERATION: &str = "object_store.list";
const PERMISSION: &str = "storage.objects.list";

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow, default)]
    items: Vec<Item<'a>>,
    #[serde(default)]
    prefixes: Vec<String>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(deserialize_with = "number")]
    size: u64,
    #[serde(deserialize_with = "number")]
    generation: i64,
    #[serde(borrow)]
    updated: Cow<'a, str>,
}

/// Where a listing is.
struct Listing {
    bucket: Arc<Bucket>,
    options: ListOptions,
    ready: VecDeque<ListEntry>,
    token: Option<String>,
    last: Option<String>,
    ended: bool,
}

pub(super) fn entries(bucket: Arc<Bucket>, options: ListOptions) -> BoxStream<'static, Result<ListEntry>> {
    let listing = Listing { bucket, options, ready: VecDeque::new(), token: None, last: None, ended: false };
    stream::unfold(listing, |mut listing| async {
        loop {
            if let Some(entry) = listing.ready.pop_front() {
                return Some((Ok(entry), listing));
            }
            if listing.ended {
                return None;
            }
            if let Err(error) = listing.turn().await {
                listing.ended = true;
                return Some((Err(error), listing));
            }
        }
    })
    .boxed()
}

impl Listing {
    /// Fetches the next page.
    async fn turn(&mut self) -> Result<()> {
        let subject = format!("gs://{}/{}", self.bucket.name, self.options.prefix);
        let call = reading(OPERATION, &subject, PERMISSION);
        let start = self.options.start_after.as_deref().unwrap_or_default();
        let mut url = self.url(&self.options.prefix, self.options.delimiter.as_deref(), start);
        if let Some(size) = self.options.page_size {
            url.push_str(&format!("&maxResults={size}"));
        }
        if let Some(token) = &self.token {
            url.push_str(&format!("&pageToken={}", encode(token)));
        }
        let (entries, next) = self.page(call, url).await?;
        for entry in entries {
            if self.is_wanted(&entry, call).await? {
                self.last = Some(entry.name().to_owned());
                self.ready.push_back(entry);
            }
        }
        if next.is_some() && next == self.token {
            return Err(call.error(ErrorKind::Internal, "the service gave the same page token twice"));
        }
        self.ended = next.is_none();
        self.token = next;
        Ok(())
    }

    fn url(&self, prefix: &str, delimiter: Option<&str>, start: &str) -> String {
        let mut url =
            format!("{}?fields=items(name,size,generation,updated),prefixes,nextPageToken", self.bucket.objects_url());
        let parameters = [("prefix", prefix), ("delimiter", delimiter.unwrap_or_default()), ("startOffset", start)];
        for (name, value) in parameters.into_iter().filter(|(_, value)| !value.is_empty()) {
            url.push_str(&format!("&{name}={}", encode(value)));
        }
        url
    }

    /// One page, objects and prefixes merged in byte order.
    async fn page(&self, call: Call<'_>, url: String) -> Result<(Vec<ListEntry>, Option<String>)> {
        let request = Request::new(Method::GET, url);
        let bucket = &self.bucket;
        let bytes = bucket
            .connection
            .retrier()
            .run(OPERATION, call.subject, Safety::Read, |_| {
                let request = request.clone();
                async move {
                    let answer = bucket.ask(call, request).await?;
                    answer.bytes(MAX_JSON_BYTES).await.map_err(|failure| call.lost(failure))
                }
            })
            .await?;
        let page: Page<'_> = serde_json::from_slice(&bytes)
            .map_err(|_| call.error(ErrorKind::Internal, "the page of the listing is not the JSON expected"))?;
        let mut entries = Vec::with_capacity(page.items.len() + page.prefixes.len());
        for item in page.items {
            let unusable = |what: &str| call.error(ErrorKind::Internal, format!("a listed object has {what}"));
            entries.push(ListEntry::Object(ObjectSummary {
                key: ObjectKey::new(item.name.into_owned()).map_err(|_| unusable("a key outside the contract"))?,
                size: item.size,
                version: version(item.generation),
                last_modified: moment(&item.updated).ok_or_else(|| unusable("no time"))?,
            }));
        }
        if !page.prefixes.is_empty() {
            entries.extend(page.prefixes.into_iter().map(ListEntry::Prefix));
            entries.sort_by(|one, other| one.name().cmp(other.name()));
        }
        Ok((entries, page.next_page_token.filter(|token| !token.is_empty())))
    }

    /// Leaves out the start itself, which `startOffset` includes, prefixes that have come already, and the temporary
    /// objects of uploads.
    async fn is_wanted(&self, entry: &ListEntry, call: Call<'_>) -> Result<bool> {
        if matches!(entry, ListEntry::Prefix(name) if self.last.as_ref() == Some(name)) {
            return Ok(false);
        }
        if entry.name().starts_with(temporaries::PREFIX) {
            return Ok(false);
        }
        let start = self.options.start_after.as_deref().unwrap_or_default();
        match entry {
            ListEntry::Object(object) => Ok(object.key.as_str() > start),
            // There may be nothing below it but the start itself, or temporary objects.
            ListEntry::Prefix(prefix) if start.starts_with(prefix) || temporaries::PREFIX.starts_with(prefix) => {
                let below = format!("{}&maxResults=2", self.url(prefix, None, start));
                let (below, _) = self.page(call, below).await?;
                match below.iter().find(|entry| entry.name() > start) {
                    Some(entry) if entry.name().starts_with(temporaries::PREFIX) => {
                        let behind = format!("{}&maxResults=1", self.url(prefix, None, temporaries::BEHIND));
                        Ok(!self.page(call, behind).await?.0.is_empty())
                    }
                    first => Ok(first.is_some()),
                }
            }
            ListEntry::Prefix(_) => Ok(true),
        }
    }
}
