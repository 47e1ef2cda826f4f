//! Over real loopback connections.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::rt::TokioIo;

use super::*;
use crate::object_store::{SignOptions, SignedRequest};
use crate::{Config, ObjectKey};

struct Served {
    root: std::path::PathBuf,
    address: std::net::SocketAddr,
    store: Arc<FileStore>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Served {
    async fn begin() -> Self {
        let root = std::env::temp_dir().join(format!("anycloud-{}", crate::random::uuid()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = Config::local(&root).local;
        config.signed_url_base = Some(format!("http://{address}/files"));
        let handler = SignedUrlHandler::new(&config);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let handler = handler.clone();
                let service = hyper::service::service_fn(move |request| {
                    let handler = handler.clone();
                    async move { Ok::<_, Infallible>(handler.handle(request).await) }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self { root, address, store: super::super::file_store(&config) }
    }

    async fn sign(&self, key: &str, options: SignOptions) -> SignedRequest {
        self.store.sign(&ObjectKey::new(key).unwrap(), options).await.unwrap()
    }

    async fn send<B>(&self, request: http::request::Builder, url: &str, body: B) -> Answer
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let path = url.strip_prefix(&format!("http://{}", self.address)).unwrap().to_owned();
        let request = request.uri(path).header("host", "localhost").body(body).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn call(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request, url, Full::new(Bytes::copy_from_slice(body))).await
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_is_uploaded_by_one_url_is_downloaded_by_another() {
    let served = Served::begin().await;
    for key in ["plain.txt", "a//b", "../up", "a/../b", "ü ☃%2F", "q?x=1&y#z"] {
        let put = served.sign(key, SignOptions { content_type: Some("text/plain".into()), ..SignOptions::put(MINUTE) });
        let answer = served.call("PUT", put.await.url.expose(), &[("content-type", "text/plain")], b"hello").await;
        assert_eq!(answer.status, 200, "{key}");
        let disposition = "attachment; filename=\"x.csv\"";
        let options =
            SignOptions { response_content_disposition: Some(disposition.into()), ..SignOptions::get(MINUTE) };
        let url = served.sign(key, options).await.url;
        let got = served.call("GET", url.expose(), &[], b"").await;
        assert_eq!((got.status, &*got.body), (200, b"hello".as_slice()), "{key}");
        assert_eq!(got.header("content-type"), Some("text/plain"));
        assert_eq!(got.header("content-disposition"), Some(disposition));
        assert_eq!(got.header("etag"), answer.header("etag"));
        assert_eq!(served.store.get_bytes(&ObjectKey::new(key).unwrap()).await.unwrap(), "hello");
    }
}

#[tokio::test]
async fn downloads_know_ranges_and_what_the_client_has() {
    let served = Served::begin().await;
    let large: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    served.store.put_bytes(&ObjectKey::new("k").unwrap(), large.clone()).await.unwrap();
    let url = served.sign("k", SignOptions::get(MINUTE)).await.url;
    let url = url.expose();
    let whole = served.call("GET", url, &[], b"").await;
    assert_eq!((whole.status, whole.header("content-length")), (200, Some("3000000")));
    assert!(whole.body == large && whole.header("access-control-allow-origin") == Some("*"));
    let etag = whole.header("etag").unwrap().to_owned();
    let part = served.call("GET", url, &[("range", "bytes=10-19")], b"").await;
    assert_eq!((part.status, part.header("content-range")), (206, Some("bytes 10-19/3000000")));
    assert_eq!(part.body, large[10..20]);
    assert_eq!(served.call("GET", url, &[("range", "bytes=-5")], b"").await.body, large[2_999_995..]);
    let past = served.call("GET", url, &[("range", "bytes=3000000-")], b"").await;
    assert_eq!((past.status, past.header("content-range")), (416, Some("bytes */3000000")));
    assert_eq!(served.call("GET", url, &[("range", "bytes=0-1"), ("if-range", "\"x\"")], b"").await.status, 200);
    let known = served.call("GET", url, &[("if-none-match", &format!("\"x\", W/{etag}"))], b"").await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    let head = served.call("HEAD", url, &[], b"").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("3000000"), 0));
    let missing = served.sign("missing", SignOptions::get(MINUTE)).await.url;
    assert_eq!(served.call("GET", missing.expose(), &[], b"").await.status, 404);
}

#[tokio::test]
async fn uploads_are_held_to_type_length_and_create_only() {
    let served = Served::begin().await;
    let options = SignOptions {
        content_type: Some("text/csv".into()),
        content_length: Some(5),
        create_only: true,
        ..SignOptions::put(MINUTE)
    };
    let signed = served.sign("k", options).await;
    let required = [("content-type".to_owned(), "text/csv".to_owned()), ("content-length".to_owned(), "5".to_owned())];
    assert_eq!(signed.headers, required);
    let url = signed.url.expose();
    let csv = [("content-type", "text/csv")];
    assert_eq!(served.call("PUT", url, &[("content-type", "text/html")], b"hello").await.status, 403);
    assert_eq!(served.call("PUT", url, &[], b"hello").await.status, 403);
    assert_eq!(served.call("PUT", url, &csv, b"hell").await.status, 403);
    assert_eq!(served.call("PUT", url, &csv, b"hello!").await.status, 403);
    // Without a length the bytes are counted as they come.
    for count in [4, 6] {
        let chunks = (0..count).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))));
        let request = Request::builder().method("PUT").header("content-type", "text/csv");
        let answer = served.send(request, url, StreamBody::new(futures_util::stream::iter(chunks))).await;
        assert_eq!(answer.status, 403, "{count} bytes");
    }
    assert!(!served.store.exists(&ObjectKey::new("k").unwrap()).await.unwrap());
    assert_eq!(served.call("PUT", url, &csv, b"hello").await.status, 200);
    assert_eq!(served.call("PUT", url, &csv, b"other").await.status, 412);
    assert_eq!(served.store.get_bytes(&ObjectKey::new("k").unwrap()).await.unwrap(), "hello");
}

#[tokio::test]
async fn tampered_expired_and_misused_urls_are_refused_and_nothing_panics() {
    let served = Served::begin().await;
    served.store.put_bytes(&ObjectKey::new("k").unwrap(), "secret").await.unwrap();
    let url = served.sign("k", SignOptions::get(MINUTE)).await.url;
    let url = url.expose();
    assert_eq!(served.call("GET", url, &[], b"").await.status, 200);
    for method in ["PUT", "DELETE", "POST", "PATCH"] {
        assert_eq!(served.call(method, url, &[], b"x").await.status, 403, "{method}");
    }
    let (path, query) = url.split_once('?').unwrap();
    let expires = query.split('&').next().unwrap();
    let tampered = [
        path.to_owned(),
        format!("{path}?"),
        format!("{path}?{expires}"),
        format!("{path}?{expires}&signature="),
        format!("{path}?{expires}&signature={}", "0".repeat(64)),
        format!("{path}?{expires}&signature={}", "é".repeat(32).replace('é', "%C3%A9")),
        format!("{path}l?{query}"),
        format!("{}?{query}", path.replace("/k", "/%FF")),
        format!("{}?{query}", path.replace("/main/", "/other/")),
        format!("{path}?{}", query.replace("expires=", "expires=9")),
        format!("{url}&create-only=true"),
        format!("http://{}/", served.address),
        format!("http://{}/files", served.address),
        format!("http://{}/files/main/?{query}", served.address),
    ];
    for url in tampered {
        let answer = served.call("GET", &url, &[], b"").await;
        assert_eq!(answer.status, 403, "{url}");
        assert!(!answer.body.windows(6).any(|bytes| bytes == b"secret"));
    }
    let short = served.sign("k", SignOptions::get(Duration::from_secs(1))).await.url;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(served.call("GET", short.expose(), &[], b"").await.status, 403);
    assert_eq!(served.store.get_bytes(&ObjectKey::new("k").unwrap()).await.unwrap(), "secret");
}

#[tokio::test]
async fn an_upload_that_breaks_off_stores_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let served = Served::begin().await;
    let url = served.sign("k", SignOptions::put(MINUTE)).await.url;
    let path = url.expose().strip_prefix(&format!("http://{}", served.address)).unwrap();
    let mut stream = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let head = format!("PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![7; 3_000_000]).await.unwrap();
    drop(stream);
    let unfinished = served.root.join("objects/main/unfinished");
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if std::fs::read_dir(&unfinished).is_ok_and(|mut left| left.next().is_none()) {
            break;
        }
    }
    assert_eq!(std::fs::read_dir(unfinished).unwrap().count(), 0);
    assert!(!served.store.exists(&ObjectKey::new("k").unwrap()).await.unwrap());
}

#[tokio::test]
async fn browsers_are_told_beforehand_what_they_may_send() {
    let served = Served::begin().await;
    let url = format!("http://{}/files/main/k", served.address);
    let asked = [("origin", "https://app.example"), ("access-control-request-headers", "content-type")];
    let answer = served.call("OPTIONS", &url, &asked, b"").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some("*")));
    assert_eq!(answer.header("access-control-allow-headers"), Some("content-type"));
    let config = Config::local(&served.root).local;
    let origin = HeaderValue::from_static("https://app.example");
    let handler = SignedUrlHandler::new(&config).with_allowed_origin(origin.clone());
    let request = Request::builder().method("GET").uri("/main/k").body(Full::new(Bytes::new())).unwrap();
    let answer = handler.handle(request).await;
    assert_eq!((answer.status().as_u16(), answer.headers().get("access-control-allow-origin")), (403, Some(&origin)));
}
