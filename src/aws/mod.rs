//! Amazon Web Services: S3, Secrets Manager and ECS on Fargate.

mod connection;
mod error;
mod object_store;
#[cfg(test)]
mod scripted;
mod secret_store;

pub use object_store::S3Store;
pub use secret_store::SecretsManagerStore;

use crate::cloud::Backends;
use crate::{Config, Error, ErrorKind, Result};

pub(crate) fn connect(config: &Config) -> Result<Backends> {
    let connection = connection::Connection::new(config)?;
    let _objects = S3Store::with_connection(config, connection.clone());
    let _secrets = SecretsManagerStore::with_connection(connection);
    Err(Error::new(ErrorKind::Unsupported, "aws.connect", "aws", "not yet built"))
}
