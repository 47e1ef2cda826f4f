use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::aws::AmazonS3Builder;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::local::LocalFileSystem;
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt as _, StaticCredentialProvider, WriteMultipart, path::Path as Key,
};

use super::{BUCKET, PART, Peer, Place, Provider, pieces};
use crate::Failure;

/// Apache Arrow's object_store.
pub struct Arrow {
    store: Arc<dyn ObjectStore>,
    tuned: bool,
    parallel: usize,
}

impl Arrow {
    pub fn new(place: &Place) -> Result<Self, Failure> {
        let options = ClientOptions::new().with_allow_http(true);
        let store: Arc<dyn ObjectStore> = match place.provider {
            Provider::S3 => Arc::new(
                AmazonS3Builder::new()
                    .with_endpoint(&place.endpoint)
                    .with_region("us-east-1")
                    .with_bucket_name(BUCKET)
                    .with_access_key_id("AKIDEXAMPLE")
                    .with_secret_access_key("secret")
                    .with_client_options(options)
                    .with_unsigned_payload(place.tuned)
                    .build()?,
            ),
            Provider::Gcs => {
                let token = GcpCredential { bearer: "token".to_owned() };
                Arc::new(
                    GoogleCloudStorageBuilder::new()
                        .with_base_url(&place.endpoint)
                        .with_bucket_name(BUCKET)
                        .with_credentials(Arc::new(StaticCredentialProvider::new(token)))
                        .with_client_options(options)
                        .build()?,
                )
            }
            Provider::Local => {
                std::fs::create_dir_all(&place.directory)?;
                Arc::new(LocalFileSystem::new_with_prefix(&place.directory)?.with_fsync(place.tuned))
            }
        };
        Ok(Self { store, tuned: place.tuned, parallel: place.parallel })
    }

    fn writer_parallel(&self) -> usize {
        // The default of its `BufWriter`.
        if self.tuned { self.parallel } else { 8 }
    }

    async fn range(&self, key: &str, start: u64, end: u64) -> Result<u64, Failure> {
        Ok(self.store.get_range(&Key::from(key), start..end).await?.len() as u64)
    }
}

#[async_trait]
impl Peer for Arrow {
    async fn read(&self, key: &str, size: u64) -> Result<u64, Failure> {
        if self.tuned {
            let ranges = (0..size).step_by(PART).map(|start| self.range(key, start, size.min(start + PART as u64)));
            return stream::iter(ranges)
                .buffered(self.parallel)
                .try_fold(0, |all, bytes| async move { Ok(all + bytes) })
                .await;
        }
        let mut body = self.store.get(&Key::from(key)).await?.into_stream();
        let mut bytes = 0;
        while let Some(chunk) = body.try_next().await? {
            bytes += chunk.len() as u64;
        }
        Ok(bytes)
    }

    async fn read_whole(&self, key: &str) -> Result<u64, Failure> {
        Ok(self.store.get(&Key::from(key)).await?.bytes().await?.len() as u64)
    }

    async fn write(&self, key: &str, data: Bytes) -> Result<(), Failure> {
        self.store.put(&Key::from(key), data.into()).await?;
        Ok(())
    }

    async fn write_stream(&self, key: &str, size: u64) -> Result<(), Failure> {
        let upload = self.store.put_multipart(&Key::from(key)).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART);
        for piece in pieces(size) {
            writer.wait_for_capacity(self.writer_parallel()).await?;
            writer.put(piece);
        }
        writer.finish().await?;
        Ok(())
    }

    async fn head(&self, key: &str) -> Result<u64, Failure> {
        Ok(self.store.head(&Key::from(key)).await?.size)
    }

    async fn list(&self, prefix: &str) -> Result<u64, Failure> {
        let mut entries = self.store.list(Some(&Key::from(prefix)));
        let mut count = 0;
        while entries.try_next().await?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    async fn upload(&self, file: &Path, key: &str) -> Result<(), Failure> {
        let file = tokio::fs::File::open(file).await?;
        let mut reader = tokio::io::BufReader::with_capacity(PART, file);
        let mut writer = object_store::buffered::BufWriter::new(Arc::clone(&self.store), Key::from(key));
        tokio::io::copy_buf(&mut reader, &mut writer).await?;
        tokio::io::AsyncWriteExt::shutdown(&mut writer).await?;
        Ok(())
    }

    async fn download(&self, key: &str, file: &Path) -> Result<(), Failure> {
        let mut body = self.store.get(&Key::from(key)).await?.into_stream();
        let mut file = tokio::fs::File::create(file).await?;
        while let Some(chunk) = body.try_next().await? {
            tokio::io::AsyncWriteExt::write_all(&mut file, &chunk).await?;
        }
        file.sync_all().await?;
        Ok(())
    }
}
