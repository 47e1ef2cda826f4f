use std::fmt;

use aws_sdk_secretsmanager::Client;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use tokio::sync::OnceCell;

use crate::aws::connection::Connection;
use crate::aws::error::classify_secret;
use crate::aws::silence::Silent as _;
use crate::call::{Call, Effect};
use crate::retry::{Retrier, Retrying, Safety};
use crate::secret_store::{MAX_SECRET_BYTES, SecretCapabilities};
use crate::{Result, SecretName};

pub(super) const CAPABILITIES: SecretCapabilities = SecretCapabilities {
    provider: "aws",
    recoverable_delete: true,
    version_states: false,
    staged_put: true,
    promote_keeps_id: true,
    atomic_conditional_put: true,
    stored_checksum: false,
    max_value_bytes: MAX_SECRET_BYTES,
};

/// The account's secrets, and the client that the first call makes.
pub(super) struct Vault {
    pub(super) connection: Connection,
    client: OnceCell<Client>,
}

/// One call, as errors name it.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) operation: &'static str,
    pub(super) name: &'a str,
    pub(super) permission: &'static str,
    pub(super) safety: Safety,
}

impl<'a> Request<'a> {
    pub(super) fn read(operation: &'static str, name: &'a SecretName, permission: &'static str) -> Self {
        Self { operation, name: name.as_str(), permission, safety: Safety::Read }
    }

    /// A change that is the same done twice: one with a token, or one that names the state it leads to.
    pub(super) fn change(operation: &'static str, name: &'a SecretName, permission: &'static str) -> Self {
        Self { operation, name: name.as_str(), permission, safety: Safety::Repeatable }
    }
}

impl Vault {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, client: OnceCell::new() }
    }

    pub(super) async fn client(&self) -> Result<&Client> {
        self.client
            .get_or_try_init(|| async {
                let sdk = self.connection.sdk_config().await?;
                let mut builder = aws_sdk_secretsmanager::config::Builder::from(sdk);
                if let Some(endpoint) = &self.connection.endpoints().secrets_manager {
                    builder = builder.endpoint_url(endpoint);
                }
                Ok(Client::from_conf(builder.build()))
            })
            .await
    }

    /// Makes a call of the SDK by the retry policy.
    pub(super) async fn call<T, E, F, Fut>(&self, request: Request<'_>, mut send: F) -> Result<T>
    where
        F: FnMut(&Client) -> Fut,
        Fut: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let Request { operation, name, permission, safety } = request;
        let client = self.client().await?;
        let effect = if safety == Safety::Read { Effect::Reads } else { Effect::Changes };
        self.connection
            .retrier()
            .run(operation, name, safety, |_| {
                let sending = send(client).silently();
                async move {
                    let sent = sending.await;
                    sent.map_err(|error| classify_secret(&error, Call { operation, subject: name, effect, permission }))
                }
            })
            .await
    }
}

impl Retrying for Vault {
    fn retrier(&self) -> &Retrier {
        self.connection.retrier()
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("connection", &self.connection).finish()
    }
}
