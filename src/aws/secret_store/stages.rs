use super::vault::{Request, Vault};
use crate::{Error, ErrorKind, Result, SecretAlias, SecretName, SecretVersionId, WriteId};

pub(super) const CURRENT: &str = "AWSCURRENT";
pub(super) const PREVIOUS: &str = "AWSPREVIOUS";
pub(super) const PENDING: &str = "AWSPENDING";
/// How the labels begin that keep a version between being stored and becoming current. Not `AWSPENDING`, which would
/// look like a rotation that is under way; and one for each write, so that writers at the same time do not take the
/// label from one another.
const OWN: &str = "anycloud-";

const UPDATE: &str = "secretsmanager:UpdateSecretVersionStage";
/// How often a label that others move at the same time is looked for again.
const ROUNDS: u32 = 5;

/// Whether a staging label is the caller's own.
pub(super) fn is_alias(stage: &str) -> bool {
    !matches!(stage, CURRENT | PREVIOUS | PENDING) && !stage.starts_with(OWN)
}

/// The label that keeps the version of this write.
pub(super) fn label_of(id: &WriteId) -> String {
    format!("{OWN}{id}")
}

impl Vault {
    /// Moves a label from exactly one version to another; Secrets Manager refuses if it is not on the first.
    /// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_UpdateSecretVersionStage.html>
    pub(super) async fn move_stage(
        &self,
        operation: &'static str,
        name: &SecretName,
        stage: &str,
        to: Option<&SecretVersionId>,
        from: Option<&SecretVersionId>,
    ) -> Result<()> {
        let text = |version: Option<&SecretVersionId>| version.map(|version| version.as_str().to_owned());
        self.call(Request::change(operation, name, UPDATE), |client| {
            client
                .update_secret_version_stage()
                .secret_id(name.as_str())
                .version_stage(stage)
                .set_move_to_version_id(text(to))
                .set_remove_from_version_id(text(from))
                .send()
        })
        .await
        .map(drop)
    }

    /// The version that has a label.
    pub(super) async fn holder(
        &self,
        operation: &'static str,
        name: &SecretName,
        stage: &str,
    ) -> Result<Option<SecretVersionId>> {
        let found = self.describe(operation, name).await?;
        if let Some(at) = found.deleted_date() {
            let day = jiff::Timestamp::from_second(at.secs()).map(|at| at.to_string()).unwrap_or_default();
            let message = format!("the secret is to be deleted on {day}; it can be restored until then");
            return Err(Error::new(ErrorKind::NotFound, operation, name, message));
        }
        let mut versions = found.version_ids_to_stages().into_iter().flatten();
        let holder = versions.find(|(_, stages)| stages.iter().any(|held| held == stage));
        holder.map(|(id, _)| SecretVersionId::new(id.as_str())).transpose()
    }

    pub(super) async fn promote(&self, name: &SecretName, version: &SecretVersionId) -> Result<SecretVersionId> {
        self.point("secret_store.promote", name, CURRENT, Some(version)).await?;
        Ok(version.clone())
    }

    pub(super) async fn set_alias(
        &self,
        name: &SecretName,
        alias: &SecretAlias,
        version: Option<&SecretVersionId>,
    ) -> Result<()> {
        const OPERATION: &str = "secret_store.set_alias";
        if !is_alias(alias.as_str()) {
            return Err(Error::new(ErrorKind::InvalidInput, OPERATION, name, format!("`{alias}` is reserved")));
        }
        self.point(OPERATION, name, alias.as_str(), version).await
    }

    /// Points a label to a version, or to none, wherever it was.
    async fn point(
        &self,
        operation: &'static str,
        name: &SecretName,
        stage: &str,
        version: Option<&SecretVersionId>,
    ) -> Result<()> {
        let mut last = None;
        for _ in 0..ROUNDS {
            let holder = self.holder(operation, name, stage).await?;
            if holder.as_ref() == version {
                return Ok(());
            }
            match self.move_stage(operation, name, stage, version, holder.as_ref()).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_indeterminate() => {
                    let holder = self.holder(operation, name, stage).await;
                    return if holder.is_ok_and(|holder| holder.as_ref() == version) { Ok(()) } else { Err(error) };
                }
                // Somebody else moved it since, or there is no such version.
                Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                    if error.kind() == ErrorKind::NotFound || self.lacks(operation, name, version).await? {
                        return Err(error.with_kind(ErrorKind::NotFound).with_message("there is no such version"));
                    }
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let conflict = || Error::new(ErrorKind::Conflict, operation, name, "");
        let error = last.unwrap_or_else(conflict).with_kind(ErrorKind::Conflict);
        Err(error.with_message("others kept moving the label"))
    }

    /// Takes away the labels that writers left behind which ended half-way: a secret has
    /// [at most twenty](https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html). A version
    /// that is about to become current does so without its label as well.
    pub(super) async fn sweep_labels(&self, operation: &'static str, name: &SecretName) -> Result<()> {
        let found = self.describe(operation, name).await?;
        for (id, stages) in found.version_ids_to_stages().into_iter().flatten() {
            let id = SecretVersionId::new(id.as_str())?;
            for stage in stages.iter().filter(|stage| stage.starts_with(OWN)) {
                self.move_stage(operation, name, stage, None, Some(&id)).await?;
            }
        }
        Ok(())
    }

    async fn lacks(&self, operation: &'static str, name: &SecretName, id: Option<&SecretVersionId>) -> Result<bool> {
        let Some(id) = id else { return Ok(false) };
        let versions = self.all_versions(operation, name).await?;
        Ok(!versions.iter().any(|version| version.id == *id))
    }
}
