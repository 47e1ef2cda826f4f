use crate::{Error, ErrorKind, ExecutionId, JobName, Result};

/// The short names that an [`ExecutionId`] of this runner is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) job: JobName,
    pub(super) execution: String,
}

impl Name {
    pub(super) fn id(&self) -> Result<ExecutionId> {
        ExecutionId::new(format!("{}/{}", self.job, self.execution))
    }

    /// Reads `projects/P/locations/L/jobs/J/executions/E`.
    pub(super) fn of_resource(full: &str) -> Option<Self> {
        let mut parts = full.rsplit('/');
        let execution = parts.next().filter(|name| !name.is_empty())?.to_owned();
        (parts.next() == Some("executions")).then_some(())?;
        let job = JobName::new(parts.next()?).ok()?;
        Some(Self { job, execution })
    }
}

/// An id of another form names nothing that this runner has started.
pub(super) fn parse(operation: &'static str, id: &ExecutionId) -> Result<Name> {
    let absent = || Error::new(ErrorKind::NotFound, operation, id, "this is no id of a Cloud Run execution");
    let (job, execution) = id.as_str().split_once('/').ok_or_else(absent)?;
    let safe = execution.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !execution.is_empty();
    let job = JobName::new(job).ok().filter(|_| safe).ok_or_else(absent)?;
    Ok(Name { job, execution: execution.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_of_the_short_names_and_read_back() {
        let name = Name::of_resource("projects/1/locations/l/jobs/train/executions/train-x7k2p").unwrap();
        assert_eq!(name.id().unwrap().as_str(), "train/train-x7k2p");
        assert_eq!(parse("t", &name.id().unwrap()).unwrap(), name);
    }

    #[test]
    fn ids_of_another_form_are_not_found_and_reach_no_path() {
        for id in ["train", "train/", "train/a/b", "../x", "Train/x", "train/..", "train/a%2Fb", "arn:aws:ecs/x?y"] {
            let error = parse("t", &ExecutionId::new(id).unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{id}");
        }
    }
}
