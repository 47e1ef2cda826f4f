//! Secrets in Secrets Manager.
//!
//! Requests and answers hold values, so that nothing the SDK says of them is kept or logged: errors are built anew
//! from code, status and request id, and the SDK's own events are switched off around every call.

mod deletion;
mod failure;
mod listing;
mod put;
mod read;
mod stages;
#[cfg(test)]
mod tests;
mod vault;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use self::vault::Vault;
use super::connection::Connection;
use crate::retry::Calls;
use crate::secret_store::{
    CreateSecretOptions, DeleteSecret, ListSecrets, PutSecretOptions, PutSecretResult, Secret, SecretCapabilities,
    SecretMeta, SecretVersion,
};
use crate::{
    Config, Error, ErrorKind, Result, SecretAlias, SecretName, SecretStore, SecretValue, SecretVersionId,
    VersionSelector,
};

/// The secrets of one account and region in Secrets Manager. Cheap to clone.
///
/// The current version is the one with the staging label `AWSCURRENT`, the previous one has `AWSPREVIOUS`, a staged
/// one gets `AWSPENDING`, but the first version of a secret is current however it was put; aliases are staging labels
/// of the caller's own. A value is stored as `SecretString` if it is UTF-8 and as `SecretBinary` otherwise, and read
/// from either. Labels are tags.
///
/// A conditional put stores its version under a label of its own, `anycloud-…`, and then moves `AWSCURRENT` away from
/// the expected version, which Secrets Manager refuses if it is not there. A put that loses leaves a version without
/// label behind, which Secrets Manager removes in time. At most about fifteen can be under way for one secret at once.
///
/// Permissions, all `secretsmanager:`: `GetSecretValue` (reads, and puts that compare with the current value),
/// `CreateSecret` and `TagResource`, `PutSecretValue`, `UpdateSecretVersionStage` (conditional puts, promotion,
/// aliases), `DescribeSecret` (metadata, deletion, lost answers), `ListSecrets`, `ListSecretVersionIds`,
/// `DeleteSecret`, `RestoreSecret`, `RemoveRegionsFromReplication` (deleting replicated secrets). With a KMS key of
/// one's own also `kms:Decrypt` and `kms:GenerateDataKey`.
#[derive(Clone, Debug)]
pub struct SecretsManagerStore(Calls<Vault>);

impl SecretsManagerStore {
    /// The secrets of the account and region that the configuration leads to. Asks nobody anything.
    ///
    /// # Errors
    /// `InvalidConfig` for a plain-HTTP endpoint on another host, unless the configuration allows it.
    pub fn new(config: &Config) -> Result<Self> {
        Ok(Self::with_connection(Connection::new(config)?))
    }

    pub(crate) fn with_connection(connection: Connection) -> Self {
        Self(Calls::new(Vault::new(connection)))
    }
}

fn no_states(operation: &'static str, name: &SecretName) -> Result<()> {
    let message = "Secrets Manager cannot disable or destroy single versions";
    Err(Error::new(ErrorKind::Unsupported, operation, name, message))
}

#[async_trait]
impl SecretStore for SecretsManagerStore {
    fn capabilities(&self) -> &SecretCapabilities {
        &vault::CAPABILITIES
    }

    async fn get(&self, name: &SecretName, version: &VersionSelector) -> Result<Secret> {
        self.0.one(|vault| vault.get(name, version)).await
    }

    async fn create(
        &self,
        name: &SecretName,
        value: SecretValue,
        options: CreateSecretOptions,
    ) -> Result<SecretVersionId> {
        self.0.one(|vault| vault.create("secret_store.create", name, &value, &options)).await
    }

    async fn put(&self, name: &SecretName, value: SecretValue, options: PutSecretOptions) -> Result<PutSecretResult> {
        self.0.one(|vault| vault.put(name, &value, options)).await
    }

    async fn delete(&self, name: &SecretName, mode: DeleteSecret) -> Result<()> {
        self.0.one(|vault| vault.delete(name, mode)).await
    }

    async fn restore(&self, name: &SecretName) -> Result<()> {
        self.0.one(|vault| vault.restore("secret_store.restore", name)).await
    }

    async fn describe(&self, name: &SecretName) -> Result<SecretMeta> {
        self.0.one(|vault| vault.meta(name)).await
    }

    fn list(&self, options: ListSecrets) -> BoxStream<'static, Result<SecretMeta>> {
        listing::secrets(Arc::clone(self.0.each()), options)
    }

    fn list_versions(&self, name: &SecretName) -> BoxStream<'static, Result<SecretVersion>> {
        listing::versions(Arc::clone(self.0.each()), name.clone())
    }

    async fn enable(&self, name: &SecretName, _: &SecretVersionId) -> Result<()> {
        no_states("secret_store.enable", name)
    }

    async fn disable(&self, name: &SecretName, _: &SecretVersionId) -> Result<()> {
        no_states("secret_store.disable", name)
    }

    async fn destroy(&self, name: &SecretName, _: &SecretVersionId) -> Result<()> {
        no_states("secret_store.destroy", name)
    }

    async fn promote(&self, name: &SecretName, version: &SecretVersionId) -> Result<SecretVersionId> {
        self.0.one(|vault| vault.promote(name, version)).await
    }

    async fn set_alias(&self, name: &SecretName, alias: &SecretAlias, version: Option<&SecretVersionId>) -> Result<()> {
        self.0.one(|vault| vault.set_alias(name, alias, version)).await
    }
}
