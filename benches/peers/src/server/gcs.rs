//! The JSON way to Cloud Storage.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::objects::{Object, Received, State, Upload};
use super::{Answer, Call, decode, listing, s3, status, text};

pub(super) fn answer(state: &Arc<State>, call: &Call) -> Answer {
    if call.path.starts_with("/upload/") {
        return upload(state, call);
    }
    let path = call.path.trim_start_matches("/download").trim_start_matches("/storage/v1/b/");
    let mut segments = path.split('/');
    let bucket = decode(segments.next().unwrap_or_default());
    match path.split_once('/').map(|(_, rest)| rest) {
        None => return text(StatusCode::OK, "application/json", r#"{"storageClass":"STANDARD"}"#),
        Some("iam/testPermissions") => return permissions(call),
        Some(_) => {}
    }
    let key = segments.nth(1).map(decode);
    let Some(key) = key else {
        return text(StatusCode::OK, "application/json", listing::json(call));
    };
    let full = format!("{bucket}/{key}");
    if segments.next() == Some("compose") {
        return compose(state, call, &bucket, &full);
    }
    match (&call.method, state.object(&full)) {
        (_, None) => {
            let body = r#"{"error":{"code":404,"message":"No such object","errors":[{"reason":"notFound"}]}}"#;
            text(StatusCode::NOT_FOUND, "application/json", body)
        }
        (&Method::DELETE, Some(_)) => {
            state.remove(&full);
            status(StatusCode::NO_CONTENT)
        }
        (&Method::GET, Some(object)) if call.query("alt") == Some("media") => s3::read(state, call, &object),
        (_, Some(object)) => resource(&full, &object),
    }
}

fn upload(state: &Arc<State>, call: &Call) -> Answer {
    if let Some(id) = call.query("upload_id").and_then(|id| id.parse().ok()) {
        return chunk(state, call, id);
    }
    let bucket = decode(call.path.trim_start_matches("/upload/storage/v1/b/").split('/').next().unwrap_or_default());
    let name = call.query("name").map(str::to_owned);
    match call.query("uploadType") {
        Some("media") => {
            state.count(&call.body);
            let full = format!("{bucket}/{}", name.unwrap_or_default());
            let object = state.publish(full.clone(), std::slice::from_ref(&call.body), Vec::new());
            resource(&full, &object)
        }
        Some("multipart") => {
            let Some((attributes, payload)) = related(call) else {
                return status(StatusCode::BAD_REQUEST);
            };
            state.count(&payload);
            let full = format!("{bucket}/{}", name.or_else(|| named(&attributes)).unwrap_or_default());
            let object = state.publish(full.clone(), &[payload], metadata(&attributes));
            resource(&full, &object)
        }
        Some("resumable") => {
            let attributes = serde_json::from_slice(&call.body.data).unwrap_or_default();
            let full = format!("{bucket}/{}", name.or_else(|| named(&attributes)).unwrap_or_default());
            let id = state.number();
            state.uploads().insert(id, Upload { key: full, metadata: metadata(&attributes), ..Upload::default() });
            let mut answer = status(StatusCode::OK);
            // Google's own client sends the host of the real service, wherever its endpoint is.
            let place = format!("upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={id}");
            let location = format!("{}/{place}", state.url);
            s3::put_header(&mut answer, "location", &location);
            answer
        }
        _ => status(StatusCode::BAD_REQUEST),
    }
}

/// A piece of a resumable upload.
fn chunk(state: &Arc<State>, call: &Call, id: u64) -> Answer {
    if call.method == Method::DELETE {
        state.uploads().remove(&id);
        return status(StatusCode::NO_CONTENT);
    }
    state.count(&call.body);
    let mut uploads = state.uploads();
    let Some(upload) = uploads.get_mut(&id) else { return status(StatusCode::NOT_FOUND) };
    if call.body.size > 0 {
        let number = upload.parts.len() as u32;
        upload.parts.push((number, call.body.clone()));
    }
    let held: u64 = upload.parts.iter().map(|(_, part)| part.size).sum();
    let last = match call.header("content-range").and_then(|range| range.rsplit_once('/')) {
        None => true,
        // A chunk that does not know where it ends is the rest.
        Some((place, "*")) => place.ends_with("-*"),
        Some((_, total)) => total.parse::<u64>().is_ok_and(|total| total == held),
    };
    if last {
        let Some(upload) = uploads.remove(&id) else { return status(StatusCode::NOT_FOUND) };
        drop(uploads);
        let parts: Vec<_> = upload.parts.into_iter().map(|(_, part)| part).collect();
        let object = state.publish(upload.key.clone(), &parts, upload.metadata);
        return resource(&upload.key, &object);
    }
    let mut answer = status(StatusCode::PERMANENT_REDIRECT);
    if held > 0 {
        s3::put_header(&mut answer, "range", &format!("bytes=0-{}", held - 1));
    }
    answer
}

/// Whatever is asked for.
fn permissions(call: &Call) -> Answer {
    let asked: Vec<_> = call.query.iter().filter(|(name, _)| name == "permissions").map(|(_, value)| value).collect();
    text(StatusCode::OK, "application/json", serde_json::json!({ "permissions": asked }).to_string())
}

fn compose(state: &State, call: &Call, bucket: &str, full: &str) -> Answer {
    let request: serde_json::Value = serde_json::from_slice(&call.body.data).unwrap_or_default();
    let names: Vec<_> = request["sourceObjects"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|source| format!("{bucket}/{}", source["name"].as_str().unwrap_or_default()))
        .collect();
    let sources: Option<Vec<_>> = names.iter().map(|name| state.object(name)).collect();
    let Some(sources) = sources.filter(|sources| !sources.is_empty()) else { return status(StatusCode::NOT_FOUND) };
    let object = state.compose(full.to_owned(), &sources, metadata(&request["destination"]));
    if request["deleteSourceObjects"] == true {
        names.iter().filter(|name| *name != full).for_each(|name| {
            state.remove(name);
        });
    }
    resource(full, &object)
}

/// The two parts of a `multipart/related` body: the attributes and the payload.
fn related(call: &Call) -> Option<(serde_json::Value, Received)> {
    let boundary = call.header("content-type")?.split("boundary=").nth(1)?.trim_matches(['"', '\'', ' ']);
    let boundary = boundary.split(';').next()?.trim_matches(['"', '\'']);
    if let Some(related) = &call.body.related {
        return Some((serde_json::from_slice(&related.attributes).unwrap_or_default(), related.payload.clone()));
    }
    let body = &call.body.data;
    let find = |from: usize, text: &str| {
        body.get(from..)?.windows(text.len()).position(|window| window == text.as_bytes()).map(|at| from + at)
    };
    let first = find(0, "\r\n\r\n")? + 4;
    let second = find(first, &format!("--{boundary}"))?;
    let payload = find(second, "\r\n\r\n")? + 4;
    // Checksums may follow as a third part.
    let end = find(payload, &format!("\r\n--{boundary}"))?;
    let attributes = serde_json::from_slice(&body[first..second]).unwrap_or_default();
    let data: Bytes = body.slice(payload..end);
    let received = Received { size: data.len() as u64, crc: crc32c::crc32c(&data), data, related: None };
    Some((attributes, received))
}

fn named(attributes: &serde_json::Value) -> Option<String> {
    attributes["name"].as_str().map(str::to_owned)
}

fn metadata(attributes: &serde_json::Value) -> Vec<(String, String)> {
    let Some(metadata) = attributes["metadata"].as_object() else { return Vec::new() };
    let pairs = metadata.iter();
    pairs.map(|(name, value)| (format!("x-goog-meta-{name}"), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn resource(full: &str, object: &Object) -> Answer {
    let (bucket, key) = full.split_once('/').unwrap_or_default();
    let metadata: serde_json::Map<_, _> = object
        .metadata
        .iter()
        .map(|(name, value)| (name.trim_start_matches("x-goog-meta-").to_owned(), value.clone().into()))
        .collect();
    let body = serde_json::json!({
        "kind": "storage#object",
        "id": format!("{full}/{}", object.generation),
        "name": key,
        "bucket": bucket,
        "generation": object.generation.to_string(),
        "metageneration": "1",
        "contentType": "application/octet-stream",
        "storageClass": "STANDARD",
        "size": object.size.to_string(),
        "crc32c": crate::base64(object.crc),
        "etag": format!("{:x}", object.generation),
        "timeCreated": "2026-06-01T00:00:00.000Z",
        "updated": "2026-06-01T00:00:00.000Z",
        "metadata": metadata,
    });
    text(StatusCode::OK, "application/json", body.to_string())
}
