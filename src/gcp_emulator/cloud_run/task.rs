//! Tasks of an execution.
//!
//! <https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs.executions.tasks>

use serde_json::{Value, json};

use super::super::wire::{now, uuid, without_defaults};
use super::condition::{Verdict, condition};
use super::execution::Execution;

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// A value of `google.rpc.Code`.
    pub(super) code: i32,
    pub(super) message: String,
    pub(super) exit: Option<i32>,
    pub(super) signal: Option<i32>,
}

/// A task.
#[derive(Debug)]
pub(super) struct Task {
    index: usize,
    uid: String,
    pub(super) phase: Phase,
    pub(super) retried: u32,
    started: Option<String>,
    completed: Option<String>,
    last: Option<Attempt>,
}

impl Task {
    pub(super) fn new(index: usize) -> Self {
        Self { index, uid: uuid(), phase: Phase::Pending, retried: 0, started: None, completed: None, last: None }
    }

    /// Starts an attempt.
    pub(super) fn start(&mut self, attempt: u32) {
        self.phase = Phase::Running;
        self.retried = attempt;
        self.started.get_or_insert_with(now);
    }

    /// Records how an attempt ended.
    pub(super) fn record(&mut self, attempt: Attempt) {
        self.last = Some(attempt);
    }

    /// Ends the task.
    pub(super) fn end(&mut self, phase: Phase) {
        self.phase = phase;
        self.completed = Some(now());
    }

    /// What the last attempt says of a failed task.
    pub(super) fn message(&self) -> &str {
        self.last.as_ref().map_or("", |attempt| attempt.message.as_str())
    }

    pub(super) fn short_name(&self, execution: &Execution) -> String {
        let own = execution.name.rsplit('/').next().unwrap_or("");
        format!("{own}-task{}", self.index)
    }

    pub(super) fn json(&self, execution: &Execution) -> Value {
        let at = self.completed.as_ref().or(self.started.as_ref()).unwrap_or(&execution.created);
        let (verdict, message, reason) = match self.phase {
            Phase::Pending | Phase::Running => (Verdict::Reconciling, "", None),
            Phase::Succeeded => (Verdict::Succeeded, "", None),
            Phase::Failed => (Verdict::Failed, self.message(), Some(("executionReason", "NON_ZERO_EXIT_CODE"))),
            Phase::Cancelled => (Verdict::Failed, "Cancelled.", Some(("executionReason", "CANCELLED"))),
        };
        let mut conditions = vec![condition("Completed", verdict, at, message, reason)];
        if let Some(started) = &self.started {
            conditions.push(condition("Started", Verdict::Succeeded, started, "", None));
        }
        let template = execution.template();
        without_defaults(json!({
            "name": format!("{}/tasks/{}", execution.name, self.short_name(execution)),
            "uid": self.uid,
            "generation": "1",
            "observedGeneration": "1",
            "createTime": execution.created,
            "scheduledTime": execution.created,
            "startTime": self.started,
            "completionTime": self.completed,
            "updateTime": at,
            "job": execution.job,
            "execution": execution.name,
            "containers": template["containers"],
            "maxRetries": template["maxRetries"],
            "timeout": template["timeout"],
            "reconciling": matches!(self.phase, Phase::Pending | Phase::Running),
            "conditions": conditions,
            "index": self.index,
            "retried": self.retried,
            "lastAttemptResult": self.last.as_ref().map(Attempt::json),
        }))
    }
}

impl Attempt {
    /// At most one of the exit code and the signal is set:
    /// <https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs.executions.tasks#TaskAttemptResult>.
    fn json(&self) -> Value {
        without_defaults(json!({
            "status": without_defaults(json!({"code": self.code, "message": self.message})),
            "exitCode": self.exit,
            "termSignal": self.signal,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_and_an_exit_code_exclude_each_other() {
        let killed = Attempt { code: 2, message: "x".into(), exit: None, signal: Some(9) }.json();
        assert_eq!(killed["termSignal"], 9);
        assert!(killed.get("exitCode").is_none());
    }

    #[test]
    fn success_is_an_empty_status() {
        let fine = Attempt { code: 0, message: String::new(), exit: Some(0), signal: None }.json();
        assert_eq!(fine, json!({"status": {}}));
    }
}
