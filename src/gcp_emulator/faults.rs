//! Faults that a test or a user scripts: per operation, per attempt.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One scripted fault.
///
/// Of the calls of `operation` (whose path contains `path`, when it is given), the first `skip` go
/// through, and the next `times` meet the fault. A call that several faults wait for meets the
/// first of them; every fault that waits counts the call.
///
/// # Examples
///
/// As JSON, for `POST /_emulator/faults`:
///
/// ```json
/// {"operation": "storage.objects.insert", "skip": 1, "times": 2,
///  "action": {"kind": "status", "code": 429, "retryAfterSeconds": 1}}
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// The method's id in Google's discovery document, such as
    /// `secretmanager.projects.secrets.addVersion`; a final `*` stands for any ending.
    pub operation: String,
    /// Only calls of this HTTP method: `PUT` tells the chunks of a resumable upload from its start,
    /// which have one operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Only calls whose path contains this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Calls let through first. Default 0.
    #[serde(default)]
    pub skip: u32,
    /// Calls that meet the fault after that. Default 1.
    #[serde(default = "once")]
    pub times: u32,
    /// What happens.
    pub action: FaultAction,
}

fn once() -> u32 {
    1
}

impl Fault {
    /// The next call of `operation` meets `action`.
    pub fn next(operation: impl Into<String>, action: FaultAction) -> Self {
        Self { operation: operation.into(), http: None, path: None, skip: 0, times: 1, action }
    }

    fn waits_for(&self, operation: &str, http: &str, path: &str) -> bool {
        let named = match self.operation.strip_suffix('*') {
            Some(start) => operation.starts_with(start),
            None => operation == self.operation,
        };
        named
            && self.http.as_ref().is_none_or(|own| own == http)
            && self.path.as_ref().is_none_or(|part| path.contains(part.as_str()))
    }
}

/// What a fault does to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum FaultAction {
    /// The call is served after this long, whether or not its caller still waits.
    Delay {
        /// Milliseconds.
        millis: u64,
    },
    /// The connection is reset before the call has any effect.
    Reset,
    /// The call has no effect and is answered with this HTTP status.
    Status {
        /// The HTTP status.
        code: u16,
        /// The value of `Retry-After`, in seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_seconds: Option<u32>,
    },
    /// The call takes effect, then the connection is reset instead of an answer.
    LoseAnswer,
    /// The call takes effect; the connection ends after this many bytes of the answer's body.
    Truncate {
        /// Bytes.
        after_bytes: usize,
    },
    /// A chunk of a resumable upload is stored up to this many bytes, then the connection is reset.
    BreakAfter {
        /// Bytes.
        bytes: usize,
    },
    /// A chunk of a resumable upload is stored up to this many bytes only, and answered as far.
    PersistAtMost {
        /// Bytes.
        bytes: usize,
    },
}

impl FaultAction {
    /// Whether the connection is reset instead of an answer.
    pub(super) fn leaves_no_answer(&self) -> bool {
        matches!(self, Self::Reset | Self::LoseAnswer | Self::BreakAfter { .. })
    }

    pub(super) fn delay(&self) -> Option<Duration> {
        match self {
            Self::Delay { millis } => Some(Duration::from_millis(*millis)),
            _ => None,
        }
    }
}

/// The faults that are still to come.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn clear_of(&mut self, path: &str) {
        self.0.retain(|fault| fault.path.as_deref() != Some(path));
    }

    pub(super) fn waiting(&self) -> &[Fault] {
        &self.0
    }

    /// Counts a call and gives what it meets.
    pub(super) fn meet(&mut self, operation: &str, http: &str, path: &str) -> Option<FaultAction> {
        let mut met = None;
        for fault in &mut self.0 {
            if !fault.waits_for(operation, http, path) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if met.is_none() && fault.times > 0 {
                fault.times -= 1;
                met = Some(fault.action.clone());
            }
        }
        self.0.retain(|fault| fault.times > 0);
        met
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_meets_exactly_the_attempts_it_names() {
        let mut faults = Faults::default();
        faults.add(Fault { skip: 1, times: 2, ..Fault::next("storage.objects.get", FaultAction::Reset) });
        let met: Vec<bool> = (0..5).map(|_| faults.meet("storage.objects.get", "GET", "/x").is_some()).collect();
        assert_eq!(met, [false, true, true, false, false]);
        assert!(faults.waiting().is_empty());
    }

    #[test]
    fn other_operations_and_paths_are_left_alone() {
        let mut faults = Faults::default();
        faults.add(Fault {
            http: Some("GET".into()),
            path: Some("/a".into()),
            ..Fault::next("storage.*", FaultAction::Reset)
        });
        assert_eq!(faults.meet("storage.objects.get", "HEAD", "/a"), None);
        assert_eq!(faults.meet("run.x", "GET", "/a"), None);
        assert_eq!(faults.meet("storage.objects.get", "GET", "/b"), None);
        assert_eq!(faults.meet("storage.objects.get", "GET", "/a"), Some(FaultAction::Reset));
    }

    #[test]
    fn a_fault_is_read_from_json_with_defaults() {
        let fault: Fault = serde_json::from_str(
            r#"{"operation": "run.x", "action": {"kind": "status", "code": 429, "retryAfterSeconds": 2}}"#,
        )
        .expect("a fault");
        let action = FaultAction::Status { code: 429, retry_after_seconds: Some(2) };
        assert_eq!(fault, Fault::next("run.x", action));
    }
}
