//! A look at a footer before it is decoded.
//!
//! The decoder believes what a list says of its length: one of truths, which take no byte each where they are passed
//! over, keeps it busy for minutes although the whole object has a hundred bytes. And the decoder panics over columns
//! that are nowhere.

use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};

/// Deeper than any footer goes.
const DEPTH: u32 = 32;
/// The length of the footer, and what marks it.
const END: usize = 8;

/// Refuses a footer with lists that cannot be as long as they say. One that is not here in full, or none, is for the
/// decoder to judge. `tail` is the end of an object.
///
/// The encoding is
/// [Thrift's compact protocol](https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md).
pub(super) fn check_lists(tail: &[u8]) -> Result<()> {
    let Some((before, end)) = tail.split_last_chunk::<END>() else { return Ok(()) };
    let [a, b, c, d, b'P', b'A', b'R', b'1'] = *end else { return Ok(()) };
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let Some(start) = before.len().checked_sub(length) else { return Ok(()) };
    let mut footer = Footer(&before[start..]);
    footer.structure(DEPTH).ok_or_else(|| ParquetError::General("the footer makes no sense".to_owned()))
}

/// Refuses columns that are not within an object of so many bytes.
pub(super) fn check_columns(metadata: &ParquetMetaData, size: u64) -> Result<()> {
    let end = |column: &ColumnChunkMetaData| {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let bytes = u64::try_from(column.compressed_size()).ok()?;
        u64::try_from(start).ok()?.checked_add(bytes)
    };
    let is_within = |column: &ColumnChunkMetaData| {
        let counts = [column.num_values(), column.uncompressed_size(), column.data_page_offset()];
        counts.iter().all(|count| *count >= 0) && end(column).is_some_and(|end| end <= size)
    };
    let is_sound = |group: &RowGroupMetaData| group.num_rows() >= 0 && group.columns().iter().all(is_within);
    match metadata.row_groups().iter().all(is_sound) {
        true => Ok(()),
        false => Err(ParquetError::General("a column lies outside the object".to_owned())),
    }
}

/// What is left of a footer. `None` is what makes no sense.
struct Footer<'a>(&'a [u8]);

impl Footer<'_> {
    fn skip(&mut self, count: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.0.first()?;
        self.skip(1)?;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for place in 0..10 {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn structure(&mut self, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            if head >> 4 == 0 {
                // The number of the field, which is otherwise the distance to the one before.
                self.number()?;
            }
            match head & 0x0f {
                // A truth is in the type of its field.
                1 | 2 => {}
                kind => self.value(kind, depth)?,
            }
        }
    }

    fn value(&mut self, kind: u8, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            3 => self.skip(1),
            4..=6 => self.number().map(drop),
            7 => self.skip(8),
            8 => {
                let bytes = self.number()?;
                self.skip(bytes)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.number()? } else { u64::from(head >> 4) };
                self.values(count, &[head & 0x0f], depth)
            }
            11 => {
                let count = self.number()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                self.values(count, &[kinds >> 4, kinds & 0x0f], depth)
            }
            12 => self.structure(depth),
            13 => self.skip(16),
            _ => None,
        }
    }

    /// So many times values of these kinds, of which truths make none: no footer has a list of them.
    fn values(&mut self, count: u64, kinds: &[u8], depth: u32) -> Option<()> {
        if count > self.0.len() as u64 {
            return None;
        }
        for _ in 0..count {
            for kind in kinds {
                self.value(*kind, depth)?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(footer: &[u8]) -> Vec<u8> {
        let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
        [b"PAR1", footer, &length, b"PAR1"].concat()
    }

    #[test]
    fn a_list_longer_than_its_footer_is_refused_before_anybody_counts_it() {
        // Field 1: a list of 2, of numbers; then the end.
        assert!(check_lists(&object(&[0x19, 0x25, 2, 4, 0])).is_ok());
        // A list of 2^31 - 1 truths, and one of as many numbers.
        for kind in [1, 5] {
            let list = [0x19, 0xf0 | kind, 0xff, 0xff, 0xff, 0xff, 0x07, 0];
            assert!(check_lists(&object(&list)).is_err(), "{kind}");
        }
        // Lists in lists, deeper than anything.
        assert!(check_lists(&object(&[[0x19].repeat(100), vec![0]].concat())).is_err());
        // What is not here in full, or no footer, is not judged.
        assert!(check_lists(b"PAR1").is_ok() && check_lists(&object(&[0x19, 0x25, 2, 4, 0])[8..]).is_ok());
    }
}
