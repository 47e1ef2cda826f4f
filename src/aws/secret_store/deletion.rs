use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::failure::is_invalid_request;
use super::vault::{Request, Vault};
use crate::secret_store::DeleteSecret;
use crate::{Error, ErrorKind, Result, SecretName};

const OPERATION: &str = "secret_store.delete";
const DELETE: &str = "secretsmanager:DeleteSecret";
/// How often it is asked whether a deleted secret is gone, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Vault {
    pub(super) async fn delete(&self, name: &SecretName, mode: DeleteSecret) -> Result<()> {
        let deadline = self.connection.retrier().deadline();
        let found = self.describe(OPERATION, name).await?;
        let pending = found.deleted_date().is_some();
        if pending && mode != DeleteSecret::Immediate {
            return Err(Error::new(ErrorKind::NotFound, OPERATION, name, "the secret is to be deleted already"));
        }
        let replicas: Vec<String> =
            found.replication_status().iter().filter_map(|replica| replica.region().map(str::to_owned)).collect();
        if !replicas.is_empty() {
            self.remove_replicas(name, replicas).await?;
        }
        let days = match mode {
            DeleteSecret::Recoverable { days } => Some(i64::from(days)),
            DeleteSecret::Immediate => None,
        };
        let sent = self
            .call(Request::change(OPERATION, name, DELETE), |client| {
                client
                    .delete_secret()
                    .secret_id(name.as_str())
                    .set_recovery_window_in_days(days)
                    .set_force_delete_without_recovery(days.is_none().then_some(true))
                    .send()
            })
            .await;
        match sent {
            Ok(_) => {}
            // An earlier attempt, whose answer was lost, has done it.
            Err(error) if error.may_have_applied() && is_invalid_request(&error) => {}
            Err(error) if error.may_have_applied() && error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.explain(name, error).await),
        }
        if days.is_some() { Ok(()) } else { self.wait_until_gone(name, deadline).await }
    }

    /// Even an immediate deletion is carried out later, and the name is taken until then.
    async fn wait_until_gone(&self, name: &SecretName, deadline: Instant) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.describe(OPERATION, name).await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) if !error.is_transient() => return Err(error.into_indeterminate()),
                _ => {}
            }
            if Instant::now() + pause >= deadline {
                let message = "the deletion has begun, and the name is not free yet";
                return Err(Error::new(ErrorKind::Timeout, OPERATION, name, message).with_may_have_applied());
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A secret with replicas cannot be deleted:
    /// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/delete-replica-secret.html>
    async fn remove_replicas(&self, name: &SecretName, regions: Vec<String>) -> Result<()> {
        self.call(Request::change(OPERATION, name, "secretsmanager:RemoveRegionsFromReplication"), |client| {
            client
                .remove_regions_from_replication()
                .secret_id(name.as_str())
                .set_remove_replica_regions(Some(regions.clone()))
                .send()
        })
        .await
        .map(drop)
    }

    pub(super) async fn restore(&self, operation: &'static str, name: &SecretName) -> Result<()> {
        let sent = self
            .call(Request::change(operation, name, "secretsmanager:RestoreSecret"), |client| {
                client.restore_secret().secret_id(name.as_str()).send()
            })
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) if is_invalid_request(&error) => match self.describe(operation, name).await {
                // There was nothing to take back.
                Ok(found) if found.deleted_date().is_none() => Ok(()),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }
}
