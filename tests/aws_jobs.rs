//! Jobs on ECS as real containers: plain shell commands, on MiniStack with a container engine. Ignored where
//! `ANYCLOUD_TEST_MINISTACK` and `ANYCLOUD_TEST_SHELL_IMAGE` are not set, unless `ANYCLOUD_TEST_REQUIRE_ALL` is.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test reads its settings and fails by panicking")]

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anycloud::job_runner::{ListExecutions, LogMode, LogOptions, StartFailure, WaitOptions};
use anycloud::{
    Cloud, Config, ErrorKind, IdempotencyKey, JobExecution, JobName, JobOutcome, JobRequest, JobRunner,
    JobRunnerExt as _, JobState,
};
use aws_sdk_ecs::types::{Compatibility, ContainerDefinition, LogConfiguration, LogDriver, NetworkMode};
use futures_util::{StreamExt as _, TryStreamExt as _};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

const REGION: &str = "us-east-1";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// Runners as two processes would have them, on one cluster.
#[derive(Clone)]
struct Fixture {
    runner: Arc<dyn JobRunner>,
    other: Arc<dyn JobRunner>,
    job: JobName,
    broken: JobName,
}

fn connect(endpoint: &str, name: &str) -> Arc<dyn JobRunner> {
    let config = Config::from_lookup(|variable| {
        let value = match variable {
            "CLOUD_PROVIDER" => "aws",
            "AWS_REGION" => REGION,
            "AWS_ENDPOINT_URL" => endpoint,
            "ECS_SUBNETS" => "subnet-1,subnet-2",
            "ANYCLOUD_BUCKET" | "ECS_CLUSTER" => name,
            _ => return None,
        };
        Some(value.to_owned())
    });
    Cloud::connect(config.expect("the settings are complete")).expect("no network is needed").jobs().clone()
}

async fn fixture() -> Result<Fixture, String> {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set"));
    let (endpoint, image) = (variable("ANYCLOUD_TEST_MINISTACK")?, variable("ANYCLOUD_TEST_SHELL_IMAGE")?);
    let name = format!("aws-jobs-{}", std::process::id());
    let sdk = aws_config::defaults(aws_config::BehaviorVersion::latest());
    let sdk = sdk.region(aws_config::Region::new(REGION)).endpoint_url(&endpoint).load().await;
    let s3 = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(true).build();
    aws_sdk_s3::Client::from_conf(s3).create_bucket().bucket(&name).send().await.expect("the bucket is made");
    let logs = aws_sdk_cloudwatchlogs::Client::new(&sdk);
    logs.create_log_group().log_group_name(&name).send().await.expect("the log group is made");
    let ecs = aws_sdk_ecs::Client::new(&sdk);
    ecs.create_cluster().cluster_name(&name).send().await.expect("the cluster is made");
    let register = async |suffix: &str, image: &str| {
        let family = format!("{name}-{suffix}");
        let options = [("awslogs-group", &*name), ("awslogs-region", REGION), ("awslogs-stream-prefix", "job")];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let log = LogConfiguration::builder().log_driver(LogDriver::Awslogs).set_options(Some(options));
        let main = ContainerDefinition::builder()
            .name("main")
            .image(image)
            .log_configuration(log.build().expect("complete"))
            .command("true");
        let sidecar = ContainerDefinition::builder().name("sidecar").image(image).essential(false);
        ecs.register_task_definition()
            .family(&family)
            .network_mode(NetworkMode::Awsvpc)
            .requires_compatibilities(Compatibility::Fargate)
            .cpu("256")
            .memory("512")
            .container_definitions(sidecar.command("false").build())
            .container_definitions(main.build())
            .send()
            .await
            .expect("the task definition is registered");
        JobName::new(family).expect("a job's name")
    };
    let (job, broken) = (register("shell", &image).await, register("broken", "docker.io/library/none:latest").await);
    Ok(Fixture { runner: connect(&endpoint, &name), other: connect(&endpoint, &name), job, broken })
}

fn shell(script: &str) -> JobRequest {
    let args = ["sh", "-c", script].map(str::to_owned).to_vec();
    JobRequest { args: Some(args), ..JobRequest::default() }
}

impl Fixture {
    async fn run(&self, request: JobRequest) -> JobExecution {
        self.runner.run(&self.job, request).await.expect("the job is taken")
    }

    async fn wait(&self, execution: &JobExecution) -> JobExecution {
        let options = WaitOptions { deadline: Some(Duration::from_secs(90)), ..WaitOptions::default() };
        self.runner.wait(&execution.id, options).await.expect("the execution ends")
    }

    async fn ends(&self, request: JobRequest) -> JobOutcome {
        let execution = self.run(request).await;
        self.wait(&execution).await.outcome().expect("an ended execution has an outcome").clone()
    }

    async fn says(&self, execution: &JobExecution, wanted: &str) {
        for _ in 0..300 {
            let lines = self.runner.logs(&execution.id, LogOptions::default());
            let lines: Vec<_> = lines.try_collect().await.expect("the log can be read");
            if lines.iter().any(|line| line.text == wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the job never said {wanted}");
    }
}

async fn exit_codes_are_those_of_the_essential_container(fixture: Fixture) {
    assert_eq!(fixture.ends(shell("exit 0")).await, JobOutcome::Succeeded);
    assert_eq!(fixture.ends(shell("exit 7")).await, JobOutcome::Failed { exit_code: Some(7) });
    assert_eq!(fixture.ends(shell("exit 137")).await, JobOutcome::Killed { signal: 9 });
}

async fn a_cancelled_job_is_cancelled_whatever_it_ends_with(fixture: Fixture) {
    let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let execution = fixture.run(shell(script)).await;
    fixture.says(&execution, "ready").await;
    fixture.other.cancel(&execution.id).await.expect("another process can end it");
    fixture.runner.cancel(&execution.id).await.expect("twice is as good as once");
    assert_eq!(fixture.wait(&execution).await.outcome(), Some(&JobOutcome::Cancelled));
}

async fn a_job_that_knows_nothing_of_its_time_is_ended_when_it_is_over(fixture: Fixture) {
    let limited = JobRequest { timeout: Some(Duration::from_secs(2)), ..shell("sleep 600") };
    let begun = Instant::now();
    let execution = fixture.run(limited).await;
    // Nobody looks meanwhile.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let seen = fixture.other.get(&execution.id).await.expect("it is known");
    assert_eq!(seen.outcome(), Some(&JobOutcome::TimedOut), "{seen:?}");
    assert!(seen.finished.unwrap().duration_since(seen.started.unwrap()).unwrap() < begun.elapsed());
}

async fn a_task_that_cannot_start_says_why(fixture: Fixture) {
    let execution = fixture.runner.run(&fixture.broken, JobRequest::default()).await.expect("ECS takes it");
    let ended = fixture.wait(&execution).await;
    let expected = JobOutcome::FailedToStart { cause: StartFailure::Image, transient: false };
    assert_eq!(ended.outcome(), Some(&expected), "{ended:?}");
    assert!(ended.reason.unwrap().contains("image"));
}

async fn a_log_is_followed_while_it_is_written(fixture: Fixture) {
    let execution = fixture.run(shell("for n in 1 2 3 4 5 6; do echo $n; sleep 0.5; done; echo end")).await;
    let mut lines = fixture.runner.logs(&execution.id, LogOptions { mode: LogMode::Follow });
    let (mut texts, mut first) = (Vec::new(), None);
    while let Some(line) = lines.next().await {
        first.get_or_insert_with(Instant::now);
        texts.push(line.expect("the log can be followed").text);
    }
    assert_eq!(texts, ["1", "2", "3", "4", "5", "6", "end"]);
    assert!(first.unwrap().elapsed() > Duration::from_secs(2), "all lines came at once");
}

async fn the_tasks_of_an_execution_know_their_places(fixture: Fixture) {
    let request =
        JobRequest { tasks: 2.try_into().unwrap(), ..shell("echo $ANYCLOUD_TASK_INDEX of $ANYCLOUD_TASK_COUNT") };
    let execution = fixture.run(request).await;
    let ended = fixture.wait(&execution).await;
    assert_eq!((ended.outcome(), ended.tasks.succeeded), (Some(&JobOutcome::Succeeded), 2));
    fixture.says(&execution, "0 of 2").await;
    fixture.says(&execution, "1 of 2").await;
    let lines = fixture.runner.logs(&execution.id, LogOptions { mode: LogMode::Tail(5) });
    let mut lines: Vec<_> = lines.map_ok(|line| (line.task, line.text)).try_collect().await.unwrap();
    lines.sort();
    assert_eq!(lines, [(0, "0 of 2".to_owned()), (1, "1 of 2".to_owned())]);
}

async fn the_same_key_runs_once_from_any_process_and_is_found_and_listed(fixture: Fixture) {
    let key = IdempotencyKey::random();
    let keyed = |script| JobRequest { idempotency_key: Some(key.clone()), ..shell(script) };
    let first = fixture.run(keyed("exit 0")).await;
    let again = fixture.other.run(&fixture.job, keyed("exit 0")).await.expect("the same call is no conflict");
    assert_eq!(first.id, again.id);
    let error = fixture.other.run(&fixture.job, keyed("exit 1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    fixture.wait(&first).await;
    let found = fixture.other.find(&fixture.job, &key, 1).await.unwrap().expect("it is found");
    assert_eq!((found.id, found.state), (first.id.clone(), JobState::Finished(JobOutcome::Succeeded)));
    let all = ListExecutions { job: Some(fixture.job.clone()), ..ListExecutions::default() };
    let listed: Vec<_> = fixture.other.list(all).try_collect().await.unwrap();
    assert_eq!(listed.iter().filter(|execution| execution.id == first.id).count(), 1);
}

fn main() {
    let arguments = Arguments::from_args();
    let fixture = RUNTIME.block_on(fixture());
    let required = std::env::var_os("ANYCLOUD_TEST_REQUIRE_ALL").is_some();
    let mut trials = Vec::new();
    macro_rules! trials {
        ($($case:ident),* $(,)?) => {$({
            let fixture = fixture.clone();
            let skip = fixture.is_err() && !required;
            let run = move || {
                RUNTIME.block_on($case(fixture.map_err(Failed::from)?));
                Ok(())
            };
            trials.push(Trial::test(stringify!($case), run).with_ignored_flag(skip));
        })*};
    }
    trials![
        exit_codes_are_those_of_the_essential_container,
        a_cancelled_job_is_cancelled_whatever_it_ends_with,
        a_job_that_knows_nothing_of_its_time_is_ended_when_it_is_over,
        a_task_that_cannot_start_says_why,
        a_log_is_followed_while_it_is_written,
        the_tasks_of_an_execution_know_their_places,
        the_same_key_runs_once_from_any_process_and_is_found_and_listed,
    ];
    libtest_mimic::run(&arguments, trials).exit();
}
