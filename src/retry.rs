//! One way of repeating failed calls, for all families and providers.
//!
//! Nothing is repeated that is not safe to repeat: a call that may have been applied goes again only if doing it twice
//! is the same as doing it once, and otherwise ends as [`Indeterminate`](crate::ErrorKind::Indeterminate).

mod deadline;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep, timeout_at};

use crate::{Error, ErrorKind, Result};

#[allow(unused_imports, reason = "each provider feature uses some; without any there is no caller")]
pub(crate) use deadline::{Calls, Retrying, in_time, pause, until};

/// How failed calls are repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// How often a request is made at most, the first time included.
    pub max_attempts: u32,
    /// The mean of the first pause is half of this; pauses double, with full jitter.
    pub first_backoff: Duration,
    /// The longest pause, unless the provider asks for a longer one by `Retry-After`: that one is waited for if it
    /// ends within the call's time. Otherwise the call ends at once with an error that tells
    /// [what was asked for](crate::Error::retry_after).
    pub max_backoff: Duration,
    /// How long one attempt may be silent: without an answer, and without bytes of the request that leave. What is
    /// streamed to the caller is not counted.
    pub attempt_timeout: Duration,
    /// How long the whole call may take, pauses included and however many requests it makes. A call with a body may
    /// take longer by the time that its bytes need at 32 KiB/s, and a copy by that of its bytes at 2 MiB/s; streams and
    /// listings have this time for each request, uploads for each part, deletions of many for each page of keys. What
    /// is cleaned up after a failure has one [`attempt_timeout`](Self::attempt_timeout) of its own.
    pub call_timeout: Duration,
    /// How many retries may be spent, over all calls of a client, before successes have earned new ones: when
    /// everything fails, retries stop making it worse.
    pub budget: u32,
}

impl Default for RetryPolicy {
    /// Five attempts, pauses from 100 ms to 10 s, 30 s an attempt, 60 s in all, a budget of 100.
    fn default() -> Self {
        Self {
            max_attempts: 5,
            first_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(60),
            budget: 100,
        }
    }
}

/// The slowest connection that a transfer is waited for, in bytes a second, over all that travels at the same time.
const SLOWEST_BYTES_PER_SECOND: u64 = 32 * 1024;

/// How many times faster bytes travel that are copied from one place of the provider's to another.
const COPIES_ARE_FASTER: u64 = 64;

/// How far this machine's clock may be from a service's.
const CLOCK_SKEW: Duration = Duration::from_secs(600);

/// Whether what is found was there before the call began, and so kept it out. Otherwise an attempt whose answer was
/// lost may have been applied, and what it made be replaced or deleted since.
#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
pub(crate) fn was_there_before(changed: SystemTime, begun: SystemTime) -> bool {
    changed + CLOCK_SKEW < begun
}

/// The last sign of life of a request that is on its way. Clones are of the same request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity(Arc<Mutex<Option<Instant>>>);

#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
impl Activity {
    pub(crate) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many attempts have failed for a reason that passes, over all calls that are counted together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setbacks(Arc<AtomicU64>);

#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
impl Setbacks {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

tokio::task_local! {
    static THROTTLED: Arc<AtomicBool>;
}

/// The same call, which notes that a provider asked for fewer calls, also where the call succeeds in the end: who makes
/// many at a time can then make fewer.
pub(crate) async fn noting_throttling<T>(noted: Arc<AtomicBool>, call: impl Future<Output = T>) -> T {
    THROTTLED.scope(noted, call).await
}

fn note_throttling(error: &Error) {
    if error.kind() == ErrorKind::Throttled || matches!(error.status(), Some(429 | 503)) {
        // Most calls are made by nobody who would make fewer.
        let _ = THROTTLED.try_with(|noted| noted.store(true, Ordering::Relaxed));
    }
}

/// Whether doing a call twice is the same as doing it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each provider feature uses some; without any there is no caller")]
pub(crate) enum Safety {
    /// Nothing changes: repeated freely, and never indeterminate.
    Read,
    /// It is: unconditional writes of the same bytes, deletions, calls with a token of their own.
    Repeatable,
    /// It is not: repeated only while it is certain that nothing was applied.
    Once,
}

/// Repeats calls by a policy, out of a shared budget. Clones share the budget.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
pub(crate) struct Retrier {
    policy: RetryPolicy,
    /// The time beyond `call_timeout` that what is moved needs.
    extra: Duration,
    budget: Arc<AtomicU32>,
    activity: Activity,
    setbacks: Option<Setbacks>,
}

#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
impl Retrier {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        let budget = Arc::new(AtomicU32::new(policy.budget));
        Self { policy, extra: Duration::ZERO, budget, activity: Activity::default(), setbacks: None }
    }

    pub(crate) fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    /// The same policy and budget for a request with so many bytes in its body: it may take as long as they need, but
    /// not be silent for longer than others. The body has to be [watched](Self::activity).
    pub(crate) fn for_body(&self, bytes: u64) -> Self {
        let extra = Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND);
        Self { activity: Activity::default(), extra: self.extra.saturating_add(extra), ..self.clone() }
    }

    /// The same policy and budget with time for a copy of so many bytes by the provider, of which nothing is seen.
    pub(crate) fn for_copy(&self, bytes: u64) -> Self {
        let mut retrier = self.clone();
        let extra = Duration::from_secs(bytes / (SLOWEST_BYTES_PER_SECOND * COPIES_ARE_FASTER));
        retrier.policy.attempt_timeout = retrier.policy.attempt_timeout.saturating_add(extra);
        retrier.extra = retrier.extra.saturating_add(extra);
        retrier
    }

    /// The same policy and budget; failures that pass are counted here.
    pub(crate) fn counting(&self, setbacks: &Setbacks) -> Self {
        Self { setbacks: Some(setbacks.clone()), ..self.clone() }
    }

    /// When the call ends that is being made, or one that begins now.
    pub(crate) fn deadline(&self) -> Instant {
        let whole = || later(Instant::now(), self.policy.call_timeout);
        later(deadline::current().unwrap_or_else(whole), self.extra)
    }

    /// Makes a call of as many requests as it takes, which all end at its one deadline. Within another call it is a
    /// part of that one.
    pub(crate) fn one_call<T>(&self, call: impl Future<Output = T>) -> impl Future<Output = T> {
        until(self.deadline(), call)
    }

    /// Takes back what a call has begun that failed, in one attempt's time whatever is left of the call's.
    pub(crate) fn cleaning_up<T>(&self, cleanup: impl Future<Output = T>) -> impl Future<Output = T> {
        until(later(Instant::now(), self.policy.attempt_timeout), cleanup)
    }

    /// Where the bodies of this call's requests tell how they are getting on.
    pub(crate) fn activity(&self) -> Activity {
        self.activity.clone()
    }

    /// Makes a call, and again after failures that pass, until it succeeds or the policy says stop. `attempt` is told
    /// its number, from 1.
    ///
    /// A refusal for the state that was found, after an attempt whose answer was lost, may be the echo of that attempt:
    /// a caller compares the id of the write before it believes it ([`Error::may_have_applied`] is set).
    ///
    /// After the last failure the error is the attempt's own. But where an attempt may have been applied, what says
    /// nothing of that, be it a passing failure or a denial, ends as `Indeterminate`.
    pub(crate) async fn run<T, F, Fut>(
        &self,
        operation: &'static str,
        subject: &str,
        safety: Safety,
        mut attempt: F,
    ) -> Result<T>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let deadline = self.deadline();
        if Instant::now() >= deadline {
            let message = "the call's time was over before this request was sent";
            return Err(Error::new(ErrorKind::Timeout, operation, subject, message));
        }
        let mut maybe_applied = false;
        for number in 1.. {
            // On the heap: a request of the AWS SDK takes 12 KB, which every layer above would move.
            let error = match self.unless_silent(deadline, Box::pin(attempt(number))).await {
                Some(Ok(value)) => {
                    self.earn();
                    return Ok(value);
                }
                Some(Err(error)) => error,
                // What was under way may have arrived.
                None => Error::new(ErrorKind::Timeout, operation, subject, "there was no answer in time")
                    .with_may_have_applied(),
            };
            note_throttling(&error);
            maybe_applied |= error.may_have_applied();
            if let Some(Setbacks(count)) = self.setbacks.as_ref().filter(|_| error.is_transient()) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            let safe = safety != Safety::Once || !error.may_have_applied();
            let pause = self.pause(number, error.retry_after());
            let in_time = pause < deadline.saturating_duration_since(Instant::now());
            if !error.is_transient() || !safe || !in_time || number >= self.policy.max_attempts || !self.spend() {
                return Err(match maybe_applied && safety != Safety::Read {
                    true if tells_of_the_state(error.kind()) => error.with_may_have_applied(),
                    true => error.into_indeterminate(),
                    false => error,
                });
            }
            tracing::debug!(operation, attempt = number, kind = %error.kind(), "the call failed and is repeated");
            sleep(pause).await;
        }
        Err(Error::new(ErrorKind::Internal, operation, subject, "no attempt was made"))
    }

    /// How the attempt ends; `None` if it is silent for too long, or the call's time is up.
    async fn unless_silent<T>(&self, deadline: Instant, attempt: impl Future<Output = T>) -> Option<T> {
        let mut attempt = pin!(attempt);
        let mut heard = Instant::now();
        loop {
            let until = deadline.min(later(heard, self.policy.attempt_timeout));
            if let Ok(ended) = timeout_at(until, &mut attempt).await {
                return Some(ended);
            }
            heard = self.activity.last().filter(|last| *last > heard && until < deadline)?;
        }
    }

    fn pause(&self, number: u32, asked: Option<Duration>) -> Duration {
        let ceiling = self.policy.first_backoff.saturating_mul(1 << number.min(16).saturating_sub(1));
        let jittered = ceiling.min(self.policy.max_backoff).mul_f64(fastrand::f64());
        jittered.max(asked.unwrap_or_default())
    }

    fn spend(&self) -> bool {
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn earn(&self) {
        let full = self.policy.budget;
        let _ = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left < full).then(|| left + 1));
    }
}

/// What a `Retry-After` asks for: [seconds, or until a date](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3).
/// A date that has passed asks for nothing.
#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
pub(crate) fn retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(jiff::Timestamp::now())).unwrap_or_default())
}

/// Whether a refusal is about what there is, which an earlier attempt may have changed.
fn tells_of_the_state(kind: ErrorKind) -> bool {
    use ErrorKind::{AlreadyExists, NotFound, PreconditionFailed, VersionDisabled};
    matches!(kind, AlreadyExists | NotFound | PreconditionFailed | VersionDisabled)
}

/// The moment so much later; a policy that says "for ever" means a year.
#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
pub(crate) fn later(than: Instant, wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    than + wait.min(YEAR)
}

#[cfg(test)]
mod tests;
