use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};

use super::reading::Reading;
use super::{Meter, ObjectMeta};
use crate::files::Target;
use crate::{Error, ErrorKind, Result};

/// The bytes of an object as they arrive. A slow reader slows the sender down.
pub struct ByteStream(Source);

enum Source {
    Chunks(BoxStream<'static, Result<Bytes>>),
    /// As a provider's answer brings them.
    Answer(Box<Reading>),
    Pieces(Box<dyn Placeable>),
    /// Between the two.
    Turning,
}

/// Bytes of which nothing has been taken yet, so that they may still come in any order.
pub(crate) trait Placeable: Send {
    /// The bytes in order.
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<Bytes>>;

    /// All the bytes, read straight into one allocation.
    fn into_memory(self: Box<Self>) -> BoxFuture<'static, Result<Bytes>>;

    /// Writes the bytes to the beginning of a file.
    fn into_file<'a>(self: Box<Self>, file: Target, meter: &'a mut Meter) -> BoxFuture<'a, Result<()>>;
}

impl ByteStream {
    /// Wraps a stream of chunks.
    pub fn new(stream: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        Self(Source::Chunks(stream.boxed()))
    }

    #[cfg_attr(not(any(feature = "aws", feature = "gcp")), allow(dead_code, reason = "for providers over a network"))]
    pub(crate) fn answer(reading: Reading) -> Self {
        Self(Source::Answer(Box::new(reading)))
    }

    /// The same bytes, which the caller will check: an answer does not sum them too.
    pub(crate) fn unchecked(self) -> Self {
        match self.0 {
            Source::Answer(reading) => Self(Source::Answer(Box::new(reading.unchecked()))),
            _ => self,
        }
    }

    /// What may come in any order, or the stream as it is.
    pub(crate) fn into_pieces(self) -> std::result::Result<Box<dyn Placeable>, Self> {
        match self.0 {
            Source::Pieces(pieces) => Ok(pieces),
            other => Err(Self(other)),
        }
    }

    pub(crate) fn placeable(pieces: impl Placeable + 'static) -> Self {
        Self(Source::Pieces(Box::new(pieces)))
    }

    /// A stream of one chunk, or of none if it is empty.
    #[must_use]
    pub fn once(bytes: Bytes) -> Self {
        Self::new(futures_util::stream::iter((!bytes.is_empty()).then_some(Ok(bytes))))
    }
}

impl ByteStream {
    /// Writes all that comes to the beginning of a file, in large pieces.
    pub(crate) async fn into_file(self, file: Target, meter: &mut Meter) -> Result<()> {
        let mut chunks = match self.0 {
            Source::Pieces(pieces) => return pieces.into_file(file, meter).await,
            other => Self(other),
        };
        let mut writing = file.writing(0);
        while let Some(chunk) = chunks.try_next().await? {
            let bytes = chunk.len() as u64;
            writing.push(chunk).await?;
            meter.add(bytes);
        }
        writing.finish().await.map(drop)
    }
}

impl Stream for ByteStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut self.0 {
                Source::Chunks(chunks) => return chunks.as_mut().poll_next(cx),
                Source::Answer(reading) => return Pin::new(reading).poll_next(cx),
                Source::Turning => return Poll::Ready(None),
                Source::Pieces(_) => {
                    if let Source::Pieces(pieces) = std::mem::replace(&mut self.0, Source::Turning) {
                        self.0 = Source::Chunks(pieces.into_stream());
                    }
                }
            }
        }
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByteStream")
    }
}

/// An object, or a range of it, being read.
#[derive(Debug)]
pub struct GetResult {
    /// What the store tells of the whole object.
    pub meta: ObjectMeta,
    /// Which of its bytes come.
    pub range: Range<u64>,
    /// The bytes.
    pub body: ByteStream,
}

impl GetResult {
    /// All the bytes that come, in one buffer.
    ///
    /// # Errors
    /// `Corrupt` if fewer or more came than announced; and those of the stream.
    pub async fn bytes(mut self) -> Result<Bytes> {
        let expected = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        if let Source::Pieces(pieces) = self.body.0 {
            let all = pieces.into_memory().await?;
            return if all.len() == expected {
                Ok(all)
            } else {
                let message = format!("{} bytes came where {expected} were announced", all.len());
                Err(Error::new(ErrorKind::Corrupt, "object_store.get", &self.meta.key, message))
            };
        }
        let Some(first) = self.body.try_next().await? else {
            return if expected == 0 { Ok(Bytes::new()) } else { Err(self.short(0)) };
        };
        let mut next = self.body.try_next().await?;
        if next.is_none() {
            return if first.len() == expected { Ok(first) } else { Err(self.short(first.len())) };
        }
        let mut all = BytesMut::with_capacity(expected);
        all.extend_from_slice(&first);
        while let Some(chunk) = next {
            all.extend_from_slice(&chunk);
            next = self.body.try_next().await?;
        }
        if all.len() == expected { Ok(all.freeze()) } else { Err(self.short(all.len())) }
    }

    fn short(&self, got: usize) -> Error {
        let message = format!("{got} bytes came where {} were announced", self.range.end - self.range.start);
        Error::new(ErrorKind::Corrupt, "object_store.get", &self.meta.key, message)
    }
}
