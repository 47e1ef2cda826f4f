use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::aws::connection::Connection;
use crate::aws::error;
use crate::aws::plain_http;
use crate::call::Call;
use crate::object_store::{ObjectCapabilities, Scheme};
use crate::retry::{Retrier, Retrying, later};
use crate::{Config, Error, ErrorKind, ObjectKey, ObjectUri, Result};

const GIB: u64 = 1 << 30;
/// The most that PutObject, CopyObject and a part take:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
pub(super) const MAX_PUT_BYTES: u64 = 5 * GIB;
/// From the same page, as are the other limits of uploads in parts.
pub(super) const MAX_PARTS: u32 = 10_000;
pub(super) const MIN_PART_BYTES: u64 = 5 << 20;

pub(super) const CAPABILITIES: ObjectCapabilities = ObjectCapabilities {
    provider: "aws",
    conditional_put: true,
    conditional_upload: true,
    conditional_copy: true,
    conditional_delete: true,
    past_versions: None,
    stored_crc32c: true,
    parallel_parts: true,
    parallel_ranges: true,
    sign_content_length: true,
    sign_create_only: true,
    max_object_bytes: MAX_PARTS as u64 * MAX_PUT_BYTES,
    max_put_bytes: MAX_PUT_BYTES,
    // https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html
    max_sign_expiry: Duration::from_secs(7 * 24 * 3600),
};

/// The bucket, and the client that the first call makes.
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) kms_key: Option<String>,
    pub(super) connection: Connection,
    client: OnceCell<Client>,
    /// Whether an answer has shown that the bucket is there.
    seen: AtomicBool,
    /// Up to this size a copy is one request.
    pub(super) single_copy_bytes: u64,
    /// The size of the parts of a larger copy, unless there would be too many.
    pub(super) copy_part_bytes: u64,
}

impl Bucket {
    pub(super) fn new(config: &Config, connection: Connection) -> Self {
        Self {
            name: config.aws.bucket.clone(),
            kms_key: config.aws.kms_key.clone(),
            connection,
            client: OnceCell::new(),
            seen: AtomicBool::new(false),
            single_copy_bytes: MAX_PUT_BYTES,
            copy_part_bytes: 512 << 20,
        }
    }

    pub(super) fn uri(&self, key: &ObjectKey) -> ObjectUri {
        ObjectUri { scheme: Scheme::S3, bucket: self.name.clone(), key: key.clone() }
    }

    pub(super) async fn client(&self) -> Result<&Client> {
        self.client
            .get_or_try_init(|| async {
                let sdk = self.connection.sdk_config().await?;
                let mut builder = aws_sdk_s3::config::Builder::from(sdk);
                if let Some(endpoint) = &self.connection.endpoints().s3 {
                    builder = builder.endpoint_url(endpoint).force_path_style(true);
                    if endpoint.starts_with("http://") && sdk.http_client().is_none() {
                        builder = builder.http_client(plain_http::client());
                    }
                }
                Ok(Client::from_conf(builder.build()))
            })
            .await
    }

    /// The error of a call; one that is really about the region says so.
    pub(super) fn error<E>(&self, error: SdkError<E, HttpResponse>, call: Call<'_>) -> Error
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let own = self.client.get().and_then(|client| client.config().region()).map_or("", |region| region.as_ref());
        if let Some(region) = error::bucket_region(&error).filter(|region| *region != own) {
            let message = format!(
                "the bucket `{}` is in the region `{region}`, and this client speaks to `{own}`: set \
                 AWS_REGION={region}",
                self.name
            );
            return error::classify(error, call).with_kind(ErrorKind::InvalidConfig).with_message(message);
        }
        error::classify(error, call)
    }

    pub(super) fn note_seen(&self) {
        self.seen.store(true, Ordering::Relaxed);
    }

    /// What a 404 without a body means: S3 says the same of a missing object and a missing bucket. Asks once, as long
    /// as no answer has shown that the bucket is there.
    pub(super) async fn explain_not_found(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::NotFound || self.seen.load(Ordering::Relaxed) {
            return error;
        }
        let Ok(client) = self.client().await else { return error };
        let end = self.retrier().deadline().min(later(Instant::now(), self.retrier().policy().attempt_timeout));
        let Ok(asked) = timeout_at(end, client.head_bucket().bucket(&self.name).send()).await else { return error };
        match asked {
            Ok(_) => self.note_seen(),
            Err(asked) if asked.raw_response().is_some_and(|answer| answer.status().as_u16() == 404) => {
                let message = format!("the bucket `{}` does not exist", self.name);
                return error.with_kind(ErrorKind::InvalidConfig).with_message(message);
            }
            // Whoever may not ask about the bucket gets the plain answer.
            Err(_) => {}
        }
        error
    }
}

impl Retrying for Bucket {
    fn retrier(&self) -> &Retrier {
        self.connection.retrier()
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).field("connection", &self.connection).finish()
    }
}
