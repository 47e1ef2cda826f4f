//! Amazon Web Services: S3, Secrets Manager and ECS on Fargate.

use crate::cloud::Backends;
use crate::{Config, Error, ErrorKind, Result};

pub(crate) fn connect(_config: &Config) -> Result<Backends> {
    Err(Error::new(ErrorKind::Unsupported, "aws.connect", "aws", "not yet built"))
}
