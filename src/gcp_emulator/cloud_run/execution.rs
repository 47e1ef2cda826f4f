//! Executions.
//!
//! <https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs.executions>

use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::failure::Failure;
use super::super::wire::{duration, now, uuid, without_defaults};
use super::condition::{Verdict, condition};
use super::job::Job;
use super::task::{Phase, Task};
use super::{check_etag, container, new_etag};

/// Why the rest of an execution does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    No,
    Cancelled,
    Deleted,
    /// Another task failed for good.
    Failed,
}

/// An execution.
#[derive(Debug)]
pub(super) struct Execution {
    pub(super) name: String,
    pub(super) job: String,
    pub(super) order: u64,
    pub(super) created: String,
    pub(super) tasks: Vec<Task>,
    pub(super) parallelism: usize,
    uid: String,
    etag: String,
    generation: u64,
    fields: Value,
    template: Value,
    started: Option<String>,
    completed: Option<String>,
    halt: watch::Sender<Halt>,
}

impl Execution {
    /// An execution of `job` as it is now, with the overrides of the run.
    pub(super) fn new(name: String, job: &Job, overrides: Option<&Value>, order: u64) -> Result<Self, Failure> {
        let outer = job.template();
        let mut template = outer["template"].clone();
        let mut count = outer["taskCount"].as_u64().unwrap_or(1);
        if let Some(overrides) = overrides {
            container::apply_overrides(&mut template, overrides)?;
            count = overrides["taskCount"].as_u64().filter(|count| *count > 0).unwrap_or(count);
            if let Some(timeout) = overrides["timeout"].as_str() {
                if duration(timeout).is_none() {
                    return Err(Failure::invalid("overrides.timeout: not a duration."));
                }
                template["timeout"] = json!(timeout);
            }
        }
        // https://cloud.google.com/run/quotas: tasks per execution
        if count > 10_000 {
            return Err(Failure::invalid("taskCount: at most 10000."));
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Ok(Self {
            name,
            job: job.name.rsplit('/').next().unwrap_or("").to_owned(),
            order,
            created: now(),
            tasks: (0..count).map(Task::new).collect(),
            parallelism: outer["parallelism"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
            uid: uuid(),
            etag: new_etag(),
            generation: job.generation(),
            fields: json!({"labels": outer["labels"], "annotations": outer["annotations"]}),
            template,
            started: None,
            completed: None,
            halt: watch::Sender::new(Halt::No),
        })
    }

    pub(super) fn template(&self) -> &Value {
        &self.template
    }

    pub(super) fn check_etag(&self, given: Option<&str>) -> Result<(), Failure> {
        check_etag(&self.etag, given)
    }

    pub(super) fn is_over(&self) -> bool {
        self.completed.is_some()
    }

    /// Ends what has not ended; the first reason counts.
    pub(super) fn halt(&mut self, why: Halt) {
        self.halt.send_if_modified(|halt| {
            let first = *halt == Halt::No;
            if first {
                *halt = why;
            }
            first
        });
        self.etag = new_etag();
    }

    pub(super) fn halting(&self) -> watch::Receiver<Halt> {
        self.halt.subscribe()
    }

    pub(super) fn start(&mut self) {
        self.started.get_or_insert_with(now);
    }

    pub(super) fn complete(&mut self) {
        self.completed = Some(now());
        self.etag = new_etag();
    }

    fn count(&self, phase: Phase) -> usize {
        self.tasks.iter().filter(|task| task.phase == phase).count()
    }

    /// Why the execution failed; none when it succeeded, was cancelled or still runs.
    pub(super) fn failure(&self) -> Option<String> {
        let failed = self.tasks.iter().find(|task| task.phase == Phase::Failed)?;
        self.completed.as_ref()?;
        Some(format!("Task {} failed with message: {}", failed.short_name(self), failed.message()))
    }

    pub(super) fn tasks_json(&self) -> Vec<Value> {
        self.tasks.iter().map(|task| task.json(self)).collect()
    }

    /// The `Completed` condition says how an execution ended; cancelled ones fail with the reason
    /// CANCELLED: <https://cloud.google.com/run/docs/reference/rest/v2/Condition#ExecutionReason>.
    fn conditions(&self) -> Vec<Value> {
        let at = self.completed.as_ref().or(self.started.as_ref()).unwrap_or(&self.created);
        let stopped = self.count(Phase::Cancelled) > 0;
        let cancelled = *self.halt.borrow() == Halt::Cancelled;
        let completed = if !self.is_over() {
            let reason = cancelled.then_some(("executionReason", "CANCELLING"));
            condition("Completed", Verdict::Reconciling, at, "", reason)
        } else if let Some(message) = self.failure() {
            let reason = Some(("executionReason", "NON_ZERO_EXIT_CODE"));
            condition("Completed", Verdict::Failed, at, &message, reason)
        } else if stopped {
            let reason = Some(("executionReason", "CANCELLED"));
            condition("Completed", Verdict::Failed, at, "Execution was cancelled.", reason)
        } else {
            condition("Completed", Verdict::Succeeded, at, "Execution completed successfully.", None)
        };
        let mut all = vec![completed, condition("ResourcesAvailable", Verdict::Succeeded, &self.created, "", None)];
        if let Some(started) = &self.started {
            all.push(condition("Started", Verdict::Succeeded, started, "", None));
        }
        all
    }

    pub(super) fn json(&self) -> Value {
        without_defaults(json!({
            "name": self.name,
            "uid": self.uid,
            "creator": "emulator@example.com",
            "generation": self.generation.to_string(),
            "observedGeneration": self.generation.to_string(),
            "labels": self.fields["labels"],
            "annotations": self.fields["annotations"],
            "createTime": self.created,
            "startTime": self.started,
            "completionTime": self.completed,
            "updateTime": self.completed.as_ref().or(self.started.as_ref()).unwrap_or(&self.created),
            "launchStage": "GA",
            "job": self.job,
            "parallelism": self.parallelism,
            "taskCount": self.tasks.len(),
            "template": self.template,
            "reconciling": !self.is_over(),
            "conditions": self.conditions(),
            "runningCount": self.count(Phase::Running),
            "succeededCount": self.count(Phase::Succeeded),
            "failedCount": self.count(Phase::Failed),
            "cancelledCount": self.count(Phase::Cancelled),
            "retriedCount": self.tasks.iter().filter(|task| task.retried > 0).count(),
            "etag": self.etag,
        }))
    }
}
