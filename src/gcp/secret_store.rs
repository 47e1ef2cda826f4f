mod alias;
mod api;
mod claim;
mod create;
mod list;
mod put;
mod read;
mod state;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::connection::Connection;
use super::place::Place;
use crate::retry::Calls;
use crate::secret_store::{
    CreateSecretOptions, DeleteSecret, ListSecrets, MAX_SECRET_BYTES, PutSecretOptions, PutSecretResult, Secret,
    SecretCapabilities, SecretMeta, SecretVersion,
};
use crate::{
    Config, Error, ErrorKind, Result, SecretAlias, SecretName, SecretStore, SecretValue, SecretVersionId,
    VersionSelector,
};
use api::Api;

/// Secrets in Google Cloud [Secret Manager](https://cloud.google.com/secret-manager/docs).
///
/// Version ids are the version numbers as text. What the service cannot do is not pretended:
///
/// - A version is current as soon as it is added, and the newest one always is, also when it is disabled. So there is
///   no staging, and [`promote`](SecretStore::promote) adds the value anew.
/// - Deletion is immediate and final; `Recoverable` is `Unsupported`.
/// - Adding a version takes no token and no condition. When an answer is lost, the versions added since are compared
///   with the value before it is sent again; a first attempt that arrives later still leaves one version too many,
///   of the same value. [`if_current`](PutSecretOptions::if_current) is fenced by a claim among the secret's
///   annotations, replaced by its etag: of conditional puts through this crate exactly one wins, while a writer that
///   states no condition can still come between the check and the write. A claim whose holder died is taken over
///   after three times the call time-out (three minutes by default).
/// - A secret without versions, which a crashed creation or Terraform leaves, counts as absent, and `create` fills it
///   (with its replication as it is). Telling costs a call: `describe` makes it, beside its own; `list` does not, and
///   so names such secrets. A shell that another `create` made a moment ago is that one's to fill.
/// - Names that no [`SecretName`] can have are left out of listings.
///
/// Values are sent and read with their CRC32C. Permissions: `secretmanager.versions.access` to read; also
/// `secretmanager.secrets.create` and `secretmanager.versions.add` to put; conditional puts and aliases also
/// `secretmanager.secrets.get` and `secretmanager.secrets.update`; listings `…secrets.list` and `…versions.list`.
#[derive(Clone)]
pub struct SecretManagerStore {
    api: Calls<Api>,
}

const CAPABILITIES: SecretCapabilities = SecretCapabilities {
    provider: "gcp",
    recoverable_delete: false,
    version_states: true,
    staged_put: false,
    promote_keeps_id: false,
    // Writers that state no condition are not fenced.
    atomic_conditional_put: false,
    stored_checksum: true,
    max_value_bytes: MAX_SECRET_BYTES,
};

impl SecretManagerStore {
    /// The secrets of the project in [`Config::gcp`]. Asks nobody anything.
    ///
    /// # Errors
    /// `InvalidConfig` for a plain-HTTP endpoint on another host, unless the configuration allows it.
    pub fn new(config: &Config) -> Result<Self> {
        let connection = Connection::new(config)?;
        let place = Arc::new(Place::new(connection.clone()));
        Ok(Self::connected(connection, place))
    }

    pub(super) fn connected(connection: Connection, place: Arc<Place>) -> Self {
        Self { api: Calls::new(Api::new(connection, place)) }
    }
}

impl fmt::Debug for SecretManagerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretManagerStore").field("api", self.api.each()).finish()
    }
}

#[async_trait]
impl SecretStore for SecretManagerStore {
    fn capabilities(&self) -> &SecretCapabilities {
        &CAPABILITIES
    }

    async fn get(&self, name: &SecretName, version: &VersionSelector) -> Result<Secret> {
        self.api.one(|api| read::get(api, name, version)).await
    }

    async fn create(
        &self,
        name: &SecretName,
        value: SecretValue,
        options: CreateSecretOptions,
    ) -> Result<SecretVersionId> {
        value.check("secret_store.create", name)?;
        self.api.one(|api| create::create(api, name, &value, options)).await
    }

    async fn put(&self, name: &SecretName, value: SecretValue, options: PutSecretOptions) -> Result<PutSecretResult> {
        value.check("secret_store.put", name)?;
        self.api.one(|api| put::put(api, name, &value, options)).await
    }

    async fn delete(&self, name: &SecretName, mode: DeleteSecret) -> Result<()> {
        match mode {
            DeleteSecret::Immediate => self.api.one(|api| api.delete(name)).await,
            DeleteSecret::Recoverable { .. } => {
                let message =
                    "Secret Manager deletes at once and for ever; ask for `Immediate`, or disable the versions";
                Err(Error::new(ErrorKind::Unsupported, "secret_store.delete", name, message))
            }
        }
    }

    async fn restore(&self, name: &SecretName) -> Result<()> {
        // Nothing is ever to be deleted: what is there needs no restoring.
        self.api.one(|api| list::describe(api, "secret_store.restore", name)).await.map(drop)
    }

    async fn describe(&self, name: &SecretName) -> Result<SecretMeta> {
        self.api.one(|api| list::describe(api, "secret_store.describe", name)).await
    }

    fn list(&self, options: ListSecrets) -> BoxStream<'static, Result<SecretMeta>> {
        list::secrets(self.api.each().clone(), options)
    }

    fn list_versions(&self, name: &SecretName) -> BoxStream<'static, Result<SecretVersion>> {
        list::versions(self.api.each().clone(), name.clone())
    }

    async fn enable(&self, name: &SecretName, version: &SecretVersionId) -> Result<()> {
        self.api.one(|api| state::enable(api, name, version)).await
    }

    async fn disable(&self, name: &SecretName, version: &SecretVersionId) -> Result<()> {
        self.api.one(|api| state::disable(api, name, version)).await
    }

    async fn destroy(&self, name: &SecretName, version: &SecretVersionId) -> Result<()> {
        self.api.one(|api| state::destroy(api, name, version)).await
    }

    async fn promote(&self, name: &SecretName, version: &SecretVersionId) -> Result<SecretVersionId> {
        self.api.one(|api| put::promote(api, name, version)).await
    }

    async fn set_alias(&self, name: &SecretName, alias: &SecretAlias, version: Option<&SecretVersionId>) -> Result<()> {
        self.api.one(|api| alias::set(api, name, alias, version)).await
    }
}
