//! One look at many tasks: what many callers ask within a moment becomes one call for up to a hundred tasks.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_ecs::types::Task;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::handle::short;
use super::{Ecs, failure};
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::retry::Safety;
use crate::{Error, ErrorKind, Result};

/// The most tasks that one call describes:
/// [DescribeTasks](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html).
const BATCH: usize = 100;
/// How long a round waits for others to join when little is asked.
const SHORTEST_ROUND: Duration = Duration::from_millis(20);
/// What each hundred of tasks that are being waited for adds to a round: a thousand make it a second, so that however
/// their waits are spread, a second costs no more calls than their number asks for.
const ROUND_PER_BATCH: Duration = Duration::from_millis(100);
/// The longest round, also when ECS asks to slow down.
const LONGEST_ROUND: Duration = Duration::from_secs(5);
/// For how long a task that was asked about counts as being waited for: the longest pause of a wait by default.
const WAITED_FOR: Duration = Duration::from_secs(10);

const OPERATION: &str = "job_runner.get";

/// What was seen of a task: `None` where ECS knows none of this id.
type Seen = Result<Option<Task>, Arc<Error>>;

/// Looks at tasks of one cluster. Clones share the rounds.
#[derive(Clone, Debug)]
pub(super) struct Poller {
    ecs: Ecs,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    asking: Vec<(String, oneshot::Sender<Seen>)>,
    waited_for: HashMap<String, Instant>,
    /// Grows when ECS asks to slow down, and shrinks again.
    slowed: Duration,
    rounds_run: bool,
}

impl Poller {
    pub(super) fn new(ecs: Ecs) -> Self {
        Self { ecs, state: Arc::default() }
    }

    /// Looks at tasks, in the order asked. Needs `ecs:DescribeTasks`.
    pub(super) async fn look(&self, tasks: &[String]) -> Vec<Result<Option<Task>>> {
        let answers: Vec<_> = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let ask = |state: &mut State, task: &String| {
                let (sender, answer) = oneshot::channel();
                state.asking.push((task.clone(), sender));
                state.waited_for.insert(task.clone(), now);
                answer
            };
            let answers = tasks.iter().map(|task| ask(&mut state, task)).collect();
            if !state.rounds_run && !tasks.is_empty() {
                state.rounds_run = true;
                // A task of its own, so that a caller who gives up takes nobody's answer away.
                tokio::spawn(self.clone().run_rounds());
            }
            answers
        };
        let mut seen = Vec::with_capacity(tasks.len());
        for answer in answers {
            seen.push(match answer.await {
                Ok(Ok(task)) => Ok(task),
                Ok(Err(error)) => Err(again(&error)),
                Err(_) => {
                    let message = "the look was given up, because the runtime is shutting down";
                    Err(Error::new(ErrorKind::Unavailable, OPERATION, &self.ecs.cluster, message))
                }
            });
        }
        seen
    }

    async fn run_rounds(self) {
        loop {
            sleep(self.round()).await;
            let asking = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.asking.is_empty() {
                    state.rounds_run = false;
                    return;
                }
                // What does not fill a call after full ones waits for the next round, first in line.
                let full = state.asking.len() / BATCH * BATCH;
                let rest = if full == 0 { Vec::new() } else { state.asking.split_off(full) };
                std::mem::replace(&mut state.asking, rest)
            };
            self.answer(asking).await;
        }
    }

    fn round(&self) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.waited_for.retain(|_, asked| now.duration_since(*asked) < WAITED_FOR);
        let batches = u32::try_from(state.waited_for.len() / BATCH).unwrap_or(u32::MAX);
        (SHORTEST_ROUND + ROUND_PER_BATCH.saturating_mul(batches) + state.slowed).min(LONGEST_ROUND)
    }

    async fn answer(&self, asking: Vec<(String, oneshot::Sender<Seen>)>) {
        let mut different = HashSet::new();
        let tasks: Vec<String> =
            asking.iter().map(|(task, _)| task.clone()).filter(|task| different.insert(task.clone())).collect();
        let mut seen: HashMap<String, Seen> = HashMap::with_capacity(tasks.len());
        for batch in tasks.chunks(BATCH) {
            match self.describe(batch).await {
                Ok(found) => {
                    self.slow(Duration::ZERO);
                    seen.extend(batch.iter().map(|task| (task.clone(), Ok(None))));
                    seen.extend(found.into_iter().map(|(id, task)| (id, Ok(Some(task)))));
                }
                Err(error) => {
                    if error.kind() == ErrorKind::Throttled {
                        self.slow(SHORTEST_ROUND);
                    }
                    let error = Arc::new(error);
                    seen.extend(batch.iter().map(|task| (task.clone(), Err(error.clone()))));
                }
            }
        }
        for (task, sender) in asking {
            let answer = seen.get(&task).cloned().unwrap_or(Ok(None));
            // A caller that has given up takes no answer.
            let _ = sender.send(answer);
        }
    }

    fn slow(&self, at_least: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.slowed =
            if at_least.is_zero() { state.slowed / 2 } else { (state.slowed * 2).max(at_least).min(LONGEST_ROUND) };
    }

    async fn describe(&self, tasks: &[String]) -> Result<Vec<(String, Task)>> {
        let client = self.ecs.client().await?;
        let cluster = &self.ecs.cluster;
        let call = Call::reading(OPERATION, cluster, "ecs:DescribeTasks");
        let answer = self
            .ecs
            .retrier()
            .run(OPERATION, cluster, Safety::Read, |_| async {
                let request = client.describe_tasks().cluster(cluster).set_tasks(Some(tasks.to_vec()));
                request.send().silently().await.map_err(|error| {
                    let error = failure::of(error, call);
                    if error.kind() == ErrorKind::Throttled {
                        self.slow(SHORTEST_ROUND);
                    }
                    error
                })
            })
            .await?;
        // https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html
        if let Some(other) = answer.failures().iter().find(|failure| failure.reason() != Some("MISSING")) {
            return Err(failure::of_answer(other, OPERATION, cluster));
        }
        let named = |task: Task| Some((short(task.task_arn()?).to_owned(), task));
        Ok(answer.tasks.unwrap_or_default().into_iter().filter_map(named).collect())
    }
}

/// The same error for one more caller.
fn again(error: &Error) -> Error {
    let mut copy = Error::new(error.kind(), error.operation(), error.subject(), error.message());
    if let Some(code) = error.code() {
        copy = copy.with_code(code);
    }
    if let Some(status) = error.status() {
        copy = copy.with_status(status);
    }
    if let Some(id) = error.request_id() {
        copy = copy.with_request_id(id);
    }
    match error.retry_after() {
        Some(wait) => copy.with_retry_after(wait),
        None => copy,
    }
}
