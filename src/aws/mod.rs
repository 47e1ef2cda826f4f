//! Amazon Web Services: S3, Secrets Manager and ECS on Fargate.

mod account;
mod connection;
mod credential_cache;
mod credentials;
mod error;
mod job_runner;
mod object_store;
mod plain_http;
#[cfg(test)]
mod scripted;
mod secret_store;
mod signature;
mod signature_v4a;
mod silence;
mod verdict;
mod xml;

use std::sync::Arc;

pub use job_runner::EcsRunner;
pub use object_store::S3Store;
pub use secret_store::SecretsManagerStore;

use crate::cloud::Backends;
use crate::{Config, ObjectStore, Result};

pub(crate) fn connect(config: &Config) -> Result<Backends> {
    Ok(connected(config, connection::Connection::new(config)?))
}

/// The families, which share the connection and with it the retry budget.
fn connected(config: &Config, connection: connection::Connection) -> Backends {
    let objects: Arc<dyn ObjectStore> = Arc::new(S3Store::with_connection(config, connection.clone()));
    Backends {
        jobs: Arc::new(EcsRunner::with_connection(config, connection.clone(), objects.clone())),
        secrets: Arc::new(SecretsManagerStore::with_connection(connection)),
        objects,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::scripted::{Scripted, answer};
    use super::*;
    use crate::object_store::HeadOptions;
    use crate::{ObjectKey, SecretName};

    #[tokio::test]
    async fn the_families_of_a_connection_spend_one_retry_budget() {
        let server = Scripted::start(std::iter::repeat_n(answer(503, &[], ""), 5)).await;
        let mut config = server.config();
        config.aws.ecs_endpoint.clone_from(&config.aws.s3_endpoint);
        config.retry.budget = 2;
        let connection = connection::Connection::new(&config).unwrap().with_made_up_credentials();
        let Backends { objects, secrets, jobs } = connected(&config, connection);
        objects.head(&ObjectKey::new("k").unwrap(), HeadOptions::default()).await.unwrap_err();
        secrets.describe(&SecretName::new("s").unwrap()).await.unwrap_err();
        jobs.list(Default::default()).next().await.unwrap().unwrap_err();
        // The first is sent three times, and the others have no retry left.
        assert_eq!(server.lines().len(), 5);
    }
}
