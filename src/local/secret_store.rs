//! Secrets as files: one record per secret, readable by its owner only.

mod directory;
mod lookup;
mod record;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use directory::{Directory, Home};
use lookup::{load, page_of, purge};
use record::Record;

use super::file_operations::System;
use crate::secret_store::{
    CreateSecretOptions, DeleteSecret, ListSecrets, MAX_SECRET_BYTES, PutSecretOptions, PutSecretResult, Secret,
    SecretCapabilities, SecretMeta, SecretStage, SecretVersion,
};
use crate::{
    Error, ErrorKind, Result, SecretAlias, SecretName, SecretStore, SecretValue, SecretVersionId, VersionSelector,
    WriteId,
};

/// How many records a listing reads at a time.
const PAGE: usize = 64;

const CAPABILITIES: SecretCapabilities = SecretCapabilities {
    provider: "local",
    recoverable_delete: true,
    version_states: true,
    staged_put: true,
    promote_keeps_id: true,
    atomic_conditional_put: true,
    stored_checksum: true,
    max_value_bytes: MAX_SECRET_BYTES,
};

/// Secrets in files of mode 0600 below a directory `secrets` of mode 0700, whatever the umask.
///
/// Version ids are `1`, `2`, `3`, … within a secret. Nothing is pruned: a secret's file holds all its versions until
/// they are destroyed or the secret is deleted, and is rewritten as a whole by each change. A change is on the disk
/// (`fsync` of file and directory) when its call returns; one that was cut off by a crash left the old record or the new one, whole.
/// Changes of all processes wait for one another, for 30 s at most; reads wait for nothing.
///
/// A write whose id has been used finds the version that it made, and adds none; with another value it is
/// `InvalidInput`. A secret whose first version is staged has no current version until one is promoted or put, and a
/// staged version is not what [`VersionSelector::LatestEnabled`] falls back to.
///
/// The values are not encrypted: who can read the files of this user can read them. A root or a directory `secrets`
/// that others can write to, or that belongs to another user, is refused with `PermissionDenied`; a root of the system
/// administrator's is not. What lies above the root is not looked at: who can write there can take all secrets away,
/// but neither read them nor put any of their own in their place. The file system must support `flock`, which local ones on
/// Linux do.
///
/// [`CreateSecretOptions::encryption_key`] and [`CreateSecretOptions::locations`] are `Unsupported`.
#[derive(Clone)]
pub struct FileSecretStore {
    home: Arc<Home>,
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    /// One change of this store at a time asks for the lock, so that those waiting come in turn.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Why an operation is not possible on a record.
struct Refusal(ErrorKind, String);

/// What an operation made of a record.
enum Change<T> {
    Nothing(T),
    Write(Record, T),
    Remove(T),
}

impl fmt::Debug for FileSecretStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSecretStore").field("root", &self.home.root).finish_non_exhaustive()
    }
}

impl FileSecretStore {
    /// The secrets in `root/secrets`. The disk is not touched before the first call; the directories are made by the
    /// first write.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        // A later change of the working directory must not change where the secrets are.
        let root = std::path::absolute(&root).unwrap_or(root);
        Self {
            home: Arc::new(Home::new(root, Arc::new(System))),
            clock: Arc::new(SystemTime::now),
            turn: Arc::default(),
        }
    }

    #[cfg(test)]
    fn with_clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    #[cfg(test)]
    fn with_operations(mut self, operations: Arc<dyn super::file_operations::FileOperations>) -> Self {
        self.home = Arc::new(Home::new(self.home.root.clone(), operations));
        self
    }

    /// Runs file operations off the async threads.
    async fn blocking<T: Send + 'static>(
        operation: &'static str,
        if_lost: ErrorKind,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
            Err(Error::new(if_lost, operation, "", "the runtime stopped during the file operation"))
        })
    }

    /// Reads a record and looks something up in it.
    async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &SecretName,
        look: impl FnOnce(Record) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T> {
        let (home, now, name) = (Arc::clone(&self.home), (self.clock)(), name.clone());
        Self::blocking(operation, ErrorKind::Internal, move || {
            let Some(directory) = Directory::open(&home, operation)? else {
                return Err(absent().on(operation, &name));
            };
            match load(&directory, operation, &name)? {
                Some(record) if !record.about.is_gone(now) => {
                    look(record).map_err(|refusal| refusal.on(operation, &name))
                }
                Some(_) => {
                    purge(directory, operation, &name, now)?;
                    Err(absent().on(operation, &name))
                }
                None => Err(absent().on(operation, &name)),
            }
        })
        .await
    }

    /// Reads a record, lets an operation change it, and writes it back, all under the lock.
    async fn change<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &SecretName,
        change: impl FnOnce(Option<Record>, SystemTime) -> Result<Change<T>, Refusal> + Send + 'static,
    ) -> Result<T> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let (home, clock, name) = (Arc::clone(&self.home), Arc::clone(&self.clock), name.clone());
        Self::blocking(operation, ErrorKind::Indeterminate, move || {
            // Kept until the work is done, even if nobody waits for it any more.
            let _turn = turn;
            let locked = Directory::lock(&home, operation)?;
            let now = clock();
            let record = match load(&locked, operation, &name)? {
                Some(record) if record.about.is_gone(now) => {
                    locked.remove(&name)?;
                    None
                }
                found => found,
            };
            match change(record, now).map_err(|refusal| refusal.on(operation, &name))? {
                Change::Nothing(result) => Ok(result),
                Change::Write(record, result) => {
                    let bytes = record.to_bytes().map_err(|_| {
                        Error::new(ErrorKind::Internal, operation, &name, "the record could not be encoded")
                    })?;
                    locked.write(&name, &bytes).map(|()| result)
                }
                Change::Remove(result) => locked.remove(&name).map(|()| result),
            }
        })
        .await
    }

    /// Changes a secret that exists and is not to be deleted.
    async fn edit<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &SecretName,
        edit: impl FnOnce(&mut Record) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T> {
        self.change(operation, name, |record, _| {
            let mut record = record.ok_or_else(absent)?;
            record.about.check_active()?;
            let result = edit(&mut record)?;
            Ok(Change::Write(record, result))
        })
        .await
    }
}

impl Refusal {
    fn on(self, operation: &'static str, name: &SecretName) -> Error {
        Error::new(self.0, operation, name, self.1)
    }
}

fn absent() -> Refusal {
    Refusal(ErrorKind::NotFound, "there is no such secret".to_owned())
}

fn check_create(operation: &'static str, name: &SecretName, options: &CreateSecretOptions) -> Result<()> {
    if options.encryption_key.is_some() || !options.locations.is_empty() {
        let message = "secrets in files have neither encryption keys nor locations";
        return Err(Error::new(ErrorKind::Unsupported, operation, name, message));
    }
    Ok(())
}

#[async_trait]
impl SecretStore for FileSecretStore {
    fn capabilities(&self) -> &SecretCapabilities {
        &CAPABILITIES
    }

    async fn get(&self, name: &SecretName, version: &VersionSelector) -> Result<Secret> {
        let (own, selector) = (name.clone(), version.clone());
        self.read("secret_store.get", name, move |record| {
            record.about.check_active()?;
            let (version, value, created) = record.select(&selector)?;
            Ok(Secret { name: own, version, value, created: Some(created) })
        })
        .await
    }

    async fn create(
        &self,
        name: &SecretName,
        value: SecretValue,
        options: CreateSecretOptions,
    ) -> Result<SecretVersionId> {
        const OPERATION: &str = "secret_store.create";
        value.check(OPERATION, name)?;
        check_create(OPERATION, name, &options)?;
        let write_id = options.write_id.unwrap_or_else(WriteId::random);
        let (own, id) = (name.clone(), write_id.clone());
        let created = self.change(OPERATION, name, move |record, now| {
            let Some(record) = record else {
                let mut record = Record::new(own, options.labels, now);
                let version = record.add(value, id, false, now)?;
                return Ok(Change::Write(record, version));
            };
            if let Err(Refusal(_, message)) = record.about.check_active() {
                return Err(Refusal(ErrorKind::AlreadyExists, message));
            }
            match record.written(&id, &value)? {
                Some(version) => Ok(Change::Nothing(version)),
                None => Err(Refusal(ErrorKind::AlreadyExists, "there is a secret of this name".to_owned())),
            }
        });
        created.await.map_err(|error| error.with_write_id(write_id))
    }

    async fn put(&self, name: &SecretName, value: SecretValue, options: PutSecretOptions) -> Result<PutSecretResult> {
        const OPERATION: &str = "secret_store.put";
        value.check(OPERATION, name)?;
        check_create(OPERATION, name, &options.create)?;
        let write_id = options.write_id.or(options.create.write_id).unwrap_or_else(WriteId::random);
        let (own, id) = (name.clone(), write_id.clone());
        let put = self.change(OPERATION, name, move |record, now| {
            let staged = options.stage == SecretStage::Staged;
            let Some(mut record) = record else {
                if options.if_current.is_some() {
                    return Err(Refusal(ErrorKind::PreconditionFailed, "there is no such secret".to_owned()));
                }
                let mut record = Record::new(own, options.create.labels, now);
                let version = record.add(value, id, staged, now)?;
                return Ok(Change::Write(record, PutSecretResult { version, added: true }));
            };
            let restored = record.restore();
            // First of all: a repeated write finds its own version where the precondition expects an older one.
            let mut existing = record.written(&id, &value)?;
            if existing.is_none() {
                if let Some(expected) = &options.if_current {
                    record.check_current(expected)?;
                }
                if !options.add_unchanged {
                    existing = record.unchanged(&value)?;
                }
            }
            Ok(match existing {
                Some(version) => {
                    let result = PutSecretResult { version, added: false };
                    if restored { Change::Write(record, result) } else { Change::Nothing(result) }
                }
                None => {
                    let version = record.add(value, id, staged, now)?;
                    Change::Write(record, PutSecretResult { version, added: true })
                }
            })
        });
        put.await.map_err(|error| error.with_write_id(write_id))
    }

    async fn delete(&self, name: &SecretName, mode: DeleteSecret) -> Result<()> {
        const OPERATION: &str = "secret_store.delete";
        if let DeleteSecret::Recoverable { days } = mode
            && !(7..=30).contains(&days)
        {
            let message = format!("the recovery window is 7 to 30 days, not {days}");
            return Err(Error::new(ErrorKind::InvalidInput, OPERATION, name, message));
        }
        self.change(OPERATION, name, move |record, now| {
            let mut record = record.ok_or_else(absent)?;
            match mode {
                DeleteSecret::Immediate => Ok(Change::Remove(())),
                DeleteSecret::Recoverable { days } => {
                    record.about.check_active()?;
                    record.delete_at(now + Duration::from_secs(u64::from(days) * 24 * 60 * 60));
                    Ok(Change::Write(record, ()))
                }
            }
        })
        .await
    }

    async fn restore(&self, name: &SecretName) -> Result<()> {
        self.change("secret_store.restore", name, |record, _| {
            let mut record = record.ok_or_else(absent)?;
            Ok(if record.restore() { Change::Write(record, ()) } else { Change::Nothing(()) })
        })
        .await
    }

    async fn describe(&self, name: &SecretName) -> Result<SecretMeta> {
        self.read("secret_store.describe", name, |record| Ok(record.about.meta())).await
    }

    fn list(&self, options: ListSecrets) -> BoxStream<'static, Result<SecretMeta>> {
        const OPERATION: &str = "secret_store.list";
        let store = self.clone();
        let names = async move {
            let (home, prefix) = (Arc::clone(&store.home), options.prefix.clone());
            let names =
                Self::blocking(OPERATION, ErrorKind::Internal, move || match Directory::open(&home, OPERATION)? {
                    Some(directory) => directory.names(&prefix),
                    None => Ok(Vec::new()),
                });
            let pages: Vec<_> = names.await?.chunks(PAGE).map(<[SecretName]>::to_vec).collect();
            let options = Arc::new(options);
            Ok(stream::iter(pages).then(move |page| {
                let (home, options, now) = (Arc::clone(&store.home), Arc::clone(&options), (store.clock)());
                Self::blocking(OPERATION, ErrorKind::Internal, move || page_of(&home, &page, &options, now))
            }))
        };
        let metas = stream::once(names).try_flatten().map_ok(|page| stream::iter(page.into_iter().map(Ok)));
        metas.try_flatten().boxed()
    }

    fn list_versions(&self, name: &SecretName) -> BoxStream<'static, Result<SecretVersion>> {
        let (store, name) = (self.clone(), name.clone());
        let versions = async move {
            let listed = store.read("secret_store.list_versions", &name, |record| record.versions()).await?;
            Ok(stream::iter(listed.into_iter().map(Ok)))
        };
        stream::once(versions).try_flatten().boxed()
    }

    async fn enable(&self, name: &SecretName, version: &SecretVersionId) -> Result<()> {
        let version = version.clone();
        self.edit("secret_store.enable", name, move |record| record.set_enabled(&version, true)).await
    }

    async fn disable(&self, name: &SecretName, version: &SecretVersionId) -> Result<()> {
        let version = version.clone();
        self.edit("secret_store.disable", name, move |record| record.set_enabled(&version, false)).await
    }

    async fn destroy(&self, name: &SecretName, version: &SecretVersionId) -> Result<()> {
        let version = version.clone();
        self.edit("secret_store.destroy", name, move |record| record.destroy(&version)).await
    }

    async fn promote(&self, name: &SecretName, version: &SecretVersionId) -> Result<SecretVersionId> {
        let version = version.clone();
        self.edit("secret_store.promote", name, move |record| record.promote(&version)).await
    }

    async fn set_alias(&self, name: &SecretName, alias: &SecretAlias, version: Option<&SecretVersionId>) -> Result<()> {
        let (alias, version) = (alias.clone(), version.cloned());
        self.edit("secret_store.set_alias", name, move |record| record.set_alias(&alias, version.as_ref())).await
    }
}
