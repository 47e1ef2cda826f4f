//! The policies of the documentation, filled in and taken apart.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::calls::Scene;

/// A policy and the operations that it is for.
pub(crate) struct Policy {
    pub(crate) name: &'static str,
    text: &'static str,
    /// The operations that it is for; none stands for all.
    operations: Option<&'static [&'static str]>,
}

pub(crate) const WEB_APPLICATION: Policy =
    Policy { name: "web_application", text: include_str!("../../docs/iam/web-application.json"), operations: None };

/// A job reads its payload, data and secrets, and writes checkpoints and its result, of any size.
pub(crate) const TRAINING_TASK: Policy = Policy {
    name: "training_task",
    text: include_str!("../../docs/iam/training-task.json"),
    operations: Some(&[
        "object_store.put",
        "object_store.put create-only",
        "object_store.start_upload, finished",
        "object_store.start_upload, aborted",
        "object_store.get",
        "object_store.head",
        "object_store.list",
        "object_store.copy",
        "object_store.sign",
        "secret_store.get",
    ]),
};

pub(crate) const REGION: &str = "us-east-1";
/// moto's only account.
pub(crate) const ACCOUNT: &str = "123456789012";

impl Policy {
    /// The policy for these names.
    pub(crate) fn filled(&self, scene: &Scene) -> Value {
        let text = self
            .text
            .replace("BUCKET", &scene.name)
            .replace("REGION", REGION)
            .replace("ACCOUNT", ACCOUNT)
            .replace("CLUSTER", &scene.name)
            .replace("FAMILY", &scene.name)
            .replace("SERVICE", &scene.name)
            .replace("EXECUTION-ROLE", "execution")
            .replace("TASK-ROLE", "task")
            .replace("LOG-GROUP", &scene.name);
        serde_json::from_str(&text).expect("the policy is JSON")
    }

    /// Whether it is for this operation.
    pub(crate) fn is_for(&self, operation: &str) -> bool {
        self.operations.is_none_or(|names| names.contains(&operation))
    }

    /// All actions, in order.
    pub(crate) fn actions(&self) -> Vec<String> {
        let all: BTreeSet<String> = self.statements().into_iter().flat_map(|(_, actions)| actions).collect();
        all.into_iter().collect()
    }

    /// The statements, by their names, with their actions.
    pub(crate) fn statements(&self) -> Vec<(String, BTreeSet<String>)> {
        let policy: Value = serde_json::from_str(self.text).expect("the policy is JSON");
        let statements = policy["Statement"].as_array().expect("the policy has statements");
        statements.iter().map(|statement| (text(&statement["Sid"]), strings(&statement["Action"]))).collect()
    }

    /// What `keep` leaves of the policy, in the form that moto can judge; see [`gaps`](super::gaps).
    pub(crate) fn for_moto(&self, scene: &Scene, keep: impl Fn((&str, &str)) -> bool) -> Value {
        let mut statements = Vec::new();
        for statement in self.filled(scene)["Statement"].as_array().expect("the policy has statements") {
            let sid = text(&statement["Sid"]);
            let actions: Vec<String> =
                strings(&statement["Action"]).into_iter().filter(|action| keep((&sid, action))).collect();
            let mut resources = strings(&statement["Resource"]);
            if !actions.iter().all(|action| action.starts_with("s3:")) {
                resources = BTreeSet::from(["*".to_owned()]);
            } else if actions.iter().any(|action| action == "s3:DeleteObject") {
                statements.push(json!({
                    "Effect": "Allow", "Action": "s3:DeleteObject", "Resource": format!("arn:aws:s3:::{}", scene.name),
                }));
            }
            if !actions.is_empty() {
                statements.push(json!({ "Effect": "Allow", "Action": actions, "Resource": resources }));
            }
        }
        json!({ "Version": "2012-10-17", "Statement": statements })
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn strings(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        value => BTreeSet::from([text(value)]),
    }
}
