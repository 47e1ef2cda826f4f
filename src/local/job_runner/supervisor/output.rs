use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::super::logs::Entry;
use super::super::record::{now, private_file};

/// The longest line that is kept in one piece, in bytes; a longer one comes as several.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// How much is read of one pipe before the others have their turn.
const TURN_BYTES: usize = 256 * 1024;

/// The log of an execution, appended to in order of time.
pub(super) struct Log {
    file: Option<BufWriter<File>>,
    last: u64,
    /// Why lines are missing.
    pub(super) problem: Option<String>,
}

impl Log {
    pub(super) fn create(path: &std::path::Path) -> Self {
        match private_file(path) {
            Ok(file) => Self { file: Some(BufWriter::with_capacity(64 * 1024, file)), last: 0, problem: None },
            Err(error) => Self { file: None, last: 0, problem: Some(error.to_string()) },
        }
    }

    fn line(&mut self, task: u32, stream: char, text: &[u8]) {
        // A clock that is set back must not turn the order of lines around.
        self.last = self.last.max(now());
        let entry = Entry { time: self.last, task, stream, text: String::from_utf8_lossy(text) };
        let Some(file) = &mut self.file else { return };
        let written = serde_json::to_writer(&mut *file, &entry).map_err(io::Error::from);
        let written = written.and_then(|()| file.write_all(b"\n"));
        self.check(written);
    }

    pub(super) fn flush(&mut self) {
        let flushed = self.file.as_mut().map_or(Ok(()), BufWriter::flush);
        self.check(flushed);
    }

    pub(super) fn sync(&mut self) {
        self.flush();
        let synced = self.file.as_ref().map_or(Ok(()), |file| file.get_ref().sync_all());
        self.check(synced);
    }

    /// After a failure nothing more is written: the last line may be torn, and another one after it would be lost.
    fn check(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.problem.get_or_insert_with(|| error.to_string());
            if let Some(file) = self.file.take() {
                drop(file.into_parts());
            }
        }
    }
}

/// One of the two pipes of a task.
pub(super) struct Pipe {
    source: File,
    task: u32,
    stream: char,
    partial: Vec<u8>,
}

impl Pipe {
    pub(super) fn new(source: impl Into<OwnedFd>, task: u32, stream: char) -> Self {
        Self { source: File::from(source.into()), task, stream, partial: Vec::new() }
    }

    /// Takes what is there; false at the end.
    pub(super) fn take(&mut self, log: &mut Log) -> bool {
        let mut piece = vec![0; 64 * 1024];
        let mut taken = 0;
        while taken < TURN_BYTES {
            match self.source.read(&mut piece) {
                Ok(0) => {
                    self.end(log);
                    return false;
                }
                Ok(count) => {
                    taken += count;
                    self.push(&piece[..count], log);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => {
                    self.end(log);
                    return false;
                }
            }
        }
        true
    }

    /// Writes the last line, if it had no end.
    pub(super) fn end(&mut self, log: &mut Log) {
        if !self.partial.is_empty() {
            log.line(self.task, self.stream, &std::mem::take(&mut self.partial));
        }
    }

    fn push(&mut self, mut bytes: &[u8], log: &mut Log) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.split(log);
            log.line(self.task, self.stream, &self.partial);
            self.partial.clear();
        }
        self.partial.extend_from_slice(bytes);
        self.split(log);
    }

    fn split(&mut self, log: &mut Log) {
        while self.partial.len() > MAX_LINE_BYTES {
            let cut = boundary(&self.partial);
            log.line(self.task, self.stream, &self.partial[..cut]);
            self.partial.drain(..cut);
        }
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

/// Where to cut, without cutting a character in two.
fn boundary(bytes: &[u8]) -> usize {
    let continues = |at: usize| bytes[at] & 0b1100_0000 == 0b1000_0000;
    (MAX_LINE_BYTES - 3..=MAX_LINE_BYTES).rev().find(|at| !continues(*at)).unwrap_or(MAX_LINE_BYTES)
}
