//! What one file holds: the object's bytes, then a record of all that is known of them, then a footer that says how
//! long the record is. One rename publishes the bytes and the record together.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::object_store::{ContentHeaders, Crc32c, Metadata, ObjectMeta, PutResult, Version};
use crate::{ObjectKey, PutOptions, WriteId, random};

/// The name under which this provider's versions go.
pub(super) const PROVIDER: &str = "local";
/// The footer: the CRC32C of the record, its length, and this.
const MAGIC: &[u8; 8] = b"anycobj1";
const FOOTER_BYTES: usize = 16;
/// More than the record of the longest key, headers and metadata takes; what says that it is longer is damaged.
const MAX_TRAILER_BYTES: usize = 16 << 20;
/// How much is read from the end at first: nearly every record fits.
const TAIL_BYTES: u64 = 4096;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    key: ObjectKey,
    version: String,
    /// Nanoseconds since 1970.
    modified: u64,
    size: u64,
    crc32c: u32,
    write_id: Option<WriteId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_encoding: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_disposition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_language: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache_control: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    storage_class: Option<String>,
}

/// Why a file cannot be read as an object.
#[derive(Debug)]
pub(super) enum Unreadable {
    Io(std::io::Error),
    Damaged(&'static str),
}

impl From<std::io::Error> for Unreadable {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl Record {
    /// A record of a new version, which nobody can guess.
    pub(super) fn new(key: &ObjectKey, size: u64, crc32c: Crc32c, options: &PutOptions) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ContentHeaders { content_type, content_encoding, content_disposition, content_language, cache_control } =
            options.headers.clone();
        Self {
            key: key.clone(),
            version: random::hex(&random::bytes::<16>()),
            modified: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
            size,
            crc32c: crc32c.0,
            write_id: Some(options.write_id.clone().unwrap_or_else(WriteId::random)),
            content_type,
            content_encoding,
            content_disposition,
            content_language,
            cache_control,
            metadata: options.metadata.to_wire().map(|(key, value)| (key.to_owned(), value)).collect(),
            storage_class: options.storage_class.clone(),
        }
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn crc32c(&self) -> Crc32c {
        Crc32c(self.crc32c)
    }

    pub(super) fn write_id(&self) -> Option<&WriteId> {
        self.write_id.as_ref()
    }

    pub(super) fn storage_class(&self) -> Option<&String> {
        self.storage_class.as_ref()
    }

    pub(super) fn put_result(&self) -> PutResult {
        PutResult {
            version: Version::new(PROVIDER, &self.version),
            write_id: self.write_id.clone().unwrap_or_else(WriteId::random),
            crc32c: Some(self.crc32c()),
        }
    }

    pub(super) fn into_meta(self) -> ObjectMeta {
        ObjectMeta {
            version: Version::new(PROVIDER, &self.version),
            last_modified: UNIX_EPOCH + Duration::from_nanos(self.modified),
            crc32c: Some(self.crc32c()),
            headers: ContentHeaders {
                content_type: self.content_type,
                content_encoding: self.content_encoding,
                content_disposition: self.content_disposition,
                content_language: self.content_language,
                cache_control: self.cache_control,
            },
            metadata: Metadata::from_wire(self.metadata),
            write_id: self.write_id,
            storage_class: self.storage_class,
            key: self.key,
            size: self.size,
        }
    }

    /// What follows the object's bytes in the file.
    pub(super) fn trailer(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec(self)?;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let crc = Crc32c::of(&bytes).0;
        bytes.extend(crc.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(MAGIC);
        Ok(bytes)
    }

    /// Reads the record of an open file, which must be that of `key`.
    pub(super) fn read(file: &File, key: &ObjectKey) -> Result<Self, Unreadable> {
        let size = size_of(file)?;
        let length = size.min(TAIL_BYTES);
        let mut tail = vec![0; usize::try_from(length).unwrap_or_default()];
        file.read_exact_at(&mut tail, size - length)?;
        let length = trailer_length(&tail, size)?;
        if length > tail.len() {
            tail = vec![0; length];
            file.read_exact_at(&mut tail, size - length as u64)?;
        }
        Self::parse(&tail, size, key)
    }

    /// Reads the record at the end of `tail`, which is the end of a file of `size` bytes.
    pub(super) fn parse(tail: &[u8], size: u64, key: &ObjectKey) -> Result<Self, Unreadable> {
        let length = trailer_length(tail, size)?;
        let trailer = tail.len().checked_sub(length).map(|start| &tail[start..]);
        let trailer = trailer.ok_or(Unreadable::Damaged("its record is cut off"))?;
        let (json, footer) = trailer.split_at(length - FOOTER_BYTES);
        if Crc32c::of(json).0.to_be_bytes() != footer[..4] {
            return Err(Unreadable::Damaged("its record does not match the record's checksum"));
        }
        let record: Self =
            serde_json::from_slice(json).map_err(|_| Unreadable::Damaged("its record cannot be read"))?;
        if record.size != size - length as u64 {
            return Err(Unreadable::Damaged("its length is not the one in its record"));
        }
        if record.key != *key {
            return Err(Unreadable::Damaged("its record is that of another key"));
        }
        Ok(record)
    }
}

/// The length of an open file, if it is one.
pub(super) fn size_of(file: &File) -> Result<u64, Unreadable> {
    let meta = file.metadata()?;
    if meta.is_file() { Ok(meta.len()) } else { Err(Unreadable::Damaged("it is not a file")) }
}

fn trailer_length(tail: &[u8], size: u64) -> Result<usize, Unreadable> {
    let damaged = Unreadable::Damaged("it does not end with a record");
    let Some((_, footer)) = tail.split_last_chunk::<FOOTER_BYTES>() else { return Err(damaged) };
    let [_, _, _, _, a, b, c, d, magic @ ..] = footer;
    let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize + FOOTER_BYTES;
    if magic == MAGIC && length <= MAX_TRAILER_BYTES && length as u64 <= size { Ok(length) } else { Err(damaged) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(record: &Record, body: &[u8]) -> Vec<u8> {
        [body, &record.trailer().unwrap()].concat()
    }

    #[test]
    fn a_record_reads_back_and_any_damage_to_the_file_is_noticed() {
        let key = ObjectKey::new("a/ä☃").unwrap();
        let mut options = PutOptions { headers: ContentHeaders::of_type("text/plain"), ..Default::default() };
        options.metadata.insert("k", "grün").unwrap();
        let record = Record::new(&key, 5, Crc32c::of(b"hello"), &options);
        let file = file_of(&record, b"hello");
        let size = file.len() as u64;
        assert_eq!(Record::parse(&file, size, &key).unwrap(), record);
        assert_eq!(record.clone().into_meta().metadata, options.metadata);
        for end in 0..file.len() {
            assert!(Record::parse(&file[..end], end as u64, &key).is_err(), "cut at {end}");
        }
        for index in 5..file.len() {
            let mut damaged = file.clone();
            damaged[index] ^= 1;
            assert!(Record::parse(&damaged, size, &key).is_err(), "byte {index}");
        }
        assert!(Record::parse(&file, size, &ObjectKey::new("other").unwrap()).is_err());
    }
}
