use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::{read, retry_on_intr};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The buffers of one transfer, used again once the reader is done with what they held: a large object then costs the
/// pages of the budget and not those of its whole length, and no more memory than was planned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    /// An empty buffer with room for so many bytes.
    pub(crate) fn buffer(&self, bytes: usize) -> Pooled {
        let mut contents = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        contents.reserve_exact(bytes);
        Pooled { contents, pool: self.clone() }
    }
}

/// A buffer that goes back to its pool when it is dropped.
#[derive(Debug)]
pub(crate) struct Pooled {
    contents: Vec<u8>,
    pool: Pool,
}

impl Pooled {
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.contents.extend_from_slice(bytes);
    }

    /// Fills the room that there is from a file, as far as that goes.
    pub(crate) fn fill_from(&mut self, file: impl AsFd) -> std::io::Result<()> {
        while self.contents.len() < self.contents.capacity() {
            if retry_on_intr(|| read(&file, spare_capacity(&mut self.contents)))? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Appends what the reader gives at once, up to so many bytes.
    pub(crate) async fn receive<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        most: usize,
    ) -> std::io::Result<usize> {
        reader.take(most as u64).read_buf(&mut self.contents).await
    }

    pub(crate) fn len(&self) -> usize {
        self.contents.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// Makes room for so many bytes in all, at once rather than by doubling, which moves everything each time.
    pub(crate) fn reserve_in_all(&mut self, bytes: usize) {
        self.contents.reserve_exact(bytes.saturating_sub(self.contents.len()));
    }

    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.contents
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let mut contents = std::mem::take(&mut self.contents);
        contents.clear();
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(contents);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_its_reader_is_done() {
        let pool = Pool::default();
        let mut buffer = pool.buffer(1000);
        buffer.append(b"first");
        let first = buffer.freeze();
        let place = first.as_ptr();
        let half = first.slice(..2);
        drop(first);
        assert_ne!(pool.buffer(1000).contents.as_ptr(), place, "half of it is still read");
        drop(half);
        let again = pool.buffer(1000);
        assert!(again.contents.is_empty());
        assert_eq!(again.contents.as_ptr(), place);
    }
}
