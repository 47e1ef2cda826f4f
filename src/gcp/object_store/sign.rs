use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use google_cloud_auth::signer::{Signer, SigningProvider};
use google_cloud_storage::builder::storage::SignedUrlBuilder;
use sha2::{Digest as _, Sha256};

use super::bucket::{Bucket, CAPABILITIES};
use super::temporaries;
use crate::object_store::{SignMethod, SignOptions, SignedRequest, SignedUrl};
use crate::retry::in_time;
use crate::{Error, ErrorKind, ObjectKey, Result};

const OPERATION: &str = "object_store.sign";

impl Bucket {
    pub(super) async fn sign(&self, key: &ObjectKey, options: SignOptions) -> Result<SignedRequest> {
        let subject = self.uri(key).to_string();
        let longest = CAPABILITIES.max_sign_expiry;
        if options.expires_in.as_secs() == 0 || options.expires_in > longest {
            let message = format!("a signature lives from 1 second to {} seconds", longest.as_secs());
            return Err(Error::new(ErrorKind::InvalidInput, OPERATION, &subject, message));
        }
        if options.method == SignMethod::Put {
            temporaries::check(key, OPERATION, || subject.clone())?;
        }
        let nobody;
        let (signer, longest) = if self.connection.is_emulator() {
            nobody = Signer::from(Nobody);
            (&nobody, longest)
        } else {
            let signer = self.connection.signer().map_err(|error| error.with_operation(OPERATION, &subject))?;
            (&signer.signer, signer.longest)
        };
        let method = match options.method {
            SignMethod::Get => http::Method::GET,
            SignMethod::Put => http::Method::PUT,
        };
        let bucket = format!("projects/_/buckets/{}", self.name);
        let expires_in = Duration::from_secs(options.expires_in.min(longest).as_secs());
        // The builder takes the time itself, a moment later.
        let expires_at = SystemTime::now() + expires_in;
        let mut builder = SignedUrlBuilder::for_object(bucket, key.as_str())
            .with_method(method)
            .with_expiration(expires_in)
            .with_endpoint(&self.endpoint);
        let headers = required_headers(&options);
        for (name, value) in &headers {
            builder = builder.with_header(name, value);
        }
        if let (SignMethod::Get, Some(disposition)) = (options.method, &options.response_content_disposition) {
            builder = builder.with_query_param("response-content-disposition", disposition);
        }
        let sign = async {
            match builder.sign_with(signer).await {
                Ok(url) => Ok(SignedRequest { method: options.method, url: SignedUrl::new(url), headers, expires_at }),
                Err(error) => {
                    let account = signer.client_email().await.unwrap_or_else(|_| "(unknown)".to_owned());
                    Err(explain(&error, &account, &subject))
                }
            }
        };
        in_time(OPERATION, &subject, sign).await
    }
}

/// What the bearer must send for the signature to hold:
/// <https://cloud.google.com/storage/docs/xml-api/reference-headers>
fn required_headers(options: &SignOptions) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    if options.method == SignMethod::Put {
        let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
        if let Some(content_type) = &options.content_type {
            add("content-type", content_type.clone());
        }
        if let Some(length) = options.content_length {
            add("x-goog-content-length-range", format!("{length},{length}"));
        }
        if options.create_only {
            add("x-goog-if-generation-match", "0".to_owned());
        }
    }
    headers
}

/// Why a URL could not be signed, and who must be allowed what.
fn explain(error: &(dyn StdError + 'static), account: &str, subject: &str) -> Error {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(own) = error.downcast_ref::<Error>() {
            return explained(own, account, subject);
        }
        cause = error.source();
    }
    // The words of the auth crate are about the key or the metadata server.
    let message = format!("the service account `{account}` could not sign: {error}");
    Error::new(ErrorKind::Unauthenticated, OPERATION, subject, message)
}

fn explained(error: &Error, account: &str, subject: &str) -> Error {
    // An account that does not exist and one that is not the caller's look alike.
    let denied = matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound);
    let (kind, message) = if denied {
        let message = format!(
            "the service account `{account}` could not sign: without a key file it needs the permission \
             iam.serviceAccounts.signBlob on itself, which the role Service Account Token Creator \
             (roles/iam.serviceAccountTokenCreator) has"
        );
        (ErrorKind::PermissionDenied, message)
    } else {
        (error.kind(), format!("the service account `{account}` could not sign: {}", error.message()))
    };
    let explained = Error::new(kind, OPERATION, subject, message);
    match error.status() {
        Some(status) => explained.with_status(status),
        None => explained,
    }
}

/// Signs for an emulator, which knows no keys: a digest in place of a signature, by which an emulator that cares can
/// still tell that nothing was altered.
#[derive(Debug)]
struct Nobody;

impl SigningProvider for Nobody {
    async fn client_email(&self) -> google_cloud_auth::signer::Result<String> {
        Ok("nobody@emulator.invalid".to_owned())
    }

    async fn sign(&self, content: &[u8]) -> google_cloud_auth::signer::Result<Bytes> {
        Ok(Bytes::copy_from_slice(&Sha256::digest(content)))
    }
}
