//! Every parser of the crate, reached the way its input comes: from a file, an environment, a request or an answer.
//!
//! A target panics when a parser does, or when what was accepted does not come back. The suite replays `corpus/` and
//! plays mutations of it; `cargo fuzz run --sanitizer none NAME` searches for more, with feedback from coverage.

pub mod files;
pub mod names;
pub mod servers;

use std::sync::LazyLock;

use tokio::runtime::Runtime;

/// What is done with an input.
pub type Target = fn(&[u8]);

/// All targets by name, which is also that of the corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("names", names::names),
    ("configuration", names::configuration),
    ("object_file", files::object_file),
    ("object_tree", files::object_tree),
    ("secret_file", files::secret_file),
    ("job_files", files::job_files),
    ("csv", files::csv),
    ("parquet", files::parquet),
    ("signed_url", servers::signed_url),
    ("storage_answer", servers::storage_answer),
    #[cfg(feature = "aws")]
    ("s3_answer", servers::s3_answer),
    ("emulator_filter", servers::emulator_filter),
];

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// A directory of this process, in memory where that is possible.
fn root(name: &str) -> std::path::PathBuf {
    let shared = std::path::Path::new("/dev/shm");
    let base = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
    base.join(format!("anycloud-parsers-{}", std::process::id())).join(name)
}

/// Removes what the targets have left on disk.
pub fn clean() {
    let _ = std::fs::remove_dir_all(root(""));
}
