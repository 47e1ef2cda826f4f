use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tracing::{Span, field, info_span};

use super::{Observed, traced};
use crate::secret_store::{
    CreateSecretOptions, DeleteSecret, ListSecrets, PutSecretOptions, PutSecretResult, Secret, SecretCapabilities,
    SecretMeta, SecretVersion,
};
use crate::{
    Error, ErrorKind, Result, SecretAlias, SecretName, SecretStore, SecretValue, SecretVersionId, VersionSelector,
    WriteId,
};

impl Observed<Arc<dyn SecretStore>> {
    fn span(&self, operation: &'static str, name: &SecretName) -> Span {
        info_span!(
            "secret_store",
            otel.name = operation,
            otel.kind = "client",
            otel.status_code = field::Empty,
            error.type = field::Empty,
            cloud.provider = self.inner.capabilities().provider,
            anycloud.secret = %name,
        )
    }
}

fn check_labels(operation: &'static str, name: &SecretName, labels: &BTreeMap<String, String>) -> Result<()> {
    let portable = |text: &str| {
        text.len() <= 63
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    };
    let bad = labels
        .iter()
        .find(|(key, value)| !portable(key) || !key.starts_with(|c: char| c.is_ascii_lowercase()) || !portable(value));
    match bad {
        None if labels.len() <= 50 => Ok(()),
        None => Err(Error::new(ErrorKind::InvalidInput, operation, name, "a secret has at most 50 labels")),
        Some((key, value)) => {
            let message = format!("the label {key:?}={value:?} is not portable");
            Err(Error::new(ErrorKind::InvalidInput, operation, name, message))
        }
    }
}

fn check_create(
    operation: &'static str,
    name: &SecretName,
    value: &SecretValue,
    options: &mut CreateSecretOptions,
) -> Result<()> {
    value.check(operation, name)?;
    options.write_id.get_or_insert_with(WriteId::random);
    check_labels(operation, name, &options.labels)
}

#[async_trait]
impl SecretStore for Observed<Arc<dyn SecretStore>> {
    fn capabilities(&self) -> &SecretCapabilities {
        self.inner.capabilities()
    }

    async fn get(&self, name: &SecretName, version: &VersionSelector) -> Result<Secret> {
        traced(self.span("secret_store.get", name), self.inner.get(name, version)).await
    }

    async fn create(
        &self,
        name: &SecretName,
        value: SecretValue,
        mut options: CreateSecretOptions,
    ) -> Result<SecretVersionId> {
        const OPERATION: &str = "secret_store.create";
        check_create(OPERATION, name, &value, &mut options)?;
        traced(self.span(OPERATION, name), self.inner.create(name, value, options)).await
    }

    async fn put(
        &self,
        name: &SecretName,
        value: SecretValue,
        mut options: PutSecretOptions,
    ) -> Result<PutSecretResult> {
        const OPERATION: &str = "secret_store.put";
        let write_id = options.write_id.get_or_insert_with(WriteId::random);
        options.create.write_id.get_or_insert_with(|| write_id.clone());
        check_create(OPERATION, name, &value, &mut options.create)?;
        traced(self.span(OPERATION, name), self.inner.put(name, value, options)).await
    }

    async fn delete(&self, name: &SecretName, mode: DeleteSecret) -> Result<()> {
        const OPERATION: &str = "secret_store.delete";
        if let DeleteSecret::Recoverable { days } = mode
            && !(7..=30).contains(&days)
        {
            let message = format!("the recovery window is 7 to 30 days, not {days}");
            return Err(Error::new(ErrorKind::InvalidInput, OPERATION, name, message));
        }
        traced(self.span(OPERATION, name), self.inner.delete(name, mode)).await
    }

    async fn restore(&self, name: &SecretName) -> Result<()> {
        traced(self.span("secret_store.restore", name), self.inner.restore(name)).await
    }

    async fn describe(&self, name: &SecretName) -> Result<SecretMeta> {
        traced(self.span("secret_store.describe", name), self.inner.describe(name)).await
    }

    fn list(&self, options: ListSecrets) -> BoxStream<'static, Result<SecretMeta>> {
        self.inner.list(options)
    }

    fn list_versions(&self, name: &SecretName) -> BoxStream<'static, Result<SecretVersion>> {
        self.inner.list_versions(name)
    }

    async fn enable(&self, name: &SecretName, version: &SecretVersionId) -> Result<()> {
        traced(self.span("secret_store.enable", name), self.inner.enable(name, version)).await
    }

    async fn disable(&self, name: &SecretName, version: &SecretVersionId) -> Result<()> {
        traced(self.span("secret_store.disable", name), self.inner.disable(name, version)).await
    }

    async fn destroy(&self, name: &SecretName, version: &SecretVersionId) -> Result<()> {
        traced(self.span("secret_store.destroy", name), self.inner.destroy(name, version)).await
    }

    async fn promote(&self, name: &SecretName, version: &SecretVersionId) -> Result<SecretVersionId> {
        traced(self.span("secret_store.promote", name), self.inner.promote(name, version)).await
    }

    async fn set_alias(&self, name: &SecretName, alias: &SecretAlias, version: Option<&SecretVersionId>) -> Result<()> {
        const OPERATION: &str = "secret_store.set_alias";
        let portable = alias.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && alias.as_str().starts_with(|c: char| c.is_ascii_alphabetic())
            && !alias.as_str().starts_with("AWS")
            && !alias.as_str().eq_ignore_ascii_case("latest");
        if !portable {
            let message = format!("`{alias}` is no portable alias, or is reserved");
            return Err(Error::new(ErrorKind::InvalidInput, OPERATION, name, message));
        }
        traced(self.span(OPERATION, name), self.inner.set_alias(name, alias, version)).await
    }
}
