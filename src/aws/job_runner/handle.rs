//! What an execution's id says: cluster, submission and tasks.

use std::fmt;

use crate::job_runner::SubmissionId;
use crate::{Error, ErrorKind, ExecutionId, Result};

/// The parts of an [`ExecutionId`]: `cluster/submission/task.task`, the tasks in the order of their indexes and `-` for
/// the submission of what was not started through this crate. Ten tasks in a cluster of the longest name come to 620
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Handle {
    pub(super) cluster: String,
    pub(super) submission: Option<SubmissionId>,
    pub(super) tasks: Vec<String>,
}

impl Handle {
    /// Reads an id. One that has not this form, or names another cluster, is of no execution here.
    pub(super) fn parse(id: &ExecutionId, cluster: &str, operation: &'static str) -> Result<Self> {
        let unknown = |message: String| Error::new(ErrorKind::NotFound, operation, id, message);
        let mut parts = id.as_str().split('/');
        let (Some(its), Some(submission), Some(tasks), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(unknown("this is no id of an execution on ECS".to_owned()));
        };
        if its != cluster {
            return Err(unknown(format!("the execution is not of the cluster `{cluster}`")));
        }
        let submission = match submission {
            "-" => None,
            text => {
                Some(SubmissionId::new(text).map_err(|_| unknown("this is no id of an execution on ECS".to_owned()))?)
            }
        };
        let tasks: Vec<String> = tasks.split('.').map(str::to_owned).collect();
        let well_formed = |task: &String| task.len() >= 8 && task.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if !tasks.iter().all(well_formed) {
            return Err(unknown("this is no id of an execution on ECS".to_owned()));
        }
        Ok(Self { cluster: its.to_owned(), submission, tasks })
    }

    pub(super) fn id(&self) -> Result<ExecutionId> {
        ExecutionId::new(self.to_string())
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let submission = self.submission.as_ref().map_or("-", SubmissionId::as_str);
        write!(f, "{}/{submission}/{}", self.cluster, self.tasks.join("."))
    }
}

/// The last part of an ARN or name: clusters and tasks are called so within an account and region.
pub(super) fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_as_text_and_fits_with_the_most_tasks() {
        let handle = Handle {
            cluster: "c".repeat(255),
            submission: Some(SubmissionId::new("0123456789abcdef0123456789abcdef").unwrap()),
            tasks: vec!["1dc5c17a422b4dc4b493371970c6c4d6".to_owned(); 10],
        };
        let id = handle.id().unwrap();
        assert_eq!(Handle::parse(&id, &handle.cluster, "t").unwrap(), handle);
        assert!(id.as_str().len() < 2048);
    }

    #[test]
    fn ids_of_others_are_not_found() {
        for text in
            ["x", "other/-/1dc5c17a422b4dc4", "main/zz/1dc5c17a422b4dc4", "main/-/../x", "main/-/", "main/-/a b"]
        {
            let Ok(id) = ExecutionId::new(text) else { continue };
            assert_eq!(Handle::parse(&id, "main", "t").unwrap_err().kind(), ErrorKind::NotFound, "{text}");
        }
    }

    #[test]
    fn arns_are_shortened_to_what_names_the_thing() {
        assert_eq!(short("arn:aws:ecs:eu-west-1:123456789012:task/main/1dc5c17a"), "1dc5c17a");
        assert_eq!(short("arn:aws:ecs:eu-west-1:123456789012:cluster/main"), "main");
        assert_eq!(short("main"), "main");
    }
}
