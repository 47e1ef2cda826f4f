use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncRead;

use super::{
    ContentHeaders, GetOptions, HeadOptions, ListEntry, ListOptions, ObjectMeta, ObjectStore, ObjectSummary,
    ObjectWriter, ProgressCallback, PutOptions, PutResult,
};
use crate::{Error, ErrorKind, ObjectKey, Result, WriteId};

/// What every [`ObjectStore`] can do with the contract's calls: import it and call the methods on any store.
#[async_trait]
pub trait ObjectStoreExt: ObjectStore {
    /// The whole object.
    ///
    /// # Errors
    /// As for [`ObjectStore::get`].
    async fn get_bytes(&self, key: &ObjectKey) -> Result<Bytes> {
        self.get(key, GetOptions::default()).await?.bytes().await
    }

    /// The whole object as text.
    ///
    /// # Errors
    /// `InvalidFormat` naming the first byte that is not UTF-8; and those of [`ObjectStore::get`].
    async fn get_text(&self, key: &ObjectKey) -> Result<String> {
        String::from_utf8(self.get_bytes(key).await?.into()).map_err(|error| {
            let message = format!("byte {} is not UTF-8", error.utf8_error().valid_up_to());
            Error::new(ErrorKind::InvalidFormat, "object_store.get_text", self.uri(key), message)
        })
    }

    /// The whole object, parsed as JSON.
    ///
    /// # Errors
    /// `InvalidFormat` naming line and column; and those of [`ObjectStore::get`].
    async fn get_json<T: DeserializeOwned>(&self, key: &ObjectKey) -> Result<T> {
        let bytes = self.get_bytes(key).await?;
        crate::formats::json::parse(&bytes, "object_store.get_json", self.uri(key))
    }

    /// Writes bytes over whatever there is.
    ///
    /// # Errors
    /// As for [`ObjectStore::put`].
    async fn put_bytes(&self, key: &ObjectKey, bytes: impl Into<Bytes> + Send) -> Result<PutResult> {
        self.put(key, bytes.into(), PutOptions::default()).await
    }

    /// Writes text over whatever there is, as `text/plain; charset=utf-8`.
    ///
    /// # Errors
    /// As for [`ObjectStore::put`].
    async fn put_text(&self, key: &ObjectKey, text: impl Into<String> + Send) -> Result<PutResult> {
        self.put(key, Bytes::from(text.into()), typed("text/plain; charset=utf-8")).await
    }

    /// Writes a value as JSON over whatever there is, as `application/json`.
    ///
    /// # Errors
    /// `InvalidFormat` for a value that JSON cannot hold; and those of [`ObjectStore::put`].
    async fn put_json<T: Serialize + Sync>(&self, key: &ObjectKey, value: &T) -> Result<PutResult> {
        let bytes = crate::formats::json::encode(value, "object_store.put_json", self.uri(key))?;
        self.put(key, bytes, typed("application/json")).await
    }

    /// Whether there is such an object.
    ///
    /// # Errors
    /// As for [`ObjectStore::head`], without `NotFound`.
    async fn exists(&self, key: &ObjectKey) -> Result<bool> {
        match self.head(key, HeadOptions::default()).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Every object that starts with `prefix`, in byte order, held in memory.
    ///
    /// # Errors
    /// As for [`ObjectStore::list`].
    async fn list_all(&self, prefix: &str) -> Result<Vec<ObjectSummary>> {
        self.list(ListOptions::prefix(prefix))
            .try_filter_map(|entry| async move { Ok(ListEntry::into_object(entry)) })
            .try_collect()
            .await
    }

    /// Deletes every object that starts with `prefix`, and says how many there were.
    ///
    /// # Errors
    /// `InvalidInput` for an empty prefix; the first error of any key, after all were tried.
    async fn delete_prefix(&self, prefix: &str) -> Result<u64> {
        if prefix.is_empty() {
            let message = "an empty prefix means the whole bucket; delete its keys by name";
            return Err(Error::new(ErrorKind::InvalidInput, "object_store.delete_prefix", "", message));
        }
        let mut deleted = 0;
        let mut pages = self.list(ListOptions::prefix(prefix)).try_chunks(1000);
        let mut first_error = None;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| error.1)?;
            let keys = page.into_iter().filter_map(ListEntry::into_object).map(|object| object.key).collect();
            for (_, result) in self.delete_many(keys).await {
                match result {
                    Ok(()) => deleted += 1,
                    Err(error) => first_error = first_error.or(Some(error)),
                }
            }
        }
        first_error.map_or(Ok(deleted), Err)
    }

    /// What the object is if the write of this id is the one that made its current state; `None` if the object is
    /// missing or another write's.
    ///
    /// This resolves an [`Indeterminate`](ErrorKind::Indeterminate) error: `Some` means applied. `None` means that
    /// the write was not applied, or was applied and since replaced.
    ///
    /// # Errors
    /// As for [`ObjectStore::head`], without `NotFound`.
    async fn find_write(&self, key: &ObjectKey, write: &WriteId) -> Result<Option<ObjectMeta>> {
        match self.head(key, HeadOptions::default()).await {
            Ok(meta) => Ok((meta.write_id.as_ref() == Some(write)).then_some(meta)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A writer for an object of unknown size, in bounded memory.
    fn writer(self: &Arc<Self>, key: &ObjectKey, options: PutOptions) -> ObjectWriter<Self> {
        ObjectWriter::new(Arc::clone(self), key.clone(), options)
    }

    /// Writes what a stream yields, in bounded memory: [`ObjectWriter`] says how much, and how fast that is, and can tell of
    /// progress. An error of the stream publishes nothing.
    ///
    /// # Errors
    /// Those of the stream and of [`ObjectStore::put`].
    async fn put_stream<St>(self: &Arc<Self>, key: &ObjectKey, stream: St, options: PutOptions) -> Result<PutResult>
    where
        St: Stream<Item = Result<Bytes>> + Send,
    {
        self.writer(key, options).write_stream(stream).await
    }

    /// Writes what a reader yields, in bounded memory, and tells of progress. `total` feeds the callback, and is what
    /// the options expect if they expect nothing else; it need not be right.
    ///
    /// # Errors
    /// `Internal` for a failed read, after which nothing is published; and those of [`ObjectStore::put`].
    async fn put_reader<R>(
        self: &Arc<Self>,
        key: &ObjectKey,
        reader: R,
        total: Option<u64>,
        options: PutOptions,
        progress: Option<ProgressCallback>,
    ) -> Result<PutResult>
    where
        R: AsyncRead + Send + Unpin,
    {
        let mut reader = reader;
        let mut writer = told(self.writer(key, expecting(total, options)), progress, total);
        loop {
            match writer.read_from(&mut reader).await? {
                Ok(0) => return writer.finish().await,
                Ok(_) => {}
                Err(error) => {
                    let _ = writer.abort().await;
                    let message = "the bytes to write could not be read";
                    let failed = Error::new(ErrorKind::Internal, "object_store.put_reader", self.uri(key), message);
                    return Err(failed.with_source(error));
                }
            }
        }
    }

    /// Uploads a file, in parts over several connections where it is large and the provider can.
    ///
    /// # Errors
    /// `NotFound` for a file that is not there, `InvalidInput` for a directory, `PermissionDenied` or `Internal` for a
    /// file that cannot be read; and those of [`ObjectStore::put`].
    async fn upload_file(
        self: &Arc<Self>,
        path: &Path,
        key: &ObjectKey,
        options: PutOptions,
        progress: Option<ProgressCallback>,
    ) -> Result<PutResult> {
        let (mut file, size) = crate::files::open(path).await?;
        let mut writer = told(self.writer(key, expecting(Some(size), options)), progress, Some(size));
        loop {
            match file.next().await {
                Ok(Some(piece)) => writer.write(piece).await?,
                Ok(None) => return writer.finish().await,
                Err(error) => {
                    let _ = writer.abort().await;
                    return Err(error);
                }
            }
        }
    }

    /// Downloads an object to a file, which appears whole or not at all, and stays: once this has returned the file
    /// survives a power cut under its name.
    ///
    /// The bytes go to a temporary file in the same directory, which has all its room from the beginning where the
    /// file system can do that.
    ///
    /// Of an object of more than 8 MiB the temporary file is called like the target, followed by
    /// `.anycloud-partial`, and stays if the download is dropped, killed, or fails in a way that may pass: the next
    /// download to the same path then fetches only what is missing, if the object is still of the same version; if
    /// not, it begins anew. What was kept is read and checked before it is used, and the checksum of the whole covers
    /// it. Delete that file if you do not mean to go on. It goes by itself with the next download to this path that
    /// succeeds, or that fails because the object is gone, was replaced, did not match its checksum, or found no room.
    ///
    /// Of two downloads to one path at the same time the second uses a file of its own and leaves nothing behind; the
    /// last to end has the name.
    ///
    /// # Errors
    /// `NotFound` also for a directory that is not there (the subject is the path then), `InvalidInput` for a path that
    /// is one, `PermissionDenied`, `ResourceExhausted` or `Internal` for a file that cannot be written; `Conflict` if
    /// the object was replaced meanwhile; and those of [`ObjectStore::get`] and, where there is something to take up,
    /// of [`ObjectStore::head`].
    async fn download_file(
        &self,
        key: &ObjectKey,
        path: &Path,
        progress: Option<ProgressCallback>,
    ) -> Result<ObjectMeta> {
        super::download::to_file(self, key, path, progress).await
    }
}

impl<S: ObjectStore + ?Sized> ObjectStoreExt for S {}

fn told<S: ObjectStore + ?Sized>(
    writer: ObjectWriter<S>,
    progress: Option<ProgressCallback>,
    total: Option<u64>,
) -> ObjectWriter<S> {
    match progress {
        Some(callback) => writer.with_progress(callback, total),
        None => writer,
    }
}

fn expecting(bytes: Option<u64>, options: PutOptions) -> PutOptions {
    PutOptions { expected_bytes: options.expected_bytes.or(bytes), ..options }
}

fn typed(content_type: &str) -> PutOptions {
    PutOptions { headers: ContentHeaders::of_type(content_type), ..PutOptions::default() }
}
