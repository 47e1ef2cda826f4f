//! As much of S3 as the operations need, with its conditions and checksums, in memory.

use std::collections::BTreeMap;

use anycloud::object_store::Crc32c;
use bytes::Bytes;

use super::wire::{Request, xml};

#[derive(Clone, Default)]
struct Object {
    bytes: Bytes,
    etag: String,
    modified: String,
    headers: Vec<(String, String)>,
}

#[derive(Default)]
struct Multipart {
    key: String,
    headers: Vec<(String, String)>,
    modified: String,
    parts: BTreeMap<u32, Bytes>,
}

#[derive(Default)]
pub(super) struct S3 {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Multipart>,
    number: u64,
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%a, %d %b %Y %T GMT").to_string()
}

/// Of equal bytes the same, as S3's are.
fn etag(bytes: &[u8]) -> String {
    format!("{:08x}{:024x}", crc32c::crc32c(bytes), bytes.len())
}

fn refuse(status: u16, code: &str) -> Vec<u8> {
    xml(status, &format!("<Error><Code>{code}</Code><Message>said so</Message></Error>"))
}

fn kept(request: &Request) -> Vec<(String, String)> {
    let kept = |name: &str| name.starts_with("x-amz-meta-") || name.starts_with("content-type");
    request.headers.iter().filter(|(name, _)| kept(name)).cloned().collect()
}

impl S3 {
    pub(super) fn serve(&mut self, request: &Request) -> Vec<u8> {
        let key = request.path.split_once('/').map(|(_, key)| key.to_owned()).unwrap_or_default();
        let asked = |name: &str| request.query.get(name);
        match (request.method.as_str(), asked("uploadId")) {
            ("PUT", Some(upload)) => self.put_part(request, upload),
            ("PUT", None) if request.header("x-amz-copy-source").is_some() => self.copy(request, &key),
            ("PUT", None) => self.put(request, &key),
            ("POST", Some(upload)) => self.complete(request, upload),
            ("POST", None) if asked("uploads").is_some() => self.create_upload(request, key),
            ("POST", None) if asked("delete").is_some() => self.delete_many(request),
            ("DELETE", Some(upload)) => match self.uploads.remove(upload) {
                Some(_) => xml(204, ""),
                None => refuse(404, "NoSuchUpload"),
            },
            ("DELETE", None) => self.delete(request, &key),
            ("GET", None) if asked("uploads").is_some() => self.list_uploads(),
            ("GET", None) if asked("list-type").is_some() => self.list(request),
            ("HEAD", None) if key.is_empty() => xml(200, ""),
            ("GET" | "HEAD", None) => self.get(request, &key),
            _ => refuse(501, "NotImplemented"),
        }
    }

    /// Why the condition does not hold, if it does not.
    fn unmet(&self, request: &Request, key: &str) -> Option<Vec<u8>> {
        let there = self.objects.get(key);
        let named = request.header("if-match").map(|etag| etag.trim_matches('"'));
        match (request.header("if-none-match"), named, there) {
            (Some(_), _, Some(_)) => Some(refuse(412, "PreconditionFailed")),
            (_, Some(_), None) => Some(refuse(404, "NoSuchKey")),
            (_, Some(named), Some(object)) if named != object.etag => Some(refuse(412, "PreconditionFailed")),
            _ => None,
        }
    }

    fn put(&mut self, request: &Request, key: &str) -> Vec<u8> {
        if let Some(refused) = wrong_checksum(request).or_else(|| self.unmet(request, key)) {
            return refused;
        }
        let etag = etag(&request.body);
        let object = Object { bytes: request.body.clone(), etag, modified: now(), headers: kept(request) };
        let told = format!("etag: \"{}\"\r\n", object.etag);
        self.objects.insert(key.to_owned(), object);
        super::wire::answer(200, &told, b"")
    }

    fn copy(&mut self, request: &Request, key: &str) -> Vec<u8> {
        let source = request.header("x-amz-copy-source").unwrap_or_default().to_owned();
        let source = percent_encoding::percent_decode_str(&source).decode_utf8_lossy().into_owned();
        let Some(source) = source.split_once('/').and_then(|(_, key)| self.objects.get(key)).cloned() else {
            return refuse(404, "NoSuchKey");
        };
        let wanted = request.header("x-amz-copy-source-if-match").map(|etag| etag.trim_matches('"'));
        if wanted.is_some_and(|etag| etag != source.etag) {
            return refuse(412, "PreconditionFailed");
        }
        if let Some(refused) = self.unmet(request, key) {
            return refused;
        }
        let copy = Object { modified: now(), headers: kept(request), ..source };
        let crc = Crc32c::of(&copy.bytes).to_base64();
        let told = format!(
            "<CopyObjectResult><ETag>\"{}\"</ETag><ChecksumCRC32C>{crc}</ChecksumCRC32C></CopyObjectResult>",
            copy.etag
        );
        self.objects.insert(key.to_owned(), copy);
        xml(200, &told)
    }

    fn create_upload(&mut self, request: &Request, key: String) -> Vec<u8> {
        self.number += 1;
        let id = format!("upload-{}", self.number);
        let told = format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
        let upload = Multipart { key, headers: kept(request), modified: now(), parts: BTreeMap::new() };
        self.uploads.insert(id, upload);
        xml(200, &told)
    }

    fn put_part(&mut self, request: &Request, upload: &str) -> Vec<u8> {
        if let Some(refused) = wrong_checksum(request) {
            return refused;
        }
        let number = request.query.get("partNumber").and_then(|number| number.parse().ok()).unwrap_or_default();
        let Some(upload) = self.uploads.get_mut(upload) else { return refuse(404, "NoSuchUpload") };
        upload.parts.insert(number, request.body.clone());
        super::wire::answer(200, &format!("etag: \"{}\"\r\n", etag(&request.body)), b"")
    }

    /// Once it is done there is no such upload any more.
    fn complete(&mut self, request: &Request, id: &str) -> Vec<u8> {
        let Some(upload) = self.uploads.get(id) else { return refuse(404, "NoSuchUpload") };
        let bytes = Bytes::from(upload.parts.values().flat_map(|part| part.to_vec()).collect::<Vec<u8>>());
        let crc = Crc32c::of(&bytes).to_base64();
        if request.header("x-amz-checksum-crc32c").is_some_and(|expected| expected != crc) {
            return refuse(400, "BadDigest");
        }
        if let Some(refused) = self.unmet(request, &upload.key) {
            return refused;
        }
        let upload = self.uploads.remove(id).expect("it was there");
        let etag = format!("{}-{}", etag(&bytes), upload.parts.len());
        let told = format!(
            "<CompleteMultipartUploadResult><ETag>\"{etag}\"</ETag><ChecksumCRC32C>{crc}</ChecksumCRC32C>\
             </CompleteMultipartUploadResult>"
        );
        let object = Object { bytes, etag, modified: upload.modified, headers: upload.headers };
        self.objects.insert(upload.key, object);
        xml(200, &told)
    }

    fn delete(&mut self, request: &Request, key: &str) -> Vec<u8> {
        if let Some(refused) = self.unmet(request, key) {
            return refused;
        }
        self.objects.remove(key);
        xml(204, "")
    }

    fn delete_many(&mut self, request: &Request) -> Vec<u8> {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let keys = text.split("<Key>").skip(1).filter_map(|part| part.split_once("</Key>").map(|(key, _)| key));
        let told = keys.map(|key| {
            self.objects.remove(key);
            format!("<Deleted><Key>{key}</Key></Deleted>")
        });
        let told: String = told.collect();
        xml(200, &format!("<DeleteResult>{told}</DeleteResult>"))
    }

    fn get(&self, request: &Request, key: &str) -> Vec<u8> {
        let Some(object) = self.objects.get(key) else { return refuse(404, "NoSuchKey") };
        let named = |name: &str| request.header(name).map(|etag| etag.trim_matches('"'));
        if named("if-match").is_some_and(|etag| etag != object.etag) {
            return refuse(412, "PreconditionFailed");
        }
        if named("if-none-match").is_some_and(|etag| etag == object.etag) {
            return super::wire::answer(304, &format!("etag: \"{}\"\r\n", object.etag), b"");
        }
        let mut head = format!("etag: \"{}\"\r\nlast-modified: {}\r\n", object.etag, object.modified);
        object.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        let length = object.bytes.len();
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let Some((first, last)) = range else {
            head.push_str(&format!("x-amz-checksum-crc32c: {}\r\n", Crc32c::of(&object.bytes).to_base64()));
            return super::wire::answer(200, &head, &object.bytes);
        };
        let first: usize = first.parse().unwrap_or_default();
        let last = last.parse().map_or(length - 1, |last: usize| last.min(length - 1));
        head.push_str(&format!("content-range: bytes {first}-{last}/{length}\r\n"));
        super::wire::answer(206, &head, &object.bytes[first..=last])
    }

    fn list(&self, request: &Request) -> Vec<u8> {
        let asked = |name: &str| request.query.get(name).cloned();
        let prefix = asked("prefix").unwrap_or_default();
        let after = asked("continuation-token").or_else(|| asked("start-after")).unwrap_or_default();
        let most = asked("max-keys").and_then(|most| most.parse().ok()).unwrap_or(1000);
        let matching = |key: &&String| key.starts_with(&prefix) && **key > after;
        let keys: Vec<_> = self.objects.keys().filter(matching).take(most + 1).collect();
        let more = keys.len() > most;
        let mut told = format!("<IsTruncated>{more}</IsTruncated>");
        for key in keys.iter().take(most) {
            let object = &self.objects[*key];
            told.push_str(&format!(
                "<Contents><Key>{key}</Key><ETag>\"{}\"</ETag><Size>{}</Size></Contents>",
                object.etag,
                object.bytes.len()
            ));
        }
        if more {
            told.push_str(&format!("<NextContinuationToken>{}</NextContinuationToken>", keys[most - 1]));
        }
        xml(200, &format!("<ListBucketResult>{told}</ListBucketResult>"))
    }

    fn list_uploads(&self) -> Vec<u8> {
        let told = self.uploads.iter().map(|(id, upload)| {
            let key = &upload.key;
            format!(
                "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>2015-01-01T00:00:00Z</Initiated></Upload>"
            )
        });
        let told: String = told.collect();
        let end = "<IsTruncated>false</IsTruncated>";
        xml(200, &format!("<ListMultipartUploadsResult>{end}{told}</ListMultipartUploadsResult>"))
    }
}

fn wrong_checksum(request: &Request) -> Option<Vec<u8>> {
    let expected = request.header("x-amz-checksum-crc32c")?;
    (expected != Crc32c::of(&request.body).to_base64()).then(|| refuse(400, "BadDigest"))
}
