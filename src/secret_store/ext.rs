use async_trait::async_trait;
use serde::de::DeserializeOwned;

use super::{PutSecretOptions, PutSecretResult, Secret, SecretState, SecretStore, SecretValue, VersionSelector};
use crate::{Error, ErrorKind, Result, SecretName};

/// What every [`SecretStore`] can do with the contract's calls: import it and call the methods on any store.
#[async_trait]
pub trait SecretStoreExt: SecretStore {
    /// The current version.
    ///
    /// # Errors
    /// As for [`SecretStore::get`].
    async fn get_latest(&self, name: &SecretName) -> Result<Secret> {
        self.get(name, &VersionSelector::Latest).await
    }

    /// One top-level field of a secret that is a JSON object: the text of a string, or the JSON of anything else.
    ///
    /// # Errors
    /// `InvalidFormat` for a secret that is no JSON object; `NotFound` for a field that is not there; and those of
    /// [`SecretStore::get`].
    async fn get_field(&self, name: &SecretName, field: &str) -> Result<SecretValue> {
        let secret = self.get_latest(name).await?;
        let invalid = |kind, message: String| Error::new(kind, "secret_store.get_field", name, message);
        let fields: std::collections::BTreeMap<String, &serde_json::value::RawValue> =
            serde_json::from_slice(secret.value.expose())
                .map_err(|_| invalid(ErrorKind::InvalidFormat, "the secret is not a JSON object".to_owned()))?;
        let raw = fields
            .get(field)
            .ok_or_else(|| invalid(ErrorKind::NotFound, format!("the secret has no field `{field}`")))?;
        Ok(match serde_json::from_str::<zeroize::Zeroizing<String>>(raw.get()) {
            Ok(text) => SecretValue::new(text.as_bytes()),
            Err(_) => SecretValue::new(raw.get()),
        })
    }

    /// The current version, decoded from JSON.
    ///
    /// # Errors
    /// `InvalidFormat` naming line and column, never the content; and those of [`SecretStore::get`].
    async fn get_as<T: DeserializeOwned>(&self, name: &SecretName) -> Result<T> {
        let secret = self.get_latest(name).await?;
        crate::formats::json::parse(secret.value.expose(), "secret_store.get_as", name)
    }

    /// Makes `value` the current one, with the default options.
    ///
    /// # Errors
    /// As for [`SecretStore::put`].
    async fn put_value(&self, name: &SecretName, value: impl Into<SecretValue> + Send) -> Result<PutSecretResult> {
        self.put(name, value.into(), PutSecretOptions::default()).await
    }

    /// Whether there is such a secret that is not to be deleted. Reads no value.
    ///
    /// # Errors
    /// As for [`SecretStore::describe`], without `NotFound`.
    async fn exists(&self, name: &SecretName) -> Result<bool> {
        match self.describe(name).await {
            Ok(meta) => Ok(meta.state == SecretState::Active),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Succeeds if all these secrets can be read.
    ///
    /// # Errors
    /// `NotFound` naming every one that is missing, not only the first; any other error at once.
    async fn require(&self, names: &[SecretName]) -> Result<()> {
        let mut missing = Vec::new();
        for name in names {
            if !self.exists(name).await? {
                missing.push(name.as_str());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let message = "these secrets do not exist";
        Err(Error::new(ErrorKind::NotFound, "secret_store.require", missing.join(", "), message))
    }
}

impl<S: SecretStore + ?Sized> SecretStoreExt for S {}
