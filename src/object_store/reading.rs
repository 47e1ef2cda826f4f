//! The body of one answer on its way: what every provider that reads over a network has to watch.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{ByteRange, Crc32c};
use crate::retry::later;
use crate::{Error, ErrorKind, Result};

const GET: &str = "object_store.get";

/// What an answer says about the bytes that it brings.
pub(crate) struct Announced {
    /// How many bytes come.
    pub(crate) bytes: u64,
    /// The checksum of all of them, where there is one.
    pub(crate) crc32c: Option<Crc32c>,
    /// How long to wait for the next byte.
    pub(crate) patience: Duration,
    pub(crate) subject: String,
}

/// Bytes that are counted and summed as they come, and given up when none come.
pub(crate) struct Reading {
    /// Errors are in the words of the contract already.
    chunks: BoxStream<'static, Result<Bytes>>,
    left: u64,
    so_far: Crc32c,
    expected: Option<Crc32c>,
    patience: Duration,
    subject: String,
    /// When the present silence is too long.
    deadline: Option<Instant>,
    /// Left standing while bytes come and set anew when it goes off: there is no timer work for each of them.
    alarm: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Reading {
    pub(crate) fn new(chunks: impl Stream<Item = Result<Bytes>> + Send + 'static, announced: Announced) -> Self {
        let Announced { bytes, crc32c, patience, subject } = announced;
        Self {
            chunks: chunks.boxed(),
            left: bytes,
            so_far: Crc32c(0),
            expected: crc32c,
            patience,
            subject,
            deadline: None,
            alarm: None,
            ended: false,
        }
    }

    /// The same without the check of the checksum, for who checks a larger whole.
    pub(super) fn unchecked(self) -> Self {
        Self { expected: None, ..self }
    }

    fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, GET, &self.subject, message)
    }

    fn judge(&mut self, came: Option<Result<Bytes>>) -> Option<Result<Bytes>> {
        let chunk = match came {
            Some(Ok(chunk)) => chunk,
            None if self.left > 0 => {
                let message = format!("the body ended with {} bytes still to come", self.left);
                return Some(Err(self.error(ErrorKind::Unavailable, message)));
            }
            other => return other,
        };
        let Some(left) = self.left.checked_sub(chunk.len() as u64) else {
            return Some(Err(self.error(ErrorKind::Corrupt, "more bytes came than were announced")));
        };
        self.left = left;
        if let Some(expected) = self.expected {
            self.so_far = self.so_far.append(&chunk);
            // Judged before the last chunk is handed out: readers stop when they have all bytes.
            if left == 0 && self.so_far != expected {
                return Some(Err(mismatch(&self.subject)));
            }
        }
        Some(Ok(chunk))
    }

    /// Ready once the silence has lasted too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.deadline.get_or_insert_with(|| later(Instant::now(), self.patience));
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            ready!(alarm.as_mut().poll(cx));
            if alarm.deadline() >= deadline {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(deadline);
        }
    }
}

impl Stream for Reading {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let judged = match self.chunks.as_mut().poll_next(cx) {
            Poll::Ready(came) => self.judge(came),
            Poll::Pending => {
                ready!(self.poll_silence(cx));
                let message = format!("no byte came for {} seconds", self.patience.as_secs());
                Some(Err(self.error(ErrorKind::Unavailable, message)))
            }
        };
        self.deadline = None;
        self.ended = !matches!(judged, Some(Ok(_)));
        Poll::Ready(judged)
    }
}

/// Bytes that are not those of the checksum.
pub(crate) fn mismatch(subject: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, GET, subject, "the bytes that came do not match the stored checksum")
}

/// Which bytes of how many an answer brings, by its `Content-Range` and its length, checked against what was asked.
pub(crate) fn answered_range(
    content_range: Option<&str>,
    bytes: u64,
    asked: Option<ByteRange>,
    subject: &str,
) -> Result<(Range<u64>, u64)> {
    let error = |kind, message: String| Error::new(kind, GET, subject, message);
    let (range, size) = match content_range.map(parse_content_range) {
        Some(Some((range, size))) if range.end - range.start == bytes => (range, size),
        Some(_) => return Err(error(ErrorKind::Internal, "the answer's range makes no sense".to_owned())),
        None => (0..bytes, bytes),
    };
    match asked.map(|asked| asked.resolve(size)) {
        None => Ok((range, size)),
        Some(Some(expected)) if expected == range => Ok((range, size)),
        Some(Some(expected)) => {
            Err(error(ErrorKind::Internal, format!("bytes {expected:?} were asked for and {range:?} came")))
        }
        Some(None) => Err(error(ErrorKind::RangeNotSatisfiable, "the range starts at or past the end".to_owned())),
    }
}

/// `bytes 2-5/10` as the range and the size of the whole.
fn parse_content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, size.parse().ok()?);
    (first <= last && last < size).then_some((first..last + 1, size))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn reading(chunks: impl Stream<Item = Result<Bytes>> + Send + 'static, bytes: u64, of: &[u8]) -> Reading {
        let announced = Announced {
            bytes,
            crc32c: Some(Crc32c::of(of)),
            patience: Duration::from_secs(30),
            subject: "s3://b/k".to_owned(),
        };
        Reading::new(chunks, announced)
    }

    fn chunks(texts: &'static [&'static str]) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        stream::iter(texts).map(|text| Ok(Bytes::from_static(text.as_bytes())))
    }

    async fn end(mut reading: Reading) -> (usize, Option<ErrorKind>) {
        let mut bytes = 0;
        while let Some(chunk) = reading.next().await {
            match chunk {
                Ok(chunk) => bytes += chunk.len(),
                Err(error) => return (bytes, Some(error.kind())),
            }
        }
        (bytes, None)
    }

    #[tokio::test]
    async fn what_was_announced_and_stored_comes_whole() {
        assert_eq!(end(reading(chunks(&["ab", "cd"]), 4, b"abcd")).await, (4, None));
    }

    #[tokio::test]
    async fn fewer_more_or_other_bytes_are_not_taken_for_the_object() {
        assert_eq!(end(reading(chunks(&["ab"]), 4, b"abcd")).await, (2, Some(ErrorKind::Unavailable)));
        assert_eq!(end(reading(chunks(&["ab", "cde"]), 4, b"abcd")).await, (2, Some(ErrorKind::Corrupt)));
        // Before the last byte is handed out.
        assert_eq!(end(reading(chunks(&["ab", "cx"]), 4, b"abcd")).await, (2, Some(ErrorKind::Corrupt)));
        assert_eq!(end(reading(chunks(&["ab", "cx"]), 4, b"abcd").unchecked()).await, (4, None));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_the_reading_and_slowness_does_not() {
        let slow = stream::iter(["a", "b", "c", "d"]).then(|text| async move {
            tokio::time::sleep(Duration::from_secs(29)).await;
            Ok(Bytes::from_static(text.as_bytes()))
        });
        assert_eq!(end(reading(slow, 4, b"abcd")).await, (4, None));
        let begun = Instant::now();
        let silent = chunks(&["a"]).chain(stream::pending());
        assert_eq!(end(reading(silent, 4, b"abcd")).await, (1, Some(ErrorKind::Unavailable)));
        assert_eq!(begun.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_its_time_is_not_silence() {
        let mut reading = reading(chunks(&["a"]).chain(stream::pending()), 2, b"ab");
        reading.next().await.unwrap().unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(1), reading.next()).await.is_err());
        assert!(tokio::time::timeout(Duration::from_secs(28), reading.next()).await.is_err());
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(tokio::time::timeout(Duration::from_millis(400), reading.next()).await.is_err());
    }

    #[test]
    fn content_ranges_are_read_and_nonsense_is_not() {
        assert_eq!(parse_content_range("bytes 2-5/10"), Some((2..6, 10)));
        for text in ["bytes 5-2/10", "bytes 0-10/10", "bytes */10", "2-5/10", "bytes 0-1/*"] {
            assert_eq!(parse_content_range(text), None, "{text}");
        }
    }

    #[test]
    fn an_answer_must_bring_what_was_asked_for() {
        let kind = |text, bytes, asked| answered_range(text, bytes, asked, "s3://b/k").map_err(|error| error.kind());
        let asked = Some(ByteRange::Bounded(2, 6));
        assert_eq!(kind(Some("bytes 2-5/10"), 4, asked), Ok((2..6, 10)));
        assert_eq!(kind(Some("bytes 2-5/10"), 3, asked), Err(ErrorKind::Internal));
        assert_eq!(kind(Some("bytes 1-4/10"), 4, asked), Err(ErrorKind::Internal));
        assert_eq!(kind(None, 10, asked), Err(ErrorKind::Internal));
        assert_eq!(kind(None, 2, asked), Err(ErrorKind::RangeNotSatisfiable));
        assert_eq!(kind(None, 10, None), Ok((0..10, 10)));
    }
}
