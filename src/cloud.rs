use std::fmt;
use std::sync::Arc;

use crate::observed::{Exchanging, Observed, Transferring};
use crate::{Config, Error, ErrorKind, JobName, JobRunner, ObjectStore, ObjectUri, Provider, Result, SecretStore};

/// What a provider module builds.
#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
pub(crate) struct Backends {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) secrets: Arc<dyn SecretStore>,
    pub(crate) jobs: Arc<dyn JobRunner>,
}

/// A bucket, a secret store and a job runner of the provider that the configuration names. Cheap to clone.
///
/// Making one asks nobody anything: connections, credentials and whatever else needs the network or the disk come
/// with the first call that needs them, and are shared from then on.
#[derive(Clone)]
pub struct Cloud {
    provider: Provider,
    default_job: Option<JobName>,
    objects: Arc<dyn ObjectStore>,
    secrets: Arc<dyn SecretStore>,
    jobs: Arc<dyn JobRunner>,
    #[cfg(feature = "local")]
    local: Option<crate::local::SignedUrlHandler>,
}

impl Cloud {
    /// The cloud that the environment names; see [`config::VARIABLES`](crate::config::VARIABLES).
    ///
    /// # Errors
    /// `InvalidConfig` listing every missing or malformed variable; `Unsupported` for a provider whose feature is not
    /// compiled in.
    pub fn from_env() -> Result<Self> {
        Self::connect(Config::from_env()?)
    }

    /// The cloud that the configuration describes.
    ///
    /// # Errors
    /// `InvalidConfig`; `Unsupported` for a provider whose feature is not compiled in.
    pub fn connect(config: Config) -> Result<Self> {
        let provider = config.provider;
        #[cfg(feature = "local")]
        let local = match provider {
            Provider::Local => Some(crate::local::SignedUrlHandler::new(&config.local)),
            _ => None,
        };
        let Backends { objects, secrets, jobs } = backends(&config)?;
        tracing::info!(%provider, default_job = config.default_job.as_ref().map(JobName::as_str), "connected");
        let objects: Arc<dyn ObjectStore> = Arc::new(Observed::new(Transferring::new(objects, config.transfer)));
        Ok(Self {
            provider,
            default_job: config.default_job,
            secrets: Arc::new(Observed::new(secrets)),
            jobs: Arc::new(Observed::new(Exchanging::new(jobs, Arc::clone(&objects)))),
            objects,
            #[cfg(feature = "local")]
            local,
        })
    }

    /// The provider.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// The bucket.
    #[must_use]
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// The secrets.
    #[must_use]
    pub fn secrets(&self) -> &Arc<dyn SecretStore> {
        &self.secrets
    }

    /// The job runner.
    #[must_use]
    pub fn jobs(&self) -> &Arc<dyn JobRunner> {
        &self.jobs
    }

    /// The job that the deployment runs, if the configuration names one.
    #[must_use]
    pub fn default_job(&self) -> Option<&JobName> {
        self.default_job.as_ref()
    }

    /// The handler that serves the signed URLs of the `local` provider, for the web application to mount; `None` in
    /// the clouds, which serve theirs themselves.
    #[cfg(feature = "local")]
    #[must_use]
    pub fn signed_url_handler(&self) -> Option<&crate::local::SignedUrlHandler> {
        self.local.as_ref()
    }

    /// The address of an object, taken apart: for callers that keep addresses rather than keys.
    ///
    /// # Errors
    /// `InvalidInput` for a malformed address, and for one of another provider or bucket.
    pub fn resolve(&self, address: &str) -> Result<crate::ObjectKey> {
        let uri: ObjectUri = address.parse()?;
        let own = self.objects.uri(&uri.key);
        if own == uri {
            return Ok(uri.key);
        }
        let message = format!("this is not an address in `{}://{}`", own.scheme.as_str(), own.bucket);
        Err(Error::new(ErrorKind::InvalidInput, "cloud.resolve", address, message))
    }
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud").field("provider", &self.provider).finish_non_exhaustive()
    }
}

fn backends(config: &Config) -> Result<Backends> {
    match config.provider {
        #[cfg(feature = "aws")]
        Provider::Aws => crate::aws::connect(config),
        #[cfg(feature = "gcp")]
        Provider::Gcp => crate::gcp::connect(config),
        #[cfg(feature = "local")]
        Provider::Local => crate::local::connect(config),
        #[allow(unreachable_patterns, reason = "reached when a feature is off")]
        provider => {
            let message = format!("this program was built without the feature `{provider}` of the crate anycloud");
            Err(Error::new(ErrorKind::Unsupported, "cloud.connect", provider, message))
        }
    }
}
