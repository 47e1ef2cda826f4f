use std::time::SystemTime;

use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use aws_sdk_secretsmanager::types::{ReplicaRegionType, Tag};
use aws_smithy_types::Blob;

use super::failure::is_invalid_request;
use super::stages::{CURRENT, PENDING, label_of};
use super::vault::{Request, Vault};
use crate::retry::was_there_before;
use crate::secret_store::{CreateSecretOptions, PutSecretOptions, PutSecretResult, Secret, SecretStage};
use crate::{Error, ErrorKind, Result, SecretName, SecretValue, SecretVersionId, VersionSelector, WriteId};

const OPERATION: &str = "secret_store.put";
/// How often a put starts again because the secret came, went or was revived meanwhile.
const ROUNDS: u32 = 5;

/// What a put finds.
enum Found {
    Nothing,
    /// A secret, but no current version.
    Empty,
    ToBeDeleted,
    Current(Secret),
}

fn version_of(id: &WriteId) -> Result<SecretVersionId> {
    SecretVersionId::new(id.as_str())
}

/// The value as one of the two forms that Secrets Manager has.
fn forms(value: &SecretValue) -> (Option<String>, Option<Blob>) {
    match value.expose_str() {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(Blob::new(value.expose()))),
    }
}

/// Whether the secret was there before. One that is younger may have come after the call's own, which was deleted.
fn is_older(found: &DescribeSecretOutput, begun: SystemTime) -> bool {
    let created = found.created_date().and_then(|date| SystemTime::try_from(*date).ok());
    created.is_some_and(|created| was_there_before(created, begun))
}

impl Vault {
    pub(super) async fn create(
        &self,
        operation: &'static str,
        name: &SecretName,
        value: &SecretValue,
        options: &CreateSecretOptions,
    ) -> Result<SecretVersionId> {
        value.check(operation, name)?;
        let id = options.write_id.clone().unwrap_or_else(WriteId::random);
        let tags: Vec<Tag> =
            options.labels.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let replicas: Vec<_> =
            options.locations.iter().map(|region| ReplicaRegionType::builder().region(region).build()).collect();
        let request = Request::change(operation, name, "secretsmanager:CreateSecret (and TagResource for labels)");
        let begun = SystemTime::now();
        let sent = self
            .call(request, |client| {
                let (text, bytes) = forms(value);
                client
                    .create_secret()
                    .name(name.as_str())
                    .client_request_token(id.as_str())
                    .set_secret_string(text)
                    .set_secret_binary(bytes)
                    .set_kms_key_id(options.encryption_key.clone())
                    .set_tags((!tags.is_empty()).then(|| tags.clone()))
                    .set_add_replica_regions((!replicas.is_empty()).then(|| replicas.clone()))
                    .send()
            })
            .await;
        let error = match sent {
            Ok(_) => return version_of(&id),
            Err(error) => error.with_write_id(id.clone()),
        };
        if error.may_have_applied() {
            // The answer to an earlier attempt was lost: if that attempt made the secret, it has our version.
            return match self.describe(operation, name).await {
                Ok(found) if found.version_ids_to_stages().is_some_and(|v| v.contains_key(id.as_str())) => {
                    version_of(&id)
                }
                // A put goes on from what there is.
                Ok(found)
                    if error.kind() == ErrorKind::AlreadyExists
                        && (operation == OPERATION || is_older(&found, begun)) =>
                {
                    Err(error)
                }
                _ => Err(error.into_indeterminate()),
            };
        }
        if is_invalid_request(&error) {
            // https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html
            return Err(match self.describe(operation, name).await {
                // Deleted at once, and not yet gone.
                Err(asked) if asked.kind() == ErrorKind::NotFound => {
                    error.with_kind(ErrorKind::Conflict).with_message("a secret of this name is still being deleted")
                }
                Ok(found) if found.deleted_date().is_none() => error,
                _ => error
                    .with_kind(ErrorKind::AlreadyExists)
                    .with_message("a secret of this name is to be deleted; restore it, or put a value"),
            });
        }
        Err(error)
    }

    pub(super) async fn put(
        &self,
        name: &SecretName,
        value: &SecretValue,
        options: PutSecretOptions,
    ) -> Result<PutSecretResult> {
        value.check(OPERATION, name)?;
        let id = options.write_id.clone().unwrap_or_else(WriteId::random);
        let mut create = options.create.clone();
        create.write_id = Some(id.clone());
        let stale = |message: &str| {
            let error = Error::new(ErrorKind::PreconditionFailed, OPERATION, name, message);
            Err(error.with_write_id(id.clone()))
        };
        for _ in 0..ROUNDS {
            let added = match (self.find(name).await?, &options.if_current) {
                (Found::Nothing | Found::Empty, Some(_)) => return stale("the secret is absent"),
                (Found::Nothing, None) => match self.create(OPERATION, name, value, &create).await {
                    Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Conflict) => continue,
                    created => created.map(|version| PutSecretResult { version, added: true }),
                },
                (Found::ToBeDeleted, _) => match self.restore(OPERATION, name).await {
                    // It is gone, and the next round creates it.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    restored => {
                        restored?;
                        continue;
                    }
                },
                (Found::Current(current), Some(expected))
                    if current.version != *expected && current.version.as_str() != id.as_str() =>
                {
                    return stale("another version is current");
                }
                (Found::Current(current), _) if !options.add_unchanged && current.value.same_as(value) => {
                    return Ok(PutSecretResult { version: current.version, added: false });
                }
                (Found::Current(_), Some(expected)) if options.stage == SecretStage::Current => {
                    self.swap(name, value, &id, expected).await
                }
                (Found::Current(_), _) if options.stage == SecretStage::Staged => {
                    self.add(name, value, &id, Some(PENDING)).await
                }
                (Found::Empty | Found::Current(_), _) => self.add(name, value, &id, None).await,
            };
            match added {
                // Deleted since it was found.
                Err(error) if is_invalid_request(&error) && !error.may_have_applied() => {}
                Err(error) if error.kind() == ErrorKind::NotFound && !error.may_have_applied() => {}
                added => return added.map_err(|error| error.with_write_id(id.clone())),
            }
        }
        let message = "the secret was created, deleted or restored by others all the while";
        Err(Error::new(ErrorKind::Conflict, OPERATION, name, message).with_write_id(id))
    }

    async fn find(&self, name: &SecretName) -> Result<Found> {
        let error = match self.read(OPERATION, name, &VersionSelector::Latest).await {
            Ok(secret) => return Ok(Found::Current(secret)),
            Err(error) => error,
        };
        if error.kind() == ErrorKind::NotFound {
            // A secret without any version has the same answer as none.
            return match self.describe(OPERATION, name).await {
                Ok(found) if found.deleted_date().is_some() => Ok(Found::ToBeDeleted),
                Ok(_) => Ok(Found::Empty),
                Err(asked) if matches!(asked.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
                    Ok(Found::Nothing)
                }
                Err(asked) => Err(asked),
            };
        }
        if !is_invalid_request(&error) {
            return Err(error);
        }
        match self.describe(OPERATION, name).await {
            Ok(found) if found.deleted_date().is_some() => Ok(Found::ToBeDeleted),
            Err(asked) if asked.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
            Err(asked) => Err(asked),
            Ok(_) => Err(error),
        }
    }

    async fn add(
        &self,
        name: &SecretName,
        value: &SecretValue,
        id: &WriteId,
        stage: Option<&str>,
    ) -> Result<PutSecretResult> {
        let sent = self
            .call(Request::change(OPERATION, name, "secretsmanager:PutSecretValue"), |client| {
                let (text, bytes) = forms(value);
                client
                    .put_secret_value()
                    .secret_id(name.as_str())
                    .client_request_token(id.as_str())
                    .set_secret_string(text)
                    .set_secret_binary(bytes)
                    .set_version_stages(stage.map(|stage| vec![stage.to_owned()]))
                    .send()
            })
            .await;
        match sent {
            Ok(_) => Ok(PutSecretResult { version: version_of(id)?, added: true }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(error.with_kind(ErrorKind::InvalidInput).with_message("this write id belongs to another value"))
            }
            Err(error) => Err(error),
        }
    }

    /// Stores a version aside, and makes it current if the expected one is.
    async fn swap(
        &self,
        name: &SecretName,
        value: &SecretValue,
        id: &WriteId,
        expected: &SecretVersionId,
    ) -> Result<PutSecretResult> {
        let label = label_of(id);
        let result = match self.add(name, value, id, Some(&label)).await {
            Err(error) if error.kind() == ErrorKind::ResourceExhausted => {
                self.sweep_labels(OPERATION, name).await?;
                self.add(name, value, id, Some(&label)).await?
            }
            added => added?,
        };
        let moved = self.make_current(name, result, expected).await;
        if !moved.as_ref().is_err_and(Error::is_indeterminate) {
            // What stays is swept up when the labels run out.
            let version = version_of(id)?;
            let removal = self.move_stage(OPERATION, name, &label, None, Some(&version));
            let _ = self.connection.retrier().cleaning_up(removal).await;
        }
        moved
    }

    async fn make_current(
        &self,
        name: &SecretName,
        result: PutSecretResult,
        expected: &SecretVersionId,
    ) -> Result<PutSecretResult> {
        let error = match self.move_stage(OPERATION, name, CURRENT, Some(&result.version), Some(expected)).await {
            Ok(()) => return Ok(result),
            Err(error) => error,
        };
        let refused = matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound);
        if !refused && !error.may_have_applied() {
            return Err(error);
        }
        match self.holder(OPERATION, name, CURRENT).await {
            Ok(Some(current)) if current == result.version => Ok(result),
            // Ours may have been current for a moment, if an answer was lost.
            _ if error.may_have_applied() => Err(error.into_indeterminate()),
            Ok(Some(current)) if current != *expected => {
                let message = "another version is current";
                Err(error.with_kind(ErrorKind::PreconditionFailed).with_message(message))
            }
            _ => Err(error),
        }
    }
}
