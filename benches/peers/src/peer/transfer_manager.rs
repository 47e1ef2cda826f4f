use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use aws_sdk_s3_transfer_manager::config::S3ClientConfig;
use aws_sdk_s3_transfer_manager::io::{InputStream, PartData, PartStream, SizeHint, StreamContext};
use aws_sdk_s3_transfer_manager::{Client, Config};
use bytes::{Bytes, BytesMut};

use super::{BUCKET, Peer, Place, aws_sdk, pieces};
use crate::Failure;

/// AWS's transfer manager in its automatic mode.
pub struct TransferManager(Client);

impl TransferManager {
    pub fn new(place: &Place) -> Self {
        let config = Config::builder().s3_config(S3ClientConfig::new(aws_sdk::config(place))).build();
        Self(Client::new(config))
    }

    async fn put(&self, key: &str, body: InputStream) -> Result<(), Failure> {
        self.0.upload().bucket(BUCKET).key(key).body(body).initiate()?.join().await?;
        Ok(())
    }
}

/// A stream of known size that is cut into parts.
struct Parts {
    pieces: Box<dyn Iterator<Item = Bytes> + Send + Sync>,
    number: u64,
    size: u64,
}

impl PartStream for Parts {
    fn poll_part(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        stream: &StreamContext,
    ) -> Poll<Option<std::io::Result<PartData>>> {
        let mut part = BytesMut::with_capacity(stream.part_size());
        while part.len() < stream.part_size() {
            let Some(piece) = self.pieces.next() else { break };
            part.extend_from_slice(&piece);
        }
        if part.is_empty() {
            return Poll::Ready(None);
        }
        self.number += 1;
        Poll::Ready(Some(Ok(PartData::new(self.number, part.freeze()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::exact(self.size)
    }
}

#[async_trait]
impl Peer for TransferManager {
    async fn read(&self, key: &str, _size: u64) -> Result<u64, Failure> {
        let mut download = self.0.download().bucket(BUCKET).key(key).initiate()?;
        let mut bytes = 0;
        while let Some(chunk) = download.body_mut().next().await {
            bytes += chunk?.data.len() as u64;
        }
        Ok(bytes)
    }

    async fn write(&self, key: &str, data: Bytes) -> Result<(), Failure> {
        self.put(key, data.into()).await
    }

    async fn write_stream(&self, key: &str, size: u64) -> Result<(), Failure> {
        let parts = Parts { pieces: Box::new(pieces(size)), number: 0, size };
        self.put(key, InputStream::from_part_stream(parts)).await
    }

    async fn upload(&self, file: &Path, key: &str) -> Result<(), Failure> {
        self.put(key, InputStream::from_path(file)?).await
    }

    async fn download(&self, key: &str, file: &Path) -> Result<(), Failure> {
        let target = std::fs::File::create(file)?;
        let synced = target.try_clone()?;
        self.0.download().bucket(BUCKET).key(key).write_to_file(target)?.join().await?;
        tokio::task::spawn_blocking(move || synced.sync_all()).await??;
        Ok(())
    }
}
