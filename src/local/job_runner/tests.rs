//! What can be seen without processes: a supervisor here is what the test does in its place.

mod crash_states;
mod swapped;

use std::collections::HashMap;
use std::sync::Mutex;

use super::supervisor::{Charge, take_over};
use super::*;
use crate::JobState;
use crate::job_runner::TaskCounts;
use crate::local::FileStore;
use crate::local::file_operations::FileOperations;

/// A supervisor for every execution that asks for one. Whether any took over can be seen, and made to act.
#[derive(Default)]
struct Supervisors {
    charges: Mutex<HashMap<ExecutionId, Charge>>,
}

impl Supervisors {
    fn take_over(&self, directory: &Directory) -> Result<bool> {
        let charge = take_over(directory)?;
        let took = charge.is_some();
        self.charges.lock().unwrap().extend(charge.map(|charge| (directory.id().clone(), charge)));
        Ok(took)
    }

    fn charge(&self, id: &ExecutionId) -> Option<Charge> {
        self.charges.lock().unwrap().remove(id)
    }
}

fn job() -> JobName {
    JobName::new("job").unwrap()
}

fn request(key: &str) -> JobRequest {
    JobRequest { idempotency_key: Some(IdempotencyKey::new(key).unwrap()), ..JobRequest::default() }
}

/// A runner whose supervisors are started by a function.
fn runner(
    root: &Path,
    operations: Arc<dyn FileOperations>,
    start: impl Fn(&Directory) -> Result<()> + Send + Sync + 'static,
) -> ProcessRunner {
    let definition = LocalJob { command: vec!["/bin/true".to_owned()], ..LocalJob::default() };
    let mut config = crate::Config::local(root).with_local_job(job(), definition).local;
    // Only has to be there.
    config.supervisor = Some(PathBuf::from("/proc/self/exe"));
    ProcessRunner::new(&config, Arc::new(FileStore::new(root, "main")))
        .with_operations(operations, Arc::new(move |_, directory, _| start(directory)))
}

fn counts(running: u32, succeeded: u32) -> TaskCounts {
    TaskCounts { total: 1, running, succeeded, ..TaskCounts::default() }
}
