use std::collections::BTreeMap;

use super::Crc32c;

/// The checksum of the whole, put together from those of the parts.
#[derive(Debug, Default)]
pub(super) struct Sums {
    so_far: Option<Crc32c>,
    next: u32,
    /// Parts that were sent before others that come before them.
    ahead: BTreeMap<u32, (Crc32c, u64)>,
}

impl Sums {
    /// The part of this number was sent.
    pub(super) fn note(&mut self, number: u32, crc: Crc32c, bytes: u64) {
        self.ahead.insert(number, (crc, bytes));
        while let Some((crc, bytes)) = self.ahead.remove(&self.next) {
            self.so_far = Some(self.so_far.map_or(crc, |so_far| so_far.combine(crc, bytes)));
            self.next += 1;
        }
    }

    /// That of all parts, once they were sent.
    pub(super) fn whole(&self) -> Crc32c {
        self.so_far.unwrap_or(Crc32c(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_in_which_parts_arrive_does_not_matter() {
        let mut sums = Sums::default();
        for (number, part) in [(2, "c"), (0, "aaa"), (3, "dd"), (1, "bb")] {
            sums.note(number, Crc32c::of(part.as_bytes()), part.len() as u64);
        }
        assert_eq!(sums.whole(), Crc32c::of(b"aaabbcdd"));
        assert_eq!(Sums::default().whole(), Crc32c::of(b""));
    }
}
