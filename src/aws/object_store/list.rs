use std::sync::Arc;

use futures_util::stream::BoxStream;
use http::Method;

use super::bucket::Bucket;
use super::page::Page;
use super::request::Request;
use crate::call::Call;
use crate::object_store::{self, ListEntry, ListOptions, Pages};
use crate::retry::Safety;
use crate::{Error, ErrorKind, Result};

const OPERATION: &str = "object_store.list";
/// The most of a page that is read: a full one of the longest names, encoded, is well below it.
const MAX_PAGE_BYTES: usize = 32 << 20;

struct Listing {
    bucket: Arc<Bucket>,
    options: ListOptions,
    subject: String,
    token: Option<String>,
    ended: bool,
}

/// The entries, page by page.
pub(super) fn entries(bucket: Arc<Bucket>, options: ListOptions) -> BoxStream<'static, Result<ListEntry>> {
    let subject = format!("s3://{}/{}", bucket.name, options.prefix);
    object_store::entries(Listing { bucket, options, subject, token: None, ended: false })
}

impl Pages for Listing {
    async fn turn(&mut self) -> Result<Option<Vec<ListEntry>>> {
        if self.ended {
            return Ok(None);
        }
        let Page { mut entries, next, more } = self.page().await?;
        if more && (next.is_none() || next == self.token) {
            let message = "the listing goes on, and does not say where";
            return Err(Error::new(ErrorKind::Internal, OPERATION, &self.subject, message));
        }
        if let Some(start) = &self.options.start_after {
            // A prefix at or before `start_after` was rolled up from keys that come later.
            entries.retain(|entry| match entry {
                ListEntry::Object(_) => true,
                ListEntry::Prefix(prefix) => prefix > start || start.starts_with(prefix),
            });
        }
        // S3 keeps objects and prefixes apart, each in order.
        entries.sort_by(|one, other| one.name().as_bytes().cmp(other.name().as_bytes()));
        self.token = next;
        self.ended = !more;
        Ok(Some(entries))
    }
}

impl Listing {
    async fn page(&self) -> Result<Page> {
        let Self { bucket, options, subject, .. } = self;
        let size = options.page_size.map(|size| size.to_string());
        let call = Call::reading(OPERATION, subject, "s3:ListBucket");
        let page = bucket
            .connection
            .retrier()
            .run(OPERATION, subject, Safety::Read, |_| async {
                let request = Request::new(Method::GET, None)
                    .parameter("continuation-token", self.token.as_deref())
                    .parameter("delimiter", options.delimiter.as_deref())
                    // Keys may hold what XML cannot.
                    .parameter("encoding-type", Some("url"))
                    .parameter("list-type", Some("2"))
                    .parameter("max-keys", size.as_deref())
                    .parameter("prefix", Some(&options.prefix))
                    .parameter("start-after", options.start_after.as_deref());
                let answer = bucket.ask(call, request).await?;
                let page = answer.bytes(MAX_PAGE_BYTES).await.map_err(|failure| call.lost(failure))?;
                Page::read(&page, OPERATION, subject)
            })
            .await?;
        bucket.note_seen();
        Ok(page)
    }
}

/// Undoes `encoding-type=url`, in which a space is a plus sign.
pub(super) fn decode(text: String, encoded: bool, subject: &str) -> Result<String> {
    if !encoded || !text.contains(['+', '%']) {
        return Ok(text);
    }
    let text = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&text).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|error| {
        Error::new(ErrorKind::InvalidFormat, OPERATION, subject, "a listed key is not UTF-8").with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_listing_are_decoded_exactly() {
        for (wire, key) in [("a+b", "a b"), ("a%2Bb", "a+b"), ("a%252Fb", "a%2Fb"), ("%C3%A4/%01", "ä/\u{1}")] {
            assert_eq!(decode(wire.to_owned(), true, "x").unwrap(), key);
        }
        assert_eq!(decode("a+b".to_owned(), false, "x").unwrap(), "a+b");
    }
}
