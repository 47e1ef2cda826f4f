use std::fmt;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use super::{ContentHeaders, Crc32c, Metadata, ObjectSummary, Version};
use crate::{Error, ErrorKind, Result, WriteId};

/// What a write does when there is an object already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PutMode {
    /// Replaces it.
    #[default]
    Overwrite,
    /// Fails with `AlreadyExists`; of several writers at once exactly one wins.
    Create,
    /// Replaces exactly this version, else fails with `PreconditionFailed`.
    Replace(Version),
}

/// How to write an object. Fill in what matters and take the rest from `..Default::default()`.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// The precondition.
    pub mode: PutMode,
    /// What HTTP readers are told of the content.
    pub headers: ContentHeaders,
    /// The caller's own metadata, at most [`MAX_METADATA_BYTES`](super::MAX_METADATA_BYTES) in all.
    pub metadata: Metadata,
    /// The checksum of the whole object where it is known; computed if not.
    pub crc32c: Option<Crc32c>,
    /// The id of this logical write; a random one if none is given.
    pub write_id: Option<WriteId>,
    /// The provider's own name of a storage class, such as `STANDARD_IA` or `NEARLINE`; the bucket's default if none.
    pub storage_class: Option<String>,
    /// The provider's own name of a key-management key to encrypt with; the bucket's default if none.
    pub encryption_key: Option<String>,
    /// How many bytes an upload in parts will have, or at least has, as far as is known when it begins. A hint, by which
    /// a provider chooses how to send them; it need not be right, and `put` knows better.
    pub expected_bytes: Option<u64>,
}

/// What a write left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutResult {
    /// The version that was written: what a later [`PutMode::Replace`] names.
    pub version: Version,
    /// The id that the write carries.
    pub write_id: WriteId,
    /// The checksum of the stored bytes, where it is known.
    pub crc32c: Option<Crc32c>,
}

/// A part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// From the first offset up to, and without, the second; cut short at the object's end.
    Bounded(u64, u64),
    /// From this offset to the end.
    From(u64),
    /// The last so many bytes; the whole object if it is shorter.
    Last(u64),
}

impl From<Range<u64>> for ByteRange {
    fn from(range: Range<u64>) -> Self {
        Self::Bounded(range.start, range.end)
    }
}

impl ByteRange {
    /// The bytes meant in an object of `size`, or `None` if there are none.
    #[must_use]
    pub fn resolve(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Bounded(start, end) => start..end.min(size),
            Self::From(start) => start..size,
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        (range.start < range.end).then_some(range)
    }

    /// The value of an HTTP `Range` header.
    #[must_use]
    pub fn to_header(self) -> String {
        match self {
            Self::Bounded(start, end) => format!("bytes={start}-{}", end.saturating_sub(1)),
            Self::From(start) => format!("bytes={start}-"),
            Self::Last(count) => format!("bytes=-{count}"),
        }
    }

    /// Refuses a range that holds nothing whatever the object.
    ///
    /// # Errors
    /// `InvalidInput` for an empty or reversed range.
    pub fn check(self, operation: &'static str, subject: impl fmt::Display) -> Result<()> {
        let empty = match self {
            Self::Bounded(start, end) => start >= end,
            Self::From(_) => false,
            Self::Last(count) => count == 0,
        };
        if empty {
            let message = format!("the range {self:?} holds no bytes");
            return Err(Error::new(ErrorKind::InvalidInput, operation, subject, message));
        }
        Ok(())
    }
}

/// How to read an object.
#[derive(Clone, Debug, Default)]
pub struct GetOptions {
    /// Only these bytes; all if none.
    pub range: Option<ByteRange>,
    /// This very version, or `NotFound`. Older versions are there only where the bucket keeps them.
    pub version: Option<Version>,
    /// Only if this is the current version, else `PreconditionFailed`.
    pub if_match: Option<Version>,
    /// Only if this is not the current version, else `NotModified`.
    pub if_none_match: Option<Version>,
}

/// How to read an object's metadata.
#[derive(Clone, Debug, Default)]
pub struct HeadOptions {
    /// This very version, or `NotFound`.
    pub version: Option<Version>,
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Only keys that start with this text.
    pub prefix: String,
    /// Rolls keys up at the first occurrence of this text after the prefix, usually `/`.
    pub delimiter: Option<String>,
    /// Only keys after this one in byte order; it need not exist.
    pub start_after: Option<String>,
    /// How many entries a page asks for, at most; the provider's default (1000) if none.
    pub page_size: Option<u16>,
}

impl ListOptions {
    /// All keys that start with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }
}

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListEntry {
    /// An object.
    Object(ObjectSummary),
    /// A common prefix of several keys, delimiter included.
    Prefix(String),
}

impl ListEntry {
    /// The object, unless this is a prefix.
    #[must_use]
    pub fn into_object(self) -> Option<ObjectSummary> {
        match self {
            Self::Object(object) => Some(object),
            Self::Prefix(_) => None,
        }
    }

    /// The key or the prefix: what the listing is ordered by.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Object(object) => object.key.as_str(),
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// How to delete an object.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Only if this is the current version, else `PreconditionFailed`.
    pub if_match: Option<Version>,
}

/// How to copy an object.
#[derive(Clone, Debug, Default)]
pub struct CopyOptions {
    /// The precondition on the target.
    pub mode: PutMode,
    /// Only if the source is this version, else `PreconditionFailed`.
    pub source_version: Option<Version>,
    /// Other content headers and metadata for the target; those of the source if none.
    pub replace: Option<(ContentHeaders, Metadata)>,
    /// The id of this logical write; a random one if none is given.
    pub write_id: Option<WriteId>,
}

/// What a signed request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignMethod {
    /// Read the object.
    Get,
    /// Write the object.
    Put,
}

impl SignMethod {
    /// The HTTP method.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
        }
    }
}

/// What to sign.
#[derive(Clone, Debug)]
pub struct SignOptions {
    /// What the bearer may do.
    pub method: SignMethod,
    /// For how long, cut short where the credentials or the key that signs end earlier: without a key file a URL of
    /// Cloud Storage holds for at most twelve hours. [`SignedRequest::expires_at`] says until when it does.
    pub expires_in: Duration,
    /// PUT: the content type that the bearer must send.
    pub content_type: Option<String>,
    /// PUT: the exact length that the bearer must send.
    pub content_length: Option<u64>,
    /// PUT: only if there is no such object.
    pub create_only: bool,
    /// GET: the `Content-Disposition` that the answer shall carry, such as `attachment; filename="x.csv"`.
    pub response_content_disposition: Option<String>,
}

impl SignOptions {
    /// A download link.
    #[must_use]
    pub fn get(expires_in: Duration) -> Self {
        Self {
            method: SignMethod::Get,
            expires_in,
            content_type: None,
            content_length: None,
            create_only: false,
            response_content_disposition: None,
        }
    }

    /// An upload link.
    #[must_use]
    pub fn put(expires_in: Duration) -> Self {
        Self { method: SignMethod::Put, ..Self::get(expires_in) }
    }
}

/// A URL that is itself a credential: shown neither by `Debug` nor in any span or error.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedUrl(String);

impl SignedUrl {
    /// Wraps a URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL, to hand to its bearer.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignedUrl([redacted])")
    }
}

/// A request for its bearer to make, exactly so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRequest {
    /// The method.
    pub method: SignMethod,
    /// The address.
    pub url: SignedUrl,
    /// The headers that must be sent with these values, in lower case. A browser adds `host` itself.
    pub headers: Vec<(String, String)>,
    /// When it stops working.
    pub expires_at: SystemTime,
}

/// What [`abort_stale_uploads`](super::ObjectStore::abort_stale_uploads) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StaleUploads {
    /// How many unfinished uploads were removed.
    pub aborted: u64,
}

/// What an object store can do, as data. The conformance suite checks that it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectCapabilities {
    /// The provider: `aws`, `gcp`, `local` or a name of your own.
    pub provider: &'static str,
    /// `put` with [`PutMode::Create`] and [`PutMode::Replace`].
    pub conditional_put: bool,
    /// The same for uploads in parts.
    pub conditional_upload: bool,
    /// The same for copies.
    pub conditional_copy: bool,
    /// [`DeleteOptions::if_match`].
    pub conditional_delete: bool,
    /// Whether past versions may be kept and can be read; `None` where only the bucket knows.
    pub past_versions: Option<bool>,
    /// Every stored object has a CRC32C that the store itself verified.
    pub stored_crc32c: bool,
    /// The parts of every upload may be sent at the same time; of a single one [`PartRules`](super::PartRules) tell.
    pub parallel_parts: bool,
    /// A large object is read faster in several ranges at the same time: true over a network, false for files. Where
    /// it is false, reads are handed over as they come and are not taken up again when they break off.
    pub parallel_ranges: bool,
    /// [`SignOptions::content_length`].
    pub sign_content_length: bool,
    /// [`SignOptions::create_only`].
    pub sign_create_only: bool,
    /// The largest object, in bytes.
    pub max_object_bytes: u64,
    /// The largest single `put`, in bytes.
    pub max_put_bytes: u64,
    /// The longest life of a signed request.
    pub max_sign_expiry: Duration,
}

#[cfg(test)]
impl ObjectCapabilities {
    /// What a store of a test has that says nothing else.
    pub(crate) const LEAST: Self = Self {
        provider: "test",
        conditional_put: false,
        conditional_upload: false,
        conditional_copy: false,
        conditional_delete: false,
        past_versions: Some(false),
        stored_crc32c: false,
        parallel_parts: false,
        parallel_ranges: false,
        sign_content_length: false,
        sign_create_only: false,
        max_object_bytes: u64::MAX,
        max_put_bytes: u64::MAX,
        max_sign_expiry: Duration::ZERO,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_the_end_and_empty_past_it() {
        assert_eq!(ByteRange::Bounded(2, 9).resolve(5), Some(2..5));
        assert_eq!(ByteRange::Last(9).resolve(5), Some(0..5));
        assert_eq!(ByteRange::From(5).resolve(5), None);
        assert_eq!(ByteRange::Last(1).resolve(0), None);
        assert!(ByteRange::Last(0).check("t", "x").is_err() && ByteRange::Bounded(3, 3).check("t", "x").is_err());
    }

    #[test]
    fn signed_urls_are_not_printed() {
        let url = SignedUrl::new("https://example.test/?sig=abc");
        assert!(!format!("{url:?}").contains("abc"));
    }
}
