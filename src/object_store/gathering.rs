use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use tokio::io::AsyncRead;

use super::Payload;
use crate::transfer::{Pool, Pooled};

/// What is at least so long is kept as it was given, and what is shorter copied together: many short pieces would take
/// more memory than their bytes, and more calls to send.
pub(super) const KEPT_BYTES: usize = 64 * 1024;
/// Up to here a buffer grows as it fills, because the object may end.
const SMALL_BYTES: usize = 256 * 1024;

/// A part may be longer by this fraction.
const SURPLUS: u64 = 4;

/// Where a part may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cutting {
    Anywhere,
    Exact,
}

/// The bytes of an object that wait to be sent, in order.
#[derive(Debug)]
pub(super) struct Gathering {
    pieces: VecDeque<Bytes>,
    /// The bytes of the pieces.
    bytes: u64,
    /// The bytes that were taken out.
    cut: u64,
    /// What was copied last, behind the pieces.
    buffer: Pooled,
    buffer_bytes: usize,
    pool: Pool,
}

impl Gathering {
    /// Copies into buffers of so many bytes.
    pub(super) fn new(buffer_bytes: usize) -> Self {
        let pool = Pool::default();
        let buffer = pool.buffer(0);
        Self { pieces: VecDeque::new(), bytes: 0, cut: 0, buffer, buffer_bytes: buffer_bytes.max(1), pool }
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes + self.buffer.len() as u64
    }

    /// How many bytes there ever were.
    pub(super) fn taken(&self) -> u64 {
        self.cut + self.len()
    }

    /// Takes bytes from the beginning, up to so many.
    pub(super) fn take(&mut self, bytes: &mut Bytes, most: u64) {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
        if self.buffer.is_empty() && most >= KEPT_BYTES {
            self.keep(bytes.split_to(most));
            return;
        }
        let taken = bytes.split_to(most.min(self.room()));
        self.buffer.append(&taken);
        self.keep_full();
    }

    /// Takes what the reader gives at once, up to so many bytes, and says how many they were.
    pub(super) async fn fill<R: AsyncRead + Unpin>(&mut self, reader: &mut R, most: u64) -> io::Result<usize> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.room());
        let read = self.buffer.receive(reader, most).await;
        self.keep_full();
        read
    }

    /// How much the buffer still takes. It is made at once where the object is no small one.
    fn room(&mut self) -> usize {
        if self.bytes > 0 || self.buffer.len() >= SMALL_BYTES.min(self.buffer_bytes) {
            self.buffer.reserve_in_all(self.buffer_bytes);
        }
        self.buffer_bytes - self.buffer.len()
    }

    fn keep_full(&mut self) {
        if self.buffer.len() >= self.buffer_bytes {
            self.keep_buffer();
        }
    }

    fn keep_buffer(&mut self) {
        if !self.buffer.is_empty() {
            let full = std::mem::replace(&mut self.buffer, self.pool.buffer(0));
            self.keep(full.freeze());
        }
    }

    fn keep(&mut self, piece: Bytes) {
        self.bytes += piece.len() as u64;
        self.pieces.push_back(piece);
    }

    /// How long a part of about so many bytes would be now; `None` if it is not full yet. A part ends where a piece does,
    /// if that makes it little longer, because a piece in two parts is held as long as both; or `exact` where it has to.
    pub(super) fn full(&self, bytes: u64, cutting: Cutting) -> Option<u64> {
        if cutting == Cutting::Exact {
            return (self.len() >= bytes).then_some(bytes);
        }
        let mut sum = 0;
        let reached = self.pieces.iter().any(|piece| {
            sum += piece.len() as u64;
            sum >= bytes
        });
        let most = bytes + bytes / SURPLUS;
        reached.then_some(if sum <= most { sum } else { bytes })
    }

    /// Takes the first so many bytes out, or all if there are fewer.
    pub(super) fn cut(&mut self, bytes: u64) -> Payload {
        if self.bytes < bytes {
            self.keep_buffer();
        }
        let mut left = usize::try_from(bytes.min(self.bytes)).unwrap_or(usize::MAX);
        self.bytes -= left as u64;
        self.cut += left as u64;
        let next = || {
            let mut piece = if left > 0 { self.pieces.pop_front()? } else { return None };
            if piece.len() > left {
                self.pieces.push_front(piece.split_off(left));
            }
            left -= piece.len();
            Some(piece)
        };
        std::iter::from_fn(next).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUFFER: usize = 100_000;

    #[test]
    fn long_pieces_are_kept_and_short_ones_copied_together() {
        let mut gathering = Gathering::new(BUFFER);
        let long = Bytes::from(vec![7; 2 * KEPT_BYTES]);
        gathering.take(&mut long.clone(), u64::MAX);
        for _ in 0..100 {
            let mut short = Bytes::from_static(&[8; 3_000]);
            while !short.is_empty() {
                gathering.take(&mut short, u64::MAX);
            }
        }
        assert_eq!(gathering.len(), 2 * KEPT_BYTES as u64 + 300_000);
        let all = gathering.cut(u64::MAX);
        assert_eq!(all.pieces()[0].as_ptr(), long.as_ptr());
        assert_eq!(all.pieces().len(), 1 + 3);
        assert_eq!(gathering.len(), 0);
    }

    #[test]
    fn a_part_ends_where_a_piece_does_unless_that_is_far_off() {
        let mut gathering = Gathering::new(BUFFER);
        let take = |gathering: &mut Gathering, length| gathering.take(&mut Bytes::from(vec![7; length]), u64::MAX);
        take(&mut gathering, 300_000);
        assert_eq!(gathering.full(400_000, Cutting::Anywhere), None);
        take(&mut gathering, 200_000);
        assert_eq!(gathering.full(400_000, Cutting::Anywhere), Some(500_000));
        assert_eq!(gathering.full(400_000, Cutting::Exact), Some(400_000));
        assert_eq!(gathering.full(310_000, Cutting::Anywhere), Some(310_000));
        take(&mut gathering, 99_999);
        take(&mut gathering, 10);
        assert_eq!(gathering.full(600_000, Cutting::Anywhere), None, "the buffer is not full");
        assert_eq!(gathering.full(600_000, Cutting::Exact), Some(600_000));
    }

    #[test]
    fn what_is_cut_comes_in_order_and_no_byte_is_lost() {
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for (piece, cut) in [(1_000, 64 * 1024), (70_000, 100_000), (1 << 19, 1 << 18), (99_999, 333)] {
            let (mut gathering, mut out) = (Gathering::new(BUFFER), Vec::new());
            for chunk in bytes.chunks(piece) {
                let mut chunk = Bytes::copy_from_slice(chunk);
                while !chunk.is_empty() {
                    gathering.take(&mut chunk, 50_000);
                    while gathering.len() >= cut {
                        let part = gathering.cut(cut);
                        assert_eq!(part.len(), cut);
                        out.extend_from_slice(&part.into_bytes());
                    }
                }
            }
            out.extend_from_slice(&gathering.cut(u64::MAX).into_bytes());
            assert!(out == bytes, "{piece}, {cut}");
        }
    }
}
