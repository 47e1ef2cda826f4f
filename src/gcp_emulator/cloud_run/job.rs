//! Jobs.
//!
//! <https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs#Job>

use serde_json::{Map, Value, json};

use super::super::failure::Failure;
use super::super::wire::{now, uuid, without_defaults};
use super::condition::{Verdict, condition};
use super::execution::Execution;
use super::{check_etag, container, new_etag};

/// What a caller sets.
const SETTABLE: [&str; 6] = ["labels", "annotations", "client", "clientVersion", "launchStage", "template"];

/// A job.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) name: String,
    fields: Map<String, Value>,
    uid: String,
    generation: u64,
    created: String,
    updated: String,
    etag: String,
    executions: u32,
    latest: Option<Value>,
}

impl Job {
    pub(super) fn new(name: String, fields: Map<String, Value>) -> Result<Self, Failure> {
        let at = now();
        Ok(Self {
            name,
            fields: complete(fields)?,
            uid: uuid(),
            generation: 1,
            created: at.clone(),
            updated: at,
            etag: new_etag(),
            executions: 0,
            latest: None,
        })
    }

    pub(super) fn check_etag(&self, given: Option<&str>) -> Result<(), Failure> {
        check_etag(&self.etag, given)
    }

    /// A patch replaces the whole job: the method has no update mask.
    ///
    /// <https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs/patch>
    pub(super) fn replace(&mut self, fields: Map<String, Value>) -> Result<(), Failure> {
        self.check_etag(fields.get("etag").and_then(Value::as_str))?;
        self.fields = complete(fields)?;
        self.generation += 1;
        self.updated = now();
        self.etag = new_etag();
        Ok(())
    }

    /// The execution template.
    pub(super) fn template(&self) -> &Value {
        &self.fields["template"]
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn created_execution(&mut self, execution: &Execution) {
        self.executions += 1;
        let short = execution.name.rsplit('/').next().unwrap_or("");
        self.latest = Some(json!({"name": short, "createTime": execution.created}));
    }

    pub(super) fn json(&self) -> Value {
        let ready = condition("Ready", Verdict::Succeeded, &self.updated, "", None);
        let mut fields = self.fields.clone();
        let own = json!({
            "name": self.name,
            "uid": self.uid,
            "generation": self.generation.to_string(),
            "observedGeneration": self.generation.to_string(),
            "createTime": self.created,
            "updateTime": self.updated,
            "creator": "emulator@example.com",
            "lastModifier": "emulator@example.com",
            "etag": self.etag,
            "executionCount": self.executions,
            "terminalCondition": ready,
            "latestCreatedExecution": self.latest,
        });
        if let Value::Object(own) = own {
            fields.extend(own);
        }
        fields.entry("launchStage").or_insert_with(|| json!("GA"));
        without_defaults(Value::Object(fields))
    }
}

fn complete(mut fields: Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    fields.retain(|name, value| SETTABLE.contains(&name.as_str()) && !value.is_null());
    let stage = fields.get("launchStage");
    if stage.is_some_and(|stage| !stage.is_string() || stage == "LAUNCH_STAGE_UNSPECIFIED") {
        fields.remove("launchStage");
    }
    let Some(template) = fields.get_mut("template").filter(|template| template.is_object()) else {
        return Err(Failure::invalid("template: must be specified."));
    };
    if !template["template"].is_object() {
        return Err(Failure::invalid("template.template: must be specified."));
    }
    // One task unless the job says otherwise:
    // https://cloud.google.com/run/docs/reference/rest/v2/ExecutionTemplate
    if template["taskCount"].as_u64().unwrap_or(0) == 0 {
        template["taskCount"] = json!(1);
    }
    container::complete(&mut template["template"])?;
    Ok(fields)
}
