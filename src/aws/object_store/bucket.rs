use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use super::endpoint::{Endpoint, Place};
use super::session;
use crate::aws::connection::Connection;
use crate::aws::credential_cache::CredentialCache;
use crate::aws::error;
use crate::aws::plain_http;
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::http::{HttpClient, Transport};
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
    pub(super) transport: Arc<dyn Transport>,
    endpoint: OnceCell<Endpoint>,
    session: OnceCell<CredentialCache>,
    /// For what the crate does not say to S3 itself.
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
            transport: Arc::new(HttpClient::new(config.allow_http)),
            endpoint: OnceCell::new(),
            session: OnceCell::new(),
            client: OnceCell::new(),
            seen: AtomicBool::new(false),
            single_copy_bytes: MAX_PUT_BYTES,
            copy_part_bytes: 512 << 20,
        }
    }

    pub(super) fn uri(&self, key: &ObjectKey) -> ObjectUri {
        ObjectUri { scheme: Scheme::S3, bucket: self.name.clone(), key: key.clone() }
    }

    /// The same as text, made with as little work as can be.
    pub(super) fn subject(&self, key: &ObjectKey) -> String {
        ["s3://", &self.name, "/", key.as_str()].concat()
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
        let own = self.client.get().and_then(|client| client.config().region()).map(|region| region.as_ref());
        let region = error::bucket_region(&error).map(str::to_owned);
        self.explain_region(error::classify(error, call), region.as_deref(), own)
    }

    /// The error, which is really about the region if the bucket is in another one than the request was made for.
    pub(super) fn explain_region(&self, error: Error, bucket: Option<&str>, own: Option<&str>) -> Error {
        let (Some(region), Some(own)) = (bucket, own) else { return error };
        if region == own {
            return error;
        }
        let message = format!(
            "the bucket `{}` is in the region `{region}`, and this client speaks to `{own}`: set AWS_REGION={region}",
            self.name
        );
        error.with_kind(ErrorKind::InvalidConfig).with_message(message)
    }

    /// Where the bucket is, found out by the first request.
    pub(super) async fn endpoint(&self, call: Call<'_>) -> Result<&Endpoint> {
        self.endpoint
            .get_or_try_init(|| async {
                let sdk = self.connection.sdk_config().await?;
                let own = self.connection.endpoints().s3.as_deref();
                Endpoint::resolve(Place { sdk, bucket: &self.name, own }, call).await
            })
            .await
    }

    /// The credentials of a session, for a bucket that wants one.
    pub(super) async fn session(&self) -> Result<&CredentialCache> {
        self.session
            .get_or_try_init(|| async { Ok(session::credentials(self.client().await?.clone(), &self.name)) })
            .await
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
        let Ok(asked) = timeout_at(end, client.head_bucket().bucket(&self.name).send().silently()).await else {
            return error;
        };
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
