//! Objects: the contract that every bucket keeps, and the values it speaks in.
//!
//! [`ObjectStore`] is what a provider implements; [`ObjectStoreExt`] is the convenience that every implementation
//! has with it: bytes, text, JSON, files, streams. Formats with rows are in [`crate::formats`].

mod body;
mod contract;
mod download;
#[cfg(test)]
mod download_tests;
mod ext;
mod gathering;
mod limits;
#[cfg(any(feature = "aws", feature = "gcp"))]
mod lost_answer;
mod metadata;
mod options;
#[cfg(any(feature = "aws", feature = "gcp"))]
mod pages;
mod payload;
#[cfg_attr(not(any(feature = "aws", feature = "gcp")), allow(dead_code, reason = "for providers over a network"))]
mod reading;
mod slowing;
mod sums;
#[cfg(any(feature = "aws", feature = "gcp"))]
mod timed_upload;
#[cfg(any(feature = "aws", feature = "gcp"))]
mod told;
mod upload;
mod uri;
mod version;
mod writer;
#[cfg(test)]
mod writer_tests;

pub use body::{ByteStream, GetResult};
pub use contract::ObjectStore;
pub use ext::ObjectStoreExt;
#[cfg(any(feature = "aws", feature = "gcp"))]
pub(crate) use lost_answer::Write;
pub use metadata::{ContentHeaders, Crc32c, MAX_METADATA_BYTES, Metadata, ObjectMeta, ObjectSummary};
pub use options::{
    ByteRange, CopyOptions, DeleteOptions, GetOptions, HeadOptions, ListEntry, ListOptions, ObjectCapabilities,
    PutMode, PutOptions, PutResult, SignMethod, SignOptions, SignedRequest, SignedUrl, StaleUploads,
};
pub use payload::Payload;
#[cfg(any(feature = "aws", feature = "gcp"))]
pub(crate) use timed_upload::TimedUpload;
pub use upload::{PartRules, Progress, ProgressCallback, Upload};
pub use uri::{ObjectUri, Scheme};
pub use version::Version;
pub use writer::ObjectWriter;

pub(crate) use body::Placeable;
#[allow(unused_imports, reason = "each provider feature uses them; without any there is no caller")]
pub(crate) use metadata::RESERVED_METADATA_PREFIX;
#[allow(unused_imports, reason = "each provider feature uses them; without any there is no caller")]
pub(crate) use metadata::WRITE_ID_METADATA;
#[cfg(any(feature = "aws", feature = "gcp"))]
pub(crate) use pages::{Pages, entries};
pub(crate) use reading::mismatch;
#[allow(unused_imports, reason = "the providers over a network use them; without any there is no caller")]
pub(crate) use reading::{Announced, Reading, answered_range};
#[cfg(any(feature = "aws", feature = "gcp"))]
pub(crate) use told::Told;
pub(crate) use upload::Meter;
