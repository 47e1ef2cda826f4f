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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::scripted::{Reply, Server};
    use crate::object_store::HeadOptions;
    use crate::{ExecutionId, ObjectKey, SecretName, VersionSelector};

    #[tokio::test]
    async fn the_families_of_a_connection_spend_one_retry_budget() {
        let server = Server::start(vec![Reply::status(503); 9]).await;
        let mut config = Config::local("/nonexistent");
        config.retry.first_backoff = std::time::Duration::from_millis(1);
        config.retry.budget = 2;
        config.gcp.emulator = true;
        config.gcp.bucket = "b".to_owned();
        (config.gcp.project, config.gcp.region) = (Some("p".to_owned()), Some("r".to_owned()));
        for endpoint in [
            &mut config.gcp.storage_endpoint,
            &mut config.gcp.secret_manager_endpoint,
            &mut config.gcp.cloud_run_endpoint,
        ] {
            *endpoint = Some(server.url().to_owned());
        }
        let Backends { objects, secrets, jobs } = connect(&config).unwrap();
        objects.head(&ObjectKey::new("k").unwrap(), HeadOptions::default()).await.unwrap_err();
        secrets.get(&SecretName::new("s").unwrap(), &VersionSelector::Latest).await.unwrap_err();
        jobs.get(&ExecutionId::new("job/job-x").unwrap()).await.unwrap_err();
        // The first is sent three times, and the others have no retry left.
        assert_eq!(server.requests().len(), 5);
    }
}
