use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::log::Log;

/// The longest line that is kept in one piece, in bytes; a longer one comes as several.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// How much is read of one pipe before the others have their turn.
const TURN_BYTES: usize = 256 * 1024;

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
