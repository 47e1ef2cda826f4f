//! Lane A again, for fewer faults, with the proxy between the clients and whole servers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anycloud::{Cloud, Config, JobName};
use futures_util::StreamExt as _;
use libtest_mimic::Failed;

use crate::fault_matrix::has;
use crate::gcp;
use crate::judge::{Class, Seen, Tally};
use crate::operation::{Clients, Family, Operation, Scene, Truth, operations};
use crate::proxy::{Proxy, SocketFault, Upstream};

const AT_ONCE: usize = 8;

fn faults() -> [(SocketFault, Class); 8] {
    [
        (SocketFault::CutBefore, Class::Before),
        (SocketFault::CutMid, Class::Before),
        (SocketFault::LoseAnswer, Class::After),
        (SocketFault::CutAnswer, Class::After),
        (SocketFault::Stall, Class::Before),
        (SocketFault::StallAnswer, Class::After),
        (SocketFault::LateDuplicate, Class::After),
        (SocketFault::Status(503, "SlowDown"), Class::Before),
    ]
}

/// A server, and how its clients are made for one scene.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    pub(crate) families: &'static [Family],
    pub(crate) config: fn(&str, &str) -> Config,
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
    fn clients(&self, url: &str, scene: &str) -> Clients {
        let config = (self.config)(url, scene);
        match config.provider {
            anycloud::Provider::Gcp => gcp::clients(&config),
            _ => {
                let cloud = Cloud::connect(config).expect("no network is needed");
                let (objects, secrets) = (cloud.objects().clone(), cloud.secrets().clone());
                Clients { objects: Some(objects), secrets: Some(secrets), jobs: None }
            }
        }
    }

    async fn scene(&self, name: &str) -> (Proxy, Scene) {
        let proxy = Proxy::start(
            Upstream::At(self.url.trim_start_matches("http://").to_owned()),
            gcp::policy().attempt_timeout + Duration::from_millis(300),
        )
        .await;
        let scene = Scene {
            name: name.to_owned(),
            faulted: self.clients(&proxy.url, name),
            clean: self.clients(&self.url, name),
            quick: JobName::new("quick").expect("a name"),
            long: JobName::new("long").expect("a name"),
            canary: "a value ".to_owned(),
            noted: Mutex::new(BTreeMap::new()),
        };
        (proxy, scene)
    }
}

/// What a server is known to do wrong.
fn gap(server: &str, operation: &str, label: &str) -> Option<&'static str> {
    match (server, operation) {
        // https://github.com/fsouza/fake-gcs-server: the question how far an upload is publishes what there is of it.
        ("fake-gcs", "upload_create") if label.starts_with("PUT") => {
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

impl Cell {
    fn name(&self, server: &str) -> String {
        let Self { operation, label, fault, .. } = self;
        format!("{server} {:?} {} / {label} / {fault:?}", operation.family, operation.name)
    }
}

async fn play(proxy: &Proxy, scene: &Scene, cell: &Cell) -> Result<Seen, anycloud::Error> {
    (cell.operation.prepare)(scene).await?;
    let before = proxy.seen().len();
    proxy.plan("", &cell.label, 0, cell.fault);
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
    })
}

pub(crate) async fn run(server: &Server, names: &[String]) -> Tally {
    let mut tally = Tally::default();
    let mut names = names.iter();
    let mut cells = Vec::new();
    for operation in operations().filter(|operation| server.families.contains(&operation.family)) {
        let name = names.next().expect("there are names enough");
        let (proxy, scene) = server.scene(name).await;
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
                for label in labels {
                    if let Some(gap) = gap(server.name, operation.name, &label) {
                        tally.skip(gap);
                        continue;
                    }
                    for (fault, class) in faults() {
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
        let (proxy, scene) = server.scene(name).await;
        let seen = play(&proxy, &scene, cell).await;
        (cell, seen, proxy.left())
    });
    let played: Vec<_> = played.buffer_unordered(AT_ONCE).collect().await;
    if played.len() < cells.len() {
        tally.problems.push(format!("{} cells had no scene", cells.len() - played.len()));
    }
    for (cell, seen, left) in played {
        tally.faults += 1 - left.min(1);
        match seen {
            Ok(seen) => tally.add(&cell.name(server.name), &seen),
            Err(error) => tally.problems.push(format!("{}: the clean client failed: {error}", cell.name(server.name))),
        }
    }
    tally
}

/// The proxy before the crate's own emulator.
pub(crate) async fn emulator() -> Result<(), Failed> {
    let names: Vec<String> = (0..900).map(|number| format!("socket-{number}-end")).collect();
    let emulator = gcp::emulator(&names);
    let families = &[Family::Objects, Family::Secrets, Family::Jobs];
    let server = Server { name: "gcp", url: emulator.url().to_owned(), families, config: gcp::config };
    run(&server, &names).await.conclude("A, sockets, gcp")
}

fn names(server: &str) -> Vec<String> {
    (0..900).map(|number| format!("{server}-{}-{number}", std::process::id())).collect()
}

pub(crate) async fn localstack(url: String) -> Result<(), Failed> {
    let sdk = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("us-east-1"))
        .endpoint_url(&url)
        .load()
        .await;
    let s3 = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(true).build();
    // An earlier run against the same server may have made it.
    let _ = aws_sdk_s3::Client::from_conf(s3).create_bucket().bucket("reliability").send().await;
    let families = &[Family::Objects, Family::Secrets];
    let server = Server { name: "localstack", url, families, config: aws_config };
    run(&server, &names("ls")).await.conclude("A, sockets, localstack")
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
    let server = Server { name: "fake-gcs", url, families: &[Family::Objects], config: fake_gcs_config };
    run(&server, &names("fg")).await.conclude("A, sockets, fake-gcs-server")
}
