//! One way of repeating failed calls, for all families and providers.
//!
//! Nothing is repeated that is not safe to repeat: a call that may have been applied goes again only if doing it twice
//! is the same as doing it once, and otherwise ends as [`Indeterminate`](crate::ErrorKind::Indeterminate).

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::{Error, ErrorKind, Result};

/// How failed calls are repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// How often a call is made at most, the first time included.
    pub max_attempts: u32,
    /// The mean of the first pause is half of this; pauses double, with full jitter.
    pub first_backoff: Duration,
    /// The longest pause, also where the provider asks for a longer one.
    pub max_backoff: Duration,
    /// How long one attempt may take. Bodies that are streamed are not counted.
    pub attempt_timeout: Duration,
    /// How long the whole call may take, pauses included.
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
    budget: Arc<AtomicU32>,
}

#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
impl Retrier {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        let budget = Arc::new(AtomicU32::new(policy.budget));
        Self { policy, budget }
    }

    pub(crate) fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    /// The same policy and budget, with time for a body of so many bytes: large ones are not counted against the
    /// time-outs, but still may not take for ever.
    pub(crate) fn for_body(&self, bytes: u64) -> Self {
        let mut retrier = self.clone();
        let extra = Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND);
        retrier.policy.attempt_timeout = retrier.policy.attempt_timeout.saturating_add(extra);
        retrier.policy.call_timeout = retrier.policy.call_timeout.saturating_add(extra);
        retrier
    }

    /// Makes a call, and again after failures that pass, until it succeeds or the policy says stop. `attempt` is told
    /// its number, from 1.
    ///
    /// A failure that is not passing, after an attempt whose answer was lost, may be the echo of that attempt: a caller
    /// with preconditions compares the id of the write before it believes it ([`Error::may_have_applied`] is set).
    ///
    /// After the last failure the error is the attempt's own, except that a call which may have been applied, and is
    /// not [`Safety::Repeatable`], ends as `Indeterminate`.
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
        let deadline = after(self.policy.call_timeout);
        let mut maybe_applied = false;
        for number in 1.. {
            let until = deadline.min(after(self.policy.attempt_timeout));
            // On the heap: a request of the AWS SDK takes 12 KB, which every layer above would move.
            let error = match timeout_at(until, Box::pin(attempt(number))).await {
                Ok(Ok(value)) => {
                    self.earn();
                    return Ok(value);
                }
                Ok(Err(error)) => error,
                // What was under way may have arrived.
                Err(_) => Error::new(ErrorKind::Timeout, operation, subject, "the attempt took too long")
                    .with_may_have_applied(),
            };
            maybe_applied |= error.may_have_applied();
            let safe = safety != Safety::Once || !error.may_have_applied();
            let pause = self.pause(number, error.retry_after());
            let in_time = pause < deadline.saturating_duration_since(Instant::now());
            if !error.is_transient() || !safe || !in_time || number >= self.policy.max_attempts || !self.spend() {
                let unknown = maybe_applied && error.is_transient() && safety != Safety::Read;
                return Err(match (unknown, maybe_applied && safety != Safety::Read) {
                    (true, _) => error.into_indeterminate(),
                    (false, true) => error.with_may_have_applied(),
                    (false, false) => error,
                });
            }
            tracing::debug!(operation, attempt = number, kind = %error.kind(), "the call failed and is repeated");
            sleep(pause).await;
        }
        Err(Error::new(ErrorKind::Internal, operation, subject, "no attempt was made"))
    }

    fn pause(&self, number: u32, asked: Option<Duration>) -> Duration {
        let ceiling = self.policy.first_backoff.saturating_mul(1 << number.min(16).saturating_sub(1));
        let jittered = ceiling.min(self.policy.max_backoff).mul_f64(fastrand::f64());
        jittered.max(asked.unwrap_or_default().min(self.policy.max_backoff))
    }

    fn spend(&self) -> bool {
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn earn(&self) {
        let full = self.policy.budget;
        let _ =
            self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left < full).then_some(left + 1));
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

/// The moment so much later; a policy that says "for ever" means a year.
#[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
fn after(wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + wait.min(YEAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_as_seconds_or_as_a_date() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        let date = |seconds| {
            let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
            jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap()
        };
        let wait = retry_after(&date(90)).unwrap();
        assert!((80..=90).contains(&wait.as_secs()), "{wait:?}");
        assert_eq!(retry_after(&date(-90)), Some(Duration::ZERO));
        assert_eq!((retry_after("soon"), retry_after("-1"), retry_after("")), (None, None, None));
    }

    #[tokio::test]
    async fn a_policy_without_any_limit_is_no_reason_to_panic() {
        let forever = Duration::MAX;
        let policy = RetryPolicy { call_timeout: forever, attempt_timeout: forever, ..RetryPolicy::default() };
        assert_eq!(Retrier::new(policy).run("t", "x", Safety::Read, async |_| Ok(7)).await.unwrap(), 7);
    }

    fn failure(kind: ErrorKind) -> Error {
        Error::new(kind, "t", "x", "")
    }

    async fn sends(safety: Safety, policy: RetryPolicy, error: impl Fn(u32) -> Error) -> (u32, ErrorKind) {
        let mut sends = 0;
        let result: Result<()> = Retrier::new(policy)
            .run("t", "x", safety, |number| {
                sends += 1;
                let error = error(number);
                async move { Err(error) }
            })
            .await;
        (sends, result.unwrap_err().kind())
    }

    #[tokio::test(start_paused = true)]
    async fn passing_failures_are_repeated_up_to_the_limit_and_others_not_at_all() {
        let policy = RetryPolicy::default();
        for kind in ErrorKind::all() {
            let expected = if failure(*kind).is_retryable() { 5 } else { 1 };
            let (sends, ended) = sends(Safety::Repeatable, policy.clone(), |_| failure(*kind)).await;
            assert_eq!((sends, ended), (expected, *kind));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_been_applied_is_not_sent_again_unless_that_is_safe() {
        let lost = |_| failure(ErrorKind::Unavailable).with_may_have_applied();
        assert_eq!(sends(Safety::Once, RetryPolicy::default(), lost).await, (1, ErrorKind::Indeterminate));
        assert_eq!(sends(Safety::Repeatable, RetryPolicy::default(), lost).await, (5, ErrorKind::Indeterminate));
        assert_eq!(sends(Safety::Read, RetryPolicy::default(), lost).await, (5, ErrorKind::Unavailable));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_never_outlives_its_deadline() {
        let begun = Instant::now();
        let retrier = Retrier::new(RetryPolicy::default());
        let result: Result<()> = retrier.run("t", "x", Safety::Repeatable, |_| std::future::pending()).await;
        assert!(result.is_err() && begun.elapsed() <= Duration::from_secs(60), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_waited_for() {
        let begun = Instant::now();
        let policy = RetryPolicy { max_attempts: 2, ..RetryPolicy::default() };
        let asked = |_| failure(ErrorKind::Throttled).with_retry_after(Duration::from_secs(7));
        assert_eq!(sends(Safety::Once, policy, asked).await, (2, ErrorKind::Throttled));
        assert!(begun.elapsed() >= Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_budget_ends_the_repeating() {
        let policy = RetryPolicy { budget: 3, ..RetryPolicy::default() };
        let retrier = Retrier::new(policy);
        let mut sends = 0;
        for _ in 0..4 {
            let _: Result<()> = retrier
                .run("t", "x", Safety::Repeatable, |_| {
                    sends += 1;
                    async { Err(failure(ErrorKind::Unavailable)) }
                })
                .await;
        }
        assert_eq!(sends, 4 + 3);
    }
}
