use std::path::Path;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, CompletedMultipartUpload, CompletedPart, EncodingType};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{BUCKET, PART, Peer, Place, pieces};
use crate::Failure;

/// The AWS SDK's own client: one request for one object, and parts by hand.
pub struct AwsSdk {
    client: Client,
    tuned: bool,
    alike: bool,
    parallel: usize,
}

pub fn config(place: &Place) -> Builder {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(&place.endpoint)
        .credentials_provider(Credentials::new("AKIDEXAMPLE", "secret", None, None, "bench"))
        .force_path_style(true);
    let config = if place.alike {
        config
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
    } else {
        config
    };
    if place.tuned || place.alike {
        config
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
    } else {
        config
    }
}

impl AwsSdk {
    pub fn new(place: &Place) -> Self {
        let client = Client::from_conf(config(place).build());
        Self { client, tuned: place.tuned, alike: place.alike, parallel: place.parallel }
    }

    async fn part(&self, key: &str, upload: &str, number: i32, data: Bytes) -> Result<CompletedPart, Failure> {
        let part = self.client.upload_part().bucket(BUCKET).key(key).upload_id(upload).part_number(number);
        let part = part.body(ByteStream::from(data)).customize();
        let part = if self.tuned { part.disable_payload_signing() } else { part };
        let sent = part.send().await?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag)
            .set_checksum_crc32(sent.checksum_crc32)
            .build())
    }

    async fn range(&self, key: &str, start: u64, end: u64) -> Result<u64, Failure> {
        let got = self.client.get_object().bucket(BUCKET).key(key).range(format!("bytes={start}-{}", end - 1));
        drain(got.send().await?.body).await
    }
}

async fn drain(mut body: ByteStream) -> Result<u64, Failure> {
    let mut bytes = 0;
    while let Some(chunk) = body.try_next().await? {
        bytes += chunk.len() as u64;
    }
    Ok(bytes)
}

#[async_trait]
impl Peer for AwsSdk {
    async fn read(&self, key: &str, size: u64) -> Result<u64, Failure> {
        if self.tuned {
            let ranges = (0..size).step_by(PART).map(|start| self.range(key, start, size.min(start + PART as u64)));
            return stream::iter(ranges)
                .buffered(self.parallel)
                .try_fold(0, |all, bytes| async move { Ok(all + bytes) })
                .await;
        }
        let get = self.client.get_object().bucket(BUCKET).key(key);
        if self.alike {
            // What comes is summed by this crate too; asked for so, the SDK does not sum it itself.
            let get = get.customize().mutate_request(|request| {
                request.headers_mut().insert("x-amz-checksum-mode", "ENABLED");
            });
            let body = get.send().await?.body.collect().await?.into_bytes();
            std::hint::black_box(crc32c::crc32c(&body));
            return Ok(body.len() as u64);
        }
        drain(get.send().await?.body).await
    }

    async fn read_whole(&self, key: &str) -> Result<u64, Failure> {
        let body = self.client.get_object().bucket(BUCKET).key(key).send().await?.body;
        Ok(body.collect().await?.into_bytes().len() as u64)
    }

    async fn write(&self, key: &str, data: Bytes) -> Result<(), Failure> {
        let put = self.client.put_object().bucket(BUCKET).key(key);
        let put = if self.alike {
            let crc = crate::base64(crc32c::crc32c(&data));
            put.checksum_crc32_c(crc).metadata("write-id", "00000000-0000-4000-8000-000000000000")
        } else {
            put
        };
        let put = put.body(ByteStream::from(data)).customize();
        let put = if self.tuned || self.alike { put.disable_payload_signing() } else { put };
        put.send().await?;
        Ok(())
    }

    async fn write_stream(&self, key: &str, size: u64) -> Result<(), Failure> {
        let created = self.client.create_multipart_upload().bucket(BUCKET).key(key).send().await?;
        let upload = created.upload_id().unwrap_or_default();
        let mut pieces = pieces(size);
        let parts = std::iter::from_fn(|| {
            let mut part = BytesMut::with_capacity(PART);
            while part.len() < PART {
                let Some(piece) = pieces.next() else { break };
                part.extend_from_slice(&piece);
            }
            (!part.is_empty()).then(|| part.freeze())
        });
        let sends = (1..).zip(parts).map(|(number, part)| self.part(key, upload, number, part));
        let parts: Vec<_> = stream::iter(sends).buffered(self.parallel).try_collect().await?;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let done = self.client.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(upload);
        done.multipart_upload(parts).send().await?;
        Ok(())
    }

    async fn head(&self, key: &str) -> Result<u64, Failure> {
        let mode = self.alike.then_some(ChecksumMode::Enabled);
        let head = self.client.head_object().bucket(BUCKET).key(key).set_checksum_mode(mode).send().await?;
        Ok(head.content_length().unwrap_or(0).cast_unsigned())
    }

    async fn list(&self, prefix: &str) -> Result<u64, Failure> {
        let list = self.client.list_objects_v2().bucket(BUCKET).prefix(prefix);
        let list = list.set_encoding_type(self.alike.then_some(EncodingType::Url));
        let mut pages = list.into_paginator().send();
        let mut count = 0;
        while let Some(page) = pages.try_next().await? {
            count += page.contents().len() as u64;
        }
        Ok(count)
    }

    async fn upload(&self, file: &Path, key: &str) -> Result<(), Failure> {
        let body = ByteStream::from_path(file).await?;
        let put = self.client.put_object().bucket(BUCKET).key(key).body(body).customize();
        let put = if self.tuned { put.disable_payload_signing() } else { put };
        put.send().await?;
        Ok(())
    }

    async fn download(&self, key: &str, file: &Path) -> Result<(), Failure> {
        let body = self.client.get_object().bucket(BUCKET).key(key).send().await?.body;
        let mut file = tokio::fs::File::create(file).await?;
        tokio::io::copy(&mut body.into_async_read(), &mut file).await?;
        file.sync_all().await?;
        Ok(())
    }
}
