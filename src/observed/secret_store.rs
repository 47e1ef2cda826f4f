use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tracing::{Span, field, info_span};

use super::{Observed, check_labels, traced, traced_stream};
use crate::secret_store::{
    CreateSecretOptions, DeleteSecret, ListSecrets, PutSecretOptions, PutSecretResult, Secret, SecretCapabilities,
    SecretMeta, SecretVersion,
};
use crate::{
    Error, ErrorKind, Result, SecretAlias, SecretName, SecretStore, SecretValue, SecretVersionId, VersionSelector,
    WriteId,
};

impl Observed<Arc<dyn SecretStore>> {
    fn span(&self, operation: &'static str, name: &str) -> Span {
        info_span!(
            "secret_store",
            otel.name = operation,
            otel.kind = "client",
            otel.status_code = field::Empty,
            error.type = field::Empty,
            http.response.status_code = field::Empty,
            cloud.provider = self.inner.capabilities().provider,
            anycloud.secret = name,
        )
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
        traced(self.span("secret_store.get", name.as_str()), self.inner.get(name, version)).await
    }

    async fn create(
        &self,
        name: &SecretName,
        value: SecretValue,
        mut options: CreateSecretOptions,
    ) -> Result<SecretVersionId> {
        const OPERATION: &str = "secret_store.create";
        let call = async {
            check_create(OPERATION, name, &value, &mut options)?;
            self.inner.create(name, value, options).await
        };
        traced(self.span(OPERATION, name.as_str()), call).await
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
        let call = async {
            check_create(OPERATION, name, &value, &mut options.create)?;
            self.inner.put(name, value, options).await
        };
        traced(self.span(OPERATION, name.as_str()), call).await
    }

    async fn delete(&self, name: &SecretName, mode: DeleteSecret) -> Result<()> {
        const OPERATION: &str = "secret_store.delete";
        let call = async {
            if let DeleteSecret::Recoverable { days } = mode
                && !(7..=30).contains(&days)
            {
                let message = format!("the recovery window is 7 to 30 days, not {days}");
                return Err(Error::new(ErrorKind::InvalidInput, OPERATION, name, message));
            }
            self.inner.delete(name, mode).await
        };
        traced(self.span(OPERATION, name.as_str()), call).await
    }

    async fn restore(&self, name: &SecretName) -> Result<()> {
        traced(self.span("secret_store.restore", name.as_str()), self.inner.restore(name)).await
    }

    async fn describe(&self, name: &SecretName) -> Result<SecretMeta> {
        traced(self.span("secret_store.describe", name.as_str()), self.inner.describe(name)).await
    }

    fn list(&self, options: ListSecrets) -> BoxStream<'static, Result<SecretMeta>> {
        const OPERATION: &str = "secret_store.list";
        let checked = check_labels(OPERATION, &options.prefix, &options.labels);
        traced_stream(self.span(OPERATION, &options.prefix), checked, || self.inner.list(options))
    }

    fn list_versions(&self, name: &SecretName) -> BoxStream<'static, Result<SecretVersion>> {
        let span = self.span("secret_store.list_versions", name.as_str());
        traced_stream(span, Ok(()), || self.inner.list_versions(name))
    }

    async fn enable(&self, name: &SecretName, version: &SecretVersionId) -> Result<()> {
        traced(self.span("secret_store.enable", name.as_str()), self.inner.enable(name, version)).await
    }

    async fn disable(&self, name: &SecretName, version: &SecretVersionId) -> Result<()> {
        traced(self.span("secret_store.disable", name.as_str()), self.inner.disable(name, version)).await
    }

    async fn destroy(&self, name: &SecretName, version: &SecretVersionId) -> Result<()> {
        traced(self.span("secret_store.destroy", name.as_str()), self.inner.destroy(name, version)).await
    }

    async fn promote(&self, name: &SecretName, version: &SecretVersionId) -> Result<SecretVersionId> {
        traced(self.span("secret_store.promote", name.as_str()), self.inner.promote(name, version)).await
    }

    async fn set_alias(&self, name: &SecretName, alias: &SecretAlias, version: Option<&SecretVersionId>) -> Result<()> {
        const OPERATION: &str = "secret_store.set_alias";
        let portable = alias.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && alias.as_str().starts_with(|c: char| c.is_ascii_alphabetic())
            && !alias.as_str().starts_with("AWS")
            && !alias.as_str().eq_ignore_ascii_case("latest");
        let call = async {
            if !portable {
                let message = format!("`{alias}` is no portable alias, or is reserved");
                return Err(Error::new(ErrorKind::InvalidInput, OPERATION, name, message));
            }
            self.inner.set_alias(name, alias, version).await
        };
        traced(self.span(OPERATION, name.as_str()), call).await
    }
}
