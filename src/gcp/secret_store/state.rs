use super::api::{self, Api};
use crate::secret_store::SecretVersionState;
use crate::{ErrorKind, Result, SecretName, SecretVersionId};

pub(super) async fn enable(api: &Api, name: &SecretName, version: &SecretVersionId) -> Result<()> {
    change(api, "secret_store.enable", name, version, SecretVersionState::Enabled).await
}

pub(super) async fn disable(api: &Api, name: &SecretName, version: &SecretVersionId) -> Result<()> {
    change(api, "secret_store.disable", name, version, SecretVersionState::Disabled).await
}

pub(super) async fn destroy(api: &Api, name: &SecretName, version: &SecretVersionId) -> Result<()> {
    change(api, "secret_store.destroy", name, version, SecretVersionState::Destroyed).await
}

async fn change(
    api: &Api,
    operation: &'static str,
    name: &SecretName,
    version: &SecretVersionId,
    wanted: SecretVersionState,
) -> Result<()> {
    let number = api::parse(version).ok_or_else(|| api::no_version(operation, name, version))?;
    let refused = match api.change(operation, name, number, wanted).await {
        Err(error) if error.kind() == ErrorKind::PreconditionFailed => error,
        changed => return changed,
    };
    match api.version(operation, name, &number.to_string()).await?.state {
        state if state == wanted => Ok(()),
        SecretVersionState::Destroyed => {
            Err(refused.with_kind(ErrorKind::VersionDisabled).with_message("the version is destroyed"))
        }
        _ => Err(refused),
    }
}
