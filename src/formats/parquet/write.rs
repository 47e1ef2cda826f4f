use std::pin::pin;
use std::sync::Arc;

use ::parquet::arrow::AsyncArrowWriter;
use ::parquet::arrow::async_writer::AsyncFileWriter;
use ::parquet::basic::Compression;
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::properties::WriterProperties;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream, StreamExt as _};

use super::{ParquetWrite, RecordBatch, SchemaRef, failed};
use crate::object_store::{ObjectStore, ObjectWriter, PutResult};
use crate::{Error, ErrorKind, ObjectKey, ObjectStoreExt as _, Result};

const OPERATION: &str = "object_store.put_parquet";

/// Where the encoder leaves its bytes. Publishing is not its business: only a whole file is published.
struct Sink<S: ObjectStore + ?Sized>(ObjectWriter<S>);

impl<S: ObjectStore + ?Sized> AsyncFileWriter for Sink<S> {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, ParquetResult<()>> {
        self.0.write(bytes).map(|written| written.map_err(|error| ParquetError::External(error.into()))).boxed()
    }

    fn complete(&mut self) -> BoxFuture<'_, ParquetResult<()>> {
        std::future::ready(Ok(())).boxed()
    }
}

pub(super) async fn write<S: ObjectStore + ?Sized>(
    store: &Arc<S>,
    key: &ObjectKey,
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch>> + Send,
    options: ParquetWrite,
) -> Result<PutResult> {
    let subject = store.uri(key).to_string();
    if options.row_group_bytes == 0 || options.row_group_rows == 0 {
        return Err(Error::new(ErrorKind::InvalidInput, OPERATION, subject, "a row group holds at least one row"));
    }
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_bytes(Some(options.row_group_bytes))
        .set_max_row_group_row_count(Some(options.row_group_rows))
        .build();
    let mut put = options.put;
    put.headers.content_type.get_or_insert_with(|| "application/vnd.apache.parquet".to_owned());
    let sink = Sink(store.writer(key, put));
    let mut writer = AsyncArrowWriter::try_new(sink, Arc::clone(&schema), Some(properties))
        .map_err(|error| failed(error, OPERATION, &subject))?;
    let encoded = encode(&mut writer, &schema, batches, &subject).await;
    let Sink(object) = writer.into_inner();
    match encoded {
        Ok(()) => object.finish().await,
        Err(error) => {
            // The first error says more; what the upload left is found by `abort_stale_uploads`.
            let _ = object.abort().await;
            Err(error)
        }
    }
}

async fn encode<S: ObjectStore + ?Sized>(
    writer: &mut AsyncArrowWriter<Sink<S>>,
    schema: &SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch>> + Send,
    subject: &str,
) -> Result<()> {
    let mut batches = pin!(batches);
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        // The encoder goes by position, and would drop what is too many.
        if !schema.contains(&batch.schema()) {
            let message = "the columns of a batch are not those of the schema";
            return Err(Error::new(ErrorKind::InvalidFormat, OPERATION, subject, message));
        }
        writer.write(&batch).await.map_err(|error| failed(error, OPERATION, subject))?;
    }
    writer.finish().await.map_err(|error| failed(error, OPERATION, subject))?;
    Ok(())
}
