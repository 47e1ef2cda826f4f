//! The credentials of the moment, for the SDK's clients and for the crate's own requests alike.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use tokio::time::timeout;

use super::silence::Silent as _;

/// How long a lookup may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long before their end credentials are looked up anew, as in the SDK's own cache.
const BUFFER: Duration = Duration::from_secs(10);
/// When credentials without an end are looked up anew, as in the SDK's own cache.
const ENDLESS: Duration = Duration::from_secs(15 * 60);

/// Looks credentials up when they are first needed and again shortly before they end, one lookup at a time. Where they
/// come from is asked by the SDK, too, and so unheard.
#[derive(Debug)]
pub(crate) struct CredentialCache {
    provider: SharedCredentialsProvider,
    held: Mutex<Option<Held>>,
    lookup: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct Held {
    credentials: Arc<Credentials>,
    until: SystemTime,
}

impl CredentialCache {
    pub(crate) fn new(provider: SharedCredentialsProvider) -> Self {
        Self { provider, held: Mutex::default(), lookup: tokio::sync::Mutex::default() }
    }

    /// The credentials to sign with now.
    ///
    /// # Errors
    /// Those of the provider, and `ProviderTimedOut`. None is remembered.
    pub(crate) async fn get(&self) -> Result<Arc<Credentials>, CredentialsError> {
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        let _one_at_a_time = self.lookup.lock().await;
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        let found = match timeout(LOOKUP_TIMEOUT, self.provider.provide_credentials().silently()).await {
            Ok(found) => found?,
            Err(_) => {
                let fallback = self.provider.as_ref().fallback_on_interrupt();
                fallback.ok_or_else(|| CredentialsError::provider_timed_out(LOOKUP_TIMEOUT))?
            }
        };
        let until = found.expiry().map_or_else(|| SystemTime::now() + ENDLESS, |end| end - BUFFER);
        let credentials = Arc::new(found);
        *self.held() = Some(Held { credentials: Arc::clone(&credentials), until });
        Ok(credentials)
    }

    /// When the credentials end that were looked up last, if they end and any were.
    pub(crate) fn expiry(&self) -> Option<SystemTime> {
        self.held().as_ref().and_then(|held| held.credentials.expiry())
    }

    fn fresh(&self) -> Option<Arc<Credentials>> {
        let held = self.held();
        held.as_ref().filter(|held| SystemTime::now() < held.until).map(|held| Arc::clone(&held.credentials))
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProvideCredentials for CredentialCache {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { Ok((*self.get().await?).clone()) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Gives credentials with this life, or after so long a time, and counts how often.
    #[derive(Debug)]
    struct Counting {
        asked: Arc<AtomicU32>,
        life: Option<Duration>,
        takes: Duration,
        fallback: Option<Credentials>,
    }

    impl ProvideCredentials for Counting {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async {
                let number = self.asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(self.takes).await;
                let end = self.life.map(|life| SystemTime::now() + life);
                Ok(Credentials::new(format!("AKID{number}"), "made-up", None, end, "test"))
            })
        }

        fn fallback_on_interrupt(&self) -> Option<Credentials> {
            self.fallback.clone()
        }
    }

    fn cache(life: Option<u64>, takes: Duration, fallback: Option<Credentials>) -> (CredentialCache, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let provider = Counting { asked: Arc::clone(&asked), life: life.map(Duration::from_secs), takes, fallback };
        (CredentialCache::new(SharedCredentialsProvider::new(provider)), asked)
    }

    #[tokio::test]
    async fn many_calls_at_once_make_one_lookup() {
        let (cache, asked) = cache(None, Duration::from_millis(20), None);
        let calls: Vec<_> = (0..64).map(|_| cache.get()).collect();
        let all = futures_util::future::try_join_all(calls).await.unwrap();
        assert!(all.iter().all(|one| one.access_key_id() == "AKID0"));
        assert_eq!((asked.load(Ordering::Relaxed), cache.expiry()), (1, None));
    }

    #[tokio::test]
    async fn credentials_are_looked_up_anew_shortly_before_they_end_and_not_earlier() {
        for (life, lookups) in [(3600, 1), (BUFFER.as_secs() + 5, 1), (BUFFER.as_secs() - 5, 2)] {
            let (cache, asked) = cache(Some(life), Duration::ZERO, None);
            for _ in 0..2 {
                cache.get().await.unwrap();
            }
            assert_eq!(asked.load(Ordering::Relaxed), lookups, "{life}");
            assert!(cache.expiry().unwrap() > SystemTime::now());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_takes_too_long_ends_with_what_the_provider_had_before_or_in_an_error() {
        let (without, _) = cache(None, Duration::from_secs(60), None);
        assert!(matches!(without.get().await.unwrap_err(), CredentialsError::ProviderTimedOut(_)));
        let old = Credentials::new("OLD", "made-up", None, None, "test");
        let (with, _) = cache(None, Duration::from_secs(60), Some(old));
        assert_eq!(with.get().await.unwrap().access_key_id(), "OLD");
    }
}
