//! This machine: files and processes behind the same contracts, with no account and no daemon.

mod job_runner;

pub use job_runner::{ProcessRunner, supervise_if_asked};

use crate::cloud::Backends;
use crate::config::LocalConfig;
use crate::{Config, Error, ErrorKind, Result};

/// Serves the signed URLs of the local object store.
#[derive(Clone, Debug)]
pub struct SignedUrlHandler {}

impl SignedUrlHandler {
    pub(crate) fn new(_config: &LocalConfig) -> Self {
        Self {}
    }
}

pub(crate) fn connect(_config: &Config) -> Result<Backends> {
    Err(Error::new(ErrorKind::Unsupported, "local.connect", "local", "not yet built"))
}
