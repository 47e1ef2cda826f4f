//! Amazon Web Services: S3, Secrets Manager and ECS on Fargate.

mod account;
mod connection;
mod error;
mod job_runner;

pub use job_runner::EcsRunner;

use crate::cloud::Backends;
use crate::{Config, Error, ErrorKind, Result};

pub(crate) fn connect(config: &Config) -> Result<Backends> {
    let _connection = connection::Connection::new(config)?;
    Err(Error::new(ErrorKind::Unsupported, "aws.connect", "aws", "not yet built"))
}
