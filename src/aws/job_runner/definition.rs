//! Task definitions: which container is the job, and where its output goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_ecs::types::{Compatibility, ContainerDefinition, LogDriver, NetworkMode, TaskDefinition};

use super::{Ecs, failure};
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::retry::Safety;
use crate::{Error, ErrorKind, Result};

/// What the runner needs to know of one revision of a task definition.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) arn: String,
    /// The container that is judged and whose command is replaced: the first essential one.
    pub(super) container: String,
    /// The container's own memory limit in MiB, which an override has to move along.
    pub(super) container_memory: Option<i32>,
    pub(super) fargate: bool,
    pub(super) awsvpc: bool,
    pub(super) logs: Option<LogTarget>,
}

/// Where the `awslogs` driver of a container writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogTarget {
    pub(super) group: String,
    pub(super) region: Option<String>,
    /// `prefix/container`; a task's stream is this, `/` and the id of the task.
    pub(super) stream: String,
}

/// Revisions by ARN: they never change.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    known: Mutex<HashMap<String, Arc<Definition>>>,
}

/// Task families that one process works with are few; revisions add up over months.
const MOST_KNOWN: usize = 1_000;

impl Definitions {
    /// The latest active revision of a family, always asked for; or the revision of an ARN, asked for once.
    ///
    /// Needs `ecs:DescribeTaskDefinition`.
    pub(super) async fn get(&self, ecs: &Ecs, operation: &'static str, name: &str) -> Result<Arc<Definition>> {
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(known.clone());
        }
        let client = ecs.client().await?;
        let call = Call::reading(operation, name, "ecs:DescribeTaskDefinition");
        let answer = ecs
            .retrier()
            .run(operation, name, Safety::Read, |_| async {
                let sent = client.describe_task_definition().task_definition(name).send().silently().await;
                sent.map_err(|error| failure::of(error, call))
            })
            .await?;
        let found = answer
            .task_definition()
            .ok_or_else(|| Error::new(ErrorKind::Internal, operation, name, "the answer holds no task definition"))?;
        let definition = Arc::new(read(found, operation, name)?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(definition.arn.clone(), definition.clone());
        Ok(definition)
    }
}

fn read(found: &TaskDefinition, operation: &'static str, name: &str) -> Result<Definition> {
    // A container is essential unless the definition says otherwise:
    // https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html
    let essential = |container: &&ContainerDefinition| container.essential().unwrap_or(true);
    let container = found.container_definitions().iter().find(essential);
    let (Some(container), Some(arn)) = (container, found.task_definition_arn()) else {
        let message = "the task definition has no essential container";
        return Err(Error::new(ErrorKind::InvalidConfig, operation, name, message));
    };
    let fargate = [found.requires_compatibilities(), found.compatibilities()]
        .iter()
        .any(|compatibilities| compatibilities.contains(&Compatibility::Fargate));
    Ok(Definition {
        arn: arn.to_owned(),
        container: container.name().unwrap_or_default().to_owned(),
        container_memory: container.memory(),
        fargate,
        awsvpc: found.network_mode() == Some(&NetworkMode::Awsvpc),
        logs: log_target(container),
    })
}

fn log_target(container: &ContainerDefinition) -> Option<LogTarget> {
    let logs = container.log_configuration().filter(|logs| logs.log_driver() == &LogDriver::Awslogs)?;
    let option = |name: &str| logs.options().and_then(|options| options.get(name)).cloned();
    Some(LogTarget {
        group: option("awslogs-group")?,
        region: option("awslogs-region"),
        stream: format!("{}/{}", option("awslogs-stream-prefix")?, container.name().unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::LogConfiguration;

    use super::*;

    #[test]
    fn the_first_essential_container_is_the_job() {
        let container = |name: &str, essential: Option<bool>| {
            ContainerDefinition::builder().name(name).set_essential(essential).build()
        };
        let definition = TaskDefinition::builder()
            .task_definition_arn("arn:aws:ecs:eu-west-1:1:task-definition/train:3")
            .container_definitions(container("sidecar", Some(false)))
            .container_definitions(container("main", None))
            .container_definitions(container("other", Some(true)))
            .build();
        assert_eq!(read(&definition, "t", "train").unwrap().container, "main");
        let none = TaskDefinition::builder().task_definition_arn("arn").build();
        assert_eq!(read(&none, "t", "train").unwrap_err().kind(), ErrorKind::InvalidConfig);
    }

    // https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using_awslogs.html
    #[test]
    fn logs_are_found_by_the_drivers_options_and_only_with_a_prefix() {
        let logs = LogConfiguration::builder()
            .log_driver(LogDriver::Awslogs)
            .options("awslogs-group", "/jobs")
            .options("awslogs-region", "eu-west-1");
        let container = |logs| ContainerDefinition::builder().name("main").log_configuration(logs).build();
        assert_eq!(log_target(&container(logs.clone().build().unwrap())), None);
        let target = log_target(&container(logs.options("awslogs-stream-prefix", "train").build().unwrap()));
        let expected = LogTarget {
            group: "/jobs".to_owned(),
            region: Some("eu-west-1".to_owned()),
            stream: "train/main".to_owned(),
        };
        assert_eq!(target, Some(expected));
    }
}
