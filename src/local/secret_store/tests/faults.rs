//! Every change on disk fails in turn.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU32;

use super::*;
use crate::local::file_operations::{FileOperations, Place};

/// The real operations until the one of this number, which fails and so do all after it, as on a full disk.
#[derive(Debug)]
struct Failing(AtomicU32);

impl Failing {
    fn next(&self) -> io::Result<()> {
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Ok(()),
            Err(_) => Err(rustix::io::Errno::NOSPC.into()),
        }
    }
}

impl FileOperations for Failing {
    fn create(&self, place: Place<'_>, mode: u32) -> io::Result<File> {
        self.next().and_then(|()| System.create(place, mode))
    }
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        // Half of it, as a disk that fills up would take.
        self.next().or_else(|error| System.write_at(file, &bytes[..bytes.len() / 2], offset).and(Err(error)))?;
        System.write_at(file, bytes, offset)
    }
    fn copy(&self, from: &File, to: &File, count: u64) -> io::Result<()> {
        self.next().and_then(|()| System.copy(from, to, count))
    }
    fn sync_file(&self, file: &File) -> io::Result<()> {
        self.next().and_then(|()| System.sync_file(file))
    }
    fn sync_directory(&self, directory: BorrowedFd<'_>) -> io::Result<()> {
        self.next().and_then(|()| System.sync_directory(directory))
    }
    fn make_directory(&self, place: Place<'_>, mode: u32) -> io::Result<bool> {
        self.next().and_then(|()| System.make_directory(place, mode))
    }
    fn rename(&self, from: Place<'_>, to: Place<'_>) -> io::Result<()> {
        self.next().and_then(|()| System.rename(from, to))
    }
    fn exchange(&self, one: Place<'_>, other: Place<'_>) -> io::Result<()> {
        self.next().and_then(|()| System.exchange(one, other))
    }
    fn link(&self, from: Place<'_>, to: Place<'_>) -> io::Result<()> {
        self.next().and_then(|()| System.link(from, to))
    }
    fn remove_file(&self, place: Place<'_>) -> io::Result<()> {
        self.next().and_then(|()| System.remove_file(place))
    }
    fn remove_directory(&self, place: Place<'_>) -> io::Result<()> {
        self.next().and_then(|()| System.remove_directory(place))
    }
}

#[tokio::test]
async fn a_failed_change_says_truly_whether_it_was_made() {
    let (mut failures, mut unknown) = (0, 0);
    for deleting in [false, true] {
        for number in 0.. {
            let (fixture, db) = (Fixture::new(), name("db"));
            put(&fixture.store, &db, "old", PutSecretOptions::default()).await.unwrap();
            let failing = FileSecretStore::new(&fixture.root).with_operations(Arc::new(Failing(number.into())));
            let changed = match deleting {
                false => put(&failing, &db, "new", PutSecretOptions::default()).await.map(drop),
                true => failing.delete(&db, DeleteSecret::Immediate).await,
            };
            let found = value(&fixture.store, &db, VersionSelector::Latest).await;
            let made = if deleting { Err(ErrorKind::NotFound) } else { Ok("new".to_owned()) };
            let Err(error) = changed else {
                assert_eq!(found, made);
                break;
            };
            failures += 1;
            if error.is_indeterminate() {
                unknown += 1;
                assert!(found == made || found == Ok("old".into()), "{found:?}");
                assert!(deleting || error.write_id().is_some());
            } else {
                assert_eq!((error.kind(), found), (ErrorKind::ResourceExhausted, Ok("old".into())), "{number}");
            }
            put(&fixture.store, &db, "after", PutSecretOptions::default()).await.unwrap();
            assert_eq!(std::fs::read_dir(fixture.root.join("secrets")).unwrap().count(), 1);
        }
    }
    // Of both: make the directory, sync the root. Of a put: the removal of what a crash left, create, write, sync,
    // rename, sync. Of a deletion: remove, sync.
    assert_eq!((failures, unknown), (12, 2));
}
