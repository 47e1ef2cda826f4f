//! This machine: files and processes behind the same contracts, with no account and no daemon.

#[cfg(test)]
mod crash_states;
mod error;
mod file_operations;
mod job_runner;
mod object_store;
mod secret_store;
mod signed_url;
#[cfg(test)]
mod swapping;

use std::sync::Arc;

use crate::cloud::Backends;
use crate::config::LocalConfig;
use crate::{Config, ObjectStore, Result};

pub use job_runner::{ProcessRunner, supervise_if_asked};
pub use object_store::FileStore;
pub use secret_store::FileSecretStore;
pub use signed_url::{SignedUrlBody, SignedUrlHandler};

/// The bucket that the settings describe.
pub(crate) fn file_store(config: &LocalConfig) -> Arc<FileStore> {
    let store = FileStore::new(&config.root, &config.bucket);
    Arc::new(match &config.signed_url_base {
        Some(base) => store.with_signed_url_base(base),
        None => store,
    })
}

pub(crate) fn connect(config: &Config) -> Result<Backends> {
    let config = &config.local;
    let objects: Arc<dyn ObjectStore> = file_store(config);
    Ok(Backends {
        secrets: Arc::new(FileSecretStore::new(&config.root)),
        jobs: Arc::new(ProcessRunner::new(config, Arc::clone(&objects))),
        objects,
    })
}
