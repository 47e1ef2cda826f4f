//! What a power cut could leave after every single operation on the disk: of what was not synced, any name may be old
//! or new, and any bytes lost, zeroed or cut. Each store records what it does, and is opened on every such state.

mod disk;
mod recording;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;

pub(super) use self::recording::Recording;
use super::file_operations::{FileOperations, Place, System};
use crate::random;
use disk::Disk;

/// How many states each store is opened on at least.
pub(super) const OBJECTS: usize = 18_000;
pub(super) const SECRETS: usize = 3_000;
pub(super) const JOBS: usize = 4_000;
const _: () = assert!(OBJECTS + SECRETS + JOBS >= 20_000);

/// The system without waiting for the disk.
#[derive(Debug)]
pub(super) struct Unsynced;

macro_rules! forward {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self, $($argument: $type),*) -> io::Result<$result> { System.$name($($argument),*) })*
    };
}

impl FileOperations for Unsynced {
    forward! {
        create(place: Place<'_>, mode: u32) -> File;
        write_at(file: &File, bytes: &[u8], offset: u64) -> ();
        copy(from: &File, to: &File, count: u64) -> ();
        make_directory(place: Place<'_>, mode: u32) -> bool;
        rename(from: Place<'_>, to: Place<'_>) -> ();
        exchange(one: Place<'_>, other: Place<'_>) -> ();
        link(from: Place<'_>, to: Place<'_>) -> ();
        remove_file(place: Place<'_>) -> ();
        remove_directory(place: Place<'_>) -> ();
    }
    fn sync_file(&self, _: &File) -> io::Result<()> {
        Ok(())
    }
    fn sync_directory(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// A directory in memory, where there is such a thing, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let fast = Path::new("/dev/shm");
        let base = if fast.is_dir() { fast.to_owned() } else { std::env::temp_dir() };
        Self(base.join(format!("anycloud-{}", random::uuid())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// All the ways through a number of choices, in order.
#[derive(Default)]
struct Choices {
    /// What was chosen, and of how many.
    path: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn choose(&mut self, count: usize) -> usize {
        if self.at == self.path.len() {
            self.path.push((0, count));
        }
        self.at += 1;
        self.path[self.at - 1].0
    }

    /// Turns to the next way; `false` after the last.
    fn turn(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, count)) = self.path.last_mut() {
            *chosen += 1;
            if chosen < count {
                return true;
            }
            self.path.pop();
        }
        false
    }
}

/// Opens a store on what a power cut could leave after each step: on all such states, or where there are more than
/// `most`, on so many of them by chance. `observe` opens the store in a directory and says what there is of the names
/// that it is given, and of all others; it fails if anything is torn. Returns how many states there were.
///
/// # Panics
/// If a name has neither a state that was acknowledged nor one that was being made.
pub(super) async fn play(
    recording: &Recording,
    most: usize,
    observe: impl AsyncFn(&Path, Vec<String>) -> BTreeMap<String, Bytes>,
) -> usize {
    let log = recording.take();
    let scratch = Scratch::new();
    let mut random = fastrand::Rng::with_seed(9);
    let mut disk = Disk::default();
    let (mut seen, mut states) = (HashSet::new(), 0);
    for (number, step) in log.steps.iter().enumerate() {
        disk.apply(number + 1, step);
        let mut choices = Choices::default();
        let mut images = Vec::new();
        let all = loop {
            images.push(disk.pick(number + 1, |count| choices.choose(count)));
            if !choices.turn() {
                break true;
            }
            if images.len() == most {
                break false;
            }
        };
        if !all {
            images = (0..most).map(|_| disk.pick(number + 1, |count| random.usize(..count))).collect();
        }
        for image in images {
            let mut hasher = DefaultHasher::new();
            (&image, &disk.allowed).hash(&mut hasher);
            if !seen.insert(hasher.finish()) {
                continue;
            }
            states += 1;
            image.write(&scratch.0, &log.directories);
            let mut found = observe(&scratch.0, disk.allowed.keys().cloned().collect()).await;
            for (name, allowed) in &disk.allowed {
                let found = found.remove(name);
                assert!(
                    allowed.contains(&found),
                    "after step {number}, {step:?}: {name} is {found:?}, not {allowed:?}"
                );
            }
            assert!(found.is_empty(), "after step {number}, {step:?}: {found:?} came of nothing");
            std::fs::remove_dir_all(&scratch.0).unwrap();
        }
    }
    println!("{states} crash states after {} steps", log.steps.len());
    states
}
