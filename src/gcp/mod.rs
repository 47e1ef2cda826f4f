//! Google Cloud: Cloud Storage, Secret Manager and Cloud Run Jobs.

mod connection;

use crate::cloud::Backends;
use crate::{Config, Error, ErrorKind, Result};

pub(crate) fn connect(_config: &Config) -> Result<Backends> {
    Err(Error::new(ErrorKind::Unsupported, "gcp.connect", "gcp", "not yet built"))
}
