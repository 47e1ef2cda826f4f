//! Amazon Web Services: S3, Secrets Manager and ECS on Fargate.

mod account;
mod connection;
mod credentials;
mod error;
mod job_runner;
mod object_store;
mod plain_http;
#[cfg(test)]
mod scripted;
mod secret_store;
mod silence;

use std::sync::Arc;

pub use job_runner::EcsRunner;
pub use object_store::S3Store;
pub use secret_store::SecretsManagerStore;

use crate::cloud::Backends;
use crate::{Config, ObjectStore, Result};

pub(crate) fn connect(config: &Config) -> Result<Backends> {
    let connection = connection::Connection::new(config)?;
    let objects: Arc<dyn ObjectStore> = Arc::new(S3Store::with_connection(config, connection.clone()));
    Ok(Backends {
        jobs: Arc::new(EcsRunner::with_connection(config, connection.clone(), objects.clone())),
        secrets: Arc::new(SecretsManagerStore::with_connection(connection)),
        objects,
    })
}
