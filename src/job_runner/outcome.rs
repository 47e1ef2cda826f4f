use std::fmt;

use serde::{Deserialize, Serialize};

/// How an execution ended: the same words for every platform.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobOutcome {
    /// Every task ended by itself with exit code 0.
    Succeeded,
    /// A task ended by itself otherwise.
    Failed {
        /// Its exit code, where the platform tells.
        exit_code: Option<i32>,
    },
    /// A task was ended by a signal that nobody here asked for. SIGKILL (9) may mean lack of memory; the platform gave
    /// no evidence of it.
    Killed {
        /// The signal.
        signal: i32,
    },
    /// The platform ended it because it used more memory than it may.
    OutOfMemory,
    /// It ran longer than it may.
    TimedOut,
    /// Somebody asked for its end.
    Cancelled,
    /// The platform took its capacity away.
    Interrupted,
    /// It never ran.
    FailedToStart {
        /// What was in the way.
        cause: StartFailure,
        /// Whether another attempt may do better.
        transient: bool,
    },
    /// It disappeared before its end was seen: it may or may not have done its work.
    Lost,
    /// It has ended, and how is not known any more.
    Unknown,
}

impl JobOutcome {
    /// Whether all the work was done.
    #[must_use]
    pub fn is_success(&self) -> bool {
        *self == Self::Succeeded
    }

    /// Whether another attempt may do better with nothing changed: the job was interrupted, or could not start for a
    /// passing reason. Never for work that may have been done.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Interrupted | Self::FailedToStart { transient: true, .. })
    }
}

impl fmt::Display for JobOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded => f.write_str("succeeded"),
            Self::Failed { exit_code: Some(code) } => write!(f, "failed with exit code {code}"),
            Self::Failed { exit_code: None } => f.write_str("failed"),
            Self::Killed { signal: 9 } => f.write_str("killed by signal 9 (if nobody sent it: out of memory?)"),
            Self::Killed { signal } => write!(f, "killed by signal {signal}"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Interrupted => f.write_str("interrupted by the platform"),
            Self::FailedToStart { cause, transient } => {
                write!(f, "failed to start: {cause}{}", if *transient { " (may pass)" } else { "" })
            }
            Self::Lost => f.write_str("lost"),
            Self::Unknown => f.write_str("ended, outcome unknown"),
        }
    }
}

/// What kept a job from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StartFailure {
    /// The image could not be had.
    Image,
    /// A secret that the definition names could not be read.
    Secret,
    /// No network interface, address or route.
    Network,
    /// No capacity.
    Capacity,
    /// The platform may not do something that the definition asks.
    Permission,
    /// The command could not be executed.
    Command,
    /// Something else.
    Other,
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "the image could not be had",
            Self::Secret => "a secret could not be read",
            Self::Network => "the network could not be set up",
            Self::Capacity => "there was no capacity",
            Self::Permission => "a permission is missing",
            Self::Command => "the command could not be executed",
            Self::Other => "see the reason",
        })
    }
}

/// Why the platform says that it stopped a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// Somebody asked.
    Cancelled,
    /// The time was over.
    TimedOut,
    /// The capacity or the host went away.
    Interrupted,
    /// It did not get to run.
    StartFailure {
        /// What was in the way.
        cause: StartFailure,
        /// Whether another attempt may do better.
        transient: bool,
    },
}

/// What is known of an ended execution, in common terms; providers fill it from their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The platform's own verdict on the whole execution, where it gives one.
    pub completed: Option<bool>,
    /// Why the platform says that it stopped.
    pub stop: Option<StopCause>,
    /// The exit code of the task that decides. None is not 0.
    pub exit_code: Option<i32>,
    /// The signal that ended the task that decides.
    pub signal: Option<i32>,
    /// The platform names lack of memory; never concluded from 137 alone.
    pub out_of_memory: bool,
    /// The platform knew it and does not any more.
    pub vanished: bool,
}

/// The outcome that the evidence allows, and no more.
///
/// A stop that was asked for beats an exit code (a job that ends with 0 after SIGTERM was still cancelled), while exit
/// code 0 beats a disruption (the work was done before the host went).
#[must_use]
pub fn classify(evidence: &Evidence) -> JobOutcome {
    let ended_by_itself = evidence.exit_code.is_some() || evidence.signal.is_some();
    match evidence.stop {
        Some(StopCause::Cancelled) => return JobOutcome::Cancelled,
        Some(StopCause::TimedOut) => return JobOutcome::TimedOut,
        Some(StopCause::StartFailure { cause, transient }) if !ended_by_itself => {
            return JobOutcome::FailedToStart { cause, transient };
        }
        _ => {}
    }
    if evidence.out_of_memory {
        return JobOutcome::OutOfMemory;
    }
    if evidence.exit_code == Some(0) && evidence.signal.is_none() && evidence.completed != Some(false) {
        return JobOutcome::Succeeded;
    }
    if evidence.stop == Some(StopCause::Interrupted) {
        return JobOutcome::Interrupted;
    }
    match (evidence.signal, evidence.exit_code) {
        (Some(signal), _) => JobOutcome::Killed { signal },
        // A shell or container runtime reports death by signal n as 128 + n.
        (None, Some(137)) => JobOutcome::Killed { signal: 9 },
        (None, Some(code)) if code != 0 => JobOutcome::Failed { exit_code: Some(code) },
        _ if evidence.vanished => JobOutcome::Lost,
        _ => match evidence.completed {
            Some(true) => JobOutcome::Succeeded,
            Some(false) => JobOutcome::Failed { exit_code: None },
            None => JobOutcome::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_has_its_outcome() {
        let none = Evidence::default();
        let start = StopCause::StartFailure { cause: StartFailure::Image, transient: true };
        let failed_to_start = JobOutcome::FailedToStart { cause: StartFailure::Image, transient: true };
        let rows = [
            ("nothing is known", none, JobOutcome::Unknown),
            ("exit 0", Evidence { exit_code: Some(0), ..none }, JobOutcome::Succeeded),
            ("exit 7", Evidence { exit_code: Some(7), ..none }, JobOutcome::Failed { exit_code: Some(7) }),
            ("bare 137", Evidence { exit_code: Some(137), ..none }, JobOutcome::Killed { signal: 9 }),
            (
                "137 with the reason",
                Evidence { exit_code: Some(137), out_of_memory: true, ..none },
                JobOutcome::OutOfMemory,
            ),
            ("signal", Evidence { signal: Some(11), ..none }, JobOutcome::Killed { signal: 11 }),
            (
                "signal beside the default exit code 0",
                Evidence { signal: Some(9), exit_code: Some(0), ..none },
                JobOutcome::Killed { signal: 9 },
            ),
            (
                "cancelled, trapped SIGTERM, exit 0",
                Evidence { stop: Some(StopCause::Cancelled), exit_code: Some(0), ..none },
                JobOutcome::Cancelled,
            ),
            (
                "timed out and killed",
                Evidence { stop: Some(StopCause::TimedOut), signal: Some(9), ..none },
                JobOutcome::TimedOut,
            ),
            (
                "done before the host went",
                Evidence { stop: Some(StopCause::Interrupted), exit_code: Some(0), ..none },
                JobOutcome::Succeeded,
            ),
            (
                "interrupted",
                Evidence { stop: Some(StopCause::Interrupted), exit_code: Some(143), ..none },
                JobOutcome::Interrupted,
            ),
            ("no image", Evidence { stop: Some(start), ..none }, failed_to_start),
            ("vanished", Evidence { vanished: true, ..none }, JobOutcome::Lost),
            ("verdict only", Evidence { completed: Some(true), ..none }, JobOutcome::Succeeded),
            (
                "verdict beats the default exit code 0",
                Evidence { completed: Some(false), exit_code: Some(0), ..none },
                JobOutcome::Failed { exit_code: None },
            ),
        ];
        for (name, evidence, outcome) in rows {
            assert_eq!(classify(&evidence), outcome, "{name}");
        }
    }

    #[test]
    fn nothing_but_evidence_of_success_is_a_success() {
        for completed in [None, Some(false)] {
            for stop in [None, Some(StopCause::Cancelled), Some(StopCause::TimedOut), Some(StopCause::Interrupted)] {
                for (exit_code, signal) in [(None, None), (Some(1), None), (None, Some(9))] {
                    for vanished in [false, true] {
                        let evidence = Evidence { completed, stop, exit_code, signal, vanished, out_of_memory: false };
                        assert!(!classify(&evidence).is_success(), "{evidence:?}");
                    }
                }
            }
        }
    }
}
