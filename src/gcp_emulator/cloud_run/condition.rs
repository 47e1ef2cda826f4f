//! Conditions of jobs, executions and tasks.
//!
//! <https://cloud.google.com/run/docs/reference/rest/v2/Condition>

use serde_json::{Value, json};

use super::super::wire::without_defaults;

/// The state of a condition.
#[derive(Clone, Copy)]
pub(super) enum Verdict {
    Reconciling,
    Succeeded,
    Failed,
}

/// A condition as JSON; `reason` is a field (`executionReason` or `reason`) and its value.
pub(super) fn condition(kind: &str, verdict: Verdict, at: &str, message: &str, reason: Option<(&str, &str)>) -> Value {
    let state = match verdict {
        Verdict::Reconciling => "CONDITION_RECONCILING",
        Verdict::Succeeded => "CONDITION_SUCCEEDED",
        Verdict::Failed => "CONDITION_FAILED",
    };
    let mut value = json!({
        "type": kind,
        "state": state,
        "message": message,
        "lastTransitionTime": at,
    });
    if let Some((field, name)) = reason {
        value[field] = json!(name);
    }
    without_defaults(value)
}
