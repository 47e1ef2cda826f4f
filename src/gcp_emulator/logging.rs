//! Cloud Logging v2 `entries:list`, over what tasks write.
//!
//! <https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list>

mod filter;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::wire::{Call, Reply, listing, page, without_defaults};
use filter::Filter;

/// The longest filter, as the method's page says.
const FILTER_LIMIT: usize = 20_000;

/// All entries, oldest first.
#[derive(Debug, Default)]
pub(super) struct Logs {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    project: String,
    json: Value,
}

/// The attempt that wrote a line.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) project: String,
    pub(super) location: String,
    pub(super) job: String,
    pub(super) execution: String,
    pub(super) index: usize,
    pub(super) attempt: u32,
}

impl Logs {
    /// Adds a line.
    ///
    /// Names, labels and the treatment of JSON lines:
    /// <https://cloud.google.com/run/docs/logging>.
    pub(super) fn write(&mut self, source: &Source, stream: &str, line: &str) {
        let at = Timestamp::now().to_string();
        let mut json = json!({
            "insertId": format!("{:016x}", self.entries.len()),
            "logName": format!("projects/{}/logs/run.googleapis.com%2F{stream}", source.project),
            "resource": {
                "type": "cloud_run_job",
                "labels": {
                    "project_id": source.project,
                    "location": source.location,
                    "job_name": source.job,
                },
            },
            "labels": {
                "run.googleapis.com/execution_name": source.execution,
                "run.googleapis.com/task_index": source.index.to_string(),
                "run.googleapis.com/task_attempt": source.attempt.to_string(),
            },
            "timestamp": at,
            "receiveTimestamp": at,
            "severity": "DEFAULT",
        });
        match serde_json::from_str::<Map<String, Value>>(line) {
            Ok(payload) => structured(&mut json, payload),
            Err(_) => json["textPayload"] = json!(line),
        }
        self.entries.push(Entry { project: source.project.clone(), json });
    }
}

/// The special fields of a JSON line are the entry's own; a lone message is its text.
///
/// <https://cloud.google.com/logging/docs/structured-logging#special-payload-fields>
fn structured(entry: &mut Value, mut payload: Map<String, Value>) {
    let severity = payload.get("severity").and_then(Value::as_str).map(str::to_uppercase);
    if let Some(severity) = severity.filter(|name| filter::severity(name).is_some()) {
        entry["severity"] = json!(severity);
        payload.remove("severity");
    }
    match payload.get("message") {
        Some(Value::String(text)) if payload.len() == 1 => entry["textPayload"] = json!(text),
        _ => entry["jsonPayload"] = Value::Object(payload),
    }
}

/// Serves `entries:list`.
pub(super) fn list(logs: &Logs, call: &Call) -> Result<Reply, Failure> {
    let request = call.json()?;
    let text = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or("");
    let mut projects: Vec<String> = Vec::new();
    for (field, prefix) in [("resourceNames", "projects/"), ("projectIds", "")] {
        for name in request.get(field).and_then(Value::as_array).into_iter().flatten() {
            let name = name.as_str().and_then(|name| name.strip_prefix(prefix));
            projects.extend(name.and_then(|name| name.split('/').next()).map(str::to_owned));
        }
    }
    if projects.is_empty() {
        return Err(Failure::invalid("resourceNames: must name at least one project."));
    }
    let filter = text("filter");
    if filter.len() > FILTER_LIMIT {
        return Err(Failure::invalid("filter: longer than 20000 characters."));
    }
    let filter = Filter::parse(filter)?;
    let newest_first = match text("orderBy") {
        "" | "timestamp" | "timestamp asc" => false,
        "timestamp desc" => true,
        _ => return Err(Failure::invalid("orderBy: 'timestamp asc' or 'timestamp desc'.")),
    };
    let size = match request.get("pageSize").map_or(Some(0), Value::as_i64) {
        None | Some(0) => 50,
        // "If the value is negative, the request is rejected", says the method's page.
        Some(size) => usize::try_from(size).map_err(|_| Failure::invalid("pageSize: must not be negative."))?.min(1000),
    };
    let mut found: Vec<&Entry> =
        logs.entries.iter().filter(|entry| projects.contains(&entry.project) && filter.takes(&entry.json)).collect();
    if newest_first {
        found.reverse();
    }
    let all = found.into_iter().map(|entry| without_default_severity(&entry.json)).collect();
    let token = Some(text("pageToken")).filter(|token| !token.is_empty());
    let (entries, next) = page(all, Some(size), size, token)?;
    Ok(Reply::json(&listing("entries", entries, next)))
}

/// DEFAULT is the zero of the enumeration, which the JSON form leaves out.
fn without_default_severity(entry: &Value) -> Value {
    let mut entry = entry.clone();
    if entry["severity"] == "DEFAULT" {
        entry["severity"] = Value::Null;
    }
    without_defaults(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &str) -> Value {
        let mut logs = Logs::default();
        let source = Source {
            project: "p".into(),
            location: "l".into(),
            job: "j".into(),
            execution: "j-abcde".into(),
            index: 0,
            attempt: 0,
        };
        logs.write(&source, "stdout", line);
        logs.entries.remove(0).json
    }

    #[test]
    fn a_plain_line_is_text() {
        let entry = written("hello");
        assert_eq!(entry["textPayload"], "hello");
        assert_eq!(entry["labels"]["run.googleapis.com/execution_name"], "j-abcde");
    }

    #[test]
    fn a_json_line_keeps_its_fields_and_gives_the_severity() {
        let entry = written(r#"{"severity": "error", "message": "no", "step": 3}"#);
        assert_eq!(entry["severity"], "ERROR");
        assert_eq!(entry["jsonPayload"], json!({"message": "no", "step": 3}));
    }

    #[test]
    fn a_lone_message_becomes_the_text() {
        let entry = written(r#"{"severity": "INFO", "message": "yes"}"#);
        assert_eq!(entry["textPayload"], "yes");
    }
}
