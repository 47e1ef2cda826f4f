use std::fs::File;
use std::io;

use super::super::directory::Directory;
use super::super::logs::Entry;
use super::super::record::now;

/// How much is kept before it is written.
const BUFFER_BYTES: usize = 64 * 1024;

/// The log of an execution, appended to in order of time.
pub(in super::super) struct Log {
    directory: Directory,
    file: Option<File>,
    /// How many bytes the file has.
    written: u64,
    buffer: Vec<u8>,
    last: u64,
    /// Why lines are missing.
    pub(super) problem: Option<String>,
}

impl Log {
    pub(super) fn create(directory: &Directory) -> Self {
        let (file, problem) = match directory.create_log() {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            directory: directory.clone(),
            file,
            written: 0,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            last: 0,
            problem,
        }
    }

    pub(in super::super) fn line(&mut self, task: u32, stream: char, text: &[u8]) {
        // A clock that is set back must not turn the order of lines around.
        self.last = self.last.max(now());
        let entry = Entry { time: self.last, task, stream, text: String::from_utf8_lossy(text) };
        if self.file.is_none() {
            return;
        }
        let encoded = serde_json::to_writer(&mut self.buffer, &entry).map_err(io::Error::from);
        self.buffer.push(b'\n');
        self.check(encoded);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    pub(in super::super) fn flush(&mut self) {
        let Some(file) = self.file.as_ref().filter(|_| !self.buffer.is_empty()) else { return };
        let written = self.directory.operations().write_at(file, &self.buffer, self.written);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.check(written);
    }

    /// Makes what was written durable, and the name of the file.
    pub(super) fn sync(&mut self) {
        self.flush();
        let Some(file) = &self.file else { return };
        let synced = self.directory.operations().sync_file(file).and_then(|()| self.directory.sync());
        self.check(synced);
    }

    /// After a failure nothing more is written: the last line may be torn, and another one after it would be lost.
    fn check(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.problem.get_or_insert_with(|| error.to_string());
            self.file = None;
        }
    }
}
