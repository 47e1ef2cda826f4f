//! Amazon Web Services: S3, Secrets Manager and ECS on Fargate.

mod connection;
mod error;
mod object_store;

pub use object_store::S3Store;

use crate::cloud::Backends;
use crate::{Config, Error, ErrorKind, Result};

pub(crate) fn connect(config: &Config) -> Result<Backends> {
    let connection = connection::Connection::new(config)?;
    let _objects = S3Store::with_connection(config, connection);
    Err(Error::new(ErrorKind::Unsupported, "aws.connect", "aws", "not yet built"))
}
