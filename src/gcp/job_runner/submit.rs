use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use google_cloud_run_v2::model::run_job_request::Overrides;
use google_cloud_run_v2::model::run_job_request::overrides::ContainerOverride;
use google_cloud_run_v2::model::{EnvVar, Execution};
use tokio::time::Instant;

use super::super::gax;
use super::api::{Api, Begun};
use super::claim::{Claims, Turn};
use super::{lookup, observe};
use crate::job_runner::{Submission, SubmissionId};
use crate::retry::{Retrying as _, in_time, pause};
use crate::{Error, ErrorKind, JobExecution, JobName, JobRequest, ObjectStore, Result, random};

pub(super) const OPERATION: &str = "job_runner.run";
/// When to look for what a call with a lost answer may have started, after it and after one another.
pub(super) const LOOKS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// After an answer of the service itself nothing is on its way any more, and fewer looks do.
const LOOKS_AFTER_AN_ANSWER: usize = 2;
/// By so much our clock and the service's may differ.
pub(super) const CLOCK_SKEW: Duration = Duration::from_secs(120);
/// So much of a payload in a message is a quotation.
const QUOTED: usize = 12;
/// Holds the labels of a run, which Cloud Run has no place for.
pub(super) const LABELS_VARIABLE: &str = "ANYCLOUD_LABELS";

/// Submits, one call at a time for one submission.
#[derive(Debug)]
pub(super) struct Submitter {
    under_way: Mutex<HashMap<SubmissionId, Weak<tokio::sync::Mutex<()>>>>,
    /// By which claims of this submitter are known.
    holder: String,
}

impl Default for Submitter {
    fn default() -> Self {
        Self { under_way: Mutex::default(), holder: random::uuid() }
    }
}

impl Submitter {
    pub(super) async fn run(
        &self,
        api: &Api,
        exchange: &Arc<dyn ObjectStore>,
        job: &JobName,
        request: JobRequest,
    ) -> Result<JobExecution> {
        // A key that is made here is nobody else's: there is nothing to look for.
        let repeatable = request.idempotency_key.is_some();
        let mut submission = Submission::new(job, &request)?;
        let turn = self.turn(&submission.id);
        let _turn = in_time(OPERATION, job, async { Ok(turn.lock().await) }).await?;
        if repeatable && let Some(found) = lookup::by_submission(api, OPERATION, job, &submission.id, None).await? {
            return accept(api, job, &submission, &found).await;
        }
        let started = if repeatable && exchange.capabilities().conditional_put {
            let described = submission.clone();
            let claims = Claims { api, exchange, job, submission: &described, holder: &self.holder };
            let claim = match claims.turn().await? {
                Turn::Ours(claim) => claim,
                Turn::Done(found) => return accept(api, job, &submission, &found).await,
            };
            let started = submit(api, exchange, job, &request, &mut submission, Some(claim.send_before)).await;
            if started.as_ref().is_err_and(|error| !error.may_have_applied()) {
                api.retrier().cleaning_up(claims.give_up(claim)).await;
            }
            started?
        } else {
            submit(api, exchange, job, &request, &mut submission, None).await?
        };
        // It has been submitted; only how it does could not be read.
        let execution = api.observed(OPERATION, &started).await.map_err(Error::into_indeterminate)?;
        // It is ours, whether or not the answer repeats the variables.
        Ok(JobExecution { submission: Some(submission.id), attempt: request.attempt.get(), ..execution })
    }

    fn turn(&self, id: &SubmissionId) -> Arc<tokio::sync::Mutex<()>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = under_way.get(id).and_then(Weak::upgrade) {
            return turn;
        }
        under_way.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        under_way.insert(id.clone(), Arc::downgrade(&turn));
        turn
    }
}

async fn accept(api: &Api, job: &JobName, submission: &Submission, found: &Execution) -> Result<JobExecution> {
    if observe::variable(found, "ANYCLOUD_FINGERPRINT") != Some(submission.fingerprint.as_str()) {
        return Err(submission.conflict(job));
    }
    api.observed(OPERATION, found).await
}

async fn submit(
    api: &Api,
    exchange: &Arc<dyn ObjectStore>,
    job: &JobName,
    request: &JobRequest,
    submission: &mut Submission,
    before: Option<Instant>,
) -> Result<Execution> {
    submission.spill(exchange).await?;
    start(api, job, submission, overrides(request, submission)?, before).await
}

/// Sends the request until it is known what came of it; never again while it may still be on its way, and never once
/// the claim may be another's.
async fn start(
    api: &Api,
    job: &JobName,
    submission: &Submission,
    overrides: Overrides,
    before: Option<Instant>,
) -> Result<Execution> {
    let since = SystemTime::now().checked_sub(CLOCK_SKEW);
    for attempt in 1.. {
        if before.is_some_and(|before| Instant::now() >= before) {
            let message = "there was no time left to send the run";
            return Err(Error::new(ErrorKind::Timeout, OPERATION, job, message));
        }
        let error = match api.run(job, overrides.clone()).await {
            Ok(Begun::Execution(execution)) => return Ok(*execution),
            Ok(Begun::Unnamed) => {
                let message = "the run was taken, but its answer does not name the execution";
                Error::new(ErrorKind::Indeterminate, OPERATION, job, message)
            }
            // The definition is not fit to run: its operator has to change it.
            Err(error) if error.kind() == ErrorKind::PreconditionFailed => {
                return Err(without_payload(error.with_kind(ErrorKind::InvalidConfig), submission));
            }
            Err(error) if !error.may_have_applied() => return Err(without_payload(error, submission)),
            Err(error) => without_payload(error, submission),
        };
        let settled = gax::is_settled(&error);
        let looks = if settled { LOOKS_AFTER_AN_ANSWER } else { LOOKS.len() };
        let mut known = false;
        for wait in &LOOKS[..looks] {
            pause(*wait).await;
            match lookup::by_submission(api, OPERATION, job, &submission.id, since).await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => known = true,
                Err(failed) => tracing::debug!(kind = %failed.kind(), "executions cannot be listed"),
            }
        }
        if !(settled && known) || attempt >= api.max_attempts() {
            return Err(error.into_indeterminate());
        }
    }
    Err(Error::new(ErrorKind::Internal, OPERATION, job, "no attempt was made"))
}

/// A refusal may quote what was sent, and no error holds a payload.
fn without_payload(error: Error, submission: &Submission) -> Error {
    let start = submission.env.get("ANYCLOUD_PAYLOAD").map(|payload| payload.get(..QUOTED).unwrap_or(payload));
    match start {
        Some(start) if error.message().contains(start) => error
            .with_message("the service refused the request; its words are withheld, because they quote the payload"),
        _ => error,
    }
}

fn overrides(request: &JobRequest, submission: &Submission) -> Result<Overrides> {
    let mut env: HashMap<String, String> = request.env.clone().into_iter().collect();
    env.extend(submission.env.clone());
    if !request.labels.is_empty() {
        let labels = crate::formats::json::encode(&request.labels, OPERATION, "labels")?;
        env.insert(LABELS_VARIABLE.to_owned(), String::from_utf8_lossy(&labels).into_owned());
    }
    let mut env: Vec<_> = env.into_iter().collect();
    env.sort();
    let variables = env.into_iter().map(|(name, value)| EnvVar::new().set_name(name).set_value(value));
    let mut container = ContainerOverride::new().set_env(variables);
    match &request.args {
        Some(args) if args.is_empty() => container = container.set_clear_args(true),
        Some(args) => container = container.set_args(args.iter().map(String::as_str)),
        None => {}
    }
    let tasks = i32::try_from(request.tasks.get()).unwrap_or(i32::MAX);
    let mut overrides = Overrides::new().set_container_overrides([container]).set_task_count(tasks);
    if let Some(timeout) = request.timeout {
        // Whole seconds, and not fewer than asked.
        let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        overrides = overrides.set_timeout(google_cloud_wkt::Duration::clamp(seconds, 0));
    }
    Ok(overrides)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::IdempotencyKey;

    fn sent(request: JobRequest) -> Value {
        let job = JobName::new("train").unwrap();
        let request = JobRequest { idempotency_key: Some(IdempotencyKey::new("k").unwrap()), ..request };
        let submission = Submission::new(&job, &request).unwrap();
        serde_json::to_value(overrides(&request, &submission).unwrap()).unwrap()
    }

    #[test]
    fn overrides_have_the_form_of_the_api() {
        let request = JobRequest {
            args: Some(vec!["--fast".into()]),
            env: [("WORD".to_owned(), "sesame".to_owned())].into(),
            labels: [("team".to_owned(), "a".to_owned())].into(),
            tasks: 3.try_into().unwrap(),
            timeout: Some(Duration::from_millis(90_500)),
            ..JobRequest::default()
        };
        let sent = sent(request);
        assert_eq!((&sent["taskCount"], &sent["timeout"]), (&json!(3), &json!("91s")));
        let container = &sent["containerOverrides"][0];
        assert_eq!((&container["args"], container.get("clearArgs")), (&json!(["--fast"]), None));
        let variable = |name: &str| {
            let all = container["env"].as_array().unwrap();
            all.iter().find(|one| one["name"] == name).map(|one| one["value"].clone())
        };
        assert_eq!(variable("WORD"), Some(json!("sesame")));
        assert_eq!(variable("ANYCLOUD_LABELS"), Some(json!(r#"{"team":"a"}"#)));
        assert_eq!(variable("ANYCLOUD_JOB"), Some(json!("train")));
        assert!(variable("ANYCLOUD_SUBMISSION").is_some() && variable("ANYCLOUD_FINGERPRINT").is_some());
    }

    #[test]
    fn arguments_are_cleared_only_on_demand() {
        let cleared = sent(JobRequest { args: Some(Vec::new()), ..JobRequest::default() });
        assert_eq!(cleared["containerOverrides"][0]["clearArgs"], json!(true));
        let kept = sent(JobRequest::default());
        assert_eq!(kept["containerOverrides"][0].get("clearArgs"), None);
        assert_eq!((kept["containerOverrides"][0].get("args"), kept.get("timeout")), (None, None));
    }

    #[test]
    fn a_refusal_does_not_quote_the_payload() {
        let job = JobName::new("train").unwrap();
        let payload = Some(bytes::Bytes::from_static(b"the weights of last night"));
        let submission = Submission::new(&job, &JobRequest { payload, ..JobRequest::default() }).unwrap();
        let sent = &submission.env["ANYCLOUD_PAYLOAD"];
        let refusal = |message: String| Error::new(ErrorKind::InvalidInput, OPERATION, &job, message);
        let quoted = without_payload(refusal(format!("Invalid value \"{sent}\"")), &submission);
        assert!(!quoted.message().contains(sent.as_str()), "{quoted}");
        let plain = without_payload(refusal("taskCount: at most 10000".into()), &submission);
        assert_eq!(plain.message(), "taskCount: at most 10000");
    }

    #[tokio::test]
    async fn one_submission_is_made_one_at_a_time_and_others_beside_it() {
        let submitter = Submitter::default();
        let id = |digit: &str| SubmissionId::new(digit.repeat(32)).unwrap();
        let first = submitter.turn(&id("a"));
        let held = first.lock().await;
        assert!(submitter.turn(&id("a")).try_lock().is_err());
        assert!(submitter.turn(&id("b")).try_lock().is_ok());
        drop(held);
        drop(first);
        assert!(submitter.turn(&id("a")).try_lock().is_ok());
        assert!(submitter.under_way.lock().unwrap().len() <= 2);
    }
}
