//! The smallest HTTP client that can tell a whole answer from a broken one.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// A server.
pub(crate) struct Http {
    pub(crate) host: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The answer as JSON, which must be a success.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The status line and the `status` of Google's errors.
    pub(crate) fn error(&self) -> (u16, String) {
        let status = self.json()["error"]["status"].as_str().unwrap_or("").to_owned();
        (self.status, status)
    }

    /// The status line and the first `reason` of the JSON API's errors.
    pub(crate) fn reason(&self) -> (u16, String) {
        let reason = self.json()["error"]["errors"][0]["reason"].as_str().unwrap_or("").to_owned();
        (self.status, reason)
    }
}

impl Http {
    pub(crate) fn new(url: &str) -> Self {
        Self { host: url.trim_start_matches("http://").to_owned() }
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(&self.host)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n",
            self.host,
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let bodiless = method == "HEAD";
        // An answer that broke off counts as an error that says how much of its body came.
        parse(&answer, bodiless).ok_or_else(|| {
            let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
            let came = head.map_or(0, |end| answer.len() - end - 4);
            io::Error::new(io::ErrorKind::UnexpectedEof, came.to_string())
        })
    }
}

fn parse(answer: &[u8], bodiless: bool) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let answer = Answer { status, headers, body: answer[end + 4..].to_vec() };
    let length = answer.header("content-length").and_then(|text| text.parse::<usize>().ok());
    let whole = bodiless || length.is_none_or(|length| length == answer.body.len());
    whole.then_some(answer)
}
