//! Records as they are found in the directory.

use std::time::SystemTime;

use zeroize::Zeroizing;

use super::directory::{Directory, Home, Locked};
use super::record::{About, Heading, Record};
use crate::secret_store::{ListSecrets, SecretMeta, SecretState};
use crate::{Error, ErrorKind, Result, SecretName};

/// The record of a secret.
pub(super) fn load(directory: &Directory, operation: &'static str, name: &SecretName) -> Result<Option<Record>> {
    let Some(bytes) = directory.read(name)? else { return Ok(None) };
    let record: Record = parse(directory, operation, name, &bytes)?;
    check_name(&record.about, directory, operation, name)?;
    Ok(Some(record))
}

fn parse<T: serde::de::DeserializeOwned>(
    directory: &Directory,
    operation: &'static str,
    name: &SecretName,
    bytes: &Zeroizing<Vec<u8>>,
) -> Result<T> {
    crate::formats::json::parse(bytes, operation, directory.path_of(name).display())
        .map_err(|error| error.with_kind(ErrorKind::Corrupt))
}

fn check_name(about: &About, directory: &Directory, operation: &'static str, name: &SecretName) -> Result<()> {
    if about.name == *name {
        return Ok(());
    }
    let message = format!("the file holds the secret `{}`", about.name);
    Err(Error::new(ErrorKind::Corrupt, operation, directory.path_of(name).display(), message))
}

/// Removes a record whose time has come, unless somebody is busy: then the next one to touch it does.
pub(super) fn purge(directory: Directory, operation: &'static str, name: &SecretName, now: SystemTime) -> Result<()> {
    let Some(locked): Option<Locked> = directory.try_lock()? else { return Ok(()) };
    match load(&locked, operation, name)? {
        Some(record) if record.about.is_gone(now) => locked.remove(name),
        _ => Ok(()),
    }
}

/// What a listing tells of these secrets. One that went meanwhile is left out.
pub(super) fn page_of(
    home: &Home,
    names: &[SecretName],
    options: &ListSecrets,
    now: SystemTime,
) -> Result<Vec<SecretMeta>> {
    const OPERATION: &str = "secret_store.list";
    let Some(directory) = Directory::open(home, OPERATION)? else { return Ok(Vec::new()) };
    let mut page = Vec::with_capacity(names.len());
    for name in names {
        let Some(bytes) = directory.read(name)? else { continue };
        let Heading { about } = parse(&directory, OPERATION, name, &bytes)?;
        check_name(&about, &directory, OPERATION, name)?;
        if about.is_gone(now) {
            continue;
        }
        let meta = about.meta();
        let wanted = options.labels.iter().all(|(key, value)| meta.labels.get(key) == Some(value))
            && (options.include_pending_deletion || meta.state == SecretState::Active);
        if wanted {
            page.push(meta);
        }
    }
    Ok(page)
}
