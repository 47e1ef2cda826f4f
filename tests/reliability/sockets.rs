//! Lane A again, for fewer faults, with the proxy between the clients and whole servers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anycloud::retry::RetryPolicy;
use anycloud::{Cloud, Config, JobName};
use futures_util::StreamExt as _;
use libtest_mimic::Failed;

use crate::fault_matrix::has;
use crate::judge::{Class, Seen, Tally};
use crate::operation::{Begun, Clients, Family, Operation, Scene, Truth, operations};
use crate::proxy::{Proxy, SocketFault, Upstream, stall_of};
use crate::{fault_matrix, gcp};

const AT_ONCE: usize = 8;

/// What can happen to a request of this label.
fn faults(label: &str, operation: &Operation) -> Vec<(SocketFault, Class)> {
    let mut faults = vec![
        (SocketFault::CutBefore, Class::Before),
        (SocketFault::CutMid, Class::Before),
        (SocketFault::LoseAnswer, Class::After),
        (SocketFault::CutAnswer, Class::After),
        (SocketFault::Stall, Class::Before),
        (SocketFault::StallAnswer, Class::After),
        (SocketFault::LateDuplicate, Class::After),
        (SocketFault::Status(503, "SlowDown"), Class::Before),
    ];
    // What has a checksum: objects that go as they are, and whole ones on their way back.
    match (operation.name, label) {
        ("get", "GetObject" | "GET   ") => faults.push((SocketFault::FlipAnswer, Class::After)),
        ("put_over" | "put_create" | "put_replace", "PutObject") => {
            faults.push((SocketFault::FlipRequest, Class::Before));
        }
        _ => {}
    }
    faults
}

/// A server, and how its clients are made for one scene.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    pub(crate) families: &'static [Family],
    pub(crate) config: fn(&str, &str) -> Config,
    pub(crate) faults: fn(&str, &Operation) -> Vec<(SocketFault, Class)>,
    /// How often jobs of a scene were begun, where that is asked past the clients.
    pub(crate) begun: Option<fn(&str, &str) -> Begun>,
}

impl Server {
    fn new(name: &'static str, url: String, families: &'static [Family], config: fn(&str, &str) -> Config) -> Self {
        Self { name, url, families, config, faults, begun: None }
    }
}

pub(crate) fn aws_config(url: &str, _scene: &str) -> Config {
    let mut config = Config::from_lookup(|name| {
        let value = match name {
            "CLOUD_PROVIDER" => "aws",
            "AWS_REGION" => "us-east-1",
            "AWS_ENDPOINT_URL" => url,
            "ANYCLOUD_BUCKET" | "ECS_CLUSTER" | "ECS_SERVICE" => "reliability",
            _ => return None,
        };
        Some(value.to_owned())
    })
    .expect("the settings are complete");
    config.retry = gcp::policy();
    config
}

pub(crate) fn fake_gcs_config(url: &str, _scene: &str) -> Config {
    gcp::config(url, "reliability")
}

impl Server {
    fn clients(&self, url: &str, scene: &str, retry: RetryPolicy) -> Clients {
        let config = Config { retry, ..(self.config)(url, scene) };
        match config.provider {
            anycloud::Provider::Gcp => gcp::clients(&config),
            _ => {
                let cloud = Cloud::connect(config).expect("no network is needed");
                let (objects, secrets) = (cloud.objects().clone(), cloud.secrets().clone());
                Clients { objects: Some(objects), secrets: Some(secrets), jobs: Some(cloud.jobs().clone()) }
            }
        }
    }

    async fn scene(&self, name: &str, policy: RetryPolicy) -> (Proxy, Scene) {
        let proxy =
            Proxy::start(Upstream::At(self.url.trim_start_matches("http://").to_owned()), stall_of(&gcp::policy()))
                .await;
        let scene = Scene {
            name: name.to_owned(),
            faulted: self.clients(&proxy.url, name, policy),
            clean: self.clients(&self.url, name, gcp::judges_policy()),
            quick: JobName::new("quick").expect("a name"),
            long: JobName::new("long").expect("a name"),
            begun: self.begun.map(|begun| begun(&self.url, name)),
            canary: "a value ".to_owned(),
            noted: Mutex::new(BTreeMap::new()),
        };
        (proxy, scene)
    }
}

/// What a server is known to do wrong, so that cells fail. When they no longer do, that is a problem.
fn fails(server: &str, cell: &Cell) -> Option<&'static str> {
    match (server, &*cell.label, cell.class) {
        // https://github.com/localstack/localstack: the bytes of an object are gone when a request for its key fails
        // its checksum, and the next read of it breaks off.
        ("localstack", "PutObject", _)
            if cell.fault == SocketFault::FlipRequest && matches!(cell.operation.name, "put_over" | "put_replace") =>
        {
            Some("LocalStack loses the object that a refused request would have replaced")
        }
        // https://github.com/ministackorg/ministack: RunTask begins another task for the same token.
        ("ministack", "AmazonEC2ContainerServiceV20141113.RunTask", Class::After) => {
            Some("MiniStack ignores the token of RunTask")
        }
        _ => None,
    }
}

/// What a server is known to do wrong.
fn gap(server: &str, operation: &str, label: &str) -> Option<&'static str> {
    match (server, operation) {
        // https://github.com/fsouza/fake-gcs-server: the question how far an upload is publishes what there is of it.
        ("fake-gcs", "upload_create" | "upload_over" | "upload_replace") if label.starts_with("PUT") => {
            Some("fake-gcs-server ends an upload that is asked how far it is")
        }
        _ => None,
    }
}

struct Cell {
    operation: Operation,
    label: String,
    expected: String,
    fault: SocketFault,
    class: Class,
}

/// How long nobody listens.
const REFUSED: Duration = Duration::from_millis(60);

impl Cell {
    /// What is refused at once is asked again later.
    fn policy(&self) -> RetryPolicy {
        match self.fault {
            SocketFault::Refuse => {
                RetryPolicy { max_attempts: 12, first_backoff: REFUSED, max_backoff: 2 * REFUSED, ..gcp::policy() }
            }
            _ => gcp::policy(),
        }
    }

    fn name(&self, server: &str) -> String {
        let Self { operation, label, fault, .. } = self;
        format!("{server} {:?} {} / {label} / {fault:?}", operation.family, operation.name)
    }
}

async fn play(proxy: &Proxy, scene: &Scene, cell: &Cell) -> Result<Seen, anycloud::Error> {
    (cell.operation.prepare)(scene).await?;
    let before = proxy.seen().len();
    match cell.fault {
        SocketFault::Refuse => proxy.refuse(REFUSED).await,
        fault => proxy.plan("", &cell.label, 0, fault),
    }
    let begun = Instant::now();
    let verdict = (cell.operation.act)(scene).await;
    let took = begun.elapsed();
    let sends = proxy.seen().iter().skip(before).filter(|label| **label == cell.label).count();
    proxy.release("").await;
    let mut truth = match cell.operation.truth {
        Some(truth) => Some(truth(scene).await?),
        None => None,
    };
    // Documented: Secret Manager takes no token, and a first attempt that arrives late leaves one version too many.
    let extra_version = matches!(&truth, Some(Truth::Broken(what)) if what.contains("versions where"));
    if cell.fault == SocketFault::LateDuplicate && extra_version && cell.label.contains("addVersion") {
        truth = Some(Truth::Applied);
    }
    Ok(Seen {
        operation: cell.operation,
        classes: vec![cell.class],
        expected: cell.expected.clone(),
        verdict,
        truth,
        took,
        deadline: gcp::policy().call_timeout + Duration::from_secs(1),
        sends,
        most_sends: None,
        injected: match cell.fault {
            SocketFault::Refuse => usize::from(took > REFUSED / 2),
            _ => proxy.injected(""),
        },
        least_injected: 1,
    })
}

pub(crate) async fn run(server: &Server, names: &[String]) -> Tally {
    let mut tally = Tally::default();
    let mut names = names.iter();
    let mut cells = Vec::new();
    // Some of these servers have one bucket for all scenes.
    let here = |operation: &&Operation| {
        server.families.contains(&operation.family) && !operation.is_large() && !operation.is_of_the_bucket()
    };
    for operation in operations().filter(here) {
        let name = names.next().expect("there are names enough");
        let (proxy, scene) = server.scene(name, gcp::policy()).await;
        if !has(&scene.clean, operation.family) {
            tally.skip(format!("{:?}: the provider has no such family yet", operation.family));
            continue;
        }
        let usual = async {
            (operation.prepare)(&scene).await?;
            let before = proxy.seen().len();
            let answer = (operation.act)(&scene).await?;
            let labels: BTreeSet<String> = proxy.seen().into_iter().skip(before).collect();
            Ok::<_, anycloud::Error>((answer, labels))
        };
        match usual.await {
            Ok((expected, labels)) => {
                cells.push(Cell {
                    operation: *operation,
                    label: "any".to_owned(),
                    expected: expected.clone(),
                    fault: SocketFault::Refuse,
                    class: Class::Before,
                });
                for label in labels {
                    if let Some(gap) = gap(server.name, operation.name, &label) {
                        tally.skip(gap);
                        continue;
                    }
                    for (fault, class) in (server.faults)(&label, operation) {
                        let (label, expected) = (label.clone(), expected.clone());
                        cells.push(Cell { operation: *operation, label, expected, fault, class });
                    }
                }
            }
            Err(error) => tally.skip(format!("{:?} {}: {}", operation.family, operation.name, error.message())),
        }
    }
    if let Ok(part) = std::env::var("ANYCLOUD_TEST_CELL") {
        cells.retain(|cell| cell.name(server.name).contains(&part));
    }
    let played = futures_util::stream::iter(cells.iter().zip(names)).map(|(cell, name)| async move {
        let _turn = fault_matrix::turn().await;
        let (proxy, scene) = server.scene(name, cell.policy()).await;
        let seen = play(&proxy, &scene, cell).await;
        (cell, seen)
    });
    let played: Vec<_> = played.buffer_unordered(AT_ONCE).collect().await;
    if played.len() < cells.len() {
        tally.problems.push(format!("{} cells had no scene", cells.len() - played.len()));
    }
    for (cell, seen) in played {
        match (seen, fails(server.name, cell)) {
            (Err(_), Some(gap)) => tally.skip(format!("fails as expected: {gap}")),
            (Ok(seen), Some(gap)) if !seen.problems().is_empty() => tally.skip(format!("fails as expected: {gap}")),
            (Ok(_), Some(gap)) => {
                tally.problems.push(format!("{}: {gap} is no gap any more", cell.name(server.name)));
            }
            (Ok(seen), None) => tally.add(&cell.name(server.name), &seen),
            (Err(error), _) => {
                tally.problems.push(format!("{}: the clean client failed: {error}", cell.name(server.name)))
            }
        }
    }
    tally
}

/// The proxy before the crate's own emulator.
pub(crate) async fn emulator() -> Result<(), Failed> {
    let names: Vec<String> = (0..1500).map(|number| format!("socket-{number}-end")).collect();
    let emulator = gcp::emulator(&names);
    let families = &[Family::Objects, Family::Secrets, Family::Jobs];
    let server = Server::new("gcp", emulator.url().to_owned(), families, gcp::config);
    run(&server, &names).await.conclude("A, sockets, gcp", 450)
}

pub(crate) fn names(server: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{server}-{}-{number}", std::process::id())).collect()
}

/// An earlier run against the same server may have made it.
pub(crate) async fn make_bucket(url: &str) {
    let sdk = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("us-east-1"))
        .endpoint_url(url)
        .load()
        .await;
    let s3 = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(true).build();
    let _ = aws_sdk_s3::Client::from_conf(s3).create_bucket().bucket("reliability").send().await;
}

pub(crate) async fn localstack(url: String) -> Result<(), Failed> {
    make_bucket(&url).await;
    let families = &[Family::Objects, Family::Secrets];
    let server = Server::new("localstack", url, families, aws_config);
    run(&server, &names("ls", 900)).await.conclude("A, sockets, localstack", 400)
}

pub(crate) async fn fake_gcs(url: String) -> Result<(), Failed> {
    let body = r#"{"name":"reliability"}"#;
    let address = url.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!(
        "POST /storage/v1/b?project=p HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await?;
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await?;
    let server = Server::new("fake-gcs", url, &[Family::Objects], fake_gcs_config);
    run(&server, &names("fg", 900)).await.conclude("A, sockets, fake-gcs-server", 150)
}
