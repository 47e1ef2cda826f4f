//! Servers that keep what they are sent, and answer all the same.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

const CERTIFICATE: &[u8] = include_bytes!("certificate.pem");
const KEY: &[u8] = include_bytes!("key.pem");

/// A server on a thread of its own, for as long as the program runs.
pub(crate) struct Server {
    pub(crate) host: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers with the status and the headers, each ended by a line break.
    pub(crate) fn plain(status: u16, headers: &str) -> Self {
        let answer = always(status, headers);
        Self::answering(move |_| answer.clone())
    }

    /// Answers each request as this says.
    pub(crate) fn answering(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::start(move |stream, requests| serve(stream, requests, &answer))
    }

    /// The same behind a certificate that nobody has signed but itself.
    pub(crate) fn self_signed() -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(KEY).expect("PEM");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate and its key");
        let config = Arc::new(config);
        let answer = always(404, "");
        Self::start(move |mut stream, requests| {
            let mut connection = ServerConnection::new(config.clone()).expect("a connection");
            serve(Stream::new(&mut connection, &mut stream), requests, &|_| answer.clone());
        })
    }

    fn start(serve: impl Fn(TcpStream, &Mutex<Vec<String>>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = requests.clone();
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, serve) = (kept.clone(), serve.clone());
                std::thread::spawn(move || serve(stream, &kept));
            }
        });
        Self { host, requests }
    }

    /// Head and body of every request, as they came.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }
}

fn always(status: u16, headers: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: 0\r\n{headers}\r\n")
}

fn serve(mut stream: impl Read + Write, requests: &Mutex<Vec<String>>, answer: &dyn Fn(&str) -> String) {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !is_whole(&text) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => text.extend_from_slice(&buffer[..count]),
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let answer = answer(&text);
    requests.lock().expect("no panic").push(text);
    let _ = stream.write_all(answer.as_bytes());
    let _ = stream.flush();
    // The client closes first, or has had its time.
    std::thread::sleep(Duration::from_millis(20));
}

fn is_whole(text: &[u8]) -> bool {
    let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&text[..end]).to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()));
    let length = field("content-length:").and_then(|text| text.parse().ok()).unwrap_or(0);
    match field("transfer-encoding:") {
        Some(_) => text.ends_with(b"0\r\n\r\n"),
        None => text.len() >= end + 4 + length,
    }
}
