//! What a power cut could leave after every single operation on the disk: of what was not synced, any name may be old
//! or new, and any bytes lost, zeroed or cut. The store is opened on each such state.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use super::*;

type Id = usize;
/// What a name stood for, and since which step.
type Values = Vec<(usize, Option<Id>)>;
type States = BTreeMap<String, Vec<Option<Bytes>>>;

#[derive(Clone, Debug)]
enum Step {
    Write(Id, u64, Vec<u8>),
    SyncFile(Id),
    SyncDirectory(Id),
    /// A name in a directory stands for this from now on.
    Names(Vec<(Id, String, Option<Id>)>),
    /// A call begins whose success means this; it ends so.
    Begin(String, Option<Bytes>),
    Acknowledge(String),
}

#[derive(Debug, Default)]
struct Log {
    steps: Vec<Step>,
    /// What an inode is now.
    ids: HashMap<u64, Id>,
    names: HashMap<(Id, String), Id>,
    directories: HashSet<Id>,
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

#[derive(Debug, Default)]
struct Recording(Mutex<Log>);

fn inode(fd: BorrowedFd<'_>) -> u64 {
    rustix::fs::fstat(fd).unwrap().st_ino
}

impl Recording {
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
        unreachable!("objects have one name")
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

/// Everything that the disk could show after some steps.
#[derive(Default)]
struct Disk {
    /// For each name what it stood for: when last synced, and since.
    names: BTreeMap<(Id, String), Values>,
    written: BTreeMap<Id, Vec<u8>>,
    synced: BTreeMap<Id, Vec<u8>>,
    allowed: States,
    begun: BTreeMap<String, Option<Bytes>>,
}

impl Disk {
    fn apply(&mut self, number: usize, step: &Step) {
        match step {
            Step::Write(id, offset, bytes) => {
                let content = self.written.entry(*id).or_default();
                let offset = *offset as usize;
                content.resize(content.len().max(offset + bytes.len()), 0);
                content[offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Step::SyncFile(id) => drop(self.synced.insert(*id, self.written.get(id).cloned().unwrap_or_default())),
            Step::SyncDirectory(id) => {
                for ((directory, _), values) in &mut self.names {
                    if directory == id {
                        values.drain(..values.len() - 1);
                    }
                }
            }
            Step::Names(changes) => {
                for (directory, name, value) in changes {
                    let values = self.names.entry((*directory, name.clone())).or_insert_with(|| vec![(0, None)]);
                    // Long ago is as good as written or lost: enough states remain.
                    let last = values.len() - 1;
                    let mut at = 0;
                    values.retain(|(when, _)| {
                        at += 1;
                        at == 1 || at > last || when + 12 > number
                    });
                    values.push((number, *value));
                }
            }
            Step::Begin(key, state) => {
                self.allowed.entry(key.clone()).or_insert_with(|| vec![None]).push(state.clone());
                self.begun.insert(key.clone(), state.clone());
            }
            Step::Acknowledge(key) => drop(self.allowed.insert(key.clone(), vec![self.begun[key].clone()])),
        }
    }

    /// One of the ways in which a power cut can end: what each name stands for and each file holds.
    fn pick(&self, now: usize, mut choose: impl FnMut(usize) -> usize) -> Image {
        let mut names = BTreeMap::new();
        for ((directory, name), values) in &self.names {
            let mut distinct: Vec<Option<Id>> = Vec::new();
            let last = values.len() - 1;
            for (at, (when, value)) in values.iter().enumerate() {
                // A leftover of long ago multiplies the states and says nothing new.
                if (at == last || when + 40 > now) && !distinct.contains(value) {
                    distinct.push(*value);
                }
            }
            if values[0].0 == 0 && values[0].1.is_none() && values[last].0 + 40 > now && !distinct.contains(&None) {
                distinct.push(None);
            }
            if let first @ Some(_) = values[0].1
                && !distinct.contains(&first)
                && values[last].0 + 40 > now
            {
                distinct.push(first);
            }
            if let Some(id) = distinct[choose(distinct.len())] {
                names.insert((*directory, name.clone()), id);
            }
        }
        let mut files = BTreeMap::new();
        for id in names.values() {
            let Some(all) = self.written.get(id) else { continue };
            let synced = self.synced.get(id);
            let content = if synced == Some(all) {
                all.clone()
            } else {
                match choose(4) {
                    0 => synced.cloned().unwrap_or_default(),
                    1 => all[..all.len() / 2].to_vec(),
                    2 => vec![0; all.len()],
                    _ => all.clone(),
                }
            };
            files.insert(*id, content);
        }
        Image { names, files }
    }
}

#[derive(Hash)]
struct Image {
    names: BTreeMap<(Id, String), Id>,
    files: BTreeMap<Id, Vec<u8>>,
}

impl Image {
    fn write(&self, directory: Id, path: &Path, directories: &HashSet<Id>) {
        std::fs::create_dir(path).unwrap();
        for ((_, name), id) in self.names.range((directory, String::new())..(directory + 1, String::new())) {
            if directories.contains(id) {
                self.write(*id, &path.join(name), directories);
            } else {
                std::fs::write(path.join(name), self.files.get(id).map_or(&[][..], Vec::as_slice)).unwrap();
            }
        }
    }
}

async fn work(store: &Arc<FileStore>, log: &Recording, calls: usize) {
    let mut random = fastrand::Rng::with_seed(5);
    let keys = ["a", "a/b", "d/e/f", "d/e/g", "long/".repeat(20).leak()];
    for call in 0..calls {
        let name = keys[random.usize(..keys.len())];
        let bytes = Bytes::from(format!("{call}").repeat(random.usize(1..40)));
        let kind = random.u8(..8);
        let source = keys[random.usize(..keys.len())];
        let after = match kind {
            0..3 => None,
            3 => store.get_bytes(&key(source)).await.ok(),
            _ => Some(bytes.clone()),
        };
        if kind == 3 && after.is_none() {
            continue;
        }
        log.note(|log| log.steps.push(Step::Begin(name.to_owned(), after)));
        match kind {
            0..3 => store.delete(&key(name), DeleteOptions::default()).await.unwrap(),
            3 => drop(store.copy(&key(source), &key(name), CopyOptions::default()).await.unwrap()),
            4 => {
                let mut upload = store.start_upload(&key(name), PutOptions::default()).await.unwrap();
                upload.put_part(bytes.slice(..1).into()).await.unwrap();
                if bytes.len() > 1 {
                    upload.put_part(bytes.slice(1..).into()).await.unwrap();
                }
                drop(upload.finish(Crc32c::of(&bytes)).await.unwrap());
            }
            _ => drop(store.put_bytes(&key(name), bytes).await.unwrap()),
        }
        log.note(|log| log.steps.push(Step::Acknowledge(name.to_owned())));
    }
}

#[tokio::test]
async fn after_a_power_cut_at_any_point_objects_are_whole_and_acknowledged_ones_are_there() {
    let scratch = Scratch::new();
    std::fs::create_dir(&scratch.0).unwrap();
    let recording = Arc::new(Recording::default());
    recording.note(|log| {
        log.ids.insert(scratch.0.metadata().unwrap().ino(), 0);
    });
    let store = Arc::new(FileStore::with_operations(&scratch.0, "main".to_owned(), recording.clone()));
    work(&store, &recording, 150).await;
    let log = std::mem::take(&mut *recording.0.lock().unwrap());
    let fast = Path::new("/dev/shm");
    let base = if fast.is_dir() { fast.to_owned() } else { std::env::temp_dir() };
    let path = base.join(format!("anycloud-{}", random::uuid()));
    let mut random = fastrand::Rng::with_seed(9);
    let mut disk = Disk::default();
    let (mut seen, mut states) = (HashSet::new(), 0);
    for (number, step) in log.steps.iter().enumerate() {
        disk.apply(number + 1, step);
        for _ in 0..28 {
            let image = disk.pick(number + 1, |choices| random.usize(..choices));
            let mut hasher = DefaultHasher::new();
            (&image, &disk.allowed).hash(&mut hasher);
            if !seen.insert(hasher.finish()) {
                continue;
            }
            states += 1;
            image.write(0, &path, &log.directories);
            let reopened = FileStore::with_operations(&path, "main".to_owned(), Arc::new(Unsynced));
            let mut there = Vec::new();
            for (name, allowed) in &disk.allowed {
                let found = match reopened.get_bytes(&key(name)).await {
                    Ok(bytes) => Some(bytes),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::NotFound, "after step {number}, {step:?}: {error}");
                        None
                    }
                };
                assert!(allowed.contains(&found), "after step {number}, {step:?}: {name} holds {found:?}");
                there.extend(found.map(|_| name.clone()));
            }
            let listed = reopened.list_all("").await.unwrap();
            assert!(listed.iter().map(|object| object.key.as_str()).eq(there.iter().map(String::as_str)));
            std::fs::remove_dir_all(&path).unwrap();
        }
    }
    println!("{states} crash states after {} steps", log.steps.len());
    assert!(states > 15_000, "{states}");
}
