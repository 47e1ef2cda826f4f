//! S3, path style; also the XML way to Cloud Storage, which object_store takes.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, Response, StatusCode};

use super::objects::{Object, State, Upload};
use super::outgoing::Outgoing;
use super::{Answer, Call, decode, listing, status, text};

const MODIFIED: &str = "Mon, 01 Jun 2026 00:00:00 GMT";

pub(super) fn answer(state: &Arc<State>, call: &Call) -> Answer {
    let path = decode(call.path.trim_start_matches('/'));
    let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
    let full = format!("{bucket}/{key}");
    let upload = call.query("uploadId").and_then(|id| id.parse::<u64>().ok());
    match call.method {
        Method::GET if key.is_empty() => text(StatusCode::OK, "application/xml", listing::xml(call)),
        Method::GET | Method::HEAD => match state.object(&full) {
            Some(object) => read(state, call, &object),
            None => {
                let body = "<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>";
                text(StatusCode::NOT_FOUND, "application/xml", body)
            }
        },
        Method::POST if call.query("uploads").is_some() => {
            let id = state.number();
            state.uploads().insert(id, Upload { key: full, metadata: metadata(call), ..Upload::default() });
            let body = format!(
                "<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            );
            text(StatusCode::OK, "application/xml", body)
        }
        Method::POST if upload.is_some() => complete(state, call, upload.unwrap_or(0)),
        Method::PUT => {
            state.count(&call.body);
            let mut answer = status(StatusCode::OK);
            if let Some(id) = upload {
                let number = call.query("partNumber").and_then(|number| number.parse().ok()).unwrap_or(0);
                let Some(upload) = state.uploads().get_mut(&id).map(|upload| {
                    upload.parts.push((number, call.body.clone()));
                }) else {
                    return status(StatusCode::NOT_FOUND);
                };
                let () = upload;
                put_header(&mut answer, "etag", &format!("\"{:08x}\"", call.body.crc));
            } else {
                let object = state.publish(full, std::slice::from_ref(&call.body), metadata(call));
                put_header(&mut answer, "etag", &etag(&object));
                put_header(&mut answer, "x-goog-generation", &object.generation.to_string());
            }
            for name in ["x-amz-checksum-crc32", "x-amz-checksum-crc32c", "x-amz-checksum-crc64nvme"] {
                if let Some(value) = call.headers.get(name) {
                    answer.headers_mut().insert(name, value.clone());
                }
            }
            answer
        }
        Method::DELETE => {
            match upload {
                Some(id) => drop(state.uploads().remove(&id)),
                None => drop(state.remove(&full)),
            }
            status(StatusCode::NO_CONTENT)
        }
        _ => status(StatusCode::NOT_IMPLEMENTED),
    }
}

fn complete(state: &State, call: &Call, id: u64) -> Answer {
    let Some(mut upload) = state.uploads().remove(&id) else {
        return status(StatusCode::NOT_FOUND);
    };
    upload.parts.sort_by_key(|(number, _)| *number);
    upload.parts.dedup_by_key(|(number, _)| *number);
    let listed = String::from_utf8_lossy(&call.body.data).matches("<PartNumber>").count();
    if listed != upload.parts.len() {
        return status(StatusCode::BAD_REQUEST);
    }
    let parts: Vec<_> = upload.parts.into_iter().map(|(_, part)| part).collect();
    let object = state.publish(upload.key.clone(), &parts, upload.metadata);
    let (bucket, key) = upload.key.split_once('/').unwrap_or_default();
    let crc = call.header("x-amz-checksum-crc32c").map_or_else(String::new, |crc| {
        format!("<ChecksumCRC32C>{crc}</ChecksumCRC32C><ChecksumType>FULL_OBJECT</ChecksumType>")
    });
    let body = format!(
        "<CompleteMultipartUploadResult><Location>http://127.0.0.1/{bucket}/{key}</Location><Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>{}</ETag>{crc}</CompleteMultipartUploadResult>",
        etag(&object)
    );
    let mut answer = text(StatusCode::OK, "application/xml", body);
    put_header(&mut answer, "x-goog-generation", &object.generation.to_string());
    answer
}

/// The object or a range of it, with the headers of both clouds.
pub(super) fn read(state: &Arc<State>, call: &Call, object: &Object) -> Answer {
    let range = match call.header("range").map(|range| parse_range(range, object.size)) {
        Some(None) => return status(StatusCode::RANGE_NOT_SATISFIABLE),
        Some(range) => range,
        None => None,
    };
    let head = call.method == Method::HEAD;
    let (start, end) = range.unwrap_or((0, object.size));
    if !head && object.data.len() as u64 != object.size {
        // Too large to be kept.
        return status(StatusCode::GONE);
    }
    let data = if head { Bytes::new() } else { object.data.slice(start as usize..end as usize) };
    let mut answer = Response::new(Outgoing::counted(data, state, &call.pace));
    if range.is_some() {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        put_header(&mut answer, "content-range", &format!("bytes {start}-{}/{}", end - 1, object.size));
    }
    for (name, value) in &object.metadata {
        put_header(&mut answer, name, value);
    }
    put_header(&mut answer, "content-length", &(end - start).to_string());
    put_header(&mut answer, "content-type", "application/octet-stream");
    put_header(&mut answer, "accept-ranges", "bytes");
    put_header(&mut answer, "last-modified", MODIFIED);
    put_header(&mut answer, "etag", &etag(object));
    let crc = crate::base64(object.crc);
    if call.headers.contains_key("x-amz-checksum-mode") && range.is_none() {
        put_header(&mut answer, "x-amz-checksum-crc32c", &crc);
        put_header(&mut answer, "x-amz-checksum-type", "FULL_OBJECT");
    }
    if !call.headers.contains_key("x-amz-date") {
        put_header(&mut answer, "x-goog-generation", &object.generation.to_string());
        put_header(&mut answer, "x-goog-metageneration", "1");
        put_header(&mut answer, "x-goog-hash", &format!("crc32c={crc}"));
        put_header(&mut answer, "x-goog-stored-content-length", &object.size.to_string());
        put_header(&mut answer, "x-goog-stored-content-encoding", "identity");
        put_header(&mut answer, "x-goog-storage-class", "STANDARD");
    }
    answer
}

fn parse_range(header: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => (first, last.saturating_add(1).min(size)),
        (Ok(first), Err(_)) => (first, size),
        (Err(_), Ok(last)) => (size.saturating_sub(last), size),
        _ => return None,
    };
    (start < end).then_some((start, end))
}

fn metadata(call: &Call) -> Vec<(String, String)> {
    let kept = |name: &str| name.starts_with("x-amz-meta-") || name.starts_with("x-goog-meta-");
    let kept = call.headers.iter().filter(|(name, _)| kept(name.as_str()));
    kept.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned())).collect()
}

pub(super) fn etag(object: &Object) -> String {
    format!("\"{:x}\"", object.generation)
}

pub(super) fn put_header(answer: &mut Answer, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (hyper::header::HeaderName::try_from(name), HeaderValue::from_str(value)) {
        answer.headers_mut().insert(name, value);
    }
}
