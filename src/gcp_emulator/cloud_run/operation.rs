//! Long-running operations.
//!
//! <https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.operations>

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::wire::without_defaults;
use super::execution::Execution;

/// An operation.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// What an operation is about.
#[derive(Debug)]
pub(super) enum Kind {
    /// Done when it was begun.
    Done(Value),
    /// Done when the execution is over.
    Run(String),
    /// Done when the execution is over.
    Cancel(String),
}

impl Kind {
    pub(super) fn done(message: &str, value: Value) -> Self {
        Self::Done(packed(message, value))
    }
}

/// <https://protobuf.dev/programming-guides/json/#any>
fn packed(message: &str, mut value: Value) -> Value {
    value["@type"] = json!(format!("type.googleapis.com/google.cloud.run.v2.{message}"));
    value
}

impl Operation {
    pub(super) fn json(&self, executions: &BTreeMap<String, Execution>) -> Value {
        let (name, run) = match &self.kind {
            Kind::Done(value) => {
                return json!({
                    "name": self.name, "metadata": value, "done": true, "response": value,
                });
            }
            Kind::Run(name) => (name, true),
            Kind::Cancel(name) => (name, false),
        };
        let Some(execution) = executions.get(name) else {
            return json!({
                "name": self.name,
                "done": true,
                "error": {"code": 5, "message": "The execution was deleted."},
            });
        };
        let value = packed("Execution", execution.json());
        let mut answer = json!({
            "name": self.name, "metadata": value, "done": execution.is_over(),
        });
        if execution.is_over() {
            // A cancelled execution ends without an error, a failed one with it:
            // https://github.com/apache/airflow/pull/67050. Which code is not documented.
            match execution.failure().filter(|_| run) {
                Some(message) => answer["error"] = json!({"code": 2, "message": message}),
                None => answer["response"] = value,
            }
        }
        without_defaults(answer)
    }
}
