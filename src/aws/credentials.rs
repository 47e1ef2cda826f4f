//! The SDK's default chain of credentials, of which no more is built than is asked.

use std::fmt;

use aws_config::ConfigLoader;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result, SharedCredentialsProvider, future};
use tokio::sync::OnceCell;

/// The default chain: the environment comes first in it, and the rest (profiles, web identity, the metadata services,
/// each with clients of its own) is built once the environment has none.
pub(super) struct Chain {
    environment: EnvironmentVariableCredentialsProvider,
    /// Loads the SDK's configuration with the chain as the SDK builds it.
    loader: Box<dyn Fn() -> ConfigLoader + Send + Sync>,
    rest: OnceCell<SharedCredentialsProvider>,
}

impl Chain {
    pub(super) fn new(loader: impl Fn() -> ConfigLoader + Send + Sync + 'static) -> Self {
        let environment = EnvironmentVariableCredentialsProvider::new();
        Self { environment, loader: Box::new(loader), rest: OnceCell::new() }
    }

    async fn credentials(&self) -> Result {
        match self.environment.provide_credentials().await {
            Err(CredentialsError::CredentialsNotLoaded(_)) => {}
            provided => return provided,
        }
        let rest = self.rest.get_or_try_init(|| async {
            let sdk = (self.loader)().load().await;
            sdk.credentials_provider().ok_or_else(|| CredentialsError::not_loaded("the SDK has no chain"))
        });
        rest.await?.provide_credentials().await
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        // The shared provider itself does not pass this on.
        self.rest.get().and_then(|rest| rest.as_ref().fallback_on_interrupt())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chain")
    }
}
