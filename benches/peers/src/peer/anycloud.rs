use std::path::Path;
use std::sync::Arc;

use anycloud::object_store::{ByteStream, ListOptions};
use anycloud::{Cloud, Config, GetOptions, ObjectKey, ObjectStore, ObjectStoreExt as _, PutOptions};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};

use super::{BUCKET, Peer, Place, Provider, pieces};
use crate::Failure;

/// This crate, as `Cloud::from_env` sets it up.
pub struct Anycloud(Arc<dyn ObjectStore>);

impl Anycloud {
    pub fn new(place: &Place) -> Result<Self, Failure> {
        let provider = match place.provider {
            Provider::S3 => "aws",
            Provider::Gcs => "gcp",
            Provider::Local => "local",
        };
        let directory = place.directory.display().to_string();
        let config = Config::from_lookup(|name| {
            let value = match name {
                "CLOUD_PROVIDER" => provider,
                "ANYCLOUD_BUCKET" => BUCKET,
                "AWS_REGION" => "us-east-1",
                "AWS_ENDPOINT_URL_S3" | "STORAGE_EMULATOR_HOST" => &place.endpoint,
                "GOOGLE_CLOUD_PROJECT" => "bench",
                "ANYCLOUD_LOCAL_ROOT" => &directory,
                _ => return None,
            };
            Some(value.to_owned())
        })?;
        Ok(Self(Arc::clone(Cloud::connect(config)?.objects())))
    }
}

#[async_trait]
impl Peer for Anycloud {
    async fn read(&self, key: &str, _size: u64) -> Result<u64, Failure> {
        let mut body = self.0.get(&ObjectKey::new(key)?, GetOptions::default()).await?.body;
        let mut bytes = 0;
        while let Some(chunk) = body.try_next().await? {
            bytes += chunk.len() as u64;
        }
        Ok(bytes)
    }

    async fn read_whole(&self, key: &str) -> Result<u64, Failure> {
        Ok(self.0.get_bytes(&ObjectKey::new(key)?).await?.len() as u64)
    }

    async fn write(&self, key: &str, data: Bytes) -> Result<(), Failure> {
        self.0.put_bytes(&ObjectKey::new(key)?, data).await?;
        Ok(())
    }

    async fn write_stream(&self, key: &str, size: u64) -> Result<(), Failure> {
        let stream = ByteStream::new(stream::iter(pieces(size).map(Ok)));
        self.0.put_stream(&ObjectKey::new(key)?, stream, PutOptions::default()).await?;
        Ok(())
    }

    async fn head(&self, key: &str) -> Result<u64, Failure> {
        Ok(self.0.head(&ObjectKey::new(key)?, Default::default()).await?.size)
    }

    async fn list(&self, prefix: &str) -> Result<u64, Failure> {
        let mut entries = self.0.list(ListOptions::prefix(prefix));
        let mut count = 0;
        while entries.try_next().await?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    async fn upload(&self, file: &Path, key: &str) -> Result<(), Failure> {
        self.0.upload_file(file, &ObjectKey::new(key)?, PutOptions::default(), None).await?;
        Ok(())
    }

    async fn download(&self, key: &str, file: &Path) -> Result<(), Failure> {
        self.0.download_file(&ObjectKey::new(key)?, file, None).await?;
        Ok(())
    }
}
