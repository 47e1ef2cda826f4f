use async_trait::async_trait;
use futures_util::future::BoxFuture;

use super::{Crc32c, PartRules, Payload, PutResult, Upload};
use crate::Result;
use crate::retry::Retrier;

/// An upload each of whose parts, and whose end, is a call of its own and ends at one deadline.
#[derive(Debug)]
pub(crate) struct TimedUpload {
    inner: Box<dyn Upload>,
    retrier: Retrier,
}

impl TimedUpload {
    pub(crate) fn new(inner: Box<dyn Upload>, retrier: &Retrier) -> Self {
        Self { inner, retrier: retrier.clone() }
    }
}

#[async_trait]
impl Upload for TimedUpload {
    fn rules(&self) -> PartRules {
        self.inner.rules()
    }

    fn put_part(&mut self, part: Payload) -> BoxFuture<'static, Result<Crc32c>> {
        let (sending, retrier) = (self.inner.put_part(part), self.retrier.clone());
        // Its time begins when it does, which may be long after it was made.
        Box::pin(async move { retrier.one_call(sending).await })
    }

    fn setbacks(&self) -> u64 {
        self.inner.setbacks()
    }

    async fn finish(self: Box<Self>, crc32c: Crc32c) -> Result<PutResult> {
        self.retrier.one_call(self.inner.finish(crc32c)).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.retrier.one_call(self.inner.abort()).await
    }
}
