//! What strangers send to the servers of the crate, and servers to its clients.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use anycloud::gcp_emulator::{Emulator, EmulatorConfig};
use anycloud::local::SignedUrlHandler;
use anycloud::object_store::{HeadOptions, ListOptions};
use anycloud::retry::RetryPolicy;
use anycloud::{Cloud, Config, ObjectKey, ObjectStoreExt as _};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::Full;

use super::{RUNTIME, root};

/// The path and query of a request, and a range: no stranger's signature is good.
pub fn signed_url(input: &[u8]) {
    static HANDLER: LazyLock<SignedUrlHandler> = LazyLock::new(|| {
        let mut config = Config::local(root("signed"));
        config.local.signed_url_base = Some("http://127.0.0.1:1/files".to_owned());
        SignedUrlHandler::new(&config.local)
    });
    let text = String::from_utf8_lossy(input);
    let (path, rest) = text.split_once('\n').unwrap_or((&text, ""));
    for method in ["GET", "HEAD", "PUT"] {
        let request = http::Request::builder().method(method).uri(path).header("range", rest);
        let Ok(request) = request.body(Full::new(Bytes::new())) else { continue };
        let status = RUNTIME.block_on(HANDLER.handle(request)).status();
        assert_eq!(status, 403, "{method} {path}");
    }
}

/// A server that answers everything with the same bytes.
struct Parrot {
    cloud: Cloud,
    answer: Arc<Mutex<Vec<u8>>>,
}

/// The parrot, in the place of a provider.
fn parrot(provider: &str) -> Parrot {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                    line.clear();
                }
                let bytes = shared.lock().unwrap().clone();
                let _ = reader.get_mut().write_all(&bytes);
                let _ = reader.get_mut().shutdown(std::net::Shutdown::Write);
                let _ = reader.read_to_end(&mut Vec::new());
            });
        }
    });
    let mut config = Config::from_lookup(|name| {
        let value = match name {
            "CLOUD_PROVIDER" => provider,
            "ANYCLOUD_BUCKET" | "GOOGLE_CLOUD_PROJECT" => "scene",
            "AWS_REGION" => "us-east-1",
            "STORAGE_EMULATOR_HOST" | "SECRET_MANAGER_EMULATOR_HOST" | "AWS_ENDPOINT_URL" => &url,
            _ => return None,
        };
        Some(value.to_owned())
    })
    .unwrap();
    config.retry = RetryPolicy {
        max_attempts: 1,
        attempt_timeout: Duration::from_secs(1),
        call_timeout: Duration::from_secs(1),
        ..RetryPolicy::default()
    };
    Parrot { cloud: Cloud::connect(config).unwrap(), answer }
}

/// An answer of a store of objects: the first byte chooses the call, the rest is the answer, head and body.
fn answer(parrot: &Mutex<Parrot>, kind: &str, input: &[u8]) {
    let [which, input @ ..] = input else { return };
    // Whole answers, and bodies after a head that fits.
    let head = |status: &str, more: &str| {
        let length = input.len();
        format!("HTTP/1.1 {status}\r\n{more}content-length: {length}\r\nconnection: close\r\n\r\n").into_bytes()
    };
    let answer = match which / 8 % 3 {
        0 => input.to_vec(),
        1 => [head("200 OK", &format!("content-type: {kind}\r\n")), input.to_vec()].concat(),
        _ => [head("404 Not Found", ""), input.to_vec()].concat(),
    };
    let parrot = parrot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *parrot.answer.lock().unwrap() = answer;
    let (objects, key) = (parrot.cloud.objects(), ObjectKey::new("k").unwrap());
    RUNTIME.block_on(async {
        match which % 4 {
            0 => drop(objects.list(ListOptions::default()).take(1_000).collect::<Vec<_>>().await),
            1 => drop(objects.head(&key, HeadOptions::default()).await),
            2 => drop(objects.get_bytes(&key).await),
            _ => drop(objects.put_bytes(&key, "x").await),
        }
    });
}

/// An answer of Cloud Storage.
pub fn storage_answer(input: &[u8]) {
    static PARROT: LazyLock<Mutex<Parrot>> = LazyLock::new(|| Mutex::new(parrot("gcp")));
    answer(&PARROT, "application/json", input);
}

/// Whether S3 is asked at all: the client finds credentials as everywhere, and any will do.
#[cfg(feature = "aws")]
pub fn has_credentials() -> bool {
    std::env::var_os("AWS_ACCESS_KEY_ID").is_some() && std::env::var_os("AWS_SECRET_ACCESS_KEY").is_some()
}

/// An answer of S3.
#[cfg(feature = "aws")]
pub fn s3_answer(input: &[u8]) {
    static PARROT: LazyLock<Mutex<Parrot>> = LazyLock::new(|| {
        assert!(has_credentials(), "AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set");
        Mutex::new(parrot("aws"))
    });
    answer(&PARROT, "application/xml", input);
}

/// Filters of the emulator's logs and secrets. The server lives on.
pub fn emulator_filter(input: &[u8]) {
    static EMULATOR: LazyLock<Emulator> = LazyLock::new(|| Emulator::start(EmulatorConfig::default()).unwrap());
    let Ok(filter) = std::str::from_utf8(input) else { return };
    let body = serde_json::json!({"resourceNames": ["projects/p"], "filter": filter}).to_string();
    let escaped = percent_encoding::utf8_percent_encode(filter, percent_encoding::NON_ALPHANUMERIC).to_string();
    let requests = [
        format!("POST /v2/entries:list HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {}", body.len()),
        format!("GET /v1/projects/p/secrets?filter={escaped} HTTP/1.1"),
    ];
    for (request, body) in requests.iter().zip([body.as_str(), ""]) {
        let mut stream = std::net::TcpStream::connect(EMULATOR.url().trim_start_matches("http://")).unwrap();
        write!(stream, "{request}\r\nhost: emulator\r\nconnection: close\r\n\r\n{body}").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 "), "no answer to {filter:?}");
    }
}
