//! Requests as they come from a client: read whole, and called by what they ask for.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Shared, SocketFault, Upstream};

pub(super) struct Request {
    pub(super) bytes: Vec<u8>,
    /// Where the body begins.
    pub(super) body: usize,
    pub(super) label: String,
    pub(super) scene: String,
}

impl Request {
    /// Whether one may be the repetition of the other.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let line = |request: &Self| request.bytes.split(|byte| *byte == b'\r').next().map(<[u8]>::to_vec);
        self.label == other.label && self.scene == other.scene && line(self) == line(other)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)))
        .map(|(_, value)| value.trim())
}

/// What a request is called: the operation where a header names it or S3 has a name for it, else the method and what
/// the query asks for.
fn label(head: &str) -> String {
    if let Some(target) = header(head, "x-amz-target") {
        return target.to_owned();
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if header(head, "authorization").is_some_and(|credentials| credentials.starts_with("AWS4")) {
        return of_s3(method, path, query, header(head, "x-amz-copy-source"));
    }
    let told = |pair: &&str| ["uploadType", "alt=media"].iter().any(|one| pair.starts_with(one));
    let asked: Vec<&str> = query.split('&').filter(told).collect();
    let verb = path.rsplit_once(':').map(|(_, verb)| verb).filter(|verb| verb.chars().all(char::is_alphabetic));
    let kind = ["rewriteTo", "/versions", "/secrets", "/executions", "/jobs", "/upload/"]
        .iter()
        .find(|part| path.contains(**part));
    format!("{method} {} {} {}", kind.unwrap_or(&""), verb.unwrap_or(""), asked.join("&"))
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html>
fn of_s3(method: &str, path: &str, query: &str, copies: Option<&str>) -> String {
    let copies = copies.is_some();
    let of_bucket = !path.trim_matches('/').contains('/');
    let asks = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let operation = match method {
        "PUT" if asks("uploadId") && copies => "UploadPartCopy",
        "PUT" if asks("uploadId") => "UploadPart",
        "PUT" if copies => "CopyObject",
        "PUT" => "PutObject",
        "POST" if asks("uploads") => "CreateMultipartUpload",
        "POST" if asks("uploadId") => "CompleteMultipartUpload",
        "POST" => "DeleteObjects",
        "DELETE" if asks("uploadId") => "AbortMultipartUpload",
        "DELETE" => "DeleteObject",
        "HEAD" if of_bucket => "HeadBucket",
        "HEAD" => "HeadObject",
        "GET" if asks("uploads") => "ListMultipartUploads",
        "GET" if asks("list-type") => "ListObjectsV2",
        "GET" => "GetObject",
        other => other,
    };
    operation.to_owned()
}

/// The scene whose name is in a request.
fn scene_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    let name = text.split_once("scene-").and_then(|(_, rest)| rest.split_once("-end"));
    name.map(|(number, _)| format!("scene-{number}-end")).unwrap_or_default()
}

pub(super) async fn read_request(stream: &mut TcpStream, shared: &Shared) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(place) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break place + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    if header(&head, "expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    let chunked = header(&head, "transfer-encoding").is_some_and(|value| value.contains("chunked"));
    let length: usize = header(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or_default();
    let label = label(&head);
    let cut = shared.next(&label) == Some(SocketFault::CutMid);
    let length = if cut { length / 2 } else { length };
    while if chunked { !bytes.ends_with(b"0\r\n\r\n") } else { bytes.len() < end + length } {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let reads = head.starts_with("GET ") && header(&head, "authorization").is_none();
    // One request a connection, so that the end of an answer is the end of the connection.
    let lines = head.trim_end().lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !name.eq_ignore_ascii_case("connection") && !name.eq_ignore_ascii_case("expect")
    });
    let lines = lines.map(|line| match line.split_once(':') {
        // A read may be routed by the name of its host.
        Some((name, _)) if reads && name.eq_ignore_ascii_case("host") => match &shared.upstream {
            Upstream::At(address) => format!("host: {address}"),
            Upstream::Within(_) => line.to_owned(),
        },
        _ => line.to_owned(),
    });
    let mut sent: Vec<u8> = lines.collect::<Vec<_>>().join("\r\n").into_bytes();
    sent.extend_from_slice(b"\r\nconnection: close\r\n\r\n");
    let body = sent.len();
    sent.extend_from_slice(&bytes[end..]);
    let scene = scene_of(&sent);
    Some(Request { body, label, scene, bytes: sent })
}
