//! What the services share: credentials, looked up on first use and never for an emulator, and the retry budget.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use google_cloud_auth::credentials::{self, CacheableResource, Credentials, EntityTag};
use google_cloud_auth::errors::CredentialsError;
use http::{Extensions, HeaderMap};

use super::signer::{self, UrlSigner};
use crate::config::GcpConfig;
use crate::http::is_safe_address;
use crate::retry::Retrier;
use crate::{Config, Error, ErrorKind, Result};

/// The way to one project. Clones share everything, the retry budget included.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Inner>);

struct Inner {
    config: GcpConfig,
    retrier: Retrier,
    credentials: OnceLock<Credentials>,
    signer: OnceLock<UrlSigner>,
    /// The headers of the current token, so that a call does not make them anew.
    headers: Mutex<Option<(EntityTag, HeaderMap)>>,
}

impl Connection {
    /// A connection that is not made before it is used. Asks nobody anything.
    ///
    /// # Errors
    /// `InvalidConfig` for a plain-HTTP endpoint on another host, unless the configuration allows it.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let gcp = &config.gcp;
        for (variable, url) in [
            ("STORAGE_EMULATOR_HOST", &gcp.storage_endpoint),
            ("SECRET_MANAGER_EMULATOR_HOST", &gcp.secret_manager_endpoint),
            ("CLOUD_RUN_EMULATOR_HOST", &gcp.cloud_run_endpoint),
            ("CLOUD_LOGGING_EMULATOR_HOST", &gcp.logging_endpoint),
            ("iam_credentials_endpoint", &gcp.iam_credentials_endpoint),
        ] {
            let Some(url) = url else { continue };
            if !config.allow_http && !is_safe_address(url) {
                let message = format!(
                    "{variable} is plain HTTP to another host: everything would be readable on the way; use https, \
                     or set ANYCLOUD_ALLOW_HTTP=true"
                );
                return Err(Error::new(ErrorKind::InvalidConfig, "gcp.connect", url, message));
            }
        }
        Ok(Self(Arc::new(Inner {
            config: gcp.clone(),
            retrier: Retrier::new(config.retry.clone()),
            credentials: OnceLock::new(),
            signer: OnceLock::new(),
            headers: Mutex::new(None),
        })))
    }

    /// The settings.
    pub(crate) fn config(&self) -> &GcpConfig {
        &self.0.config
    }

    /// The one retry policy; the SDK's own is off.
    pub(crate) fn retrier(&self) -> &Retrier {
        &self.0.retrier
    }

    /// Whether the other side is an emulator, which gets no credentials.
    pub(crate) fn is_emulator(&self) -> bool {
        self.0.config.emulator
    }

    /// The credentials: anonymous ones for an emulator, otherwise the application default ones, of which workload
    /// identity federation is one kind. The first call reads their file; a token is fetched by the first request.
    ///
    /// Must be called on a runtime: the credentials refresh themselves on it.
    ///
    /// # Errors
    /// `Unauthenticated` for credentials that cannot be read.
    pub(crate) fn credentials(&self) -> Result<&Credentials> {
        if let Some(credentials) = self.0.credentials.get() {
            return Ok(credentials);
        }
        let built = if self.is_emulator() {
            credentials::anonymous::Builder::new().build()
        } else {
            credentials::Builder::default().build().map_err(|error| {
                let message = format!("the application default credentials cannot be used: {error}");
                Error::new(ErrorKind::Unauthenticated, "gcp.credentials", "application default", message)
            })?
        };
        Ok(self.0.credentials.get_or_init(|| built))
    }

    /// Puts the authorization of this moment on a request; none for an emulator.
    ///
    /// # Errors
    /// `Unauthenticated`; `Unavailable` while tokens cannot be fetched. Nothing was sent then.
    pub(crate) async fn authorize(
        &self,
        headers: &mut HeaderMap,
        operation: &'static str,
        subject: impl fmt::Display,
    ) -> Result<()> {
        if self.is_emulator() {
            return Ok(());
        }
        let credentials = self.credentials().map_err(|error| error.with_operation(operation, &subject))?;
        let mut extensions = Extensions::new();
        let kept = self.kept_headers();
        if let Some((tag, _)) = &kept {
            extensions.insert(tag.clone());
        }
        match (credentials.headers(extensions).await, kept) {
            (Ok(CacheableResource::New { entity_tag, data }), _) => {
                headers.extend(data.clone());
                *self.0.headers.lock().unwrap_or_else(PoisonError::into_inner) = Some((entity_tag, data));
                Ok(())
            }
            (Ok(CacheableResource::NotModified), kept) => {
                headers.extend(kept.map(|(_, kept)| kept).unwrap_or_default());
                Ok(())
            }
            (Err(error), _) => Err(no_token(&error, operation, subject)),
        }
    }

    /// What signs URLs. The first call reads the file of the credentials.
    ///
    /// # Errors
    /// `Unauthenticated` for credentials that cannot be read; `Unsupported` for ones that are no service account.
    pub(in crate::gcp) fn signer(&self) -> Result<&UrlSigner> {
        if let Some(signer) = self.0.signer.get() {
            return Ok(signer);
        }
        let endpoint = self.0.config.iam_credentials_endpoint.as_deref();
        let built = signer::of_credentials(self.credentials()?, &self.0.retrier, endpoint)?;
        Ok(self.0.signer.get_or_init(|| built))
    }

    fn kept_headers(&self) -> Option<(EntityTag, HeaderMap)> {
        self.0.headers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// No token could be had; nothing was sent.
pub(crate) fn no_token(error: &CredentialsError, operation: &'static str, subject: impl fmt::Display) -> Error {
    let (kind, message) = if error.is_transient() {
        (ErrorKind::Unavailable, "an access token could not be fetched for now")
    } else {
        (
            ErrorKind::Unauthenticated,
            "there are no usable credentials; `gcloud auth application-default login` makes some",
        )
    };
    Error::new(kind, operation, subject, format!("{message}: {error}"))
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("project", &self.0.config.project)
            .field("emulator", &self.0.config.emulator)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: &str, allow_http: bool) -> Config {
        let mut config = Config::local("/nonexistent");
        config.allow_http = allow_http;
        config.gcp.storage_endpoint = Some(endpoint.to_owned());
        config.gcp.emulator = true;
        config
    }

    #[test]
    fn plain_http_to_another_host_is_refused_by_the_name_of_its_variable() {
        let error = Connection::new(&config("http://storage.example:80", false)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains("STORAGE_EMULATOR_HOST"), "{error}");
        assert!(Connection::new(&config("http://storage.example:80", true)).is_ok());
        assert!(Connection::new(&config("http://127.0.0.1:80", false)).is_ok());
    }

    #[tokio::test]
    async fn an_emulator_gets_no_credentials_and_none_are_looked_up() {
        let connection = Connection::new(&config("http://127.0.0.1:80", false)).unwrap();
        let mut headers = HeaderMap::new();
        connection.authorize(&mut headers, "t", "x").await.unwrap();
        assert!(headers.is_empty() && connection.0.credentials.get().is_none());
        let anonymous = connection.credentials().unwrap().headers(Extensions::new()).await.unwrap();
        assert!(matches!(anonymous, CacheableResource::New { data, .. } if data.is_empty()));
    }
}
