//! What tasks wrote, from CloudWatch Logs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::config::Region;
use aws_sdk_cloudwatchlogs::types::OutputLogEvent;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc::{self, Sender};
use tokio::time::{Instant, sleep, sleep_until};

use super::Inner;
use super::definition::LogTarget;
use super::handle::Handle;
use super::record::from_millis;
use crate::aws::connection::Connection;
use crate::aws::error::classify;
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::job_runner::{LogLine, LogMode, LogStream};
use crate::retry::Safety;
use crate::{Error, ErrorKind, ExecutionId, JobExecution, Result};

const OPERATION: &str = "job_runner.logs";

/// The pause between two calls of one runner, however many logs it reads. GetLogEvents has
/// [a quota](https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html) of 25 a second in
/// most regions and 10 in the others, for the whole account, that cannot be raised.
const BETWEEN_CALLS: Duration = Duration::from_millis(120);
/// How often a log that is followed is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);
/// For how long nothing new must have come after the end, and how long to wait for that at most: the driver hands over
/// the last lines when the container ends, and they take a few seconds to become readable.
const QUIET: Duration = Duration::from_secs(3);
const LONGEST_DRAIN: Duration = Duration::from_secs(30);
/// The most lines of one call.
const MOST_LINES: usize = 10_000;

/// Reads streams, at a pace that all readers of a runner share.
pub(super) struct Reader {
    connection: Connection,
    clients: std::sync::Mutex<HashMap<Option<String>, Client>>,
    next_call: tokio::sync::Mutex<Instant>,
}

/// A page of a stream and the token of the next one.
struct Page {
    lines: Vec<OutputLogEvent>,
    next: Option<String>,
}

impl Reader {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, clients: std::sync::Mutex::default(), next_call: tokio::sync::Mutex::new(Instant::now()) }
    }

    async fn client(&self, region: Option<&String>) -> Result<Client> {
        let known = self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(&region.cloned()).cloned();
        if let Some(client) = known {
            return Ok(client);
        }
        let mut config = aws_sdk_cloudwatchlogs::config::Builder::from(self.connection.sdk_config().await?);
        if let Some(region) = region {
            config = config.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &self.connection.endpoints().logs {
            config = config.endpoint_url(endpoint);
        }
        let client = Client::from_conf(config.build());
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).insert(region.cloned(), client.clone());
        Ok(client)
    }

    async fn turn(&self) {
        let mut next = self.next_call.lock().await;
        let at = (*next).max(Instant::now());
        *next = at + BETWEEN_CALLS;
        drop(next);
        sleep_until(at).await;
    }

    /// One page, from the beginning or from the end. A stream that is not there yet is empty.
    async fn page(
        &self,
        target: &LogTarget,
        stream: &str,
        token: Option<&String>,
        from: From,
        limit: Option<usize>,
    ) -> Result<Page> {
        let client = &self.client(target.region.as_ref()).await?;
        let call = Call::reading(OPERATION, stream, "logs:GetLogEvents");
        let limit = limit.and_then(|limit| i32::try_from(limit.clamp(1, MOST_LINES)).ok());
        let read = self.connection.retrier().run(OPERATION, stream, Safety::Read, |_| async move {
            self.turn().await;
            let request = client
                .get_log_events()
                .log_group_name(&target.group)
                .log_stream_name(stream)
                .start_from_head(from == From::Beginning)
                .set_limit(limit)
                .set_next_token(token.cloned());
            request.send().silently().await.map_err(|error| classify(error, call))
        });
        match read.await {
            Ok(page) => Ok(Page {
                next: match from {
                    From::Beginning => page.next_forward_token,
                    From::End => page.next_backward_token,
                },
                lines: page.events.unwrap_or_default(),
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Page { lines: Vec::new(), next: token.cloned() }),
            Err(error) => Err(error),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Beginning,
    End,
}

/// The log of one task, and how far it was read.
struct Source {
    task: u32,
    target: LogTarget,
    stream: String,
    token: Option<String>,
    /// Read, and not yet passed on.
    lines: VecDeque<LogLine>,
    caught_up: bool,
}

impl Source {
    /// Reads until there is a line or no more: an empty page is not the end, a token that comes back is.
    async fn fill(&mut self, reader: &Reader) -> Result<()> {
        while self.lines.is_empty() && !self.caught_up {
            let page = reader.page(&self.target, &self.stream, self.token.as_ref(), From::Beginning, None).await?;
            self.caught_up = page.next == self.token || page.next.is_none();
            self.lines.extend(page.lines.into_iter().map(|event| line(event, self.task)));
            if page.next.is_some() {
                self.token = page.next;
            }
        }
        Ok(())
    }

    async fn tail(&self, reader: &Reader, count: usize) -> Result<Vec<LogLine>> {
        let mut pages: VecDeque<Vec<LogLine>> = VecDeque::new();
        let (mut have, mut token) = (0, None);
        while have < count {
            let page = reader.page(&self.target, &self.stream, token.as_ref(), From::End, Some(count - have)).await?;
            have += page.lines.len();
            pages.push_front(page.lines.into_iter().map(|event| line(event, self.task)).collect());
            if page.next == token || page.next.is_none() {
                break;
            }
            token = page.next;
        }
        Ok(pages.into_iter().flatten().collect())
    }
}

fn line(event: OutputLogEvent, task: u32) -> LogLine {
    let at = event.timestamp.and_then(|at| u64::try_from(at).ok()).map(from_millis);
    let text = event.message.unwrap_or_default();
    LogLine { timestamp: at, stream: LogStream::Unknown, task, text: text.trim_end_matches(['\n', '\r']).to_owned() }
}

pub(super) fn logs(inner: Arc<Inner>, id: ExecutionId, mode: LogMode) -> BoxStream<'static, Result<LogLine>> {
    let begin = async move {
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(async move {
            if let Err(error) = read(&inner, &id, mode, &sender).await {
                // Nobody may be listening any more.
                let _ = sender.send(Err(error.with_operation(OPERATION, &id))).await;
            }
        });
        stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|line| (line, receiver)) })
    };
    stream::once(begin).flatten().boxed()
}

/// The listener went away.
struct Unheard;

async fn read(inner: &Arc<Inner>, id: &ExecutionId, mode: LogMode, out: &Sender<Result<LogLine>>) -> Result<()> {
    let mut sources = sources(inner, id).await?;
    match mode {
        LogMode::All => {
            merge(&inner.logs, &mut sources, out).await?.ok();
            Ok(())
        }
        LogMode::Tail(count) => tail(&inner.logs, &sources, count, out).await,
        LogMode::Follow => follow(inner, id, &mut sources, out).await,
    }
}

async fn sources(inner: &Arc<Inner>, id: &ExecutionId) -> Result<Vec<Source>> {
    let handle = Handle::parse(id, inner.cluster(), OPERATION)?;
    let mut definition = None;
    for task in inner.poller.look(&handle.tasks, Duration::ZERO).await {
        if let Some(task) = task? {
            definition = task.task_definition_arn().map(str::to_owned);
        }
    }
    if let (None, Some(submission)) = (&definition, &handle.submission) {
        definition = inner.records.load(submission).await?.map(|(record, _)| record.task_definition);
    }
    let Some(definition) = definition else {
        let message = "ECS does not know the execution any more, and it has no record";
        return Err(Error::new(ErrorKind::NotFound, OPERATION, id, message));
    };
    let definition = inner.definitions.get(&inner.ecs, OPERATION, &definition).await?;
    let Some(target) = &definition.logs else {
        let message = "the task definition does not log with the driver `awslogs` and a stream prefix";
        return Err(Error::new(ErrorKind::Unsupported, OPERATION, id, message));
    };
    let source = |(index, task): (usize, &String)| Source {
        task: u32::try_from(index).unwrap_or(u32::MAX),
        stream: format!("{}/{task}", target.stream),
        target: target.clone(),
        token: None,
        lines: VecDeque::new(),
        caught_up: false,
    };
    Ok(handle.tasks.iter().enumerate().map(source).collect())
}

/// Passes on what is there, in order of time over all tasks. How much it was, unless nobody listens.
async fn merge(
    reader: &Reader,
    sources: &mut [Source],
    out: &Sender<Result<LogLine>>,
) -> Result<Result<usize, Unheard>> {
    let mut count = 0;
    loop {
        for source in sources.iter_mut() {
            source.fill(reader).await?;
        }
        let first = sources
            .iter_mut()
            .filter(|source| !source.lines.is_empty())
            .min_by_key(|source| source.lines.front().and_then(|line| line.timestamp));
        let Some(line) = first.and_then(|source| source.lines.pop_front()) else { return Ok(Ok(count)) };
        count += 1;
        if out.send(Ok(line)).await.is_err() {
            return Ok(Err(Unheard));
        }
    }
}

async fn tail(reader: &Reader, sources: &[Source], count: usize, out: &Sender<Result<LogLine>>) -> Result<()> {
    let mut lines = Vec::new();
    for source in sources {
        lines.extend(source.tail(reader, count).await?);
    }
    lines.sort_by_key(|line| line.timestamp);
    let surplus = lines.len().saturating_sub(count);
    for line in lines.into_iter().skip(surplus) {
        if out.send(Ok(line)).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn follow(
    inner: &Arc<Inner>,
    id: &ExecutionId,
    sources: &mut [Source],
    out: &Sender<Result<LogLine>>,
) -> Result<()> {
    let mut ended: Option<Instant> = None;
    let mut last_line = Instant::now();
    loop {
        // Before the reading, so that what was written until the end is read after it.
        let execution = match inner.get(id).await {
            Ok(execution) => Some(execution),
            Err(error) if error.is_retryable() => None,
            Err(error) => return Err(error),
        };
        for source in sources.iter_mut() {
            source.caught_up = false;
        }
        match merge(&inner.logs, sources, out).await? {
            Ok(0) => {}
            Ok(_) => last_line = Instant::now(),
            Err(Unheard) => return Ok(()),
        }
        if let Some(execution) = execution.filter(|execution| execution.state.is_finished()) {
            let since = *ended.get_or_insert_with(Instant::now);
            let quiet = since.max(last_line).elapsed() >= QUIET;
            if quiet || since.elapsed() >= LONGEST_DRAIN || ended_long_ago(&execution) {
                return Ok(());
            }
        }
        tokio::select! {
            () = sleep(FOLLOW_INTERVAL) => {}
            () = out.closed() => return Ok(()),
        }
    }
}

fn ended_long_ago(execution: &JobExecution) -> bool {
    let ago = execution.finished.and_then(|at| SystemTime::now().duration_since(at).ok());
    ago.is_some_and(|ago| ago > LONGEST_DRAIN)
}
