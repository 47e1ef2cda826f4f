//! Every operation on the disk made to fail, once, in every call that changes something.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicI64, Ordering};

use rustix::io::Errno;

use super::*;
use crate::local::file_operations::Place;

/// Fails the n-th operation from now.
#[derive(Debug)]
struct Failing {
    left: AtomicI64,
    with: Mutex<Errno>,
    failed: Mutex<Option<&'static str>>,
}

impl Failing {
    fn check(&self, name: &'static str) -> io::Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            *self.failed.lock().unwrap() = Some(name);
            return Err((*self.with.lock().unwrap()).into());
        }
        Ok(())
    }
}

macro_rules! failing {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self, $($argument: $type),*) -> io::Result<$result> {
            self.check(stringify!($name))?;
            Unsynced.$name($($argument),*)
        })*
    };
}

impl FileOperations for Failing {
    failing! {
        create(place: Place<'_>, mode: u32) -> File;
        copy(from: &File, to: &File, count: u64) -> ();
        sync_file(file: &File) -> ();
        sync_directory(directory: BorrowedFd<'_>) -> ();
        make_directory(place: Place<'_>, mode: u32) -> bool;
        rename(from: Place<'_>, to: Place<'_>) -> ();
        exchange(one: Place<'_>, other: Place<'_>) -> ();
        link(from: Place<'_>, to: Place<'_>) -> ();
        remove_file(place: Place<'_>) -> ();
        remove_directory(place: Place<'_>) -> ();
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.check("write_at") {
            // A full disk takes some of it.
            System.write_at(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        System.write_at(file, bytes, offset)
    }
}

async fn mutate(store: &Arc<FileStore>, what: &str) -> Result<()> {
    match what {
        "put" => store.put_bytes(&key("new/dir/k"), "fresh").await.map(drop),
        "replace" => store.put_bytes(&key("d/old"), "fresh").await.map(drop),
        "upload" => {
            let mut upload = store.start_upload(&key("d/old"), PutOptions::default()).await?;
            upload.put_part("fre".into()).await?;
            upload.put_part("sh".into()).await?;
            upload.finish(Crc32c::of(b"fresh")).await.map(drop)
        }
        "copy" => store.copy(&key("d/source"), &key("d/old"), CopyOptions::default()).await.map(drop),
        _ => store.delete(&key("d/old"), DeleteOptions::default()).await,
    }
}

#[tokio::test]
async fn a_failing_operation_is_an_error_that_changes_nothing_and_leaves_nothing() {
    let mut injected = 0;
    for what in ["put", "replace", "upload", "copy", "delete"] {
        for errno in [Errno::IO, Errno::NOSPC, Errno::FBIG] {
            for number in 0.. {
                let scratch = Scratch::new();
                let failing = Arc::new(Failing {
                    left: AtomicI64::new(i64::MAX),
                    with: Mutex::new(errno),
                    failed: Mutex::new(None),
                });
                let store = Arc::new(FileStore::with_operations(&scratch.0, "main".to_owned(), failing.clone()));
                store.put_bytes(&key("d/old"), "old").await.unwrap();
                store.put_bytes(&key("d/source"), "fresh").await.unwrap();
                failing.left.store(number, Ordering::SeqCst);
                let result = mutate(&store, what).await;
                failing.left.store(i64::MAX, Ordering::SeqCst);
                let Some(operation) = *failing.failed.lock().unwrap() else { break };
                injected += 1;
                let (changed, target) = (what == "put", if what == "put" { "new/dir/k" } else { "d/old" });
                let there = store.get_bytes(&key(target)).await;
                let after = there.as_ref().map_or("", |bytes| std::str::from_utf8(bytes).unwrap());
                let context = format!("{what}, {errno} in operation {number}, {operation}: {result:?}, now {after:?}");
                match &result {
                    // A temporary that stays does not undo the change; a full disk does not stop a deletion.
                    Ok(()) => {
                        let harmless = ["remove_file", "remove_directory", "write_at", "rename", "exchange"];
                        assert!(harmless.contains(&operation), "{context}");
                        assert_eq!(after, if what == "delete" { "" } else { "fresh" }, "{context}");
                    }
                    Err(error) => {
                        assert_eq!(after, if changed { "" } else { "old" }, "{context}");
                        let expected = match (errno, error.kind()) {
                            (_, ErrorKind::Indeterminate) => operation == "sync_directory",
                            (Errno::IO, kind) => kind == ErrorKind::Internal,
                            (_, kind) => kind == ErrorKind::ResourceExhausted,
                        };
                        assert!(expected, "{context}");
                        let left = files_below(&scratch.0.join("objects/main/unfinished"));
                        assert!(left.is_empty(), "{context}: {left:?}");
                    }
                }
                let listed: Vec<String> =
                    store.list_all("").await.unwrap().into_iter().map(|object| object.key.into()).collect();
                let mut expected = vec!["d/old", "d/source", "new/dir/k"];
                expected
                    .retain(|key| if *key == target { there.is_ok() } else { *key == "d/old" || *key == "d/source" });
                assert_eq!(listed, expected, "{context}");
                // Whatever was left is collected.
                store.abort_stale_uploads(Duration::ZERO).await.unwrap();
                assert!(files_below(&scratch.0.join("objects/main/unfinished")).is_empty(), "{context}");
            }
        }
    }
    println!("{injected} failures injected");
    assert!(injected > 90, "{injected}");
}
