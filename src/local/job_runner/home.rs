//! The directory of all executions.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Dir, FileType, Mode, OFlags, fstat};
use rustix::io::{Errno, retry_on_intr};

use super::directory::Directory;
use crate::local::error;
use crate::local::file_operations::{FileOperations, open_beneath, open_directory};
use crate::{Error, ErrorKind, ExecutionId, JobName, Result};

/// The directory below the root.
pub(super) const JOBS: &str = "jobs";

/// Where all executions are, and how they are changed.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) root: PathBuf,
    pub(super) operations: Arc<dyn FileOperations>,
}

impl Home {
    /// The names in a directory without the hidden ones; none if it does not exist.
    fn names(&self, path: &str) -> Result<Vec<String>> {
        let read = || {
            let Some(root) = self.open()? else { return Ok(Vec::new()) };
            let directory = match open_directory(root.as_fd(), path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                // A file is somebody's note. A link would hide what there is.
                Err(error) if error.kind() == io::ErrorKind::NotADirectory && is_file(&root, path)? => {
                    return Ok(Vec::new());
                }
                opened => opened?,
            };
            let mut names = names_in(&directory)?;
            names.retain(|name| !name.starts_with('.'));
            Ok(names)
        };
        read().map_err(|source| failed(&self.root.join(path), source))
    }

    /// The jobs that something has been submitted for.
    pub(super) fn jobs(&self) -> Result<Vec<JobName>> {
        Ok(self.names(JOBS)?.into_iter().filter_map(|name| JobName::new(name).ok()).collect())
    }

    /// What may be executions of a job.
    pub(super) fn executions(self: &Arc<Self>, job: &JobName) -> Result<Vec<Directory>> {
        let names = self.names(&format!("{JOBS}/{job}"))?.into_iter();
        let directories = names.filter_map(|name| Directory::named(self, &ExecutionId::new(name).ok()?));
        Ok(directories.filter(|directory| directory.job() == job).collect())
    }

    /// The root, if it is there. The path to it may go through symbolic links: it is the operator's word.
    pub(super) fn open(&self) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match retry_on_intr(|| rustix::fs::open(&self.root, flags, Mode::empty())) {
            Ok(root) => Ok(Some(root)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// An error of a file operation.
pub(super) fn failed(path: &Path, source: io::Error) -> Error {
    let absent = source.kind() == io::ErrorKind::NotFound;
    let error = error::failed("job_runner", path.display(), "the file operation failed", source);
    if absent { error.with_kind(ErrorKind::NotFound) } else { error }
}

fn is_file(root: &OwnedFd, path: &str) -> io::Result<bool> {
    let opened = open_beneath(root.as_fd(), path, OFlags::PATH)?;
    Ok(FileType::from_raw_mode(fstat(opened)?.st_mode).is_file())
}

/// All names in a directory.
pub(super) fn names_in(directory: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in retry_on_intr(|| Dir::read_from(directory))? {
        // Nothing of ours has another name.
        names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
    }
    names.retain(|name| !matches!(name.as_str(), "." | ".."));
    Ok(names)
}
