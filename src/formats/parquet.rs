//! Arrow record batches from and to Parquet objects, by ranges and by row groups. Import [`ParquetExt`] and call its
//! methods on any store held in an `Arc`.
//!
//! The Arrow crates that the batches are made of are re-exported, so that versions match.

mod footer;
mod ranges;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use ::parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use ::parquet::errors::ParquetError;
pub use arrow_array::RecordBatch;
pub use arrow_schema::SchemaRef;
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
pub use {arrow_array, arrow_schema};

use crate::object_store::{ObjectStore, PutOptions, PutResult, Version};
use crate::{Error, ErrorKind, ObjectKey, Result};

/// What of a Parquet object to read. Fill in what matters and take the rest from `..Default::default()`.
#[derive(Clone, Debug)]
pub struct ParquetRead {
    /// Only these top-level columns, whatever their order; all if none.
    pub columns: Option<Vec<String>>,
    /// Only these row groups, in this order, counted from 0; all if none.
    pub row_groups: Option<Vec<usize>>,
    /// How many rows a batch has at most.
    pub batch_rows: usize,
    /// Only if this is the current version of the object, else `PreconditionFailed`.
    pub if_match: Option<Version>,
}

impl Default for ParquetRead {
    /// Everything, in batches of 8192 rows.
    fn default() -> Self {
        Self { columns: None, row_groups: None, batch_rows: 8192, if_match: None }
    }
}

/// How to write a Parquet object. Fill in what matters and take the rest from `..Default::default()`.
#[derive(Clone, Debug)]
pub struct ParquetWrite {
    /// A row group ends after so many bytes as they are stored, estimated: what is held in memory beside the parts
    /// under way.
    pub row_group_bytes: usize,
    /// A row group ends after so many rows.
    pub row_group_rows: usize,
    /// How to put the object. The content type is `application/vnd.apache.parquet` unless this says otherwise.
    pub put: PutOptions,
}

impl Default for ParquetWrite {
    /// Row groups of 32 MiB or 1,048,576 rows.
    fn default() -> Self {
        Self { row_group_bytes: 32 * 1024 * 1024, row_group_rows: 1 << 20, put: PutOptions::default() }
    }
}

/// Record batches as they arrive. A slow reader slows the sender down.
pub struct ParquetBatches {
    schema: SchemaRef,
    rows: u64,
    row_groups: usize,
    version: Version,
    batches: BoxStream<'static, Result<RecordBatch>>,
}

impl ParquetBatches {
    /// The schema of the batches: only the columns asked for.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows the whole object has.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many row groups the whole object has.
    #[must_use]
    pub fn row_groups(&self) -> usize {
        self.row_groups
    }

    /// The version of the object that is being read.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }
}

impl Stream for ParquetBatches {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for ParquetBatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetBatches").field("schema", &self.schema).field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// Parquet for every [`ObjectStore`].
#[async_trait]
pub trait ParquetExt: ObjectStore {
    /// Reads a Parquet object by ranges: the end of the object, in one request (two if its footer exceeds 64 KiB),
    /// then only the columns and row groups asked for, neighbours in one request. An object of up to 64 KiB costs one
    /// request. All ranges come from one version of the object.
    ///
    /// One row group at a time is held in memory, of the columns asked for, as it is stored.
    ///
    /// # Errors
    /// - `InvalidFormat`: the object is not Parquet, or damaged. Over some damage the decoder panics, which is caught and
    ///   reported so; a program with `panic = "abort"` ends.
    /// - `InvalidInput`: no such column or row group.
    /// - In the stream: `PreconditionFailed` if the object was replaced meanwhile.
    /// - Those of [`ObjectStore::get`].
    async fn read_parquet(self: &Arc<Self>, key: &ObjectKey, options: ParquetRead) -> Result<ParquetBatches> {
        const OPERATION: &str = "object_store.read_parquet";
        let subject = self.uri(key).to_string();
        let reader = ranges::RangeReader::open(Arc::clone(self), key.clone(), options.if_match).await?;
        let version = reader.version().clone();
        let invalid = |error| failed(error, OPERATION, &subject);
        let metadata = ArrowReaderMetadata::try_new(reader.metadata(), ArrowReaderOptions::new()).map_err(invalid)?;
        let (rows, row_groups) = (metadata.metadata().file_metadata().num_rows(), metadata.metadata().num_row_groups());
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, metadata);
        builder = builder.with_batch_size(options.batch_rows.max(1));
        if let Some(columns) = &options.columns {
            let mut roots = Vec::with_capacity(columns.len());
            for column in columns {
                let found = builder.schema().fields().iter().position(|field| field.name() == column);
                roots.push(found.ok_or_else(|| {
                    Error::new(ErrorKind::InvalidInput, OPERATION, &subject, format!("there is no column `{column}`"))
                })?);
            }
            let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
            builder = builder.with_projection(mask);
        }
        if let Some(wanted) = options.row_groups {
            if let Some(group) = wanted.iter().find(|group| **group >= row_groups) {
                let message = format!("there is no row group {group}, only {row_groups} of them");
                return Err(Error::new(ErrorKind::InvalidInput, OPERATION, &subject, message));
            }
            builder = builder.with_row_groups(wanted);
        }
        let batches = builder.build().map_err(invalid)?;
        let schema = Arc::clone(batches.schema());
        // The decoder trusts what a page says of itself, and panics where it says what cannot be.
        let batches = AssertUnwindSafe(batches).catch_unwind().map(move |decoded| {
            let batch = decoded.unwrap_or_else(|_| Err(ParquetError::General("the decoder panicked".to_owned())));
            batch.map_err(|error| failed(error, OPERATION, &subject))
        });
        let batches = batches.boxed();
        Ok(ParquetBatches { schema, rows: u64::try_from(rows).unwrap_or(0), row_groups, version, batches })
    }

    /// Writes record batches as one Parquet object, compressed with Snappy, row group after row group in bounded
    /// memory. An error of the stream publishes nothing.
    ///
    /// # Errors
    /// `InvalidFormat` for a batch of another schema or of a type that Parquet has no form for; `InvalidInput` for
    /// row groups of size zero; those of the stream and of [`ObjectStore::put`].
    async fn put_parquet<St>(
        self: &Arc<Self>,
        key: &ObjectKey,
        schema: SchemaRef,
        batches: St,
        options: ParquetWrite,
    ) -> Result<PutResult>
    where
        St: Stream<Item = Result<RecordBatch>> + Send,
    {
        write::write(self, key, schema, batches, options).await
    }
}

impl<S: ObjectStore + ?Sized> ParquetExt for S {}

/// An error of the format, or the store's own that came through the reader or writer.
fn failed(error: ParquetError, operation: &'static str, subject: &str) -> Error {
    match error {
        ParquetError::External(source) => match source.downcast::<Error>() {
            Ok(own) => *own,
            Err(other) => {
                Error::new(ErrorKind::Internal, operation, subject, "an unexpected failure").with_source(other)
            }
        },
        other => {
            let message = match operation {
                "object_store.put_parquet" => "the batch has no Parquet form under this schema",
                _ => "the object is not Parquet, or is damaged",
            };
            Error::new(ErrorKind::InvalidFormat, operation, subject, message).with_source(other)
        }
    }
}
