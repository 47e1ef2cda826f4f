use std::fmt;

use bytes::{Bytes, BytesMut};

use super::Crc32c;

/// Bytes in pieces, which are sent one after the other without being copied together. Cheap to clone.
#[derive(Clone, Default)]
pub struct Payload {
    pieces: Vec<Bytes>,
    len: u64,
}

impl Payload {
    /// How many bytes there are in all.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, none of which is empty.
    #[must_use]
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// The checksum of all.
    #[must_use]
    pub fn crc32c(&self) -> Crc32c {
        self.pieces.iter().fold(Crc32c(0), |crc, piece| crc.append(piece))
    }

    /// All in one piece, for which they are copied unless they are one.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        match self.pieces.len() {
            0 | 1 => self.pieces.pop().unwrap_or_default(),
            _ => self.pieces.concat().into(),
        }
    }
}

impl FromIterator<Bytes> for Payload {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        let pieces: Vec<_> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        let len = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces, len }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::from_iter([bytes])
    }
}

impl From<BytesMut> for Payload {
    fn from(bytes: BytesMut) -> Self {
        bytes.freeze().into()
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

/// The length and not the bytes, which may be secret.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_one_sequence_of_bytes_and_are_not_shown() {
        let payload: Payload = ["he", "", "llo"].into_iter().map(Bytes::from).collect();
        assert_eq!((payload.len(), payload.pieces().len()), (5, 2));
        assert_eq!(payload.crc32c(), Crc32c::of(b"hello"));
        assert!(!format!("{payload:?}").contains("llo"));
        assert_eq!(payload.into_bytes(), "hello");
        assert!(Payload::from("").is_empty() && Payload::default().into_bytes().is_empty());
    }
}
