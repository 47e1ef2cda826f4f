use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::{CrcAlgorithm, Digest, checksum_combine};

use super::Version;
use crate::{Error, ErrorKind, ObjectKey, Result, WriteId};

/// The most that keys and values of an object's metadata may add up to, in bytes: the limit of
/// [S3](https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html), less what the write id takes.
pub const MAX_METADATA_BYTES: usize = 1920;

/// Metadata keys that start so belong to the crate.
pub(crate) const RESERVED_METADATA_PREFIX: &str = "anycloud-";
/// The metadata key that carries the id of the write.
#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
pub(crate) const WRITE_ID_METADATA: &str = "anycloud-write-id";

/// The caller's own metadata of an object: the same keys and values come back from every provider.
///
/// Keys are 1 to 128 characters of `[a-z0-9-]`; values are any UTF-8 without control characters. All together take at
/// most [`MAX_METADATA_BYTES`], counted as they travel (S3 takes only ASCII, so other characters count for more).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// No metadata.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry, in place of one of the same key.
    ///
    /// # Errors
    /// `InvalidInput` for a key or value outside the portable set; `TooLarge` when all together exceed the limit.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) -> Result<()> {
        let (key, value) = (key.into(), value.into());
        let invalid = |message: &str| Err(Error::new(ErrorKind::InvalidInput, "metadata", &key, message));
        if key.is_empty()
            || key.len() > 128
            || !key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return invalid("a metadata key has 1 to 128 characters of a-z, 0-9 and `-`");
        }
        if key.starts_with(RESERVED_METADATA_PREFIX) {
            return invalid("metadata keys that start with `anycloud-` are the crate's own");
        }
        if value.chars().any(char::is_control) {
            return invalid("a metadata value has no control characters");
        }
        let before = self.0.get(&key).map_or(0, |old| key.len() + encode_value(old).len());
        let size = self.wire_bytes() - before + key.len() + encode_value(&value).len();
        if size > MAX_METADATA_BYTES {
            let message = format!("metadata takes {size} bytes, at most {MAX_METADATA_BYTES} are allowed");
            return Err(Error::new(ErrorKind::TooLarge, "metadata", &key, message));
        }
        self.0.insert(key, value);
        Ok(())
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All entries, in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All entries as they travel: values in printable ASCII, other characters and `%` percent-encoded.
    pub fn to_wire(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.iter().map(|(key, value)| (key.as_str(), encode_value(value)))
    }

    /// The caller's entries out of what a provider returned: the crate's own left out, values decoded. Entries of
    /// other writers are taken as they are.
    pub fn from_wire<K: AsRef<str>, V: AsRef<str>>(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        let entries = entries.into_iter().filter_map(|(key, value)| {
            let key = key.as_ref();
            (!key.starts_with(RESERVED_METADATA_PREFIX)).then(|| (key.to_owned(), decode_value(value.as_ref())))
        });
        Self(entries.collect())
    }

    fn wire_bytes(&self) -> usize {
        self.to_wire().map(|(key, value)| key.len() + value.len()).sum()
    }
}

fn encode_value(value: &str) -> String {
    // Spaces at the ends would be trimmed from an HTTP header.
    let inner = value.trim_matches(' ');
    let (front, back) = match value.find(inner) {
        Some(start) if !inner.is_empty() => (start, value.len() - start - inner.len()),
        _ => (value.len(), 0),
    };
    let mut text = "%20".repeat(front);
    // What looks like an encoded word of RFC 2047 is decoded by S3.
    let encoded_word = inner.contains("=?");
    for byte in inner.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' && !(encoded_word && byte == b'?') {
            text.push(byte as char);
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text.push_str(&"%20".repeat(back));
    text
}

fn decode_value(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .map_or_else(|_| text.to_owned(), |value| value.into_owned())
}

/// What HTTP readers are told of the content. Stored with the object and returned as given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentHeaders {
    /// `Content-Type`; the provider's default (`application/octet-stream`) if none.
    pub content_type: Option<String>,
    /// `Content-Encoding`, such as `gzip`. The bytes are neither encoded nor decoded here.
    pub content_encoding: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Cache-Control`. None is sent by default, but for public objects on Cloud Storage, which would otherwise be
    /// served stale for an hour, it is worth setting.
    pub cache_control: Option<String>,
}

impl ContentHeaders {
    /// Only a content type.
    #[must_use]
    pub fn of_type(content_type: impl Into<String>) -> Self {
        Self { content_type: Some(content_type.into()), ..Self::default() }
    }

    /// Refuses what cannot travel as an HTTP header.
    ///
    /// # Errors
    /// `InvalidInput` for a value that is not visible ASCII with spaces inside.
    pub fn check(&self, operation: &'static str, subject: impl fmt::Display) -> Result<()> {
        let all = [
            &self.content_type,
            &self.content_encoding,
            &self.content_disposition,
            &self.content_language,
            &self.cache_control,
        ];
        // Spaces at the ends are trimmed on the way.
        let travels = |v: &&String| !v.is_empty() && v.trim() == *v && v.bytes().all(|b| matches!(b, b' '..=b'~'));
        let bad = all.into_iter().flatten().find(|value| !travels(value));
        match bad {
            None => Ok(()),
            Some(value) => {
                let message = format!("the content header {value:?} is not visible ASCII with spaces inside");
                Err(Error::new(ErrorKind::InvalidInput, operation, subject, message))
            }
        }
    }
}

/// The CRC32C (Castagnoli) of some bytes: the checksum that every provider verifies.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Crc32c(pub u32);

impl Crc32c {
    /// The checksum of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(0).append(bytes)
    }

    /// The checksum of what this one covers followed by `bytes`.
    #[must_use]
    pub fn append(self, bytes: &[u8]) -> Self {
        // The state of the sum, which is its complement.
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!self.0));
        digest.update(bytes);
        Self(digest.finalize() as u32)
    }

    /// The checksum of what this one covers followed by `len` bytes whose checksum is `next`.
    #[must_use]
    pub fn combine(self, next: Self, len: u64) -> Self {
        Self(checksum_combine(CrcAlgorithm::Crc32Iscsi, u64::from(self.0), u64::from(next.0), len) as u32)
    }

    /// Base64 of the four bytes, most significant first: how S3 and Cloud Storage write it.
    #[must_use]
    pub fn to_base64(self) -> String {
        BASE64.encode(self.0.to_be_bytes())
    }

    /// Reads what [`to_base64`](Self::to_base64) writes.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text).ok()?;
        Some(Self(u32::from_be_bytes(bytes.try_into().ok()?)))
    }
}

impl fmt::Debug for Crc32c {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crc32c({:08x})", self.0)
    }
}

/// What a listing tells of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSummary {
    /// The key.
    pub key: ObjectKey,
    /// The length of the stored bytes.
    pub size: u64,
    /// The current version.
    pub version: Version,
    /// When it was written, to the provider's precision (a second on S3).
    pub last_modified: SystemTime,
}

/// All that a store tells of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The key.
    pub key: ObjectKey,
    /// The length of the stored bytes, whatever their `Content-Encoding`.
    pub size: u64,
    /// The version.
    pub version: Version,
    /// When it was written, to the provider's precision (a second on S3).
    pub last_modified: SystemTime,
    /// The checksum of the stored bytes, where the store knows it.
    pub crc32c: Option<Crc32c>,
    /// What HTTP readers are told of the content.
    pub headers: ContentHeaders,
    /// The caller's own metadata.
    pub metadata: Metadata,
    /// The id of the write that made it, if that write was made through this crate.
    pub write_id: Option<WriteId>,
    /// The provider's own name of the storage class, if it tells.
    pub storage_class: Option<String>,
}

impl ObjectMeta {
    /// What a listing would tell of it.
    #[must_use]
    pub fn summary(&self) -> ObjectSummary {
        ObjectSummary {
            key: self.key.clone(),
            size: self.size,
            version: self.version.clone(),
            last_modified: self.last_modified,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_any_script_survive_an_ascii_wire() {
        for value in ["plain", " spaced ", "100 %", "grün ☃", "%41", "", "   ", "a  b"] {
            let mut metadata = Metadata::new();
            metadata.insert("k", value).unwrap();
            let wire: Vec<_> = metadata.to_wire().map(|(key, value)| (key.to_owned(), value)).collect();
            assert!(wire[0].1.is_ascii() && wire[0].1.trim() == wire[0].1, "{wire:?}");
            assert_eq!(Metadata::from_wire(wire), metadata);
        }
    }

    #[test]
    fn metadata_over_two_kilobytes_is_too_large() {
        let mut metadata = Metadata::new();
        metadata.insert("a", "x".repeat(MAX_METADATA_BYTES - 1)).unwrap();
        assert_eq!(metadata.insert("b", "").unwrap_err().kind(), ErrorKind::TooLarge);
        metadata.insert("a", "short").unwrap();
        assert_eq!(metadata.insert("c", "☃".repeat(300)).unwrap_err().kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn reserved_and_unportable_metadata_keys_are_refused() {
        for key in ["anycloud-write-id", "Upper", "under_score", "", "ä"] {
            assert_eq!(Metadata::new().insert(key, "v").unwrap_err().kind(), ErrorKind::InvalidInput, "{key}");
        }
    }

    #[test]
    fn crc32c_is_what_another_library_says_however_the_bytes_are_cut() {
        let bytes: Vec<u8> = (0..5000_u32).map(|number| ((number * number) >> 3) as u8).collect();
        for len in (0..300).chain([511, 512, 513, 1023, 1024, 4095, 4096, 5000]) {
            let (whole, cut) = (&bytes[..len], len / 3);
            let expected = Crc32c(crc32c::crc32c(whole));
            assert_eq!(Crc32c::of(whole), expected, "{len}");
            assert_eq!(Crc32c::of(&whole[..cut]).append(&whole[cut..]), expected, "{len}");
            assert_eq!(Crc32c::of(&whole[..cut]).combine(Crc32c::of(&whole[cut..]), (len - cut) as u64), expected);
        }
    }

    #[test]
    fn crc32c_matches_the_known_check_value_and_combines() {
        // The check value of CRC-32C in RFC 3720's catalogue: "123456789" gives e3069283.
        let whole = Crc32c::of(b"123456789");
        assert_eq!(whole.0, 0xe306_9283);
        assert_eq!(Crc32c::of(b"1234").combine(Crc32c::of(b"56789"), 5), whole);
        assert_eq!(Crc32c::from_base64(&whole.to_base64()), Some(whole));
    }
}
