//! Reads of an object's bytes.

use std::io::Read as _;

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::Value;

use super::super::failure::Failure;
use super::super::wire::Reply;
use super::object::Object;

/// The bytes of an object as the request wants them.
pub(super) fn download(object: &Object, headers: &HeaderMap) -> Result<Reply, Failure> {
    if must_decompress(object, headers) {
        return decompressed(object);
    }
    let mut reply = described(object, Reply::empty(StatusCode::OK))
        .with("content-encoding", object.text("contentEncoding"))
        .with("accept-ranges", "bytes");
    if object.text("contentEncoding").is_empty() {
        reply.headers.remove(header::CONTENT_ENCODING);
    }
    let total = object.data.len();
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    match range.and_then(|range| parse_range(range, total)) {
        None => reply.body = object.data.clone(),
        Some(None) => return Err(Failure::range_not_satisfiable()),
        Some(Some((start, end))) => {
            reply.status = StatusCode::PARTIAL_CONTENT;
            reply.body = object.data.slice(start..end);
            reply = reply.with("content-range", &format!("bytes {start}-{}/{total}", end - 1));
        }
    }
    Ok(reply)
}

/// The headers that tell of the stored object.
///
/// <https://cloud.google.com/storage/docs/xml-api/reference-headers>
fn described(object: &Object, reply: Reply) -> Reply {
    let encoding = match object.text("contentEncoding") {
        "" => "identity",
        other => other,
    };
    let class = match object.text("storageClass") {
        "" => "STANDARD",
        other => other,
    };
    let kind = match object.text("contentType") {
        "" => "application/octet-stream",
        other => other,
    };
    let mut reply = reply
        .with("content-type", kind)
        .with("etag", &object.etag())
        .with("last-modified", &http_date(object.updated()))
        .with("x-goog-generation", &object.generation.to_string())
        .with("x-goog-metageneration", &object.metageneration.to_string())
        .with("x-goog-hash", &object.hashes())
        .with("x-goog-storage-class", class)
        .with("x-goog-stored-content-encoding", encoding)
        .with("x-goog-stored-content-length", &object.data.len().to_string());
    if let Some(components) = object.components {
        reply = reply.with("x-goog-component-count", &components.to_string());
    }
    for (field, name) in [
        ("cacheControl", "cache-control"),
        ("contentDisposition", "content-disposition"),
        ("contentLanguage", "content-language"),
    ] {
        let value = object.text(field);
        if !value.is_empty() {
            reply = reply.with(name, value);
        }
    }
    let metadata = object.fields.get("metadata").and_then(Value::as_object);
    for (name, value) in metadata.into_iter().flatten() {
        reply = reply.with(&format!("x-goog-meta-{name}"), value.as_str().unwrap_or(""));
    }
    reply
}

fn http_date(text: &str) -> String {
    text.parse::<Timestamp>()
        .ok()
        .and_then(|at| DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok())
        .unwrap_or_default()
}

/// Stored with gzip, asked for by a client that does not take gzip, and not marked
/// `no-transform`.
///
/// <https://cloud.google.com/storage/docs/transcoding#decompressive_transcoding>
fn must_decompress(object: &Object, headers: &HeaderMap) -> bool {
    let takes_gzip = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("gzip"));
    object.text("contentEncoding") == "gzip" && !takes_gzip && !object.text("cacheControl").contains("no-transform")
}

/// The plain bytes; a range is ignored, as the page on transcoding says.
fn decompressed(object: &Object) -> Result<Reply, Failure> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(&object.data[..]).read_to_end(&mut plain).map_err(|_| Failure::scripted(503))?;
    let mut reply = described(object, Reply::empty(StatusCode::OK))
        .with("warning", "214 UploadServer gunzipped")
        .with("x-guploader-response-body-transformations", "gunzipped")
        .with("vary", "Accept-Encoding");
    reply.body = Bytes::from(plain);
    Ok(reply)
}

/// None for a header that is no single range of bytes, which is ignored; `Some(None)` for a range
/// outside the object.
///
/// <https://www.rfc-editor.org/rfc/rfc9110#section-14.2>
fn parse_range(text: &str, total: usize) -> Option<Option<(usize, usize)>> {
    let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        let length: usize = last.parse().ok()?;
        let start = total.saturating_sub(length);
        return Some((length > 0 && total > 0).then_some((start, total)));
    }
    let start: usize = first.parse().ok()?;
    let end = match last {
        "" => total,
        last => last.parse::<usize>().ok()?.saturating_add(1).min(total),
    };
    if !last.is_empty() && last.parse::<usize>().ok()? < start {
        return None;
    }
    Some((start < total).then_some((start, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_says() {
        assert_eq!(parse_range("bytes=2-4", 10), Some(Some((2, 5))));
        assert_eq!(parse_range("bytes=2-", 10), Some(Some((2, 10))));
        assert_eq!(parse_range("bytes=-3", 10), Some(Some((7, 10))));
        assert_eq!(parse_range("bytes=-30", 10), Some(Some((0, 10))));
        assert_eq!(parse_range("bytes=8-99", 10), Some(Some((8, 10))));
    }

    #[test]
    fn ranges_outside_the_object_are_told_from_nonsense() {
        assert_eq!(parse_range("bytes=10-", 10), Some(None));
        assert_eq!(parse_range("bytes=0-", 0), Some(None));
        assert_eq!(parse_range("bytes=5-2", 10), None);
        assert_eq!(parse_range("lines=1-2", 10), None);
    }

    #[test]
    fn dates_have_the_form_of_http() {
        assert_eq!(http_date("1994-11-06T08:49:37.5Z"), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
