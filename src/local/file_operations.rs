//! Every change that the local stores make on disk goes through [`FileOperations`], so that tests can record the
//! changes or make them fail. Paths are taken relative to open directories, and symbolic links are never followed.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::random;

/// The mode of the directories that the local stores make.
pub(crate) const DIRECTORY_MODE: u32 = 0o700;
/// The mode of the files that the local stores make.
pub(crate) const FILE_MODE: u32 = 0o600;

/// A name in an open directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) name: &'a str,
}

/// The changes that a local store can make. No call repeats itself after a failure; one that a signal has interrupted
/// is no failure.
pub(crate) trait FileOperations: fmt::Debug + Send + Sync + 'static {
    /// Makes a file that was not there, with exactly this mode, open for reading and writing.
    fn create(&self, place: Place<'_>, mode: u32) -> io::Result<File>;
    /// Writes all the bytes at this offset.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Copies the first `count` bytes of one file to the beginning of another, sharing blocks where that is possible.
    fn copy(&self, from: &File, to: &File, count: u64) -> io::Result<()>;
    /// Makes a file's bytes and length durable.
    fn sync_file(&self, file: &File) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_directory(&self, directory: BorrowedFd<'_>) -> io::Result<()>;
    /// Makes a directory; `false` if there was one.
    fn make_directory(&self, place: Place<'_>, mode: u32) -> io::Result<bool>;
    /// Moves a file, over one that may be there.
    fn rename(&self, from: Place<'_>, to: Place<'_>) -> io::Result<()>;
    /// Swaps two files.
    fn exchange(&self, one: Place<'_>, other: Place<'_>) -> io::Result<()>;
    /// Gives a file a second name, unless that is taken.
    fn link(&self, from: Place<'_>, to: Place<'_>) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, place: Place<'_>) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_directory(&self, place: Place<'_>) -> io::Result<()>;
}

/// The real thing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct System;

impl FileOperations for System {
    fn create(&self, place: Place<'_>, mode: u32) -> io::Result<File> {
        let mode = Mode::from_raw_mode(mode);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = retry_on_intr(|| fs::openat(place.directory, place.name, flags, mode))?;
        // The umask may have taken bits away.
        fs::fchmod(&file, mode)?;
        Ok(file.into())
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn copy(&self, from: &File, to: &File, count: u64) -> io::Result<()> {
        let (mut read, mut written) = (0, 0);
        while written < count {
            let left = usize::try_from(count - written).unwrap_or(usize::MAX).min(1 << 30);
            match fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), left) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(Errno::INTR) => {}
                Err(Errno::NOSYS | Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP) => {
                    return copy_through_memory(from, to, written..count);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::fsync(file))?)
    }

    fn sync_directory(&self, directory: BorrowedFd<'_>) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::fsync(directory))?)
    }

    fn make_directory(&self, place: Place<'_>, mode: u32) -> io::Result<bool> {
        let mode = Mode::from_raw_mode(mode);
        match fs::mkdirat(place.directory, place.name, mode) {
            Ok(()) => {
                // Opened by a path, so that a umask without the owner's bits does not stand in the way.
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = retry_on_intr(|| fs::openat(place.directory, place.name, flags, Mode::empty()))?;
                if fs::fstat(&made)?.st_mode & 0o7777 != mode.as_raw_mode() {
                    fs::chmodat(place.directory, place.name, mode, AtFlags::empty())?;
                }
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn rename(&self, from: Place<'_>, to: Place<'_>) -> io::Result<()> {
        Ok(fs::renameat(from.directory, from.name, to.directory, to.name)?)
    }

    fn exchange(&self, one: Place<'_>, other: Place<'_>) -> io::Result<()> {
        Ok(fs::renameat_with(one.directory, one.name, other.directory, other.name, RenameFlags::EXCHANGE)?)
    }

    fn link(&self, from: Place<'_>, to: Place<'_>) -> io::Result<()> {
        Ok(fs::linkat(from.directory, from.name, to.directory, to.name, AtFlags::empty())?)
    }

    fn remove_file(&self, place: Place<'_>) -> io::Result<()> {
        Ok(fs::unlinkat(place.directory, place.name, AtFlags::empty())?)
    }

    fn remove_directory(&self, place: Place<'_>) -> io::Result<()> {
        Ok(fs::unlinkat(place.directory, place.name, AtFlags::REMOVEDIR)?)
    }
}

fn copy_through_memory(from: &File, to: &File, range: std::ops::Range<u64>) -> io::Result<()> {
    let mut piece = vec![0; 1 << 20];
    let mut offset = range.start;
    while offset < range.end {
        let count = usize::try_from(range.end - offset).unwrap_or(usize::MAX).min(piece.len());
        from.read_exact_at(&mut piece[..count], offset)?;
        to.write_all_at(&piece[..count], offset)?;
        offset += count as u64;
    }
    Ok(())
}

/// Replaces the file of this name, or makes it, whole: after an error or a crash there are the old or the new bytes.
/// Which of them a power cut leaves is open until the directory is synced.
///
/// The temporary file lies in the same directory, under a name that starts with `.` and ends with `.tmp`, and is
/// removed when something fails.
pub(crate) fn replace_whole(
    operations: &dyn FileOperations,
    directory: BorrowedFd<'_>,
    name: &str,
    bytes: &[u8],
    mode: u32,
) -> io::Result<()> {
    let temporary = format!(".{}.tmp", random::uuid());
    let temporary = Place { directory, name: &temporary };
    let file = operations.create(temporary, mode)?;
    let written = operations
        .write_at(&file, bytes, 0)
        .and_then(|()| operations.sync_file(&file))
        .and_then(|()| operations.rename(temporary, Place { directory, name }));
    if written.is_err() {
        // The first failure is the one to tell; what is left has a temporary's name.
        let _ = operations.remove_file(temporary);
    }
    written
}

/// The same, and after `Ok` the new bytes survive a power cut.
pub(crate) fn write_atomically(
    operations: &dyn FileOperations,
    directory: BorrowedFd<'_>,
    name: &str,
    bytes: &[u8],
    mode: u32,
) -> io::Result<()> {
    replace_whole(operations, directory, name, bytes, mode)?;
    operations.sync_directory(directory)
}

/// How often a file is looked for again that is moved away while it is opened.
const MOVES: u32 = 32;

/// Opens what lies below a directory. No component may be a symbolic link or lead out, whatever is swapped meanwhile.
pub(crate) fn open_beneath(directory: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut moved_away = 0;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match fs::openat2(directory, path, flags, Mode::empty(), resolve) {
            Ok(opened) => return Ok(opened),
            // A rename somewhere on the way.
            Err(Errno::AGAIN | Errno::INTR) => {}
            // What was found has been moved out of the directory before it was open, as a deletion does.
            Err(Errno::XDEV) if moved_away < MOVES => moved_away += 1,
            // An old kernel, or a sandbox that knows only the older calls.
            Err(Errno::NOSYS | Errno::PERM) => return walk_beneath(directory, path, flags),
            Err(error) => return Err(error.into()),
        }
    }
}

fn walk_beneath(directory: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (parents, name) = path.rsplit_once('/').map_or((None, path), |(parents, name)| (Some(parents), name));
    let mut current = None::<OwnedFd>;
    for parent in parents.into_iter().flat_map(|parents| parents.split('/')) {
        if matches!(parent, "" | "..") {
            return Err(Errno::XDEV.into());
        }
        let from = current.as_ref().map_or(directory, |fd| fd.as_fd());
        current = Some(retry_on_intr(|| fs::openat(from, parent, step, Mode::empty()))?);
    }
    let from = current.as_ref().map_or(directory, |fd| fd.as_fd());
    if name == ".." {
        return Err(Errno::XDEV.into());
    }
    Ok(retry_on_intr(|| fs::openat(from, name, flags, Mode::empty()))?)
}

/// Opens a directory below another one.
pub(crate) fn open_directory(directory: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    open_beneath(directory, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens a directory of this name, made if it is missing; its name is durable afterwards, whoever made it.
pub(crate) fn make_and_open(operations: &dyn FileOperations, place: Place<'_>) -> io::Result<OwnedFd> {
    operations.make_directory(place, DIRECTORY_MODE)?;
    // Also when it was there: who made it may not have come to this yet.
    operations.sync_directory(place.directory)?;
    open_directory(place.directory, place.name)
}

/// Opens the root directory of a store, made with its parents if it is missing. The path to it may go through symbolic
/// links: it is the operator's word.
pub(crate) fn open_root(operations: &dyn FileOperations, root: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match retry_on_intr(|| fs::open(root, flags, Mode::empty())) {
        Ok(opened) => return Ok(opened),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = if parent == root { return Err(Errno::NOENT.into()) } else { open_root(operations, parent)? };
    let Some(name) = root.file_name().and_then(OsStr::to_str) else {
        let message = "the last component of the path is not a name in UTF-8";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    };
    make_and_open(operations, Place { directory: parent.as_fd(), name })
}

/// Opens a file for reading and writing, made empty if it is missing.
pub(crate) fn open_or_make(place: Place<'_>) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(FILE_MODE);
    Ok(retry_on_intr(|| fs::openat(place.directory, place.name, flags, mode))?.into())
}

/// A lock on a file, held until dropped, against other processes as well as other holders in this one. It also ends
/// with the process.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// The file that is locked.
    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

/// Waits for a lock on the file of this name, made if it is missing. Blocks the thread.
pub(crate) fn lock(place: Place<'_>, kind: FlockOperation) -> io::Result<Lock> {
    let file = open_or_make(place)?;
    retry_on_intr(|| fs::flock(&file, kind))?;
    Ok(Lock(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (std::path::PathBuf, OwnedFd) {
        let path = std::env::temp_dir().join(format!("anycloud-{}", random::uuid()));
        let root = open_root(&System, &path).unwrap();
        (path, root)
    }

    #[test]
    fn a_written_file_has_its_bytes_and_mode_and_leaves_no_temporary() {
        use std::os::unix::fs::PermissionsExt as _;
        let (path, root) = scratch();
        for bytes in [b"old".as_slice(), b"newer"] {
            write_atomically(&System, root.as_fd(), "record", bytes, 0o640).unwrap();
            assert_eq!(std::fs::read(path.join("record")).unwrap(), bytes);
        }
        assert_eq!(path.join("record").metadata().unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn no_way_leads_out_of_a_directory() {
        let (path, root) = scratch();
        std::fs::create_dir_all(path.join("inner/deep")).unwrap();
        std::fs::write(path.join("inner/deep/file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", path.join("inner/link")).unwrap();
        let inner = open_directory(root.as_fd(), "inner").unwrap();
        for open in [open_beneath, walk_beneath] {
            assert!(open(inner.as_fd(), "deep/file", OFlags::RDONLY | OFlags::NOFOLLOW).is_ok());
            for way in ["../inner/deep/file", "deep/../../x", "link/passwd", "link", "..", "/etc/passwd"] {
                assert!(open(inner.as_fd(), way, OFlags::RDONLY | OFlags::NOFOLLOW).is_err(), "{way}");
            }
        }
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_lock_keeps_others_out_until_it_is_dropped() {
        let (path, root) = scratch();
        let place = Place { directory: root.as_fd(), name: "lock" };
        let held = lock(place, FlockOperation::LockExclusive).unwrap();
        let refused = lock(place, FlockOperation::NonBlockingLockExclusive).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        assert!(lock(place, FlockOperation::NonBlockingLockExclusive).is_ok());
        std::fs::remove_dir_all(path).unwrap();
    }
}
