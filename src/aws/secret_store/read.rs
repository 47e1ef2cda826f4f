use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;

use super::failure::time;
use super::stages::{CURRENT, PREVIOUS};
use super::vault::{Request, Vault};
use crate::secret_store::Secret;
use crate::{Error, ErrorKind, Result, SecretName, SecretValue, SecretVersionId, VersionSelector};

const OPERATION: &str = "secret_store.get";
pub(super) const GET: &str = "secretsmanager:GetSecretValue";

impl Vault {
    pub(super) async fn get(&self, name: &SecretName, version: &VersionSelector) -> Result<Secret> {
        match self.read(OPERATION, name, version).await {
            Ok(secret) => Ok(secret),
            Err(error) => Err(self.explain(name, error).await),
        }
    }

    /// Reads, and leaves it to the caller what an `InvalidRequestException` means.
    pub(super) async fn read(
        &self,
        operation: &'static str,
        name: &SecretName,
        version: &VersionSelector,
    ) -> Result<Secret> {
        let (id, stage) = match version {
            VersionSelector::Latest | VersionSelector::LatestEnabled => (None, Some(CURRENT)),
            VersionSelector::Previous => (None, Some(PREVIOUS)),
            VersionSelector::Id(id) => (Some(id.as_str()), None),
            VersionSelector::Alias(alias) => (None, Some(alias.as_str())),
        };
        // Secrets Manager refuses other lengths as malformed; there is no such version either way.
        if id.is_some_and(|id| !(32..=64).contains(&id.len())) {
            return Err(Error::new(ErrorKind::NotFound, operation, name, "there is no such version"));
        }
        let answer = self
            .call(Request::read(operation, name, GET), |client| {
                let request = client.get_secret_value().secret_id(name.as_str());
                request.set_version_id(id.map(str::to_owned)).set_version_stage(stage.map(str::to_owned)).send()
            })
            .await?;
        secret(operation, name, answer)
    }
}

fn secret(operation: &'static str, name: &SecretName, mut answer: GetSecretValueOutput) -> Result<Secret> {
    let incomplete = |message: &str| Error::new(ErrorKind::Internal, operation, name, message);
    let version = answer.version_id.take().ok_or_else(|| incomplete("the answer names no version"))?;
    let value = match (answer.secret_string.take(), answer.secret_binary.take()) {
        (Some(text), _) => SecretValue::new(text),
        (None, Some(bytes)) => SecretValue::new(bytes.into_inner()),
        (None, None) => return Err(incomplete("the answer holds no value")),
    };
    let version = SecretVersionId::new(version)?;
    Ok(Secret { name: name.clone(), version, value, created: answer.created_date.as_ref().and_then(time) })
}
