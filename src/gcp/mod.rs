//! Google Cloud: Cloud Storage, Secret Manager and Cloud Run Jobs.

mod connection;
mod gax;
mod job_runner;
mod place;
mod secret_store;

use crate::cloud::Backends;
use crate::{Config, Error, ErrorKind, Result};

pub use job_runner::CloudRunRunner;
pub use secret_store::SecretManagerStore;

pub(crate) fn connect(_config: &Config) -> Result<Backends> {
    Err(Error::new(ErrorKind::Unsupported, "gcp.connect", "gcp", "not yet built"))
}
