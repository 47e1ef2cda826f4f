//! Which of several processes submits a key: the one whose claim is in the exchange bucket.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use google_cloud_run_v2::model::Execution;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::api::Api;
use super::lookup;
use super::submit::{CLOCK_SKEW, LOOKS, OPERATION};
use crate::formats::json;
use crate::job_runner::Submission;
use crate::object_store::{ContentHeaders, DeleteOptions, Version};
use crate::retry::{in_time, later};
use crate::{Error, ErrorKind, GetOptions, JobName, ObjectKey, ObjectStore, PutMode, PutOptions, Result};

/// For so long after it took its claim a holder may begin to send the run, which then may take a call's time.
const SENDING: Duration = Duration::from_secs(60);
/// How often somebody who waits looks again.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What the object says.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Who holds it: one per runner, so that a runner knows its own.
    holder: String,
    /// Of the request; the executions of the submission carry it too, and its id is in the object's key.
    fingerprint: String,
    /// In seconds since 1970: after this moment nothing of the holder's is on its way any more.
    until: u64,
}

impl Record {
    /// Whether the holder is gone for certain. No holder writes a moment that the clock cannot express.
    fn is_over(&self, now: SystemTime) -> bool {
        let end = UNIX_EPOCH.checked_add(Duration::from_secs(self.until)).and_then(|end| end.checked_add(CLOCK_SKEW));
        end.is_none_or(|end| now > end)
    }
}

/// The right to submit.
#[derive(Debug)]
pub(super) struct Claim {
    key: ObjectKey,
    version: Version,
    /// The last moment at which the run may be sent.
    pub(super) send_before: Instant,
}

/// Whose turn it is.
#[derive(Debug)]
pub(super) enum Turn {
    Ours(Claim),
    /// Another process has submitted.
    Done(Box<Execution>),
}

/// The claims of one submission.
pub(super) struct Claims<'a> {
    pub(super) api: &'a Api,
    pub(super) exchange: &'a Arc<dyn ObjectStore>,
    pub(super) job: &'a JobName,
    pub(super) submission: &'a Submission,
    pub(super) holder: &'a str,
}

impl Claims<'_> {
    /// Takes the claim, or waits for the execution of whoever has it.
    pub(super) async fn turn(&self) -> Result<Turn> {
        let key = self.submission.id.claim_key()?;
        let begun = Instant::now();
        // What is left then is for taking over a claim, and for the run.
        let patience = later(begun, self.api.call_timeout() / 10 * 9);
        let is_late = || Instant::now() + LOOK_INTERVAL >= patience;
        let mut mode = PutMode::Create;
        loop {
            let send_before = Instant::now() + SENDING;
            let taken = self.exchange.put(&key, self.record()?, options(mode)).await;
            match taken {
                Ok(put) => return Ok(Turn::Ours(Claim { key, version: put.version, send_before })),
                Err(error) if is_taken(&error) && is_late() => return Err(self.busy()),
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(unclaimed(error, self.job)),
            }
            mode = loop {
                sleep(LOOK_INTERVAL).await;
                // The claim is read before the executions: what it stands for is not started between the two looks.
                let found = self.read(&key).await?;
                if let Some(execution) = self.execution().await? {
                    return Ok(Turn::Done(Box::new(execution)));
                }
                match found {
                    None => break PutMode::Create,
                    Some((record, version)) if self.may_be_replaced(&record, begun.elapsed()) => {
                        break PutMode::Replace(version);
                    }
                    Some((record, _)) if record.fingerprint != self.submission.fingerprint => {
                        return Err(self.submission.conflict(self.job));
                    }
                    Some((record, _)) if record.holder == self.holder => {}
                    Some(_) if is_late() => return Err(self.busy()),
                    Some(_) => {}
                }
            };
        }
    }

    /// Lets others submit, after a run that was turned away. If that fails the claim ends by itself.
    pub(super) async fn give_up(&self, claim: Claim) {
        let deleted = self.exchange.delete(&claim.key, DeleteOptions { if_match: Some(claim.version) }).await;
        if let Err(error) = deleted {
            tracing::debug!(kind = %error.kind(), "a claim could not be given up");
        }
    }

    fn busy(&self) -> Error {
        let message = "another process is submitting this key; its execution has not appeared yet";
        Error::new(ErrorKind::Conflict, OPERATION, self.job, message)
    }

    /// A claim whose holder is gone, or our own of an earlier call that did not learn what came of it: its run may
    /// still be on its way, and is looked for as long as one whose answer was lost.
    fn may_be_replaced(&self, record: &Record, looked: Duration) -> bool {
        let ours = record.holder == self.holder && looked >= LOOKS.iter().sum::<Duration>();
        ours || record.is_over(SystemTime::now())
    }

    fn record(&self) -> Result<bytes::Bytes> {
        let end = SystemTime::now() + SENDING + self.api.call_timeout();
        let record = Record {
            holder: self.holder.to_owned(),
            fingerprint: self.submission.fingerprint.clone(),
            until: end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        };
        json::encode(&record, OPERATION, self.job)
    }

    async fn read(&self, key: &ObjectKey) -> Result<Option<(Record, Version)>> {
        let found = match self.exchange.get(key, GetOptions::default()).await {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.with_operation(OPERATION, self.job)),
        };
        let version = found.meta.version.clone();
        let body = in_time(OPERATION, self.job, found.bytes())
            .await
            .map_err(|error| error.with_operation(OPERATION, self.job))?;
        Ok(Some((json::parse(&body, OPERATION, key)?, version)))
    }

    async fn execution(&self) -> Result<Option<Execution>> {
        lookup::by_submission(self.api, OPERATION, self.job, &self.submission.id, None).await
    }
}

fn options(mode: PutMode) -> PutOptions {
    PutOptions { mode, headers: ContentHeaders::of_type("application/json"), ..PutOptions::default() }
}

fn is_taken(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::PreconditionFailed)
}

/// Whatever became of the claim, nothing was submitted.
fn unclaimed(error: Error, job: &JobName) -> Error {
    if !error.is_indeterminate() {
        return error.with_operation(OPERATION, job);
    }
    let message = format!("nothing was submitted, because it is not known who may: {}", error.message());
    Error::new(ErrorKind::Unavailable, OPERATION, job, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_over_two_minutes_after_its_last_moment_or_if_that_cannot_be() {
        let over = |until: u64, now: u64| {
            let record = Record { holder: "gone".to_owned(), fingerprint: "other".to_owned(), until };
            record.is_over(UNIX_EPOCH + Duration::from_secs(now))
        };
        assert!(!over(1000, 1120) && over(1000, 1121));
        assert!(over(u64::MAX, 0) && over(i64::MAX.unsigned_abs(), 0));
    }
}
