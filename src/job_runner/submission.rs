use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::JobRequest;
use crate::{Error, ErrorKind, IdempotencyKey, JobName, ObjectKey, ObjectStore, PutOptions, Result, random};

/// The largest payload that travels in the job's environment; a larger one goes through the object store. Chosen so
/// that it fits, encoded and with room for arguments, into the
/// [8192 characters of ECS](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TaskOverride.html).
pub const MAX_INLINE_PAYLOAD_BYTES: usize = 3 * 1024;

/// The id of one submission of a job: 32 hexadecimal digits made of job, idempotency key and attempt, so that the same
/// submission made again has the same id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubmissionId(String);

impl SubmissionId {
    /// The id of the submission of this job with this key and attempt.
    #[must_use]
    pub fn of(job: &JobName, key: &IdempotencyKey, attempt: u32) -> Self {
        let digest = Sha256::digest(format!("{job}\n{attempt}\n{key}"));
        Self(random::hex(&digest[..16]))
    }

    /// Reads an id back from where a provider kept it.
    ///
    /// # Errors
    /// `InvalidInput` for anything but 32 lower-case hexadecimal digits.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f')) {
            return Ok(Self(text));
        }
        Err(Error::new(ErrorKind::InvalidInput, "submission_id", text, "32 lower-case hexadecimal digits"))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn payload_key(&self) -> Result<ObjectKey> {
        ObjectKey::new(format!("anycloud/jobs/{self}/payload"))
    }

    #[cfg(feature = "gcp")]
    pub(crate) fn claim_key(&self) -> Result<ObjectKey> {
        ObjectKey::new(format!("anycloud/jobs/{self}/claim.json"))
    }

    pub(crate) fn result_key(&self, task: u32) -> Result<ObjectKey> {
        ObjectKey::new(format!("anycloud/jobs/{self}/result-{task}.json"))
    }
}

impl fmt::Display for SubmissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SubmissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubmissionId({self})")
    }
}

impl TryFrom<String> for SubmissionId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<SubmissionId> for String {
    fn from(id: SubmissionId) -> Self {
        id.0
    }
}

/// What a runner hands to the platform for one request: the ids, and the environment with the payload in it or where
/// to find it. Made by runners, providers of your own included. `Debug` does not show the values of variables, one of
/// which is the payload.
#[derive(Clone)]
pub struct Submission {
    /// The id.
    pub id: SubmissionId,
    /// The key of the logical submission.
    pub key: IdempotencyKey,
    /// Of everything in the request but the key: a submission of the same id with another fingerprint is a conflict.
    pub fingerprint: String,
    /// The variables to set beside those of the request: names that start with `ANYCLOUD_`.
    pub env: BTreeMap<String, String>,
    spilled: Option<Bytes>,
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submission")
            .field("id", &self.id)
            .field("key", &self.key)
            .field("fingerprint", &self.fingerprint)
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}

impl Submission {
    /// Prepares a request, with no request made yet.
    ///
    /// # Errors
    /// As for [`JobRequest::check`].
    pub fn new(job: &JobName, request: &JobRequest) -> Result<Self> {
        request.check(job)?;
        let key = request.idempotency_key.clone().unwrap_or_else(IdempotencyKey::random);
        let attempt = request.attempt.get();
        let id = SubmissionId::of(job, &key, attempt);
        let digest = request.payload.as_ref().map(|payload| random::hex(&Sha256::digest(payload)));
        let fingerprint = fingerprint(request, digest.as_deref())?;
        let mut env = BTreeMap::from([
            ("ANYCLOUD_JOB".to_owned(), job.to_string()),
            ("ANYCLOUD_SUBMISSION".to_owned(), id.to_string()),
            ("ANYCLOUD_ATTEMPT".to_owned(), attempt.to_string()),
            ("ANYCLOUD_FINGERPRINT".to_owned(), fingerprint.clone()),
            ("ANYCLOUD_TASK_COUNT".to_owned(), request.tasks.to_string()),
        ]);
        if let Some(timeout) = request.timeout {
            env.insert("ANYCLOUD_TIMEOUT_SECONDS".to_owned(), timeout.as_secs().to_string());
        }
        let mut spilled = None;
        if let (Some(payload), Some(digest)) = (&request.payload, digest) {
            env.insert("ANYCLOUD_PAYLOAD_SHA256".to_owned(), digest);
            if payload.len() <= MAX_INLINE_PAYLOAD_BYTES {
                env.insert("ANYCLOUD_PAYLOAD".to_owned(), BASE64.encode(payload));
            } else {
                spilled = Some(payload.clone());
            }
        }
        Ok(Self { id, key, fingerprint, env, spilled })
    }

    /// Writes a payload that is too large for the environment to the store, and adds its address to the environment.
    /// To be called before the platform is asked to start the job.
    ///
    /// # Errors
    /// As for [`ObjectStore::put`].
    pub async fn spill(&mut self, exchange: &Arc<dyn ObjectStore>) -> Result<()> {
        let Some(payload) = self.spilled.take() else { return Ok(()) };
        let key = self.id.payload_key()?;
        exchange.put(&key, payload, PutOptions::default()).await?;
        self.env.insert("ANYCLOUD_PAYLOAD_URI".to_owned(), exchange.uri(&key).to_string());
        Ok(())
    }

    /// Writes the payload to the store also where it would be small enough for the environment: when that is full of
    /// other things.
    ///
    /// # Errors
    /// As for [`ObjectStore::put`].
    pub async fn spill_all(&mut self, exchange: &Arc<dyn ObjectStore>) -> Result<()> {
        if let Some(inline) = self.env.remove("ANYCLOUD_PAYLOAD") {
            self.spilled = BASE64.decode(inline).ok().map(Bytes::from);
        }
        self.spill(exchange).await
    }

    /// The error for a submission of the same id that was made with another request.
    #[must_use]
    pub fn conflict(&self, job: &JobName) -> Error {
        let message = format!("the idempotency key `{}` was used with another request", self.key);
        // Not to be repeated: it fails the same way for ever.
        Error::new(ErrorKind::PreconditionFailed, "job_runner.run", job, message)
    }
}

fn fingerprint(request: &JobRequest, payload: Option<&str>) -> Result<String> {
    let canonical = serde_json::json!({
        "args": request.args,
        "env": request.env,
        "payload": payload,
        "resources": request.resources,
        "tasks": request.tasks,
        "timeout": request.timeout.map(|timeout| timeout.as_millis().to_string()),
        "labels": request.labels,
        "capacity": request.capacity,
    });
    Ok(random::hex(&Sha256::digest(canonical.to_string())[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> JobName {
        JobName::new("train").unwrap()
    }

    fn request(payload: &[u8]) -> JobRequest {
        JobRequest {
            payload: Some(Bytes::copy_from_slice(payload)),
            idempotency_key: Some(IdempotencyKey::new("k").unwrap()),
            ..JobRequest::default()
        }
    }

    #[test]
    fn the_same_submission_has_the_same_id_and_another_request_another_fingerprint() {
        let one = Submission::new(&job(), &request(b"a")).unwrap();
        let two = Submission::new(&job(), &request(b"b")).unwrap();
        assert_eq!(one.id, two.id);
        assert_ne!(one.fingerprint, two.fingerprint);
        let next = JobRequest { attempt: 2.try_into().unwrap(), ..request(b"a") };
        assert_ne!(Submission::new(&job(), &next).unwrap().id, one.id);
    }

    #[test]
    fn small_payloads_travel_in_the_environment_and_large_ones_do_not() {
        let small = Submission::new(&job(), &request(b"small")).unwrap();
        assert_eq!(small.env["ANYCLOUD_PAYLOAD"], BASE64.encode("small"));
        let large = Submission::new(&job(), &request(&[7; MAX_INLINE_PAYLOAD_BYTES + 1])).unwrap();
        assert!(!large.env.contains_key("ANYCLOUD_PAYLOAD") && large.spilled.is_some());
    }
}
