use std::time::Duration;

use super::problems::Problems;
use crate::job_runner::{JobEnvironment, SubmissionId};
use crate::{JobName, ObjectUri, Result};

type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What the runner told this process.
pub(super) fn environment(lookup: Lookup<'_>) -> Result<JobEnvironment> {
    let mut problems = Problems::default();
    let text = |name: &str| lookup(name).filter(|value| !value.is_empty());
    if text("ANYCLOUD_SUBMISSION").is_none() {
        problems.add("ANYCLOUD_SUBMISSION", "is not set: this process was not started by a job runner of this crate");
        return Err(problems.into_error(""));
    }
    let mut number = |names: &[&str], default: u64| {
        let Some((name, value)) = names.iter().find_map(|name| Some((*name, text(name)?))) else { return default };
        value.parse().unwrap_or_else(|_| {
            problems.add(name, format!("is not a number: `{value}`"));
            default
        })
    };
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let attempt = small(number(&["ANYCLOUD_ATTEMPT"], 1));
    let platform_attempt = small(number(&["CLOUD_RUN_TASK_ATTEMPT"], 0));
    let task_index = small(number(&["ANYCLOUD_TASK_INDEX", "CLOUD_RUN_TASK_INDEX"], 0));
    let task_count = small(number(&["ANYCLOUD_TASK_COUNT", "CLOUD_RUN_TASK_COUNT"], 1));
    let timeout = match number(&["ANYCLOUD_TIMEOUT_SECONDS"], 0) {
        0 => None,
        seconds => Some(Duration::from_secs(seconds)),
    };
    let parsed = |name: &str| text(name).unwrap_or_default();
    let (job, submission) = (parsed("ANYCLOUD_JOB"), parsed("ANYCLOUD_SUBMISSION"));
    let job = JobName::new(job).map_err(|error| problems.add("ANYCLOUD_JOB", error.message()));
    let submission =
        SubmissionId::new(submission).map_err(|error| problems.add("ANYCLOUD_SUBMISSION", error.message()));
    let payload_uri = match text("ANYCLOUD_PAYLOAD_URI").map(|uri| uri.parse::<ObjectUri>()).transpose() {
        Ok(uri) => uri,
        Err(error) => {
            problems.add("ANYCLOUD_PAYLOAD_URI", error.message());
            None
        }
    };
    match (job, submission) {
        (Ok(job), Ok(submission)) if problems.is_empty() => Ok(JobEnvironment {
            job,
            submission,
            attempt,
            platform_attempt,
            task_index,
            task_count,
            timeout,
            payload: text("ANYCLOUD_PAYLOAD"),
            payload_uri,
            payload_sha256: text("ANYCLOUD_PAYLOAD_SHA256"),
        }),
        _ => Err(problems.into_error("")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_no_runner_started_is_told_so() {
        let error = environment(&|_| None).err().unwrap();
        assert!(error.message().contains("ANYCLOUD_SUBMISSION"), "{error}");
    }

    #[test]
    fn every_malformed_variable_is_named() {
        let error = environment(&|name| match name {
            "ANYCLOUD_JOB" => Some("Bad Name".into()),
            "ANYCLOUD_SUBMISSION" => Some("xyz".into()),
            "ANYCLOUD_ATTEMPT" => Some("first".into()),
            _ => None,
        })
        .err()
        .unwrap();
        for name in ["ANYCLOUD_JOB", "ANYCLOUD_SUBMISSION", "ANYCLOUD_ATTEMPT"] {
            assert!(error.message().contains(name), "{error}");
        }
    }
}
