//! Reading the log of an execution, from any process and while it is written.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use super::directory::Directory;
use super::record::time;
use super::{off_thread, settle};
use crate::job_runner::{LogLine, LogMode, LogStream};
use crate::local::error::failed;
use crate::{Error, ErrorKind, Result};

const OPERATION: &str = "job_runner.logs";

/// How much is read at once.
const BATCH_BYTES: u64 = 256 * 1024;

/// How soon a line that was written is seen by who follows.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// One line of the log file.
#[derive(Serialize, Deserialize)]
pub(super) struct Entry<'a> {
    #[serde(rename = "t")]
    pub(super) time: u64,
    #[serde(rename = "n")]
    pub(super) task: u32,
    #[serde(rename = "s")]
    pub(super) stream: char,
    #[serde(rename = "m", borrow)]
    pub(super) text: Cow<'a, str>,
}

struct Reader {
    directory: Directory,
    file: Option<File>,
    /// Read, and not yet a whole line.
    partial: Vec<u8>,
    /// How many bytes are still to be read, unless it is followed.
    left: Option<u64>,
    ended: bool,
}

pub(super) fn stream(directory: Directory, mode: LogMode) -> BoxStream<'static, Result<LogLine>> {
    let opened = off_thread(OPERATION, move || Reader::open(directory, mode));
    let batches = stream::once(opened).map_ok(|reader| stream::try_unfold(reader, next)).try_flatten();
    batches.map_ok(|lines| stream::iter(lines.into_iter().map(Ok))).try_flatten().boxed()
}

async fn next(mut reader: Reader) -> Result<Option<(Vec<LogLine>, Reader)>> {
    loop {
        let (lines, returned) = off_thread(OPERATION, move || {
            let lines = reader.batch()?;
            Ok((lines, reader))
        })
        .await?;
        reader = returned;
        match lines {
            Some(lines) if lines.is_empty() => tokio::time::sleep(FOLLOW_INTERVAL).await,
            Some(lines) => return Ok(Some((lines, reader))),
            None => return Ok(None),
        }
    }
}

impl Reader {
    fn open(directory: Directory, mode: LogMode) -> Result<Self> {
        // Says so if there is no such execution.
        directory.claim().map_err(|error| error.with_operation(OPERATION, directory.id()))?;
        let mut reader = Self { directory, file: None, partial: Vec::new(), left: None, ended: false };
        reader.find_file()?;
        if mode != LogMode::Follow {
            let size = match &reader.file {
                Some(file) => file.metadata().map_err(|error| reader.failed(error))?.len(),
                None => 0,
            };
            let start = match (mode, &mut reader.file) {
                (LogMode::Tail(count), Some(file)) => {
                    let found = tail(file, size, count);
                    found.map_err(|error| reader.failed(error))?
                }
                _ => 0,
            };
            reader.left = Some(size - start);
        }
        Ok(reader)
    }

    fn find_file(&mut self) -> Result<()> {
        let opened = self.directory.open_log();
        self.file = opened.map_err(|error| error.with_operation(OPERATION, self.directory.log_path().display()))?;
        Ok(())
    }

    /// The next lines; an empty batch if there are none yet, and `None` if none will come.
    fn batch(&mut self) -> Result<Option<Vec<LogLine>>> {
        loop {
            if self.left.is_none() && !self.ended {
                // Before the reading: what was written by the end is there when the end is.
                self.ended = settle::look(&self.directory)?.state.is_finished();
            }
            if self.file.is_none() {
                self.find_file()?;
            }
            let limit = self.left.map_or(BATCH_BYTES, |left| left.min(BATCH_BYTES));
            let read = match &self.file {
                Some(file) => file.take(limit).read_to_end(&mut self.partial).map_err(|error| self.failed(error))?,
                None => 0,
            };
            if let Some(left) = &mut self.left {
                *left -= u64::try_from(read).unwrap_or(*left).min(*left);
            }
            let lines = self.whole_lines()?;
            let more = read > 0 && self.left != Some(0);
            match (lines.is_empty(), more) {
                (false, _) => return Ok(Some(lines)),
                (true, true) => {}
                (true, false) if self.left.is_none() && !self.ended => return Ok(Some(lines)),
                (true, false) => return Ok(None),
            }
        }
    }

    /// A last line without an end was torn by the end of its writer, and is left out.
    fn whole_lines(&mut self) -> Result<Vec<LogLine>> {
        let Some(end) = self.partial.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let lines = self.partial[..end].split(|byte| *byte == b'\n').map(|line| {
            let entry: Entry<'_> = serde_json::from_slice(line).map_err(|_| {
                Error::new(ErrorKind::Corrupt, OPERATION, self.directory.log_path().display(), "a line is damaged")
            })?;
            let stream = match entry.stream {
                'o' => LogStream::Stdout,
                'e' => LogStream::Stderr,
                _ => LogStream::Unknown,
            };
            let timestamp = Some(time(entry.time));
            Ok(LogLine { timestamp, stream, task: entry.task, text: entry.text.into_owned() })
        });
        let lines = lines.collect::<Result<Vec<_>>>()?;
        self.partial.drain(..=end);
        Ok(lines)
    }

    fn failed(&self, error: io::Error) -> Error {
        failed(OPERATION, self.directory.log_path().display(), "the log could not be read", error)
    }
}

/// Sets the file to the start of its last lines, read backwards, and returns where that is.
fn tail(file: &mut File, size: u64, count: usize) -> io::Result<u64> {
    let mut missing = count;
    let mut at = size;
    let mut piece = Vec::new();
    let start = 'found: loop {
        if at == 0 || count == 0 {
            break if count == 0 { size } else { 0 };
        }
        let from = at.saturating_sub(64 * 1024);
        file.seek(SeekFrom::Start(from))?;
        piece.clear();
        (&mut *file).take(at - from).read_to_end(&mut piece)?;
        for (index, byte) in piece.iter().enumerate().rev() {
            let after = from + index as u64 + 1;
            // The end of the last line is not the start of another.
            if *byte == b'\n' && after != size {
                missing -= 1;
                if missing == 0 {
                    break 'found after;
                }
            }
        }
        at = from;
    };
    file.seek(SeekFrom::Start(start))?;
    Ok(start)
}
