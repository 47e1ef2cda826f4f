//! Large `multipart/related` bodies: what is around the payload is kept, the payload is only counted and checksummed.

use bytes::BytesMut;
use hyper::HeaderMap;

use super::objects::{Received, Related};

/// A body under way.
pub(super) struct Envelope {
    closing: Vec<u8>,
    delimiter: Vec<u8>,
    /// What comes before the payload; whole once the payload has begun.
    head: BytesMut,
    begun: bool,
    payload: Received,
    /// The last bytes, which may be the end of the envelope.
    tail: BytesMut,
}

impl Envelope {
    /// An envelope, if the headers announce one.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = headers.get("content-type")?.to_str().ok()?;
        let boundary = kind.strip_prefix("multipart/related")?.split("boundary=").nth(1)?;
        let boundary = boundary.split(';').next()?.trim_matches(['"', '\'', ' ']);
        Some(Self {
            closing: format!("\r\n--{boundary}--").into_bytes(),
            delimiter: format!("--{boundary}").into_bytes(),
            head: BytesMut::new(),
            begun: false,
            payload: Received::default(),
            tail: BytesMut::new(),
        })
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        if self.begun {
            return self.payload(data);
        }
        self.head.extend_from_slice(data);
        if let Some(end) = self.end_of_head() {
            let first = self.head.split_off(end);
            self.begun = true;
            self.payload(&first);
        }
    }

    /// Behind the attributes, the second delimiter and the headers of the second part.
    fn end_of_head(&self) -> Option<usize> {
        let attributes = after(&self.head, 0, b"\r\n\r\n")?;
        let second = after(&self.head, attributes, &self.delimiter)?;
        after(&self.head, second, b"\r\n\r\n")
    }

    fn payload(&mut self, data: &[u8]) {
        // The last line break may be missing.
        let keep = self.closing.len() + 2;
        self.tail.extend_from_slice(&data[data.len().saturating_sub(keep)..]);
        let (before, rest) = data.split_at(data.len().saturating_sub(keep));
        if !before.is_empty() {
            let held = self.tail.split_to(self.tail.len() - rest.len());
            self.hash(&held);
            self.hash(before);
        }
        if self.tail.len() > keep {
            let sure = self.tail.split_to(self.tail.len() - keep);
            self.hash(&sure);
        }
    }

    fn hash(&mut self, data: &[u8]) {
        self.payload.size += data.len() as u64;
        self.payload.crc = crc32c::crc32c_append(self.payload.crc, data);
    }

    /// The attributes and the payload; nothing if the body was no such thing.
    pub(super) fn finish(mut self) -> Option<Related> {
        let end = after(&self.tail, 0, &self.closing)? - self.closing.len();
        let last = self.tail.split_to(end);
        self.hash(&last);
        let attributes = after(&self.head, 0, b"\r\n\r\n")?;
        let second = after(&self.head, attributes, &self.delimiter)? - self.delimiter.len();
        Some(Related { attributes: self.head.freeze().slice(attributes..second), payload: self.payload })
    }
}

fn after(data: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    let found = data.get(from..)?.windows(what.len()).position(|window| window == what)?;
    Some(from + found + what.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_counted_however_the_body_is_cut() {
        let payload: Vec<u8> = (0..500_u32).map(|number| (number * 7) as u8).collect();
        let mut body =
            b"--x\r\ncontent-type: application/json\r\n\r\n{\"name\":\"a\"}\r\n--x\r\ncontent-type: b\r\n\r\n".to_vec();
        body.extend_from_slice(&payload);
        body.extend_from_slice(b"\r\n--x--\r\n");
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "multipart/related; boundary=x".parse().expect("a value"));
        for piece in [1, 3, 10, 11, 64, 499, 1000] {
            let mut envelope = Envelope::of(&headers).expect("an envelope");
            body.chunks(piece).for_each(|chunk| envelope.push(chunk));
            let related = envelope.finish().expect("it is whole");
            assert_eq!((related.payload.size, related.payload.crc), (500, crc32c::crc32c(&payload)), "{piece}");
            assert_eq!(related.attributes.trim_ascii(), b"{\"name\":\"a\"}");
        }
    }
}
