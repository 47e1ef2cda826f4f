//! Listings of objects that are not there: the prefix `many-N/` has N keys, made up page by page.

use std::fmt::Write as _;

use super::Call;

struct Page {
    prefix: String,
    first: u64,
    last: u64,
    total: u64,
}

fn page(call: &Call, token: &str, limit: &str) -> Page {
    let prefix = call.query("prefix").unwrap_or_default().to_owned();
    let total = prefix.strip_prefix("many-").and_then(|rest| rest.split('/').next()?.parse().ok()).unwrap_or(0);
    let first = call.query(token).and_then(|token| token.parse().ok()).unwrap_or(0);
    let limit = call.query(limit).and_then(|limit| limit.parse().ok()).unwrap_or(1000).clamp(1, 1000);
    Page { first, last: total.min(first + limit), total, prefix }
}

pub(super) fn xml(call: &Call) -> String {
    let page = page(call, "continuation-token", "max-keys");
    let mut body = String::with_capacity(300 * (page.last - page.first) as usize + 500);
    let _ = write!(
        body,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bench</Name><Prefix>{}</Prefix><KeyCount>{}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>{}</IsTruncated>",
        page.prefix,
        page.last - page.first,
        page.last < page.total
    );
    if page.last < page.total {
        let _ = write!(body, "<NextContinuationToken>{}</NextContinuationToken>", page.last);
    }
    for number in page.first..page.last {
        let _ = write!(
            body,
            "<Contents><Key>{}{number:010}</Key><LastModified>2026-06-01T00:00:00.000Z</LastModified><ETag>&quot;{number:032x}&quot;</ETag><ChecksumAlgorithm>CRC32C</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>1024</Size><StorageClass>STANDARD</StorageClass></Contents>",
            page.prefix
        );
    }
    body.push_str("</ListBucketResult>");
    body
}

pub(super) fn json(call: &Call) -> String {
    let page = page(call, "pageToken", "maxResults");
    let fields = call.query("fields");
    let wanted = |name: &str| fields.is_none_or(|fields| fields.contains(name));
    let mut body = String::with_capacity(800 * (page.last - page.first) as usize + 100);
    body.push_str("{\"kind\":\"storage#objects\"");
    if page.last < page.total {
        let _ = write!(body, ",\"nextPageToken\":\"{}\"", page.last);
    }
    body.push_str(",\"items\":[");
    for number in page.first..page.last {
        if number > page.first {
            body.push(',');
        }
        let generation = 1_700_000_000_000_000 + number;
        let name = format!("{}{number:010}", page.prefix);
        let _ = write!(body, "{{\"name\":\"{name}\",\"size\":\"1024\",\"generation\":\"{generation}\"");
        for (field, value) in [
            ("kind", "storage#object"),
            ("bucket", "bench"),
            ("metageneration", "1"),
            ("contentType", "application/octet-stream"),
            ("storageClass", "STANDARD"),
            ("md5Hash", "XUFAKrxLKna5cZ2REBfFkg=="),
            ("crc32c", "yZRlqg=="),
            ("etag", "CKih16GjycICEAE="),
            ("timeCreated", "2026-06-01T00:00:00.000Z"),
            ("updated", "2026-06-01T00:00:00.000Z"),
        ] {
            if wanted(field) {
                let _ = write!(body, ",\"{field}\":\"{value}\"");
            }
        }
        if fields.is_none() {
            let _ = write!(
                body,
                ",\"id\":\"bench/{name}/{generation}\",\"selfLink\":\"https://www.googleapis.com/storage/v1/b/bench/o/{name}\",\"mediaLink\":\"https://storage.googleapis.com/download/storage/v1/b/bench/o/{name}?generation={generation}&alt=media\""
            );
        }
        body.push('}');
    }
    body.push_str("]}");
    body
}
