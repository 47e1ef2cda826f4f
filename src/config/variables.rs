/// One environment variable that the crate reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it sets, and its default.
    pub about: &'static str,
}

const fn var(name: &'static str, about: &'static str) -> Variable {
    Variable { name, about }
}

/// Every environment variable that [`Config::from_env`](super::Config::from_env) reads. A test compares the table in
/// the README with this one, and this one with what is read.
pub const VARIABLES: &[Variable] = &[
    var("CLOUD_PROVIDER", "`aws`, `gcp` or `local`; unset means `gcp`"),
    var("ANYCLOUD_BUCKET", "the bucket, whatever the provider; required on `aws` and `gcp`, default `main` on `local`"),
    var("S3_BUCKET", "the bucket on `aws`, in place of `ANYCLOUD_BUCKET`"),
    var("GCS_BUCKET", "the bucket on `gcp`, in place of `ANYCLOUD_BUCKET`"),
    var("ANYCLOUD_JOB", "the job that the deployment runs, whatever the provider"),
    var("ANYCLOUD_ALLOW_HTTP", "`true` allows plain HTTP to other hosts than this one; default `false`"),
    var("ANYCLOUD_MAX_ATTEMPTS", "how often a request is made at most, retries included; default 5"),
    var(
        "ANYCLOUD_CALL_TIMEOUT_SECONDS",
        "how long a call may take, all its requests and retries included and transfers of large bodies excluded; default 60",
    ),
    var(
        "ANYCLOUD_TRANSFER_BUDGET_MIB",
        "the memory that moving one large object takes, up or down, in MiB; default 64",
    ),
    var(
        "AWS_REGION",
        "the region; default: the SDK's chain (profile, instance metadata), beside an emulator the profile's or `us-east-1`",
    ),
    var("AWS_DEFAULT_REGION", "the region where `AWS_REGION` is unset"),
    var("AWS_ENDPOINT_URL", "another endpoint for every AWS service"),
    var("AWS_ENDPOINT_URL_S3", "another endpoint for S3"),
    var("AWS_ENDPOINT_URL_SECRETS_MANAGER", "another endpoint for Secrets Manager"),
    var("AWS_ENDPOINT_URL_ECS", "another endpoint for ECS"),
    var("AWS_ENDPOINT_URL_STS", "another endpoint for STS"),
    var("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "another endpoint for CloudWatch Logs"),
    var("AWS_ENDPOINT_URL_EC2", "another endpoint for EC2, which is asked for the default VPC"),
    var("ECS_CLUSTER", "the ECS cluster, by name or ARN; default `default`"),
    var("ECS_TASK_FAMILY", "the job on `aws`, in place of `ANYCLOUD_JOB`"),
    var("ECS_SERVICE", "the ECS service whose network configuration tasks take over"),
    var("ECS_SUBNETS", "subnets for tasks, separated by commas, in place of discovery"),
    var("ECS_SECURITY_GROUPS", "security groups for tasks, separated by commas, in place of discovery"),
    var("ECS_ASSIGN_PUBLIC_IP", "`true` or `false`: whether tasks get a public address, in place of discovery"),
    var("ECS_ALLOW_DEFAULT_VPC", "`true` runs tasks in the default VPC when nothing else says where; default `false`"),
    var("ECS_CONTAINER_METADATA_URI_V4", "set by ECS itself: where a container asks about its own task"),
    var("AWS_KMS_KEY_ID", "the KMS key for new objects on S3; default: the bucket's"),
    var("GOOGLE_CLOUD_PROJECT", "the project; default: the metadata server's answer"),
    var("CLOUD_RUN_REGION", "the region of Cloud Run jobs; default: the metadata server's answer"),
    var("GOOGLE_CLOUD_REGION", "the region where `CLOUD_RUN_REGION` is unset"),
    var("CLOUD_RUN_JOB_NAME", "the job on `gcp`, in place of `ANYCLOUD_JOB`"),
    var("STORAGE_EMULATOR_HOST", "a Cloud Storage emulator, such as `http://127.0.0.1:4443`"),
    var("SECRET_MANAGER_EMULATOR_HOST", "a Secret Manager emulator"),
    var("CLOUD_RUN_EMULATOR_HOST", "a Cloud Run emulator"),
    var("CLOUD_LOGGING_EMULATOR_HOST", "a Cloud Logging emulator"),
    var("GCE_METADATA_HOST", "host and port of another metadata server than the machine's"),
    var("GOOGLE_CLOUD_KMS_KEY", "the KMS key for new objects on Cloud Storage; default: the bucket's"),
    var(
        "GCS_PARALLEL_UPLOADS",
        "`true` or `false`: whether large files go to Cloud Storage over several connections, as temporary objects that \
         are composed; default: where the bucket lets them be removed",
    ),
    var(
        "ANYCLOUD_LOCAL_ROOT",
        "the directory of the `local` provider, which nobody else may write to; default `.anycloud` in the working directory",
    ),
    var("ANYCLOUD_LOCAL_JOBS", "a JSON file of job definitions for `local`; default `jobs.json` in the root, if there"),
    var("ANYCLOUD_LOCAL_SUPERVISOR", "the `anycloud-supervisor` program; default: looked for"),
    var("ANYCLOUD_LOCAL_URL", "where the web application mounts the handler of signed URLs of `local`"),
];
