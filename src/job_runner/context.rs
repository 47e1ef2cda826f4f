use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::SubmissionId;
use crate::{Cloud, Config, Error, ErrorKind, JobName, ObjectStoreExt as _, ObjectUri, Result, random};

/// What the runner told the process in its environment. Read by [`config`](crate::config) only.
#[derive(Clone)]
pub(crate) struct JobEnvironment {
    pub(crate) job: JobName,
    pub(crate) submission: SubmissionId,
    pub(crate) attempt: u32,
    pub(crate) platform_attempt: u32,
    pub(crate) task_index: u32,
    pub(crate) task_count: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) payload: Option<String>,
    pub(crate) payload_uri: Option<ObjectUri>,
    pub(crate) payload_sha256: Option<String>,
}

/// Inside a job: what it was started with, and where its result goes.
///
/// ```no_run
/// # #[derive(serde::Deserialize)] struct Settings;
/// # #[derive(serde::Serialize)] struct Report;
/// # async fn train(_: Settings) -> Report { Report }
/// # async fn job() -> anycloud::Result<()> {
/// let context = anycloud::JobContext::from_env()?;
/// let settings: Settings = context.payload().await?;
/// tokio::select! {
///     report = train(settings) => context.finish(&report).await,
///     () = context.cancelled() => std::process::exit(143),
/// }
/// # }
/// ```
pub struct JobContext {
    environment: JobEnvironment,
    cloud: Cloud,
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("job", &self.environment.job)
            .field("submission", &self.environment.submission)
            .field("task", &self.environment.task_index)
            .finish_non_exhaustive()
    }
}

impl JobContext {
    /// Reads what the runner put into the environment, and makes a [`Cloud`] from it. No request is made.
    ///
    /// # Errors
    /// `InvalidConfig` naming the variables: also when the process was not started by a runner.
    pub fn from_env() -> Result<Self> {
        let cloud = Cloud::from_env()?;
        Self::with_cloud(cloud)
    }

    /// The same with a cloud that the caller has made.
    ///
    /// # Errors
    /// As for [`from_env`](Self::from_env).
    pub fn with_cloud(cloud: Cloud) -> Result<Self> {
        Ok(Self { environment: Config::job_environment()?, cloud })
    }

    /// The cloud that the job runs on: the same that the caller uses.
    #[must_use]
    pub fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    /// The job definition.
    #[must_use]
    pub fn job(&self) -> &JobName {
        &self.environment.job
    }

    /// The id of the submission.
    #[must_use]
    pub fn submission(&self) -> &SubmissionId {
        &self.environment.submission
    }

    /// Which attempt of the idempotency key this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.environment.attempt
    }

    /// How often the platform has started this task again within the execution, from 0.
    #[must_use]
    pub fn platform_attempt(&self) -> u32 {
        self.environment.platform_attempt
    }

    /// The index of this task, from 0.
    #[must_use]
    pub fn task_index(&self) -> u32 {
        self.environment.task_index
    }

    /// How many tasks run side by side.
    #[must_use]
    pub fn task_count(&self) -> u32 {
        self.environment.task_count
    }

    /// How long the execution may run, if the caller said so.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.environment.timeout
    }

    /// The payload as bytes, checked against its SHA-256; empty if the caller gave none.
    ///
    /// # Errors
    /// `Corrupt` when it is not what the caller sent; `InvalidConfig` when it lies in a store that is not this
    /// cloud's; and those of [`ObjectStore::get`](crate::ObjectStore::get).
    pub async fn payload_bytes(&self) -> Result<Bytes> {
        let environment = &self.environment;
        let fail = |kind, message: &str| Err(Error::new(kind, "job_context.payload", &environment.submission, message));
        let payload = if let Some(inline) = &environment.payload {
            match BASE64.decode(inline) {
                Ok(bytes) => Bytes::from(bytes),
                Err(_) => return fail(ErrorKind::Corrupt, "the payload in the environment is not base64"),
            }
        } else if let Some(uri) = &environment.payload_uri {
            let objects = self.cloud.objects();
            if objects.uri(&uri.key) != *uri {
                return fail(ErrorKind::InvalidConfig, "the payload lies in a bucket that is not this cloud's");
            }
            objects.get_bytes(&uri.key).await?
        } else {
            return Ok(Bytes::new());
        };
        let digest = random::hex(&Sha256::digest(&payload));
        match &environment.payload_sha256 {
            Some(expected) if *expected != digest => fail(ErrorKind::Corrupt, "the payload is not what was sent"),
            _ => Ok(payload),
        }
    }

    /// The payload, parsed as JSON.
    ///
    /// # Errors
    /// `InvalidFormat` naming line and column; and those of [`payload_bytes`](Self::payload_bytes).
    pub async fn payload<T: DeserializeOwned>(&self) -> Result<T> {
        let bytes = self.payload_bytes().await?;
        crate::formats::json::parse(&bytes, "job_context.payload", &self.environment.submission)
    }

    /// Hands the result to whoever waits for the job, in place of that of an earlier attempt.
    ///
    /// # Errors
    /// As for [`ObjectStore::put`](crate::ObjectStore::put).
    pub async fn finish<T: Serialize + Sync>(&self, result: &T) -> Result<()> {
        let key = self.environment.submission.result_key(self.environment.task_index)?;
        self.cloud.objects().put_json(&key, result).await.map(drop)
    }

    /// Ends when the platform asks the job to end (SIGTERM), or when the time that the caller allowed is over: time
    /// to save what is worth saving within the platform's grace.
    pub async fn cancelled(&self) {
        let deadline = async {
            match self.environment.timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = terminated() => {}
            () = deadline => {}
        }
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}
