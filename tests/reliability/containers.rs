//! Lane A for jobs that are real containers: MiniStack behind the proxy, judged by how many tasks it began.

use std::sync::Arc;

use anycloud::{Config, Error, ErrorKind};
use aws_sdk_ecs::types::{Compatibility, ContainerDefinition, DesiredStatus, NetworkMode};
use futures_util::future::join_all;
use libtest_mimic::Failed;

use crate::judge::Class;
use crate::operation::{Begun, Family, Operation};
use crate::proxy::SocketFault;
use crate::sockets::{self, Server, aws_config};

/// Each cell is a container, so that only what ECS is asked meets faults, and each kind of fault stands for its like.
fn faults(label: &str, _: &Operation) -> Vec<(SocketFault, Class)> {
    if !label.starts_with("AmazonEC2ContainerService") {
        return Vec::new();
    }
    vec![
        (SocketFault::CutBefore, Class::Before),
        (SocketFault::Status(503, "ServerException"), Class::Before),
        (SocketFault::LoseAnswer, Class::After),
        (SocketFault::LateDuplicate, Class::After),
    ]
}

/// A cluster for each scene.
fn config(url: &str, scene: &str) -> Config {
    let mut config = aws_config(url, scene);
    config.aws.ecs_cluster = Some(scene.to_owned());
    config.aws.subnets = vec!["subnet-1".to_owned()];
    config
}

async fn client(url: &str) -> aws_sdk_ecs::Client {
    let sdk = aws_config::defaults(aws_config::BehaviorVersion::latest());
    let sdk = sdk.region(aws_config::Region::new("us-east-1")).endpoint_url(url).load().await;
    aws_sdk_ecs::Client::new(&sdk)
}

/// The tasks of a cluster, of one family or of all.
async fn tasks(
    ecs: &aws_sdk_ecs::Client,
    cluster: &str,
    family: Option<&str>,
    status: DesiredStatus,
) -> anycloud::Result<Vec<String>> {
    let request = ecs.list_tasks().cluster(cluster).set_family(family.map(str::to_owned)).desired_status(status);
    let fail = |error| Error::new(ErrorKind::Unavailable, "test", cluster, format!("{error:?}"));
    Ok(request.send().await.map_err(fail)?.task_arns.unwrap_or_default())
}

fn begun(url: &str, scene: &str) -> Begun {
    let (url, scene) = (url.to_owned(), scene.to_owned());
    Arc::new(move |job| {
        let (url, scene, job) = (url.clone(), scene.clone(), job.clone());
        Box::pin(async move {
            let ecs = client(&url).await;
            let mut all = tasks(&ecs, &scene, Some(job.as_str()), DesiredStatus::Running).await?;
            all.extend(tasks(&ecs, &scene, Some(job.as_str()), DesiredStatus::Stopped).await?);
            all.sort_unstable();
            all.dedup();
            Ok(all.len())
        })
    })
}

pub(crate) async fn run(url: String) -> Result<(), Failed> {
    let image = std::env::var("ANYCLOUD_TEST_SHELL_IMAGE").map_err(|_| "ANYCLOUD_TEST_SHELL_IMAGE is not set")?;
    let ecs = client(&url).await;
    for (family, command) in [("quick", ["true"].as_slice()), ("long", &["sleep", "30"])] {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let container = ContainerDefinition::builder().name("main").image(&image).set_command(Some(command)).build();
        ecs.register_task_definition()
            .family(family)
            .network_mode(NetworkMode::Awsvpc)
            .requires_compatibilities(Compatibility::Fargate)
            .cpu("256")
            .memory("512")
            .container_definitions(container)
            .send()
            .await?;
    }
    sockets::make_bucket(&url).await;
    let names = sockets::names("ms", 120);
    let server = Server { name: "ministack", url, families: &[Family::Jobs], config, faults, begun: Some(begun) };
    let tally = sockets::run(&server, &names).await;
    let stops = names.iter().map(|cluster| {
        let ecs = &ecs;
        async move {
            let left = tasks(ecs, cluster, None, DesiredStatus::Running).await;
            for task in left.unwrap_or_default() {
                let _ = ecs.stop_task().cluster(cluster).task(task).send().await;
            }
        }
    });
    join_all(stops).await;
    tally.conclude("A, sockets, containers on MiniStack", 40)
}
