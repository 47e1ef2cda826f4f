use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use google_cloud_auth::credentials::anonymous;
use google_cloud_storage::client::Storage;
use google_cloud_storage::streaming_source::StreamingSource;

use super::{BUCKET, Peer, Place, pieces};
use crate::Failure;

/// Google's own client. It reads metadata and lists over gRPC only, so that those rows are empty.
pub struct Google(Storage);

fn bucket() -> String {
    format!("projects/_/buckets/{BUCKET}")
}

impl Google {
    pub async fn new(place: &Place) -> Result<Self, Failure> {
        let builder = Storage::builder().with_endpoint(&place.endpoint);
        Ok(Self(builder.with_credentials(anonymous::Builder::new().build()).build().await?))
    }
}

struct Pieces(Box<dyn Iterator<Item = Bytes> + Send + Sync>);

impl StreamingSource for Pieces {
    type Error = std::io::Error;

    async fn next(&mut self) -> Option<Result<Bytes, Self::Error>> {
        self.0.next().map(Ok)
    }
}

#[async_trait]
impl Peer for Google {
    async fn read(&self, key: &str, _size: u64) -> Result<u64, Failure> {
        let mut body = self.0.read_object(bucket(), key).send().await?;
        let mut bytes = 0;
        while let Some(chunk) = body.next().await {
            bytes += chunk?.len() as u64;
        }
        Ok(bytes)
    }

    async fn write(&self, key: &str, data: Bytes) -> Result<(), Failure> {
        self.0.write_object(bucket(), key, data).send_unbuffered().await?;
        Ok(())
    }

    async fn write_stream(&self, key: &str, size: u64) -> Result<(), Failure> {
        let source = Pieces(Box::new(pieces(size)));
        self.0.write_object(bucket(), key, source).send_buffered().await?;
        Ok(())
    }

    async fn upload(&self, file: &Path, key: &str) -> Result<(), Failure> {
        let file = tokio::fs::File::open(file).await?;
        self.0.write_object(bucket(), key, file).send_unbuffered().await?;
        Ok(())
    }

    async fn download(&self, key: &str, file: &Path) -> Result<(), Failure> {
        let mut body = self.0.read_object(bucket(), key).send().await?;
        let mut file = tokio::fs::File::create(file).await?;
        while let Some(chunk) = body.next().await {
            tokio::io::AsyncWriteExt::write_all(&mut file, &chunk?).await?;
        }
        file.sync_all().await?;
        Ok(())
    }
}
