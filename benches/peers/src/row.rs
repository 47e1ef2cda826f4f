//! What is measured, and what this crate is to reach.

use serde::{Deserialize, Serialize};

use crate::peer::Provider;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Work {
    Read,
    ReadWhole,
    WriteStream,
    Upload,
    Download,
    Get { count: u64, at_once: u64 },
    Put { count: u64, at_once: u64 },
    Head { count: u64, at_once: u64 },
    List { keys: u64 },
    ColdStart,
    LocalIn,
    LocalOut,
    LocalPut { count: u64 },
    LocalGet { count: u64 },
}

impl Work {
    /// How many operations, where they and not the bytes are counted.
    pub fn operations(self) -> Option<u64> {
        match self {
            Self::Get { count, .. } | Self::Put { count, .. } | Self::Head { count, .. } => Some(count),
            Self::LocalPut { count } | Self::LocalGet { count } => Some(count),
            Self::List { keys } => Some(keys),
            Self::ColdStart => Some(1),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    Speed,
    Cpu,
    /// Megabytes over idle; the factor is the figure itself.
    Memory,
}

/// This crate's figure divided by the best of the peers named: at least the factor for speed, at most for the rest.
pub struct Goal {
    pub measure: Measure,
    pub factor: f64,
    /// Peers whose name starts like this; every one but `hyper` if empty.
    pub against: &'static [&'static str],
}

const fn goal(measure: Measure, factor: f64, against: &'static [&'static str]) -> Goal {
    Goal { measure, factor, against }
}

pub struct Row {
    pub name: &'static str,
    pub title: &'static str,
    pub provider: Provider,
    /// 20 ms and 85 MB/s a connection rather than as fast as it goes.
    pub shaped: bool,
    pub work: Work,
    pub goals: &'static [Goal],
}

impl Row {
    /// Whether this form of a peer does anything here that its defaults do not.
    pub fn tells(&self, peer: &str) -> bool {
        let large = matches!(self.work, Work::Read | Work::WriteStream | Work::Upload);
        let put = matches!(self.work, Work::Put { .. });
        match peer {
            "aws-sdk-s3 alike" => put || matches!(self.work, Work::Get { .. } | Work::Head { .. } | Work::List { .. }),
            "aws-sdk-s3 tuned" => large || put || matches!(self.work, Work::ReadWhole | Work::Get { .. }),
            // Its writers to Cloud Storage have the same settings.
            "object_store tuned" if self.provider == Gcs => matches!(self.work, Work::Read | Work::WriteStream),
            "object_store tuned" => large || put,
            "object_store fsync" => matches!(self.work, Work::LocalIn | Work::LocalPut { .. }),
            "opendal tuned" => large,
            _ => true,
        }
    }
}

use Measure::{Cpu, Memory, Speed};
use Provider::{Gcs, Local, S3};

const SHAPED_GET: &[Goal] = &[
    goal(Speed, 1.0, &["transfer-manager"]),
    goal(Cpu, 0.5, &["transfer-manager"]),
    goal(Memory, 80.0, &[]),
    goal(Speed, 10.0, &["object_store=", "opendal="]),
];
/// The budget of 64 MiB, with what the connections hold.
const SHAPED_PUT: &[Goal] = &[goal(Speed, 1.0, &[]), goal(Memory, 67.0, &[])];
const LOOPBACK: &[Goal] = &[goal(Speed, 0.95, &["hyper"]), goal(Cpu, 1.15, &["hyper"])];
const FILES: &[Goal] = &[goal(Speed, 1.0, &[])];
const SMALL_S3: &[Goal] = &[goal(Cpu, 1.03, &["aws-sdk-s3 alike"])];
const SMALL_GCS: &[Goal] = &[goal(Cpu, 0.8, &["object_store"])];
/// Writes of this crate are durable, and so compared with the peer's durable ones.
const LOCAL_WRITE: &[Goal] = &[goal(Speed, 1.0, &["object_store fsync"])];
const LOCAL_READ: &[Goal] = &[goal(Speed, 1.0, &["object_store"])];

const fn row(name: &'static str, title: &'static str, provider: Provider, work: Work, goals: &'static [Goal]) -> Row {
    Row { name, title, provider, shaped: false, work, goals }
}

const fn shaped(row: Row) -> Row {
    Row { shaped: true, ..row }
}

const ONE: u64 = 2_000;
const MANY: u64 = 20_000;

pub const ROWS: &[Row] = &[
    shaped(row(
        "s3-get-shaped",
        "S3: GET of a large object, 20 ms and 85 MB/s a connection",
        S3,
        Work::Read,
        SHAPED_GET,
    )),
    shaped(row(
        "s3-put-shaped",
        "S3: PUT of a large stream, 20 ms and 85 MB/s a connection",
        S3,
        Work::WriteStream,
        SHAPED_PUT,
    )),
    shaped(row(
        "gcs-get-shaped",
        "GCS: GET of a large object, 20 ms and 85 MB/s a connection",
        Gcs,
        Work::Read,
        &[goal(Speed, 1.0, &[])],
    )),
    shaped(row(
        "gcs-put-shaped",
        "GCS: PUT of a large stream, 20 ms and 85 MB/s a connection",
        Gcs,
        Work::WriteStream,
        SHAPED_PUT,
    )),
    row("s3-get", "S3: GET of a large object as a stream, loopback", S3, Work::Read, LOOPBACK),
    row(
        "s3-get-memory",
        "S3: GET of a large object into memory, loopback",
        S3,
        Work::ReadWhole,
        &[goal(Speed, 2.0, &["object_store"])],
    ),
    row(
        "s3-put",
        "S3: PUT of a large stream, loopback",
        S3,
        Work::WriteStream,
        &[goal(Speed, 0.95, &["hyper"]), goal(Cpu, 1.15, &["hyper"]), goal(Cpu, 0.4, &["aws-sdk-s3="])],
    ),
    row("s3-download", "S3: object to file (synced), loopback", S3, Work::Download, FILES),
    row("s3-upload", "S3: file to object, loopback", S3, Work::Upload, FILES),
    row("gcs-get", "GCS: GET of a large object as a stream, loopback", Gcs, Work::Read, LOOPBACK),
    row("gcs-put", "GCS: PUT of a large stream, loopback", Gcs, Work::WriteStream, LOOPBACK),
    row("gcs-download", "GCS: object to file (synced), loopback", Gcs, Work::Download, FILES),
    row(
        "gcs-upload",
        "GCS: file to object, loopback",
        Gcs,
        Work::Upload,
        &[goal(Cpu, 0.6, &["google-cloud-storage"]), goal(Speed, 1.0, &["object_store"])],
    ),
    row("s3-small-get-1", "S3: GET of 1 KiB, one at a time", S3, Work::Get { count: ONE, at_once: 1 }, SMALL_S3),
    row("s3-small-get-64", "S3: GET of 1 KiB, 64 at once", S3, Work::Get { count: MANY, at_once: 64 }, SMALL_S3),
    row("s3-small-put-1", "S3: PUT of 1 KiB, one at a time", S3, Work::Put { count: ONE, at_once: 1 }, SMALL_S3),
    row("s3-small-put-64", "S3: PUT of 1 KiB, 64 at once", S3, Work::Put { count: MANY, at_once: 64 }, SMALL_S3),
    row("s3-small-head-1", "S3: HEAD, one at a time", S3, Work::Head { count: ONE, at_once: 1 }, SMALL_S3),
    row("s3-small-head-64", "S3: HEAD, 64 at once", S3, Work::Head { count: MANY, at_once: 64 }, SMALL_S3),
    row("s3-list", "S3: LIST of 20,000 keys, per key", S3, Work::List { keys: 20_000 }, SMALL_S3),
    row("gcs-small-get-1", "GCS: GET of 1 KiB, one at a time", Gcs, Work::Get { count: ONE, at_once: 1 }, SMALL_GCS),
    row("gcs-small-get-64", "GCS: GET of 1 KiB, 64 at once", Gcs, Work::Get { count: MANY, at_once: 64 }, SMALL_GCS),
    row("gcs-small-put-1", "GCS: PUT of 1 KiB, one at a time", Gcs, Work::Put { count: ONE, at_once: 1 }, SMALL_GCS),
    row("gcs-small-put-64", "GCS: PUT of 1 KiB, 64 at once", Gcs, Work::Put { count: MANY, at_once: 64 }, SMALL_GCS),
    row("gcs-small-head-1", "GCS: metadata, one at a time", Gcs, Work::Head { count: ONE, at_once: 1 }, SMALL_GCS),
    row("gcs-small-head-64", "GCS: metadata, 64 at once", Gcs, Work::Head { count: MANY, at_once: 64 }, SMALL_GCS),
    row(
        "gcs-list",
        "GCS: LIST of 20,000 keys, per key",
        Gcs,
        Work::List { keys: 20_000 },
        &[goal(Cpu, 0.5, &["object_store"])],
    ),
    row(
        "s3-list-million",
        "S3: LIST of 1,000,000 keys, per key",
        S3,
        Work::List { keys: 1_000_000 },
        &[goal(Memory, 16.0, &[])],
    ),
    row(
        "gcs-list-million",
        "GCS: LIST of 1,000,000 keys, per key",
        Gcs,
        Work::List { keys: 1_000_000 },
        &[goal(Memory, 16.0, &[]), goal(Cpu, 0.5, &["object_store"])],
    ),
    row("s3-cold", "S3: start of the process to the first object", S3, Work::ColdStart, &[goal(Cpu, 0.8, &[])]),
    row("gcs-cold", "GCS: start of the process to the first object", Gcs, Work::ColdStart, &[goal(Cpu, 0.8, &[])]),
    row("local-in", "local: file of 1 GiB into the store", Local, Work::LocalIn, LOCAL_WRITE),
    row("local-out", "local: object of 1 GiB to a file (synced)", Local, Work::LocalOut, LOCAL_READ),
    row("local-put", "local: 10,000 writes of 4 KiB, 16 at once", Local, Work::LocalPut { count: 10_000 }, LOCAL_WRITE),
    row("local-get", "local: 10,000 reads of 4 KiB, 16 at once", Local, Work::LocalGet { count: 10_000 }, LOCAL_READ),
];
