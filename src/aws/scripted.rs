//! A server on this machine that answers request after request as it was told, byte for byte, and keeps what it got.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::connection::Connection;
use crate::Config;
use crate::retry::RetryPolicy;

/// What the server does when it has read a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Says this.
    Whole(String),
    /// Says this, and closes the connection although more was announced.
    Cut(String),
    /// Closes the connection without a word: the work may be done, and the answer is lost.
    Lost,
}

/// An answer with a body and its length.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    Answer::Whole(format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()))
}

/// An answer without a body, as to HEAD.
pub(crate) fn head(status: u16, headers: &[(&str, &str)]) -> Answer {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    Answer::Whole(format!("HTTP/1.1 {status} X\r\n{headers}\r\n"))
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Method and path.
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

pub(crate) struct Scripted {
    endpoint: String,
    left: Arc<Mutex<VecDeque<Answer>>>,
    got: Arc<Mutex<Vec<Request>>>,
}

impl Scripted {
    pub(crate) async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let left = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let got = Arc::new(Mutex::new(Vec::new()));
        let server = Self { endpoint, left: Arc::clone(&left), got: Arc::clone(&got) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&left), Arc::clone(&got)));
            }
        });
        server
    }

    /// A configuration whose services are all this server, and which does not wait long.
    pub(crate) fn config(&self) -> Config {
        config(&self.endpoint)
    }

    pub(crate) fn connection(&self) -> Connection {
        Connection::new(&self.config()).unwrap().with_made_up_credentials()
    }

    /// The requests so far.
    pub(crate) fn got(&self) -> Vec<Request> {
        self.got.lock().unwrap().clone()
    }

    /// Methods and paths of the requests, after all answers have been given.
    pub(crate) fn lines(&self) -> Vec<String> {
        assert!(self.left.lock().unwrap().is_empty(), "not all answers were asked for: {:?}", self.got());
        self.got().into_iter().map(|request| request.line).collect()
    }
}

/// A configuration whose services are all at this address.
pub(crate) fn config(endpoint: &str) -> Config {
    let mut config = Config::local("unused");
    config.retry = RetryPolicy {
        max_attempts: 3,
        first_backoff: Duration::from_millis(1),
        attempt_timeout: Duration::from_secs(2),
        call_timeout: Duration::from_secs(10),
        ..RetryPolicy::default()
    };
    config.aws.region = Some("us-east-1".to_owned());
    config.aws.bucket = "bucket".to_owned();
    config.aws.s3_endpoint = Some(endpoint.to_owned());
    config.aws.secrets_manager_endpoint = Some(endpoint.to_owned());
    config
}

async fn serve(mut stream: TcpStream, left: Arc<Mutex<VecDeque<Answer>>>, got: Arc<Mutex<Vec<Request>>>) {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer).await {
        got.lock().unwrap().push(request);
        let next = left.lock().unwrap().pop_front();
        // A request too many fails the test by the count, not by waiting.
        match next.unwrap_or_else(|| answer(418, &[], "")) {
            Answer::Whole(text) => stream.write_all(text.as_bytes()).await.unwrap(),
            Answer::Cut(text) => {
                stream.write_all(text.as_bytes()).await.unwrap();
                return;
            }
            Answer::Lost => return,
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let line = lines.next()?.rsplit_once(' ')?.0.to_owned();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8_lossy(&buffer.drain(..length).collect::<Vec<_>>()).into_owned();
    Some(Request { line, headers, body })
}
