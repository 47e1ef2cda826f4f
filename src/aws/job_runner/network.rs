//! Where tasks run: subnets, security groups and public addresses, taken over from what runs already.

use std::time::Duration;

use aws_sdk_ecs::types::{AssignPublicIp, AwsVpcConfiguration, NetworkConfiguration, Task};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::handle::short;
use super::{Ecs, default_vpc, failure};
use crate::aws::silence::Silent as _;
use crate::call::Call;
use crate::config::AwsConfig;
use crate::retry::Safety;
use crate::{Error, ErrorKind, Result};

pub(super) const OPERATION: &str = "job_runner.network";
/// The metadata endpoint is on this machine.
const METADATA_PATIENCE: Duration = Duration::from_secs(2);
const MOST_METADATA_BYTES: usize = 1 << 20;

/// The network of this runner's tasks, found once.
///
/// In this order: `ECS_SUBNETS`; the service that `ECS_SERVICE` names; the service, or else the network interface, of
/// the task that this process runs in; the default VPC, if `ECS_ALLOW_DEFAULT_VPC` allows it. Where the last say
/// otherwise, `ECS_SECURITY_GROUPS` and `ECS_ASSIGN_PUBLIC_IP` win.
#[derive(Debug)]
pub(super) struct Network {
    settings: AwsConfig,
    found: OnceCell<AwsVpcConfiguration>,
}

impl Network {
    pub(super) fn new(settings: &AwsConfig) -> Self {
        Self { settings: settings.clone(), found: OnceCell::new() }
    }

    /// Needs `ecs:DescribeServices`, and `ecs:DescribeTasks` inside a task, unless the subnets are set; for the default
    /// VPC `ec2:DescribeSubnets`.
    pub(super) async fn get(&self, ecs: &Ecs) -> Result<NetworkConfiguration> {
        let found = self.found.get_or_try_init(|| async {
            let (found, source) = self.discover(ecs).await?;
            let chosen = self.with_settings(found)?;
            tracing::info!(
                subnets = ?chosen.subnets(),
                security_groups = ?chosen.security_groups(),
                assign_public_ip = chosen.assign_public_ip().map(AssignPublicIp::as_str),
                source,
                "the network of tasks"
            );
            Ok::<_, Error>(chosen)
        });
        Ok(NetworkConfiguration::builder().awsvpc_configuration(found.await?.clone()).build())
    }

    async fn discover(&self, ecs: &Ecs) -> Result<(AwsVpcConfiguration, String)> {
        if !self.settings.subnets.is_empty() {
            let subnets = Some(self.settings.subnets.clone());
            let own = AwsVpcConfiguration::builder().set_subnets(subnets).build().map_err(unusable)?;
            return Ok((own, "ECS_SUBNETS".to_owned()));
        }
        if let Some(service) = &self.settings.ecs_service {
            let network = service_network(ecs, &ecs.cluster, service).await?;
            return Ok((network, format!("the service `{service}` that ECS_SERVICE names")));
        }
        if let Some(address) = &self.settings.ecs_metadata_uri {
            return own_task_network(ecs, address).await;
        }
        if self.settings.allow_default_vpc {
            let subnets = default_vpc::subnets(&ecs.connection).await?;
            // Its subnets reach the internet only from public addresses, and images come from there:
            // https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc.html
            let public = AssignPublicIp::Enabled;
            let network = AwsVpcConfiguration::builder().set_subnets(Some(subnets)).assign_public_ip(public);
            return Ok((network.build().map_err(unusable)?, "the default VPC".to_owned()));
        }
        let message =
            "where tasks run is not known: set ECS_SERVICE to a service whose network they take over, or ECS_SUBNETS";
        Err(Error::new(ErrorKind::InvalidConfig, OPERATION, &ecs.cluster, message))
    }

    fn with_settings(&self, found: AwsVpcConfiguration) -> Result<AwsVpcConfiguration> {
        let groups = match self.settings.security_groups.as_slice() {
            [] => found.security_groups,
            own => Some(own.to_vec()),
        };
        let public = match self.settings.assign_public_ip {
            None => found.assign_public_ip,
            Some(true) => Some(AssignPublicIp::Enabled),
            Some(false) => Some(AssignPublicIp::Disabled),
        };
        AwsVpcConfiguration::builder()
            .set_subnets(Some(found.subnets))
            .set_security_groups(groups)
            .set_assign_public_ip(public)
            .build()
            .map_err(unusable)
    }
}

fn unusable(_: aws_sdk_ecs::error::BuildError) -> Error {
    Error::new(ErrorKind::InvalidConfig, OPERATION, "awsvpc", "the network has no subnets")
}

async fn service_network(ecs: &Ecs, cluster: &str, service: &str) -> Result<AwsVpcConfiguration> {
    let client = ecs.client().await?;
    let call = Call::reading(OPERATION, service, "ecs:DescribeServices");
    let answer = ecs
        .retrier()
        .run(OPERATION, service, Safety::Read, |_| async {
            let request = client.describe_services().cluster(cluster).services(service);
            request.send().silently().await.map_err(|error| failure::of(error, call))
        })
        .await?;
    let refuse = |message: String| Err(Error::new(ErrorKind::InvalidConfig, OPERATION, service, message));
    let Some(found) = answer.services().first() else {
        return refuse(format!("the cluster `{cluster}` has no such service"));
    };
    let network = found.network_configuration().and_then(NetworkConfiguration::awsvpc_configuration);
    // A service that is deployed by task sets or deployments may keep it only there.
    let deployed = found.deployments().iter().find_map(|deployment| deployment.network_configuration());
    match network.or_else(|| deployed.and_then(NetworkConfiguration::awsvpc_configuration)) {
        Some(network) => Ok(network.clone()),
        None => refuse("the service does not use the network mode `awsvpc`".to_owned()),
    }
}

/// What a container is told about its own task:
/// [version 4](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate-response.html).
#[derive(Debug, Deserialize)]
struct OwnTask {
    #[serde(rename = "Cluster")]
    cluster: String,
    #[serde(rename = "TaskARN")]
    arn: String,
    #[serde(rename = "ServiceName", default)]
    service: Option<String>,
}

async fn own_task_network(ecs: &Ecs, address: &str) -> Result<(AwsVpcConfiguration, String)> {
    let own = ask_metadata(&format!("{address}/task")).await?;
    let service = own.service.filter(|service| !service.is_empty());
    let task = if service.is_none() { Some(describe_own(ecs, &own.cluster, &own.arn).await?) } else { None };
    let group = task.as_ref().and_then(|task| task.group()?.strip_prefix("service:").map(str::to_owned));
    if let Some(service) = service.or(group) {
        let network = service_network(ecs, &own.cluster, &service).await?;
        return Ok((network, format!("the service `{service}` that this process runs in")));
    }
    let subnet = task.as_ref().and_then(interface_subnet);
    let Some(subnet) = subnet else {
        let message =
            "the task that this process runs in has neither a service nor a network interface; set ECS_SUBNETS";
        return Err(Error::new(ErrorKind::InvalidConfig, OPERATION, short(&own.arn), message));
    };
    let network = AwsVpcConfiguration::builder().subnets(subnet).build().map_err(unusable)?;
    Ok((network, "the network interface of the task that this process runs in".to_owned()))
}

async fn describe_own(ecs: &Ecs, cluster: &str, arn: &str) -> Result<Task> {
    let client = ecs.client().await?;
    let call = Call::reading(OPERATION, arn, "ecs:DescribeTasks");
    let answer = ecs
        .retrier()
        .run(OPERATION, arn, Safety::Read, |_| async {
            let request = client.describe_tasks().cluster(cluster).tasks(arn);
            request.send().silently().await.map_err(|error| failure::of(error, call))
        })
        .await?;
    answer.tasks.unwrap_or_default().into_iter().next().ok_or_else(|| {
        Error::new(ErrorKind::InvalidConfig, OPERATION, arn, "ECS does not know the task that this process runs in")
    })
}

fn interface_subnet(task: &Task) -> Option<String> {
    let interface =
        task.attachments().iter().find(|attachment| attachment.r#type() == Some("ElasticNetworkInterface"))?;
    let subnet = interface.details().iter().find(|detail| detail.name() == Some("subnetId"))?;
    subnet.value().map(str::to_owned)
}

async fn ask_metadata(address: &str) -> Result<OwnTask> {
    let fail = |message: &str| Error::new(ErrorKind::Unavailable, OPERATION, address, message);
    let uri: http::Uri = address.parse().map_err(|_| fail("this is no address"))?;
    let ask = async {
        let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.get(uri).await.map_err(|_| fail("the metadata endpoint does not answer"))?;
        if !answer.status().is_success() {
            return Err(fail("the metadata endpoint refuses to answer"));
        }
        let body = Limited::new(answer.into_body(), MOST_METADATA_BYTES).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|_| fail("the metadata endpoint's answer broke off"))
    };
    let answer = tokio::time::timeout(METADATA_PATIENCE, ask).await;
    let bytes = answer.map_err(|_| fail("the metadata endpoint does not answer in time"))??;
    crate::formats::json::parse(&bytes, OPERATION, address)
}
