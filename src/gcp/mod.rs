//! Google Cloud: Cloud Storage, Secret Manager and Cloud Run Jobs.

mod application_default;
mod connection;
mod error;
mod gax;
mod job_runner;
mod object_store;
mod place;
mod secret_store;
mod signer;

use std::sync::Arc;

use self::connection::Connection;
use self::place::Place;
use crate::cloud::Backends;
use crate::{Config, Result};

pub use job_runner::CloudRunRunner;
pub use object_store::GcsStore;
pub use secret_store::SecretManagerStore;

pub(crate) fn connect(config: &Config) -> Result<Backends> {
    let connection = Connection::new(config)?;
    let place = Arc::new(Place::new(connection.clone()));
    let objects: Arc<dyn crate::ObjectStore> = Arc::new(GcsStore::with_connection(config, connection.clone()));
    Ok(Backends {
        secrets: Arc::new(SecretManagerStore::connected(connection.clone(), Arc::clone(&place))),
        jobs: Arc::new(CloudRunRunner::connected(connection, place, Arc::clone(&objects))),
        objects,
    })
}
