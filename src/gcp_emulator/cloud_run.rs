//! Cloud Run Admin v2: jobs, executions, tasks and operations.
//!
//! <https://cloud.google.com/run/docs/reference/rest>

mod condition;
mod container;
mod drive;
mod execution;
mod job;
mod operation;
mod process;
mod task;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::failure::Failure;
use super::server::{Shared, lock};
use super::wire::{Call, Reply, duration, listing, page, random_suffix};
use execution::{Execution, Halt};
use job::Job;
use operation::{Kind, Operation};

/// The service.
#[derive(Debug)]
pub(super) struct CloudRun {
    state: Mutex<State>,
    /// Told at every change, for those that wait for an operation.
    changed: watch::Sender<()>,
    /// The process groups that run, so that none outlives the server.
    groups: Mutex<HashSet<i32>>,
}

impl Default for CloudRun {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(()), groups: Mutex::default() }
    }
}

#[derive(Debug, Default)]
struct State {
    jobs: BTreeMap<String, Job>,
    executions: BTreeMap<String, Execution>,
    operations: BTreeMap<String, Operation>,
    created: u64,
}

impl CloudRun {
    /// Adds a job of the configuration.
    pub(super) fn add_job(&self, name: &str, job: Value) -> Result<(), Failure> {
        let fields = job.as_object().cloned().unwrap_or_default();
        let job = Job::new(name.to_owned(), fields)?;
        lock(&self.state).jobs.insert(name.to_owned(), job);
        Ok(())
    }

    /// Ends every execution and kills what still runs.
    pub(super) fn kill_everything(&self) {
        // Halted first, so that no killed task is retried.
        for execution in lock(&self.state).executions.values_mut() {
            execution.halt(Halt::Deleted);
        }
        for group in lock(&self.groups).drain() {
            signal(group, Signal::KILL);
        }
    }

    fn tell(&self) {
        self.changed.send_replace(());
    }
}

/// Signals a whole process group; a group that is gone is no error.
fn signal(group: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(group) {
        let _ = kill_process_group(pid, signal);
    }
}

/// Serves a call.
pub(super) async fn call(shared: &Arc<Shared>, call: &Call) -> Result<Reply, Failure> {
    let action = call.id.strip_prefix("run.projects.locations.").unwrap_or(call.id);
    if action == "operations.wait" {
        return wait(shared, call).await;
    }
    let state = &mut *lock(&shared.run.state);
    let name = call.name.as_str();
    let answer = match action {
        "jobs.create" => state.create_job(call)?,
        "jobs.list" => {
            let jobs = state.jobs.values().filter(|job| belongs(&job.name, name));
            let mut jobs: Vec<&Job> = jobs.collect();
            jobs.sort_by(|a, b| a.name.cmp(&b.name));
            paged(call, "jobs", jobs.into_iter().map(Job::json).collect())?
        }
        "jobs.get" => state.job(name)?.json(),
        "jobs.patch" => state.patch_job(call)?,
        "jobs.delete" => state.delete_job(call)?,
        "jobs.run" => {
            let (answer, started) = state.run_job(call)?;
            if let Some(execution) = started {
                tokio::spawn(drive::drive(Arc::clone(shared), execution));
            }
            answer
        }
        "jobs.executions.list" => {
            // Newest first: https://cloud.google.com/run/docs/managing/job-executions
            let mut all: Vec<&Execution> = state.executions.values().filter(|one| belongs(&one.name, name)).collect();
            all.sort_by_key(|one| std::cmp::Reverse(one.order));
            paged(call, "executions", all.into_iter().map(Execution::json).collect())?
        }
        "jobs.executions.get" => state.execution(name)?.json(),
        "jobs.executions.cancel" => state.cancel(call)?,
        "jobs.executions.delete" => state.delete_execution(call)?,
        "jobs.executions.tasks.list" => paged(call, "tasks", state.execution(call.parent())?.tasks_json())?,
        "jobs.executions.tasks.get" => {
            let execution = name.rsplitn(3, '/').nth(2).unwrap_or("");
            let task = state.execution(execution)?.tasks_json().into_iter();
            task.into_iter().find(|task| task["name"] == name).ok_or_else(|| missing(name))?
        }
        "operations.get" => state.operation(name)?,
        "operations.list" => {
            let names: Vec<String> = state.operations.keys().filter(|one| belongs(one, name)).cloned().collect();
            let all = names.iter().filter_map(|one| state.operation(one).ok()).collect();
            paged(call, "operations", all)?
        }
        "operations.delete" => {
            state.operations.remove(name).ok_or_else(|| missing(name))?;
            json!({})
        }
        _ => return Err(Failure::unimplemented("This emulator does not serve the method.")),
    };
    shared.run.tell();
    Ok(Reply::json(&answer))
}

/// <https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.operations/wait>: an
/// answer when the operation is done or after the time, whichever is first.
async fn wait(shared: &Arc<Shared>, call: &Call) -> Result<Reply, Failure> {
    let request = call.json()?;
    let limit = request.get("timeout").and_then(Value::as_str).and_then(duration);
    let end = tokio::time::Instant::now() + limit.unwrap_or(Duration::from_secs(30));
    let mut changes = shared.run.changed.subscribe();
    loop {
        changes.mark_unchanged();
        let operation = lock(&shared.run.state).operation(&call.name)?;
        if operation["done"] == true {
            return Ok(Reply::json(&operation));
        }
        if tokio::time::timeout_at(end, changes.changed()).await.is_err() {
            return Ok(Reply::json(&operation));
        }
    }
}

impl State {
    fn job(&self, name: &str) -> Result<&Job, Failure> {
        self.jobs.get(name).ok_or_else(|| missing(name))
    }

    fn execution(&self, name: &str) -> Result<&Execution, Failure> {
        self.executions.get(name).ok_or_else(|| missing(name))
    }

    fn operation(&self, name: &str) -> Result<Value, Failure> {
        let operation = self.operations.get(name).ok_or_else(|| missing(name))?;
        Ok(operation.json(&self.executions))
    }

    /// Starts an operation under the location of `resource`.
    fn begin(&mut self, resource: &str, kind: Kind) -> Value {
        let location: Vec<&str> = resource.split('/').take(4).collect();
        let name = format!("{}/operations/{}", location.join("/"), super::wire::uuid());
        let operation = Operation { name: name.clone(), kind };
        let answer = operation.json(&self.executions);
        self.operations.insert(name, operation);
        answer
    }

    fn create_job(&mut self, call: &Call) -> Result<Value, Failure> {
        // https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs/create
        let id = call.query("jobId").unwrap_or("");
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let first = id.chars().next().is_some_and(|c| c.is_ascii_lowercase());
        if !first || id.len() > 63 || id.ends_with('-') || !id.chars().all(valid) {
            return Err(Failure::invalid(
                "The jobId must be lower-case letters, digits and hyphens, and begin with a letter.",
            ));
        }
        let name = format!("{}/{id}", call.name);
        let job = Job::new(name.clone(), call.json()?)?;
        if self.jobs.contains_key(&name) {
            return Err(Failure::exists(format!("Resource '{id}' already exists.")));
        }
        let answer = job.json();
        if call.query("validateOnly") != Some("true") {
            self.jobs.insert(name.clone(), job);
        }
        Ok(self.begin(&name, Kind::done("Job", answer)))
    }

    fn patch_job(&mut self, call: &Call) -> Result<Value, Failure> {
        let fields = call.json()?;
        match self.jobs.get_mut(&call.name) {
            Some(job) => job.replace(fields)?,
            None if call.query("allowMissing") == Some("true") => {
                self.jobs.insert(call.name.clone(), Job::new(call.name.clone(), fields)?);
            }
            None => return Err(missing(&call.name)),
        }
        let answer = self.job(&call.name)?.json();
        Ok(self.begin(&call.name, Kind::done("Job", answer)))
    }

    fn delete_job(&mut self, call: &Call) -> Result<Value, Failure> {
        let job = self.job(&call.name)?;
        job.check_etag(call.query("etag"))?;
        let mut answer = job.json();
        if call.query("validateOnly") != Some("true") {
            // Its executions go with it: https://cloud.google.com/run/docs/managing/jobs#delete
            answer["deleteTime"] = json!(super::wire::now());
            self.jobs.remove(&call.name);
            let start = format!("{}/executions", call.name);
            self.executions.retain(|name, execution| {
                let stays = !belongs(name, &start);
                if !stays {
                    execution.halt(Halt::Deleted);
                }
                stays
            });
        }
        Ok(self.begin(&call.name, Kind::done("Job", answer)))
    }

    /// <https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs/run>
    fn run_job(&mut self, call: &Call) -> Result<(Value, Option<String>), Failure> {
        let request = call.json()?;
        self.created += 1;
        let order = self.created;
        let job = self.jobs.get_mut(&call.name).ok_or_else(|| missing(&call.name))?;
        job.check_etag(request.get("etag").and_then(Value::as_str))?;
        let (_, short) = job.name.rsplit_once('/').unwrap_or(("", &job.name));
        let name = format!("{}/executions/{short}-{}", job.name, random_suffix(5));
        let execution = Execution::new(name.clone(), job, request.get("overrides"), order)?;
        if request.get("validateOnly") == Some(&Value::Bool(true)) {
            let answer = self.begin(&name, Kind::done("Execution", execution.json()));
            return Ok((answer, None));
        }
        job.created_execution(&execution);
        self.executions.insert(name.clone(), execution);
        Ok((self.begin(&name, Kind::Run(name.clone())), Some(name)))
    }

    /// <https://cloud.google.com/run/docs/execute/jobs#cancel-execution>
    fn cancel(&mut self, call: &Call) -> Result<Value, Failure> {
        let request = call.json()?;
        let execution = self.executions.get_mut(&call.name).ok_or_else(|| missing(&call.name))?;
        execution.check_etag(request.get("etag").and_then(Value::as_str))?;
        if execution.is_over() {
            // No page says so; the status is the one for a state that rules the call out:
            // https://cloud.google.com/apis/design/errors#handling_errors
            return Err(Failure::precondition("The execution is already complete."));
        }
        if request.get("validateOnly") != Some(&Value::Bool(true)) {
            execution.halt(Halt::Cancelled);
        }
        Ok(self.begin(&call.name, Kind::Cancel(call.name.clone())))
    }

    fn delete_execution(&mut self, call: &Call) -> Result<Value, Failure> {
        let execution = self.executions.get_mut(&call.name).ok_or_else(|| missing(&call.name))?;
        execution.check_etag(call.query("etag"))?;
        let mut answer = execution.json();
        if call.query("validateOnly") != Some("true") {
            answer["deleteTime"] = json!(super::wire::now());
            execution.halt(Halt::Deleted);
            self.executions.remove(&call.name);
        }
        Ok(self.begin(&call.name, Kind::done("Execution", answer)))
    }
}

/// Whether `name` is directly in the collection `parent`; `-` stands for any one part.
///
/// <https://google.aip.dev/159>
fn belongs(name: &str, parent: &str) -> bool {
    let mut own = name.split('/');
    let same = parent.split('/').all(|want| own.next().is_some_and(|have| want == "-" || want == have));
    same && own.count() == 1
}

fn paged(call: &Call, key: &str, all: Vec<Value>) -> Result<Value, Failure> {
    let (items, next) = page(all, call.number("pageSize")?, 100, call.query("pageToken"))?;
    Ok(listing(key, items, next))
}

fn missing(name: &str) -> Failure {
    Failure::not_found(format!("Resource '{name}' was not found."))
}

/// An etag that is not the current one aborts the call. <https://google.aip.dev/154>
fn check_etag(current: &str, given: Option<&str>) -> Result<(), Failure> {
    match given {
        Some(etag) if !etag.is_empty() && etag != current => {
            Err(Failure::aborted("The etag does not match the current one."))
        }
        _ => Ok(()),
    }
}

fn new_etag() -> String {
    format!("\"{:x}\"", fastrand::u64(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dash_stands_for_any_one_part() {
        let name = "projects/p/locations/l/jobs/j/executions/e";
        assert!(belongs(name, "projects/p/locations/l/jobs/j/executions"));
        assert!(belongs(name, "projects/p/locations/l/jobs/-/executions"));
        assert!(!belongs(name, "projects/p/locations/l/jobs"));
        assert!(!belongs(name, "projects/p/locations/l/jobs/other/executions"));
    }
}
