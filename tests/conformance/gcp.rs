use std::path::PathBuf;
use std::sync::OnceLock;

use anycloud::gcp_emulator::{Emulator, EmulatorConfig};
use anycloud::{Cloud, Config, JobName};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Backend, Jobs};

const PROJECT: &str = "conformance";
const REGION: &str = "europe-west1";
const BUCKET: &str = "conformance-bucket";

/// Secrets, jobs and logs; and a second backend for objects, without the gaps of fake-gcs-server.
static EMULATOR: OnceLock<Emulator> = OnceLock::new();

pub(super) async fn backends() -> Vec<Backend> {
    let storage = std::env::var("ANYCLOUD_TEST_FAKE_GCS").map_err(|_| "ANYCLOUD_TEST_FAKE_GCS is not set".to_owned());
    // Without fake-gcs-server the jobs hand over through the emulator itself, whose address they learn by its port.
    let port = free_port().await;
    let own = format!("http://127.0.0.1:{port}");
    let exchange = storage.clone().unwrap_or_else(|_| own.clone());
    let emulator = Emulator::start(EmulatorConfig {
        port,
        discovery: std::env::var_os("ANYCLOUD_TEST_DISCOVERY").map(PathBuf::from),
        buckets: vec![BUCKET.to_owned()],
        jobs: [definition("job"), definition("broken")].into(),
        images: [
            ("job".to_owned(), vec![env!("CARGO_BIN_EXE_anycloud-conformance-job").to_owned()]),
            ("broken".to_owned(), vec!["/nowhere/no-such-program".to_owned()]),
        ]
        .into(),
        task_environment: variables(&exchange).map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..EmulatorConfig::default()
    })
    .expect("the emulator starts");
    EMULATOR.set(emulator).expect("the backends are made once");
    if let Ok(storage) = &storage {
        create_bucket(storage).await;
    }
    let first = cloud(&exchange, &own);
    let second = cloud(&own, &own);
    let [job, broken] = ["job", "broken"].map(|name| JobName::new(name).expect("a job's name"));
    vec![
        Backend {
            name: "gcp",
            objects: Some(storage.map(|_| first.objects().clone())),
            secrets: Some(Ok(first.secrets().clone())),
            jobs: Some(Ok(Jobs { runner: first.jobs().clone(), job, broken })),
        },
        Backend { name: "gcp_emulator", objects: Some(Ok(second.objects().clone())), secrets: None, jobs: None },
    ]
}

/// What did not conform to Google's discovery documents in the whole run.
pub(super) fn violations() -> Vec<String> {
    EMULATOR.get().map(Emulator::violations).unwrap_or_default()
}

fn variables(storage: &str) -> [(&'static str, &str); 5] {
    [
        ("CLOUD_PROVIDER", "gcp"),
        ("ANYCLOUD_BUCKET", BUCKET),
        ("GOOGLE_CLOUD_PROJECT", PROJECT),
        ("CLOUD_RUN_REGION", REGION),
        ("STORAGE_EMULATOR_HOST", storage),
    ]
}

fn cloud(storage: &str, own: &str) -> Cloud {
    let config = Config::from_lookup(|name| match name {
        "SECRET_MANAGER_EMULATOR_HOST" | "CLOUD_RUN_EMULATOR_HOST" | "CLOUD_LOGGING_EMULATOR_HOST" => {
            Some(own.to_owned())
        }
        _ => variables(storage).into_iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned()),
    });
    Cloud::connect(config.expect("the settings are complete")).expect("no network is needed")
}

fn definition(name: &str) -> (String, serde_json::Value) {
    let template = json!({
        "taskCount": 1,
        "template": {"maxRetries": 0, "timeout": "600s", "containers": [{"image": name}]},
    });
    (format!("projects/{PROJECT}/locations/{REGION}/jobs/{name}"), json!({"template": template}))
}

async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    listener.local_addr().expect("the port is known").port()
}

async fn create_bucket(server: &str) {
    let address = server.trim_start_matches("http://");
    let body = json!({"name": BUCKET}).to_string();
    let request = format!(
        "POST /storage/v1/b?project={PROJECT} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.expect("the server answers");
    stream.write_all(request.as_bytes()).await.expect("the request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the answer arrives");
    // 409: an earlier run against the same server has made it.
    assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 409"), "{answer}");
}
