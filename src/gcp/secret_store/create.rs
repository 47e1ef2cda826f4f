use google_cloud_secretmanager_v1::model::replication::user_managed::Replica;
use google_cloud_secretmanager_v1::model::replication::{Automatic, UserManaged};
use google_cloud_secretmanager_v1::model::{CustomerManagedEncryption, Replication, Secret};

use super::api::{self, Api};
use super::claim::{CREATOR, Note};
use super::put;
use crate::secret_store::CreateSecretOptions;
use crate::{Error, ErrorKind, Result, SecretName, SecretValue, SecretVersionId, WriteId};

const OPERATION: &str = "secret_store.create";

pub(super) async fn create(
    api: &Api,
    name: &SecretName,
    value: &SecretValue,
    mut options: CreateSecretOptions,
) -> Result<SecretVersionId> {
    let write_id = options.write_id.get_or_insert_with(WriteId::random).clone();
    match shell(api, OPERATION, name, &options).await {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if let Some(done) = take_over(api, name, value, &options, write_id, error).await? {
                return api::id(done);
            }
        }
        Err(error) => return Err(error),
    }
    api::id(put::add(api, OPERATION, name, value, 0).await?)
}

/// Makes a secret without a version, with a note of who is about to fill it.
pub(super) async fn shell(
    api: &Api,
    operation: &'static str,
    name: &SecretName,
    options: &CreateSecretOptions,
) -> Result<()> {
    let write_id = options.write_id.clone().unwrap_or_else(WriteId::random);
    let secret = Secret::new()
        .set_replication(replication(options))
        .set_labels(options.labels.clone())
        .set_annotations([(CREATOR, Note::new(0, write_id).text())]);
    api.create(operation, name, secret).await.map(drop)
}

fn replication(options: &CreateSecretOptions) -> Replication {
    let key = options.encryption_key.as_ref().map(|key| CustomerManagedEncryption::new().set_kms_key_name(key));
    if options.locations.is_empty() {
        return Replication::new().set_automatic(Automatic::new().set_or_clear_customer_managed_encryption(key));
    }
    let replicas = options
        .locations
        .iter()
        .map(|location| Replica::new().set_location(location).set_or_clear_customer_managed_encryption(key.clone()));
    Replication::new().set_user_managed(UserManaged::new().set_replicas(replicas))
}

/// Makes a shell that nobody is filling this call's to fill. `Some` is the version that an earlier call of the same
/// write has added; `error` is what it is otherwise.
async fn take_over(
    api: &Api,
    name: &SecretName,
    value: &SecretValue,
    options: &CreateSecretOptions,
    write_id: WriteId,
    error: Error,
) -> Result<Option<u64>> {
    let mut secret = api.secret(OPERATION, name).await?;
    let note = Note::read(&secret.annotations, CREATOR);
    let mine = note.as_ref().is_some_and(|note| note.write_id == write_id);
    let (versions, _) = api.versions(OPERATION, name, 1, "").await?;
    if !versions.is_empty() {
        return match mine {
            true => put::landed(api, OPERATION, name, value, 0).await?.map(Some).ok_or(error),
            false => Err(error),
        };
    }
    if mine {
        return Ok(None);
    }
    if note.is_some_and(|note| note.is_fresh(api.claim_life())) {
        return Err(error.with_message("another call is creating the secret"));
    }
    secret.annotations.insert(CREATOR.to_owned(), Note::new(0, write_id).text());
    secret.labels.extend(options.labels.clone());
    match api.update(OPERATION, name, secret, &["annotations", "labels"]).await {
        Err(conflict) if conflict.kind() == ErrorKind::Conflict => {
            Err(error.with_message("another call is creating the secret"))
        }
        updated => updated.map(|()| None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replication_is_automatic_unless_places_are_named() {
        let automatic = serde_json::to_value(replication(&CreateSecretOptions::default())).unwrap();
        assert_eq!(automatic, serde_json::json!({"automatic": {}}));
        let options = CreateSecretOptions {
            locations: vec!["europe-west1".into(), "us-east1".into()],
            encryption_key: Some("k".into()),
            ..CreateSecretOptions::default()
        };
        let key = serde_json::json!({"kmsKeyName": "k"});
        let replicas = ["europe-west1", "us-east1"]
            .map(|place| serde_json::json!({"location": place, "customerManagedEncryption": key}));
        let managed = serde_json::to_value(replication(&options)).unwrap();
        assert_eq!(managed, serde_json::json!({"userManaged": {"replicas": replicas}}));
    }
}
