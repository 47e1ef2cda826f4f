//! The operations on the disk, done and written down.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;

use crate::local::file_operations::{FileOperations, Place, System};

pub(super) type Id = usize;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Write(Id, u64, Vec<u8>),
    SyncFile(Id),
    SyncDirectory(Id),
    /// A name in a directory stands for this from now on.
    Names(Vec<(Id, String, Option<Id>)>),
    /// A call begins that may lead to this state of a name; it ends, and the last such state holds.
    Begin(String, Option<Bytes>),
    Acknowledge(String),
}

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) steps: Vec<Step>,
    /// What an inode is now.
    ids: HashMap<u64, Id>,
    names: HashMap<(Id, String), Id>,
    pub(super) directories: HashSet<Id>,
    next: Id,
}

impl Log {
    fn add(&mut self, inode: u64) -> Id {
        self.next += 1;
        self.ids.insert(inode, self.next);
        self.next
    }

    fn name(&mut self, changes: Vec<(Id, String, Option<Id>)>) {
        for (directory, name, id) in &changes {
            match id {
                Some(id) => self.names.insert((*directory, name.clone()), *id),
                None => self.names.remove(&(*directory, name.clone())),
            };
        }
        self.steps.push(Step::Names(changes));
    }
}

/// The real operations, written down but not waited for.
#[derive(Debug, Default)]
pub(crate) struct Recording(Mutex<Log>);

fn inode(fd: BorrowedFd<'_>) -> u64 {
    rustix::fs::fstat(fd).unwrap().st_ino
}

impl Recording {
    /// A record of what is done below a directory that is there, and durable.
    pub(crate) fn below(root: &Path) -> Self {
        let mut log = Log::default();
        log.ids.insert(root.metadata().unwrap().ino(), 0);
        log.directories.insert(0);
        Self(Mutex::new(log))
    }

    /// From now on a power cut may find a name in this state, too.
    pub(crate) fn begin(&self, name: &str, state: Option<Bytes>) {
        self.note(|log| log.steps.push(Step::Begin(name.to_owned(), state)));
    }

    /// From now on a power cut may find a name in no other state than the last one begun.
    pub(crate) fn acknowledge(&self, name: &str) {
        self.note(|log| log.steps.push(Step::Acknowledge(name.to_owned())));
    }

    pub(super) fn take(&self) -> Log {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn note(&self, work: impl FnOnce(&mut Log)) {
        work(&mut self.0.lock().unwrap());
    }

    fn entry(log: &Log, place: Place<'_>) -> (Id, String, Option<Id>) {
        let directory = log.ids[&inode(place.directory)];
        (directory, place.name.to_owned(), log.names.get(&(directory, place.name.to_owned())).copied())
    }

    fn moved(&self, from: Place<'_>, to: Place<'_>, swap: bool) {
        self.note(|log| {
            let (one, other) = (Self::entry(log, from), Self::entry(log, to));
            let back = if swap { other.2 } else { None };
            log.name(vec![(other.0, other.1, one.2), (one.0, one.1, back)]);
        });
    }
}

impl FileOperations for Recording {
    fn create(&self, place: Place<'_>, mode: u32) -> io::Result<File> {
        let file = System.create(place, mode)?;
        self.note(|log| {
            let id = log.add(file.metadata().unwrap().ino());
            let (directory, name, _) = Self::entry(log, place);
            log.name(vec![(directory, name, Some(id))]);
        });
        Ok(file)
    }
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        System.write_at(file, bytes, offset)?;
        self.note(|log| {
            // The counter of removals means nothing after a crash.
            if let Some(id) = log.ids.get(&file.metadata().unwrap().ino()).copied() {
                log.steps.push(Step::Write(id, offset, bytes.to_vec()));
            }
        });
        Ok(())
    }
    fn copy(&self, from: &File, to: &File, count: u64) -> io::Result<()> {
        let mut bytes = vec![0; count as usize];
        from.read_exact_at(&mut bytes, 0)?;
        self.write_at(to, &bytes, 0)
    }
    fn sync_file(&self, file: &File) -> io::Result<()> {
        self.note(|log| log.steps.push(Step::SyncFile(log.ids[&file.metadata().unwrap().ino()])));
        Ok(())
    }
    fn sync_directory(&self, directory: BorrowedFd<'_>) -> io::Result<()> {
        self.note(|log| {
            if let Some(id) = log.ids.get(&inode(directory)).copied() {
                log.steps.push(Step::SyncDirectory(id));
            }
        });
        Ok(())
    }
    fn make_directory(&self, place: Place<'_>, mode: u32) -> io::Result<bool> {
        let made = System.make_directory(place, mode)?;
        if made {
            let stat = rustix::fs::statat(place.directory, place.name, rustix::fs::AtFlags::empty())?;
            self.note(|log| {
                let id = log.add(stat.st_ino);
                log.directories.insert(id);
                let (directory, name, _) = Self::entry(log, place);
                log.name(vec![(directory, name, Some(id))]);
            });
        }
        Ok(made)
    }
    fn rename(&self, from: Place<'_>, to: Place<'_>) -> io::Result<()> {
        System.rename(from, to).map(|()| self.moved(from, to, false))
    }
    fn exchange(&self, one: Place<'_>, other: Place<'_>) -> io::Result<()> {
        System.exchange(one, other).map(|()| self.moved(one, other, true))
    }
    fn link(&self, _: Place<'_>, _: Place<'_>) -> io::Result<()> {
        unreachable!("nothing has two names")
    }
    fn remove_file(&self, place: Place<'_>) -> io::Result<()> {
        System.remove_file(place)?;
        self.note(|log| {
            let (directory, name, _) = Self::entry(log, place);
            log.name(vec![(directory, name, None)]);
        });
        Ok(())
    }
    fn remove_directory(&self, place: Place<'_>) -> io::Result<()> {
        System.remove_directory(place)?;
        self.note(|log| {
            let (directory, name, _) = Self::entry(log, place);
            log.name(vec![(directory, name, None)]);
        });
        Ok(())
    }
}
