use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;

use crate::{Error, ErrorKind, IdempotencyKey, JobName, Result};

/// How to run a job. Fill in what matters and take the rest from `..Default::default()`.
///
/// `Debug` shows neither the payload nor the values of variables.
#[derive(Clone)]
pub struct JobRequest {
    /// Arguments in place of those of the definition; `Some` of none clears them where the platform can.
    pub args: Option<Vec<String>>,
    /// Environment variables beside, or in place of, those of the definition. Visible to everybody who may look at
    /// the execution: no place for secrets, which the job reads by name from the secret store.
    pub env: BTreeMap<String, String>,
    /// What the job works on, of any size: `JobContext::payload` reads it.
    pub payload: Option<Bytes>,
    /// CPU and memory in place of those of the definition, where the platform allows it.
    pub resources: Option<Resources>,
    /// How many tasks run side by side, each told its index.
    pub tasks: NonZeroU32,
    /// How long the execution may run; then it is stopped and its outcome is `TimedOut`. The definition's own limit,
    /// or none, if `None`.
    pub timeout: Option<Duration>,
    /// Labels (tags on AWS): keys and values of up to 63 characters of `[a-z0-9_-]`, keys starting with a letter; at
    /// most 50, the limit of [ECS](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html).
    pub labels: BTreeMap<String, String>,
    /// The key of this logical submission; a random one if none is given.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Which attempt of the same key this is, from 1.
    pub attempt: NonZeroU32,
    /// What kind of capacity to run on.
    pub capacity: Capacity,
}

impl fmt::Debug for JobRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobRequest")
            .field("args", &self.args)
            .field("env", &self.env.keys())
            .field("payload_bytes", &self.payload.as_ref().map(Bytes::len))
            .field("resources", &self.resources)
            .field("tasks", &self.tasks)
            .field("timeout", &self.timeout)
            .field("labels", &self.labels)
            .field("idempotency_key", &self.idempotency_key)
            .field("attempt", &self.attempt)
            .field("capacity", &self.capacity)
            .finish()
    }
}

impl Default for JobRequest {
    fn default() -> Self {
        Self {
            args: None,
            env: BTreeMap::new(),
            payload: None,
            resources: None,
            tasks: NonZeroU32::MIN,
            timeout: None,
            labels: BTreeMap::new(),
            idempotency_key: None,
            attempt: NonZeroU32::MIN,
            capacity: Capacity::OnDemand,
        }
    }
}

impl JobRequest {
    /// A request with a payload that the job reads as JSON.
    ///
    /// # Errors
    /// `InvalidFormat` for a value that JSON cannot hold.
    pub fn with_payload<T: Serialize>(value: &T) -> Result<Self> {
        let payload = crate::formats::json::encode(value, "job_request.with_payload", "payload")?;
        Ok(Self { payload: Some(payload), ..Self::default() })
    }

    /// Refuses what some platform would refuse, before anything is sent.
    ///
    /// # Errors
    /// `InvalidInput` naming the argument, variable or label; `TooLarge` for a value above 32 KiB.
    pub fn check(&self, job: &JobName) -> Result<()> {
        let fail = |kind, message: String| Err(Error::new(kind, "job_runner.run", job, message));
        let texts = self.args.iter().flatten().map(|text| ("an argument", text));
        for (what, text) in texts.chain(self.env.iter().map(|(name, text)| (name.as_str(), text))) {
            if text.contains('\0') {
                return fail(ErrorKind::InvalidInput, format!("{what} contains NUL"));
            }
            if text.len() > MAX_VARIABLE_BYTES {
                let message = format!("{what} has {} bytes, at most {MAX_VARIABLE_BYTES}: use the payload", text.len());
                return fail(ErrorKind::TooLarge, message);
            }
        }
        for name in self.env.keys() {
            let well_formed = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && !name.is_empty();
            if !well_formed {
                let message = format!("the variable name {name:?} is not made of letters, digits and `_`");
                return fail(ErrorKind::InvalidInput, message);
            }
            if name.starts_with("ANYCLOUD_") || name.starts_with("CLOUD_RUN_") || name == "K_SERVICE" {
                return fail(ErrorKind::InvalidInput, format!("the variable `{name}` is reserved"));
            }
        }
        if self.labels.len() > MAX_LABELS {
            let message = format!("an execution has at most {MAX_LABELS} labels, not {}", self.labels.len());
            return fail(ErrorKind::InvalidInput, message);
        }
        let label = |text: &str| {
            text.len() <= 63
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
        };
        for (key, value) in &self.labels {
            if !label(key) || !key.starts_with(|c: char| c.is_ascii_lowercase()) || !label(value) {
                return fail(ErrorKind::InvalidInput, format!("the label {key:?}={value:?} is not portable"));
            }
        }
        if self.timeout.is_some_and(|timeout| timeout < Duration::from_secs(1)) {
            return fail(ErrorKind::InvalidInput, "a timeout has at least a second".to_owned());
        }
        Ok(())
    }
}

/// The longest value of one variable: the limit of
/// [Cloud Run](https://cloud.google.com/run/docs/configuring/jobs/environment-variables).
const MAX_VARIABLE_BYTES: usize = 32 * 1024;

const MAX_LABELS: usize = 50;

/// CPU and memory of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// Thousandths of a virtual CPU.
    pub cpu_millis: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
}

/// What kind of capacity to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Capacity {
    /// Capacity that is not taken away.
    #[default]
    OnDemand,
    /// Cheaper capacity that may be taken away: the outcome is `Interrupted` then.
    Spot,
    /// Spot if there is any, else on demand.
    SpotWithFallback,
}

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListExecutions {
    /// Only executions of this job.
    pub job: Option<JobName>,
    /// Only executions that have not ended.
    pub active_only: bool,
    /// Only executions that have all these labels.
    pub labels: BTreeMap<String, String>,
    /// Only executions created at or after this time.
    pub since: Option<SystemTime>,
}

/// Which lines to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogMode {
    /// All that were written until now.
    #[default]
    All,
    /// The last so many of them.
    Tail(usize),
    /// All, and those to come, until the execution has ended.
    Follow,
}

/// How to read logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Which lines.
    pub mode: LogMode,
}

/// Where a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The platform does not tell.
    Unknown,
}

/// One line of a job's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written or received, if the platform tells.
    pub timestamp: Option<SystemTime>,
    /// Where it was written to.
    pub stream: LogStream,
    /// The index of the task that wrote it.
    pub task: u32,
    /// The text without its line end; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// What a job runner can do, as data. The conformance suite checks that it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobCapabilities {
    /// The provider: `aws`, `gcp`, `local` or a name of your own.
    pub provider: &'static str,
    /// The most tasks of one execution.
    pub max_tasks: u32,
    /// [`JobRequest::resources`].
    pub resources: bool,
    /// [`Capacity::Spot`] and [`Capacity::SpotWithFallback`].
    pub spot: bool,
    /// `Some(vec![])` clears the definition's arguments.
    pub clear_args: bool,
    /// [`JobRequest::labels`] are kept and listed by.
    pub labels: bool,
    /// A task that fails may be started again by the platform, as its definition says.
    pub platform_retries: bool,
    /// Lines tell standard output from standard error.
    pub log_streams: bool,
    /// The time between the request to end and SIGKILL that a job can rely on.
    pub grace: Duration,
    /// For how long after its end an execution can be looked up; `None` if for ever.
    pub remembered: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: JobRequest) -> Result<(), ErrorKind> {
        request.check(&JobName::new("train").unwrap()).map_err(|error| error.kind())
    }

    #[test]
    fn debug_shows_neither_payload_nor_values_of_variables() {
        let env = [("TOKEN".to_owned(), "hunter2".to_owned())].into();
        let request = JobRequest { env, payload: Some("hunter3".into()), ..JobRequest::default() };
        let submission = crate::job_runner::Submission::new(&JobName::new("train").unwrap(), &request).unwrap();
        let encoded = &submission.env["ANYCLOUD_PAYLOAD"];
        let shown = format!("{request:?} {submission:?}");
        assert!(shown.contains("TOKEN") && shown.contains("ANYCLOUD_PAYLOAD"), "{shown}");
        assert!(!shown.contains("hunter") && !shown.contains(encoded.as_str()), "{shown}");
    }

    #[test]
    fn requests_that_a_platform_would_refuse_are_refused_before_sending() {
        let env = |name: &str, value: &str| JobRequest {
            env: [(name.to_owned(), value.to_owned())].into(),
            ..JobRequest::default()
        };
        assert_eq!(check(env("GOOD_1", "v")), Ok(()));
        for name in ["", "1A", "A B", "A=B", "ANYCLOUD_X", "CLOUD_RUN_JOB"] {
            assert_eq!(check(env(name, "v")), Err(ErrorKind::InvalidInput), "{name}");
        }
        assert_eq!(check(env("A", "a\0b")), Err(ErrorKind::InvalidInput));
        assert_eq!(check(env("A", &"v".repeat(40_000))), Err(ErrorKind::TooLarge));
        let labels = [("Team".to_owned(), "x".to_owned())].into();
        assert_eq!(check(JobRequest { labels, ..JobRequest::default() }), Err(ErrorKind::InvalidInput));
        let labels = |count| (0..count).map(|number| (format!("l{number}"), String::new())).collect();
        assert_eq!(check(JobRequest { labels: labels(50), ..JobRequest::default() }), Ok(()));
        assert_eq!(check(JobRequest { labels: labels(51), ..JobRequest::default() }), Err(ErrorKind::InvalidInput));
    }
}
