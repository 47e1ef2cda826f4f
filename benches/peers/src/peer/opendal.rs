use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use opendal::{Operator, services};

use super::{BUCKET, PART, PIECE, Peer, Place, Provider, pieces};
use crate::Failure;

/// Apache OpenDAL.
pub struct OpenDal {
    operator: Operator,
    tuned: bool,
    parallel: usize,
}

impl OpenDal {
    pub fn new(place: &Place) -> Result<Self, Failure> {
        let operator = match place.provider {
            Provider::S3 => Operator::new(
                services::S3::default()
                    .endpoint(&place.endpoint)
                    .region("us-east-1")
                    .bucket(BUCKET)
                    .access_key_id("AKIDEXAMPLE")
                    .secret_access_key("secret")
                    .disable_config_load()
                    .disable_ec2_metadata(),
            )?,
            Provider::Gcs => Operator::new(
                services::Gcs::default()
                    .endpoint(&place.endpoint)
                    .bucket(BUCKET)
                    .token("token".to_owned())
                    .disable_vm_metadata()
                    .disable_config_load(),
            )?,
            Provider::Local => {
                std::fs::create_dir_all(&place.directory)?;
                Operator::new(services::Fs::default().root(&place.directory.display().to_string()))?
            }
        };
        Ok(Self { operator, tuned: place.tuned, parallel: place.parallel })
    }
}

#[async_trait]
impl Peer for OpenDal {
    async fn read(&self, key: &str, size: u64) -> Result<u64, Failure> {
        let mut body = if self.tuned {
            let reader = self.operator.reader_with(key).chunk(PART).concurrent(self.parallel).await?;
            reader.into_bytes_stream(0..size).await?
        } else {
            self.operator.reader(key).await?.into_bytes_stream(..).await?
        };
        let mut bytes = 0;
        while let Some(chunk) = body.try_next().await? {
            bytes += chunk.len() as u64;
        }
        Ok(bytes)
    }

    async fn read_whole(&self, key: &str) -> Result<u64, Failure> {
        Ok(self.operator.read(key).await?.to_bytes().len() as u64)
    }

    async fn write(&self, key: &str, data: Bytes) -> Result<(), Failure> {
        self.operator.write(key, data).await?;
        Ok(())
    }

    async fn write_stream(&self, key: &str, size: u64) -> Result<(), Failure> {
        let writer = self.operator.writer_with(key);
        let writer = if self.tuned { writer.chunk(PART).concurrent(self.parallel) } else { writer.chunk(PART) };
        let mut writer = writer.await?;
        for piece in pieces(size) {
            writer.write(piece).await?;
        }
        writer.close().await?;
        Ok(())
    }

    async fn head(&self, key: &str) -> Result<u64, Failure> {
        Ok(self.operator.stat(key).await?.content_length())
    }

    async fn list(&self, prefix: &str) -> Result<u64, Failure> {
        let mut entries = self.operator.lister_with(prefix).recursive(true).await?;
        let mut count = 0;
        while entries.try_next().await?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    async fn upload(&self, file: &Path, key: &str) -> Result<(), Failure> {
        let file = tokio::fs::File::open(file).await?;
        let mut reader = tokio_util::io::ReaderStream::with_capacity(file, PIECE);
        let writer = self.operator.writer_with(key).chunk(PART);
        let mut writer = if self.tuned { writer.concurrent(self.parallel).await? } else { writer.await? };
        while let Some(piece) = reader.try_next().await? {
            writer.write(piece).await?;
        }
        writer.close().await?;
        Ok(())
    }

    async fn download(&self, key: &str, file: &Path) -> Result<(), Failure> {
        let mut body = self.operator.reader(key).await?.into_bytes_stream(..).await?;
        let mut file = tokio::fs::File::create(file).await?;
        while let Some(chunk) = body.try_next().await? {
            tokio::io::AsyncWriteExt::write_all(&mut file, &chunk).await?;
        }
        file.sync_all().await?;
        Ok(())
    }
}
