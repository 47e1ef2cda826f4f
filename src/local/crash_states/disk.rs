//! What the disk may show.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use bytes::Bytes;

use super::recording::{Id, Step};
use crate::local::file_operations::DIRECTORY_MODE;

/// What a name stood for, and since which step.
type Values = Vec<(usize, Option<Id>)>;
/// The states in which names may be.
type States = BTreeMap<String, Vec<Option<Bytes>>>;

/// Everything that the disk could show after some steps.
#[derive(Default)]
pub(super) struct Disk {
    /// For each name what it stood for: when last synced, and since.
    names: BTreeMap<(Id, String), Values>,
    written: BTreeMap<Id, Vec<u8>>,
    synced: BTreeMap<Id, Vec<u8>>,
    pub(super) allowed: States,
    begun: BTreeMap<String, Option<Bytes>>,
}

impl Disk {
    pub(super) fn apply(&mut self, number: usize, step: &Step) {
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
    pub(super) fn pick(&self, now: usize, mut choose: impl FnMut(usize) -> usize) -> Image {
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
pub(super) struct Image {
    names: BTreeMap<(Id, String), Id>,
    files: BTreeMap<Id, Vec<u8>>,
}

impl Image {
    /// Makes a directory that holds all this.
    pub(super) fn write(&self, path: &Path, directories: &HashSet<Id>) {
        self.write_below(0, path, directories);
    }

    fn write_below(&self, directory: Id, path: &Path, directories: &HashSet<Id>) {
        std::fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path).unwrap();
        for ((_, name), id) in self.names.range((directory, String::new())..(directory + 1, String::new())) {
            if directories.contains(id) {
                self.write_below(*id, &path.join(name), directories);
            } else {
                std::fs::write(path.join(name), self.files.get(id).map_or(&[][..], Vec::as_slice)).unwrap();
            }
        }
    }
}
