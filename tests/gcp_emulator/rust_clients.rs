//! Google's own Rust clients.

use std::time::{Duration, Instant};

use anycloud::gcp_emulator::{Fault, FaultAction};
use google_cloud_auth::credentials::anonymous::Builder as Anonymous;
use google_cloud_gax::error::Error;
use google_cloud_gax::error::rpc::Code;
use google_cloud_logging_v2::client::LoggingServiceV2;
use google_cloud_run_v2::client::{Executions, Jobs, Tasks};
use google_cloud_run_v2::model::run_job_request::Overrides;
use google_cloud_run_v2::model::run_job_request::overrides::ContainerOverride;
use google_cloud_run_v2::model::{Container, EnvVar, ExecutionTemplate, Job, TaskTemplate};
use google_cloud_secretmanager_v1::client::SecretManagerService;
use google_cloud_secretmanager_v1::model::replication::Automatic;
use google_cloud_secretmanager_v1::model::{Replication, Secret, SecretPayload};
use google_cloud_storage::client::Storage;

use crate::Server;

fn code(error: &Error) -> Option<Code> {
    error.status().map(|status| status.code)
}

#[tokio::test]
async fn the_secret_manager_client_is_served() {
    let server = Server::start();
    let builder = SecretManagerService::builder().with_endpoint(server.emulator.url());
    let client = builder.with_credentials(Anonymous::new().build()).build().await.expect("a client");
    let replication = Replication::new().set_automatic(Automatic::new());
    let secret = client
        .create_secret()
        .set_parent("projects/r")
        .set_secret_id("s")
        .set_secret(Secret::new().set_replication(replication))
        .send()
        .await
        .expect("a secret");
    let latest = format!("{}/versions/latest", secret.name);
    let absent = client.access_secret_version().set_name(&latest).send().await.expect_err("no version");
    assert_eq!(code(&absent), Some(Code::NotFound));
    let payload = SecretPayload::new().set_data("one").set_data_crc32c(i64::from(crc32c::crc32c(b"one")));
    let version =
        client.add_secret_version().set_parent(&secret.name).set_payload(payload).send().await.expect("a version");
    let read = client.access_secret_version().set_name(&latest).send().await.expect("a payload");
    assert_eq!(read.payload.map(|payload| payload.data), Some("one".into()));
    client.disable_secret_version().set_name(&version.name).set_etag(&version.etag).send().await.expect("disabled");
    let disabled = client.access_secret_version().set_name(&latest).send().await.expect_err("disabled");
    assert_eq!(code(&disabled), Some(Code::FailedPrecondition));
    let listed = client.list_secrets().set_parent("projects/r").send().await.expect("a list");
    assert_eq!(listed.secrets.len(), 1);
    client.delete_secret().set_name(&secret.name).send().await.expect("deleted");
}

#[tokio::test]
async fn the_cloud_run_and_logging_clients_are_served() {
    let server = Server::start();
    let url = server.emulator.url();
    let anonymous = || Anonymous::new().build();
    let jobs = Jobs::builder().with_endpoint(url).with_credentials(anonymous()).build().await.expect("a client");
    let executions =
        Executions::builder().with_endpoint(url).with_credentials(anonymous()).build().await.expect("a client");
    let tasks = Tasks::builder().with_endpoint(url).with_credentials(anonymous()).build().await.expect("a client");
    let container = Container::new().set_image("sh").set_args(["echo $WORD; exit 3"]);
    let template = TaskTemplate::new().set_containers([container]).set_max_retries(0);
    let job = Job::new().set_template(ExecutionTemplate::new().set_template(template));
    let parent = "projects/r/locations/l";
    jobs.create_job().set_parent(parent).set_job_id("j").set_job(job).send().await.expect("a job");
    let env = [EnvVar::new().set_name("WORD").set_value("sesame")];
    let overrides = Overrides::new().set_container_overrides([ContainerOverride::new().set_env(env)]);
    let name = format!("{parent}/jobs/j");
    let begun = jobs.run_job().set_name(&name).set_overrides(overrides).send().await.expect("an operation");
    let execution = begun
        .metadata
        .expect("metadata")
        .to_msg::<google_cloud_run_v2::model::Execution>()
        .expect("the metadata is an execution");
    let end = Instant::now() + Duration::from_secs(20);
    let over = loop {
        let now = executions.get_execution().set_name(&execution.name).send().await.expect("the execution");
        if now.completion_time.is_some() {
            break now;
        }
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((over.failed_count, over.succeeded_count), (1, 0));
    let listed = tasks.list_tasks().set_parent(&execution.name).send().await.expect("the tasks");
    assert_eq!(listed.tasks[0].last_attempt_result.as_ref().map(|result| result.exit_code), Some(3));
    let done = jobs.get_operation().set_name(&begun.name).send().await.expect("the operation");
    assert!(done.done && done.error().is_some());

    let logging =
        LoggingServiceV2::builder().with_endpoint(url).with_credentials(anonymous()).build().await.expect("a client");
    let short = execution.name.rsplit('/').next().unwrap_or("");
    let found = logging
        .list_log_entries()
        .set_resource_names(["projects/r"])
        .set_filter(format!("labels.\"run.googleapis.com/execution_name\"=\"{short}\""))
        .send()
        .await
        .expect("entries");
    assert_eq!(found.entries[0].text_payload().map(String::as_str), Some("sesame"));
}

#[tokio::test]
async fn the_storage_client_writes_and_reads_what_goes_over_json() {
    let server = Server::start();
    let builder = Storage::builder().with_endpoint(server.emulator.url());
    let client = builder.with_credentials(Anonymous::new().build()).build().await.expect("a client");
    let bucket = "projects/_/buckets/data";
    let big = vec![7_u8; 1_000_000];
    client.write_object(bucket, "a/b c", "hello world").send_unbuffered().await.expect("a small object");
    client
        .write_object(bucket, "big", bytes::Bytes::from(big.clone()))
        .set_if_generation_match(0)
        .with_resumable_upload_threshold(1_usize)
        .with_resumable_upload_buffer_size(256 * 1024_usize)
        .send_buffered()
        .await
        .expect("a big object");
    // A read that breaks off goes on where it stopped.
    let broken = Fault::next("storage.objects.get", FaultAction::Truncate { after_bytes: 100_000 });
    server.emulator.add_fault(Fault { path: Some("big".into()), ..broken });
    for (name, wanted) in [("a/b c", b"hello world".to_vec()), ("big", big)] {
        let mut answer = client.read_object(bucket, name).send().await.expect("an answer");
        let mut read = Vec::new();
        while let Some(part) = answer.next().await.transpose().expect("a part") {
            read.extend_from_slice(&part);
        }
        assert!(read == wanted, "{name}");
    }
    let reads = server.emulator.requests().into_iter().filter(|call| call.method == "storage.objects.get");
    assert_eq!(reads.map(|call| call.status).collect::<Vec<_>>(), [200, 200, 206]);
}
