//! HTTP as the servers of this lane read and write it.

use std::collections::BTreeMap;

use bytes::Bytes;

pub(super) struct Request {
    pub(super) method: String,
    /// Decoded, without the first slash.
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

impl Request {
    /// A whole request; `None` for half a one, which no server would act on.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs =
            query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let header =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        let request = Self {
            method,
            path: percent_encoding::percent_decode_str(path.trim_start_matches('/')).decode_utf8_lossy().into_owned(),
            query: pairs.map(|(name, value)| (decoded(name), decoded(value))).collect(),
            headers: lines.filter_map(header).collect(),
            body: Bytes::copy_from_slice(&bytes[end + 4..]),
        };
        let length = request.header("content-length").map_or(Some(0), |length| length.parse().ok())?;
        (request.body.len() == length).then_some(request)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

pub(super) fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let length =
        if matches!(status, 204 | 304) { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let mut all = format!("HTTP/1.1 {status} Said\r\n{length}{headers}connection: close\r\n\r\n").into_bytes();
    all.extend_from_slice(body);
    all
}

pub(super) fn xml(status: u16, body: &str) -> Vec<u8> {
    answer(status, "content-type: application/xml\r\n", body.as_bytes())
}
