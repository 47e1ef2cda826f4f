//! Uploads in one request.
//!
//! <https://cloud.google.com/storage/docs/uploading-objects#uploading-an-object>

use serde_json::{Map, Value, json};

use super::super::failure::Failure;
use super::super::wire::{Call, Reply, object as json_object};
use super::object::Draft;
use super::precondition::Conditions;
use super::{Storage, kms, multipart, resumable};

/// Serves `storage.objects.insert`, up to the start of a resumable session.
pub(super) fn begin(storage: &mut Storage, url: &str, call: &Call) -> Result<Reply, Failure> {
    let bucket = call.path.first().cloned().unwrap_or_default();
    let conditions = Conditions::of(call, "if")?;
    let (mut fields, data) = match call.query("uploadType") {
        Some("resumable") => return resumable::start(storage, url, call, bucket, conditions),
        Some("multipart") => of_parts(call)?,
        Some("media") => {
            let mut fields = Map::new();
            if let Some(kind) = call.header("content-type") {
                fields.insert("contentType".into(), json!(kind));
            }
            (fields, call.body.clone())
        }
        _ => return Err(Failure::invalid("uploadType: media, multipart or resumable.")),
    };
    add_hashes(&mut fields, call);
    if let Some(encoding) = call.query("contentEncoding") {
        fields.insert("contentEncoding".into(), json!(encoding));
    }
    kms::note(&mut fields, call.query("kmsKeyName"), &storage.denied_keys)?;
    let name = name_of(call, &fields)?;
    let draft = Draft { bucket, name, fields, data, components: None };
    let object = storage.put(draft, &conditions)?;
    Ok(Reply::json(&object.json(url)))
}

/// The name is in the query or in the metadata.
pub(super) fn name_of(call: &Call, fields: &Map<String, Value>) -> Result<String, Failure> {
    call.query("name")
        .or_else(|| fields.get("name").and_then(Value::as_str))
        .map(str::to_owned)
        .ok_or_else(|| Failure::invalid("Required parameter: name"))
}

fn of_parts(call: &Call) -> Result<(Map<String, Value>, bytes::Bytes), Failure> {
    let parts = multipart::parts(call.header("content-type").unwrap_or(""), &call.body)?;
    let mut parts = parts.into_iter();
    let (Some(metadata), Some(media)) = (parts.next(), parts.next()) else {
        return Err(Failure::invalid("A multipart upload has metadata and media."));
    };
    let mut fields = json_object(&metadata.body)?;
    // Newer clients send the checksums that they calculated on the way in a part behind the media.
    if let Some(trailer) = parts.next() {
        fields.extend(json_object(&trailer.body)?);
    }
    if let Some(kind) = media.content_type {
        fields.entry("contentType").or_insert(json!(kind));
    }
    Ok((fields, media.body))
}

/// Checksums in headers count as those in the metadata do.
///
/// <https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash>
pub(super) fn add_hashes(fields: &mut Map<String, Value>, call: &Call) {
    for value in call.headers.get_all("x-goog-hash") {
        for pair in value.to_str().unwrap_or("").split(',') {
            match pair.trim().split_once('=') {
                Some(("crc32c", hash)) => fields.insert("crc32c".into(), json!(hash)),
                Some(("md5", hash)) => fields.insert("md5Hash".into(), json!(hash)),
                _ => None,
            };
        }
    }
    if let Some(hash) = call.header("content-md5") {
        fields.insert("md5Hash".into(), json!(hash));
    }
}

/// An upload of the XML API: metadata is in headers.
pub(super) fn of_headers(bucket: &str, name: &str, call: &Call) -> Result<Draft, Failure> {
    let mut fields = Map::new();
    for (header, field) in [
        ("content-type", "contentType"),
        ("content-encoding", "contentEncoding"),
        ("content-disposition", "contentDisposition"),
        ("content-language", "contentLanguage"),
        ("cache-control", "cacheControl"),
        ("x-goog-storage-class", "storageClass"),
    ] {
        if let Some(value) = call.header(header) {
            fields.insert(field.into(), json!(value));
        }
    }
    let metadata: Map<String, Value> = call
        .headers
        .iter()
        .filter_map(|(header, value)| {
            let key = header.as_str().strip_prefix("x-goog-meta-")?;
            Some((key.to_owned(), json!(value.to_str().ok()?)))
        })
        .collect();
    if !metadata.is_empty() {
        fields.insert("metadata".into(), Value::Object(metadata));
    }
    add_hashes(&mut fields, call);
    Ok(Draft { bucket: bucket.to_owned(), name: name.to_owned(), fields, data: call.body.clone(), components: None })
}
