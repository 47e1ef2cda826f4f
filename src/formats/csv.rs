//! Typed rows from and to CSV objects. Import [`CsvExt`] and call its methods on any store.
//!
//! The first line names the columns, which are matched to the fields of the row's type by name.

use std::io::{self, Read};

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::object_store::{ByteStream, ContentHeaders, GetOptions, ObjectStore, PutOptions, PutResult};
use crate::{Error, ErrorKind, ObjectKey, ObjectStoreExt as _, Result};

/// How many chunks of bytes, and how many rows, wait for a slow reader.
const CHUNKS_AHEAD: usize = 4;
const ROWS_AHEAD: usize = 256;

/// CSV for every [`ObjectStore`].
#[async_trait]
pub trait CsvExt: ObjectStore {
    /// All rows, held in memory.
    ///
    /// # Errors
    /// `InvalidFormat` naming the line and the column, never the content; and those of [`ObjectStore::get`].
    async fn get_csv<T: DeserializeOwned + Send>(&self, key: &ObjectKey) -> Result<Vec<T>> {
        let bytes = self.get_bytes(key).await?;
        let rows = csv::Reader::from_reader(&*bytes).into_deserialize();
        rows.collect::<csv::Result<_>>().map_err(|error| invalid(error, "object_store.get_csv", self.uri(key)))
    }

    /// The rows one after the other, in bounded memory, in one request. A slow reader slows the sender down.
    ///
    /// # Errors
    /// As for [`get_csv`](Self::get_csv), those of the content in the stream; after an error it ends.
    async fn read_csv<T: DeserializeOwned + Send + 'static>(
        &self,
        key: &ObjectKey,
    ) -> Result<BoxStream<'static, Result<T>>> {
        let body = self.get(key, GetOptions::default()).await?.body;
        Ok(rows(body, self.uri(key).to_string()))
    }

    /// Writes rows over whatever there is, as `text/csv`, with a first line that names the columns. Without rows
    /// there are no names, and the object is empty.
    ///
    /// # Errors
    /// `InvalidFormat` for rows that have no CSV form, such as maps, or that differ in length; and those of
    /// [`ObjectStore::put`].
    async fn put_csv<T: Serialize + Sync>(&self, key: &ObjectKey, rows: &[T]) -> Result<PutResult> {
        let bytes = encode(rows).map_err(|error| invalid(error, "object_store.put_csv", self.uri(key)))?;
        let options = PutOptions { headers: ContentHeaders::of_type("text/csv"), ..PutOptions::default() };
        self.put(key, bytes, options).await
    }
}

impl<S: ObjectStore + ?Sized> CsvExt for S {}

fn encode<T: Serialize>(rows: &[T]) -> csv::Result<Bytes> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    writer.into_inner().map(Bytes::from).map_err(|error| error.into_error().into())
}

/// Parses on a blocking thread, since the parser reads from where it likes.
fn rows<T: DeserializeOwned + Send + 'static>(mut body: ByteStream, subject: String) -> BoxStream<'static, Result<T>> {
    let (chunks_in, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let (rows_in, rows) = mpsc::channel(ROWS_AHEAD);
    let parsing = tokio::task::spawn_blocking(move || {
        for row in csv::Reader::from_reader(Chunks { chunks, current: Bytes::new() }).into_deserialize() {
            let row = row.map_err(|error| invalid(error, "object_store.read_csv", &subject));
            let failed = row.is_err();
            // Nobody listens any more once the stream is dropped.
            if rows_in.blocking_send(row).is_err() || failed {
                break;
            }
        }
    });
    let feeding = async move {
        while let Some(chunk) = body.next().await {
            let failed = chunk.is_err();
            if chunks_in.send(chunk).await.is_err() || failed {
                break;
            }
        }
        drop(chunks_in);
        // A parser that panicked must not look like the end of the rows.
        match parsing.await {
            Ok(()) => None,
            Err(error) => Some(Err(Error::new(ErrorKind::Internal, "object_store.read_csv", "", error.to_string()))),
        }
    };
    let rows = stream::unfold(rows, |mut rows| async { Some((rows.recv().await?, rows)) }).map(Some);
    // The feeder is polled along with the rows, so that dropping the stream ends it.
    stream::select(rows, stream::once(feeding)).filter_map(std::future::ready).boxed()
}

/// Chunks as they come, for a reader that blocks.
struct Chunks {
    chunks: mpsc::Receiver<Result<Bytes>>,
    current: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// An error of the format, or the store's own that came through the parser.
fn invalid(error: csv::Error, operation: &'static str, subject: impl std::fmt::Display) -> Error {
    let line = error.position().map(|position| format!("line {}: ", position.line())).unwrap_or_default();
    let problem = match error.into_kind() {
        csv::ErrorKind::Io(error) => {
            let message = error.kind().to_string();
            return match error.into_inner().map(|inner| inner.downcast::<Error>()) {
                Some(Ok(own)) => *own,
                _ => Error::new(ErrorKind::Internal, operation, subject, message),
            };
        }
        csv::ErrorKind::Utf8 { err, .. } => format!("column {} is not UTF-8", err.field() + 1),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns where {expected_len} are named")
        }
        csv::ErrorKind::Deserialize { err, .. } => match err.field() {
            Some(field) => format!("column {} is not of the expected type", field + 1),
            None => "the row is not of the expected shape".to_owned(),
        },
        _ => "the row has no CSV form".to_owned(),
    };
    Error::new(ErrorKind::InvalidFormat, operation, subject, line + &problem)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::TryStreamExt as _;
    use serde::Deserialize;

    use super::*;
    use crate::formats::memory::MemoryStore;
    use crate::object_store::HeadOptions;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Week {
        name: String,
        revenue: f64,
        event: Option<String>,
    }

    fn week(number: usize) -> Week {
        let event = number.is_multiple_of(2).then(|| format!("a \"quoted\", event\nof week {number}"));
        Week { name: format!("w{number}"), revenue: number as f64 * 1.5, event }
    }

    fn key() -> ObjectKey {
        ObjectKey::new("weeks.csv").unwrap()
    }

    #[tokio::test]
    async fn rows_come_back_as_they_were_put_whole_or_one_by_one() {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::default());
        let weeks: Vec<_> = (0..3000).map(week).collect();
        store.put_csv(&key(), &weeks).await.unwrap();
        assert_eq!(store.get_csv::<Week>(&key()).await.unwrap(), weeks);
        let streamed: Vec<Week> = store.read_csv(&key()).await.unwrap().try_collect().await.unwrap();
        assert_eq!(streamed, weeks);
        let first = store.read_csv::<Week>(&key()).await.unwrap().next().await.unwrap().unwrap();
        assert_eq!(first, weeks[0]);
        let meta = store.head(&key(), HeadOptions::default()).await.unwrap();
        assert_eq!(meta.headers.content_type.as_deref(), Some("text/csv"));
        assert!(store.get_text(&key()).await.unwrap().starts_with("name,revenue,event\n"));
    }

    #[tokio::test]
    async fn an_error_names_line_and_column_and_never_the_content() {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::default());
        for (text, place) in [
            ("name,revenue,event\na,1,\nb,hunter2,\n", "line 3: column 2"),
            ("name,revenue,event\na,1,\nb,1,\nhunter2,1\n", "line 4: 2 columns where 3"),
            ("name,event\nhunter2,\n", "line 2"),
        ] {
            store.put_text(&key(), text).await.unwrap();
            let whole = store.get_csv::<Week>(&key()).await.unwrap_err();
            let streamed = store.read_csv::<Week>(&key()).await.unwrap().try_collect::<Vec<_>>().await.unwrap_err();
            for error in [whole, streamed] {
                assert_eq!(error.kind(), ErrorKind::InvalidFormat);
                assert!(error.message().starts_with(place), "{error}");
                assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
            }
        }
        store.put_bytes(&key(), &b"name,revenue,event\n\xff,1,\n"[..]).await.unwrap();
        let error = store.get_csv::<Week>(&key()).await.unwrap_err();
        assert!(error.message().starts_with("line 2: column 1 is not UTF-8"), "{error}");
    }

    #[tokio::test]
    async fn a_broken_transfer_is_not_taken_for_the_end() {
        let broken = Error::new(ErrorKind::Unavailable, "object_store.get", "x", "the connection was reset");
        let chunks = vec![Ok(Bytes::from_static(b"name,revenue,event\na,1,\n")), Err(broken)];
        let mut rows = rows::<Week>(ByteStream::new(stream::iter(chunks)), "x".to_owned());
        assert_eq!(rows.next().await.unwrap().unwrap().name, "a");
        assert_eq!(rows.next().await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(rows.next().await.is_none());
    }
}
