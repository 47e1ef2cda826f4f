use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use super::ListEntry;
use crate::Result;

/// A listing that comes page by page.
pub(crate) trait Pages: Send + 'static {
    /// Fetches the next page; `None` after the last one.
    fn turn(&mut self) -> impl Future<Output = Result<Option<Vec<ListEntry>>>> + Send;
}

/// The entries of all pages; after an error there is none.
pub(crate) fn entries(pages: impl Pages) -> BoxStream<'static, Result<ListEntry>> {
    stream::try_unfold(pages, |mut pages| async move { Ok(pages.turn().await?.map(|page| (page, pages))) })
        .map_ok(|page| stream::iter(page).map(Ok))
        .try_flatten()
        .boxed()
}
