use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_s3::Client;

use super::meta::time;
use crate::aws::credential_cache::CredentialCache;
use crate::aws::error::classify;
use crate::aws::silence::Silent as _;
use crate::call::Call;

/// Sessions with a directory bucket, which takes requests signed with their credentials only:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateSession.html>
#[derive(Debug)]
struct Sessions {
    client: Client,
    bucket: String,
}

/// The credentials of the session of the moment.
pub(super) fn credentials(client: Client, bucket: &str) -> CredentialCache {
    let sessions = Sessions { client, bucket: bucket.to_owned() };
    CredentialCache::new(SharedCredentialsProvider::new(sessions))
}

impl Sessions {
    async fn create(&self) -> Result<Credentials, CredentialsError> {
        let subject = format!("s3://{}", self.bucket);
        let call = Call::reading("object_store.create_session", &subject, "s3express:CreateSession");
        let sent = self.client.create_session().bucket(&self.bucket).send().silently().await;
        let session = sent.map_err(|error| CredentialsError::provider_error(classify(error, call)))?;
        let missing = || CredentialsError::not_loaded("the session has no credentials");
        let given = session.credentials.ok_or_else(missing)?;
        let (token, end) = (Some(given.session_token), Some(time(&given.expiration)));
        Ok(Credentials::new(given.access_key_id, given.secret_access_key, token, end, "S3Express"))
    }
}

impl ProvideCredentials for Sessions {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.create())
    }
}
