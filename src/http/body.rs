use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::Failure;
use crate::retry::Activity;

/// The body of a request: pieces that are sent one after the other without being copied together. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestBody {
    pieces: VecDeque<Bytes>,
    left: u64,
    activity: Activity,
}

/// What goes to the connection at once: few enough that a slow one shows signs of life.
const FRAME_BYTES: usize = 256 * 1024;

impl RequestBody {
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    pub(crate) fn of(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces: VecDeque<_> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces, left, activity: Activity::default() }
    }

    /// Tells how it is getting on.
    pub(crate) fn watched(self, activity: Activity) -> Self {
        Self { activity, ..self }
    }

    pub(crate) fn len(&self) -> u64 {
        self.left
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // Asked for more, the connection has taken what came before.
        self.activity.note();
        let frame = match self.pieces.front_mut() {
            Some(piece) if piece.len() > FRAME_BYTES => Some(piece.split_to(FRAME_BYTES)),
            _ => self.pieces.pop_front(),
        };
        Poll::Ready(frame.map(|frame| {
            self.left -= frame.len() as u64;
            Ok(Frame::data(frame))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The body of an answer: its bytes as they arrive, and nothing more after an error.
pub(crate) struct AnswerBody {
    announced: Option<u64>,
    body: Incoming,
    ended: bool,
}

impl AnswerBody {
    pub(super) fn new(body: Incoming) -> Self {
        Self { announced: body.size_hint().exact(), body, ended: false }
    }

    /// The length by `Content-Length`.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.announced
    }

    pub(super) async fn collect(mut self, limit: usize) -> Result<Bytes, Failure> {
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.next().await {
            let chunk = chunk?;
            if first.len().max(whole.len()) + chunk.len() > limit {
                return Err(Failure::nonsense("the answer is longer than any that makes sense"));
            }
            if first.is_empty() {
                first = chunk;
                continue;
            }
            if whole.is_empty() {
                let announced = self.announced.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default();
                whole.reserve(announced.min(limit));
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&chunk);
        }
        let whole = if whole.is_empty() { first } else { whole.freeze() };
        match self.announced {
            Some(announced) if announced != whole.len() as u64 => {
                Err(Failure::nonsense("the answer is not as long as it said"))
            }
            _ => Ok(whole),
        }
    }
}

impl Stream for AnswerBody {
    type Item = Result<Bytes, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.ended {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => self.ended = true,
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(Failure::lost("the connection broke within the answer", error))));
                }
                Some(Ok(frame)) => {
                    // Otherwise trailers.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
        Poll::Ready(None)
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody").field("announced", &self.announced).finish_non_exhaustive()
    }
}
