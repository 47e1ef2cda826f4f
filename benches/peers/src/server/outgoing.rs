use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::objects::State;
use super::pace::{Direction, Pace};

const FRAME: usize = 64 << 10;
const UNLIMITED_FRAME: usize = 1 << 20;

/// The body of an answer, counted as it leaves.
pub(super) struct Outgoing {
    data: Bytes,
    counted: Option<(Arc<State>, Arc<Pace>)>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Outgoing {
    pub(super) fn uncounted(data: Bytes) -> Self {
        Self { data, counted: None, waiting: None }
    }

    pub(super) fn counted(data: Bytes, state: &Arc<State>, pace: &Arc<Pace>) -> Self {
        Self { data, counted: Some((Arc::clone(state), Arc::clone(pace))), waiting: None }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        if self.data.is_empty() {
            return Poll::Ready(None);
        }
        let limited = self.counted.as_ref().is_some_and(|(_, pace)| pace.limited());
        let length = self.data.len().min(if limited { FRAME } else { UNLIMITED_FRAME });
        let piece = self.data.split_to(length);
        let waiting = self.counted.as_ref().and_then(|(state, pace)| {
            state.sent.fetch_add(length as u64, Ordering::Relaxed);
            pace.limited().then(|| Box::pin(tokio::time::sleep_until(pace.reserve(Direction::Down, length))))
        });
        self.waiting = waiting;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.waiting.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.len() as u64)
    }
}
