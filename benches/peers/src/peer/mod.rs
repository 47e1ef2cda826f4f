//! The clients that are measured, each as its documentation tells to use it.

mod anycloud;
mod aws_sdk;
mod bare;
mod google;
mod object_store;
mod opendal;
mod transfer_manager;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;

use crate::Failure;

/// The bucket of every row.
pub const BUCKET: &str = "bench";
/// A stream to be written comes in pieces of this size.
pub const PIECE: usize = 1 << 20;
/// The ranges and parts of the tuned forms.
pub const PART: usize = 8 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    S3,
    Gcs,
    Local,
}

/// Where the store is: an endpoint, or a directory.
#[derive(Clone, Debug)]
pub struct Place {
    pub provider: Provider,
    pub endpoint: String,
    pub directory: PathBuf,
    /// Whether the peer is set up with the best settings that it has rather than with its defaults.
    pub tuned: bool,
    /// Whether the peer is set up to do what this crate does: the same checksums, no retries of its own.
    pub alike: bool,
    /// How many ranges or parts the tuned form has under way.
    pub parallel: usize,
}

fn missing() -> Failure {
    "not offered".into()
}

/// One client. Every call says how many bytes (or keys) it saw.
#[async_trait]
pub trait Peer: Send + Sync {
    /// Reads an object to its end as a stream, and throws the chunks away.
    async fn read(&self, _key: &str, _size: u64) -> Result<u64, Failure> {
        Err(missing())
    }

    /// Reads an object into one buffer.
    async fn read_whole(&self, _key: &str) -> Result<u64, Failure> {
        Err(missing())
    }

    /// Writes a buffer.
    async fn write(&self, _key: &str, _data: Bytes) -> Result<(), Failure> {
        Err(missing())
    }

    /// Writes so many bytes that come in pieces.
    async fn write_stream(&self, _key: &str, _size: u64) -> Result<(), Failure> {
        Err(missing())
    }

    async fn head(&self, _key: &str) -> Result<u64, Failure> {
        Err(missing())
    }

    /// Lists, and counts the keys.
    async fn list(&self, _prefix: &str) -> Result<u64, Failure> {
        Err(missing())
    }

    async fn upload(&self, _file: &Path, _key: &str) -> Result<(), Failure> {
        Err(missing())
    }

    async fn download(&self, _key: &str, _file: &Path) -> Result<(), Failure> {
        Err(missing())
    }
}

/// A peer, and what it does for the integrity of what it moves.
pub struct Named {
    pub name: &'static str,
    pub provider: &'static [Provider],
    pub integrity: &'static str,
}

use Provider::{Gcs, Local, S3};

/// Everyone, this crate first.
pub const PEERS: &[Named] = &[
    Named {
        name: "anycloud",
        provider: &[S3, Gcs, Local],
        integrity: "CRC32C of whole objects both ways, of every part on the way up",
    },
    Named { name: "hyper", provider: &[S3, Gcs], integrity: "none" },
    Named {
        name: "aws-sdk-s3",
        provider: &[S3],
        integrity: "CRC32 up, CRC down where S3 tells one; SHA-256 signature",
    },
    Named { name: "aws-sdk-s3 tuned", provider: &[S3], integrity: "none (checksums when required, unsigned payload)" },
    Named { name: "aws-sdk-s3 alike", provider: &[S3], integrity: "as this crate: CRC32C both ways, unsigned payload" },
    Named { name: "transfer-manager", provider: &[S3], integrity: "CRC up; per-range down" },
    Named { name: "object_store", provider: &[S3, Gcs, Local], integrity: "none; SHA-256 signature on S3" },
    Named { name: "object_store tuned", provider: &[S3, Gcs], integrity: "none (unsigned payload)" },
    Named { name: "object_store fsync", provider: &[Local], integrity: "none; durable as this crate's writes are" },
    Named { name: "opendal", provider: &[S3, Gcs, Local], integrity: "none" },
    Named { name: "opendal tuned", provider: &[S3, Gcs], integrity: "none" },
    Named { name: "google-cloud-storage", provider: &[Gcs], integrity: "CRC32C both ways" },
];

pub async fn connect(name: &str, place: Place) -> Result<Box<dyn Peer>, Failure> {
    Ok(match name.trim_end_matches(" tuned").trim_end_matches(" fsync").trim_end_matches(" alike") {
        "anycloud" => Box::new(anycloud::Anycloud::new(&place)?),
        "hyper" => Box::new(bare::Bare::new(&place)),
        "aws-sdk-s3" => Box::new(aws_sdk::AwsSdk::new(&place)),
        "transfer-manager" => Box::new(transfer_manager::TransferManager::new(&place)),
        "object_store" => Box::new(object_store::Arrow::new(&place)?),
        "opendal" => Box::new(opendal::OpenDal::new(&place)?),
        "google-cloud-storage" => Box::new(google::Google::new(&place).await?),
        _ => return Err(format!("there is no peer `{name}`").into()),
    })
}

/// The pieces that a stream of `size` bytes comes in, each in memory of its own, as a real source's are.
pub fn pieces(size: u64) -> impl Iterator<Item = Bytes> + Send + Sync + 'static {
    let count = size.div_ceil(PIECE as u64);
    (0..count).map(move |number| {
        let left = size - number * PIECE as u64;
        Bytes::from(vec![0x5A; PIECE.min(usize::try_from(left).unwrap_or(PIECE))])
    })
}
