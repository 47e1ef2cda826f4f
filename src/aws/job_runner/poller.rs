//! One look at many tasks: what many callers ask within a moment, or wait for, becomes one call for up to a hundred.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_ecs::types::Task;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::handle::short;
use super::{Ecs, failure};
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::retry::{Safety, later};
use crate::{Error, ErrorKind, Result};

/// The most tasks that one call describes:
/// [DescribeTasks](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html).
const BATCH: usize = 100;
/// How long a look waits for others to join.
const SHORTEST: Duration = Duration::from_millis(20);
/// The longest rest when ECS asks to slow down.
const LONGEST_REST: Duration = Duration::from_secs(5);
/// How many calls travel at the same time; ECS allows an account
/// [bursts](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html) of more.
const CALLS_AT_ONCE: usize = 10;

const OPERATION: &str = "job_runner.get";

/// What was seen of a task: `None` where ECS knows none of this id.
type Seen = Result<Option<Task>, Arc<Error>>;
/// Who is told.
type Asker = oneshot::Sender<Seen>;

/// Looks at tasks of one cluster. Clones share the looks.
///
/// Every look has a moment by which it is due, which for one that waits is the end of its pause. When the first is due,
/// a call takes along those that are due next, as many as it holds: they are answered early. So calls are full, and
/// waits that began at different times fall in step: however many there are, each costs a hundredth of a call for each
/// of its pauses, and is never late.
#[derive(Clone, Debug)]
pub(super) struct Poller {
    ecs: Ecs,
    state: Arc<Mutex<State>>,
    asked: Arc<Notify>,
    calls: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    /// By when they are due, and of the same moment in the order asked.
    looks: BTreeMap<(Instant, u64), (String, Asker)>,
    count: u64,
    /// Grows when ECS asks to slow down, and shrinks again.
    rest: Duration,
    rest_until: Option<Instant>,
    runs: bool,
}

impl Poller {
    pub(super) fn new(ecs: Ecs) -> Self {
        let calls = Arc::new(Semaphore::new(CALLS_AT_ONCE));
        Self { ecs, state: Arc::default(), asked: Arc::default(), calls }
    }

    /// Looks at tasks within this time from now, in the order asked. Needs `ecs:DescribeTasks`.
    pub(super) async fn look(&self, tasks: &[String], within: Duration) -> Vec<Result<Option<Task>>> {
        let end = self.ecs.retrier().deadline();
        let answers = self.ask(tasks, later(Instant::now(), within.max(SHORTEST)));
        let mut seen = Vec::with_capacity(tasks.len());
        for answer in answers {
            let failed = |kind, message| Err(Error::new(kind, OPERATION, &self.ecs.cluster, message));
            seen.push(match timeout_at(end, answer).await {
                Ok(Ok(Ok(task))) => Ok(task),
                Ok(Ok(Err(error))) => Err(again(&error)),
                Ok(Err(_)) => {
                    failed(ErrorKind::Unavailable, "the look was given up, because the runtime is shutting down")
                }
                Err(_) => failed(ErrorKind::Timeout, "ECS did not answer in the call's time"),
            });
        }
        seen
    }

    fn ask(&self, tasks: &[String], due: Instant) -> Vec<oneshot::Receiver<Seen>> {
        let mut state = self.locked();
        let ask = |task: &String| {
            let (asker, answer) = oneshot::channel();
            state.count += 1;
            let place = (due, state.count);
            state.looks.insert(place, (task.clone(), asker));
            answer
        };
        let answers = tasks.iter().map(ask).collect();
        if !tasks.is_empty() {
            self.asked.notify_one();
            if !std::mem::replace(&mut state.runs, true) {
                // A task of its own, so that a caller who gives up takes nobody's answer away.
                tokio::spawn(self.clone().run());
            }
        }
        answers
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self) {
        while let Some(next) = self.next() {
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.asked.notified() => continue,
            }
            for batch in self.due() {
                tokio::spawn(self.clone().answer(batch));
            }
        }
    }

    /// When the next call is due; `None` if there is nobody to look for any more.
    fn next(&self) -> Option<Instant> {
        let mut state = self.locked();
        let due = state.looks.first_key_value().map(|((due, _), _)| *due);
        state.runs = due.is_some();
        due.map(|due| state.rest_until.map_or(due, |rest| rest.max(due)))
    }

    /// The calls to be made now: whom they answer, by task.
    fn due(&self) -> Vec<HashMap<String, Vec<Asker>>> {
        let (mut state, now) = (self.locked(), Instant::now());
        let mut batches = Vec::new();
        while state.looks.first_key_value().is_some_and(|((due, _), _)| *due <= now) {
            let mut batch: HashMap<String, Vec<Asker>> = HashMap::new();
            while batch.len() < BATCH
                && let Some((_, (task, asker))) = state.looks.pop_first()
            {
                // Nobody waits any more for what was given up.
                if !asker.is_closed() {
                    batch.entry(task).or_default().push(asker);
                }
            }
            if !batch.is_empty() {
                batches.push(batch);
            }
        }
        batches
    }

    async fn answer(self, batch: HashMap<String, Vec<Asker>>) {
        let Ok(_turn) = self.calls.acquire().await else { return };
        let tasks: Vec<String> = batch.keys().cloned().collect();
        let described = self.describe(&tasks).await;
        match &described {
            Ok(_) => self.rest(Duration::ZERO),
            Err(error) if error.kind() == ErrorKind::Throttled => self.rest(SHORTEST),
            Err(_) => {}
        }
        let described = described.map_err(Arc::new);
        for (task, askers) in batch {
            let seen = described.as_ref().map(|found| found.get(&task).cloned()).map_err(Arc::clone);
            for asker in askers {
                // A caller that has given up takes no answer.
                let _ = asker.send(seen.clone());
            }
        }
    }

    fn rest(&self, at_least: Duration) {
        let mut state = self.locked();
        if at_least.is_zero() {
            state.rest /= 2;
        } else {
            state.rest = (state.rest * 2).max(at_least).min(LONGEST_REST);
            state.rest_until = Some(Instant::now() + state.rest);
        }
    }

    async fn describe(&self, tasks: &[String]) -> Result<HashMap<String, Task>> {
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
                        self.rest(SHORTEST);
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
