//! Somebody who swaps directories for symbolic links while a store is at work.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Swaps until it is stopped.
pub(super) struct Swapping {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Swapping {
    /// Each of these directories, in turn, is for a moment a link to another one.
    pub(super) fn start(swapped: Vec<(PathBuf, PathBuf)>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut swaps = 0;
            for (real, other) in swapped.iter().cycle() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let aside = real.with_file_name("aside");
                if std::fs::rename(real, &aside).is_ok() {
                    let _ = std::os::unix::fs::symlink(other, real);
                    std::thread::sleep(Duration::from_micros(20));
                    let _ = std::fs::remove_file(real);
                    while std::fs::rename(&aside, real).is_err() {
                        // The store has made it anew.
                        let _ = std::fs::remove_dir_all(real);
                    }
                    swaps += 1;
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
            swaps
        });
        Self { stop, thread }
    }

    /// Ends it, with everything in its place, and returns how often it has swapped.
    pub(super) fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
