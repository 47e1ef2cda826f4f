//! Settings: plain data, read from environment variables in one place, with every problem reported at once.
//!
//! [`Config::from_lookup`] is pure; [`Config::from_env`] passes it the process environment. Nothing else in the crate
//! reads the environment, except that the provider's own credential chains do.

mod job;
mod problems;
mod provider;
mod read;
#[cfg(test)]
mod readme;
mod variables;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

pub use provider::Provider;
pub use variables::{VARIABLES, Variable};

use self::problems::Problems;
use self::read::Settings;
use crate::job_runner::JobEnvironment;
use crate::retry::RetryPolicy;
use crate::{JobName, Result, TransferPolicy};

/// Everything that a [`Cloud`](crate::Cloud) is built from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which provider to use.
    pub provider: Provider,
    /// The job that the deployment runs, for callers that do not name one.
    pub default_job: Option<JobName>,
    /// How failed calls are repeated.
    pub retry: RetryPolicy,
    /// How large objects are moved.
    pub transfer: TransferPolicy,
    /// Talks plain HTTP to hosts other than this one. Off by default: credentials would be readable on the way.
    pub allow_http: bool,
    /// Settings of the `aws` provider.
    pub aws: AwsConfig,
    /// Settings of the `gcp` provider.
    pub gcp: GcpConfig,
    /// Settings of the `local` provider.
    pub local: LocalConfig,
}

/// Settings of the `aws` provider. Credentials come from the SDK's default chain only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsConfig {
    /// The S3 bucket.
    pub bucket: String,
    /// The region; the SDK's default chain if none.
    pub region: Option<String>,
    /// Another endpoint for S3, used with path-style addresses.
    pub s3_endpoint: Option<String>,
    /// Another endpoint for Secrets Manager.
    pub secrets_manager_endpoint: Option<String>,
    /// Another endpoint for ECS.
    pub ecs_endpoint: Option<String>,
    /// Another endpoint for STS.
    pub sts_endpoint: Option<String>,
    /// Another endpoint for CloudWatch Logs.
    pub logs_endpoint: Option<String>,
    /// Another endpoint for EC2, which is asked for the default VPC only.
    pub ec2_endpoint: Option<String>,
    /// The ECS cluster, by name or ARN.
    pub ecs_cluster: Option<String>,
    /// The ECS service whose network configuration tasks take over.
    pub ecs_service: Option<String>,
    /// Subnets for tasks, in place of discovery.
    pub subnets: Vec<String>,
    /// Security groups for tasks, in place of discovery.
    pub security_groups: Vec<String>,
    /// Whether tasks get a public address, in place of discovery.
    pub assign_public_ip: Option<bool>,
    /// Runs tasks in the default VPC when nothing else says where.
    pub allow_default_vpc: bool,
    /// Where the container that this process runs in can be asked about its own task.
    pub ecs_metadata_uri: Option<String>,
    /// The KMS key for new objects.
    pub kms_key: Option<String>,
}

/// Settings of the `gcp` provider. Credentials come from the application default chain only, and none are looked up
/// for an emulator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcpConfig {
    /// The Cloud Storage bucket.
    pub bucket: String,
    /// The project; the metadata server's answer if none.
    pub project: Option<String>,
    /// The region of Cloud Run; the metadata server's answer if none.
    pub region: Option<String>,
    /// A Cloud Storage emulator.
    pub storage_endpoint: Option<String>,
    /// A Secret Manager emulator.
    pub secret_manager_endpoint: Option<String>,
    /// A Cloud Run emulator.
    pub cloud_run_endpoint: Option<String>,
    /// A Cloud Logging emulator.
    pub logging_endpoint: Option<String>,
    /// Another address of the [Service Account Credentials API](https://cloud.google.com/iam/docs/reference/credentials/rest),
    /// which signs URLs where there is no key file; Google's own if none. Read from no variable, and no emulator's.
    pub iam_credentials_endpoint: Option<String>,
    /// Host and port of another metadata server than the machine's; the machine's if none.
    pub metadata_host: Option<String>,
    /// The KMS key for new objects.
    pub kms_key: Option<String>,
    /// Whether large files are sent as temporary objects over several connections and then composed; where none, the
    /// bucket is asked whether they could be removed again.
    pub parallel_uploads: Option<bool>,
    /// Whether an endpoint is an emulator's, which is never given or asked for credentials.
    pub emulator: bool,
}

/// Settings of the `local` provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalConfig {
    /// The directory that holds everything, made if it is missing.
    pub root: PathBuf,
    /// The name of the bucket: a directory below `root/objects`.
    pub bucket: String,
    /// A JSON file of job definitions: `{"name": {"command": ["program", "argument"], "env": {"NAME": "value"}}}`.
    pub jobs_file: Option<PathBuf>,
    /// Job definitions beside those of the file, which they replace.
    pub jobs: BTreeMap<JobName, LocalJob>,
    /// The `anycloud-supervisor` program that looks after one execution each; looked for if none.
    pub supervisor: Option<PathBuf>,
    /// Where the handler of signed URLs is mounted, such as `http://127.0.0.1:8080/files`.
    pub signed_url_base: Option<String>,
}

/// A job definition of the `local` provider. `Debug` does not show the values of its variables.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalJob {
    /// The program and its arguments. No shell is involved.
    pub command: Vec<String>,
    /// The arguments that a request may replace; they follow the command.
    #[serde(default)]
    pub args: Vec<String>,
    /// The environment. The process gets this, what the request says, `PATH`, `HOME`, `LANG`, `TMPDIR` and the
    /// settings of this crate, and nothing else of the caller's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long an execution may run, in seconds, unless the request says otherwise.
    #[serde(default)]
    pub timeout_seconds: Option<u64>,
    /// How long an execution has between SIGTERM and SIGKILL, in seconds; 10 if none.
    #[serde(default)]
    pub grace_seconds: Option<u64>,
}

impl fmt::Debug for LocalJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalJob")
            .field("command", &self.command)
            .field("args", &self.args)
            .field("env", &self.env.keys())
            .field("timeout_seconds", &self.timeout_seconds)
            .field("grace_seconds", &self.grace_seconds)
            .finish()
    }
}

impl Config {
    /// Reads the settings from the process environment; see [`VARIABLES`]. Logs which of them have set something, by
    /// name: everything else has its default.
    ///
    /// # Errors
    /// `InvalidConfig` listing every missing or malformed variable by name.
    pub fn from_env() -> Result<Self> {
        let Settings { config, set } = read::settings(&process_variable, undecodable(process_variables()))?;
        let chosen_by = if set.contains(&"CLOUD_PROVIDER") { "CLOUD_PROVIDER" } else { "default" };
        tracing::info!(provider = %config.provider, chosen_by, set_by = set.join(" "), "the settings are read");
        Ok(config)
    }

    /// Reads the settings from any source of variables; pure. Empty values count as unset.
    ///
    /// # Errors
    /// `InvalidConfig` listing every missing or malformed variable by name.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        read::settings(&lookup, Problems::default()).map(|settings| settings.config)
    }

    /// A configuration for the `local` provider under `root`, with every other setting at its default.
    #[must_use]
    pub fn local(root: impl Into<PathBuf>) -> Self {
        Self {
            provider: Provider::Local,
            default_job: None,
            retry: RetryPolicy::default(),
            transfer: TransferPolicy::default(),
            allow_http: false,
            aws: AwsConfig::default(),
            gcp: GcpConfig::default(),
            local: LocalConfig {
                root: root.into(),
                bucket: read::DEFAULT_LOCAL_BUCKET.to_owned(),
                jobs_file: None,
                jobs: BTreeMap::new(),
                supervisor: None,
                signed_url_base: None,
            },
        }
    }

    /// The same with a job definition for the `local` provider; the other providers have theirs in the cloud.
    #[must_use]
    pub fn with_local_job(mut self, name: JobName, job: LocalJob) -> Self {
        self.local.jobs.insert(name, job);
        self
    }

    pub(crate) fn job_environment() -> Result<JobEnvironment> {
        job::environment(&process_variable)
    }
}

/// A variable of this process. The one place of the crate that reads the environment.
#[allow(clippy::disallowed_methods)]
pub(crate) fn process_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[allow(clippy::disallowed_methods)]
fn process_variables() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// The variables of the crate whose values are not text: they must not pass for unset.
fn undecodable(variables: impl Iterator<Item = (OsString, OsString)>) -> Problems {
    let mut problems = Problems::default();
    for (name, value) in variables {
        let own = VARIABLES.iter().find(|variable| name == variable.name);
        if let (Some(variable), None) = (own, value.to_str()) {
            problems.add(variable.name, "is not UTF-8");
        }
    }
    problems
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn debug_does_not_show_the_values_of_a_jobs_variables() {
        let env = [("TOKEN".to_owned(), "hunter2".to_owned())].into();
        let config =
            Config::local("x").with_local_job(JobName::new("j").unwrap(), LocalJob { env, ..LocalJob::default() });
        let shown = format!("{config:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_variable_of_another_provider_cannot_stop_the_chosen_one() {
        let lookup = |name: &str| match name {
            "CLOUD_PROVIDER" => Some("local".to_owned()),
            "AWS_ENDPOINT_URL" => Some("ftp://nonsense".to_owned()),
            _ => None,
        };
        assert!(Config::from_lookup(lookup).is_ok());
        let aws = |name: &str| if name == "CLOUD_PROVIDER" { Some("aws".to_owned()) } else { lookup(name) };
        assert!(Config::from_lookup(aws).unwrap_err().message().contains("AWS_ENDPOINT_URL"));
    }

    #[test]
    fn a_variable_that_is_not_text_is_a_problem_and_not_unset() {
        let value = OsString::from_vec(b"\xff".to_vec());
        let variables = [("ANYCLOUD_BUCKET".into(), value.clone()), ("NOT_OURS".into(), value)];
        let error = read::settings(&|_| None, undecodable(variables.into_iter())).err().unwrap();
        assert!(error.message().contains("ANYCLOUD_BUCKET is not UTF-8"), "{error}");
        assert!(!error.message().contains("NOT_OURS"), "{error}");
    }
}
