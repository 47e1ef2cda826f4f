use std::fmt::Debug;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::{
    CreateSecretOptions, DeleteSecret, ListSecrets, PutSecretOptions, PutSecretResult, Secret, SecretCapabilities,
    SecretMeta, SecretValue, SecretVersion, VersionSelector,
};
use crate::{Result, SecretAlias, SecretName, SecretVersionId};

/// The secrets of one account, project or directory.
///
/// A secret is a name with versions; each version has a value that never changes. One version is *current*: the one
/// that [`VersionSelector::Latest`] reads. A name without any version, as a crashed creation leaves it on some
/// providers, counts as absent.
///
/// No error, log or span of any method holds a value, and errors keep no source from a provider's SDK.
///
/// # Errors
/// Besides those named at each method, every method may fail with `PermissionDenied` (naming the missing permission,
/// where the provider tells), `Unauthenticated`, `Throttled`, `Unavailable`, `Timeout`, `InvalidConfig` and
/// `Internal`; mutating methods also with `Indeterminate`.
#[async_trait]
pub trait SecretStore: Debug + Send + Sync + 'static {
    /// What this store can do. Pure.
    fn capabilities(&self) -> &SecretCapabilities;

    /// Reads a version of a secret.
    ///
    /// # Errors
    /// - `NotFound`: no such secret or version; also for a secret that is to be deleted, and the message says when.
    /// - `VersionDisabled`: the version was disabled or destroyed.
    /// - `Corrupt`: the value does not match its checksum, where the provider keeps one.
    async fn get(&self, name: &SecretName, version: &VersionSelector) -> Result<Secret>;

    /// Creates a secret with its first version.
    ///
    /// # Errors
    /// `AlreadyExists`, also for a secret that is to be deleted; `InvalidInput`, `TooLarge`.
    async fn create(
        &self,
        name: &SecretName,
        value: SecretValue,
        options: CreateSecretOptions,
    ) -> Result<SecretVersionId>;

    /// Makes `value` the current one: creates the secret, or adds a version; a secret that is to be deleted is
    /// restored first. A value equal to the current one adds no version, unless the options say so.
    ///
    /// Do not put more than once in ten minutes for long: Secrets Manager keeps only
    /// [about a hundred versions](https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html)
    /// and Secret Manager bills each.
    ///
    /// # Errors
    /// `PreconditionFailed`: the options name a version and another one is current, or the secret is absent;
    /// `InvalidInput`, `TooLarge`, `Unsupported` (staging), `Conflict`.
    async fn put(&self, name: &SecretName, value: SecretValue, options: PutSecretOptions) -> Result<PutSecretResult>;

    /// Deletes a secret with all its versions. After `Immediate` succeeds the name is free.
    ///
    /// # Errors
    /// `NotFound`, also for one that is to be deleted already if asked for `Recoverable` again; `Unsupported` for
    /// `Recoverable` where the provider deletes at once (never a silent hard delete); `InvalidInput` for a window
    /// outside 7 to 30 days.
    async fn delete(&self, name: &SecretName, mode: DeleteSecret) -> Result<()>;

    /// Takes back a recoverable deletion. Restoring a secret that is not to be deleted succeeds.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported`.
    async fn restore(&self, name: &SecretName) -> Result<()>;

    /// Reads what is known of a secret without its value. A secret that is to be deleted is found, and says so.
    ///
    /// # Errors
    /// `NotFound`.
    async fn describe(&self, name: &SecretName) -> Result<SecretMeta>;

    /// Lists secrets in byte order of their names. Not a way to find one just created: on AWS, listings lag behind.
    ///
    /// # Errors
    /// In the stream; after an error it ends.
    fn list(&self, options: ListSecrets) -> BoxStream<'static, Result<SecretMeta>>;

    /// Lists the versions of a secret, newest first, destroyed ones included where the provider keeps a trace.
    ///
    /// # Errors
    /// In the stream; `NotFound`.
    fn list_versions(&self, name: &SecretName) -> BoxStream<'static, Result<SecretVersion>>;

    /// Makes a disabled version readable again. Enabling an enabled version succeeds.
    ///
    /// # Errors
    /// `NotFound`; `VersionDisabled` for a destroyed version; `Unsupported`.
    async fn enable(&self, name: &SecretName, version: &SecretVersionId) -> Result<()>;

    /// Makes a version unreadable until it is enabled again. Disabling a disabled version succeeds.
    ///
    /// # Errors
    /// `NotFound`; `VersionDisabled` for a destroyed version; `Unsupported`.
    async fn disable(&self, name: &SecretName, version: &SecretVersionId) -> Result<()>;

    /// Removes a version's value for ever. Destroying a destroyed version succeeds.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported`.
    async fn destroy(&self, name: &SecretName, version: &SecretVersionId) -> Result<()>;

    /// Makes this version's value the current one, and says which version is current then: the same, or on Google
    /// Cloud, where the newest version is always the current one, a new version of the same value.
    ///
    /// # Errors
    /// `NotFound`; `VersionDisabled`.
    async fn promote(&self, name: &SecretName, version: &SecretVersionId) -> Result<SecretVersionId>;

    /// Points an alias to a version, or removes it with `None`. Removing what is not there succeeds.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for an alias that the provider reserves.
    async fn set_alias(&self, name: &SecretName, alias: &SecretAlias, version: Option<&SecretVersionId>) -> Result<()>;
}
