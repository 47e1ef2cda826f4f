//! What signs URLs: the key of a key file, or IAM `signBlob` on behalf of a service account.
//!
//! The auth crate's own signers are used for key files only. For an impersonated account it signs with the key of
//! the one who impersonates
//! ([source](https://docs.rs/crate/google-cloud-auth/1.18.0/source/src/credentials/impersonated.rs)), which Cloud
//! Storage refuses; for federated identities it has none; and its calls of `signBlob` keep to no policy of ours.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use google_cloud_auth::credentials::{self, CacheableResource, Credentials};
use google_cloud_auth::signer::{self, Signer, SigningError, SigningProvider};
use http::Extensions;
use serde::Deserialize;

use super::application_default::{Identity, identity};
use super::connection::no_token;
use super::error::classify;
use crate::call::Call;
use crate::http::{HttpClient, RequestBody, Transport as _};
use crate::retry::{Retrier, Safety};
use crate::{Error, ErrorKind, Result};

const OPERATION: &str = "object_store.sign";
/// <https://cloud.google.com/storage/docs/access-control/signed-urls>
pub(super) const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// For so long a signature by a key of the system's holds at least; later the key may be gone:
/// <https://cloud.google.com/storage/docs/authentication/creating-signatures>
const LONGEST_BY_IAM: Duration = Duration::from_secs(12 * 3600);
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// A signer, and how long what it signs holds.
#[derive(Debug)]
pub(super) struct UrlSigner {
    pub(super) signer: Signer,
    pub(super) longest: Duration,
}

/// The signer of the application default credentials.
///
/// # Errors
/// `Unauthenticated` for credentials that cannot be read; `Unsupported` for ones that are no service account.
pub(super) fn of_credentials(
    credentials: &Credentials,
    retrier: &Retrier,
    endpoint: Option<&str>,
) -> Result<UrlSigner> {
    let failed = |error| {
        let message = format!("the application default credentials cannot sign: {error}");
        Error::new(ErrorKind::Unauthenticated, "gcp.signer", "application default", message)
    };
    let account = match identity()? {
        Identity::Key(file) => {
            let signer = credentials::service_account::Builder::new(file).build_signer().map_err(failed)?;
            return Ok(UrlSigner { signer, longest: LONGEST });
        }
        Identity::Account(email) => Account::Named(email),
        Identity::Machine => Account::Machine(credentials::mds::Builder::default().build_signer().map_err(failed)?),
        Identity::Nobody(kind) => {
            let message = format!(
                "credentials of the type {kind} cannot sign, because they are no service account; let them act as one \
                 (`service_account_impersonation_url` in their file)"
            );
            return Err(Error::new(ErrorKind::Unsupported, "gcp.signer", "application default", message));
        }
    };
    let by_iam = ByIam {
        account,
        credentials: credentials.clone(),
        retrier: retrier.clone(),
        endpoint: endpoint.map(str::to_owned),
        // An endpoint that is not safe was refused with the configuration.
        transport: HttpClient::new(endpoint.is_some()),
    };
    Ok(UrlSigner { signer: Signer::from(by_iam), longest: LONGEST_BY_IAM })
}

enum Account {
    Named(String),
    /// Asks the metadata server, once.
    Machine(Signer),
}

/// <https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signBlob>
struct ByIam {
    account: Account,
    credentials: Credentials,
    retrier: Retrier,
    endpoint: Option<String>,
    transport: HttpClient,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signed {
    signed_blob: String,
}

impl ByIam {
    async fn signature(&self, account: &str, content: &[u8]) -> Result<Bytes> {
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => {
                let universe = self.credentials.universe_domain().await;
                format!("https://iamcredentials.{}", universe.as_deref().unwrap_or("googleapis.com"))
            }
        };
        let url = format!("{endpoint}/v1/projects/-/serviceAccounts/{account}:signBlob");
        let body = serde_json::json!({"payload": BASE64_STANDARD.encode(content)}).to_string();
        self.retrier.run(OPERATION, account, Safety::Read, |_| self.attempt(account, &url, &body)).await
    }

    async fn attempt(&self, account: &str, url: &str, body: &str) -> Result<Bytes> {
        let call = Call::reading(OPERATION, account, "iam.serviceAccounts.signBlob");
        let headers = match self.credentials.headers(Extensions::new()).await {
            Ok(CacheableResource::New { data, .. }) => data,
            Ok(CacheableResource::NotModified) => return Err(call.error(ErrorKind::Internal, "there is no token")),
            Err(error) => return Err(no_token(&error, OPERATION, account)),
        };
        let mut request = http::Request::post(url)
            .header("content-type", "application/json")
            .body(RequestBody::of([Bytes::copy_from_slice(body.as_bytes())]))
            .map_err(|_| call.error(ErrorKind::Internal, "the request could not be put together"))?;
        request.headers_mut().extend(headers);
        let answer = self.transport.send(request).await.map_err(|failure| call.lost(failure))?;
        if answer.status != 200 {
            return Err(classify(call, answer).await);
        }
        let answer = answer.bytes(MAX_ANSWER_BYTES).await.map_err(|failure| call.lost(failure))?;
        let signed: Option<Signed> = serde_json::from_slice(&answer).ok();
        let signature = signed.and_then(|signed| BASE64_STANDARD.decode(signed.signed_blob).ok());
        signature.map(Bytes::from).ok_or_else(|| call.error(ErrorKind::Unavailable, "the answer has no signature"))
    }
}

impl SigningProvider for ByIam {
    async fn client_email(&self) -> signer::Result<String> {
        match &self.account {
            Account::Named(email) => Ok(email.clone()),
            Account::Machine(signer) => signer.client_email().await,
        }
    }

    async fn sign(&self, content: &[u8]) -> signer::Result<Bytes> {
        let account = self.client_email().await?;
        self.signature(&account, content).await.map_err(SigningError::from_msg)
    }
}

impl fmt::Debug for ByIam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByIam").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
