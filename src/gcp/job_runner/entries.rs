//! Log entries: which to ask for, and what line each is. Pure.

use std::time::SystemTime;

use google_cloud_logging_v2::model::LogEntry;
use google_cloud_logging_v2::model::log_entry::Payload;

use super::name::Name;
use crate::job_runner::{LogLine, LogStream};

/// Entries of equal time are told apart, and ordered, by the second part.
pub(super) type Place = (SystemTime, String);

/// What tasks of this execution wrote: not the platform's own remarks about it. <https://cloud.google.com/run/docs/logging>
pub(super) fn filter(project: &str, region: &str, name: &Name) -> String {
    let Name { job, execution } = name;
    let log = |stream: &str| format!("logName=\"projects/{project}/logs/run.googleapis.com%2F{stream}\"");
    format!(
        "resource.type=\"cloud_run_job\" AND resource.labels.job_name=\"{job}\" AND resource.labels.location=\"{region}\" \
         AND labels.\"run.googleapis.com/execution_name\"=\"{execution}\" AND ({} OR {})",
        log("stdout"),
        log("stderr"),
    )
}

/// The same from a time on.
pub(super) fn filter_since(filter: &str, since: SystemTime) -> String {
    match jiff::Timestamp::try_from(since) {
        Ok(since) => format!("{filter} AND timestamp>=\"{since}\""),
        Err(_) => filter.to_owned(),
    }
}

pub(super) fn place(entry: &LogEntry) -> Place {
    let time = entry.timestamp.or(entry.receive_timestamp).and_then(|time| SystemTime::try_from(time).ok());
    (time.unwrap_or(SystemTime::UNIX_EPOCH), entry.insert_id.clone())
}

pub(super) fn line(entry: &LogEntry) -> LogLine {
    let stream = match entry.log_name.rsplit("%2F").next() {
        Some("stdout") => LogStream::Stdout,
        Some("stderr") => LogStream::Stderr,
        _ => LogStream::Unknown,
    };
    let text = match &entry.payload {
        Some(Payload::TextPayload(text)) => text.strip_suffix('\n').unwrap_or(text).to_owned(),
        Some(Payload::JsonPayload(fields)) => serde_json::to_string(fields).unwrap_or_default(),
        _ => String::new(),
    };
    let task = entry.labels.get("run.googleapis.com/task_index").and_then(|index| index.parse().ok());
    LogLine {
        timestamp: entry.timestamp.and_then(|time| SystemTime::try_from(time).ok()),
        stream,
        task: task.unwrap_or_default(),
        text,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::JobName;

    fn entry(change: serde_json::Value) -> LogEntry {
        let mut entry = json!({
            "insertId": "a1",
            "logName": "projects/p/logs/run.googleapis.com%2Fstderr",
            "labels": {"run.googleapis.com/task_index": "2", "run.googleapis.com/task_attempt": "0"},
            "timestamp": "2026-01-02T03:04:05.000000006Z",
        });
        entry.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(entry).unwrap()
    }

    #[test]
    fn an_entry_is_a_line_of_a_task_and_stream() {
        let read = line(&entry(json!({"textPayload": "hello\n"})));
        assert_eq!((read.task, read.stream, read.text.as_str()), (2, LogStream::Stderr, "hello"));
        assert_eq!(read.timestamp, Some(place(&entry(json!({}))).0));
        let object = line(&entry(json!({"jsonPayload": {"message": "no", "step": 3}})));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&object.text).unwrap(),
            json!({"message": "no", "step": 3})
        );
    }

    #[test]
    fn the_filter_names_the_execution_and_the_two_streams() {
        let name = Name { job: JobName::new("train").unwrap(), execution: "train-x".into() };
        let filter = filter("p", "r", &name);
        for part in [
            r#"labels."run.googleapis.com/execution_name"="train-x""#,
            r#"resource.labels.job_name="train""#,
            r#"logName="projects/p/logs/run.googleapis.com%2Fstdout""#,
        ] {
            assert!(filter.contains(part), "{filter}");
        }
        let since = filter_since(&filter, SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        assert!(since.ends_with("AND timestamp>=\"1970-01-01T00:00:01Z\""), "{since}");
    }
}
