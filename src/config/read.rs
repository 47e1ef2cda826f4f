use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::problems::Problems;
use super::{AwsConfig, Config, GcpConfig, LocalConfig, Provider};
use crate::retry::RetryPolicy;
use crate::{JobName, Result, TransferPolicy};

pub(super) const DEFAULT_LOCAL_BUCKET: &str = "main";
const DEFAULT_LOCAL_ROOT: &str = ".anycloud";

/// Reads variables, and collects what is wrong with them.
struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: Problems,
    /// The variables that have set something.
    set: RefCell<Vec<&'static str>>,
}

/// The settings, and which variables they came from; what is from none has its default.
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) set: Vec<&'static str>,
}

impl Reader<'_> {
    fn text(&self, name: &'static str) -> Option<String> {
        let value = (self.lookup)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())?;
        let mut set = self.set.borrow_mut();
        if !set.contains(&name) {
            set.push(name);
        }
        Some(value)
    }

    fn first(&self, names: &[&'static str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name))
    }

    fn parsed<T: FromStr>(&mut self, name: &'static str, what: &str) -> Option<T> {
        let value = self.text(name)?;
        let parsed = value.parse().ok();
        if parsed.is_none() {
            self.problems.add(name, format!("is not {what}: `{value}`"));
        }
        parsed
    }

    fn switch(&mut self, name: &'static str) -> Option<bool> {
        let value = self.text(name)?;
        match value.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "enabled" => Some(true),
            "0" | "false" | "no" | "disabled" => Some(false),
            _ => {
                self.problems.add(name, format!("is neither `true` nor `false`: `{value}`"));
                None
            }
        }
    }

    fn list(&self, name: &'static str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// An endpoint, with the scheme that emulators' variables often leave out.
    fn endpoint(&mut self, names: &[&'static str]) -> Option<String> {
        let (name, value) = names.iter().find_map(|name| Some((*name, self.text(name)?)))?;
        let url = if value.contains("://") { value.clone() } else { format!("http://{value}") };
        let well_formed = url.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        });
        if !well_formed {
            // What comes before an `@` may be a password.
            let shown = if value.contains('@') { "(not shown: it may hold a password)" } else { &value };
            self.problems.add(name, format!("is not an address like `http://127.0.0.1:4566`: `{shown}`"));
            return None;
        }
        Some(url.trim_end_matches('/').to_owned())
    }

    /// One provider's settings. A variable that the chosen one does not use cannot stop it.
    fn settings_of<T>(
        &mut self,
        own: Provider,
        chosen: Option<Provider>,
        read: impl FnOnce(&mut Self, Option<Provider>) -> T,
    ) -> T {
        let (before, set) = (self.problems.count(), self.set.borrow().clone());
        let settings = read(self, chosen);
        if chosen.is_some_and(|chosen| chosen != own) {
            self.problems.forget_from(before);
            self.set.replace(set);
        }
        settings
    }

    fn job(&mut self, names: &[&'static str]) -> Option<JobName> {
        let (name, value) = names.iter().find_map(|name| Some((*name, self.text(name)?)))?;
        JobName::new(value)
            .map_err(|error| self.problems.add(name, format!("is no job's name: {}", error.message())))
            .ok()
    }
}

pub(super) fn settings(lookup: &dyn Fn(&str) -> Option<String>, problems: Problems) -> Result<Settings> {
    let mut reader = Reader { lookup, problems, set: RefCell::default() };
    let chosen = reader.text("CLOUD_PROVIDER");
    let provider = chosen.as_deref().map_or(Some(Provider::Gcp), Provider::parse);
    if provider.is_none() {
        let value = chosen.as_deref().unwrap_or_default();
        reader.problems.add("CLOUD_PROVIDER", format!("is `{value}`; it can be `aws`, `gcp` or `local`"));
    }
    let aws = reader.settings_of(Provider::Aws, provider, aws);
    let gcp = reader.settings_of(Provider::Gcp, provider, gcp);
    let local = reader.settings_of(Provider::Local, provider, local);
    let own_job = match provider {
        Some(Provider::Aws) => "ECS_TASK_FAMILY",
        Some(Provider::Gcp) => "CLOUD_RUN_JOB_NAME",
        _ => "ANYCLOUD_JOB",
    };
    let default_job = reader.job(&[own_job, "ANYCLOUD_JOB"]);
    let mut retry = RetryPolicy::default();
    if let Some(attempts) = reader.parsed::<NonZeroU32>("ANYCLOUD_MAX_ATTEMPTS", "a number of attempts from 1") {
        retry.max_attempts = attempts.get();
    }
    if let Some(seconds) = reader.parsed::<NonZeroU64>("ANYCLOUD_CALL_TIMEOUT_SECONDS", "a number of seconds from 1") {
        retry.call_timeout = Duration::from_secs(seconds.get());
    }
    let mut transfer = TransferPolicy::default();
    if let Some(mib) = reader.parsed::<NonZeroU32>("ANYCLOUD_TRANSFER_BUDGET_MIB", "a number of MiB from 1") {
        transfer.budget_bytes = u64::from(mib.get()) << 20;
    }
    let allow_http = reader.switch("ANYCLOUD_ALLOW_HTTP").unwrap_or(false);
    let Some(provider) = provider.filter(|_| reader.problems.is_empty()) else {
        let hint = match (chosen, provider) {
            (None, _) => {
                " (CLOUD_PROVIDER is unset, so this is the default `gcp`; CLOUD_PROVIDER=local runs without a cloud)"
            }
            _ => "",
        };
        return Err(reader.problems.into_error(hint));
    };
    let config = Config { provider, default_job, retry, transfer, allow_http, aws, gcp, local };
    Ok(Settings { config, set: reader.set.into_inner() })
}

fn bucket(reader: &mut Reader<'_>, own: &'static str, needed: bool) -> String {
    let bucket = reader.first(&[own, "ANYCLOUD_BUCKET"]).unwrap_or_default();
    if !needed {
        return bucket;
    }
    if bucket.is_empty() {
        reader.problems.add("ANYCLOUD_BUCKET", format!("(or {own}) is not set"));
    } else {
        check_bucket(reader, own, &bucket);
    }
    bucket
}

/// Refuses what is no name of a bucket anywhere: an address, a path, a name with spaces.
fn check_bucket(reader: &mut Reader<'_>, own: &str, bucket: &str) {
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if bucket.starts_with('.') || !bucket.bytes().all(named) {
        let or = if own.is_empty() { String::new() } else { format!("(or {own}) ") };
        let message = format!(
            "{or}is not a bucket's name, which has letters, digits, `.`, `_` and `-`, and neither scheme nor path: \
             {bucket:?}"
        );
        reader.problems.add("ANYCLOUD_BUCKET", message);
    }
}

fn aws(reader: &mut Reader<'_>, provider: Option<Provider>) -> AwsConfig {
    AwsConfig {
        bucket: bucket(reader, "S3_BUCKET", provider == Some(Provider::Aws)),
        region: reader.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
        s3_endpoint: reader.endpoint(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
        secrets_manager_endpoint: reader.endpoint(&["AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL"]),
        ecs_endpoint: reader.endpoint(&["AWS_ENDPOINT_URL_ECS", "AWS_ENDPOINT_URL"]),
        sts_endpoint: reader.endpoint(&["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"]),
        logs_endpoint: reader.endpoint(&["AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "AWS_ENDPOINT_URL"]),
        ec2_endpoint: reader.endpoint(&["AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL"]),
        ecs_cluster: reader.text("ECS_CLUSTER"),
        ecs_service: reader.text("ECS_SERVICE"),
        subnets: reader.list("ECS_SUBNETS"),
        security_groups: reader.list("ECS_SECURITY_GROUPS"),
        assign_public_ip: reader.switch("ECS_ASSIGN_PUBLIC_IP"),
        allow_default_vpc: reader.switch("ECS_ALLOW_DEFAULT_VPC").unwrap_or(false),
        ecs_metadata_uri: reader.endpoint(&["ECS_CONTAINER_METADATA_URI_V4"]),
        kms_key: reader.text("AWS_KMS_KEY_ID"),
    }
}

fn gcp(reader: &mut Reader<'_>, provider: Option<Provider>) -> GcpConfig {
    let config = GcpConfig {
        bucket: bucket(reader, "GCS_BUCKET", provider == Some(Provider::Gcp)),
        project: reader.text("GOOGLE_CLOUD_PROJECT"),
        region: reader.first(&["CLOUD_RUN_REGION", "GOOGLE_CLOUD_REGION"]),
        storage_endpoint: reader.endpoint(&["STORAGE_EMULATOR_HOST"]),
        secret_manager_endpoint: reader.endpoint(&["SECRET_MANAGER_EMULATOR_HOST"]),
        cloud_run_endpoint: reader.endpoint(&["CLOUD_RUN_EMULATOR_HOST"]),
        logging_endpoint: reader.endpoint(&["CLOUD_LOGGING_EMULATOR_HOST"]),
        iam_credentials_endpoint: None,
        metadata_host: reader.text("GCE_METADATA_HOST"),
        kms_key: reader.text("GOOGLE_CLOUD_KMS_KEY"),
        parallel_uploads: reader.switch("GCS_PARALLEL_UPLOADS"),
        emulator: false,
    };
    let emulator = config.storage_endpoint.is_some()
        || config.secret_manager_endpoint.is_some()
        || config.cloud_run_endpoint.is_some();
    if provider == Some(Provider::Gcp) && emulator && config.project.is_none() {
        reader.problems.add("GOOGLE_CLOUD_PROJECT", "is not set; beside an emulator no metadata server is asked");
    }
    GcpConfig { emulator, ..config }
}

fn local(reader: &mut Reader<'_>, provider: Option<Provider>) -> LocalConfig {
    let bucket = reader.text("ANYCLOUD_BUCKET").unwrap_or_else(|| DEFAULT_LOCAL_BUCKET.to_owned());
    if provider == Some(Provider::Local) {
        check_bucket(reader, "", &bucket);
    }
    LocalConfig {
        root: PathBuf::from(reader.text("ANYCLOUD_LOCAL_ROOT").unwrap_or_else(|| DEFAULT_LOCAL_ROOT.to_owned())),
        bucket,
        jobs_file: reader.text("ANYCLOUD_LOCAL_JOBS").map(PathBuf::from),
        jobs: BTreeMap::new(),
        supervisor: reader.text("ANYCLOUD_LOCAL_SUPERVISOR").map(PathBuf::from),
        signed_url_base: reader.endpoint(&["ANYCLOUD_LOCAL_URL"]),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;
    use crate::ErrorKind;
    use crate::config::VARIABLES;

    fn read(pairs: &[(&str, &str)]) -> Result<Config> {
        let lookup = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        settings(&lookup, Problems::default()).map(|settings| settings.config)
    }

    #[test]
    fn unset_means_gcp_and_the_error_says_how_to_run_locally() {
        assert_eq!(read(&[("GCS_BUCKET", "b")]).unwrap().provider, Provider::Gcp);
        let error = read(&[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        for text in ["ANYCLOUD_BUCKET", "default `gcp`", "CLOUD_PROVIDER=local"] {
            assert!(error.message().contains(text), "{error}");
        }
    }

    #[test]
    fn the_provider_is_read_whatever_its_case_and_spaces() {
        assert_eq!(read(&[("CLOUD_PROVIDER", " Local ")]).unwrap().provider, Provider::Local);
        let error = read(&[("CLOUD_PROVIDER", "azure")]).unwrap_err();
        assert!(error.message().contains("`azure`") && error.message().contains("`local`"), "{error}");
    }

    #[test]
    fn how_calls_are_repeated_is_read() {
        let set = [("ANYCLOUD_MAX_ATTEMPTS", "7"), ("ANYCLOUD_CALL_TIMEOUT_SECONDS", "90")];
        let config = read(&[&[("CLOUD_PROVIDER", "local")], &set[..]].concat()).unwrap();
        let expected = RetryPolicy { max_attempts: 7, call_timeout: Duration::from_secs(90), ..RetryPolicy::default() };
        assert_eq!(config.retry, expected);
    }

    #[test]
    fn which_variables_the_settings_came_from_is_known_and_none_of_another_provider_is_among_them() {
        let pairs = [
            ("ANYCLOUD_BUCKET", "common"),
            ("GCS_BUCKET", "own"),
            ("CLOUD_RUN_REGION", "europe-west1"),
            ("AWS_REGION", "eu-west-1"),
            ("ANYCLOUD_JOB", " "),
        ];
        let lookup = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        assert_eq!(settings(&lookup, Problems::default()).unwrap().set, ["GCS_BUCKET", "CLOUD_RUN_REGION"]);
    }

    #[test]
    fn all_problems_are_told_at_once_by_their_variables() {
        let error = read(&[
            ("CLOUD_PROVIDER", "aws"),
            ("AWS_ENDPOINT_URL_S3", "not an address"),
            ("ECS_ASSIGN_PUBLIC_IP", "maybe"),
            ("ANYCLOUD_MAX_ATTEMPTS", "many"),
        ])
        .unwrap_err();
        for name in ["ANYCLOUD_BUCKET", "AWS_ENDPOINT_URL_S3", "ECS_ASSIGN_PUBLIC_IP", "ANYCLOUD_MAX_ATTEMPTS"] {
            assert!(error.message().contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn a_providers_own_bucket_comes_before_the_common_one() {
        let config = read(&[("CLOUD_PROVIDER", "aws"), ("ANYCLOUD_BUCKET", "common"), ("S3_BUCKET", "own")]).unwrap();
        assert_eq!((config.aws.bucket.as_str(), config.gcp.bucket.as_str()), ("own", "common"));
    }

    #[test]
    fn a_bucket_given_as_an_address_is_refused() {
        for provider in ["aws", "gcp", "local"] {
            for bucket in ["gs://b", "b/prefix", "my bucket", ".."] {
                let error = read(&[("CLOUD_PROVIDER", provider), ("ANYCLOUD_BUCKET", bucket)]).unwrap_err();
                assert!(error.message().contains(bucket), "{provider}: {error}");
            }
        }
    }

    #[test]
    fn settings_that_would_fail_at_the_first_call_are_refused_here() {
        for (name, value) in [
            ("ANYCLOUD_MAX_ATTEMPTS", "0"),
            ("ANYCLOUD_CALL_TIMEOUT_SECONDS", "0"),
            ("ANYCLOUD_CALL_TIMEOUT_SECONDS", "-1"),
            ("ANYCLOUD_LOCAL_URL", "not an address"),
        ] {
            let error = read(&[("CLOUD_PROVIDER", "local"), (name, value)]).unwrap_err();
            assert!(error.message().contains(name), "{error}");
        }
    }

    #[test]
    fn a_problem_is_told_once_and_without_a_password() {
        let pairs = [("CLOUD_PROVIDER", "aws"), ("S3_BUCKET", "b"), ("AWS_ENDPOINT_URL", "http://me:hunter2@host")];
        let error = read(&pairs).unwrap_err();
        assert_eq!(error.message().matches("AWS_ENDPOINT_URL").count(), 1, "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error}");
    }

    #[test]
    fn exactly_the_documented_variables_are_read() {
        let asked = RefCell::new(BTreeSet::new());
        for provider in ["aws", "gcp", "local"] {
            let lookup = |name: &str| {
                asked.borrow_mut().insert(name.to_owned());
                (name == "CLOUD_PROVIDER").then(|| provider.to_owned())
            };
            let _ = settings(&lookup, Problems::default());
        }
        let documented: BTreeSet<_> = VARIABLES.iter().map(|variable| variable.name.to_owned()).collect();
        assert_eq!(asked.into_inner(), documented);
    }
}
