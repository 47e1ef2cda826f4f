use std::collections::VecDeque;
use std::sync::Arc;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::EncodingType;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::bucket::{Bucket, reading};
use super::meta::{length, time};
use super::version::version;
use crate::object_store::{ListEntry, ListOptions, ObjectSummary};
use crate::retry::Safety;
use crate::{Error, ErrorKind, ObjectKey, Result};

const OPERATION: &str = "object_store.list";

struct Listing {
    bucket: Arc<Bucket>,
    options: ListOptions,
    subject: String,
    page: VecDeque<ListEntry>,
    token: Option<String>,
    last: bool,
}

/// The entries, page by page.
pub(super) fn entries(bucket: Arc<Bucket>, options: ListOptions) -> BoxStream<'static, Result<ListEntry>> {
    let subject = format!("s3://{}/{}", bucket.name, options.prefix);
    let listing = Listing { bucket, options, subject, page: VecDeque::new(), token: None, last: false };
    stream::try_unfold(listing, |mut listing| async move {
        loop {
            if let Some(entry) = listing.page.pop_front() {
                return Ok(Some((entry, listing)));
            }
            if listing.last {
                return Ok(None);
            }
            listing.turn().await?;
        }
    })
    .boxed()
}

impl Listing {
    async fn turn(&mut self) -> Result<()> {
        let Self { bucket, options, subject, .. } = &*self;
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
        let sent = bucket
            .connection
            .retrier()
            .run(OPERATION, subject, Safety::Read, |_| {
                let request = request.clone();
                async {
                    let sent = request.send().await;
                    sent.map_err(|error| bucket.error(error, reading(OPERATION, subject, "s3:ListBucket")))
                }
            })
            .await;
        let answer = sent?;
        bucket.note_seen();
        let next = answer.next_continuation_token().map(str::to_owned);
        let more = answer.is_truncated().unwrap_or(false);
        if more && (next.is_none() || next == self.token) {
            let message = "the listing goes on, and does not say where";
            return Err(Error::new(ErrorKind::Internal, OPERATION, subject, message));
        }
        self.page = page(&answer, options, subject)?;
        self.token = next;
        self.last = !more;
        Ok(())
    }
}

/// A page in order: S3 keeps objects and prefixes apart, each in order.
fn page(answer: &ListObjectsV2Output, options: &ListOptions, subject: &str) -> Result<VecDeque<ListEntry>> {
    let encoded = answer.encoding_type() == Some(&EncodingType::Url);
    let text = |told: Option<&str>| decode(told.unwrap_or_default(), encoded, subject);
    let mut entries = Vec::with_capacity(answer.contents().len() + answer.common_prefixes().len());
    for object in answer.contents() {
        entries.push(ListEntry::Object(ObjectSummary {
            key: ObjectKey::new(text(object.key())?)?,
            size: length(object.size(), OPERATION, subject)?,
            version: version(object.e_tag().unwrap_or_default(), None),
            last_modified: object.last_modified().map_or(std::time::SystemTime::UNIX_EPOCH, time),
        }));
    }
    for prefix in answer.common_prefixes() {
        let prefix = text(prefix.prefix())?;
        // A prefix at or before `start_after` was rolled up from keys that come later.
        if options.start_after.as_ref().is_none_or(|start| prefix > *start || start.starts_with(&prefix)) {
            entries.push(ListEntry::Prefix(prefix));
        }
    }
    entries.sort_by(|one, other| one.name().as_bytes().cmp(other.name().as_bytes()));
    Ok(entries.into())
}

/// Undoes `encoding-type=url`, in which a space is a plus sign.
pub(super) fn decode(text: &str, encoded: bool, subject: &str) -> Result<String> {
    if !encoded {
        return Ok(text.to_owned());
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
            assert_eq!(decode(wire, true, "x").unwrap(), key);
        }
        assert_eq!(decode("a+b", false, "x").unwrap(), "a+b");
    }
}
