use anycloud::{Cloud, Config, JobName};
use aws_sdk_ecs::types::{
    AssignPublicIp, AwsVpcConfiguration, Compatibility, ContainerDefinition, KeyValuePair, LogConfiguration, LogDriver,
    NetworkConfiguration, NetworkMode,
};

use super::{Backend, Jobs};

const REGION: &str = "us-east-1";

/// Objects and secrets on LocalStack, jobs as containers on MiniStack. The credentials are in the environment.
pub(super) async fn backend() -> Backend {
    let localstack = variable("ANYCLOUD_TEST_LOCALSTACK");
    let ministack = variable("ANYCLOUD_TEST_MINISTACK");
    let image = variable("ANYCLOUD_TEST_JOB_IMAGE");
    let name = format!("conformance-{}", std::process::id());
    let cloud = match &localstack {
        Ok(localstack) => Ok(cloud(localstack, ministack.as_deref().unwrap_or(localstack), &name).await),
        Err(reason) => Err(reason.clone()),
    };
    let jobs = match (&cloud, &localstack, &ministack, &image) {
        (Ok(cloud), Ok(localstack), Ok(ministack), Ok(image)) => {
            Ok(jobs(cloud, localstack, ministack, image, &name).await)
        }
        (Err(reason), ..) | (_, _, Err(reason), _) | (_, _, _, Err(reason)) | (_, Err(reason), ..) => {
            Err(reason.clone())
        }
    };
    Backend {
        name: "aws",
        objects: Some(cloud.as_ref().map(|cloud| cloud.objects().clone()).map_err(Clone::clone)),
        secrets: Some(cloud.as_ref().map(|cloud| cloud.secrets().clone()).map_err(Clone::clone)),
        jobs: Some(jobs),
    }
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("{name} is not set"))
}

async fn sdk(endpoint: &str) -> aws_config::SdkConfig {
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest());
    config.region(aws_config::Region::new(REGION)).endpoint_url(endpoint).load().await
}

async fn cloud(localstack: &str, ministack: &str, bucket: &str) -> Cloud {
    let config = Config::from_lookup(|name| {
        let value = match name {
            "CLOUD_PROVIDER" => "aws",
            "AWS_REGION" => REGION,
            "AWS_ENDPOINT_URL" => localstack,
            "AWS_ENDPOINT_URL_ECS" | "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS" => ministack,
            "ANYCLOUD_BUCKET" | "ECS_CLUSTER" | "ECS_SERVICE" => bucket,
            _ => return None,
        };
        Some(value.to_owned())
    });
    let s3 = aws_sdk_s3::config::Builder::from(&sdk(localstack).await).force_path_style(true).build();
    aws_sdk_s3::Client::from_conf(s3).create_bucket().bucket(bucket).send().await.expect("the bucket is made");
    Cloud::connect(config.expect("the settings are complete")).expect("no network is needed")
}

async fn jobs(cloud: &Cloud, localstack: &str, ministack: &str, image: &str, name: &str) -> Jobs {
    let sdk = sdk(ministack).await;
    let (ecs, logs) = (aws_sdk_ecs::Client::new(&sdk), aws_sdk_cloudwatchlogs::Client::new(&sdk));
    logs.create_log_group().log_group_name(name).send().await.expect("the log group is made");
    ecs.create_cluster().cluster_name(name).send().await.expect("the cluster is made");
    let environment = [
        ("CLOUD_PROVIDER", "aws"),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_ENDPOINT_URL", localstack),
        ("ANYCLOUD_BUCKET", name),
    ];
    let register = async |suffix: &str, image: &str| {
        let family = format!("{name}-{suffix}");
        let environment = environment.map(|(name, value)| KeyValuePair::builder().name(name).value(value).build());
        let options = [("awslogs-group", name), ("awslogs-region", REGION), ("awslogs-stream-prefix", "job")];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let log = LogConfiguration::builder().log_driver(LogDriver::Awslogs).set_options(Some(options.into()));
        let container = ContainerDefinition::builder()
            .name("job")
            .image(image)
            .essential(true)
            .set_environment(Some(environment.into()))
            .log_configuration(log.build().expect("complete"));
        ecs.register_task_definition()
            .family(&family)
            .network_mode(NetworkMode::Awsvpc)
            .requires_compatibilities(Compatibility::Fargate)
            .cpu("256")
            .memory("512")
            .container_definitions(container.build())
            .send()
            .await
            .expect("the task definition is registered");
        JobName::new(family).expect("a job's name")
    };
    let (job, broken) = (register("job", image).await, register("broken", "docker.io/library/none:latest").await);
    let network = AwsVpcConfiguration::builder()
        .subnets("subnet-1")
        .security_groups("sg-1")
        .assign_public_ip(AssignPublicIp::Enabled)
        .build()
        .expect("complete");
    ecs.create_service()
        .cluster(name)
        .service_name(name)
        .task_definition(job.as_str())
        .desired_count(0)
        .network_configuration(NetworkConfiguration::builder().awsvpc_configuration(network).build())
        .send()
        .await
        .expect("the service is made");
    Jobs { runner: cloud.jobs().clone(), job, broken }
}
