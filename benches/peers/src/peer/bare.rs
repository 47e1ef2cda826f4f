use std::sync::Mutex;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use sha2::{Digest as _, Sha256};

use super::{BUCKET, PART, Peer, Place, Provider, pieces};
use crate::Failure;

/// hyper with a signature and nothing else: what is left to gain.
pub struct Bare {
    client: Client<HttpConnector, Full<Bytes>>,
    endpoint: String,
    host: String,
    provider: Provider,
    parallel: usize,
    /// The day, and the key derived for it.
    key: Mutex<(String, [u8; 32])>,
}

impl Bare {
    pub fn new(place: &Place) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            endpoint: place.endpoint.clone(),
            host: place.endpoint.trim_start_matches("http://").to_owned(),
            provider: place.provider,
            parallel: place.parallel,
            key: Mutex::new((String::new(), [0; 32])),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &str,
        range: Option<(u64, u64)>,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let separator = if query.is_empty() { "" } else { "?" };
        let mut request =
            Request::builder().method(method.clone()).uri(format!("{}{path}{separator}{query}", self.endpoint));
        if let Some((start, end)) = range {
            request = request.header("range", format!("bytes={start}-{}", end - 1));
        }
        if self.provider == Provider::S3 {
            let (date, authorization) = self.sign(&method, path, query);
            request = request
                .header("x-amz-date", date)
                .header("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
                .header("authorization", authorization);
        }
        let response = self.client.request(request.body(Full::new(body))?).await?;
        if !response.status().is_success() {
            return Err(format!("{method} {path}: {}", response.status()).into());
        }
        Ok(response)
    }

    /// Signature version 4 over an unsigned payload.
    fn sign(&self, method: &Method, path: &str, query: &str) -> (String, String) {
        let date = timestamp();
        let day = &date[..8];
        let scope = format!("{day}/us-east-1/s3/aws4_request");
        // A parameter without a value is signed with an empty one.
        let query = if query == "uploads" { "uploads=" } else { query };
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{}\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:{date}\n\nhost;x-amz-content-sha256;x-amz-date\nUNSIGNED-PAYLOAD",
            self.host
        );
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let key = {
            let mut key = self.key.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if key.0 != day {
                let derived = hmac(b"AWS4secret", day);
                let derived = ["us-east-1", "s3", "aws4_request"].iter().fold(derived, |key, part| hmac(&key, part));
                *key = (day.to_owned(), derived);
            }
            key.1
        };
        let signature = hex(&hmac(&key, &text));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}"
        );
        (date, authorization)
    }

    fn object(&self, key: &str) -> (String, &'static str) {
        match self.provider {
            Provider::Gcs => (format!("/storage/v1/b/{BUCKET}/o/{key}"), "alt=media"),
            _ => (format!("/{BUCKET}/{key}"), ""),
        }
    }

    async fn range(&self, key: &str, range: Option<(u64, u64)>) -> Result<u64, Failure> {
        let (path, query) = self.object(key);
        let mut body = self.send(Method::GET, &path, query, range, Bytes::new()).await?.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, Bytes::len) as u64;
        }
        Ok(bytes)
    }
}

#[async_trait]
impl Peer for Bare {
    async fn read(&self, key: &str, size: u64) -> Result<u64, Failure> {
        let ranges = (0..size).step_by(PART).map(|start| self.range(key, Some((start, size.min(start + PART as u64)))));
        stream::iter(ranges).buffered(self.parallel).try_fold(0, |all, bytes| async move { Ok(all + bytes) }).await
    }

    async fn read_whole(&self, key: &str) -> Result<u64, Failure> {
        let (path, query) = self.object(key);
        let response = self.send(Method::GET, &path, query, None, Bytes::new()).await?;
        let length = response.headers().get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
        let mut all = BytesMut::with_capacity(length.unwrap_or(0));
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                all.extend_from_slice(&data);
            }
        }
        Ok(all.len() as u64)
    }

    async fn write(&self, key: &str, data: Bytes) -> Result<(), Failure> {
        match self.provider {
            Provider::Gcs => {
                let path = format!("/upload/storage/v1/b/{BUCKET}/o");
                self.send(Method::POST, &path, &format!("name={key}&uploadType=media"), None, data).await?
            }
            _ => self.send(Method::PUT, &format!("/{BUCKET}/{key}"), "", None, data).await?,
        };
        Ok(())
    }

    async fn write_stream(&self, key: &str, size: u64) -> Result<(), Failure> {
        let path = format!("/{BUCKET}/{key}");
        let created = self.send(Method::POST, &path, "uploads", None, Bytes::new()).await?;
        let created = created.into_body().collect().await?.to_bytes();
        let created = String::from_utf8_lossy(&created);
        let upload = created.split_once("<UploadId>").and_then(|(_, rest)| rest.split('<').next()).unwrap_or_default();
        let mut pieces = pieces(size);
        let parts = std::iter::from_fn(|| {
            let mut part = BytesMut::with_capacity(PART);
            while part.len() < PART {
                let Some(piece) = pieces.next() else { break };
                part.extend_from_slice(&piece);
            }
            (!part.is_empty()).then(|| part.freeze())
        });
        let sends = (1..).zip(parts).map(|(number, part)| {
            let path = &path;
            async move {
                let query = format!("partNumber={number}&uploadId={upload}");
                let sent = self.send(Method::PUT, path, &query, None, part).await?;
                let etag = sent.headers().get("etag").and_then(|etag| etag.to_str().ok()).unwrap_or_default();
                Ok::<_, Failure>(format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
            }
        });
        let parts: Vec<_> = stream::iter(sends).buffered(self.parallel).try_collect().await?;
        let body = format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.concat());
        self.send(Method::POST, &path, &format!("uploadId={upload}"), None, body.into()).await?;
        Ok(())
    }

    async fn head(&self, key: &str) -> Result<u64, Failure> {
        let (path, _) = self.object(key);
        let method = if self.provider == Provider::Gcs { Method::GET } else { Method::HEAD };
        let response = self.send(method, &path, "", None, Bytes::new()).await?;
        response.into_body().collect().await?;
        Ok(1024)
    }

    async fn list(&self, prefix: &str) -> Result<u64, Failure> {
        let (path, fixed, token_name, entry, token_mark, end) = match self.provider {
            Provider::Gcs => {
                let path = format!("/storage/v1/b/{BUCKET}/o");
                (path, "", "pageToken", "\"name\":", "\"nextPageToken\":\"", '"')
            }
            _ => {
                let path = format!("/{BUCKET}");
                (path, "list-type=2&", "continuation-token", "<Key>", "<NextContinuationToken>", '<')
            }
        };
        let prefix = prefix.replace('/', "%2F");
        let (mut count, mut token) = (0, String::new());
        loop {
            // In the order that the signature wants.
            let query = if token.is_empty() {
                format!("{fixed}prefix={prefix}")
            } else {
                format!("{token_name}={token}&{fixed}prefix={prefix}")
            };
            let response = self.send(Method::GET, &path, &query, None, Bytes::new()).await?;
            let body = response.into_body().collect().await?.to_bytes();
            let body = String::from_utf8_lossy(&body);
            count += body.matches(entry).count() as u64;
            match body.split_once(token_mark) {
                Some((_, rest)) => token = rest.split(end).next().unwrap_or_default().to_owned(),
                None => return Ok(count),
            }
        }
    }
}

fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[usize::from(digit)] as char).collect()
}

/// Now, as signatures write it.
fn timestamp() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (now / 86_400, now % 86_400);
    // Days to a date: https://howardhinnant.github.io/date_algorithms.html#civil_from_days
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!(
        "{:04}{month:02}{day:02}T{:02}{:02}{:02}Z",
        year + era * 400 + carry,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}
