use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use google_cloud_logging_v2::model::LogEntry;
use tokio::time::{Instant, sleep};

use super::api::{Api, ENTRIES_A_PAGE};
use super::entries::{self, Place};
use super::name::{self, Name};
use super::observe;
use crate::job_runner::{LogLine, LogMode};
use crate::{ExecutionId, Result};

const OPERATION: &str = "job_runner.logs";
const OLDEST_FIRST: &str = "timestamp asc";
const NEWEST_FIRST: &str = "timestamp desc";

/// How patiently to follow.
struct Pace {
    /// Between two looks.
    interval: Duration,
    /// By so much an entry may come later than one that was written after it.
    overlap: Duration,
    /// For so long after the end of the execution entries may come in.
    drain: Duration,
}

/// Cloud Logging takes most entries in within a few seconds.
const PACE: Pace =
    Pace { interval: Duration::from_secs(2), overlap: Duration::from_secs(10), drain: Duration::from_secs(15) };
/// An emulator has them at once.
const EMULATOR_PACE: Pace =
    Pace { interval: Duration::from_millis(200), overlap: Duration::from_secs(1), drain: Duration::from_millis(300) };

/// Lines from Cloud Logging. `NotFound` for an execution that is not there: without lines, nothing else would tell.
pub(super) fn read(api: Arc<Api>, id: ExecutionId, mode: LogMode) -> BoxStream<'static, Result<LogLine>> {
    let opened = async move {
        let reader = Reader::open(api, &id).await?;
        Ok(match mode {
            LogMode::All => pages(reader),
            LogMode::Tail(count) => {
                let lines = reader.tail(count).await?;
                stream::iter(lines.into_iter().map(Ok)).boxed()
            }
            LogMode::Follow => follow(reader),
        })
    };
    stream::once(opened).try_flatten().boxed()
}

struct Reader {
    api: Arc<Api>,
    name: Name,
    id: ExecutionId,
    filter: String,
}

impl Reader {
    async fn open(api: Arc<Api>, id: &ExecutionId) -> Result<Self> {
        let name = name::parse(OPERATION, id)?;
        let execution = api.execution(OPERATION, &name).await?;
        let mut filter = entries::filter(api.project().await?, api.region().await?, &name);
        // Bounds the search; nothing was written before the execution was there.
        if let Some(created) = observe::time(execution.create_time.as_ref()) {
            let skewed = created.checked_sub(Duration::from_secs(60)).unwrap_or(created);
            filter = entries::filter_since(&filter, skewed);
        }
        Ok(Self { api, name, id: id.clone(), filter })
    }

    /// One page, and the token of the next.
    async fn page(&self, filter: &str, order: &str, size: i32, token: &str) -> Result<(Vec<LogEntry>, String)> {
        let page = self.api.entries(self.id.as_str(), filter, order, size, token).await?;
        // An empty page with a token is not the end; the same token again is.
        let next = if page.next_page_token == token { String::new() } else { page.next_page_token };
        Ok((page.entries, next))
    }

    async fn tail(&self, count: usize) -> Result<Vec<LogLine>> {
        let mut newest = BTreeSet::new();
        let mut lines = VecDeque::new();
        let mut token = String::new();
        while lines.len() < count {
            let left = i32::try_from(count - lines.len()).unwrap_or(i32::MAX).min(ENTRIES_A_PAGE);
            let (entries, next) = self.page(&self.filter, NEWEST_FIRST, left, &token).await?;
            for entry in entries {
                if newest.insert(entries::place(&entry)) {
                    lines.push_front((entries::place(&entry), entries::line(&entry)));
                }
            }
            if next.is_empty() {
                break;
            }
            token = next;
        }
        let mut lines = Vec::from(lines);
        lines.sort_by(|one, two| one.0.cmp(&two.0));
        let surplus = lines.len().saturating_sub(count);
        Ok(lines.into_iter().skip(surplus).map(|(_, line)| line).collect())
    }

    async fn has_ended(&self) -> Result<bool> {
        Ok(observe::has_ended(&self.api.execution(OPERATION, &self.name).await?))
    }
}

/// Everything until now, page by page.
fn pages(reader: Reader) -> BoxStream<'static, Result<LogLine>> {
    let begin = (reader, Some(String::new()), Seen::default());
    stream::try_unfold(begin, |(reader, token, mut seen)| async move {
        let Some(token) = token else { return Ok(None) };
        let (entries, next) = reader.page(&reader.filter, OLDEST_FIRST, ENTRIES_A_PAGE, &token).await?;
        let lines = seen.new_lines(&entries);
        Ok(Some((lines, (reader, Some(next).filter(|next| !next.is_empty()), seen))))
    })
    .map_ok(|lines| stream::iter(lines.into_iter().map(Ok)))
    .try_flatten()
    .boxed()
}

/// Everything until now and what comes, until the execution has ended and its last entries had time to come in.
fn follow(reader: Reader) -> BoxStream<'static, Result<LogLine>> {
    let pace = if reader.api.is_emulator() { EMULATOR_PACE } else { PACE };
    let begin = Following { reader, pace, seen: Seen::default(), ended: None, token: None, last: false };
    stream::try_unfold(
        begin,
        |mut following| async move { Ok(following.next().await?.map(|lines| (lines, following))) },
    )
    .map_ok(|lines| stream::iter(lines.into_iter().map(Ok)))
    .try_flatten()
    .boxed()
}

struct Following {
    reader: Reader,
    pace: Pace,
    seen: Seen,
    /// When the execution was first seen to have ended.
    ended: Option<Instant>,
    /// The rest of the look that is being taken, with its filter.
    token: Option<(String, String)>,
    /// This look is the last.
    last: bool,
}

impl Following {
    async fn next(&mut self) -> Result<Option<Vec<LogLine>>> {
        let (filter, token) = match self.token.take() {
            Some(rest) => rest,
            None if self.last => return Ok(None),
            None => {
                if !self.seen.is_first() {
                    sleep(self.pace.interval).await;
                }
                // Asked before the look: what was written by then is in the look, or within the time to drain.
                if self.ended.is_none() && self.reader.has_ended().await? {
                    self.ended = Some(Instant::now());
                }
                self.last = self.ended.is_some_and(|ended| ended.elapsed() >= self.pace.drain);
                let filter = match self.seen.since(self.pace.overlap) {
                    Some(since) => entries::filter_since(&self.reader.filter, since),
                    None => self.reader.filter.clone(),
                };
                (filter, String::new())
            }
        };
        let (entries, next) = self.reader.page(&filter, OLDEST_FIRST, ENTRIES_A_PAGE, &token).await?;
        if !next.is_empty() {
            self.token = Some((filter, next));
        }
        let lines = self.seen.new_lines(&entries);
        if self.token.is_none() {
            self.seen.forget(self.pace.overlap);
        }
        Ok(Some(lines))
    }
}

/// The entries that have been handed out already.
#[derive(Default)]
struct Seen {
    places: BTreeSet<Place>,
    newest: Option<SystemTime>,
    looked: bool,
}

impl Seen {
    fn new_lines(&mut self, entries: &[LogEntry]) -> Vec<LogLine> {
        self.looked = true;
        let mut lines = Vec::new();
        for entry in entries {
            let place = entries::place(entry);
            self.newest = self.newest.max(Some(place.0));
            if self.places.insert(place) {
                lines.push(entries::line(entry));
            }
        }
        lines
    }

    fn is_first(&self) -> bool {
        !self.looked
    }

    /// From when on to look again.
    fn since(&self, overlap: Duration) -> Option<SystemTime> {
        self.newest?.checked_sub(overlap)
    }

    /// What is too old to be looked at again need not be remembered.
    fn forget(&mut self, overlap: Duration) {
        if let Some(since) = self.since(overlap) {
            self.places = self.places.split_off(&(since, String::new()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(second: u32, id: &str) -> LogEntry {
        let at = format!("2026-01-01T00:00:{second:02}Z");
        serde_json::from_value(json!({"insertId": id, "timestamp": at, "textPayload": id})).unwrap()
    }

    fn texts(lines: Vec<LogLine>) -> Vec<String> {
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn an_entry_is_handed_out_once_also_when_it_comes_late() {
        let overlap = Duration::from_secs(10);
        let mut seen = Seen::default();
        assert_eq!(texts(seen.new_lines(&[entry(1, "a"), entry(20, "b")])), ["a", "b"]);
        seen.forget(overlap);
        assert_eq!(seen.places.len(), 1);
        assert_eq!(texts(seen.new_lines(&[entry(15, "late"), entry(20, "b"), entry(20, "c")])), ["late", "c"]);
        assert_eq!(texts(seen.new_lines(&[entry(15, "late"), entry(20, "b"), entry(20, "c")])), [""; 0]);
    }
}
