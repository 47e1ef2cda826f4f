//! What all services share: credentials, region, HTTP client, endpoints and the retry budget, made on first use.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::identity::IdentityCache;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_types::checksum_config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_types::SdkConfig;
use aws_types::region::Region;
use tokio::sync::OnceCell;

use super::credential_cache::CredentialCache;
use super::credentials::Chain;
use crate::http::is_safe_address;
use crate::retry::Retrier;
use crate::{Config, Error, ErrorKind, Result};

/// How long to wait for a TCP connection: an endpoint that is there answers within a round trip or two.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The region of an emulator that nobody has named: what emulators take for granted.
const EMULATED_REGION: &str = "us-east-1";

/// The way to one account and region. Clones share everything, the retry budget included.
#[derive(Clone)]
pub(crate) struct Connection {
    region: Option<String>,
    endpoints: Endpoints,
    retrier: Retrier,
    sdk: Arc<OnceCell<SdkConfig>>,
    credentials: Arc<OnceLock<Arc<CredentialCache>>>,
    #[cfg(test)]
    seams: Seams,
}

/// Other endpoints than the SDK's own, by service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoints {
    pub(crate) s3: Option<String>,
    pub(crate) secrets_manager: Option<String>,
    pub(crate) ecs: Option<String>,
    pub(crate) sts: Option<String>,
    pub(crate) logs: Option<String>,
    pub(crate) ec2: Option<String>,
}

impl Endpoints {
    /// Whether every service is a plain-HTTP server on this machine. EC2 is left out, which hardly anybody names.
    pub(crate) fn are_emulators(&self) -> bool {
        let here = |url: &String| url.starts_with("http://") && is_safe_address(url);
        [&self.s3, &self.secrets_manager, &self.ecs, &self.sts, &self.logs]
            .into_iter()
            .all(|endpoint| endpoint.as_ref().is_some_and(here))
    }
}

#[cfg(test)]
#[derive(Clone, Default)]
struct Seams {
    credentials: Option<aws_credential_types::Credentials>,
    http: Option<aws_smithy_runtime_api::client::http::SharedHttpClient>,
}

impl Connection {
    /// A connection that is not made before it is used. Asks nobody anything.
    ///
    /// # Errors
    /// `InvalidConfig` for a plain-HTTP endpoint on another host, unless the configuration allows it.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let aws = &config.aws;
        let endpoint = |variable: &str, url: &Option<String>| match url {
            Some(url) if !config.allow_http && !is_safe_address(url) => {
                let message = format!(
                    "{variable} is plain HTTP to another host: credentials would be readable on the way; use https, \
                     or set ANYCLOUD_ALLOW_HTTP=true"
                );
                Err(Error::new(ErrorKind::InvalidConfig, "aws.connect", url, message))
            }
            url => Ok(url.clone()),
        };
        let endpoints = Endpoints {
            s3: endpoint("AWS_ENDPOINT_URL_S3", &aws.s3_endpoint)?,
            secrets_manager: endpoint("AWS_ENDPOINT_URL_SECRETS_MANAGER", &aws.secrets_manager_endpoint)?,
            ecs: endpoint("AWS_ENDPOINT_URL_ECS", &aws.ecs_endpoint)?,
            sts: endpoint("AWS_ENDPOINT_URL_STS", &aws.sts_endpoint)?,
            logs: endpoint("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", &aws.logs_endpoint)?,
            ec2: endpoint("AWS_ENDPOINT_URL_EC2", &aws.ec2_endpoint)?,
        };
        Ok(Self {
            region: aws.region.clone(),
            endpoints,
            retrier: Retrier::new(config.retry.clone()),
            sdk: Arc::default(),
            credentials: Arc::default(),
            #[cfg(test)]
            seams: Seams::default(),
        })
    }

    /// The endpoints that the configuration names.
    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The one retry policy; the SDK's own is off.
    pub(crate) fn retrier(&self) -> &Retrier {
        &self.retrier
    }

    /// What service clients are built from. The first call reads the profile files and, where no region is
    /// configured, may ask the instance metadata service; credentials are looked up by the first request. Where every
    /// endpoint is plain HTTP on this machine, an emulator's, both come from the environment or a profile only.
    ///
    /// # Errors
    /// `InvalidConfig` if no region is to be found.
    pub(crate) async fn sdk_config(&self) -> Result<&SdkConfig> {
        self.sdk
            .get_or_try_init(|| async {
                let sdk = self.loader().load().await;
                if sdk.region().is_none() {
                    let message = "no region: set AWS_REGION, or `region` in the profile";
                    return Err(Error::new(ErrorKind::InvalidConfig, "aws.connect", "AWS_REGION", message));
                }
                let source = if self.region.is_some() { "settings" } else { "the SDK's chain" };
                tracing::info!(region = sdk.region().map(Region::as_ref), source, "the region is known");
                Ok(sdk)
            })
            .await
    }

    /// What every request is signed with, the SDK's and the crate's own. Nothing is looked up before it is asked.
    pub(crate) fn credentials(&self) -> &Arc<CredentialCache> {
        self.credentials.get_or_init(|| Arc::new(CredentialCache::new(self.provider())))
    }

    fn loader(&self) -> ConfigLoader {
        let mut loader = settings(self.region.as_deref());
        if self.region.is_none() && self.endpoints.are_emulators() {
            let profile = RegionProviderChain::first_try(ProfileFileRegionProvider::new());
            loader = loader.region(profile.or_else(Region::new(EMULATED_REGION)));
        }
        #[cfg(test)]
        let loader = match &self.seams.http {
            Some(http) => loader.http_client(http.clone()),
            None => loader,
        };
        let credentials: Arc<dyn ProvideCredentials> = Arc::clone(self.credentials()) as _;
        // They are kept already, and whoever asks when they end must not hear of others than the SDK signs with.
        loader
            .identity_cache(IdentityCache::no_cache())
            .credentials_provider(SharedCredentialsProvider::from(credentials))
    }

    fn provider(&self) -> SharedCredentialsProvider {
        #[cfg(test)]
        if let Some(credentials) = &self.seams.credentials {
            return SharedCredentialsProvider::new(credentials.clone());
        }
        if self.endpoints.are_emulators() {
            // Neither the instance's nor the container's metadata service is asked: what it gives is not for others.
            let keys = EnvironmentVariableCredentialsProvider::new();
            let profile = ProfileFileCredentialsProvider::builder().build();
            let chain = CredentialsProviderChain::first_try("Environment", keys).or_else("Profile", profile);
            return SharedCredentialsProvider::new(chain);
        }
        let region = self.region.clone();
        SharedCredentialsProvider::new(Chain::new(move || settings(region.as_deref())))
    }

    /// With these credentials in place of the default chain's.
    #[cfg(test)]
    pub(crate) fn with_credentials(mut self, credentials: aws_credential_types::Credentials) -> Self {
        self.seams.credentials = Some(credentials);
        self
    }

    /// With made-up credentials in place of the default chain's.
    #[cfg(test)]
    pub(crate) fn with_made_up_credentials(self) -> Self {
        self.with_credentials(aws_credential_types::Credentials::new("AKIDEXAMPLE", "made-up", None, None, "test"))
    }

    /// With another HTTP client than the SDK's own.
    #[cfg(test)]
    pub(crate) fn with_http_client(
        mut self,
        http: impl Into<aws_smithy_runtime_api::client::http::SharedHttpClient>,
    ) -> Self {
        self.seams.http = Some(http.into());
        self
    }
}

fn settings(region: Option<&str>) -> ConfigLoader {
    // Attempts and calls are timed by the retry policy, which knows how large a body is; bodies of answers are timed
    // chunk by chunk where they are read. The SDK's own watch over streams ends slow uploads:
    // https://github.com/awslabs/aws-sdk-rust/issues/1146
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // Checksums are asked for call by call: by default the SDK adds its own, which breaks signed URLs:
        // https://github.com/awslabs/aws-sdk-rust/issues/1240
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    match region {
        Some(region) => loader.region(Region::new(region.to_owned())),
        None => loader,
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("region", &self.region).field("endpoints", &self.endpoints).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: &str) -> Config {
        let mut config = Config::local("unused");
        config.aws.s3_endpoint = Some(endpoint.to_owned());
        config
    }

    #[test]
    fn plain_http_to_another_host_needs_a_word() {
        for endpoint in ["http://127.0.0.1:4566", "http://[::1]:1", "http://localhost:1", "https://minio.example"] {
            assert!(Connection::new(&config(endpoint)).is_ok(), "{endpoint}");
        }
        for endpoint in ["http://minio.example", "http://10.0.0.1:9000", "http://localhost.example"] {
            let error = Connection::new(&config(endpoint)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{endpoint}");
            assert!(error.message().contains("AWS_ENDPOINT_URL_S3"), "{error}");
            assert!(Connection::new(&Config { allow_http: true, ..config(endpoint) }).is_ok());
        }
    }
}
