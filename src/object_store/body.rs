use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};

use super::ObjectMeta;
use crate::{Error, ErrorKind, Result};

/// The bytes of an object as they arrive. A slow reader slows the sender down.
pub struct ByteStream(BoxStream<'static, Result<Bytes>>);

impl ByteStream {
    /// Wraps a stream of chunks.
    pub fn new(stream: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        Self(stream.boxed())
    }

    /// A stream of one chunk, or of none if it is empty.
    #[must_use]
    pub fn once(bytes: Bytes) -> Self {
        Self::new(futures_util::stream::iter((!bytes.is_empty()).then_some(Ok(bytes))))
    }
}

impl Stream for ByteStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
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
