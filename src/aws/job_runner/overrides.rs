//! What a request changes of a task definition, and whether ECS takes that much.

use aws_sdk_ecs::types::{ContainerOverride, KeyValuePair, TaskOverride};
use serde_json::json;

use super::definition::Definition;
use super::submit::OPERATION;
use crate::job_runner::{Resources, Submission};
use crate::{Error, ErrorKind, JobName, JobRequest, Result};

/// The most characters of all overrides of a task, with the punctuation of JSON:
/// [TaskOverride](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html).
const MOST_CHARACTERS: usize = 8_192;

/// CPU units, the smallest and largest memory in MiB, and the step between:
/// [Fargate task sizes](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html).
const FARGATE_SIZES: &[(u32, u32, u32, u32)] = &[
    (256, 512, 512, 512),
    (256, 1_024, 2_048, 1_024),
    (512, 1_024, 4_096, 1_024),
    (1_024, 2_048, 8_192, 1_024),
    (2_048, 4_096, 16_384, 1_024),
    (4_096, 8_192, 30_720, 1_024),
    (8_192, 16_384, 61_440, 4_096),
    (16_384, 32_768, 122_880, 8_192),
];

/// The variables of one task.
fn variables<'a>(
    submission: &'a Submission,
    request: &'a JobRequest,
    index: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let of_runner = submission.env.iter().chain(&request.env).map(|(name, value)| (name.as_str(), value.as_str()));
    of_runner.chain([("ANYCLOUD_TASK_INDEX", index)])
}

/// Labels travel as tags, which StopTask removes, and as a variable, which it does not.
pub(super) fn add_labels(submission: &mut Submission, request: &JobRequest) -> Result<()> {
    if !request.labels.is_empty() {
        let labels = crate::formats::json::encode(&request.labels, OPERATION, "labels")?;
        submission.env.insert("ANYCLOUD_LABELS".to_owned(), String::from_utf8_lossy(&labels).into_owned());
    }
    Ok(())
}

/// The overrides of the task of this index.
pub(super) fn of_task(
    definition: &Definition,
    submission: &Submission,
    request: &JobRequest,
    index: u32,
) -> TaskOverride {
    let index = index.to_string();
    let variable = |(name, value): (&str, &str)| KeyValuePair::builder().name(name).value(value).build();
    let container = ContainerOverride::builder()
        .name(&definition.container)
        .set_command(request.args.clone().filter(|args| !args.is_empty()))
        .set_environment(Some(variables(submission, request, &index).map(variable).collect()))
        .set_memory(container_memory(definition, request))
        .build();
    TaskOverride::builder()
        .container_overrides(container)
        .set_cpu(request.resources.map(|resources| cpu_units(resources).to_string()))
        .set_memory(request.resources.map(|resources| resources.memory_mib.to_string()))
        .build()
}

/// A limit of the container's own would keep the task from using what it is given.
fn container_memory(definition: &Definition, request: &JobRequest) -> Option<i32> {
    definition.container_memory?;
    request.resources.and_then(|resources| i32::try_from(resources.memory_mib).ok())
}

fn cpu_units(resources: Resources) -> u32 {
    u32::try_from(u64::from(resources.cpu_millis) * 1_024 / 1_000).unwrap_or(u32::MAX)
}

fn characters(definition: &Definition, submission: &Submission, request: &JobRequest) -> usize {
    let environment: Vec<_> =
        variables(submission, request, "9").map(|(name, value)| json!({"name": name, "value": value})).collect();
    let overrides = json!({
        "containerOverrides": [{
            "name": definition.container,
            "command": request.args,
            "environment": environment,
            "memory": container_memory(definition, request),
        }],
        "cpu": request.resources.map(|resources| cpu_units(resources).to_string()),
        "memory": request.resources.map(|resources| resources.memory_mib.to_string()),
    });
    // Bytes are never fewer than characters, whichever ECS counts.
    overrides.to_string().len()
}

/// Whether ECS takes the overrides as they are.
pub(super) fn fit(definition: &Definition, submission: &Submission, request: &JobRequest) -> bool {
    characters(definition, submission, request) <= MOST_CHARACTERS
}

/// Refuses what is too large even with the payload in the store.
pub(super) fn check_size(
    definition: &Definition,
    submission: &Submission,
    job: &JobName,
    request: &JobRequest,
) -> Result<()> {
    let characters = characters(definition, submission, request);
    if characters <= MOST_CHARACTERS {
        return Ok(());
    }
    let message = format!(
        "arguments, variables and labels come to {characters} characters as JSON, and ECS takes {MOST_CHARACTERS}; put \
         what is large into the payload, which may have any size"
    );
    Err(Error::new(ErrorKind::TooLarge, OPERATION, job, message))
}

/// Refuses a size that Fargate does not have.
pub(super) fn check_resources(definition: &Definition, job: &JobName, request: &JobRequest) -> Result<()> {
    let Some(resources) = request.resources.filter(|_| definition.fargate) else { return Ok(()) };
    let (cpu, memory) = (cpu_units(resources), resources.memory_mib);
    let has = |&&(units, least, most, step): &&(u32, u32, u32, u32)| {
        units == cpu && (least..=most).contains(&memory) && (memory - least).is_multiple_of(step)
    };
    if FARGATE_SIZES.iter().find(has).is_some() {
        return Ok(());
    }
    let sizes: Vec<String> = FARGATE_SIZES
        .iter()
        .map(|(units, least, most, _)| format!("{} with {least} to {most} MiB", u64::from(*units) * 1_000 / 1_024))
        .collect();
    let message = format!(
        "Fargate has no size of {} CPU millis with {memory} MiB; it has {}",
        resources.cpu_millis,
        sizes.join(", ")
    );
    Err(Error::new(ErrorKind::InvalidInput, OPERATION, job, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(fargate: bool) -> Definition {
        Definition {
            arn: "arn".to_owned(),
            container: "main".to_owned(),
            container_memory: None,
            fargate,
            awsvpc: true,
            logs: None,
        }
    }

    #[test]
    fn only_sizes_that_fargate_has_are_taken() {
        let job = JobName::new("train").unwrap();
        let check = |cpu_millis, memory_mib, fargate| {
            let resources = Some(Resources { cpu_millis, memory_mib });
            check_resources(&definition(fargate), &job, &JobRequest { resources, ..JobRequest::default() })
        };
        for (cpu, memory) in
            [(250, 512), (250, 2_048), (500, 3_072), (1_000, 2_048), (4_000, 30_720), (16_000, 122_880)]
        {
            assert!(check(cpu, memory, true).is_ok(), "{cpu} {memory}");
        }
        for (cpu, memory) in [(250, 1_536), (300, 512), (1_000, 1_024), (1_000, 2_500), (8_000, 17_408)] {
            assert_eq!(check(cpu, memory, true).unwrap_err().kind(), ErrorKind::InvalidInput, "{cpu} {memory}");
            assert!(check(cpu, memory, false).is_ok());
        }
    }

    // https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html: overrides are measured as JSON.
    #[test]
    fn overrides_are_measured_as_json() {
        let job = JobName::new("train").unwrap();
        let sized = |text: String| {
            let request = JobRequest { args: Some(vec![text]), ..JobRequest::default() };
            let submission = Submission::new(&job, &request).unwrap();
            check_size(&definition(true), &submission, &job, &request)
        };
        assert!(sized("x".repeat(7_000)).is_ok());
        assert_eq!(sized("x".repeat(8_192)).unwrap_err().kind(), ErrorKind::TooLarge);
        // Each quotation mark takes two characters.
        assert_eq!(sized("\"".repeat(4_096)).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}
