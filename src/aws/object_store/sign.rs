use std::time::{Duration, SystemTime};

use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::types::ServerSideEncryption;

use super::bucket::Bucket;
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::object_store::{SignMethod, SignOptions, SignedRequest, SignedUrl};
use crate::{Error, ErrorKind, ObjectKey, Result};

const OPERATION: &str = "object_store.sign";

impl Bucket {
    pub(super) async fn sign(&self, key: &ObjectKey, options: SignOptions) -> Result<SignedRequest> {
        let start = SystemTime::now();
        let signed = self.presign(key, &options, start, options.expires_in).await?;
        // Only now are the credentials known that the signature was made with.
        let left = self.connection.credentials().expiry().map(|end| end.duration_since(start).unwrap_or_default());
        let (signed, expires_in) = match left {
            Some(left) if left < options.expires_in => {
                let whole = Duration::from_secs(left.as_secs());
                if whole.is_zero() {
                    let subject = self.uri(key);
                    let message = "the credentials are about to expire, and with them the signature";
                    return Err(Error::new(ErrorKind::Unauthenticated, OPERATION, subject, message));
                }
                (self.presign(key, &options, start, whole).await?, whole)
            }
            _ => (signed, options.expires_in),
        };
        Ok(SignedRequest {
            method: options.method,
            url: SignedUrl::new(signed.uri()),
            headers: signed.headers().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
            expires_at: start + expires_in,
        })
    }

    async fn presign(
        &self,
        key: &ObjectKey,
        options: &SignOptions,
        start: SystemTime,
        expires_in: Duration,
    ) -> Result<PresignedRequest> {
        let subject = self.uri(key).to_string();
        let invalid = |message: &str| Error::new(ErrorKind::InvalidInput, OPERATION, &subject, message);
        let config = PresigningConfig::builder().start_time(start).expires_in(expires_in).build();
        let config = config.map_err(|_| invalid("a signature lives for at most seven days"))?;
        let client = self.client().await?;
        match options.method {
            SignMethod::Get => {
                let request = client
                    .get_object()
                    .bucket(&self.name)
                    .key(key.as_str())
                    .set_response_content_disposition(options.response_content_disposition.clone());
                let signed = request.presigned(config).silently().await;
                signed.map_err(|error| self.error(error, Call::reading(OPERATION, &subject, "s3:GetObject")))
            }
            SignMethod::Put => {
                let length = options.content_length.map(i64::try_from).transpose();
                let length = length.map_err(|_| invalid("the length is larger than any object"))?;
                let request = client
                    .put_object()
                    .bucket(&self.name)
                    .key(key.as_str())
                    .set_content_type(options.content_type.clone())
                    .set_content_length(length)
                    .set_if_none_match(options.create_only.then(|| "*".to_owned()))
                    .set_server_side_encryption(self.kms_key.as_ref().map(|_| ServerSideEncryption::AwsKms))
                    .set_ssekms_key_id(self.kms_key.clone());
                let signed = request.presigned(config).silently().await;
                signed.map_err(|error| self.error(error, Call::reading(OPERATION, &subject, "s3:PutObject")))
            }
        }
    }
}
