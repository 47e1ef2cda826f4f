//! Secrets kept in memory for a while.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tokio::time::Instant;

use super::{
    CreateSecretOptions, DeleteSecret, ListSecrets, PutSecretOptions, PutSecretResult, Secret, SecretCapabilities,
    SecretMeta, SecretStore, SecretValue, SecretVersion, VersionSelector,
};
use crate::{Error, ErrorKind, Result, SecretAlias, SecretName, SecretVersionId};

/// How long a kept value is handed out before the store is asked again that could not be asked.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a cache keeps what it has read. Fill in what matters and take the rest from `..Default::default()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// How long a value is handed out without asking the store.
    pub ttl: Duration,
    /// How old a value may be that is handed out because the store could not be asked for now: `Throttled`,
    /// `Unavailable`, `Timeout`, `Conflict`. After any other error, such as `PermissionDenied`, `NotFound` or
    /// `VersionDisabled`, the value is forgotten at once. No more than the `ttl` means never.
    pub max_stale: Duration,
}

impl Default for CacheOptions {
    /// Five minutes, and up to an hour while the store cannot be asked.
    fn default() -> Self {
        Self { ttl: Duration::from_secs(5 * 60), max_stale: Duration::from_secs(60 * 60) }
    }
}

/// A [`SecretStore`] that reads each secret from another one at most once per [`CacheOptions::ttl`].
///
/// Of many reads of one secret and selector at the same time, one asks the store and the others wait for it. Every
/// change made through the cache makes it forget that secret, also a change that failed; one made elsewhere is seen
/// after the `ttl`. Errors are not kept. Only [`get`](SecretStore::get) is answered from memory. A hit takes well
/// under a microsecond, and one allocation: its future.
///
/// Values are wiped when they are forgotten and no reader holds them any more; one that nobody asks for again stays
/// until the cache is dropped.
pub struct CachedSecrets {
    inner: Arc<dyn SecretStore>,
    options: CacheOptions,
    names: Mutex<HashMap<SecretName, Slots>>,
}

/// What is kept of one secret, by selector.
type Slots = Vec<(VersionSelector, Arc<Slot>)>;

/// One secret as one selector means it.
#[derive(Default)]
struct Slot {
    kept: Mutex<Option<Kept>>,
    /// Held while the store is asked; how that ended last, if badly.
    asking: tokio::sync::Mutex<Option<Failure>>,
}

struct Kept {
    secret: Secret,
    read: Instant,
    good_until: Instant,
}

/// A failure, for those who waited for the answer.
struct Failure {
    at: Instant,
    kind: ErrorKind,
    message: String,
}

fn later(time: Instant, by: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    time.checked_add(by).unwrap_or(time + YEAR)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    fn good(&self) -> Option<Secret> {
        locked(&self.kept).as_ref().filter(|kept| Instant::now() < kept.good_until).map(|kept| kept.secret.clone())
    }

    /// The value in spite of its age, for as long as it may be handed out, and for a moment without asking.
    fn stale(&self, max_stale: Duration) -> Option<Secret> {
        let (mut kept, now) = (locked(&self.kept), Instant::now());
        let kept = kept.as_mut()?;
        let end = later(kept.read, max_stale);
        if now >= end {
            return None;
        }
        kept.good_until = end.min(now + PAUSE);
        Some(kept.secret.clone())
    }
}

impl fmt::Debug for CachedSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedSecrets")
            .field("inner", &self.inner)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl CachedSecrets {
    /// An empty cache before `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn SecretStore>, options: CacheOptions) -> Self {
        Self { inner, options, names: Mutex::default() }
    }

    /// Forgets everything about a secret, so that the next read asks the store.
    pub fn forget(&self, name: &SecretName) {
        locked(&self.names).remove(name);
    }

    /// A value that is young enough, else where it is to be kept.
    fn look(&self, name: &SecretName, selector: &VersionSelector) -> Result<Secret, Arc<Slot>> {
        let mut names = locked(&self.names);
        if let Some((_, slot)) = names.get(name).and_then(|slots| slots.iter().find(|(kept, _)| kept == selector)) {
            return slot.good().ok_or_else(|| Arc::clone(slot));
        }
        let slot = Arc::<Slot>::default();
        names.entry(name.clone()).or_default().push((selector.clone(), Arc::clone(&slot)));
        Err(slot)
    }

    fn drop_slot(&self, name: &SecretName, slot: &Arc<Slot>) {
        let mut names = locked(&self.names);
        if let Some(slots) = names.get_mut(name) {
            slots.retain(|(_, kept)| !Arc::ptr_eq(kept, slot));
            if slots.is_empty() {
                names.remove(name);
            }
        }
    }

    async fn ask(&self, name: &SecretName, selector: &VersionSelector, slot: &Arc<Slot>) -> Result<Secret> {
        let read = Instant::now();
        let error = match self.inner.get(name, selector).await {
            Ok(secret) => {
                let good_until = later(read, self.options.ttl);
                *locked(&slot.kept) = Some(Kept { secret: secret.clone(), read, good_until });
                return Ok(secret);
            }
            Err(error) => error,
        };
        if error.is_transient()
            && let Some(secret) = slot.stale(self.options.max_stale)
        {
            tracing::warn!(anycloud.secret = %name, error.type = error.kind().anchor(), "an older value is used");
            return Ok(secret);
        }
        self.drop_slot(name, slot);
        Err(error)
    }

    /// Makes a change, and forgets the secret, also when the change failed or nobody waits for its end any more.
    async fn change<T>(&self, name: &SecretName, change: impl Future<Output = Result<T>>) -> Result<T> {
        struct Forget<'a>(&'a CachedSecrets, &'a SecretName);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                self.0.forget(self.1);
            }
        }
        let _forget = Forget(self, name);
        change.await
    }
}

#[async_trait]
impl SecretStore for CachedSecrets {
    fn capabilities(&self) -> &SecretCapabilities {
        self.inner.capabilities()
    }

    async fn get(&self, name: &SecretName, version: &VersionSelector) -> Result<Secret> {
        let mut slot = match self.look(name, version) {
            Ok(secret) => return Ok(secret),
            Err(slot) => slot,
        };
        let begun = Instant::now();
        loop {
            let current = Arc::clone(&slot);
            let mut asking = current.asking.lock().await;
            if let Some(Failure { at, kind, message }) = &*asking
                && *at >= begun
            {
                return Err(Error::new(*kind, "secret_store.get", name, message.clone()));
            }
            // Somebody else may have asked meanwhile, or a change have made everybody forget.
            match self.look(name, version) {
                Ok(secret) => return Ok(secret),
                Err(other) if !Arc::ptr_eq(&other, &current) => slot = other,
                Err(_) => {
                    let asked = self.ask(name, version, &current).await;
                    *asking = asked.as_ref().err().map(|error| Failure {
                        at: Instant::now(),
                        kind: error.kind(),
                        message: error.message().to_owned(),
                    });
                    return asked;
                }
            }
        }
    }

    async fn create(
        &self,
        name: &SecretName,
        value: SecretValue,
        options: CreateSecretOptions,
    ) -> Result<SecretVersionId> {
        self.change(name, self.inner.create(name, value, options)).await
    }

    async fn put(&self, name: &SecretName, value: SecretValue, options: PutSecretOptions) -> Result<PutSecretResult> {
        self.change(name, self.inner.put(name, value, options)).await
    }

    async fn delete(&self, name: &SecretName, mode: DeleteSecret) -> Result<()> {
        self.change(name, self.inner.delete(name, mode)).await
    }

    async fn restore(&self, name: &SecretName) -> Result<()> {
        self.change(name, self.inner.restore(name)).await
    }

    async fn describe(&self, name: &SecretName) -> Result<SecretMeta> {
        self.inner.describe(name).await
    }

    fn list(&self, options: ListSecrets) -> BoxStream<'static, Result<SecretMeta>> {
        self.inner.list(options)
    }

    fn list_versions(&self, name: &SecretName) -> BoxStream<'static, Result<SecretVersion>> {
        self.inner.list_versions(name)
    }

    async fn enable(&self, name: &SecretName, version: &SecretVersionId) -> Result<()> {
        self.change(name, self.inner.enable(name, version)).await
    }

    async fn disable(&self, name: &SecretName, version: &SecretVersionId) -> Result<()> {
        self.change(name, self.inner.disable(name, version)).await
    }

    async fn destroy(&self, name: &SecretName, version: &SecretVersionId) -> Result<()> {
        self.change(name, self.inner.destroy(name, version)).await
    }

    async fn promote(&self, name: &SecretName, version: &SecretVersionId) -> Result<SecretVersionId> {
        self.change(name, self.inner.promote(name, version)).await
    }

    async fn set_alias(&self, name: &SecretName, alias: &SecretAlias, version: Option<&SecretVersionId>) -> Result<()> {
        self.change(name, self.inner.set_alias(name, alias, version)).await
    }
}

#[cfg(test)]
mod tests;
