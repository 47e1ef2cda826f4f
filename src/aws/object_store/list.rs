use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::EncodingType;
use futures_util::stream::BoxStream;

use super::bucket::Bucket;
use super::page::{Page, Untouched};
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::object_store::{self, ListEntry, ListOptions, Pages};
use crate::retry::Safety;
use crate::{Error, ErrorKind, Result};

const OPERATION: &str = "object_store.list";

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
        let request = bucket
            .client()
            .await?
            .list_objects_v2()
            .bucket(&bucket.name)
            .prefix(&options.prefix)
            .set_delimiter(options.delimiter.clone())
            .set_max_keys(options.page_size.map(i32::from))
            .set_start_after(options.start_after.clone())
            .set_continuation_token(self.token.clone())
            // Keys may hold what XML cannot.
            .encoding_type(EncodingType::Url);
        let page = bucket
            .connection
            .retrier()
            .run(OPERATION, subject, Safety::Read, |_| {
                let untouched = Untouched::default();
                let request = request.clone().customize().interceptor(untouched.clone());
                async move {
                    let sent = request.send().silently().await;
                    sent.map_err(|error| bucket.error(error, Call::reading(OPERATION, subject, "s3:ListBucket")))?;
                    let body = ByteStream::new(untouched.take()).collect().await.map_err(|error| {
                        let message = "the page of the listing broke off";
                        Error::new(ErrorKind::Unavailable, OPERATION, subject, message).with_source(error)
                    })?;
                    Page::read(&body.into_bytes(), OPERATION, subject)
                }
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
