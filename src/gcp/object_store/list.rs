use std::borrow::Cow;
use std::sync::Arc;

use futures_util::stream::BoxStream;
use http::Method;
use serde::Deserialize;

use super::bucket::{Bucket, MAX_JSON_BYTES, Request, encode};
use super::resource::{moment, number};
use super::temporaries;
use super::version::version;
use crate::call::Call;
use crate::object_store::{self, ListEntry, ListOptions, ObjectSummary, Pages};
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
    token: Option<String>,
    /// The last prefix that came.
    rolled: Option<String>,
    ended: bool,
}

pub(super) fn entries(bucket: Arc<Bucket>, options: ListOptions) -> BoxStream<'static, Result<ListEntry>> {
    object_store::entries(Listing { bucket, options, token: None, rolled: None, ended: false })
}

impl Pages for Listing {
    async fn turn(&mut self) -> Result<Option<Vec<ListEntry>>> {
        if self.ended {
            return Ok(None);
        }
        let subject = format!("gs://{}/{}", self.bucket.name, self.options.prefix);
        let call = Call::reading(OPERATION, &subject, PERMISSION);
        let start = self.options.start_after.as_deref().unwrap_or_default();
        let mut url = self.url(&self.options.prefix, self.options.delimiter.as_deref(), start);
        if let Some(size) = self.options.page_size {
            url.push_str(&format!("&maxResults={size}"));
        }
        if let Some(token) = &self.token {
            url.push_str(&format!("&pageToken={}", encode(token)));
        }
        let (mut entries, next) = self.page(call, url).await?;
        self.leave_out(&mut entries, start, call).await?;
        entries.retain(|entry| !matches!(entry, ListEntry::Prefix(name) if self.rolled.as_ref() == Some(name)));
        if let Some(ListEntry::Prefix(name)) = entries.last() {
            self.rolled = Some(name.clone());
        }
        if next.is_some() && next == self.token {
            return Err(call.error(ErrorKind::Internal, "the service gave the same page token twice"));
        }
        self.ended = next.is_none();
        self.token = next;
        Ok(Some(entries))
    }
}

impl Listing {
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

    /// Leaves out what is not after the start, which `startOffset` includes, and the temporary objects of uploads.
    async fn leave_out(&self, entries: &mut Vec<ListEntry>, start: &str, call: Call<'_>) -> Result<()> {
        let mut empty = Vec::new();
        for entry in entries.iter() {
            if let ListEntry::Prefix(prefix) = entry
                && self.has_nothing_below(prefix, start, call).await?
            {
                empty.push(prefix.clone());
            }
        }
        entries.retain(|entry| match entry {
            _ if entry.name().starts_with(temporaries::PREFIX) => false,
            ListEntry::Object(object) => object.key.as_str() > start,
            ListEntry::Prefix(prefix) => !empty.contains(prefix),
        });
        Ok(())
    }

    /// Whether there is nothing below the prefix but the start itself, or temporary objects.
    async fn has_nothing_below(&self, prefix: &str, start: &str, call: Call<'_>) -> Result<bool> {
        if !start.starts_with(prefix) && !temporaries::PREFIX.starts_with(prefix) {
            return Ok(false);
        }
        match self.first_below(prefix, start, |name| name > start, call).await? {
            Some(first) if first.starts_with(temporaries::PREFIX) => {
                Ok(self.first_below(prefix, temporaries::BEHIND, |_| true, call).await?.is_none())
            }
            first => Ok(first.is_none()),
        }
    }

    /// The first wanted name with this prefix.
    async fn first_below(
        &self,
        prefix: &str,
        start: &str,
        is_wanted: impl Fn(&str) -> bool,
        call: Call<'_>,
    ) -> Result<Option<String>> {
        let mut token: Option<String> = None;
        loop {
            let mut url = format!("{}&maxResults=2", self.url(prefix, None, start));
            if let Some(token) = &token {
                url.push_str(&format!("&pageToken={}", encode(token)));
            }
            let (entries, next) = self.page(call, url).await?;
            let found = entries.iter().map(ListEntry::name).find(|name| is_wanted(name)).map(str::to_owned);
            // A page may be empty although more follow.
            if found.is_some() || next.is_none() || next == token {
                return Ok(found);
            }
            token = next;
        }
    }
}
