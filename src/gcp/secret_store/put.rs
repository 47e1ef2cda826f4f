use std::time::Duration;

use super::api::{self, Api};
use super::claim::{CLAIM, Note};
use super::create;
use crate::retry::pause;
use crate::secret_store::{PutSecretOptions, PutSecretResult, SecretStage, SecretVersionState};
use crate::{Error, ErrorKind, Result, SecretName, SecretValue, SecretVersionId, WriteId};

const OPERATION: &str = "secret_store.put";
/// How often a value is sent whose answers get lost, and a put begun anew because the secret came or went meanwhile.
const ROUNDS: u32 = 3;
/// How often a conditional put looks whether another one is through.
const LOOKS: u32 = 7;
/// The pause before looking again; it doubles.
const PAUSE: Duration = Duration::from_millis(100);
/// So many versions added since the call began are compared with the value.
const COMPARED: i32 = 10;

pub(super) async fn put(
    api: &Api,
    name: &SecretName,
    value: &SecretValue,
    mut options: PutSecretOptions,
) -> Result<PutSecretResult> {
    if options.stage == SecretStage::Staged {
        let message = "Secret Manager makes every new version the current one";
        return Err(Error::new(ErrorKind::Unsupported, OPERATION, name, message));
    }
    let write_id = options.write_id.get_or_insert_with(WriteId::random).clone();
    options.create.write_id.get_or_insert_with(|| write_id.clone());
    if let Some(expected) = &options.if_current {
        return conditional(api, name, value, expected, write_id, options.add_unchanged).await;
    }
    let mut gone = None;
    for _ in 0..ROUNDS {
        let base = match api.access(OPERATION, name, "latest").await {
            Ok(current) if !options.add_unchanged && current.value.same_as(value) => {
                return Ok(PutSecretResult { version: api::id(current.number)?, added: false });
            }
            Ok(current) => current.number,
            Err(error) if error.kind() == ErrorKind::VersionDisabled => {
                api.version(OPERATION, name, "latest").await?.number
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                match create::shell(api, OPERATION, name, &options.create).await {
                    // It was a shell, or somebody else has just created it.
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    made => made?,
                }
                0
            }
            Err(error) => return Err(error),
        };
        match add(api, OPERATION, name, value, base).await {
            Err(error) if error.kind() == ErrorKind::NotFound => gone = Some(error),
            added => return Ok(PutSecretResult { version: api::id(added?)?, added: true }),
        }
    }
    let conflict = || Error::new(ErrorKind::Conflict, OPERATION, name, "the secret keeps being deleted");
    Err(gone.map_or_else(conflict, |error| error.with_kind(ErrorKind::Conflict)))
}

pub(super) async fn promote(api: &Api, name: &SecretName, version: &SecretVersionId) -> Result<SecretVersionId> {
    const OPERATION: &str = "secret_store.promote";
    let number = api::parse(version).ok_or_else(|| api::no_version(OPERATION, name, version))?;
    let promoted = api.access(OPERATION, name, &number.to_string()).await?;
    let base = match api.access(OPERATION, name, "latest").await {
        Ok(current) if current.value.same_as(&promoted.value) => return api::id(current.number),
        Ok(current) => current.number,
        Err(error) if error.kind() == ErrorKind::VersionDisabled => {
            api.version(OPERATION, name, "latest").await?.number
        }
        Err(error) => return Err(error),
    };
    api::id(add(api, OPERATION, name, &promoted.value, base).await?)
}

/// Adds a version after `base`. When an answer is lost, the versions since then tell whether it was added.
pub(super) async fn add(
    api: &Api,
    operation: &'static str,
    name: &SecretName,
    value: &SecretValue,
    base: u64,
) -> Result<u64> {
    let mut lost: Option<Error> = None;
    for round in 0..ROUNDS {
        match api.add(operation, name, value).await {
            Ok(number) => return Ok(number),
            Err(error) if error.may_have_applied() => lost = Some(error),
            // Of an earlier round nothing was to be seen, but it may still be under way.
            Err(error) if lost.is_some() && error.is_transient() => return Err(error.into_indeterminate()),
            Err(error) => return Err(error),
        }
        match landed(api, operation, name, value, base).await {
            Ok(Some(number)) => return Ok(number),
            Ok(None) => pause(PAUSE * 2_u32.pow(round)).await,
            Err(_) => break,
        }
    }
    let unknown = || Error::new(ErrorKind::Internal, operation, name, "no attempt was made");
    Err(lost.unwrap_or_else(unknown).into_indeterminate())
}

/// The version after `base` that holds the value, if there is one.
pub(super) async fn landed(
    api: &Api,
    operation: &'static str,
    name: &SecretName,
    value: &SecretValue,
    base: u64,
) -> Result<Option<u64>> {
    let (newest, _) = api.versions(operation, name, COMPARED, "").await?;
    for version in newest {
        if version.number > base && version.state == SecretVersionState::Enabled {
            let read = api.access(operation, name, &version.number.to_string()).await?;
            if read.value.same_as(value) {
                return Ok(Some(version.number));
            }
        }
    }
    Ok(None)
}

/// A put on the condition that a version is current: whoever puts the claim on it into the annotations may add.
async fn conditional(
    api: &Api,
    name: &SecretName,
    value: &SecretValue,
    expected: &SecretVersionId,
    write_id: WriteId,
    add_unchanged: bool,
) -> Result<PutSecretResult> {
    let refused = |message: String| Error::new(ErrorKind::PreconditionFailed, OPERATION, name, message);
    let absent = || refused("there is no such secret".to_owned());
    let Some(number) = api::parse(expected) else {
        return Err(refused(format!("`{expected}` is no version of this store")));
    };
    for look in 0..LOOKS {
        let mut secret = match api.secret(OPERATION, name).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(absent()),
            secret => secret?,
        };
        let claim = Note::read(&secret.annotations, CLAIM).filter(|claim| claim.number == number);
        let mine = claim.as_ref().is_some_and(|claim| claim.write_id == write_id);
        let current = newest(api, name).await?.ok_or_else(absent)?;
        if current != number {
            let done = if mine { landed(api, OPERATION, name, value, number).await? } else { None };
            return match done {
                Some(version) => Ok(PutSecretResult { version: api::id(version)?, added: true }),
                None => Err(refused(format!("version {current} is current, not {number}"))),
            };
        }
        if !mine && claim.is_some_and(|claim| claim.is_fresh(api.claim_life())) {
            pause(PAUSE * 2_u32.pow(look)).await;
            continue;
        }
        if !add_unchanged && is_unchanged(api, name, value, number).await? {
            return Ok(PutSecretResult { version: expected.clone(), added: false });
        }
        if !mine {
            secret.annotations.insert(CLAIM.to_owned(), Note::new(number, write_id.clone()).text());
            match api.update(OPERATION, name, secret, &["annotations"]).await {
                Err(error) if error.kind() == ErrorKind::Conflict => continue,
                Err(error) if error.kind() == ErrorKind::NotFound => return Err(absent()),
                claimed => claimed?,
            }
            // What was added before the claim was seen by nobody yet.
            let current = newest(api, name).await?.ok_or_else(absent)?;
            if current != number {
                return Err(refused(format!("version {current} is current, not {number}")));
            }
        }
        let added = add(api, OPERATION, name, value, number).await?;
        if added != number + 1 {
            tracing::warn!(secret = %name, "a put without a condition came between the check and the write");
        }
        return Ok(PutSecretResult { version: api::id(added)?, added: true });
    }
    Err(Error::new(ErrorKind::Conflict, OPERATION, name, "another conditional put of this version is under way"))
}

async fn newest(api: &Api, name: &SecretName) -> Result<Option<u64>> {
    match api.version(OPERATION, name, "latest").await {
        Ok(version) => Ok(Some(version.number)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn is_unchanged(api: &Api, name: &SecretName, value: &SecretValue, number: u64) -> Result<bool> {
    match api.access(OPERATION, name, &number.to_string()).await {
        Ok(read) => Ok(read.value.same_as(value)),
        Err(error) if error.kind() == ErrorKind::VersionDisabled => Ok(false),
        Err(error) => Err(error),
    }
}
