//! Listings: a walk through the directories in byte order of the keys, on blocking threads, a batch at a time.
//!
//! Of each directory on the way at most [`MAX_NAMES`] names are in memory; a larger one is read again for the next
//! ones. So a listing takes some megabytes, however many keys there are.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use rustix::fs::{Dir, OFlags};

use super::bucket::Bucket;
use super::call::{Call, blocking};
use super::key_path::{KeyPath, Kind, name_of, read_name};
use super::record::Record;
use crate::local::error::failed;
use crate::local::file_operations::{open_beneath, open_directory};
use crate::object_store::{ListEntry, ListOptions};
use crate::{Error, ErrorKind, ObjectKey, ObjectUri, Result};

const OPERATION: &str = "object_store.list";
/// How many names of one directory are held at a time.
const MAX_NAMES: usize = 1 << 16;
/// How many entries are looked up at a time, unless the caller asks for pages of another size.
const BATCH: u16 = 1000;

/// A name of a directory: the part of the key that it stands for, by which it is ordered, and how.
type Name = (Box<[u8]>, Kind);

struct Frame {
    /// The directory's path.
    path: String,
    /// What its path stands for.
    prefix: Vec<u8>,
    names: VecDeque<Name>,
    /// There are more names in the directory, after this one.
    more_after: Option<Box<[u8]>>,
}

pub(super) struct Walk {
    bucket: Arc<Bucket>,
    uri: Arc<dyn Fn(&ObjectKey) -> ObjectUri + Send + Sync>,
    options: ListOptions,
    frames: Vec<Frame>,
    /// Keys that start so are rolled up already.
    rolled: Option<Vec<u8>>,
    /// The directory looked into last.
    current: Option<(String, OwnedFd)>,
    max_names: usize,
}

/// The entries of a listing.
pub(super) fn list(
    open: impl FnOnce() -> Result<Arc<Bucket>> + Send + 'static,
    uri: Arc<dyn Fn(&ObjectKey) -> ObjectUri + Send + Sync>,
    options: ListOptions,
) -> BoxStream<'static, Result<ListEntry>> {
    enum State<F> {
        New(F, Arc<dyn Fn(&ObjectKey) -> ObjectUri + Send + Sync>, ListOptions),
        Walking(Walk),
        Done,
    }
    let subject = options.prefix.clone();
    let first = State::New(open, uri, options);
    stream::unfold((first, subject), |(state, subject)| async move {
        let batch = move || {
            let mut walk = match state {
                State::Done => return Ok(None),
                State::New(open, uri, options) => Walk::new(open()?, uri, options)?,
                State::Walking(walk) => walk,
            };
            let mut entries = Vec::new();
            for _ in 0..walk.options.page_size.unwrap_or(BATCH) {
                match walk.next() {
                    Ok(Some(entry)) => entries.push(Ok(entry)),
                    Ok(None) => return Ok(Some((entries, State::Done))),
                    Err(error) => {
                        entries.push(Err(error));
                        return Ok(Some((entries, State::Done)));
                    }
                }
            }
            Ok(Some((entries, State::Walking(walk))))
        };
        match blocking(OPERATION, &subject, batch).await {
            Ok(None) => None,
            Ok(Some((entries, state))) => Some((entries, (state, subject))),
            Err(error) => Some((vec![Err(error)], (State::Done, subject))),
        }
    })
    .flat_map(stream::iter)
    .boxed()
}

impl Walk {
    fn new(
        bucket: Arc<Bucket>,
        uri: Arc<dyn Fn(&ObjectKey) -> ObjectUri + Send + Sync>,
        options: ListOptions,
    ) -> Result<Self> {
        // Nothing with the prefix lies elsewhere than below the directories that all of it shares.
        let start = KeyPath::of(options.prefix.as_bytes());
        let prefix = options.prefix.as_bytes()[..start.covered].to_vec();
        let mut walk =
            Self { bucket, uri, options, frames: Vec::new(), rolled: None, current: None, max_names: MAX_NAMES };
        walk.push(start.directory(), prefix)?;
        Ok(walk)
    }

    fn next(&mut self) -> Result<Option<ListEntry>> {
        while let Some(frame) = self.frames.last_mut() {
            let Some((sort, kind)) = frame.names.pop_front() else {
                if frame.more_after.is_none() {
                    self.frames.pop();
                } else if let Some(mut frame) = self.frames.pop() {
                    let more = self.load(&mut frame)?;
                    self.frames.extend(more.then_some(frame));
                }
                continue;
            };
            let full = [&*frame.prefix, &*sort].concat();
            let directory = frame.path.clone();
            if !self.is_wanted(&full, kind) {
                continue;
            }
            let name = name_of(&sort, kind);
            if kind != Kind::Object {
                let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
                self.push(path, full)?;
                continue;
            }
            let Ok(key) = ObjectKey::from_bytes(&full) else { continue };
            if let Some(prefix) = self.roll_up(key.as_str()) {
                return Ok(Some(ListEntry::Prefix(prefix)));
            }
            if let Some(entry) = self.look_up(&directory, &name, key)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Whether the key, or any key that starts so, belongs into the rest of the listing.
    fn is_wanted(&self, full: &[u8], kind: Kind) -> bool {
        let prefix = self.options.prefix.as_bytes();
        let after = self.options.start_after.as_deref().unwrap_or_default().as_bytes();
        if self.rolled.as_deref().is_some_and(|rolled| full.starts_with(rolled)) {
            return false;
        }
        match kind {
            Kind::Object => full.starts_with(prefix) && full > after,
            _ => (full.starts_with(prefix) || prefix.starts_with(full)) && (full > after || after.starts_with(full)),
        }
    }

    fn roll_up(&mut self, key: &str) -> Option<String> {
        let delimiter = self.options.delimiter.as_deref()?;
        let start = self.options.prefix.len();
        let end = start + key.get(start..)?.find(delimiter)? + delimiter.len();
        let prefix = key[..end].to_owned();
        self.rolled = Some(prefix.clone().into_bytes());
        Some(prefix)
    }

    fn look_up(&mut self, directory: &str, name: &str, key: ObjectKey) -> Result<Option<ListEntry>> {
        let call = Call { operation: OPERATION, subject: (self.uri)(&key).to_string(), key };
        let opened = match self.enter(directory) {
            Ok(directory) => open_beneath(directory.as_fd(), name, OFlags::RDONLY | OFlags::NONBLOCK),
            Err(error) => Err(error),
        };
        let file = match opened {
            Ok(file) => file.into(),
            // Deleted since its name was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(call.io("the object could not be opened", source)),
        };
        let record = Record::read(&file, &call.key).map_err(|error| call.unreadable(error))?;
        Ok(Some(ListEntry::Object(record.into_meta().summary())))
    }

    fn enter(&mut self, path: &str) -> io::Result<&OwnedFd> {
        match self.current.take() {
            Some(current) if current.0 == path => Ok(&self.current.insert(current).1),
            _ => {
                let directory = match path {
                    "" => self.bucket.objects.try_clone()?,
                    path => open_directory(self.bucket.objects.as_fd(), path)?,
                };
                Ok(&self.current.insert((path.to_owned(), directory)).1)
            }
        }
    }

    fn push(&mut self, path: String, prefix: Vec<u8>) -> Result<()> {
        let mut frame = Frame { path, prefix, names: VecDeque::new(), more_after: None };
        let there = self.load(&mut frame)?;
        self.frames.extend(there.then_some(frame));
        Ok(())
    }

    /// Reads the next names of a directory; `false` if it is gone.
    fn load(&mut self, frame: &mut Frame) -> Result<bool> {
        match self.read_names(frame) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(self.failed(&frame.prefix, source)),
        }
    }

    fn read_names(&mut self, frame: &mut Frame) -> io::Result<()> {
        let most = self.max_names;
        let directory = self.enter(&frame.path)?;
        let entries = rustix::io::retry_on_intr(|| Dir::read_from(directory.as_fd()))?;
        let mut names: Vec<Name> = Vec::new();
        let mut full = frame.prefix.clone();
        let mut ceiling = None::<Box<[u8]>>;
        let mut left_out = false;
        for entry in entries {
            full.truncate(frame.prefix.len());
            let Some(kind) = read_name(entry?.file_name().to_bytes(), &mut full) else { continue };
            let sort = &full[frame.prefix.len()..];
            if frame.more_after.as_deref().is_some_and(|done| sort <= done) || !self.is_wanted(&full, kind) {
                continue;
            }
            if ceiling.as_deref().is_some_and(|ceiling| sort > ceiling) {
                left_out = true;
                continue;
            }
            names.push((sort.into(), kind));
            if names.len() >= 2 * most {
                names.select_nth_unstable(most - 1);
                names.truncate(most);
                ceiling = names.last().map(|(sort, _)| sort.clone());
                left_out = true;
            }
        }
        names.sort_unstable();
        left_out |= names.len() > most;
        names.truncate(most);
        frame.more_after = names.last().filter(|_| left_out).map(|(sort, _)| sort.clone());
        frame.names = names.into();
        Ok(())
    }

    fn failed(&self, prefix: &[u8], source: io::Error) -> Error {
        let error = failed(OPERATION, String::from_utf8_lossy(prefix), "the directory could not be read", source);
        // A link in the place of a directory is not this store's.
        if error.kind() == ErrorKind::NotFound { error.with_kind(ErrorKind::Internal) } else { error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::FileStore;
    use crate::{ObjectStore as _, ObjectStoreExt as _};

    #[tokio::test]
    async fn a_directory_larger_than_the_memory_for_it_is_listed_in_order_once() {
        let root = std::env::temp_dir().join(format!("anycloud-{}", crate::random::uuid()));
        let store = Arc::new(FileStore::new(&root, "main"));
        let mut keys = Vec::new();
        for number in 0..50 {
            let key = ObjectKey::new(format!("{}/{:03}", number % 3, number * 37 % 50)).unwrap();
            store.put_bytes(&key, "").await.unwrap();
            keys.push(key);
        }
        keys.sort();
        for most in [1, 2, 7, 16, 17, 100] {
            let bucket = Bucket::open(Arc::new(crate::local::file_operations::System), &root, "main").unwrap();
            let uri = {
                let store = Arc::clone(&store);
                Arc::new(move |key: &ObjectKey| store.uri(key))
            };
            let mut walk = Walk {
                bucket: Arc::new(bucket),
                uri,
                options: ListOptions::default(),
                frames: Vec::new(),
                rolled: None,
                current: None,
                max_names: most,
            };
            walk.push(String::new(), Vec::new()).unwrap();
            let mut listed = Vec::new();
            while let Some(entry) = walk.next().unwrap() {
                listed.push(entry.into_object().unwrap().key);
                assert!(walk.frames.iter().all(|frame| frame.names.len() <= most));
            }
            assert_eq!(listed, keys, "{most} names at a time");
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}
