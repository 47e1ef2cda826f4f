//! A server on this machine that gives one scripted reply after the other, byte by byte as the script says.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Reads the request and closes the connection without an answer.
    Reset,
    /// Answers.
    Answer { status: u16, headers: Vec<(String, String)>, body: Vec<u8>, cut: Option<usize> },
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Vec::new(), cut: None }
    }

    pub(crate) fn ok(text: impl Into<Vec<u8>>) -> Self {
        Self::status(200).body(text)
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.into()));
        }
        self
    }

    pub(crate) fn body(mut self, text: impl Into<Vec<u8>>) -> Self {
        if let Self::Answer { body, .. } = &mut self {
            *body = text.into();
        }
        self
    }

    /// Announces the whole body, sends so many bytes of it and closes the connection.
    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        if let Self::Answer { cut, .. } = &mut self {
            *cut = Some(bytes);
        }
        self
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Method, target and version.
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

#[derive(Debug, Default)]
struct Book {
    script: Vec<Reply>,
    requests: Vec<Received>,
    connections: usize,
}

/// The server. What comes after the end of the script is answered with 500.
#[derive(Debug)]
pub(crate) struct Server {
    url: String,
    book: Arc<Mutex<Book>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let book = Arc::new(Mutex::new(Book { script: script.into_iter().rev().collect(), ..Book::default() }));
        let shared = Arc::clone(&book);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { url, book, accepting }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn requests(&self) -> Vec<Received> {
        self.book.lock().unwrap().requests.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.book.lock().unwrap().connections
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, book: Arc<Mutex<Book>>) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let reply = {
            let mut book = book.lock().unwrap();
            book.requests.push(request);
            book.script.pop().unwrap_or_else(|| Reply::status(500).body("the script is at its end"))
        };
        let Reply::Answer { status, headers, body, cut } = reply else { return };
        let mut answer = format!("HTTP/1.1 {status} scripted\r\n");
        for (name, value) in &headers {
            answer.push_str(&format!("{name}: {value}\r\n"));
        }
        if status != 304 && status != 204 {
            answer.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        answer.push_str("\r\n");
        let mut bytes = answer.into_bytes();
        bytes.extend_from_slice(&body[..cut.unwrap_or(body.len()).min(body.len())]);
        if stream.write_all(&bytes).await.is_err() || cut.is_some() {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.lines();
    let line = lines.next()?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap_or(0));
    while buffer.len() < end + 4 + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer[end + 4..end + 4 + length].to_vec();
    buffer.drain(..end + 4 + length);
    Some(Received { line, headers, body })
}
