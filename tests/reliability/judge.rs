//! Judges one cell on the client's verdict, the server's truth and the number of sends.

use std::collections::BTreeMap;
use std::time::Duration;

use anycloud::{Error, ErrorKind};

use crate::operation::{Family, Operation, Truth};

/// What kind of answer a fault amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It passes, and the call was not applied by it.
    Before,
    /// It passes, and the call was applied, or may have been.
    After,
    /// It does not pass: this kind, and not a send more.
    Permanent(ErrorKind),
}

impl Class {
    fn refusal(self) -> Option<ErrorKind> {
        if let Self::Permanent(kind) = self { Some(kind) } else { None }
    }
}

/// What was seen of one cell.
pub(crate) struct Seen {
    pub(crate) operation: Operation,
    /// What happened to it.
    pub(crate) classes: Vec<Class>,
    /// What the operation answers when nothing goes wrong.
    pub(crate) expected: String,
    pub(crate) verdict: Result<String, Error>,
    pub(crate) truth: Option<Truth>,
    pub(crate) took: Duration,
    pub(crate) deadline: Duration,
    /// How often the request that met the first fault was sent, and how often it may be.
    pub(crate) sends: usize,
    pub(crate) most_sends: Option<usize>,
    /// How many faults it met, and how many it must have, for the cell to say anything.
    pub(crate) injected: usize,
    pub(crate) least_injected: usize,
}

impl Seen {
    /// What is wrong with it.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.took > self.deadline {
            problems.push(format!("it took {:?}, beyond the deadline of {:?}", self.took, self.deadline));
        }
        if let Some(Truth::Broken(what)) = &self.truth {
            problems.push(what.clone());
        }
        match &self.verdict {
            Ok(answer) => {
                if self.truth.as_ref().is_some_and(|truth| *truth != Truth::Applied) {
                    problems.push(format!("it says that it is done, and the server holds {:?}", self.truth));
                }
                if *answer != self.expected {
                    problems.push(format!("it read `{answer}` where `{}` is true", self.expected));
                }
            }
            Err(error) => self.judge_error(error, &mut problems),
        }
        if self.injected < self.least_injected {
            problems.push(format!("it met {} faults, and not {}", self.injected, self.least_injected));
        }
        if self.most_sends.is_some_and(|most| self.sends > most) {
            problems.push(format!("a final refusal was sent again: {} sends", self.sends));
        }
        if self.is_not_recognised() {
            problems.push("unknown, and the server would have told whose write it holds".to_owned());
        }
        problems
    }

    /// After one lost answer nothing keeps a write that bears an id from being found as one's own.
    fn is_not_recognised(&self) -> bool {
        let bears_id = ["put", "copy", "upload"].iter().any(|start| self.operation.name.starts_with(start));
        self.operation.family == Family::Objects
            && bears_id
            && self.classes == [Class::After]
            && self.truth == Some(Truth::Applied)
            && self.verdict.as_ref().is_err_and(Error::is_indeterminate)
    }

    fn judge_error(&self, error: &Error, problems: &mut Vec<String>) {
        let kind = error.kind();
        if kind == ErrorKind::Indeterminate {
            if self.truth.is_none() {
                problems.push("a read cannot be indeterminate".to_owned());
            }
            let bears_id = ["put", "copy", "upload"].iter().any(|start| self.operation.name.starts_with(start));
            if self.operation.family == Family::Objects && bears_id && error.write_id().is_none() {
                problems.push(format!("unknown, and no write id to find out by: {error}"));
            }
            return;
        }
        if self.truth == Some(Truth::Applied) {
            problems.push(format!("it says that nothing was changed, and it was: {error}"));
        }
        let passing = matches!(
            kind,
            ErrorKind::Unavailable
                | ErrorKind::Timeout
                | ErrorKind::Throttled
                | ErrorKind::Conflict
                | ErrorKind::Corrupt
        );
        let refusals: Vec<ErrorKind> = self.classes.iter().filter_map(|class| class.refusal()).collect();
        let means = |refusal: &ErrorKind| {
            *refusal == kind || (*refusal == ErrorKind::InvalidInput && kind == ErrorKind::Internal)
        };
        let all_final = refusals.len() == self.classes.len();
        if refusals.iter().any(means) {
            return;
        }
        if all_final || !passing {
            problems.push(format!("a false answer after the refusals {refusals:?}: {error}"));
        } else if refusals.is_empty() && self.truth.is_none() && kind != ErrorKind::Corrupt && !self.in_stream() {
            problems.push(format!("a read did not survive passing faults: {error}"));
        }
    }

    /// A connection that breaks while bytes stream ends the stream: that is the contract.
    fn in_stream(&self) -> bool {
        self.operation.family == Family::Objects && self.operation.name.starts_with("get")
    }
}

/// Whether only some cells are asked for, or one plan or history.
pub(crate) fn narrowed() -> bool {
    ["ANYCLOUD_TEST_CELL", "ANYCLOUD_TEST_SEED"].iter().any(|name| std::env::var_os(name).is_some())
}

/// The counts of a lane.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) cells: usize,
    pub(crate) faults: usize,
    pub(crate) ends: BTreeMap<&'static str, usize>,
    pub(crate) skipped: BTreeMap<String, usize>,
    pub(crate) problems: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, cell: &str, seen: &Seen) {
        self.cells += 1;
        self.faults += seen.injected;
        let end = match &seen.verdict {
            Ok(_) => "done",
            Err(error) if error.is_indeterminate() => "unknown",
            Err(_) => "refused",
        };
        *self.ends.entry(end).or_default() += 1;
        self.problems.extend(seen.problems().into_iter().map(|problem| format!("{cell}: {problem}")));
    }

    pub(crate) fn skip(&mut self, reason: impl Into<String>) {
        *self.skipped.entry(reason.into()).or_default() += 1;
    }

    /// Prints the counts, and fails if anything is wrong, or if fewer cells were played than the lane has.
    pub(crate) fn conclude(self, lane: &str, least: usize) -> Result<(), libtest_mimic::Failed> {
        println!(
            "{lane}: {} cells, {} faults injected, ends {:?}, {} problems, skipped {:?}",
            self.cells,
            self.faults,
            self.ends,
            self.problems.len(),
            self.skipped
        );
        let least = if narrowed() { 1 } else { least };
        if self.cells < least {
            return Err(format!("only {} of {least} cells were played", self.cells).into());
        }
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(format!("{} problems:\n{}", self.problems.len(), self.problems.join("\n")).into())
    }
}
