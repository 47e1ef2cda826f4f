//! Pages of a listing.

use std::time::SystemTime;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use quick_xml::Reader;
use quick_xml::events::Event;

use super::list::decode;
use super::meta::time;
use super::version::version;
use crate::aws::error::of_code;
use crate::aws::xml::resolve;
use crate::object_store::{ListEntry, ObjectSummary};
use crate::{Error, ErrorKind, ObjectKey, Result};

/// One page: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) entries: Vec<ListEntry>,
    pub(super) next: Option<String>,
    pub(super) more: bool,
}

/// The element that is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Page,
    Contents,
    CommonPrefixes,
    Other,
}

/// What a page says of an object.
#[derive(Default)]
struct Item {
    key: Option<String>,
    size: Option<u64>,
    etag: String,
    modified: Option<SystemTime>,
}

impl Page {
    pub(super) fn read(xml: &[u8], operation: &'static str, subject: &str) -> Result<Self> {
        let broken = |what: &str| Error::new(ErrorKind::Unavailable, operation, subject, what);
        let not_xml = || broken("the page of the listing is not the XML expected");
        let mut reader = Reader::from_str(std::str::from_utf8(xml).map_err(|_| not_xml())?);
        let mut page = Self::default();
        let (mut items, mut prefixes, mut item) = (Vec::new(), Vec::new(), Item::default());
        let (mut depth, mut group, mut encoded, mut begun) = (0_u32, Group::Page, false, false);
        // The text of the innermost element; those with elements in them have none that matters.
        let mut text = String::new();
        loop {
            match reader.read_event().map_err(|error| not_xml().with_source(error))? {
                Event::Start(element) => {
                    text.clear();
                    match (depth, element.local_name().as_ref()) {
                        (0, "ListBucketResult") => begun = true,
                        (0, "Error") => group = Group::Other,
                        (0, _) => return Err(not_xml()),
                        (1, "Contents") if group == Group::Page => group = Group::Contents,
                        (1, "CommonPrefixes") if group == Group::Page => group = Group::CommonPrefixes,
                        _ => {}
                    }
                    depth += 1;
                }
                Event::Empty(element) => begun |= depth == 0 && element.local_name().as_ref() == "ListBucketResult",
                Event::Text(piece) => text.push_str(&piece),
                Event::CData(piece) => text.push_str(&piece),
                Event::GeneralRef(reference) => text.push(resolve(&reference).ok_or_else(not_xml)?),
                Event::End(element) => {
                    depth = depth.saturating_sub(1);
                    match (depth, group, element.local_name().as_ref()) {
                        (1, Group::Page, "IsTruncated") => page.more = text == "true",
                        (1, Group::Page, "NextContinuationToken") => page.next = Some(std::mem::take(&mut text)),
                        (1, Group::Page, "EncodingType") => encoded = text == "url",
                        (2, Group::Contents, "Key") => item.key = Some(std::mem::take(&mut text)),
                        (2, Group::Contents, "Size") => item.size = text.parse().ok(),
                        (2, Group::Contents, "ETag") => item.etag = std::mem::take(&mut text),
                        (2, Group::Contents, "LastModified") => item.modified = moment(&text),
                        (2, Group::CommonPrefixes, "Prefix") => prefixes.push(std::mem::take(&mut text)),
                        (1, Group::Contents, _) => {
                            items.push(std::mem::take(&mut item));
                            group = Group::Page;
                        }
                        (1, Group::CommonPrefixes, _) => group = Group::Page,
                        // An error under a status of success: the work had begun.
                        (1, Group::Other, "Code") => {
                            return Err(broken("the listing failed").with_kind(of_code(&text).0));
                        }
                        _ => {}
                    }
                    text.clear();
                }
                Event::Eof if depth == 0 && begun => break,
                Event::Eof => return Err(broken("the page of the listing broke off")),
                _ => {}
            }
        }
        // Only now is it known how the names are written.
        page.entries.reserve_exact(items.len() + prefixes.len());
        for item in items {
            page.entries.push(item.into_entry(encoded, operation, subject)?);
        }
        for prefix in prefixes {
            page.entries.push(ListEntry::Prefix(decode(prefix, encoded, subject)?));
        }
        Ok(page)
    }
}

impl Item {
    fn into_entry(self, encoded: bool, operation: &'static str, subject: &str) -> Result<ListEntry> {
        let (Some(key), Some(size)) = (self.key, self.size) else {
            let message = "a listed object has no key or no length";
            return Err(Error::new(ErrorKind::Internal, operation, subject, message));
        };
        Ok(ListEntry::Object(ObjectSummary {
            key: ObjectKey::new(decode(key, encoded, subject)?)?,
            size,
            version: version(&self.etag, None),
            last_modified: self.modified.unwrap_or(SystemTime::UNIX_EPOCH),
        }))
    }
}

fn moment(text: &str) -> Option<SystemTime> {
    DateTime::from_str(text, Format::DateTimeWithOffset).ok().map(|moment| time(&moment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(xml: &str) -> Result<Page> {
        Page::read(xml.as_bytes(), "t", "x")
    }

    #[test]
    fn a_page_is_read_with_everything_that_it_may_hold() {
        let page = read(
            "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Prefix>p</Prefix><IsTruncated>true</IsTruncated>\
             <NextContinuationToken>a&amp;b&#x3D;</NextContinuationToken>\n\
             <Contents><Key>a%2Bb+c</Key><LastModified>2026-06-01T12:00:00.000Z</LastModified>\
             <ETag>&quot;e&quot;</ETag><Size>7</Size><Owner><ID>Key</ID><DisplayName/></Owner></Contents>\
             <Contents><Key>b</Key><LastModified>2026-06-01T12:00:00Z</LastModified><ETag>&#34;f&#34;</ETag>\
             <Size>0</Size><StorageClass><![CDATA[STANDARD]]></StorageClass></Contents>\
             <CommonPrefixes><Prefix>c%2F</Prefix></CommonPrefixes><EncodingType>url</EncodingType></ListBucketResult>",
        )
        .unwrap();
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_780_315_200);
        let object = |key: &str, size, etag| {
            ListEntry::Object(ObjectSummary {
                key: ObjectKey::new(key).unwrap(),
                size,
                version: version(etag, None),
                last_modified: at,
            })
        };
        let expected = [object("a+b c", 7, "\"e\""), object("b", 0, "\"f\""), ListEntry::Prefix("c/".to_owned())];
        assert_eq!(page.entries, expected);
        assert_eq!((page.next.as_deref(), page.more), (Some("a&b="), true));
    }

    #[test]
    fn a_page_that_is_cut_short_anywhere_is_never_taken_for_whole() {
        let whole = "<ListBucketResult><Contents><Key>k</Key><Size>1</Size><ETag>e</ETag></Contents>\
                     <CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes></ListBucketResult>";
        assert_eq!(read(whole).unwrap().entries.len(), 2);
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn what_is_no_page_is_an_error() {
        let busy = read("<Error><Code>SlowDown</Code><Message>m</Message></Error>").unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::Throttled);
        for text in ["<html><body></body></html>", "", "\u{0}", "<ListBucketResult>&nonsense;</ListBucketResult>"] {
            assert_eq!(read(text).unwrap_err().kind(), ErrorKind::Unavailable, "{text}");
        }
        assert!(Page::read(b"<ListBucketResult>\xff</ListBucketResult>", "t", "x").is_err());
    }
}
